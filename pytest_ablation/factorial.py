"""A 2x2 design: what each of two components contributes alone, and what they do together.

Configurations go in and the four cells come out; values by cell and seed go in and effects with
their intervals come out. Pure; knows nothing of pytest, records or reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_ablation.configuration import did_you_mean
from pytest_ablation.errors import StudyError
from pytest_ablation.statistics import Delta, paired_delta

#: Whether the first and the second factor are on.
Levels = tuple[bool, bool]
NONE: Levels = (False, False)
FIRST: Levels = (True, False)
SECOND: Levels = (False, True)
BOTH: Levels = (True, True)
CELLS = (NONE, FIRST, SECOND, BOTH)


@dataclass(frozen=True)
class Factor:
    """A configuration field with two values; *off* is the one of the study's baseline."""

    name: str
    off: Any
    on: Any


@dataclass(frozen=True)
class Cell:
    """One of the four combinations, and the rows that resolve to it (they are the same model)."""

    levels: Levels
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Factorial:
    """Two factors and the four cells, in the order of ``CELLS``."""

    factors: tuple[Factor, Factor]
    cells: tuple[Cell, ...]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Factorial:
        """The inverse of ``dataclasses.asdict`` after a way through JSON."""
        first, second = (Factor(**factor) for factor in content["factors"])
        cells = (Cell(tuple(c["levels"]), tuple(c["rows"])) for c in content["cells"])
        return cls((first, second), tuple(cells))

    def described(self, levels: Levels) -> str:
        """A cell in words: ``layernorm=True, relu=False``."""
        pairs = zip(self.factors, levels, strict=True)
        return ", ".join(f"{f.name}={f.on if is_on else f.off!r}" for f, is_on in pairs)


@dataclass(frozen=True)
class Effects:
    """Main effects of both factors and their interaction; None where no seed has all four cells."""

    first: Delta | None
    second: Delta | None
    interaction: Delta | None


def find_factorial(
    factors: Sequence[str], configurations: Mapping[str, Mapping[str, Any]], baseline: str
) -> Factorial:
    """The 2x2 design of two fields among the rows of a study.

    Rows that differ from the baseline in any other field do not belong to it and are left alone.

    Parameters
    ----------
    factors : two field names
    configurations : row to its resolved configuration, as plain values
    baseline : the study's baseline row

    Raises
    ------
    StudyError
        Not two different fields, a field that does not exist or has not two values, or a
        combination that no row has with all other fields as in the baseline.
    """
    names = _two_names(factors, configurations[baseline])
    inside = {
        row: config
        for row, config in configurations.items()
        if not _other_differences(config, configurations[baseline], names)
    }
    first, second = (_factor(name, inside, baseline) for name in names)
    cells = []
    for levels in CELLS:
        values = tuple(f.on if on else f.off for f, on in zip((first, second), levels, strict=True))
        rows = tuple(r for r, c in inside.items() if tuple(c[name] for name in names) == values)
        if not rows:
            raise StudyError(_missing_cell(names, values, configurations, baseline))
        cells.append(Cell(levels, rows))
    return Factorial((first, second), tuple(cells))


def effects(
    cells: Mapping[Levels, Mapping[int, float]], *, margin: float, higher_is_better: bool = True
) -> Effects:
    """Main effects and interaction over the seeds that all four cells share.

    Per seed, with y the metric of a cell (Montgomery, *Design and Analysis of Experiments*,
    section 6.2; the interaction here is the whole difference of differences, not its half):

    - main effect of the first factor: ((y_first - y_none) + (y_both - y_second)) / 2
    - interaction: (y_both - y_second) - (y_first - y_none)

    Their intervals and verdicts follow the conventions of
    :func:`pytest_ablation.statistics.paired_delta`.

    Parameters
    ----------
    cells : levels to {seed: value}, all four cells
    margin : an effect inside ``[-margin, margin]`` does not matter
    higher_is_better : of the metric; where it is not, an effect above 0 is ``worse``
    """
    none, first, second, both = (cells[levels] for levels in CELLS)
    seeds = set(none) & set(first) & set(second) & set(both)

    def contrast(of_none: float, of_first: float, of_second: float, of_both: float) -> Delta | None:
        values = {
            s: of_none * none[s] + of_first * first[s] + of_second * second[s] + of_both * both[s]
            for s in seeds
        }
        nothing = dict.fromkeys(seeds, 0.0)
        return paired_delta(values, nothing, margin=margin, higher_is_better=higher_is_better)

    return Effects(
        first=contrast(-0.5, 0.5, -0.5, 0.5),
        second=contrast(-0.5, -0.5, 0.5, 0.5),
        interaction=contrast(1.0, -1.0, -1.0, 1.0),
    )


def _two_names(factors: Sequence[str], baseline: Mapping[str, Any]) -> tuple[str, str]:
    names = () if isinstance(factors, str) else tuple(factors)
    if len(set(names)) != 2 or len(names) != 2:
        raise StudyError(f"factors are two different configuration fields, found {factors!r}")
    for name in names:
        if name not in baseline:
            raise StudyError(
                f"factors: no field {name!r} in the configuration{did_you_mean(name, baseline)}"
            )
    return names


def _other_differences(
    config: Mapping[str, Any], baseline: Mapping[str, Any], factors: Sequence[str]
) -> list[str]:
    """The fields beside the factors in which two configurations differ."""
    names = [*config, *(name for name in baseline if name not in config)]
    return [
        name
        for name in names
        if name not in factors and config.get(name, ...) != baseline.get(name, ...)
    ]


def _factor(name: str, rows: Mapping[str, Mapping[str, Any]], baseline: str) -> Factor:
    off = rows[baseline][name]
    others = []
    for config in rows.values():
        if config[name] != off and config[name] not in others:
            others.append(config[name])
    if len(others) != 1:
        found = ", ".join(map(repr, [off, *others]))
        raise StudyError(
            f"factors: {name!r} needs two values among the rows that are like the baseline in all "
            f"other fields, found {found}"
        )
    return Factor(name, off, others[0])


def _missing_cell(
    names: tuple[str, str],
    values: tuple[Any, ...],
    configurations: Mapping[str, Mapping[str, Any]],
    baseline: str,
) -> str:
    wanted = ", ".join(f"{name}={value!r}" for name, value in zip(names, values, strict=True))
    text = f"factors: no row has {wanted} and all other fields as in the baseline {baseline!r}"
    for row, config in configurations.items():
        if tuple(config[name] for name in names) == values:
            other = _other_differences(config, configurations[baseline], names)
            return f"{text}; {row!r} comes near, but differs in {', '.join(other)} too"
    return f"{text}: add a variant for it"
