"""What the report concludes from a grid: the best cell, its lead, and how its axes go together."""

import itertools
import re

import numpy as np
import pytest
from in_process import report_of, section
from scipy import stats
from told_studies import of_grid, told_grid

CELLS = [(width, rate) for width in (64, 128, 256) for rate in (0.0005, 0.001)]
NOISE = np.array([-0.001, 0.0, 0.002])


def about(*levels, cells=CELLS, size=1.0):
    """Values around these levels, cell by cell, with a little noise of its own for each."""
    return {
        cell: [float(v) for v in level + size * np.roll(NOISE, n) * (1 + 0.1 * n)]
        for n, (cell, level) in enumerate(zip(cells, levels, strict=True))
    }


def lines_of(values, **session):
    return lines_about(result_with(values, **session))


def result_with(values, *, rows=None, skip=(), metric=None, **grid):
    defined = told_grid(values, **grid)
    return of_grid(defined, rows=rows or list(defined.case_rows), skip=skip, metric=metric)


def lines_about(result):
    text = section(section(report_of(result), "## Conclusions"), "### sizes")
    return text.partition("What to try next:")[0].splitlines()


def line_with(lines, words):
    (found,) = (line for line in lines if words in line)
    return found


def difference(one, other):
    """Points and interval as the report writes them, by SciPy."""
    low, high = stats.ttest_rel(one, other).confidence_interval(0.95)
    value = np.mean(one) - np.mean(other)
    return f"{100 * value:+.1f} points", f"interval {100 * low:+.1f} to {100 * high:+.1f}, 3 seeds"


# --- the best cell ----------------------------------------------------------------------------


def test_the_best_cell_is_named_with_its_values_and_its_lead():
    values = about(0.80, 0.81, 0.82, 0.83, 0.86, 0.84)
    lines = lines_of(values)
    best = line_with(lines, "Best by `validation_top1`: `256-0.0005` (width=256, rate=0.0005), ")
    assert f"{np.mean(values[256, 0.0005]):.4f} (mean of 3 seeds, the highest of 6 cells)." in best
    size, interval = difference(values[256, 0.0005], values[256, 0.001])
    assert f"It leads the second, `256-0.001`, by {size[1:]} ({interval})." in "\n".join(lines)
    assert line_with(lines, "The lead of the best of 6 cells is biased upwards")
    assert "no cell" not in "\n".join(lines)


def test_its_leading_metric_is_told_and_compared_with_the_baselines_cell():
    values = about(0.80, 0.81, 0.82, 0.83, 0.86, 0.84)
    size, _ = difference(values[256, 0.0005], values[64, 0.0005])
    mean, spread = np.mean(values[256, 0.0005]) - 0.1, np.std(values[256, 0.0005], ddof=1)
    result = result_with(values)
    delta = result.row("256-0.0005").metrics["top1"].delta  # one of the study's comparisons
    assert line_with(lines_about(result), "Its `top1` is") == (
        f"- Its `top1` is {mean:.4f} ± {spread:.4f} (mean of 3 seeds): {size} against the "
        f"baseline's cell, `64-0.0005` (interval {100 * delta.low:+.1f} to "
        f"{100 * delta.high:+.1f}, 3 seeds)."
    )
    own = lines_of(about(0.9, 0.81, 0.82, 0.83, 0.86, 0.84))
    assert line_with(own, "Its `top1` is").endswith("; it is the baseline's cell.")


def test_a_second_that_may_be_as_good_is_said_to_be():
    values = about(0.70, 0.70, 0.72, 0.833, 0.84, 0.839, size=4)
    text = "\n".join(lines_of(values))
    size, interval = difference(values[256, 0.0005], values[256, 0.001])
    assert (
        f"It is {size[1:]} ahead of the second, `256-0.001` ({interval}): the two cannot be told"
        in text
    )
    alike = [
        cell for cell in CELLS if cell != (256, 0.0005)
        and stats.ttest_rel(values[256, 0.0005], values[cell]).confidence_interval().low <= 0
    ]  # fmt: skip
    assert alike == [(128, 0.001), (256, 0.001)]
    assert "At 3 seeds 2 cells cannot be told apart from the best: `256-0.001`, `128-0.001`" in text


def test_an_end_of_an_interval_near_0_shows_its_side():
    base = [0.50, 0.51, 0.52]
    values = dict.fromkeys(CELLS, base) | {(256, 0.001): [0.502, 0.515, 0.525]}
    (low, _) = stats.ttest_rel(values[256, 0.001], base).confidence_interval(0.95)
    assert -0.0005 < low < 0
    text = "\n".join(lines_of(values))
    assert f"(interval {100 * low:+.1g} to +" in text


def test_where_the_second_alone_may_be_as_good_it_is_not_said_twice():
    text = "\n".join(lines_of(about(0.70, 0.71, 0.72, 0.73, 0.84, 0.8395)))
    assert "the two cannot be told apart" in text
    assert "cannot be told apart from the best" not in text


def test_within_the_margin_the_two_do_not_differ():
    text = "\n".join(lines_of(about(0.7, 0.7, 0.7, 0.7, 0.84, 0.839), margin=0.05))
    assert "the two do not differ by more than the margin of 5 points." in text


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ([0.80, 0.81, 0.82], "has the same value at each seed (3 seeds)"),
        ([0.82, 0.80, 0.81], "has the same mean (3 seeds)"),
    ],
)
def test_of_equal_cells_the_first_counts_and_that_is_said(best, words):
    values = {cell: [0.5, 0.5, 0.51] for cell in CELLS} | {
        (128, 0.001): [0.80, 0.81, 0.82], (256, 0.001): best,
    }  # fmt: skip
    text = "\n".join(lines_of(values))
    assert "Best by `validation_top1`: `128-0.001`" in text
    assert f"The second, `256-0.001`, {words}: the two cannot be told apart, and the first" in text
    assert "biased" not in text


def test_a_difference_that_is_the_same_for_every_seed_proves_no_lead():
    values = {cell: [0.5 + n / 100, 0.6 + n / 100] for n, cell in enumerate(CELLS)}
    text = "\n".join(lines_of(values))
    assert "1.0 points ahead of the second, `256-0.0005` (the same at all 2 seeds, no" in text
    assert "It leads" not in text


def test_one_seed_tells_nothing_apart():
    text = "\n".join(lines_of({cell: [0.5 + n / 100] for n, cell in enumerate(CELLS)}))
    assert "0.5500 (one seed, the highest of 6 cells)" in text
    assert "1.0 points ahead of the second, `256-0.0005` (1 seed, no interval): the two can" in text
    assert "At one seed no cell can be told apart from another." in text
    assert "Its `top1` is 0.4500 (one seed): +5.0 points against" in text
    claims = " (rises|falls) with| has its peak| is highest at| leads |So the best|ahead of [0-9]"
    assert not re.search(claims, text)


def test_equal_cells_are_called_equal_everywhere():
    text = "\n".join(lines_of({cell: [0.5, 0.6, 0.7] for cell in CELLS}))
    assert "has the same mean along `width` 64 → 128 → 256: 0.6000, 0.6000, 0.6000" in text
    assert "at 64: 0.0005 and 0.001 alike (3 seeds)" in text
    assert "No `rate` is ahead at any `width`." in text


def test_cells_without_results_are_left_out_by_name():
    values = about(0.80, 0.81, 0.82, 0.83, 0.86, 0.84)
    rows = ["64-0.0005", "64-0.001", "128-0.001", "256-0.0005", "256-0.001"]
    lines = lines_of(values, diverge=[(256, 0.0005)], rows=rows, skip=["64-0.001"])
    best = line_with(lines, "Best by")
    assert "`256-0.001` (width=256, rate=0.001)" in best
    assert "the highest of 3 cells). Left out: " in best
    assert "`64-0.001` (missing); `256-0.0005` (diverged); `128-0.0005` (not selected)." in best
    (alone,) = lines_of(values, diverge=CELLS)[2:3]
    assert alone.startswith("- No cell has all its results, so there is no best one: `64-0.0005`")


def test_a_single_cell_leads_nothing():
    lines = [line for line in lines_of({(64, 0.0005): [0.5, 0.6]}, rows=["64-0.0005"]) if line]
    assert lines[1].endswith("0.5500 (mean of 2 seeds, the only cell with all its results). Left "
                             "out: `64-0.001`, `128-0.0005`, `128-0.001`, `256-0.0005`, `256-0.001`"
                             " (not selected).")  # fmt: skip
    assert len(lines) == 3
    assert lines[2].endswith("Its `top1` is 0.4500 ± 0.0707 (mean of 2 seeds).")


# --- one axis ---------------------------------------------------------------------------------


def test_a_metric_that_rises_says_by_how_much():
    values = about(0.80, 0.81, 0.82, 0.83, 0.86, 0.87)
    width = {w: np.mean([values[w, 0.0005], values[w, 0.001]], axis=0) for w in (64, 128, 256)}
    size, interval = difference(width[256], width[64])
    assert line_with(lines_of(values), "rises with `width`") == (
        f"- `validation_top1` rises with `width` 64 → 128 → 256: "
        f"{', '.join(f'{w.mean():.4f}' for w in width.values())} (means over `rate`, 3 seeds); "
        f"{size} from 64 to 256 ({interval})."
    )


def test_a_step_in_doubt_is_named():
    values = about(0.80, 0.80, 0.85, 0.85, 0.8505, 0.8505)
    width = {w: np.mean([values[w, 0.0005], values[w, 0.001]], axis=0) for w in (64, 128, 256)}
    size, interval = difference(width[256], width[128])
    line = line_with(lines_of(values), "rises with `width`")
    assert line.endswith(f" Not told apart: 128 and 256 ({size}, {interval}).")


def test_a_metric_that_falls_and_one_that_has_its_peak():
    falls = lines_of(about(0.86, 0.80, 0.83, 0.77, 0.80, 0.74))
    assert line_with(falls, "falls with `width` 64 → 128 → 256: 0.83")
    assert line_with(falls, "falls with `rate` 0.0005 → 0.001: 0.83")
    assert "; -6.0 points from 0.0005 to 0.001 (interval -6." in "\n".join(falls)
    peak = line_with(lines_of(about(0.80, 0.80, 0.86, 0.86, 0.82, 0.82)), "has its peak at 128")
    assert "told apart from 64 (+6." in peak
    assert "and 256 (+4." in peak


def test_a_peak_in_doubt_is_none():
    line = line_with(lines_of(about(0.80, 0.80, 0.8605, 0.8605, 0.86, 0.86)), "along `width`")
    assert line.startswith("- `validation_top1` is highest at 128 along `width` 64 → 128 → 256")
    assert "told apart from 64 (+6.1 points, interval" in line
    assert ", not told apart from 256 (+0.0 points, interval -0." in line


def test_the_higher_of_two_humps_is_no_peak():
    values = about(0.80, 0.90, 0.70, 0.85, cells=[(1,), (2,), (3,), (4,)])
    text = "\n".join(lines_of(values, axes={"depth": [1, 2, 3, 4]}))
    assert "`validation_top1` is highest at 2 along `depth` 1 → 2 → 3 → 4: 0.80" in text


def test_what_an_interval_leaves_open_is_said_to_be_open():
    text = "\n".join(lines_of(about(0.80, 0.80, 0.81, 0.81, 0.82, 0.82, size=30)))
    assert "Whether `validation_top1` changes with `width` 64 → 128 → 256" in text
    assert text.count(", not told apart from 0.") >= 2
    dip = "\n".join(lines_of(about(0.81, 0.81, 0.80, 0.80, 0.82, 0.82, size=30)))
    assert re.search(
        r"Where `validation_top1` is highest along `width` .* is open: \d+ is not", dip
    )


def test_within_the_margin_an_axis_does_not_matter():
    text = "\n".join(lines_of(about(*[0.8] * 6), margin=0.05))
    assert "does not change by more than the margin of 5 points with `rate` 0.0005 → 0.001" in text


def test_values_that_are_no_numbers_neither_rise_nor_fall():
    cells = [("relu",), ("gelu",), (None,)]
    line = line_with(
        lines_of(about(0.7, 0.8, 0.9, cells=cells), axes={"kind": ["relu", "gelu", None]}),
        "along `kind`",
    )
    assert line.startswith(
        "- `validation_top1` is highest at None along `kind` relu, gelu, None: 0.70"
    )
    assert " (3 seeds)" in line


def test_numbers_are_read_in_their_order_whatever_the_grids_is():
    cells = [(256,), (64,), (128,)]
    line = line_with(
        lines_of(about(0.9, 0.7, 0.8, cells=cells), axes={"width": [256, 64, 128]}), "rises with"
    )
    assert "`width` 64 → 128 → 256: 0.70" in line


def test_fields_that_change_together_are_not_told_apart():
    values = about(0.7, 0.8, cells=[(64,), (128,)])
    line = line_with(
        lines_of(values, axes={("width", "heads", "depth"): [(64, 2, 1), (128, 4, 1)]}), "rises"
    )
    assert "`heads` (2, 4) changes with it, so what each of them does cannot be told." in line
    assert "`depth`" not in line


def test_where_the_first_field_repeats_all_of_them_name_a_value():
    def train(config, run):
        return {"top1": 0.1, "validation_top1": config["heads"]}

    axes = {("width", "heads"): [(64, 2), (64, 4)]}
    grid = told_grid({(64,): [0.1]}, axes=axes, cell_name="{width}-{heads}", train=train)
    text = report_of(of_grid(grid))
    assert "along `width` 64/2, 64/4: 2.0000, 4.0000" in text


def test_an_axis_whose_cells_are_not_all_there_says_over_what_its_means_are():
    values = about(0.80, 0.81, 0.82, 0.83, 0.86, 0.87)
    text = "\n".join(lines_of(values, diverge=[(256, 0.001)]))
    assert "`width` 64 → 128 → 256: 0.80" in text
    assert "(means over the 1 of 2 values of `rate` that have all results, 3 seeds)" in text
    assert "(means over the 2 of 3 values of `width` that have all results, 3 seeds)" in text
    diagonal = "\n".join(lines_of(values, diverge=[(64, 0.001), (128, 0.0005)]))
    assert "rises with `width`" not in diagonal
    text = "\n".join(lines_of(values, diverge=[(64, 0.001), (128, 0.0005), (256, 0.0005)]))
    assert "How `validation_top1` goes with `width` is open: too few cells have results" in text


# --- two axes ---------------------------------------------------------------------------------


def test_the_best_value_of_one_axis_at_each_of_the_other():
    values = about(0.80, 0.83, 0.84, 0.8405, 0.88, 0.85)
    line = line_with(lines_of(values), "The best `rate` at each `width`")
    for width, best, second, words in ((64, 0.001, 0.0005, "ahead of"),
                                       (128, 0.001, 0.0005, "not told apart from"),
                                       (256, 0.0005, 0.001, "ahead of")):  # fmt: skip
        size, interval = difference(values[width, best], values[width, second])
        assert f"at {width}: {best}, {words} {second} ({size}, {interval})" in line
    assert line.endswith(
        "So the best `rate` changes with `width`: at 64 it is another than at 256."
    )


def test_a_change_that_rests_on_one_side_alone_is_not_shown():
    """An interaction, and a large one; but the order is reversed at neither by more than chance."""
    values = about(0.80, 0.83, 0.84, 0.8405, 0.8503, 0.8500)
    line = line_with(lines_of(values), "The best `rate` at each `width`")
    assert "at 256: 0.0005, not told apart from 0.001" in line
    assert line.endswith("That it changes with `width` is not shown: one `rate` may be best at all "
                         "of them.")  # fmt: skip


def test_one_value_that_is_best_everywhere():
    every = line_with(lines_of(about(0.80, 0.83, 0.84, 0.86, 0.85, 0.88)), "The best `rate`")
    assert every.endswith(" It is 0.001 at every `width`.")
    some = line_with(lines_of(about(0.80, 0.83, 0.84, 0.8401, 0.85, 0.88)), "The best `rate`")
    assert some.endswith(" It is 0.001 at every `width`, told apart at 64 and 256 alone.")
    none = line_with(
        lines_of(about(0.80, 0.801, 0.84, 0.841, 0.85, 0.851, size=9)), "The best `rate`"
    )
    assert none.endswith("told apart at none of them.")


def test_the_rival_of_the_best_value_is_the_second_best():
    cells = [(width, rate) for width in (64, 128) for rate in (0.1, 0.2, 0.3)]
    values = about(0.70, 0.83, 0.80, 0.71, 0.84, 0.82, cells=cells)
    axes = {"width": [64, 128], "rate": [0.1, 0.2, 0.3]}
    line = line_with(lines_of(values, axes=axes), "The best `rate`")
    assert line.count(": 0.2, ahead of 0.3 (+") == 2


def test_a_value_without_a_rival_is_said_to_be_alone():
    values = about(0.80, 0.83, 0.84, 0.86, 0.85, 0.88)
    line = line_with(lines_of(values, diverge=[(128, 0.0005)]), "The best `rate`")
    assert "at 128: 0.001, the only one with results" in line


def test_three_axes_are_taken_two_by_two():
    axes = {"a": [1, 2], "b": [1, 2], "c": [1, 2]}
    cells = list(itertools.product([1, 2], repeat=3))
    values = about(*(0.5 + 0.01 * a + 0.02 * b + 0.04 * c for a, b, c in cells), cells=cells)
    text = "\n".join(lines_of(values, axes=axes))
    for inner, outer, over in (("b", "a", "c"), ("c", "a", "b"), ("c", "b", "a")):
        assert (
            f"The best `{inner}` at each `{outer}` (means over `{over}`) is at 1: 2, ahead" in text
        )
    assert "rises with `c` 1 → 2: 0.58" in text
    assert "(means over `a` and `b`, 3 seeds); +4." in text


def test_one_axis_has_nothing_to_go_together_with():
    text = "\n".join(lines_of(about(0.7, 0.8, cells=[(1,), (2,)]), axes={"a": [1, 2]}))
    assert "at each" not in text
    assert "rises with `a` 1 → 2: 0.7003, 0.8004 (3 seeds); +10.0 points from 1 to 2" in text
