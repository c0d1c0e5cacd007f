"""The report's health section: each rule at its borders, and advice only where there is some."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import report_of, result_of, section, table_in

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.health import LargestGradient, gap, validation_worsens
from pytest_ablation.record import Cost, EarlyStop, GradientNorms, HistoryRow, Record

SILENT = {
    "norms": {}, "losses": {}, "train": [], "validation": [], "stop": None, "reported": None,
    "data": None, "name": "top1",
}  # fmt: skip


def train(config, run):
    """Tells what the configuration says, so that a test knows what the report should."""
    if config["data"] is not None:
        run.use_data(train=[config["data"]], evaluation=[1])
    norms, losses = config["norms"], config["losses"]
    for step in range(1, 61):
        run.step([0], epoch=1 + step // 30, loss=losses.get(str(step), 1.0 + 0.01 * (step % 3)),
                 grad_norm=norms.get(str(step), norms.get("usual")))  # fmt: skip
    for split in ("train", "validation"):
        for epoch, value in enumerate(config[split], 1):
            run.log(epoch, split, **{config["name"]: value})
    if config["stop"]:
        run.stopped_early(*config["stop"])
    if config["reported"]:
        run.report_epoch(config["reported"])
    run.save_predictions(x=[run.seed, *map(float, config["train"]), config["what"]])
    return {"epa_top1": 0.5 + 0.1 * config["what"]}


def health_of(**told):
    """The section for a baseline that tells nothing and a variant ``v`` that tells this."""
    defined = Study(
        "told", train=train, baseline=SILENT | {"what": 0}, metrics=["epa_top1"],
        variants=[Variant("v", {**told, "what": 1}, allow_different=["train_data"])],
        quick=Mode(seeds=2, epochs=40),
    )  # fmt: skip
    return section(report_of(result_of(defined)), "### Health")


def line_of(text, variant="`v`"):
    return next(row for row in table_in(text) if row["variant"] == variant)


def advice(text):
    return [line for line in text.splitlines() if line.startswith("- ")]


# --- gradients and losses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("largest", "median", "exploded"),
    [
        (100.0, 1.0, False),
        (100.1, 1.0, True),
        (math.inf, 1.0, True),
        (math.nan, 1.0, True),
        (math.nan, math.inf, True),
        (5.0, 0.0, False),  # most norms are zero: nothing to compare with
        (0.0, 0.0, False),
    ],
)
def test_a_gradient_exploded_above_a_hundred_medians(largest, median, exploded):
    assert LargestGradient(0, GradientNorms(largest, 1, 2, median, 9)).exploded is exploded


def test_the_largest_gradient_is_placed_and_advised_on():
    text = health_of(norms={"usual": 0.5, "40": 80.0})
    assert line_of(text)["largest gradient norm"] == "**80 (epoch 2, step 40, seed 0)**"
    (line,) = advice(text)
    assert line.startswith("- `v`: the gradient exploded: clip its norm at about 0.5, the median")
    assert "or lower the learning rate." in line


def test_a_gradient_that_is_not_finite_has_exploded():
    text = health_of(norms={"usual": 0.5, "7": math.inf})
    assert line_of(text)["largest gradient norm"] == "**inf (epoch 1, step 7, seed 0)**"
    text = health_of(norms={"usual": math.nan})
    assert advice(text) == ["- `v`: the gradient exploded: lower the learning rate."]


def test_an_ordinary_gradient_needs_no_advice():
    text = health_of(norms={"usual": 0.5, "40": 3.0})
    assert line_of(text)["largest gradient norm"] == "3 (epoch 2, step 40, seed 0)"
    assert advice(text) == []


def test_loss_spikes_are_counted_over_the_seeds():
    text = health_of(losses={"25": 8.0, "45": 20.0})
    cell = line_of(text)["loss spikes"]
    assert cell.startswith("**4 (largest ")
    assert cell.endswith(": epoch 2, step 45, seed 0)**")
    assert advice(text)[0].startswith("- `v`: the loss jumped, ")
    assert line_of(text, "`baseline`")["loss spikes"] == "0"


@pytest.mark.parametrize(
    ("epochs", "needs_advice"), [([3.0, 2.0], False), ([3.0, 3.0], True), ([3.0], True)]
)
def test_a_spike_in_an_epoch_that_went_well_needs_no_advice(epochs, needs_advice):
    text = health_of(losses={"45": 20.0}, train=epochs, name="loss")
    assert line_of(text)["loss spikes"].startswith("**") is needs_advice
    assert any("the loss jumped" in line for line in advice(text)) is needs_advice


def test_what_a_diverged_run_told_is_shown_too():
    text = health_of(norms={"usual": 0.5, "40": 80.0}, losses={"41": math.nan})
    assert "**80 (epoch 2, step 40, seed 0)**" in text
    assert "`v` finished no seed" in text


# --- over-fitting -----------------------------------------------------------------------------


def record(train, validation, *, name="top1", reported=None, stop=None):
    history = [HistoryRow(e, "train", name, v) for e, v in enumerate(train, 1)]
    history += [HistoryRow(e, "validation", name, v) for e, v in enumerate(validation, 1)]
    return Record(
        "k", 0, "quick", {}, "ok", {"epa_top1": 0.5}, Cost(1.0), epochs=max(len(train), 0),
        history=tuple(history), reported_epoch=reported, early_stop=stop,
    )  # fmt: skip


@given(st.lists(st.floats(0, 1), max_size=40))
def test_validation_worsens_when_its_last_quarter_is_below_the_one_before(values):
    found = validation_worsens(record([], values), "top1")
    count = len(values)
    if count < 4:
        assert found is None
        return
    quarter = -(-count // 4)
    last, before = np.array(values[count - quarter :]), np.array(values)[-2 * quarter : -quarter]
    assert len(before) == quarter
    if abs(last.mean() - before.mean()) > 1e-9:
        assert found == (last.mean() < before.mean())


def test_a_loss_worsens_when_it_rises():
    assert validation_worsens(record([], [3, 2, 1, 2], name="loss"), "loss") is True
    assert validation_worsens(record([], [3, 2, 2, 1], name="loss"), "loss") is False
    both = record([], [0.1, 0.2, 0.3, 0.4])
    rising = record([], [1, 1, 1, 2], name="loss")
    mixed = Record(**{**vars(both), "history": both.history + rising.history})
    assert validation_worsens(mixed, "top1") is True


def test_the_gap_is_read_where_the_metrics_come_from():
    train, validation = [0.5, 0.8, 0.9, 1.0], [0.45, 0.6, 0.62, 0.4]
    by_epoch = {None: 0.6, 2: 0.2, 3: 0.28}
    for epoch, expected in by_epoch.items():
        found = gap({0: record(train, validation, reported=epoch)}, "epa_top1")
        assert found.value == pytest.approx(expected)
        assert found.metric == "top1"
    stopped = record(train, validation, stop=EarlyStop(4, 2, 2, 9))
    assert gap({0: stopped}, "epa_top1").epochs == (2,)
    assert gap({0: record(train, validation[:3])}, "epa_top1").epochs == (3,), "the last with both"


def test_a_gap_of_losses_is_validation_minus_training():
    found = gap({0: record([0.1, 0.2], [0.5, 0.9], name="loss")}, "epa_top1")
    assert (found.metric, found.value) == ("loss", pytest.approx(0.7))


def test_no_gap_where_the_splits_share_no_metric():
    assert gap({0: record([0.5], [])}, "epa_top1") is None
    assert gap({0: record([0.5], [0.5], name="f1")}, "epa_top1") is None


@pytest.mark.parametrize(
    ("train", "validation", "overfits"),
    [
        ([0.9] * 8, [0.7] * 6 + [0.6] * 2, True),
        ([0.9] * 8, [0.6] * 6 + [0.7] * 2, False),  # far behind, but rising
        ([0.7] * 8, [0.7] * 6 + [0.61] * 2, False),  # falling, but not far behind
        ([0.9] * 3, [0.7, 0.6, 0.5], False),  # too few epochs to tell
    ],
)
def test_over_fitting_is_a_gap_with_validation_getting_worse(train, validation, overfits):
    text = health_of(train=train, validation=validation)
    cell = line_of(text)["validation gap"]
    assert f"{train[-1] - validation[-1]:+.3f} `top1` (epoch {len(train)})" in cell
    assert cell.startswith("**") is overfits
    lines = [line for line in advice(text) if "over-fitting" in line]
    assert len(lines) == overfits
    if overfits:
        assert lines[0].startswith("- `v`: over-fitting: training is more than 10 points ahead")
        assert lines[0].endswith("weight decay, or stop earlier.")


def test_who_reports_an_earlier_epoch_needs_not_be_told_to_stop_earlier():
    text = health_of(train=[0.9] * 8, validation=[0.7] * 6 + [0.6] * 2, reported=5)
    (line,) = [line for line in advice(text) if "over-fitting" in line]
    assert line.endswith("dropout or weight decay.")


# --- stopping ---------------------------------------------------------------------------------


def test_early_stopping_is_told_and_needs_no_advice():
    text = health_of(validation=[0.1, 0.5, 0.4, 0.3], stop=(4, 2, 2))
    assert line_of(text)["epochs"] == "stopped at 4 of 40, best 2"
    assert advice(text) == []


def test_a_best_epoch_that_is_the_last_asks_for_more():
    text = health_of(validation=[0.1, 0.2, 0.3])
    assert line_of(text)["epochs"] == "all 3, best 3"
    assert advice(text) == ["- `v`: the best epoch is the last one: more epochs may help."]
    text = health_of(validation=[0.1, 0.4, 0.3])
    assert line_of(text)["epochs"] == "all 3, best 2"
    assert advice(text) == []
    text = health_of(validation=[0.1] * 40, stop=(40, 40, 5))
    assert line_of(text)["epochs"] == "all 40, best 40"
    assert len(advice(text)) == 1


# --- seeds and splits -------------------------------------------------------------------------


def test_the_same_data_are_said_to_be_the_same():
    defined = Study(
        "told", train=train, baseline=SILENT | {"what": 0, "data": 1}, metrics=["epa_top1"],
        variants=[Variant("v", what=1)], quick=Mode(seeds=2, epochs=4),
    )  # fmt: skip
    text = section(report_of(result_of(defined)), "### Health")
    assert "Seeds (0, 1) and splits were the same for all variants." in text
    text = section(report_of(result_of(defined, skip=["v seed 1"])), "### Health")
    assert "Seeds (0, 1) and splits were the same for all variants." in text


def test_data_that_differ_or_were_not_told_are_named():
    text = health_of()
    assert (
        "Seeds (0, 1) were the same for all variants. The training data and the evaluation" in text
    )
    defined = Study(
        "told", train=train, baseline=SILENT | {"what": 0, "data": 1}, metrics=["epa_top1"],
        variants=[Variant("v", what=1, data=2, allow_different=["train_data"])],
        quick=Mode(seeds=2, epochs=4),
    )  # fmt: skip
    text = section(report_of(result_of(defined)), "### Health")
    assert (
        "**Seeds and splits were not the same for all variants**: the training data of `v`" in text
    )
    assert "evaluation data" not in text


def test_a_variant_that_did_not_tell_its_data_is_not_called_the_same():
    defined = Study(
        "told", train=train, baseline=SILENT | {"what": 0, "data": 1}, metrics=["epa_top1"],
        variants=[
            Variant("v", what=1, data=None, allow_different=["train_data", "evaluation_data"])
        ],
        quick=Mode(seeds=2, epochs=4),
    )  # fmt: skip
    result = result_of(defined)
    assert {row.status for row in result.rows} == {"ok"}
    text = section(report_of(result), "### Health")
    assert "splits were the same" not in text
    assert (
        "Seeds (0, 1) were the same for all variants. The training data of `v` and the evaluation "
        "data of `v` were not told (`run.use_data`)." in text
    )


def test_a_seed_that_some_variants_lack_is_named():
    def fails(config, run):
        if config["what"] and run.seed == 1:
            raise RuntimeError("no disk")
        return train(config, run)

    defined = Study(
        "told", train=fails, baseline=SILENT | {"what": 0, "data": 1}, metrics=["epa_top1"],
        variants=[Variant("v", what=1)], quick=Mode(seeds=2, epochs=4),
    )  # fmt: skip
    text = section(report_of(result_of(defined)), "### Health")
    assert "not the same for all variants**: `v` finished seed 0." in text


def test_runs_that_tell_nothing_have_a_check_and_no_table():
    def silent(config, run):
        return {"top1": 0.5 + 0.1 * config["a"] + 0.01 * run.seed}

    defined = Study("silent", train=silent, baseline={"a": 0}, metrics=["top1"],
                    variants=[Variant("v", a=1)], quick=Mode(seeds=2))  # fmt: skip
    text = section(report_of(result_of(defined)), "### Health")
    assert "|" not in text
    assert advice(text) == []
