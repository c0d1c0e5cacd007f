"""Heat maps as pictures: the right numbers, readable labels, the same bytes."""

import itertools
import warnings
from collections import defaultdict

import numpy as np
import pytest
from sample_heat_maps import VALUES, make_maps, texts_in

from pytest_ablation import heat_map_drawing
from pytest_ablation.heat_map_drawing import all_png, one_png, write_all, write_one


def drawn_files(folder, maps, loads=None):
    def load():
        if loads is not None:
            loads.append(1)
        return maps

    one, every = folder / "one.png", folder / "all.png"
    drawn = write_one(one, maps.texts, load, "t"), write_all(every, maps.texts, load, "t")
    return drawn, (one.read_bytes(), every.read_bytes())


def test_the_same_maps_give_the_same_bytes_and_are_not_drawn_or_loaded_twice(tmp_path):
    first, loads = drawn_files(tmp_path / "a", make_maps()), []
    assert first[0] == (True, True)
    assert drawn_files(tmp_path / "a", make_maps(), loads) == ((False, False), first[1])
    assert loads == []
    assert drawn_files(tmp_path / "b", make_maps()) == first


@pytest.mark.parametrize(
    "other",
    [
        make_maps(VALUES / 2),
        make_maps(rows=["other", "row1"]),
        make_maps(measure="weight"),
        make_maps(panels=["a", "b"]),
    ],
)
def test_other_maps_are_drawn_anew(tmp_path, other):
    _, first = drawn_files(tmp_path, make_maps())
    drawn, second = drawn_files(tmp_path, other)
    assert drawn == (True, True)
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_no_date_no_path_and_no_program_stands_in_a_picture():
    for png in (one_png(make_maps(), "t", 0, "d"), all_png(make_maps(), "t", "d")):
        found, width = texts_in(png)
        assert found == {"Digest": "d"}
        assert width == 1350
        assert b"tIME" not in png


@pytest.fixture
def figure_of(monkeypatch):
    """The figure in place of its PNG."""
    monkeypatch.setattr(heat_map_drawing, "png_of", lambda figure, digest: figure)
    return lambda draw, *arguments: draw(*arguments)


def random_maps(panels, words, **changes):
    values = np.random.default_rng(0).random((panels, words, words))
    labels = [f"word{n}" for n in range(words)]
    return make_maps(values, **{"rows": labels, "columns": labels, "measure": "weight", **changes})


def test_the_large_picture_shows_one_panel_with_its_own_scale(figure_of):
    maps = random_maps(3, 4, row_axis="from", column_axis="to")
    assert maps.values[2].max() < maps.values.max()
    figure = figure_of(one_png, maps, "title", 2)
    ax, bar = figure.axes
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), maps.values[2])
    assert image.get_clim() == (0, maps.values[2].max())
    assert figure.texts[0].get_text() == "title: layer 1, head 3"
    assert (ax.get_ylabel(), ax.get_xlabel(), bar.get_ylabel()) == ("from", "to", "weight")
    assert [t.get_text() for t in ax.get_yticklabels()] == list(maps.rows)
    assert [t.get_text() for t in ax.get_xticklabels()] == list(maps.columns)


def test_the_grid_shows_every_panel_on_one_scale(figure_of):
    maps = random_maps(7, 30, across=3, leading=4)
    figure = figure_of(all_png, maps, "title")
    *panels, _ = figure.axes
    assert len(panels) == 7
    for panel, (ax, name) in enumerate(zip(panels, maps.panels, strict=True)):
        np.testing.assert_array_equal(ax.images[0].get_array(), maps.values[panel])
        assert ax.images[0].get_clim() == (0, maps.values.max())
        title = ax.get_title(loc="left")
        assert title == name
        assert (ax._left_title.get_weight() == "bold") == (panel == 4)
    lines = defaultdict(list)
    for ax in panels:
        lines[round(ax.get_position().y0, 3)].append(ax.get_position().x0)
    assert [len(line) for line in lines.values()] == [3, 3, 1]
    assert all(line == sorted(line) for line in lines.values())
    assert "labels are too many" in figure.texts[1].get_text()


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.7), (-1, -0.5), (-2, 3), (0, 0), (4, 4)])
def test_the_scale_has_room_for_zero_and_for_all_values(figure_of, low, high):
    maps = make_maps(np.linspace(low, high, 12).reshape(2, 2, 3))
    image = figure_of(all_png, maps, "title").axes[0].images[0]
    bottom, top = image.get_clim()
    assert bottom == min(0, low)
    assert top == max(0, high) or low == high == 0
    assert bottom < top


def boxes_of(figure, texts):
    renderer = figure.canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in texts if text.get_text()]


@pytest.mark.parametrize("words", [1, 24, 200])
@pytest.mark.parametrize("word", ["word", "a rather long label of many characters "])
@pytest.mark.parametrize("draw", [one_png, all_png])
def test_labels_are_large_enough_apart_from_each_other_and_inside(figure_of, words, word, draw):
    labels = [f"{word}{n}" for n in range(words)]
    maps = random_maps(4, words, rows=labels, columns=labels, row_axis="from", column_axis="to")
    figure = figure_of(draw, maps, "title", *([0] if draw is one_png else []))
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    ax = figure.axes[0]
    for tick_labels in (ax.get_yticklabels(), ax.get_xticklabels()):
        boxes = boxes_of(figure, tick_labels)
        assert len(boxes) >= min(words, 24) or draw is all_png
        assert all(text.get_size() >= 7 for text in tick_labels)
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
    outer = [*ax.get_yticklabels(), *ax.get_xticklabels(), ax.xaxis.label, ax.yaxis.label]
    titles = [axes._left_title for axes in figure.axes]
    for box in boxes_of(figure, [*outer, *titles, *figure.texts]):
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height


@pytest.mark.parametrize(
    "label", ["$x_1$ and $y^2$", "$", r"\frac{", "中文字", "a\nb", "\ud800", "", "👍", "\x07"]
)
def test_any_label_is_drawn_as_it_is_without_a_warning(monkeypatch, label):
    labels = [label, "b"]
    maps = make_maps(
        VALUES[:, :, :2], rows=labels, columns=labels, panels=[label, "p"], row_axis=label,
        column_axis=label, measure=label,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one_png(maps, label, 0)
        assert all_png(maps, label)
    monkeypatch.setattr(heat_map_drawing, "png_of", lambda figure, digest: figure)
    shown = one_png(maps, label, 0).axes[0].get_yticklabels()[0]
    assert shown.get_text() == {"a\nb": "a b", "\ud800": "?"}.get(label, label)
    assert not shown.get_parse_math()
