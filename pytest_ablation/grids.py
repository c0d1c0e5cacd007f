"""A grid: the combinations of the values of some configuration fields, and the best of them.

Axes go in, named cells come out; the runs of the cells go in, the chosen cell comes out. Pure;
knows nothing of pytest or of how runs are trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_ablation.configuration import did_you_mean, field_values
from pytest_ablation.errors import StudyError
from pytest_ablation.statistics import Delta, mean, paired_delta


@dataclass(frozen=True)
class Axis:
    """Fields that change together, and the values that they take, from the first to the last."""

    fields: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]

    @property
    def name(self) -> str:
        """The field that the axis is called by: its first."""
        return self.fields[0]

    def label(self, index: int) -> str:
        """A value in words: that of the first field."""
        return shown_value(self.values[index][0])


@dataclass(frozen=True)
class Grid:
    """``cells`` maps a row's name to the index of its value on each of the ``axes``."""

    axes: tuple[Axis, ...]
    cells: Mapping[str, tuple[int, ...]]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Grid:
        """The inverse of ``dataclasses.asdict`` after a way through JSON."""
        axes = (Axis(tuple(a["fields"]), tuple(map(tuple, a["values"]))) for a in content["axes"])
        cells = {name: tuple(place) for name, place in content["cells"].items()}
        return cls(tuple(axes), cells)

    def changes_of(self, cell: str) -> dict[str, Any]:
        """Field to value of a cell."""
        places = zip(self.axes, self.cells[cell], strict=True)
        return {
            f: v for axis, i in places for f, v in zip(axis.fields, axis.values[i], strict=True)
        }

    def described(self, cell: str) -> str:
        """A cell in words: ``embed_dim=64, num_heads=2, learning_rate=0.001``."""
        return ", ".join(f"{f}={shown_value(v)}" for f, v in self.changes_of(cell).items())


@dataclass(frozen=True)
class Choice:
    """The cell of a grid that a study's baseline is, and by how much it leads.

    Attributes
    ----------
    study : the grid's name
    cell, described : the best cell, and its values in words
    metric : what it is best by: a metric of validation data
    mean : of the best cell, over ``seeds`` seeds
    second : the next best cell; "" where there is no other
    lead : best minus second, paired by seed; None likewise
    """

    study: str
    cell: str
    described: str
    metric: str
    mean: float
    seeds: int
    second: str
    lead: Delta | None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Choice:
        """The inverse of ``dataclasses.asdict`` after a way through JSON."""
        lead = content["lead"]
        if lead is not None:
            lead = Delta.from_json(lead)
        return cls(**{**content, "lead": lead})


def make_grid(
    axes: Mapping[str | tuple[str, ...], Sequence[Any]], baseline: Any, names: str = ""
) -> tuple[Grid, str]:
    """The grid of all combinations, and the cell that *baseline* is.

    Parameters
    ----------
    axes : field to its values; or several fields that change together to tuples of values
    baseline : configuration
    names : format of a cell's name, such as ``"d{embed_dim}-lr{learning_rate}"``; default: the
        first field and its value of each axis

    Raises
    ------
    StudyError
        Fewer than two values on an axis, repeated values, a field that does not exist or stands on
        two axes, a name that fits two cells, or a baseline that is none of the cells.
    """
    fields = field_values(baseline)
    checked = tuple(_axis(name, values, fields) for name, values in axes.items())
    named = [field for axis in checked for field in axis.fields]
    if not checked:
        raise StudyError('a grid needs an axis: axes={"learning_rate": [1e-3, 3e-3]}')
    for field in named:
        if named.count(field) > 1:
            raise StudyError(f"the field {field!r} stands on {named.count(field)} axes")
    cells: dict[str, tuple[int, ...]] = {}
    for place in itertools.product(*(range(len(axis.values)) for axis in checked)):
        name = _cell_name(checked, place, names)
        if name in cells:
            raise StudyError(
                f"two cells are called {name!r}: let cell_name={names!r} have a field of each axis"
            )
        cells[name] = place
    grid = Grid(checked, cells)
    own = {field: fields[field] for field in named}
    baseline_cell = next((cell for cell in cells if grid.changes_of(cell) == own), None)
    if baseline_cell is None:
        raise StudyError(
            f"the baseline has {_told(own)}, which is none of the cells of the grid: the others "
            f"are compared with the baseline's cell, so let the baseline be one of them"
        )
    return grid, baseline_cell


def choose(
    study: str, grid: Grid, metric: str, values: Mapping[str, Mapping[int, float]]
) -> Choice:
    """The cell whose mean of *metric* is highest; among equals the first.

    Parameters
    ----------
    study : the grid's name
    values : cell to seed to value; one cell or more
    """
    means = {cell: mean(list(values[cell].values())) for cell in grid.cells if cell in values}
    best, *others = sorted(means, key=lambda cell: -means[cell])
    second = others[0] if others else ""
    return Choice(
        study=study,
        cell=best,
        described=grid.described(best),
        metric=metric,
        mean=means[best],
        seeds=len(values[best]),
        second=second,
        lead=paired_delta(values[best], values[second], margin=0.0) if second else None,
    )


def shown_value(value: Any) -> str:
    """A value as a name or a sentence has it: 0.0005 and 64, without trailing zeros."""
    return format(value, "g") if isinstance(value, float) else str(value)


def _axis(name: str | tuple[str, ...], values: Sequence[Any], fields: Mapping[str, Any]) -> Axis:
    names = (name,) if isinstance(name, str) else tuple(name)
    for field in names:
        if field not in fields:
            raise StudyError(f"axes: no field {field!r} in the configuration"
                             f"{did_you_mean(field, fields)}")  # fmt: skip
    rows = [(v,) if isinstance(name, str) else tuple(v) for v in values]
    for row in rows:
        if len(row) != len(names):
            raise StudyError(f"axes: {names} take {len(names)} values at a time, found {row}")
    if len(rows) < 2 or any(rows.count(row) > 1 for row in rows):
        raise StudyError(
            f"axes: {' and '.join(names)} need two or more different values, found {list(values)}"
        )
    return Axis(names, tuple(rows))


def _cell_name(axes: Sequence[Axis], place: Sequence[int], names: str) -> str:
    values = {
        field: shown_value(value)
        for axis, index in zip(axes, place, strict=True)
        for field, value in zip(axis.fields, axis.values[index], strict=True)
    }
    names = names or "-".join(f"{axis.name}_{{{axis.name}}}" for axis in axes)
    try:
        return names.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise StudyError(
            f"cell_name={names!r} cannot be filled in ({error}): the fields are {', '.join(values)}"
        ) from error


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{field}={value!r}" for field, value in values.items())
