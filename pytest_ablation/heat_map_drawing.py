"""Heat maps as PNGs: one panel large with its labels, or all panels side by side.

Heat maps go in, bytes come out, the same ones for the same maps. Knows no study and no run;
matplotlib is imported only when there is something to draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_ablation.heat_maps import HeatMaps, HeatMapTexts
from pytest_ablation.images import (
    GREY,
    WIDTH,
    fonts_for,
    new_figure,
    own_settings,
    png_of,
    shortened,
    source_digest,
    width_of,
    write_image,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Inches and points. At 9 inches over 900 pixels, 7 points are 10 pixels.
_SMALLEST, _LARGEST = 7.0, 9.0  # sizes of labels
_LARGEST_CELL = 0.8
_LONGEST_LABEL = 20
_HEAD, _BAR, _EDGE = 0.45, 0.95, 0.12  # title; colour bar with its label; what stays white
_LEAST_BAR = 1.4
_AXIS_NAME = 0.3
_GAP, _TITLE = 0.14, 0.24  # between panels; above each
_LEAST_LABELLED_CELL = 8.5 / 72  # narrower cells have no labels where all panels are drawn
_COLOURS = "viridis"  # perceptually uniform, and so in grey and to the colour-blind


def write_one(
    path: Path,
    texts: HeatMapTexts,
    load: Callable[[], HeatMaps],
    title: str,
    panel: int | None = None,
) -> bool:
    """Draw one panel large, whole or not at all; returns whether it had to be drawn.

    A file that was drawn from the same maps by the same code is left as it is, and the numbers are
    not even loaded.

    Parameters
    ----------
    path : Path
    texts : HeatMapTexts
    load : callable
        Gives the maps whose texts these are.
    title : str
        Stands above the panel, before the panel's name.
    panel : int, optional
        The panel's index; the leading one where not given.

    Raises
    ------
    OSError
        The folder or the file cannot be written.
    """
    shown = texts.leading if panel is None else panel
    digest = source_digest([texts, title, shown], __file__)
    return write_image(path, digest, lambda d: one_png(load(), title, shown, d))


def write_all(path: Path, texts: HeatMapTexts, load: Callable[[], HeatMaps], title: str) -> bool:
    """Draw all panels on one scale of colours; see :func:`write_one`."""
    digest = source_digest([texts, title, "all"], __file__)
    return write_image(path, digest, lambda d: all_png(load(), title, d))


def one_png(maps: HeatMaps, title: str, panel: int, digest: str = "") -> bytes:
    """One panel as PNG on a scale of its own, its rows and columns labelled.

    Where there are more labels than can be read, only some are written, at equal distances.
    """
    with own_settings():
        rows, columns = _labels(maps.rows), _labels(maps.columns)
        left, foot = (_AXIS_NAME + _longest(labels) for labels in (rows, columns))
        room = WIDTH - left - _BAR - _EDGE
        width = min(room, _LARGEST_CELL * len(columns))
        height = min(max(width * len(rows) / len(columns), 1.0), 1.3 * room)
        figure = new_figure(_HEAD + height + foot + _EDGE)
        _draw_title(figure, f"{title}: {maps.panels[panel]}")
        ax = _axes(figure, _Box(left, _HEAD, width, height))
        image = _draw_panel(ax, maps.values[panel], scaled_by=maps.values[panel])
        _set_labels(ax, rows, columns, (height / len(rows), width / len(columns)))
        ax.set_ylabel(_one_line(maps.row_axis, 40), size=9, parse_math=False)
        ax.set_xlabel(_one_line(maps.column_axis, 60), size=9, parse_math=False)
        _draw_bar(figure, image, maps, _Box(left + width + 0.2, _HEAD, 0.16, height))
        return png_of(figure, digest)


def all_png(maps: HeatMaps, title: str, digest: str = "") -> bytes:
    """All panels as PNG, ``maps.across`` in a line, on one scale of colours.

    The leading panel's name is bold. Rows and columns are labelled where there is room for it.
    """
    with own_settings():
        across = min(maps.across, len(maps.panels))
        lines = -(-len(maps.panels) // across)
        box, label_room = _panel_box(maps, across)
        step = _Box(0, 0, box.width + label_room[0] + _GAP, box.height + label_room[1] + _TITLE)
        foot = 0.3
        content = max(lines * (step.height + _GAP), _LEAST_BAR + _TITLE + _GAP)
        figure = new_figure(_HEAD + content + foot)
        _draw_title(figure, title)
        for panel in range(len(maps.panels)):
            x = _EDGE + label_room[0] + panel % across * step.width
            y = _HEAD + _TITLE + panel // across * (step.height + _GAP)
            ax = _axes(figure, box._replace(x=x, y=y))
            image = _draw_panel(ax, maps.values[panel], scaled_by=maps.values)
            _name_panel(ax, maps, panel, box.width)
            if any(label_room):
                cell = box.height / len(maps.rows), box.width / len(maps.columns)
                _set_labels(ax, _labels(maps.rows), _labels(maps.columns), cell)
            else:
                ax.set(xticks=[], yticks=[])
        bar_height = min(content - _TITLE - _GAP, 3.5)
        _draw_bar(figure, image, maps, _Box(WIDTH - _BAR + 0.12, _HEAD + _TITLE, 0.16, bar_height))
        _draw_foot(figure, maps, is_labelled=any(label_room))
        return png_of(figure, digest)


class _Box(NamedTuple):
    """A place in a figure in inches; *y* runs downwards from the top."""

    x: float
    y: float
    width: float
    height: float


def _panel_box(maps: HeatMaps, across: int) -> tuple[_Box, tuple[float, float]]:
    """The size of a panel where all are drawn, and the room for labels left of and below it."""
    labelled = _longest(_labels(maps.rows)), _longest(_labels(maps.columns))
    for room in (labelled, (0.0, 0.0)):
        width = (WIDTH - _EDGE - _BAR) / across - _GAP - room[0]
        width = min(width, _LARGEST_CELL * len(maps.columns))
        height = min(max(width * len(maps.rows) / len(maps.columns), 0.4), 2 * max(width, 0.4))
        cell = min(width / len(maps.columns), height / len(maps.rows))
        if cell >= _LEAST_LABELLED_CELL:
            break
    return _Box(0, 0, width, height), room


def _draw_panel(ax: Axes, values: np.ndarray, scaled_by: np.ndarray) -> AxesImage:
    """Draw *values* on a scale that has room for 0 and for all of *scaled_by*."""
    low, high = min(0.0, float(scaled_by.min())), max(0.0, float(scaled_by.max()))
    if low == high:
        high = 1.0
    ax.spines[:].set(linewidth=0.5, color=GREY)
    return ax.imshow(
        values, cmap=_COLOURS, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
    )


def _set_labels(
    ax: Axes, rows: Sequence[str], columns: Sequence[str], cell: tuple[float, float]
) -> None:
    """Label rows and columns whose cells have these inches (height, width)."""
    for axis, labels, inches in ((ax.yaxis, rows, cell[0]), (ax.xaxis, columns, cell[1])):
        every = math.ceil(1.05 * _SMALLEST / (72 * inches))
        size = min(max(0.8 * 72 * inches * every, _SMALLEST), _LARGEST)
        shown = range(0, len(labels), every)
        axis.set_ticks(shown, [labels[index] for index in shown])
        for text, index in zip(axis.get_ticklabels(), shown, strict=True):
            text.set(parse_math=False, size=size, family=fonts_for(labels[index]))
    ax.tick_params(axis="x", labelrotation=90)
    ax.tick_params(length=2, width=0.5, pad=2)


def _name_panel(ax: Axes, maps: HeatMaps, panel: int, width: float) -> None:
    name = maps.panels[panel]
    size = min(max(72 * width / (0.62 * max(1, width_of(name))), _SMALLEST), _LARGEST)
    most = max(4, int(72 * (width + _GAP) / (0.6 * size)))
    weight = "bold" if panel == maps.leading and len(maps.panels) > 1 else "normal"
    ax.set_title(_one_line(name, most), size=size, loc="left", pad=3, weight=weight,
                 parse_math=False, family=fonts_for(name))  # fmt: skip


def _draw_bar(figure: Figure, image: AxesImage, maps: HeatMaps, box: _Box) -> None:
    bar = figure.colorbar(image, cax=_axes(figure, box))
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set(linewidth=0.5, edgecolor=GREY)
    bar.ax.set_ylabel(_one_line(maps.measure, 40), size=9, parse_math=False)


def _draw_title(figure: Figure, title: str) -> None:
    figure.text(
        0.1 / WIDTH, 1 - 0.12 / figure.get_figheight(), _one_line(title, 90), size=11.5,
        weight="bold", va="top", parse_math=False, family=fonts_for(title),
    )  # fmt: skip


def _draw_foot(figure: Figure, maps: HeatMaps, is_labelled: bool) -> None:
    parts = [f"rows: {maps.row_axis}, from top to bottom" if maps.row_axis else "",
             f"columns: {maps.column_axis}, from left to right" if maps.column_axis else "",
             "" if is_labelled else "the labels are too many for this size"]  # fmt: skip
    text = "; ".join(part for part in parts if part)
    figure.text(0.1 / WIDTH, 0.1 / figure.get_figheight(), _one_line(text, 130), size=8,
                color=GREY, va="bottom", parse_math=False)  # fmt: skip


def _axes(figure: Figure, box: _Box) -> Axes:
    height = figure.get_figheight()
    bottom = height - box.y - box.height
    return figure.add_axes((box.x / WIDTH, bottom / height, box.width / WIDTH, box.height / height))


def _labels(labels: Sequence[str]) -> list[str]:
    return [_one_line(label, _LONGEST_LABEL) for label in labels]


def _one_line(text: str, most: int) -> str:
    """*text* as it can be drawn: in one line, of characters that there are."""
    encodable = text.encode("utf-8", "replace").decode()
    return shortened(" ".join(encodable.split()), most)


def _longest(labels: Sequence[str]) -> float:
    """The inches that the longest of the labels takes."""
    return 0.62 * _LARGEST / 72 * max(2, *map(width_of, labels)) + 0.08
