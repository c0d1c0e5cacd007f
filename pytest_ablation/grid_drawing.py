"""A grid's cells as two figures: lines over the first axis, and the second axis facet by facet.

A study's result goes in, the plotted numbers and then PNGs come out, the same ones for the same
numbers. matplotlib is imported only when there is something to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_ablation import grid_points
from pytest_ablation.grid_points import Cell, cells, in_words, scale_of, words_of
from pytest_ablation.grids import Axis, Grid
from pytest_ablation.images import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    REMARK_HEIGHT,
    SKY,
    VERMILION,
    WIDTH,
    Picture,
    axes_at,
    draw_remarks,
    draw_title,
    fonts_for,
    new_figure,
    plain_axes,
    shortened,
    source_digest,
    width_of,
    write_figure,
)
from pytest_ablation.results import StudyResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
_LEFT, _RIGHT, _HEAD, _FOOT = 0.75, 0.15, 0.45, 0.12
_HEIGHT, _FACET_HEIGHT, _FACET_TITLE = 3.6, 2.4, 0.26
_CHARACTER, _LINE, _AXIS_NAME = 0.07, 0.16, 0.32  # of tick labels; the axis' name
_LOST_LINE = 0.19  # of a cross and its word
_MOST_FACETS = 4  # side by side

# Of 35 lines each has another pair of colour and style, for 7 and 5 share no divisor.
_COLOURS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, BLACK)
_DASHES: tuple[Any, ...] = (
    "solid", (0, (5, 1.8)), (0, (1.2, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
_DOTS = 6.0  # points from a mean to its seeds
_MARKERS = "os^DvX"


def draw_grid(study: StudyResult, folder: Path) -> list[Picture]:
    """Draw a grid's leading metric into ``folder/figures``.

    ``<study>-grid.png`` has it over the first axis, a line per value of the second;
    ``<study>-facets.png`` over the second axis, a facet per value of the first. With one axis there
    is only the first figure; a grid of more than two axes has none.
    """
    plan = study.plan
    found = [cell for cell in cells(study) if cell.values or cell.lost]
    if plan.grid is None or len(plan.grid.axes) > 2 or not any(cell.values for cell in found):
        return []
    kinds = [False, True][: len(plan.grid.axes)]
    return [_draw(study, found, folder, by_facets=by_facets) for by_facets in kinds]


def _draw(study: StudyResult, found: Sequence[Cell], folder: Path, *, by_facets: bool) -> Picture:
    """Draw one of the two figures, unless its file already is this one."""
    plan = study.plan
    first, *others = (axis.name for axis in plan.grid.axes)
    if by_facets:
        kind, figure_of = "facets", facets_figure
        heading, parts = f"{plan.leading} by {others[0]}", f"a facet per {first}"
    else:
        kind, figure_of = "grid", grid_figure
        heading = f"{plan.leading} against {first}"
        parts = f"a line per {others[0]}" if others else "one line"
    file = f"figures/{plan.name}-{kind}.png"
    title = f"{plan.name} ({plan.mode}): {heading}"
    digest = source_digest([found, plan.grid, plan.leading, title], __file__, grid_points.__file__)
    write_figure(folder / file, digest, lambda: figure_of(found, plan.grid, plan.leading, title))
    explained = "; ".join([heading, parts, *_remarks(found)])
    return Picture(
        heading=heading,
        file=file,
        alt=f"{heading}, {parts}: {in_words(plan.grid, found)}",
        caption=f"{explained}. The numbers are in runs.csv.",
    )


def _remarks(found: Sequence[Cell]) -> list[str]:
    """What a reader must know of lines and marks, as far as these cells have them."""
    counts = [len(cell.values) for cell in found if cell.values]
    parts = []
    if max(counts) > 1:
        parts.append("lines and large marks: mean over the seeds, small dots: single seeds")
    else:
        parts.append("one seed: differences may be chance")
    if any(cell.lost for cell in found):
        parts.append("a cross at the bottom: runs of this cell that have no value")
    return parts


# --- drawing --------------------------------------------------------------------------------------


class _Style(NamedTuple):
    color: str
    dashes: Any
    marker: str


def _style(index: int) -> _Style:
    return _Style(*(of[index % len(of)] for of in (_COLOURS, _DASHES, _MARKERS)))


def grid_figure(found: Sequence[Cell], grid: Grid, metric: str, title: str) -> Figure:
    """The metric over the first axis, a line per value of the second.

    Parameters
    ----------
    found : at least one cell with values
    grid : of one or two axes
    metric : what is drawn upwards
    title : the line above
    """
    first, *others = grid.axes
    lines = _by_place(found, 1) if others else {0: list(found)}
    labels = [_legend_words(others[0], index) for index in lines] if others else []
    width = WIDTH - _LEFT - _RIGHT
    rows, columns = _legend_shape(labels)
    ticks = _Ticks(first, width)
    remarks = _remarks(found)
    head = _HEAD + 0.24 * rows
    foot = ticks.height + _AXIS_NAME + _FOOT + REMARK_HEIGHT * len(remarks)
    figure = new_figure(head + _HEIGHT + foot)
    draw_title(figure, title)
    draw_remarks(figure, remarks)
    ax = axes_at(figure, _LEFT, head, width, _HEIGHT)
    lost = _lost_of(ticks, lines)
    _set_axes(ax, ticks, _limits(found, lost, _HEIGHT), shortened(metric, 45))
    dodge = 0.1 * ticks.scale.gap / max(1, len(lines))
    for number, (index, of_line) in enumerate(lines.items()):
        shift = dodge * (number - (len(lines) - 1) / 2)
        _draw_cells(ax, ticks, of_line, _style(index), shift)
    _draw_lost(ax, lost, _HEIGHT)
    if labels:
        _draw_legend(figure, [_style(index) for index in lines], labels, columns)
    return figure


def facets_figure(found: Sequence[Cell], grid: Grid, metric: str, title: str) -> Figure:
    """The metric over the second axis, a facet per value of the first; see :func:`grid_figure`."""
    first, second = grid.axes
    facets = _by_place(found, 0)
    down = -(-len(facets) // _MOST_FACETS)
    across = -(-len(facets) // down)
    gap = 0.2
    width = (WIDTH - _LEFT - _RIGHT - gap * (across - 1)) / across
    ticks = _Ticks(second, width)
    remarks = _remarks(found)
    below = ticks.height + _AXIS_NAME
    step = _FACET_TITLE + _FACET_HEIGHT + below
    figure = new_figure(_HEAD + down * step + _FOOT + REMARK_HEIGHT * len(remarks))
    draw_title(figure, title)
    draw_remarks(figure, remarks)
    lost = {index: _lost_of(ticks, {0: of}, axis=1) for index, of in facets.items()}
    most = max(lost.values(), key=lambda of: max((one.level for one in of), default=-1))
    limits = _limits(found, most, _FACET_HEIGHT)
    for number, (index, of_facet) in enumerate(facets.items()):
        left = _LEFT + number % across * (width + gap)
        top = _HEAD + number // across * step + _FACET_TITLE
        ax = axes_at(figure, left, top, width, _FACET_HEIGHT)
        _set_axes(ax, ticks, limits, shortened(metric, 30) if number % across == 0 else "")
        name = shortened(_legend_words(first, index), int(width / _CHARACTER))
        ax.set_title(name, size=9, loc="left", pad=5, parse_math=False, family=fonts_for(name))
        _draw_cells(ax, ticks, of_facet, _style(0), 0.0, axis=1)
        _draw_lost(ax, lost[index], _FACET_HEIGHT)
    return figure


class _Ticks:
    """The ticks of an axis that is *width* inches long: places, labels, the room below."""

    def __init__(self, axis: Axis, width: float) -> None:
        self.width = width
        self.scale = scale_of(axis)
        self.name = axis.name + (f" ({self.scale.remark})" if self.scale.remark else "")
        lines = [words_of(axis, index) for index in range(len(axis.values))]
        low, high = min(self.scale.positions), max(self.scale.positions)
        self.limits = low - 0.4 * self.scale.gap, high + 0.4 * self.scale.gap
        room = width * self.scale.gap / (self.limits[1] - self.limits[0])
        longest = _CHARACTER * max(width_of(word) for words in lines for word in words)
        self.is_upright = longest > room
        self.labels = [(", " if self.is_upright else "\n").join(words) for words in lines]
        self.height = _LINE * max(map(len, lines)) + 0.06
        if self.is_upright:
            self.height = _CHARACTER * max(map(width_of, self.labels)) + 0.06


def _by_place(found: Sequence[Cell], axis: int) -> dict[int, list[Cell]]:
    """The cells by the index of their value on one axis, in its order."""
    indices = sorted({cell.place[axis] for cell in found})
    return {index: [cell for cell in found if cell.place[axis] == index] for index in indices}


def _set_axes(ax: Axes, ticks: _Ticks, limits: tuple[float, float], metric: str) -> None:
    plain_axes(ax)
    ax.set_xlim(*ticks.limits)
    ax.set_xticks(ticks.scale.positions, ticks.labels, rotation=90 if ticks.is_upright else 0)
    for text in ax.get_xticklabels():
        text.set(parse_math=False, family=fonts_for(text.get_text()))
    ax.set_xlabel(ticks.name, size=9, parse_math=False, family=fonts_for(ticks.name))
    ax.set_ylim(*limits)
    ax.ticklabel_format(axis="y", useOffset=False, style="plain")
    if metric:
        ax.set_ylabel(metric, size=9, parse_math=False)
    else:
        ax.tick_params(labelleft=False)


def _limits(found: Sequence[Cell], lost: Sequence[_Lost], height: float) -> tuple[float, float]:
    """From the lowest to the highest seed, with room for the crosses at the bottom."""
    values = [value for cell in found for value in cell.values.values()]
    low, high = min(values), max(values)
    span = high - low or 0.02 * abs(high) or 1.0
    levels = max((one.level + 1 for one in lost), default=0)
    share = min(0.6, _LOST_LINE * levels / height)  # of the axes' height
    return low - (0.07 + share / (1 - share)) * span, high + 0.07 * span


def _draw_cells(
    ax: Axes, ticks: _Ticks, of_line: Sequence[Cell], style: _Style, shift: float, axis: int = 0
) -> None:
    """A line through the means of cells, and beside each a dot per seed where there are several."""
    from matplotlib.transforms import ScaledTranslation

    known = [cell for cell in of_line if cell.values]
    placed = [(ticks.scale.positions[cell.place[axis]] + shift, cell) for cell in known]
    placed.sort(key=lambda pair: pair[0])
    beside = ax.transData + ScaledTranslation(_DOTS / 72, 0, ax.figure.dpi_scale_trans)
    for x, cell in placed:
        if len(cell.values) > 1:
            ax.plot([x] * len(cell.values), list(cell.values.values()), ".", color=style.color,
                    alpha=0.6, markersize=5.5, markeredgewidth=0, transform=beside)  # fmt: skip
    ax.plot(
        [x for x, _ in placed], [cell.mean for _, cell in placed], color=style.color,
        linestyle=style.dashes, linewidth=1.6, marker=style.marker, markersize=6,
        markeredgecolor="white", markeredgewidth=0.6,
    )  # fmt: skip


class _Lost(NamedTuple):
    """A cross and its word: place on the axis, level above the bottom, colour."""

    x: float
    level: int
    word: str
    color: str
    align: str


def _lost_of(ticks: _Ticks, lines: Mapping[int, Sequence[Cell]], axis: int = 0) -> list[_Lost]:
    """What is told at the bottom, each on the lowest level where it covers no other."""
    low, high = ticks.limits
    levels: list[list[tuple[float, float]]] = []
    placed = []
    for index, of_line in lines.items():
        for cell in of_line:
            if not cell.lost:
                continue
            x = ticks.scale.positions[cell.place[axis]]
            align = "left" if x <= (low + high) / 2 else "right"
            reach = (_CHARACTER * len(cell.lost) + 0.2) * (high - low) / ticks.width
            span = (x, x + reach) if align == "left" else (x - reach, x)
            is_free = [all(span[1] < a or b < span[0] for a, b in taken) for taken in levels]
            level = is_free.index(True) if any(is_free) else len(levels)
            if level == len(levels):
                levels.append([])
            levels[level].append(span)
            placed.append(_Lost(x, level, cell.lost, _style(index).color, align))
    return placed


def _draw_lost(ax: Axes, lost: Sequence[_Lost], height: float) -> None:
    """The crosses and words at the bottom of axes of *height* inches."""
    for x, level, word, color, align in lost:
        y = _LOST_LINE * (level + 0.6) / height
        ax.plot(x, y, "x", color=color, markersize=6, markeredgewidth=1.8,
                transform=ax.get_xaxis_transform())  # fmt: skip
        ax.annotate(word, (x, y), (6 if align == "left" else -6, 0), textcoords="offset points",
                    xycoords=ax.get_xaxis_transform(), size=7.5, color=GREY, ha=align,
                    va="center")  # fmt: skip


def _legend_words(axis: Axis, index: int) -> str:
    return f"{axis.name} {', '.join(words_of(axis, index))}"


def _legend_shape(labels: Sequence[str]) -> tuple[int, int]:
    """Rows and columns of a legend, as many columns as fit."""
    if not labels:
        return 0, 0
    each = 0.62 + _CHARACTER * max(map(width_of, labels))
    columns = min(len(labels), max(1, int((WIDTH - 0.3) / each)))
    return -(-len(labels) // columns), columns


def _draw_legend(
    figure: Figure, styles: Sequence[_Style], labels: Sequence[str], columns: int
) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=style.color, linestyle=style.dashes, marker=style.marker,
                      linewidth=1.6, markersize=6) for style in styles]  # fmt: skip
    legend = figure.legend(handles, ["-"] * len(handles), loc="upper left", ncols=columns,
                           bbox_to_anchor=(0, 1 - 0.33 / figure.get_figheight()), frameon=False,
                           fontsize=9, handlelength=3.2)  # fmt: skip
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=label, parse_math=False, family=fonts_for(label))
