"""The numbers behind a grid's figures: what each cell has, and where an axis' values are placed.

A study's result goes in; cells, places and words for ticks come out. Pure: knows no matplotlib.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pytest_ablation.grids import Axis, Grid, shown_value
from pytest_ablation.images import readable, shortened
from pytest_ablation.results import RowResult, StudyResult
from pytest_ablation.statistics import mean

_LONGEST_LABEL = 24
_LOST = ("diverged", "failed", "missing")


@dataclass(frozen=True)
class Cell:
    """A cell: where it is on each axis, its finished seeds' values, and what became of others."""

    place: tuple[int, ...]
    values: Mapping[int, float]
    lost: str = ""

    @property
    def mean(self) -> float:
        return mean(list(self.values.values()))


class Scale(NamedTuple):
    """Where the values of an axis are placed, and a word on it."""

    positions: tuple[float, ...]
    remark: str

    @property
    def gap(self) -> float:
        """The smallest distance of two values."""
        ordered = sorted(self.positions)
        return min(b - a for a, b in itertools.pairwise(ordered))


def cells(study: StudyResult) -> list[Cell]:
    """The cells of a study's grid that belong to its rows; [] where it is none."""
    grid = study.plan.grid
    if grid is None:
        return []
    rows = {row.name: row for row in study.rows}
    return [_cell(rows[name], grid, study.plan.leading) for name in grid.cells if name in rows]


def _cell(row: RowResult, grid: Grid, metric: str) -> Cell:
    finished = [run for run in row.runs if run.status not in _LOST]
    values = {run.seed: run.record.metrics[metric] for run in finished}
    counts = Counter(run.status for run in row.runs if run.status in _LOST)
    if len(counts) == 1 and not finished:
        lost = next(iter(counts))
    else:
        told = (f"{counts[status]} of {len(row.runs)} {status}" for status in _LOST if
                status in counts)  # fmt: skip
        lost = ", ".join(told)
    return Cell(grid.cells[row.name], values, lost)


def scale_of(axis: Axis) -> Scale:
    """Where to place the values of an axis.

    Numbers stand where they belong: by their logarithm where they are above 0 and each is as many
    times the one before, or the largest over four times the smallest; else by their value. What is
    no number, and numbers that would touch each other, stand at equal distances in the order of the
    definition.
    """
    values = [row[0] for row in axis.values]
    even = tuple(map(float, range(len(values))))
    is_number = [isinstance(v, int | float) and not isinstance(v, bool) for v in values]
    if not all(is_number) or len(set(values)) < len(values) or not all(map(math.isfinite, values)):
        return Scale(even, "")
    is_log = min(values) > 0 and (_is_geometric(values) or max(values) > 4 * min(values))
    placed = Scale(tuple(math.log2(v) if is_log else float(v) for v in values), "")
    if placed.gap < 0.25 * (max(placed.positions) - min(placed.positions)) / (len(values) - 1):
        return Scale(even, "not to scale")
    return placed._replace(remark="logarithmic" if is_log else "")


def _is_geometric(values: Sequence[float]) -> bool:
    """Whether three or more values, all above 0, have one ratio."""
    ratios = [b / a for a, b in itertools.pairwise(sorted(values))]
    return len(ratios) > 1 and max(ratios) < 1.01 * min(ratios)


def words_of(axis: Axis, index: int) -> list[str]:
    """A value of an axis, a line per field: ``["64", "2 heads"]`` of embed_dim and num_heads."""
    others = zip(axis.fields[1:], axis.values[index][1:], strict=True)
    words = [axis.label(index)]
    for field, value in others:
        counted = field.removeprefix("num_").removeprefix("n_")
        told = shown_value(value)
        words.append(f"{field} {told}" if counted == field else f"{told} {counted}")
    return [readable(shortened(word, _LONGEST_LABEL), f"no. {index + 1}") for word in words]


def in_words(grid: Grid, found: Sequence[Cell]) -> str:
    parts = []
    for cell in found:
        places = zip(grid.axes, cell.place, strict=True)
        name = " ".join(" ".join(words_of(axis, index)) for axis, index in places)
        told = [f"{cell.mean:.4f}"] if cell.values else []
        parts.append(f"{name}: {', '.join(told + [cell.lost] * bool(cell.lost))}")
    return "; ".join(parts)
