"""What a session will need: the selected cases, their rows, and the key of every run.

Selected cases go in; a plan of plain values comes out, which every process of a session can read
from a file, and which is all that the report needs beside the records. Trains nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ablation.configuration import plain_values
from pytest_ablation.errors import StudyError
from pytest_ablation.keys import run_key
from pytest_ablation.mode import Mode
from pytest_ablation.study import CaseSpec, Study, Train
from pytest_ablation.training_code import TrainingCode, training_code


@dataclass(frozen=True)
class RowPlan:
    """A row of the report: the baseline or a variant, and the runs it consists of.

    ``changes`` maps a field to [value in the baseline row, value here]; ``unread`` are the changed
    fields that the training code never mentions; ``keys`` maps a seed to the key of its run;
    ``selected`` is false for rows that are only there as somebody's baseline.
    """

    name: str
    baseline: str | None
    changes: Mapping[str, list[Any]]
    unread: tuple[str, ...]
    allow_different: tuple[str, ...]
    description: str
    keys: Mapping[int, str]
    selected: bool


@dataclass(frozen=True)
class StudyPlan:
    """One study in one mode. ``error`` says why it cannot run at all, where that is so."""

    name: str
    mode: str
    description: str
    train: str
    metrics: tuple[str, ...]
    margin: float
    rows: tuple[RowPlan, ...]
    not_selected: tuple[str, ...]
    error: str = ""

    def row(self, name: str) -> RowPlan:
        return next(row for row in self.rows if row.name == name)

    def same_as(self, row: RowPlan) -> str:
        """The first row that consists of the same runs, "" where that is *row* itself."""
        first = next(other for other in self.rows if other.keys == row.keys)
        return "" if first.name == row.name or not row.keys else first.name


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
        keys = (k for study in self.studies for row in study.rows for k in row.keys.values())
        return tuple(dict.fromkeys(keys))

    def write(self, path: Path) -> None:
        """Write to *path*; the workers of a session all write the same plan there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: Path) -> Plan | None:
        """The plan at *path*, or None if no process got as far as writing one."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        studies = tuple(_study_from_json(study) for study in content["studies"])
        return cls(content["session"], studies, content["cases"])


@dataclass(frozen=True)
class RunSpec:
    """All that a process needs to train one run. ``label`` is "study row" for progress lines."""

    key: str
    seed: int
    mode_name: str
    mode: Mode
    config: Any
    train: Train
    label: str


def make_plan(
    session: str,
    cases: Iterable[tuple[str, CaseSpec]],
    *,
    seeds: int | None,
    device: str,
    data_dir: Path | None,
) -> tuple[Plan, dict[str, RunSpec]]:
    """The plan for the selected cases, and how to train each of its runs, by key.

    Raises
    ------
    StudyError
        Two different studies of one name.
    """
    cases = list(cases)
    inputs = _Inputs(session, seeds, device, data_dir)
    chosen: dict[tuple[str, str], tuple[Study, list[str]]] = {}
    for _, case in cases:
        study, variants = chosen.setdefault((case.study.name, case.mode), (case.study, []))
        if study is not case.study:
            raise StudyError(
                f"two studies are called {study.name!r}: their rows could not be told apart; "
                f"rename one"
            )
        variants.append(case.variant)
    studies, specs = [], {}
    for (_, mode), (study, variants) in chosen.items():
        planned, needed = _plan_study(study, mode, set(variants), inputs)
        studies.append(planned)
        specs.update({key: spec for key, spec in needed.items() if key not in specs})
    by_node = {node: [case.study.name, case.mode, case.variant] for node, case in cases}
    return Plan(session, tuple(studies), by_node), specs


@dataclass(frozen=True)
class _Inputs:
    """What of the session decides the keys of its runs."""

    session: str
    seeds: int | None
    device: str
    data_dir: Path | None


def _plan_study(
    study: Study, mode_name: str, selected: set[str], inputs: _Inputs
) -> tuple[StudyPlan, dict[str, RunSpec]]:
    mode = study.modes[mode_name]
    mode = mode if inputs.seeds is None else mode.with_seed_count(inputs.seeds)
    wanted = selected | {study.baseline_of(name) for name in selected}
    code = training_code(study.train, *_config_classes(study))
    specs: dict[str, RunSpec] = {}
    rows, error = [], ""
    for name in (row for row in study.rows if row in wanted):
        keys: dict[int, str] = {}
        try:
            keys = _row_keys(study, name, mode, code, inputs)
        except Exception as problem:  # the user's data function: any of its errors is the study's
            error = f"{type(problem).__name__}: {problem}"
        for seed, key in keys.items():
            specs.setdefault(key, _spec(study, name, mode_name, mode, seed, key))
        rows.append(_plan_row(study, name, keys, name in selected, code.mentioned))
    planned = StudyPlan(
        name=study.name,
        mode=mode_name,
        description=study.description,
        train=getattr(study.train, "__name__", type(study.train).__name__),
        metrics=study.metrics,
        margin=study.margin,
        rows=tuple(rows),
        not_selected=tuple(v.name for v in study.variants if v.name not in selected),
        error=error,
    )
    return planned, specs


def _row_keys(
    study: Study, name: str, mode: Mode, code: TrainingCode, inputs: _Inputs
) -> dict[int, str]:
    config = study.configuration(name)
    data = study.data(config, inputs.data_dir) if study.data is not None else None
    if not code.is_stable:  # nobody can tell whether it is the same code the next time
        data = [data, inputs.session]
    plain, device = plain_values(config), inputs.device
    return {
        seed: run_key(config=plain, seed=seed, mode=mode, data=data, code=code, device=device)
        for seed in mode.seeds
    }


def _config_classes(study: Study) -> list[type]:
    """The class of a configuration counts as code: its properties may decide the result."""
    config = study.configuration(study.baseline_name)
    return [type(config)] if dataclasses.is_dataclass(config) else []


def _spec(study: Study, row: str, mode_name: str, mode: Mode, seed: int, key: str) -> RunSpec:
    return RunSpec(
        key=key,
        seed=seed,
        mode_name=mode_name,
        mode=mode,
        config=study.configuration(row),
        train=study.train,
        label=f"{study.name} {row}",
    )


def _plan_row(
    study: Study, name: str, keys: Mapping[int, str], selected: bool, mentioned: frozenset[str]
) -> RowPlan:
    changes = {field: list(pair) for field, pair in study.changes_of(name).items()}
    is_variant = name != study.baseline_name
    variant = study.variant(name) if is_variant else None
    return RowPlan(
        name=name,
        baseline=study.baseline_of(name) if selected else None,
        changes=changes,
        unread=tuple(field for field in changes if field not in mentioned),
        allow_different=tuple(sorted(variant.allow_different)) if variant else (),
        description=variant.description if variant else "",
        keys=keys,
        selected=selected,
    )


def _study_from_json(content: dict[str, Any]) -> StudyPlan:
    rows = tuple(_row_from_json(row) for row in content.pop("rows"))
    lists = {name: tuple(content.pop(name)) for name in ("metrics", "not_selected")}
    return StudyPlan(**content, **lists, rows=rows)


def _row_from_json(content: dict[str, Any]) -> RowPlan:
    keys = {int(seed): key for seed, key in content.pop("keys").items()}
    lists = {name: tuple(content.pop(name)) for name in ("unread", "allow_different")}
    return RowPlan(**content, **lists, keys=keys)
