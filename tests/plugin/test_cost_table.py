"""The report's costs: numbers derived from the records, columns only where there are figures."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import report_of, result_of, section, table_in

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.costs import nearly_best
from pytest_ablation.record import Cost, HistoryRow, Record


def record(validation, *, metric="top1", seconds=(), split="validation", first=1):
    history = tuple(
        HistoryRow(epoch, split, metric, value) for epoch, value in enumerate(validation, first)
    )
    cost = Cost(1.0, epoch_seconds=tuple(seconds))
    return Record("k", 0, "quick", {}, "ok", {"top1": 0.5}, cost, history=history)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=30))
def test_the_first_epoch_within_five_percent_of_the_best(values):
    seconds = np.cumsum(np.linspace(0.5, 2.0, len(values)))
    found = nearly_best(record(values, seconds=seconds), "top1")
    assert values[found.epoch - 1] >= 0.95 * max(values)
    assert all(value < 0.95 * max(values) for value in values[: found.epoch - 1])
    assert found.seconds == seconds[found.epoch - 1]


@pytest.mark.parametrize(
    ("leading", "logged", "epoch"),
    [
        ("top1", "top1", 2),
        ("epa_top1", "top1", 2),  # the leading metric's name ends with it
        ("top1", "loss", None),
        ("top1", "epa_top1", None),
        ("neg_loss", "loss", None),
    ],
)
def test_what_stands_for_the_leading_metric(leading, logged, epoch):
    found = nearly_best(record([0.1, 0.5, 0.4], metric=logged), leading)
    assert (found.epoch if found else None) == epoch


def test_nothing_to_tell_where_validation_was_not_logged_or_never_rose():
    assert nearly_best(record([0.5], split="test"), "top1") is None
    assert nearly_best(record([]), "top1") is None
    assert nearly_best(record([-0.5, -0.1, 0.0]), "top1") is None
    assert nearly_best(record([float("nan"), 0.4]), "top1").epoch == 2
    assert nearly_best(record([0.4], split="val"), "top1").epoch == 1


def test_seconds_are_known_for_the_epochs_that_have_a_time():
    assert nearly_best(record([0.4, 0.5], seconds=[1.0]), "top1").seconds is None
    assert nearly_best(record([0.5, 0.5], seconds=[1.0], first=0), "top1").seconds is None
    assert nearly_best(record([0.5, 0.5], seconds=[1.0]), "top1").seconds == 1.0


# --- the section ------------------------------------------------------------------------------


def train(config, run):
    run.parameters = 1000 * config["depth"]
    with run.training():
        for epoch in range(1, run.mode.epochs + 1):
            run.step(np.arange(50), epoch=epoch)
            if config["evaluates"]:
                with run.forward(200):
                    time.sleep(0.001)
                run.log(epoch, "validation", top1=0.3 * epoch + 0.1 * run.seed)
    run.save_predictions(x=[config["depth"], run.seed])
    return {"epa_top1": 0.5 + 0.1 * config["depth"]}


def study(**baseline):
    return Study(
        "costly", train=train, baseline={"depth": 1, "evaluates": True} | baseline,
        variants=[Variant("deep", depth=2), Variant("same", against="deep", depth=1)],
        metrics=["epa_top1"], quick=Mode(seeds=3, epochs=3),
    )  # fmt: skip


def test_a_line_per_model_with_the_means_of_its_runs():
    result = result_of(study())
    rows = table_in(section(report_of(result), "### Costs"))
    assert [row["variant"] for row in rows] == ["`baseline`, `same`", "`deep`"]
    for row, name in zip(rows, ["baseline", "deep"], strict=True):
        costs = [run.record.cost for run in result.row(name).runs]

        def shown(column, row=row):
            return float(row[column].replace(",", ""))

        def mean(field, costs=costs):
            return np.mean([getattr(cost, field) for cost in costs])

        assert shown("parameters") == (1000 if name == "baseline" else 2000)
        rate = mean("forward_examples_per_second")
        assert shown("forward examples/s") == pytest.approx(rate, abs=0.51)
        assert shown("training examples/s") == pytest.approx(mean("examples_per_second"), abs=0.51)
        assert shown("memory MiB") == pytest.approx(mean("peak_memory_mib"), abs=0.51)
        assert shown("training s") == pytest.approx(mean("train_seconds"), abs=0.0051)
        assert shown("epochs to 95 %") == 3.0
        seconds = np.mean([cost.epoch_seconds[2] for cost in costs])
        assert shown("s to 95 %") == pytest.approx(seconds, abs=0.0051)


def test_columns_without_a_figure_are_left_out():
    rows = table_in(section(report_of(result_of(study(evaluates=False))), "### Costs"))
    assert set(rows[0]) == {
        "variant", "parameters", "training examples/s", "memory MiB", "training s",
    }  # fmt: skip


def test_memory_of_a_gpu_has_a_column_where_one_was_used():
    def on_cuda(record):
        return replace(record, cost=replace(record.cost, peak_cuda_memory_mib=1500 + record.seed))

    text = report_of(result_of(study(), change=on_cuda))
    assert [row["CUDA MiB"] for row in table_in(section(text, "### Costs"))] == ["1,501", "1,501"]


def test_a_session_of_failures_has_no_costs():
    def broken(config, run):
        raise RuntimeError("no disk")

    failing = study()
    failing.train = broken
    text = report_of(result_of(failing))
    assert "### Costs" not in text
    assert "### Health" not in text


def test_costs_are_no_part_of_any_verdict():
    result = result_of(study())
    text = report_of(result)
    slower = result_of(study())  # trained again: the same figures but for the costs
    assert without_costs(report_of(slower)) == without_costs(text)


def without_costs(text):
    return text.replace(section(text, "### Costs"), "")
