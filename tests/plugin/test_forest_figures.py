"""The forest plot: its numbers against the CSV files, its marks on matplotlib's artists."""

import csv
import dataclasses
import io
import math

import pytest
from figure_checks import assert_bare, assert_readable, drawn_bytes, lines_with, made, words
from hypothesis import given
from hypothesis import strategies as st
from in_process import report_of, result_of, section

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.figures import draw_studies
from pytest_ablation.forest_drawing import changes_figure, draw_changes
from pytest_ablation.forest_points import Change, Changes, changes, limits_of
from pytest_ablation.report import SessionFacts, markdown
from pytest_ablation.tables import runs_table, summary_table, to_csv

LEVELS = {  # by name: the metric of seeds 0, 1 and 2
    "baseline": (0.80, 0.82, 0.81),
    "no_pe": (0.7515, 0.772, 0.7615),
    "more": (0.8535, 0.873, 0.8635),
    "twin": (0.8535, 0.873, 0.8635),
    "alike": (0.801, 0.8195, 0.8105),
    "noisy": (0.70, 0.92, 0.84),
    "shifted": (0.83, 0.85, 0.84),
}
VERDICTS = {
    "no_pe": "worse",
    "more": "better",
    "alike": "no detectable change",
    "noisy": "inconclusive",
    "shifted": "better",  # by the same amount for every seed: the other rows tell the spread
}


def level(config, run):
    """Trains nothing: the metric is the configuration's."""
    if config["diverges"] and run.seed == 1:
        run.log(1, "train", loss=math.nan)
    if config["fails"]:
        raise RuntimeError("the disk is full")
    return {"top1": config["levels"][run.seed] + config["shift"], "other": 0.5}


def study(*variants, seeds=3, margin=0.005, **baseline):
    plain = {"levels": LEVELS["baseline"], "shift": 0.0, "diverges": False, "fails": False}
    return Study(
        "forest", train=level, baseline={**plain, **baseline}, variants=variants,
        metrics=["top1", "other"], quick=Mode(seeds=seeds), margin=margin,
    )  # fmt: skip


def variant(name, **more):
    return Variant(name, levels=LEVELS[name], **more)


@pytest.fixture(scope="module")
def all_verdicts():
    return result_of(study(*(variant(name) for name in VERDICTS)))


def rows_of(table):
    return list(csv.DictReader(io.StringIO(to_csv(table))))


# --- numbers --------------------------------------------------------------------------------------


def test_lines_are_the_rows_of_the_summary_in_percent_of_the_baseline(all_verdicts):
    found = changes(all_verdicts)
    expected = [
        row
        for row in rows_of(summary_table([all_verdicts]))
        if row["metric"] == "top1" and row["baseline"]
    ]
    expected.sort(key=lambda row: float(row["delta"]))
    assert found.is_relative
    assert [line.names for line in found.lines] == [(row["variant"],) for row in expected]
    for line, row in zip(found.lines, expected, strict=True):
        scale = 100 / float(row["baseline_mean"])
        assert line.value == pytest.approx(float(row["delta_pct"]))
        assert line.low == pytest.approx(scale * float(row["ci_low"]))
        assert line.high == pytest.approx(scale * float(row["ci_high"]))
        assert line.margin == pytest.approx(scale * 0.005)
        assert line.outcome == row["verdict"].replace("_", " ") == VERDICTS[row["variant"]]
        assert line.baseline == "baseline"


def test_dots_are_the_deltas_of_the_single_seeds(all_verdicts):
    runs = [row for row in rows_of(runs_table([all_verdicts], "session")) if row["delta"]]
    for line in changes(all_verdicts).lines:
        (name,) = line.names
        deltas = [float(r["delta"]) for r in runs if (r["variant"], r["metric"]) == (name, "top1")]
        assert line.seeds == pytest.approx([100 / 0.81 * delta for delta in deltas])


@pytest.mark.parametrize("shift", [-0.81, -2.0], ids=["zero", "negative"])
def test_where_a_percentage_says_nothing_numbers_are_as_measured(shift):
    found = changes(result_of(study(variant("no_pe"), shift=shift)))
    assert not found.is_relative
    (line,) = found.lines
    assert line.value == pytest.approx((-0.05 - 0.05 - 0.045) / 3)
    figure = made(changes_figure, found, "title")
    assert "change of top1, as measured (not relative)" in words(figure)
    assert any(text.startswith("-0.0483 (") for text in words(figure))
    assert_readable(figure)


def test_variants_of_one_model_are_one_line_and_another_baseline_is_named():
    twice = result_of(
        study(
            variant("more"),
            variant("twin"),
            variant("no_pe", against="twin"),
            Variant("back", against="more", levels=LEVELS["baseline"]),
            Variant("again", against="no_pe", levels=LEVELS["more"]),
        )
    )
    found = changes(twice)
    assert [(line.names, line.baseline) for line in found.lines] == [
        (("no_pe",), "twin"),
        (("back",), "more"),
        (("more", "twin"), "baseline"),
        (("again",), "no_pe"),
    ]
    shown = words(made(changes_figure, found, "title"))
    assert {"more, twin", "against more", "against baseline", "against no_pe"} <= set(shown)


def test_one_seed_has_a_mark_without_a_bar_and_the_figure_says_so():
    found = changes(result_of(study(variant("no_pe"), seeds=1)))
    (line,) = found.lines
    assert (line.low, line.high, line.outcome) == (None, None, "one seed")
    figure = made(changes_figure, found, "title")
    (ax,) = figure.axes
    assert lines_with(ax, "d") == [([line.value], [0])]
    assert lines_with(ax, "None") == [([0, 0], [0, 1])], "only the line at 0"
    assert any("one seed: no interval and no verdict" in text for text in words(figure))


def test_rows_with_a_problem_are_shown_without_a_verdict():
    troubled = result_of(
        study(
            Variant("bad", levels=LEVELS["no_pe"], diverges=True),
            Variant("lost", fails=True),
            variant("more"),
        )
    )
    found = changes(troubled)
    lines = {line.names[0]: line for line in found.lines}
    assert lines["bad"].outcome == "diverged"
    assert lines["bad"].value == pytest.approx(100 * (-0.0485 - 0.0485) / 2 / 0.805)
    assert (lines["lost"].outcome, lines["lost"].value) == ("failed", None)
    figure = made(changes_figure, found, "title")
    ((x, y),) = lines_with(figure.axes[0], "x")
    assert (x, y) == ([lines["bad"].value], [list(lines).index("bad")])
    assert {"diverged", "failed"} <= set(words(figure))
    assert any("a cross: no verdict" in text for text in words(figure))


# --- marks ----------------------------------------------------------------------------------------


def test_marks_bars_and_dots_are_where_the_numbers_are(all_verdicts):
    found = changes(all_verdicts)
    (ax,) = made(changes_figure, found, "title").axes
    marks = {y[0]: (x, line) for line in ax.lines for x, y in [line.get_data()]
             if len(x) == 1 and line.get_markersize() == 7}  # fmt: skip
    bars = {y[0]: list(x) for line in ax.lines for x, y in [line.get_data()]
            if line.get_marker() == "None" and y[0] == y[1]}  # fmt: skip
    dots = lines_with(ax, ".")
    left, right = ax.get_xlim()
    for place, line in enumerate(found.lines):
        assert list(marks[place][0]) == [line.value]
        assert bars[place] == pytest.approx([max(line.low, left), min(line.high, right)])
        assert list(line.seeds) == dots[place][0]
    looks = {
        line.outcome: (marks[place][1].get_marker(), marks[place][1].get_markerfacecolor())
        for place, line in enumerate(found.lines)
    }
    assert {outcome: marker for outcome, (marker, _) in looks.items()} == {
        "worse": "v",
        "better": "^",
        "no detectable change": "s",
        "inconclusive": "o",
    }
    assert looks["inconclusive"][1] == "white"
    assert len(set(looks.values())) == 4


def test_an_interval_far_longer_than_the_others_is_cut_with_an_arrow():
    usual = [one_line(name=f"v{i}", value=i - 2.0, half=0.5) for i in range(4)]
    long = dataclasses.replace(one_line(name="long", value=0.5, half=200.0), seeds=(0.0, 1.0))
    found = Changes("top1", 0.005, True, (*usual, long))
    low, high = limits_of(found)
    assert -5 < low < -2.5
    assert 1.5 < high < 5
    figure = made(changes_figure, found, "title")
    (ax,) = figure.axes
    assert lines_with(ax, "<") == [([low], [4])]
    assert lines_with(ax, ">") == [([high], [4])]
    assert any("an arrow: the interval goes on" in text for text in words(figure))
    assert any("(-199.5 to +200.5)" in text for text in words(figure)), "the numbers are whole"


def one_line(name="v", value=1.0, half=0.5, margin=0.6):
    seeds = (value - half / 4, value + half / 4)
    return Change((name,), "baseline", "inconclusive", value, value - half, value + half, seeds,
                  margin)  # fmt: skip


NUMBERS = st.floats(-1e3, 1e3)


@given(st.lists(st.builds(one_line, value=NUMBERS, half=st.floats(0, 1e3), margin=NUMBERS.map(abs)),
                min_size=1, max_size=6))  # fmt: skip
def test_all_means_and_seeds_and_0_are_on_the_axis(lines):
    low, high = limits_of(Changes("top1", 0.005, True, tuple(lines)))
    assert low < 0 < high
    for line in lines:
        assert low < min(line.seeds) <= max(line.seeds) < high


# --- the image ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 30])
def test_long_names_and_many_rows_stay_readable(count):
    lines = [
        dataclasses.replace(
            one_line(value=i / 3.0), names=(f"variant_{i}_" + "long_and_wide_mw" * (i % 5),)
        )
        for i in range(1, count + 1)
    ]
    other = dataclasses.replace(lines[0], baseline="b" * 80)
    figure = made(changes_figure, Changes("top1", 0.005, True, (*lines, other)), "t" * 300)
    assert_readable(figure)
    assert figure.get_figheight() < 0.5 * count + 4


def test_the_same_records_give_the_same_bytes_and_others_do_not(tmp_path, all_verdicts):
    first = drawn_bytes(draw_changes, all_verdicts, tmp_path / "first")
    assert list(first) == ["forest-changes.png"]
    assert drawn_bytes(draw_changes, all_verdicts, tmp_path / "second") == first
    rest = [variant(name) for name in VERDICTS if name != "noisy"]
    changed = result_of(study(*rest, Variant("noisy", levels=(0.70, 0.92, 0.84001))))
    assert drawn_bytes(draw_changes, changed, tmp_path / "second") != first
    assert_bare(tmp_path / "first" / "figures" / "forest-changes.png")


def test_a_report_embeds_the_plot_and_says_what_it_shows(tmp_path, all_verdicts):
    figures = draw_studies([all_verdicts], tmp_path)
    facts = SessionFacts("quick", 18, 18, 0, (), figures.pictures)
    shown = section(markdown([all_verdicts], facts), "### Changes")
    assert "](figures/forest-changes.png)" in shown
    assert "no\\_pe -6.0 % (worse)" in shown
    assert "margin of 0.005" in shown
    assert "### Changes" not in report_of(all_verdicts)


def test_without_any_number_there_is_no_plot(tmp_path):
    assert draw_changes(result_of(study(Variant("lost", fails=True))), tmp_path) == []
    assert list(tmp_path.iterdir()) == []
