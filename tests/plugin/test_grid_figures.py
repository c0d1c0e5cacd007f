"""A grid's figures: their numbers against the CSV files, their marks on matplotlib's artists."""

import csv
import io
import itertools
import math

import pytest
from figure_checks import assert_bare, assert_readable, drawn_bytes, lines_with, made, words
from hypothesis import given
from hypothesis import strategies as st
from in_process import result_of, section

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.figures import draw_studies
from pytest_ablation.grid_drawing import draw_grid, facets_figure, grid_figure
from pytest_ablation.grid_points import Cell, cells, scale_of, words_of
from pytest_ablation.grids import Axis, Grid
from pytest_ablation.report import SessionFacts, markdown
from pytest_ablation.tables import runs_table, summary_table, to_csv

SIZES = [(64, 2), (128, 4), (256, 8)]
RATES = [5e-4, 1e-3]


def accuracy(config, run):
    """Trains nothing: the metric follows from the configuration and the seed."""
    if [config["embed_dim"], config["rate"], run.seed] in config["diverging"]:
        run.log(1, "train", loss=math.nan)
    value = 0.7 + 0.02 * math.log2(config["embed_dim"] / 64) + 10 * config["rate"]
    value += 0.003 * run.seed * (1 + config["num_heads"])
    return {"top1": value + config["shift"], "validation_top1": value}


def grid(axes, *, seeds=3, diverging=(), shift=0.0):
    return Study.grid(
        "sizes", axes=axes, train=accuracy, cell_name="", select="validation_top1",
        baseline={"embed_dim": 64, "num_heads": 2, "rate": 5e-4, "dropout": 0.1, "shift": shift,
                  "diverging": list(diverging)},
        metrics=["top1", "validation_top1"], quick=Mode(seeds=seeds),
    )  # fmt: skip


def result(axes=None, **more):
    study = grid(axes or {("embed_dim", "num_heads"): SIZES, "rate": RATES}, **more)
    return result_of(study, rows=list(study.case_rows))


@pytest.fixture(scope="module")
def sizes():
    return result()


def figure_of(figure, study):
    plan = study.plan
    return made(figure, cells(study), plan.grid, plan.leading, "title")


def rows_of(table):
    return [row for row in csv.DictReader(io.StringIO(to_csv(table))) if row["metric"] == "top1"]


# --- numbers --------------------------------------------------------------------------------------


def test_cells_hold_the_values_of_their_runs(sizes):
    runs = rows_of(runs_table([sizes], "session"))
    assert len(cells(sizes)) == 6
    for cell in cells(sizes):
        name = next(n for n, place in sizes.plan.grid.cells.items() if place == cell.place)
        expected = {int(r["seed"]): float(r["value"]) for r in runs if r["variant"] == name}
        assert cell.values == pytest.approx(expected)
        assert not cell.lost


def means_by_place(study):
    means = {row["variant"]: float(row["mean"]) for row in rows_of(summary_table([study]))}
    return {place: means[name] for name, place in study.plan.grid.cells.items()}


def test_a_line_per_value_of_the_second_axis_goes_through_the_means(sizes):
    (ax,) = figure_of(grid_figure, sizes).axes
    means = means_by_place(sizes)
    for rate, marker in enumerate("os"):
        ((x, y),) = lines_with(ax, marker)
        assert y == pytest.approx([means[size, rate] for size in range(3)])
        assert x == pytest.approx([6, 7, 8], abs=0.06), "by the logarithm of the width"
    dots = [y for _, y in lines_with(ax, ".")]
    seeds = [list(cell.values.values()) for cell in cells(sizes)]
    assert sorted(map(sorted, dots)) == sorted(map(sorted, seeds))


def test_a_facet_per_value_of_the_first_axis_has_the_second_one(sizes):
    axes = figure_of(facets_figure, sizes).axes
    means = means_by_place(sizes)
    assert len(axes) == 3
    assert len({ax.get_ylim() for ax in axes}) == 1, "facets share their scale"
    for size, ax in enumerate(axes):
        ((x, y),) = lines_with(ax, "o")
        assert x == pytest.approx(RATES)
        assert y == pytest.approx([means[size, rate] for rate in range(2)])
        assert len(lines_with(ax, ".")) == 2


def test_ticks_name_all_fields_of_an_axis_and_the_legend_all_lines(sizes):
    shown = words(figure_of(grid_figure, sizes))
    assert {"64\n2 heads", "128\n4 heads", "256\n8 heads"} <= set(shown)
    assert {"rate 0.0005", "rate 0.001", "embed_dim (logarithmic)", "top1"} <= set(shown)
    shown = words(figure_of(facets_figure, sizes))
    assert {"embed_dim 64, 2 heads", "embed_dim 256, 8 heads", "0.0005", "0.001"} <= set(shown)


@pytest.mark.parametrize(
    ("values", "positions", "remark"),
    [
        ([64, 128, 256], [6, 7, 8], "logarithmic"),
        ([32, 64, 256], [5, 6, 8], "logarithmic"),
        ([5e-4, 1e-3], [5e-4, 1e-3], ""),
        ([0.0, 0.1, 0.2], [0.0, 0.1, 0.2], ""),
        ([0.0, 0.01, 1.0], [0, 1, 2], "not to scale"),
        ([1, 2, 3, 200], [0, 1, 2, 3], "not to scale"),
        (["sin", "none"], [0, 1], ""),
        ([None, 1.0], [0, 1], ""),
        ([False, True], [0, 1], ""),
        ([math.inf, 1.0], [0, 1], ""),
        ([1, True], [0, 1], ""),
    ],
    ids=str,
)
def test_numbers_are_placed_to_scale_where_that_can_be_read(values, positions, remark):
    scale = scale_of(Axis(("field",), tuple((value,) for value in values)))
    assert scale.positions == pytest.approx(positions)
    assert scale.remark == remark


@given(st.lists(st.floats(-1e6, 1e6) | st.integers(1, 4096), min_size=2, max_size=8, unique=True))
def test_numbers_keep_their_order_and_their_distance(values):
    scale = scale_of(Axis(("field",), tuple((value,) for value in values)))
    ordered = range(len(values)) if scale.remark == "not to scale" else sorted(values)
    by_position = sorted(range(len(values)), key=scale.positions.__getitem__)
    if scale.remark == "not to scale":
        assert by_position == list(ordered)
    else:
        assert [values[index] for index in by_position] == ordered
    assert scale.gap > 0
    span = max(scale.positions) - min(scale.positions)
    assert scale.gap >= 0.2 * span / (len(values) - 1), "ticks do not touch"


def test_words_count_what_is_counted():
    axis = Axis(("embed_dim", "num_heads", "n_layers", "kind"), ((64, 2, 3, "a"), (128, 4, 6, "b")))
    assert words_of(axis, 1) == ["128", "4 heads", "6 layers", "kind b"]


# --- what is missing ------------------------------------------------------------------------------


def test_runs_without_a_value_are_a_cross_with_a_word_at_the_bottom():
    whole = [[256, 5e-4, seed] for seed in range(3)]
    study = result(diverging=[*whole, [128, 1e-3, 1]])
    lost = {cell.place: cell.lost for cell in cells(study) if cell.lost}
    assert lost == {(2, 0): "diverged", (1, 1): "1 of 3 diverged"}
    figure = figure_of(grid_figure, study)
    (ax,) = figure.axes
    crosses = [x for x, _ in lines_with(ax, "x")]
    assert crosses == [[8], [7]]
    ((_, y),) = lines_with(ax, "o")
    assert len(y) == 2, "a cell without a value is no part of its line"
    assert {"diverged", "1 of 3 diverged"} <= set(words(figure))
    assert any("a cross at the bottom" in text for text in words(figure))
    assert_readable(figure)
    facets = figure_of(facets_figure, study)
    assert [len(lines_with(ax, "x")) for ax in facets.axes] == [0, 1, 1]
    assert_readable(facets)


def test_crosses_stand_above_each_other_and_below_all_values():
    axes = (Axis(("a",), ((1,), (2,))), Axis(("b",), tuple((i,) for i in range(5))))
    places = list(itertools.product(range(2), range(5)))
    found = [Cell(place, {0: 0.5, 1: 0.6}, "1 of 3 diverged") for place in places]
    for make in (grid_figure, facets_figure):
        figure = made(make, found, Grid(axes, {}), "top1", "title")
        assert_readable(figure)
        for ax in figure.axes:
            bottom, top = ax.get_ylim()
            heights = [bottom + y[0] * (top - bottom) for _, y in lines_with(ax, "x")]
            assert max(heights) < 0.5


def test_one_seed_is_said_to_be_one():
    figure = figure_of(grid_figure, result(seeds=1))
    assert lines_with(figure.axes[0], ".") == []
    assert "one seed: differences may be chance" in words(figure)


# --- the image ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [grid_figure, facets_figure])
def test_many_long_and_odd_values_stay_readable(kind):
    odd = ("$x^{_", "实验 " * 5, "sinusoidal_position_embedding_of_the_first_kind", "a\nb", "Σ")
    axes = (
        Axis(("first_of_the_fields", "second"), tuple((word, i) for i, word in enumerate(odd))),
        Axis(("learning_rate",), tuple((1e-5 * 2**i,) for i in range(9))),
    )
    places = itertools.product(range(5), range(9))
    found = [Cell(place, {0: 0.1 * sum(place), 1: 0.1}) for place in places]
    figure = made(kind, found, Grid(axes, {}), "a_rather_$long_metric" * 3, "t$" * 99)
    assert_readable(figure)


def test_of_many_lines_each_looks_different():
    axes = (Axis(("a",), ((1,), (2,))), Axis(("b",), tuple((i,) for i in range(30))))
    found = [Cell(place, {0: 0.5 + place[1]}) for place in itertools.product(range(2), range(30))]
    (ax,) = made(grid_figure, found, Grid(axes, {}), "top1", "title").axes
    looks = {(str(line.get_color()), str(line._dash_pattern), line.get_marker())
             for line in ax.lines}  # fmt: skip
    assert len(looks) == 30


def test_equal_values_have_an_axis_too():
    axes = (Axis(("a",), ((1,), (2,))),)
    found = [Cell((0,), {0: 0.5}), Cell((1,), {0: 0.5})]
    figure = made(grid_figure, found, Grid(axes, {}), "top1", "title")
    low, high = figure.axes[0].get_ylim()
    assert 0.4 < low < 0.5 < high < 0.6


def test_the_same_records_give_the_same_bytes_and_others_do_not(tmp_path, sizes):
    first = drawn_bytes(draw_grid, sizes, tmp_path / "first")
    assert sorted(first) == ["sizes-facets.png", "sizes-grid.png"]
    assert drawn_bytes(draw_grid, sizes, tmp_path / "second") == first
    changed = drawn_bytes(draw_grid, result(shift=1e-4), tmp_path / "second")
    assert all(changed[name] != first[name] for name in first)
    for name in first:
        assert_bare(tmp_path / "first" / "figures" / name)


def test_a_report_has_a_heading_per_figure_and_no_plot_of_changes(tmp_path, sizes):
    figures = draw_studies([sizes], tmp_path)
    text = markdown([sizes], SessionFacts("quick", 18, 18, 0, (), figures.pictures))
    lines = section(text, "### top1 against embed\\_dim")
    assert "](figures/sizes-grid.png)" in lines
    assert "128 4 heads 0.001: 0.7450" in lines, "the figure in words"
    assert "](figures/sizes-facets.png)" in section(text, "### top1 by rate")
    assert "### Changes" not in text


def test_one_axis_has_one_figure_and_three_have_none(tmp_path):
    one = result({"rate": [5e-4, 1e-3, 2e-3]})
    assert list(drawn_bytes(draw_grid, one, tmp_path / "one")) == ["sizes-grid.png"]
    three = result({"embed_dim": [64, 128], "rate": RATES, "dropout": [0.1, 0.2]}, seeds=1)
    assert draw_grid(three, tmp_path / "three") == []


def test_other_studies_have_no_figure_of_a_grid(tmp_path):
    study = Study("plain", train=accuracy, variants=[Variant("wide", embed_dim=128)],
                  baseline={"embed_dim": 64, "num_heads": 2, "rate": 5e-4, "shift": 0.0,
                            "diverging": []},
                  metrics=["top1"], quick=Mode(seeds=2))  # fmt: skip
    assert draw_grid(result_of(study), tmp_path) == []
