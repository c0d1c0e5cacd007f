"""What a session needs: the selected cases, their rows, and the key of every run.

A plan is made of plain values, which every process of a session can read from a file, and it is all
that the report needs beside the records. planning.py makes it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_ablation.factorial import Factorial
from pytest_ablation.grids import Choice, Grid
from pytest_ablation.metric_tables import MetricTable
from pytest_ablation.mode import Mode
from pytest_ablation.study import Train

_PLAN_FILE = "plan.json"
_TUPLES = ("metrics", "not_selected", "also", "lower_is_better", "gate_metrics", "looks")


@dataclass(frozen=True)
class RowPlan:
    """A row of the report: the baseline or a variant, and the runs it consists of.

    ``changes`` maps a field to [value in the baseline row, value here]; ``unread`` are the changed
    fields that the training code never mentions; ``keys`` maps a seed to the key of its run;
    ``selected`` is false for rows that are only there as somebody's baseline; ``probes`` maps a
    label (of ``probes.LABELS``) to the key of the run with that much of the learning rate, say,
    and the first seed; ``reserve`` maps further seeds to keys, in the order in which they are
    taken where a verdict or a gate needs more; ``data`` is the digest of what the study's ``data``
    told for the row, "" where it has none.
    """

    name: str
    baseline: str | None
    changes: Mapping[str, list[Any]]
    unread: tuple[str, ...]
    allow_different: tuple[str, ...]
    description: str
    keys: Mapping[int, str]
    selected: bool
    probes: Mapping[str, str] = field(default_factory=dict)
    reserve: Mapping[int, str] = field(default_factory=dict)
    data: str = ""


@dataclass(frozen=True)
class StudyPlan:
    """One study in one mode.

    ``leading`` is the metric that reports are ordered by and conclusions are about, ``also`` are
    those beside it in the main table; ``sensitivity`` is the field that probes vary, "" for none;
    ``select`` is the metric that models are chosen by, "" for none; ``cost_figure`` asks for a
    figure of the leading metric against cost; ``grid`` are the cells where the study is a grid;
    ``error`` says why the study cannot run at all, where that is so. ``margins`` has the smallest
    change that matters by metric; ``gate_metrics`` are those that a gate compares.

    ``looks`` are the numbers of seeds after which verdicts are looked at, where seeds are spent as
    verdicts need them (``--ablation-seeds=auto``); () is one look at all seeds. ``most_seeds`` is
    how many a row can get in all, ``first_seeds`` how many each has to begin with. ``interval`` is
    "seeds" or "seeds+examples". ``budget`` is the mode's, as plain values; ``libraries`` has the
    versions that the training code depends on.

    Where the baseline is a grid's best cell, ``candidates`` maps the grid's cells to the keys of
    their runs by seed, and ``choice`` is the cell that was chosen; until it is known, the rows have
    no runs.
    """

    name: str
    mode: str
    description: str
    train: str
    metrics: tuple[str, ...]
    margins: Mapping[str, float]
    rows: tuple[RowPlan, ...]
    not_selected: tuple[str, ...]
    leading: str
    also: tuple[str, ...] = ()
    tables: tuple[MetricTable, ...] = ()
    factorial: Factorial | None = None
    sensitivity: str = ""
    error: str = ""
    select: str = ""
    cost_figure: bool = False
    grid: Grid | None = None
    candidates: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    choice: Choice | None = None
    lower_is_better: tuple[str, ...] = ()
    gate_metrics: tuple[str, ...] = ()
    looks: tuple[int, ...] = ()
    first_seeds: int = 0
    most_seeds: int = 0
    interval: str = "seeds"
    budget: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)

    @property
    def margin(self) -> float:
        """The margin of the leading metric."""
        return self.margins[self.leading]

    def is_better_higher(self, metric: str) -> bool:
        return metric not in self.lower_is_better

    @property
    def is_open(self) -> bool:
        """Whether the runs of its rows are not known yet: they hang on a grid's best cell."""
        return bool(self.candidates) and self.choice is None and not self.error

    @property
    def candidate_keys(self) -> tuple[str, ...]:
        """The keys of the grid's runs, each once."""
        keys = (key for of_cell in self.candidates.values() for key in of_cell.values())
        return tuple(dict.fromkeys(keys))

    def row(self, name: str) -> RowPlan:
        return next(row for row in self.rows if row.name == name)

    def same_as(self, row: RowPlan) -> str:
        """The first row of the same model, "" where that is *row* itself.

        Of two such rows one may have more seeds; those that both have are the same runs.
        """
        if not row.keys:
            return ""
        seed, key = next(iter(row.keys.items()))
        first = next(other for other in self.rows if other.keys.get(seed) == key)
        return "" if first.name == row.name else first.name


@dataclass(frozen=True)
class Plan:
    """All studies of a session, and ``cases``: node id to [study, mode, variant]."""

    session: str
    studies: tuple[StudyPlan, ...]
    cases: Mapping[str, list[str]]

    def study(self, name: str, mode: str) -> StudyPlan:
        return next(s for s in self.studies if (s.name, s.mode) == (name, mode))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all runs, each once, in the order in which they are wanted."""
        rows = [row for study in self.studies for row in study.rows]
        keys = [key for study in self.studies for key in study.candidate_keys]
        keys += [key for row in rows for key in row.keys.values()]
        keys += [key for row in rows for key in row.probes.values()]
        return tuple(dict.fromkeys(keys))

    @property
    def all_keys(self) -> tuple[str, ...]:
        """The same, and those of the runs in reserve."""
        reserve = [k for s in self.studies for row in s.rows for k in row.reserve.values()]
        return tuple(dict.fromkeys([*self.keys, *reserve]))

    def with_study(self, settled: StudyPlan) -> Plan:
        """The plan with another version of one of its studies."""
        name = settled.name, settled.mode
        studies = (settled if (s.name, s.mode) == name else s for s in self.studies)
        return dataclasses.replace(self, studies=tuple(studies))

    def write(self, folder: Path) -> None:
        """Write into *folder*; the workers of a session all write the same plan there."""
        _write(folder / _PLAN_FILE, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan in *folder*, or None if no process got as far as writing one.

        Studies whose best cell is known by now are as :func:`write_settled` left them.
        """
        content = _read(folder / _PLAN_FILE)
        if content is None:
            return None
        plan = cls(content["session"], tuple(map(_study_from_json, content["studies"])),
                   content["cases"])  # fmt: skip
        for study in plan.studies:
            settled = _read(folder / _settled_file(study)) if study.is_open else None
            if settled is not None:
                plan = plan.with_study(_study_from_json(settled))
        return plan


def write_settled(folder: Path, study: StudyPlan) -> None:
    """Let the other processes of a session know the rows of a study whose best cell is known."""
    _write(folder / _settled_file(study), dataclasses.asdict(study))


@dataclass(frozen=True)
class RunSpec:
    """All that a process needs to train one run. ``label`` is "study row" for progress lines.

    ``code`` and ``data`` are the digests of what it depends on, "" where that is not known, and
    ``libraries`` the versions; the key is made of them too. ``keep_model``: also where the session
    keeps none.
    """

    key: str
    seed: int
    mode_name: str
    mode: Mode
    config: Any
    train: Train
    label: str
    code: str = ""
    data: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    keep_model: bool = False


def _study_from_json(content: dict[str, Any]) -> StudyPlan:
    rows = tuple(_row_from_json(row) for row in content.pop("rows"))
    lists = {name: tuple(content.pop(name)) for name in _TUPLES}
    tables = tuple(MetricTable(**table) for table in content.pop("tables"))
    parts = {
        name: None if (part := content.pop(name)) is None else kind.from_json(part)
        for name, kind in (("factorial", Factorial), ("grid", Grid), ("choice", Choice))
    }
    candidates = {cell: _by_seed(keys) for cell, keys in content.pop("candidates").items()}
    return StudyPlan(**content, **lists, **parts, rows=rows, tables=tables, candidates=candidates)


def _row_from_json(content: dict[str, Any]) -> RowPlan:
    seeds = {name: _by_seed(content.pop(name)) for name in ("keys", "reserve")}
    lists = {name: tuple(content.pop(name)) for name in ("unread", "allow_different")}
    return RowPlan(**content, **lists, **seeds)


def _by_seed(keys: Mapping[str, str]) -> dict[int, str]:
    return {int(seed): key for seed, key in keys.items()}


def _settled_file(study: StudyPlan) -> str:
    return f"settled-{study.mode}-{study.name}.json"


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:  # a full disk has no room for half a plan either
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
