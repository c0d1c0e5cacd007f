"""The figure of costs: its points against the records, its marks on matplotlib's artists."""

import dataclasses

import numpy as np
import pytest
from figure_checks import assert_bare, assert_readable, drawn_bytes, lines_with, made, words
from in_process import planned, result_of, section

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.cost_drawing import Point, cost_figure, draw_cost, points
from pytest_ablation.figures import draw_studies
from pytest_ablation.plan import Plan
from pytest_ablation.report import SessionFacts, markdown


def price(config, run):
    """Trains nothing: the metric is the configuration's."""
    if config["fails"]:
        raise RuntimeError("the disk is full")
    return {"top1": config["height"] + 0.01 * run.seed}


def study(*variants, cost_figure=True, seeds=3):
    return Study(
        "price", train=price, baseline={"height": 0.5, "seconds": 10.0, "fails": False},
        variants=variants, metrics=["top1"], quick=Mode(seeds=seeds), cost_figure=cost_figure,
    )  # fmt: skip


def row(name, height, seconds, **more):
    return Variant(name, height=height, seconds=seconds, **more)


def timed(record):
    """The record of a run that took as long as its configuration says, later seeds longer."""
    seconds = record.config["seconds"] * (1 + 0.1 * record.seed)
    return dataclasses.replace(record, cost=dataclasses.replace(record.cost, train_seconds=seconds))


def result(*variants, **more):
    return result_of(study(*variants, **more), change=timed)


@pytest.fixture(scope="module")
def priced():
    return result(
        row("cheap", 0.4, 4.0), row("dear", 0.6, 30.0), row("wasteful", 0.45, 20.0),
        row("twin", 0.6, 30.0), row("late", 0.5, 12.0),
    )  # fmt: skip


def point(name, seconds, value, **more):
    return Point((name,), seconds, value, value - 0.01, value + 0.02, 3, "", **more)


# --- numbers --------------------------------------------------------------------------------------


def test_points_are_the_means_of_the_records(priced):
    found = {point.names: point for point in points(priced)}
    assert list(found) == [("cheap",), ("baseline",), ("late",), ("wasteful",), ("dear", "twin")]
    for names, height, seconds in ((("cheap",), 0.4, 4.0), (("dear", "twin"), 0.6, 30.0)):
        one = found[names]
        assert one.seconds == pytest.approx(1.1 * seconds)
        assert (one.low, one.value, one.high) == pytest.approx(
            (height, height + 0.01, height + 0.02)
        )
        assert one.seeds == 3
    unbeaten = [names for names, one in found.items() if one.is_unbeaten]
    assert unbeaten == [("cheap",), ("baseline",), ("dear", "twin")]


def test_unbeaten_rows_are_those_of_a_comparison_of_all_with_all():
    rng = np.random.default_rng(5)
    rows = [row(f"v{i}", round(rng.uniform(0.2, 0.8), 1), float(rng.integers(1, 9)))
            for i in range(25)]  # fmt: skip
    found = points(result(*rows, seeds=1))
    assert len(found) < 26, "some are the same model"
    for one in found:
        beaten = any(
            (other.seconds < one.seconds and other.value >= one.value)
            or (other.seconds <= one.seconds and other.value > one.value)
            for other in found
        )
        assert one.is_unbeaten == (not beaten)


def test_a_row_with_a_problem_beats_nobody_and_one_without_a_run_is_named(tmp_path):
    def diverged(record):
        record = timed(record)
        if record.config["height"] == 0.9 and record.seed == 1:
            return dataclasses.replace(record, status="diverged", message="nan", metrics={})
        return record

    broken = study(row("great", 0.9, 1.0), Variant("lost", fails=True), row("good", 0.6, 5.0))
    found = result_of(broken, change=diverged)
    labels = {point.label: point.is_unbeaten for point in points(found)}
    assert labels == {"great (diverged)": False, "good": True, "baseline": False}
    (picture,) = draw_cost(found, tmp_path)
    assert "Not drawn, for no run has finished: lost." in picture.caption
    assert "good 0.6100 in 5.5 s (unbeaten)" in picture.alt


# --- marks ----------------------------------------------------------------------------------------


def test_unbeaten_rows_are_filled_and_joined_by_steps(priced):
    found = points(priced)
    (ax,) = made(cost_figure, found, "top1", "title").axes
    filled = [point for point in found if point.is_unbeaten]
    hollow = [point for point in found if not point.is_unbeaten]
    assert lines_with(ax, "D") == [([p.seconds], [p.value]) for p in filled]
    assert lines_with(ax, "o") == [([p.seconds], [p.value]) for p in hollow]
    assert {line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"} == {
        "white"
    }
    (steps,) = (line for line in ax.lines if line.get_drawstyle() == "steps-post")
    assert list(steps.get_xdata()) == [p.seconds for p in filled]
    assert list(steps.get_ydata()) == [p.value for p in filled]
    bars = [(x, y) for x, y in lines_with(ax, "None") if len(x) == 2 and x[0] == x[1]]
    assert bars == [([p.seconds] * 2, [p.low, p.high]) for p in found]


@pytest.mark.parametrize(
    ("seconds", "scale"), [((1, 7.9), "linear"), ((1, 8.1), "log"), ((0, 9), "linear")]
)
def test_times_that_differ_much_are_on_a_logarithmic_axis(seconds, scale):
    found = [point("a", seconds[0], 0.5), point("b", seconds[1], 0.6)]
    figure = made(cost_figure, found, "top1", "title")
    assert figure.axes[0].get_xscale() == scale
    assert any("(logarithmic)" in text for text in words(figure)) == (scale == "log")


@pytest.mark.parametrize("count", [1, 2, 12, 31])
@pytest.mark.parametrize("length", [4, 80])
def test_labels_cover_neither_each_other_nor_a_mark(count, length):
    rng = np.random.default_rng(count)
    times = np.sort(rng.lognormal(1, 0.5, count))
    found = [
        point(f"{i:02}{'x' * (length - 2)}", float(seconds), float(rng.uniform(0.7, 0.9)),
              is_unbeaten=i % 4 == 0)
        for i, seconds in enumerate(times)
    ]  # fmt: skip
    figure = made(cost_figure, found, "top1", "title")
    assert_readable(figure)
    (ax,) = figure.axes
    places = ax.transData.transform([(p.seconds, p.value) for p in found])
    for label in [text for text in ax.texts if text.get_text()]:
        box = label.get_window_extent()
        assert not any(box.contains(x, y) for x, y in places), label
    assert sum(text.endswith("x" * (length - 2)) for text in words(figure)) == count


def test_points_at_one_place_each_have_a_label():
    found = [point(f"v{i}", 2.0, 0.5) for i in range(5)]
    figure = made(cost_figure, found, "top1", "title")
    assert_readable(figure)
    assert {f"v{i}" for i in range(5)} <= set(words(figure))


# --- the image ------------------------------------------------------------------------------------


def test_the_same_records_give_the_same_bytes_and_others_do_not(tmp_path, priced):
    first = drawn_bytes(draw_cost, priced, tmp_path / "first")
    assert list(first) == ["price-cost.png"]
    assert drawn_bytes(draw_cost, priced, tmp_path / "second") == first
    other = result(row("cheap", 0.4, 4.01))
    assert drawn_bytes(draw_cost, other, tmp_path / "second") != first
    assert_bare(tmp_path / "first" / "figures" / "price-cost.png")


def test_a_report_embeds_the_figure_and_says_whose_times_they_are(tmp_path, priced):
    figures = draw_studies([priced], tmp_path)
    assert [picture.heading for picture in figures.pictures["price"]] == [
        "Changes",
        "top1 against seconds of training",
    ]
    text = markdown([priced], SessionFacts("quick", 18, 18, 0, (), figures.pictures))
    shown = section(text, "### top1 against seconds of training")
    assert "](figures/price-cost.png)" in shown
    assert "times are those of the machine that trained" in shown


def test_only_studies_that_ask_have_the_figure(tmp_path):
    asked = study(row("cheap", 0.4, 4.0), cost_figure=False)
    assert draw_cost(result_of(asked, change=timed), tmp_path) == []


def test_every_process_of_a_session_knows_that_the_study_asks(tmp_path):
    plan, _ = planned(study(row("cheap", 0.4, 4.0)))
    plan.write(tmp_path)
    assert Plan.read(tmp_path).studies[0].cost_figure is True
