"""A grid's cells in order: which is the best, and how far the others are behind it.

A study's result goes in, numbers come out, for tables, sentences and what to try next. Pure; it
knows no words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pytest_ablation import guards
from pytest_ablation.grids import Grid
from pytest_ablation.results import STATUSES, RowResult, StudyResult
from pytest_ablation.statistics import Delta, mean, paired_delta

Place = tuple[int, ...]


@dataclass(frozen=True)
class RankedCell:
    """A cell with all its results.

    Attributes
    ----------
    row : RowResult
    values : seed to the metric that cells are chosen by
    mean : of the values
    behind : the best cell minus this one, paired by seed; None for the best
    """

    row: RowResult
    values: Mapping[int, float]
    mean: float
    behind: Delta | None = None

    @property
    def name(self) -> str:
        return self.row.name


@dataclass(frozen=True)
class GridResult:
    """The cells of a grid.

    Attributes
    ----------
    grid : Grid
    metric : what the cells are chosen by
    margin : a difference inside ``[-margin, margin]`` does not matter
    ranked : the cells with all their results, the highest mean first
    left_out : cell to what became of it, for the others of this session
    """

    grid: Grid
    metric: str
    margin: float
    ranked: tuple[RankedCell, ...]
    left_out: Mapping[str, str]

    @property
    def best(self) -> RankedCell | None:
        return self.ranked[0] if self.ranked else None

    @property
    def seeds(self) -> list[int]:
        """The seeds that all ranked cells have."""
        return sorted(set.intersection(*(set(cell.values) for cell in self.ranked)))

    def cell_at(self, place: Place) -> RankedCell | None:
        """The cell at this place; None where it has no results."""
        return next((c for c in self.ranked if self.grid.cells[c.name] == place), None)

    def difference(self, one: Mapping[int, float], other: Mapping[int, float]) -> Delta | None:
        """One minus other, paired by seed."""
        return paired_delta(one, other, margin=self.margin)


def grid_result(study: StudyResult) -> GridResult:
    """The cells of a study that is a grid.

    A cell counts where all its own runs ended well, whatever became of the baseline's cell, and
    where it can fairly be compared with the best one. Of equal means the first in the grid's order
    comes first, as for :func:`pytest_ablation.grids.choose`.
    """
    plan, grid = study.plan, study.plan.grid
    rows = [study.row(cell) for cell in grid.cells if any(r.name == cell for r in study.rows)]
    left_out = {row.name: status for row in rows if (status := own_status(row)) != "ok"}
    ranked = sorted(
        (_cell(row, plan.select) for row in rows if row.name not in left_out),
        key=lambda cell: -cell.mean,
    )
    result = GridResult(grid, plan.select, plan.margins[plan.select], (), left_out)
    if not ranked:
        return result
    best = ranked[0]
    fair = [cell for cell in ranked[1:] if _is_fair(cell, best)]
    unfair = {cell.name: "unfair" for cell in ranked[1:] if cell not in fair}
    behind = [replace(cell, behind=result.difference(best.values, cell.values)) for cell in fair]
    return replace(result, ranked=(best, *behind), left_out=left_out | unfair)


def own_status(row: RowResult) -> str:
    """The gravest status of a row's own runs, other than its status without that of its baseline.

    A row without any run has its own status.
    """
    return max((run.status for run in row.runs), key=STATUSES.index, default=row.status)


def is_told_apart(delta: Delta | None) -> bool:
    """Whether the interval excludes 0."""
    return delta is not None and delta.verdict in ("better", "worse")


def _cell(row: RowResult, metric: str) -> RankedCell:
    values = {seed: record.metrics[metric] for seed, record in row.records.items()}
    return RankedCell(row, values, mean(list(values.values())))


def _is_fair(cell: RankedCell, best: RankedCell) -> bool:
    """A cell was compared with the baseline's alone, if that ended well; this is another pair."""
    declared = {*cell.row.plan.allow_different, *best.row.plan.allow_different}
    plan = replace(cell.row.plan, baseline=best.name, allow_different=tuple(sorted(declared)))
    return guards.unfair(plan, cell.row.records, best.row.records) is None
