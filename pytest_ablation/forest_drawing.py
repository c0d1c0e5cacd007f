"""The changes of a study's variants as a forest plot: a line per variant, with its interval.

A study's result goes in, numbers by variant and then a PNG come out, the same one for the same
numbers. matplotlib is imported only when there is something to draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_ablation import forest_points
from pytest_ablation.forest_points import (
    Change,
    Changes,
    changes,
    in_words,
    limits_of,
    remarks,
    unit_of,
)
from pytest_ablation.images import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    REMARK_HEIGHT,
    VERMILION,
    WIDTH,
    Picture,
    axes_at,
    draw_remarks,
    draw_title,
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
_ROW, _LINE, _HEAD, _AXIS, _FOOT = 0.28, 0.14, 0.72, 0.5, 0.15
_CHARACTER, _SMALL_CHARACTER = 0.073, 0.066  # of a name
_LONGEST_NAME, _LONGEST_LINE = 32, 40  # longer names are smaller and take two lines
_COUNT, _GAP = 0.55, 0.12  # the first column on the right; between columns

_DOTS = 0.27  # so much of a line below the mark
# Marker, colour, and whether it is filled, by what came out.
_MARKS = {
    "worse": ("v", VERMILION, True),
    "better": ("^", BLUE, True),
    "no detectable change": ("s", GREEN, True),
    "inconclusive": ("o", ORANGE, False),
    "one seed": ("d", GREY, False),
}
_PROBLEM = ("x", GREY, True)


def draw_changes(study: StudyResult, folder: Path) -> list[Picture]:
    """Draw the leading metric's changes into ``folder/figures/<study>-changes.png``.

    Returns [] for a grid, whose cells are no components, and where no variant has a number.
    """
    plan = study.plan
    found = changes(study)
    if plan.grid is not None or all(line.value is None for line in found.lines):
        return []
    file = f"figures/{plan.name}-changes.png"
    what = "relative change" if found.is_relative else "change"
    title = f"{plan.name} ({plan.mode}): {what} of {plan.leading} against {found.baseline}"
    digest = source_digest([found, title], __file__, forest_points.__file__)
    write_figure(folder / file, digest, lambda: changes_figure(found, title))
    unit = unit_of(found)
    listed = "; ".join(in_words(found, line) for line in found.lines)
    return [
        Picture(
            heading="Changes",
            file=file,
            alt=f"{what} of {plan.leading} against {found.baseline}: {listed}",
            caption=f"{unit[0].upper()}{unit[1:]}; {'; '.join(remarks(found))}. The numbers are in "
            f"summary.csv.",
        )
    ]


# --- drawing --------------------------------------------------------------------------------------


def changes_figure(found: Changes, title: str) -> Figure:
    """The plot: a line of text and marks per variant; *title* is the line above."""
    told = _in_lines(remarks(found))
    labels = [_Label.of(found, line) for line in found.lines]
    left = 0.25 + max(label.width for label in labels)
    columns = _columns(found)
    width = WIDTH - left - sum(column.width + _GAP for column in columns) - 0.08
    height = max(_ROW, *(label.height for label in labels)) * len(labels)
    foot = _AXIS + _FOOT + REMARK_HEIGHT * len(told)
    figure = new_figure(_HEAD + height + foot)
    draw_title(figure, title)
    draw_remarks(figure, told)
    ax = axes_at(figure, left, _HEAD, width, height)
    plain_axes(ax)
    _set_axes(ax, found)
    _draw_names(ax, labels, width, height / len(labels))
    _draw_columns(ax, columns, width)
    for place, line in enumerate(found.lines):
        if line.value is not None:
            _draw_line(ax, place, line)
    return figure


def _set_axes(ax: Axes, found: Changes) -> None:
    """Limits, the line at 0, and the margins, which are a band as wide as each line's."""
    low, high = limits_of(found)
    ax.set(xlim=(low, high), ylim=(len(found.lines) - 0.5, -0.5), yticks=[])
    ax.spines["left"].set_visible(False)
    ax.ticklabel_format(axis="x", useOffset=False, style="plain")
    ax.set_xlabel(unit_of(found, 40), size=9, parse_math=False)
    edges = [place + side for place in range(len(found.lines)) for side in (-0.5, 0.5)]
    margins = [line.margin for line in found.lines for _ in range(2)]
    ax.fill_betweenx(edges, [-m for m in margins], margins, color="#DDE6EE", linewidth=0, zorder=0)
    ax.axvline(0, color=GREY, linewidth=1.0, zorder=1)


def _draw_line(ax: Axes, place: int, line: Change) -> None:
    """The mark of a variant at its mean, with its bar above the dots of the seeds."""
    marker, color, is_filled = _MARKS.get(line.outcome, _PROBLEM)
    if len(line.seeds) > 1:
        below = [place + _DOTS] * len(line.seeds)
        ax.plot(line.seeds, below, ".", color=GREY, alpha=0.55, markersize=5, markeredgewidth=0,
                zorder=2)  # fmt: skip
    if line.low is not None:
        _draw_bar(ax, place, line, color)
    ax.plot(line.value, place, marker, color=color, markersize=7, markeredgewidth=1.4, zorder=4,
            markerfacecolor=color if is_filled else "white")  # fmt: skip


def _draw_bar(ax: Axes, place: int, line: Change, color: str) -> None:
    """The interval, with an arrow where it goes on beyond the axis."""
    low, high = ax.get_xlim()
    ends = max(line.low, low), min(line.high, high)
    ax.plot(ends, [place] * 2, color=color, linewidth=2.0, solid_capstyle="butt", zorder=3)
    for end, is_cut, arrow in ((low, line.low < low, "<"), (high, line.high > high, ">")):
        if is_cut:
            ax.plot(end, place, arrow, color=color, markersize=6, clip_on=False, zorder=3)


@dataclass(frozen=True)
class _Label:
    """A line's name in one or two lines, and what it is compared with, where it must be told."""

    lines: tuple[str, ...]
    against: str

    @classmethod
    def of(cls, found: Changes, line: Change) -> _Label:
        name = ", ".join(line.names)
        against = "" if line.baseline == found.baseline else f"against {line.baseline}"
        return cls(_in_two(name), shortened(against, _LONGEST_LINE))

    @property
    def size(self) -> float:
        """In points."""
        return 8.5 if len(self.lines) == 1 else 7.5

    @property
    def width(self) -> float:
        """In inches."""
        character = _CHARACTER if len(self.lines) == 1 else _SMALL_CHARACTER
        of_name = character * max(map(width_of, self.lines))
        return max(of_name, _SMALL_CHARACTER * len(self.against), _CHARACTER * len("variant"))

    @property
    def height(self) -> float:
        return _LINE * (len(self.lines) + bool(self.against)) + 0.06


def _in_two(name: str) -> tuple[str, ...]:
    """A name in one line, or where it is long in two, broken behind the mark next to its middle."""
    if len(name) <= _LONGEST_NAME:
        return (name,)
    name = shortened(name, 2 * _LONGEST_LINE)
    marks = [place for place, letter in enumerate(name, 1) if letter in " -_.+@…"]
    middle = len(name) // 2
    place = min(marks, key=lambda place: abs(place - middle), default=middle)
    if max(place, len(name) - place) > _LONGEST_LINE:
        place = middle
    return name[:place], name[place:]


def _draw_names(ax: Axes, labels: Sequence[_Label], width: float, row: float) -> None:
    """The names on the left of axes of *width* inches, each in the middle of its *row* inches."""
    x = -0.12 / width
    _write(ax, x, -0.8, "variant", "right", 8, GREY)
    for place, label in enumerate(labels):
        parts = [(text, label.size, "black") for text in label.lines]
        parts += [(label.against, 7.0, GREY)] * bool(label.against)
        for number, (text, size, color) in enumerate(parts):
            y = place + (number - (len(parts) - 1) / 2) * _LINE / row
            _write(ax, x, y, text, "right", size, color)


class _Column(NamedTuple):
    """Words beside the axes: their head, a cell per line, and their width in inches."""

    head: str
    cells: Sequence[str]
    width: float
    align: str = "left"


def _columns(found: Changes) -> list[_Column]:
    """Seeds, numbers and outcome in words."""
    unit = ", %" if found.is_relative else ""
    columns = [_Column("seeds", [str(len(line.seeds)) for line in found.lines], _COUNT, "right")]
    for head, cells in (
        (f"change{unit} (95 % interval)", [_numbers(found, line) for line in found.lines]),
        ("outcome", [line.outcome for line in found.lines]),
    ):
        columns.append(_Column(head, cells, _CHARACTER * max(map(len, [head, *cells]))))
    return columns


def _draw_columns(ax: Axes, columns: Sequence[_Column], width: float) -> None:
    """Columns on the right of axes of *width* inches."""
    left = width + _GAP
    for column in columns:
        x = left + column.width * (column.align == "right")
        _write(ax, x / width, -0.8, column.head, column.align, 8, GREY)
        for place, cell in enumerate(column.cells):
            _write(ax, x / width, place, cell, column.align, 8.5)
        left += column.width + _GAP


def _write(
    ax: Axes, x: float, y: float, text: str, align: str, size: float, color: str = "black"
) -> None:
    """Write beside the axes: *x* in their width, *y* in lines."""
    ax.text(x, y, text, size=size, color=color, ha=align, va="center", parse_math=False,
            transform=ax.get_yaxis_transform())  # fmt: skip


def _numbers(found: Changes, line: Change) -> str:
    if line.value is None:
        return ""
    if line.low is None:
        return found.told(line.value)
    if line.low == line.high:
        return f"{found.told(line.value)} (no spread)"
    return f"{found.told(line.value)} ({found.told(line.low)} to {found.told(line.high)})"


def _in_lines(remarks: Sequence[str]) -> list[str]:
    """The remarks joined, as many to a line as fit."""
    lines: list[str] = []
    for remark in remarks:
        if lines and len(lines[-1]) + len(remark) < 125:
            lines[-1] += f"; {remark}"
        else:
            lines.append(remark)
    return lines
