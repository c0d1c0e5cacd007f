"""Metrics that are better when lower: an error rate beside the accuracy that it is one minus.

All that a report says of the one is said of the other, mirrored: the order, what is best, verdicts,
conclusions, figures and advice. Numbers keep their own sign.
"""

import dataclasses
import re

import pytest
from figure_checks import assert_readable, lines_with, made
from in_process import report_of, result_of, section, table_in
from told_studies import log, of_grid, told_grid

from pytest_ablation import MetricTable, Mode, Run, Study, Variant
from pytest_ablation.conclusions import conclusions
from pytest_ablation.cost_drawing import cost_figure, draw_cost, points
from pytest_ablation.costs import nearly_best
from pytest_ablation.curves import logged_metric
from pytest_ablation.forest_drawing import changes_figure, draw_changes
from pytest_ablation.forest_points import changes, remarks
from pytest_ablation.grid_results import grid_result
from pytest_ablation.health import epochs_of, gap
from pytest_ablation.next_steps import next_steps
from pytest_ablation.results import MetricResult, by_delta
from pytest_ablation.statistics import paired_delta
from pytest_ablation.terminal import study_lines

TOP1, ERROR = "test_top1", "test_error"
BASELINE = {"a": True, "b": True, "size": 4, "rate": 0.1}
VARIANTS = [
    Variant("no_a", a=False),
    Variant("no_b", b=False),
    Variant("bare", a=False, b=False),
    Variant("big", size=8),
    Variant("wild", size=5),
]
#: Row to accuracy per seed: with and without a, b, and of other sizes.
VALUES = {
    (True, True, 4): [0.501, 0.5, 0.499],
    (False, True, 4): [0.299, 0.301, 0.3],
    (True, False, 4): [0.502, 0.499, 0.502],
    (False, False, 4): [0.203, 0.199, 0.201],
    (True, True, 8): [0.7, 0.702, 0.699],
    (True, True, 5): [0.58, 0.5, 0.54],
}
SECONDS = {4: 10.0, 5: 4.0, 8: 30.0}


def train(config, run):
    """Trains nothing; after three epochs validation gets worse, while training goes on."""
    value = VALUES[config["a"], config["b"], config["size"]][run.seed]
    value += 0.3 * (config["rate"] - 0.1)
    falls = config["size"] == 8
    run.save_predictions(x=[run.seed, *map(float, config.values())])
    run.parameters = config["size"]
    validation = [0.2, 0.4, 0.6, 0.6, 0.5, 0.4] if falls else [0.1, 0.2, 0.3, 0.35, 0.4, 0.5]
    training = [0.2, 0.4, 0.6, 0.7, 0.8, 0.9]
    for split, accuracies in (("train", training), ("validation", validation)):
        errors = [1 - accuracy for accuracy in accuracies]
        log(run, {split: {"top1": accuracies, "error": errors}})
    return {TOP1: value, ERROR: 1 - value}


def study(**more):
    tables = [MetricTable("Both", ["test"], ["top1", "error"])]
    arguments = {"factors": ["a", "b"], "margin": 0.06, "cost_figure": True, "tables": tables}
    return Study(
        "parts", train=train, baseline=BASELINE, variants=VARIANTS, metrics=[TOP1, ERROR],
        lower_is_better=[ERROR],
        quick=Mode(seeds=3), full=Mode(seeds=3), **arguments | more,
    )  # fmt: skip


def timed(record):
    seconds = SECONDS[record.config["size"]]
    return dataclasses.replace(record, cost=dataclasses.replace(record.cost, train_seconds=seconds))


def both(defined, **session):
    """The result with accuracy as the leading metric, and with the error rate."""
    return tuple(result_of(defined, metric=name, change=timed, **session) for name in (TOP1, ERROR))


@pytest.fixture(scope="module")
def pair():
    return both(study())


def mirrored(text):
    """A text on the error rate with accuracy in its place and all signs turned."""
    number = r"[+-]\d+(?:\.\d+)?(?:e-\d+)?"
    text = re.sub(rf"({number}) to ({number})", r"\2 to \1", text)
    text = re.sub(r"(?<![\w.])([+-])(?=\d)", lambda sign: "+-"[sign[0] == "+"], text)
    return text.replace("error", "top1").replace("fell", "rose")


# --- tables -----------------------------------------------------------------------------------


def test_rows_stand_in_one_order_whichever_of_the_two_leads(pair):
    names = [[row.name for row in by_delta(result)] for result in pair]
    assert names[0] == ["baseline", "bare", "no_a", "no_b", "wild", "big"]
    assert names[1] == names[0]
    tables = [table_in(report_of(result)) for result in pair]
    assert [line["variant"] for line in tables[0]] == [f"`{name}`" for name in names[0]]
    assert [line["variant"] for line in tables[1]] == [line["variant"] for line in tables[0]]


def test_deltas_have_the_sign_of_the_metric_and_the_verdict_its_direction(pair):
    accuracies, errors = (table_in(report_of(result)) for result in pair)
    verdicts = [line["verdict"] for line in accuracies]
    assert [line["verdict"] for line in errors] == verdicts
    assert {"**worse**", "**better**", "no detectable change", "inconclusive"} <= set(verdicts)
    for accuracy, error in zip(accuracies[1:], errors[1:], strict=True):
        assert mirrored(error["delta"]) == accuracy["delta"]
        assert mirrored(error["95 % interval"]) == accuracy["95 % interval"]
        assert error["p"] == accuracy["p"]


def test_the_best_of_a_column_is_the_highest_accuracy_and_the_lowest_error(pair):
    text = section(report_of(pair[0]), "### Both")
    for number, best in enumerate(("**0.700**", "**0.300**")):
        bold = {line["variant"]: line["test"] for line in table_in(text, number)
                if "**" in line["test"]}  # fmt: skip
        assert bold == {"`big`": best}


def test_tables_say_of_which_metrics_lower_is_better(pair):
    for result in pair:
        assert f"Lower is better for `{ERROR}`." in report_of(result)
    assert study_lines(pair[0])[0] == f"parts (quick), {TOP1}"
    assert study_lines(pair[1])[0] == f"parts (quick), {ERROR} (lower is better)"
    there, here = ([line.split()[0] for line in study_lines(result)[2:]] for result in pair)
    assert there == here
    hidden = result_of(study(also=[], tables=[]), metric=TOP1)
    assert "Lower is better" not in report_of(hidden)


@pytest.mark.parametrize("baseline", [-2.0, 2.0])
def test_the_relative_change_has_the_sign_of_the_change(baseline):
    levels = {seed: baseline + 0.1 * seed for seed in range(3)}
    risen = {seed: level + 0.5 + 0.01 * seed for seed, level in levels.items()}
    delta = paired_delta(risen, levels, margin=0.0)
    result = MetricResult(3, 0.0, 0.0, baseline, delta)
    assert result.delta_percent == pytest.approx(100 * delta.value / 2)
    assert result.delta_percent > 0


def test_cells_are_held_against_the_margin_of_the_metric_that_chooses_them():
    values = {(64,): [0.9, 0.5, 0.9], (128,): [0.5, 0.8, 0.7]}
    grid = told_grid(values, axes={"width": [64, 128]}, margin={"validation_top1": 0.3})
    result = of_grid(grid)
    assert result.plan.margin == 0.005
    assert grid_result(result).margin == 0.3
    (line,) = (text for text in next_steps(result) if text.startswith("More seeds"))
    assert "to find a change of 30 points" in line


# --- words ------------------------------------------------------------------------------------


def test_conclusions_are_those_of_the_accuracy_mirrored(pair):
    of_accuracy, of_error = (conclusions(result) for result in pair)
    same = [mirrored(text) for text in of_error]
    same = [text.replace("that `test_top1` rises by without", "that are lost without")
            for text in same]  # fmt: skip
    assert same == of_accuracy
    assert of_accuracy[0].startswith("`bare` is worse: test_top1 changes by -29.9 points")
    assert of_error[0].startswith("`bare` is worse: test_error changes by +29.9 points")
    (necessary,) = (text for text in of_error if text.startswith("Necessary"))
    assert necessary.startswith("Necessary, in order of the points that `test_error` rises by")
    assert "`a` (True to False), by `no_a`: +20.0" in necessary


def test_what_to_try_next_is_the_same_for_both(pair):
    of_accuracy, of_error = (next_steps(result) for result in pair)
    assert [mirrored(text) for text in of_error] == of_accuracy
    (epochs,) = (text for text in of_error if text.startswith("More epochs"))
    assert "validation `error` still fell in it, by 10.0 points" in epochs
    assert "`big`" not in epochs
    (fitted,) = (text for text in of_error if text.startswith("Regularise"))
    assert "in `big` training is ahead of validation by 50.0 points of `error`" in fitted


def test_contributions_of_components_are_told_in_the_metrics_own_direction(pair):
    of_accuracy, of_error = (
        section(report_of(result), "### Independent contributions") for result in pair
    )
    rows = [table_in(text) for text in (of_accuracy, of_error)]
    for accuracy, error in zip(*rows, strict=True):
        assert mirrored(error["points"]) == accuracy["points"]
        same = error["verdict"].replace("worse than the sum", "less than the sum")
        assert same == accuracy["verdict"]
    assert "Together they do less than the sum of both: the interaction is -10.0" in of_accuracy
    assert "Together they are worse than the sum of both: the interaction is +10.0" in of_error
    assert "`a` (True to False) costs 25.0 points (interval -" in of_accuracy
    raised = "`a` (True to False) raises `test_error` by 25.0 points, which is worse (interval +"
    assert raised in of_error


def test_over_fitting_and_the_best_epoch_are_found_in_both(pair):
    for result, name, rises in zip(pair, ("top1", "error"), (True, False), strict=True):
        leading = result.plan.leading
        found = gap(result.row("big").records, leading, higher_is_better=rises)
        assert found.metric == name
        assert found.value == pytest.approx(0.5)
        assert found.overfits
        late = epochs_of(result.row("no_a").records, leading, higher_is_better=rises)
        assert late.best == (6, 6, 6)
        early = epochs_of(result.row("big").records, leading, higher_is_better=rises)
        assert early.best == (3, 3, 3)
    for result in pair:
        costs = table_in(section(report_of(result), "### Costs"))
        assert [line["epochs to 95 %"] for line in costs] == ["6.0"] * 5 + ["3.0"]
    health = [section(report_of(result), "### Health") for result in pair]
    assert health[1].replace("error", "top1") == health[0]


def test_a_probe_is_better_where_it_lowers_the_error():
    for result in both(study(sensitivity="rate", factors=None), mode="full"):
        text = section(report_of(result), "### Health")
        assert "At 0.3 it is +6.0 points better" in text
        assert "At 0.0333 it is" not in text


def test_what_stands_for_a_metric_has_its_direction():
    assert logged_metric("test_loss", ["loss", "top1"], higher_is_better=False) == "loss"
    assert logged_metric("test_loss", ["loss"]) is None
    assert logged_metric("test_error", ["error"], higher_is_better=False) == "error"
    assert logged_metric("error_top1", ["top1"], higher_is_better=False) is None
    assert logged_metric("neg_error", ["error"], higher_is_better=False) is None


@pytest.mark.parametrize(
    ("errors", "epoch"),
    [([0.9, 0.5, 0.21, 0.2, 0.4], 3), ([0.2, 0.1], 2), ([0.5, 0.0], None), ([-0.5, -1.0], None)],
)
def test_nearly_the_lowest_error_is_one_of_which_the_lowest_is_95_percent(errors, epoch):
    run = Run(seed=0, mode=Mode(seeds=1), device="cpu")
    log(run, {"validation": {"error": errors}})
    record = run.finish({ERROR: errors[-1]}, key="k", mode_name="quick", config={})
    found = nearly_best(record, ERROR, higher_is_better=False)
    assert (found.epoch if found is not None else None) == epoch


# --- figures ----------------------------------------------------------------------------------


def test_the_forest_has_the_same_lines_on_the_other_side(pair, tmp_path):
    of_accuracy, of_error = map(changes, pair)
    assert [line.names for line in of_error.lines] == [line.names for line in of_accuracy.lines]
    for result, found in zip(pair, (of_accuracy, of_error), strict=True):
        figure = made(changes_figure, found, "title")
        assert_readable(figure)
        marks = {
            marker: [(x[0], found.lines[int(y[0])].names[0]) for x, y in drawn if len(x) == 1]
            for marker in "v^"
            if (drawn := lines_with(figure.axes[0], marker))
        }
        assert [name for _, name in marks["v"]] == ["bare", "no_a"]
        assert [name for _, name in marks["^"]] == ["big"]
        is_right = {x > 0 for x, _ in marks["^"]}
        assert is_right == {found is of_accuracy}
        assert {x > 0 for x, _ in marks["v"]} == {found is of_error}
        base = result.row("baseline").metrics[result.plan.leading].mean
        value = result.row("big").metrics[result.plan.leading].delta.value
        assert marks["^"][0][0] == pytest.approx(100 * value / base)
    told = "lower is better: improvements lie on the left of 0"
    assert told in remarks(of_error)
    assert told not in remarks(of_accuracy)
    (picture,) = draw_changes(pair[1], tmp_path)
    assert (tmp_path / picture.file).read_bytes()[:4] == b"\x89PNG"
    assert told in picture.caption


def test_the_rows_that_no_other_beats_are_the_same(pair, tmp_path):
    unbeaten = [{point.names: point.is_unbeaten for point in points(result)} for result in pair]
    assert unbeaten[1] == unbeaten[0]
    assert {names[0] for names, is_best in unbeaten[1].items() if is_best} == {"wild", "big"}
    figure = made(cost_figure, points(pair[1]), f"{ERROR} (lower is better)", "title")
    assert_readable(figure)
    drawn = {(x[0], y[0]) for x, y in lines_with(figure.axes[0], "D")}
    expected = {
        (SECONDS[size], pair[1].row(name).metrics[ERROR].mean)
        for name, size in (("wild", 5), ("big", 8))
    }
    assert drawn == expected
    (picture,) = draw_cost(pair[1], tmp_path)
    assert picture.heading == f"{ERROR} (lower is better) against seconds of training"
    (picture,) = draw_cost(pair[0], tmp_path)
    assert "lower" not in picture.heading
