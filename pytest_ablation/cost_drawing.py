"""A study's leading metric against the seconds of training, and which rows no other beats in both.

A study's result goes in, a point per model and then a PNG come out, the same one for the same
numbers. matplotlib is imported only when there is something to draw.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_ablation.images import (
    BLUE,
    GREY,
    REMARK_HEIGHT,
    WIDTH,
    Picture,
    axes_at,
    draw_remarks,
    draw_title,
    new_figure,
    plain_axes,
    shortened,
    source_digest,
    write_figure,
)
from pytest_ablation.results import StudyResult
from pytest_ablation.statistics import mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_LEFT, _RIGHT, _HEAD, _HEIGHT, _FOOT = 0.8, 0.3, 0.5, 4.2, 0.65  # inches
_MOST_NAMES, _LONGEST_NAME = 12, 30  # more or longer ones stand below, with a number in the plot
_CHARACTER, _KEY_LINE = 0.069, 0.17  # of the names below
_LOGARITHMIC = 8.0  # from so many times the shortest time on
_TIMES = (
    "times are those of the machine that trained and of what else it did: read small differences "
    "as none"
)


@dataclass(frozen=True)
class Point:
    """A model: the names of its rows, its mean cost and metric, and the seeds' range of the latter.

    Attributes
    ----------
    seconds : of training, mean over the seeds
    value, low, high : of the metric: mean, lowest and highest seed
    seeds : how many
    trouble : the row's status where it is not ok, else ""
    is_unbeaten : whether no other row without trouble is as good in both and better in one
    """

    names: tuple[str, ...]
    seconds: float
    value: float
    low: float
    high: float
    seeds: int
    trouble: str
    is_unbeaten: bool = False

    @property
    def label(self) -> str:
        names = ", ".join(self.names)
        return f"{names} ({self.trouble})" if self.trouble else names


def draw_cost(study: StudyResult, folder: Path) -> list[Picture]:
    """Draw a study that asks for it into ``folder/figures/<study>-cost.png``; else return [].

    Models without a finished run are left out, and the caption names them.
    """
    plan = study.plan
    found = points(study) if plan.cost_figure else []
    if not found:
        return []
    file = f"figures/{plan.name}-cost.png"
    heading = f"{plan.leading} against seconds of training"
    title = f"{plan.name} ({plan.mode}): {heading}"
    upwards = plan.leading
    if not plan.is_better_higher(plan.leading):
        heading = f"{plan.leading} (lower is better) against seconds of training"
        upwards = f"{shortened(plan.leading, 30)} (lower is better)"
    digest = source_digest([found, upwards, title], __file__)
    write_figure(folder / file, digest, lambda: cost_figure(found, upwards, title))
    missing = [", ".join(names) for names, row in study.models() if not row.records]
    absent = f" Not drawn, for no run has finished: {'; '.join(missing)}." if missing else ""
    listed = "; ".join(
        f"{point.label} {point.value:.4f} in {point.seconds:.3g} s"
        f"{' (unbeaten)' if point.is_unbeaten else ''}"
        for point in found
    )
    explained = "; ".join([heading, *_remarks(found)])
    return [
        Picture(
            heading=heading,
            file=file,
            alt=f"{heading}: {listed}",
            caption=f"{explained}.{absent} The numbers are in runs.csv.",
        )
    ]


def points(study: StudyResult) -> list[Point]:
    """A point per model with a finished run, from the cheapest to the dearest."""
    metric = study.plan.leading
    found = []
    for names, row in study.models():
        records = [record for record in row.records.values() if metric in record.metrics]
        if not records:
            continue
        values = [record.metrics[metric] for record in records]
        trouble = "" if row.status == "ok" else row.status.replace("_", " ")
        seconds = mean([record.cost.train_seconds for record in records])
        spread = mean(values), min(values), max(values)
        found.append(Point(names, seconds, *spread, len(records), trouble))
    sign = 1 if study.plan.is_better_higher(metric) else -1
    found.sort(key=lambda point: (point.seconds, -sign * point.value, point.names))
    return list(_with_unbeaten(found, sign))


def _with_unbeaten(found: Sequence[Point], sign: int) -> Iterator[Point]:
    """*sign* is 1 where a higher value is better, else -1."""
    sound = [point for point in found if not point.trouble]
    for point in found:
        beaten = any(
            (other.seconds, other.value) != (point.seconds, point.value)
            and other.seconds <= point.seconds
            and sign * other.value >= sign * point.value
            for other in sound
        )
        yield replace(point, is_unbeaten=not point.trouble and not beaten)


def _remarks(found: Sequence[Point]) -> list[str]:
    unbeaten = "filled: no other row is as good in both and better in one"
    if sum(point.is_unbeaten for point in found) > 1:
        unbeaten += "; the stepped line joins them"
    parts = [unbeaten]
    if any(point.seeds > 1 for point in found):
        parts.append("means over the seeds, the bar spans the lowest and the highest seed")
    if any(point.seeds == 1 for point in found):
        parts.append("one seed has no bar")
    return [*parts, _TIMES]


# --- drawing --------------------------------------------------------------------------------------


def cost_figure(found: Sequence[Point], metric: str, title: str) -> Figure:
    """The points, each with its label.

    Parameters
    ----------
    found : at least one, by seconds
    metric : what is drawn upwards
    title : the line above
    """
    remarks = _remarks(found)
    key = _Key.of(found)
    foot = _FOOT + key.height + REMARK_HEIGHT * len(remarks)
    figure = new_figure(_HEAD + _HEIGHT + foot)
    draw_title(figure, title)
    draw_remarks(figure, remarks)
    ax = axes_at(figure, _LEFT, _HEAD, WIDTH - _LEFT - _RIGHT, _HEIGHT)
    plain_axes(ax)
    _set_axes(ax, found, metric)
    frontier = [point for point in found if point.is_unbeaten]
    ax.plot([p.seconds for p in frontier], [p.value for p in frontier], color=BLUE,
            drawstyle="steps-post", linewidth=1.2, zorder=2)  # fmt: skip
    for point in found:
        _draw_point(ax, point)
    _draw_labels(ax, found, key.labels, frontier)
    key.draw(figure, found)
    return figure


def _set_axes(ax: Axes, found: Sequence[Point], metric: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    seconds = [point.seconds for point in found]
    if min(seconds) > 0 and max(seconds) > _LOGARITHMIC * min(seconds):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.set_xlim(min(seconds) / 1.35, max(seconds) * 1.35)
        scale = " (logarithmic)"
    else:
        edge = 0.12 * (max(seconds) - min(seconds)) or 0.5 * max(seconds) or 1.0
        ax.set_xlim(min(seconds) - edge, max(seconds) + edge)
        ax.ticklabel_format(axis="x", useOffset=False, style="plain")
        scale = ""
    low, high = min(point.low for point in found), max(point.high for point in found)
    edge = 0.12 * (high - low) or 0.02 * abs(high) or 1.0
    ax.set_ylim(low - edge, high + edge)
    ax.ticklabel_format(axis="y", useOffset=False, style="plain")
    ax.set_xlabel(f"seconds of training, mean over the seeds{scale}", size=9)
    ax.set_ylabel(shortened(metric, 50), size=9, parse_math=False)


def _draw_point(ax: Axes, point: Point) -> None:
    color = BLUE if point.is_unbeaten else GREY
    if point.seeds > 1:
        ax.plot(
            [point.seconds] * 2, [point.low, point.high], color=color, linewidth=1.0, zorder=2.5
        )
    ax.plot(point.seconds, point.value, "D" if point.is_unbeaten else "o", color=color,
            markersize=6.5, markeredgewidth=1.3, zorder=3,
            markerfacecolor=color if point.is_unbeaten else "white")  # fmt: skip


@dataclass(frozen=True)
class _Key:
    """What stands at the points: their names, or numbers whose names stand below the axes."""

    labels: tuple[str, ...]
    names: tuple[str, ...]
    columns: int

    @classmethod
    def of(cls, found: Sequence[Point]) -> _Key:
        labels = [point.label for point in found]
        if len(labels) <= _MOST_NAMES and max(map(len, labels)) <= _LONGEST_NAME:
            return cls(tuple(labels), (), 1)
        names = [f"{number}  {label}" for number, label in enumerate(labels, 1)]
        names = [shortened(name, 120) for name in names]
        each = _CHARACTER * max(map(len, names)) + 0.2
        columns = min(len(names), max(1, int((WIDTH - _LEFT) / each)))
        numbers = (str(number) for number in range(1, len(found) + 1))
        return cls(tuple(numbers), tuple(names), columns)

    @property
    def rows(self) -> int:
        return -(-len(self.names) // self.columns)

    @property
    def height(self) -> float:
        return _KEY_LINE * self.rows + 0.1 if self.names else 0.0

    def draw(self, figure: Figure, found: Sequence[Point]) -> None:
        """The names column by column, those of unbeaten points bold."""
        top = _HEAD + _HEIGHT + 0.55
        for number, (name, point) in enumerate(zip(self.names, found, strict=bool(self.names))):
            x = _LEFT + number // self.rows * (WIDTH - _LEFT) / self.columns
            y = top + number % self.rows * _KEY_LINE
            weight = "bold" if point.is_unbeaten else "normal"
            figure.text(x / WIDTH, 1 - y / figure.get_figheight(), name, size=8, va="top",
                        weight=weight, parse_math=False)  # fmt: skip


def _draw_labels(
    ax: Axes, found: Sequence[Point], labels: Sequence[str], frontier: Sequence[Point]
) -> None:
    """Label each point where it covers nothing else, the nearest such place first."""
    taken = [box for point in found for box in _boxes(ax, point)]
    for one, next_one in itertools.pairwise(frontier):
        corners = [(one.seconds, one.value), (next_one.seconds, one.value)]
        corners.append((next_one.seconds, next_one.value))
        taken += [_box(ax, *ends, 2) for ends in itertools.pairwise(corners)]
    for point, text in zip(found, labels, strict=True):
        label = ax.annotate(
            text, (point.seconds, point.value), (0, 0), textcoords="offset points", size=8.5,
            color="black" if point.is_unbeaten else GREY, va="center", parse_math=False, zorder=4,
        )  # fmt: skip
        mark, bar = _boxes(ax, point)
        middle, pixel = (mark.y0 + mark.y1) / 2, 72 / ax.figure.dpi
        ends = max(mark.y1, bar.y1) - middle, middle - min(mark.y0, bar.y0)
        places = _places(*(pixel * end for end in ends))
        taken.append(_placed(label, ax, places, taken))


def _boxes(ax: Axes, point: Point) -> list[Bbox]:
    """What a point's mark and its bar take, in pixels."""
    center = point.seconds, point.value
    bar = (point.seconds, point.low), (point.seconds, point.high)
    return [_box(ax, center, center, 9), _box(ax, *bar, 2)]


def _box(ax: Axes, one: tuple[float, float], other: tuple[float, float], edge: float) -> Bbox:
    """The box around two points of the axes with *edge* pixels on each side."""
    from matplotlib.transforms import Bbox

    return Bbox(ax.transData.transform([one, other])).padded(edge)


def _placed(label: Annotation, ax: Axes, places: Iterable[_Place], taken: Sequence[Bbox]) -> Bbox:
    """Move *label* to the first place that overlaps nothing, or else the least; its box there."""
    renderer = ax.figure.canvas.get_renderer()
    frame = ax.get_window_extent(renderer)
    best, least = None, math.inf
    for place in places:
        label.set(position=(place.x, place.y), ha=place.align)
        box = label.get_window_extent(renderer)
        overlap = sum(_shared(box, other) for other in taken) + _outside(box, frame)
        if overlap < least:
            best, least = place, overlap
        if not overlap:
            break
    label.set(position=(best.x, best.y), ha=best.align)
    if best.is_far:
        ax.annotate("", label.xy, (best.x, best.y), textcoords="offset points", zorder=1.5,
                    arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5})  # fmt: skip
    return label.get_window_extent(renderer)


class _Place(NamedTuple):
    """Where a label may stand: points from its mark, alignment, whether a line must lead to it."""

    x: float
    y: float
    align: str
    is_far: bool


def _places(above: float, below: float) -> Iterator[_Place]:
    """Beside the mark, at the ends of its bar (in points from it), then around it farther out."""
    yield from (_Place(8, 0, "left", False), _Place(-8, 0, "right", False))
    yield from (_Place(0, above + 8, "center", False), _Place(0, -below - 8, "center", False))
    for ring in range(1, 9):
        for angle in (30, -30, 150, -150, 60, -60, 120, -120, 90, -90, 0, 180):
            x = (8 + 12 * ring) * math.cos(math.radians(angle))
            y = 14 * ring * math.sin(math.radians(angle))
            align = "center" if abs(x) < 1 else "left" if x > 0 else "right"
            yield _Place(x, y, align, True)


def _shared(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, width) * max(0.0, height)


def _outside(box: Bbox, frame: Bbox) -> float:
    """The area of *box* that is not in *frame*, which counts like an overlap."""
    return max(0.0, box.width * box.height - _shared(box, frame))
