"""What to try next: the edge of a grid, more epochs, regularisation, more seeds, or nothing."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import report_of, result_of, section
from scipy import stats
from told_studies import of_grid, told_grid, told_study

from pytest_ablation import Mode, Variant
from pytest_ablation.next_steps import next_value
from pytest_ablation.statistics import paired_delta, seeds_to_detect

NOISE = np.array([-0.001, 0.0, 0.002])
WIDTHS = [(64,), (128,), (256,)]


def about(levels, cells, size=1.0):
    return {
        cell: [float(v) for v in level + size * np.roll(NOISE, n) * (1 + 0.1 * n)]
        for n, (cell, level) in enumerate(zip(cells, levels, strict=True))
    }


def steps_of(result):
    text = report_of(result)
    assert text.count("What to try next:") <= 1
    after = section(text, "## Conclusions").partition("What to try next:")[2]
    return [line.removeprefix("- ") for line in after.splitlines() if line]


def steps_of_grid(levels, axes, *, size=1.0, rows=None, **grid):
    (values,) = axes.values()
    cells = [value[:1] if isinstance(value, tuple) else (value,) for value in values]
    defined = told_grid(about(levels, cells, size), axes=axes, **grid)
    return steps_of(of_grid(defined, rows=rows or list(defined.case_rows)))


# --- the edge of a grid -----------------------------------------------------------------------


def test_a_best_cell_on_the_edge_asks_for_more_of_it():
    values = about([0.7, 0.8, 0.85], WIDTHS)
    test = stats.ttest_rel(values[256,], values[128,]).confidence_interval(0.95)
    (line,) = steps_of_grid([0.7, 0.8, 0.85], {"width": [64, 128, 256]})
    assert line == (
        "Extend the grid beyond `width` 256, its largest value, where the best cell lies; the next "
        "by the distances on this axis: `width=512`. The step from 128 to 256 gained +5.0 points "
        f"(interval {100 * test.low:+.1f} to {100 * test.high:+.1f}, 3 seeds)."
    )


@pytest.mark.parametrize(
    ("axes", "levels", "words"),
    [
        ({"rate": [0.0005, 0.001]}, [0.7, 0.8], "beyond `rate` 0.001, its largest .* `rate=0.002`"),
        ({"rate": [0.0005, 0.001]}, [0.8, 0.7], "`rate` 0.0005, its smallest .*`rate=0.00025`"),
        ({"rate": [0.01, 0.001, 0.1]}, [0.7, 0.6, 0.8], "`rate` 0.1, its largest .*: `rate=1`, if"),
        ({"layers": [2, 4, 6]}, [0.6, 0.7, 0.8], "`layers=8`"),
        ({"dropout": [0.0, 0.1]}, [0.6, 0.7], "`dropout=0.2`"),
        ({("width", "heads"): [(64, 2), (128, 4)]}, [0.6, 0.7], "`width=256, heads=8`"),
        ({("width", "kind"): [(64, "a"), (128, "b")]}, [0.6, 0.7], "`width=256`"),
        ({("width", "heads"): [(64, 2), (128, 2)]}, [0.6, 0.7], "`width=256, heads=2`"),
        ({("width", "dropout"): [(64, 0.2), (128, 0.5)]}, [0.6, 0.7], "`width=256`"),
    ],
)
def test_the_next_value_follows_from_the_axis(axes, levels, words):
    (line,) = steps_of_grid(levels, axes)
    assert re.search(words, line)


@pytest.mark.parametrize(
    ("axes", "levels"),
    [
        ({"width": [64, 128, 256]}, [0.7, 0.8, 0.75]),  # inside
        ({"heads": [1, 2]}, [0.8, 0.7]),  # there is no half head
        ({"dropout": [0.0, 0.1]}, [0.8, 0.7]),  # nor less than none
        ({"layers": [1, 2, 3]}, [0.8, 0.7, 0.6]),
        ({"kind": ["relu", "gelu"]}, [0.7, 0.8]),  # no order
        ({"bias": [False, True]}, [0.7, 0.8]),
    ],
)
def test_a_best_cell_inside_or_where_nothing_lies_beyond_asks_for_nothing(axes, levels):
    assert steps_of_grid(levels, axes) == []


def test_a_step_that_gains_nothing_is_not_followed():
    assert steps_of_grid([0.7, 0.8, 0.8001], {"width": [64, 128, 256]}, margin=0.05) == []
    lines = steps_of_grid([0.7, 0.8, 0.8], {"width": [64, 128, 256]}, size=0)  # the first is best
    assert not any("Extend" in line for line in lines)


def test_a_step_in_doubt_is_said_to_be_in_doubt():
    lines = steps_of_grid([0.7, 0.8, 0.8005], {"width": [64, 128, 256]})
    assert lines[0].endswith(", 3 seeds), not told apart from 0.")
    lines = steps_of_grid([0.7, 0.8, 0.9], {"width": [64, 128, 256]}, diverge=[(128,)])
    assert lines[0].endswith("The cell before it has no result to compare with.")


def test_beyond_a_value_that_diverged_lies_nothing():
    assert steps_of_grid([0.7, 0.8, 0.9], {"width": [64, 128, 256]}, diverge=[(256,)]) == []


def test_each_axis_is_looked_at_by_itself():
    cells = [(width, rate) for width in (64, 128, 256) for rate in (0.0005, 0.001)]
    defined = told_grid(about([0.7, 0.71, 0.8, 0.81, 0.78, 0.79], cells))
    (line,) = steps_of(of_grid(defined))
    assert "beyond `rate` 0.001" in line


def test_one_selected_cell_has_no_edge():
    assert steps_of_grid([0.7, 0.8], {"width": [64, 128]}, rows=["64"]) == []


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=5, unique=True).map(sorted))
def test_the_next_integer_is_a_larger_one(values):
    found = next_value(values)
    assert isinstance(found, int)
    assert found > values[-1]
    before = next_value(values[::-1])
    assert before is None or 0 < before < values[0]


# --- epochs and over-fitting ------------------------------------------------------------------

BASE = [0.800, 0.810, 0.806]
FASTER = Variant("faster", rate=0.2)
CLEAR = {"baseline": BASE, "faster": [0.700, 0.712, 0.705]}


def steps_of_study(history=None, *, values=CLEAR, **study):
    variants = [Variant(name, rate=n) for n, name in enumerate(list(values)[1:], 2)]
    return steps_of(result_of(told_study(values, variants, history=history, **study)))


def test_nothing_to_try_has_no_heading():
    result = result_of(told_study(CLEAR, [FASTER]))
    assert "What to try next" not in report_of(result)


def rising(by_row):
    """Validation accuracy of the last two epochs by row and seed; training is the same."""
    return lambda row, seed: {"validation": {"top1": [0.5, *by_row[row][seed]]}}


def test_a_curve_that_still_rises_asks_for_more_epochs():
    before, after = [0.70, 0.71, 0.72], [0.72, 0.74, 0.73]
    up = list(zip(before, after, strict=True))
    flat = [(0.8, 0.79)] * 3
    (line,) = steps_of_study(rising({"baseline": up, "faster": flat}))
    low, high = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert low < 0 < high
    assert line == (
        "More epochs: in most runs of `baseline` the last epoch was the best, and validation "
        "`top1` still rose in it, by 2.0 points (mean of 3 seeds, not told apart from 0)."
    )


def test_curves_of_several_rows_share_a_sentence_that_says_which_are_told_apart():
    doubtful = [(0.70, 0.72), (0.71, 0.74), (0.72, 0.73)]
    clear = [(0.70, 0.730), (0.70, 0.731), (0.70, 0.732)]
    (line,) = steps_of_study(rising({"baseline": doubtful, "faster": clear}))
    assert "in most runs of `baseline`, `faster` the last epoch was the best" in line
    assert "by 2.0 to 3.1 points (mean of 3 seeds, told apart from 0 in `faster` alone)." in line
    (line,) = steps_of_study(rising({"baseline": clear, "faster": clear}))
    assert "(mean of 3 seeds, by intervals that exclude 0)." in line


def test_a_loss_that_still_falls_stands_for_an_accuracy_that_was_not_logged():
    losses = {"baseline": [0.5, 0.4, 0.31], "faster": [0.4, 0.3, 0.5]}

    def history(row, seed):
        return {"validation": {"top1": [0.1, 0.2, 0.2] if row == "faster" else [],
                               "loss": [x + seed / 1000 for x in losses[row]]}}  # fmt: skip

    assert steps_of_study(history) == [], "which epoch was best is not known"

    def stopped(config, run):
        for epoch, loss in enumerate([0.5, 0.4, 0.31], 1):
            run.step([0], epoch=epoch, loss=loss)
            run.log(epoch, "validation", loss=loss + run.seed * epoch / 1000)
        run.stopped_early(3, 3, 2)
        run.save_predictions(x=[run.seed, config["rate"]])
        return {"top1": CLEAR["faster" if config["rate"] == 2 else "baseline"][run.seed]}

    (line,) = steps_of_study(None, train=stopped, quick=Mode(seeds=3, epochs=3))
    assert "validation `loss` still fell in it, by 0.089 (mean of 3 seeds, by intervals" in line


@pytest.mark.parametrize(
    "curve",
    [[0.7], [0.7, 0.8, 0.8], [0.9, 0.7, 0.8], []],
    ids=["one epoch", "as good as before", "best before", "none"],
)
def test_other_curves_ask_for_no_epochs(curve):
    assert steps_of_study(lambda row, seed: {"validation": {"top1": curve}}) == []


def test_a_fall_that_outweighs_the_rises_asks_for_no_epochs():
    pairs = [(0.80, 0.81), (0.80, 0.81), (0.80, 0.70)]
    assert steps_of_study(rising({"baseline": pairs, "faster": pairs})) == []


def test_a_gap_alone_is_no_over_fitting():
    def history(row, seed):
        return {"train": {"top1": [0.6, 0.7, 0.8, 0.99, 0.99]},
                "validation": {"top1": [0.5, 0.5, 0.6, 0.7, 0.7]}}  # fmt: skip

    assert steps_of_study(history) == []


def test_over_fitting_asks_for_regularisation_with_the_gap_of_the_health_section():
    def history(row, seed):
        end = 0.6 if row == "faster" else 0.74
        return {"train": {"top1": [0.6, 0.7, 0.8, 0.9 + seed / 100]},
                "validation": {"top1": [0.7, 0.76, 0.75, end]}}  # fmt: skip

    result = result_of(told_study(CLEAR, [FASTER], history=history))
    (line,) = steps_of(result)
    assert line == (
        "Regularise (dropout, weight decay or more data, or fewer epochs): in `baseline`, `faster` "
        "training is ahead of validation by 17.0 to 31.0 points of `top1` (mean of 3 seeds), and "
        "validation got worse over the last quarter of the epochs."
    )
    assert "+0.310 `top1`" in section(report_of(result), "### Health")


# --- seeds ------------------------------------------------------------------------------------


def test_an_inconclusive_row_says_how_many_seeds_it_needs():
    values = {"baseline": BASE, "faster": [0.800, 0.80, 0.808]}
    (line,) = steps_of_study(values=values)
    differences = np.subtract(values["faster"], BASE)
    powers = {
        n: 1 - stats.nct.cdf(stats.t.ppf(0.975, n - 1), n - 1,
                             0.01 / (np.std(differences, ddof=1) / np.sqrt(n)))
        for n in range(4, 60)
    }  # fmt: skip
    needed = min(n for n, power in powers.items() if power >= 0.8)
    assert line == (
        "More seeds (`--ablation-seeds=N`), to find a change of 1 point four times out of five: "
        f"`faster` about {needed} (by the spread over 3 seeds)."
    )


def test_what_could_be_seen_already_is_looked_for_by_the_margin():
    values = {"baseline": BASE, "faster": [0.801, 0.811, 0.8085]}
    (line,) = steps_of_study(values=values, margin=0.001)
    assert "to find a change of 0.1 points four times out of five: `faster`" in line
    assert steps_of_study(values=values, margin=0.0) == []


def test_a_number_of_seeds_that_nobody_has_is_not_named():
    (line,) = steps_of_study(values={"baseline": [0.8, 0.8, 0.8], "faster": [0.5, 0.75, 0.6]})
    assert "`faster` more than 50 (about 6 for one as large as was seen, -18.3 points)" in line
    (line,) = steps_of_study(values={"baseline": [0.8, 0.8, 0.8], "slow": [0.5, 0.9, 1.0]})
    assert "`slow` more than 50 (by the spread over 3 seeds)." in line


def test_no_spread_and_one_seed_ask_for_seeds_without_a_number():
    values = {"baseline": [0.8, 0.9], "faster": [0.81, 0.91]}
    assert steps_of_study(values=values) == [
        "More seeds for `faster`: the difference is the same at each of 2 seeds, so nothing says "
        "how many."
    ]
    (line,) = steps_of_study(values={"baseline": [0.8], "faster": [0.9]})
    assert line.startswith("More seeds: one seed has no interval and gives no verdict")


def test_a_grid_asks_for_seeds_where_the_second_may_be_the_best():
    lines = steps_of_grid([0.7, 0.801, 0.8], {"width": [64, 128, 256]}, size=8)
    assert len(lines) == 1
    assert "of 1 point four times out of five: `128` against `256` about " in lines[0]
    assert steps_of_grid([0.7, 0.9, 0.8], {"width": [64, 128, 256]}) == []


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=5), st.floats(0.005, 0.1))
def test_seeds_to_detect_is_the_first_number_with_the_power(differences, size):
    if np.std(differences) < 1e-4:
        return
    delta = paired_delta(dict(enumerate(differences)), dict.fromkeys(range(9), 0.0), margin=0.0)
    found = seeds_to_detect(delta, size, most=40)

    def power(n):
        error = np.std(differences, ddof=1) / np.sqrt(n)
        return 1 - stats.nct.cdf(stats.t.ppf(0.975, n - 1), n - 1, size / error)

    first = len(differences) + 1
    if found is None:
        assert power(40) < 0.8 + 1e-6
    else:
        assert power(found) > 0.8 - 1e-6
        assert found >= first
        assert found == first or power(found - 1) < 0.8 + 1e-6
