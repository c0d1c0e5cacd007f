"""What a session will need: the selected cases, their rows, and the key of every run.

Selected cases go in; a plan of plain values comes out, which every process of a session can read
from a file, and which is all that the report needs beside the records. Trains nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_ablation.configuration import did_you_mean, plain_values
from pytest_ablation.errors import StudyError
from pytest_ablation.factorial import Factorial
from pytest_ablation.keys import run_key
from pytest_ablation.metric_tables import MetricTable
from pytest_ablation.mode import Mode
from pytest_ablation.options import METRIC_OPTION
from pytest_ablation.probes import TIMES
from pytest_ablation.study import CaseSpec, Study, Train
from pytest_ablation.training_code import TrainingCode, training_code


@dataclass(frozen=True)
class RowPlan:
    """A row of the report: the baseline or a variant, and the runs it consists of.

    ``changes`` maps a field to [value in the baseline row, value here]; ``unread`` are the changed
    fields that the training code never mentions; ``keys`` maps a seed to the key of its run;
    ``selected`` is false for rows that are only there as somebody's baseline; ``probes`` maps a
    label (of ``probes.LABELS``) to the key of the run with that much of the learning rate, say,
    and the first seed.
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


@dataclass(frozen=True)
class StudyPlan:
    """One study in one mode.

    ``leading`` is the metric that reports are ordered by and conclusions are about, ``also`` are
    those beside it in the main table; ``sensitivity`` is the field that probes vary, "" for none;
    ``error`` says why the study cannot run at all, where that is so.
    """

    name: str
    mode: str
    description: str
    train: str
    metrics: tuple[str, ...]
    margin: float
    rows: tuple[RowPlan, ...]
    not_selected: tuple[str, ...]
    leading: str
    also: tuple[str, ...] = ()
    tables: tuple[MetricTable, ...] = ()
    factorial: Factorial | None = None
    sensitivity: str = ""
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
        rows = [row for study in self.studies for row in study.rows]
        keys = [key for row in rows for key in row.keys.values()]
        keys += [key for row in rows for key in row.probes.values()]
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
    metric: str | None = None,
) -> tuple[Plan, dict[str, RunSpec]]:
    """The plan for the selected cases, and how to train each of its runs, by key.

    The probes of all studies come last. *metric* leads in the studies that report it.

    Raises
    ------
    StudyError
        Two different studies of one name, or none that reports *metric*.
    """
    cases = list(cases)
    if metric is not None:
        _check_metric(metric, [case.study for _, case in cases])
    inputs = _Inputs(session, seeds, device, data_dir, metric)
    chosen: dict[tuple[str, str], tuple[Study, list[str]]] = {}
    for _, case in cases:
        study, variants = chosen.setdefault((case.study.name, case.mode), (case.study, []))
        if study is not case.study:
            raise StudyError(
                f"two studies are called {study.name!r}: their rows could not be told apart; "
                f"rename one"
            )
        variants.append(case.variant)
    specs = _Specs()
    studies = tuple(
        _plan_study(study, mode, set(variants), inputs, specs)
        for (_, mode), (study, variants) in chosen.items()
    )
    by_node = {node: [case.study.name, case.mode, case.variant] for node, case in cases}
    return Plan(session, studies, by_node), specs.in_order()


def _check_metric(metric: str, studies: Iterable[Study]) -> None:
    known = dict.fromkeys(name for study in studies for name in study.metrics)
    if metric not in known:
        raise StudyError(
            f"{METRIC_OPTION}={metric}: no selected study reports it{did_you_mean(metric, known)}"
        )


@dataclass(frozen=True)
class _Inputs:
    """What of the session decides the keys of its runs, and the metric that leads, if it says."""

    session: str
    seeds: int | None
    device: str
    data_dir: Path | None
    metric: str | None


@dataclass
class _Specs:
    """How to train each run, by key: what rows consist of, and what is only a probe."""

    of_rows: dict[str, RunSpec] = field(default_factory=dict)
    of_probes: dict[str, RunSpec] = field(default_factory=dict)

    def in_order(self) -> dict[str, RunSpec]:
        """Probes last: no result waits for them."""
        probes = {key: spec for key, spec in self.of_probes.items() if key not in self.of_rows}
        return self.of_rows | probes


def _plan_study(
    study: Study, mode_name: str, selected: set[str], inputs: _Inputs, specs: _Specs
) -> StudyPlan:
    mode = study.modes[mode_name]
    mode = mode if inputs.seeds is None else mode.with_seed_count(inputs.seeds)
    wanted = selected | {study.baseline_of(name) for name in selected}
    code = training_code(study.train, *_config_classes(study))
    rows, error = [], ""
    for name in (row for row in study.rows if row in wanted):
        keys: dict[int, str] = {}
        probes: dict[str, str] = {}
        try:
            keys = _row_keys(study.configuration(name), study, mode, code, inputs)
            if mode_name == "full":
                probes = _probe_keys(study, name, mode, code, inputs)
        except Exception as problem:  # the user's data function: any of its errors is the study's
            error = f"{type(problem).__name__}: {problem}"
        _add_specs(specs, study, name, (mode_name, mode), keys, probes)
        row = _plan_row(study, name, keys, name in selected, code.mentioned)
        rows.append(dataclasses.replace(row, probes=probes))
    leading = inputs.metric if inputs.metric in study.metrics else study.metrics[0]
    return StudyPlan(
        name=study.name,
        mode=mode_name,
        description=study.description,
        train=getattr(study.train, "__name__", type(study.train).__name__),
        metrics=study.metrics,
        margin=study.margin,
        rows=tuple(rows),
        not_selected=tuple(v.name for v in study.variants if v.name not in selected),
        leading=leading,
        also=study.shown_beside(leading),
        tables=study.tables,
        factorial=study.factorial,
        sensitivity=study.sensitivity or "",
        error=error,
    )


def _row_keys(
    config: Any, study: Study, mode: Mode, code: TrainingCode, inputs: _Inputs
) -> dict[int, str]:
    """Seed to the key of the run of *config*."""
    data = study.data(config, inputs.data_dir) if study.data is not None else None
    if not code.is_stable:  # nobody can tell whether it is the same code the next time
        data = [data, inputs.session]
    plain, device = plain_values(config), inputs.device
    return {
        seed: run_key(config=plain, seed=seed, mode=mode, data=data, code=code, device=device)
        for seed in mode.seeds
    }


def _probe_keys(
    study: Study, row: str, mode: Mode, code: TrainingCode, inputs: _Inputs
) -> dict[str, str]:
    """Label to the key of the probe, with the mode's first seed."""
    first = Mode(mode.seeds[:1], **mode.budget)
    return {
        label: _row_keys(config, study, first, code, inputs)[mode.seeds[0]]
        for label, config in study.probes_of(row).items()
    }


def _add_specs(
    specs: _Specs,
    study: Study,
    row: str,
    named_mode: tuple[str, Mode],
    keys: Mapping[int, str],
    probes: Mapping[str, str],
) -> None:
    def spec(key: str, seed: int, config: Any, label: str) -> RunSpec:
        label = f"{study.name} {label}"
        return RunSpec(key, seed, *named_mode, config=config, train=study.train, label=label)

    for seed, key in keys.items():
        specs.of_rows.setdefault(key, spec(key, seed, study.configuration(row), row))
    for label, key in probes.items():
        text = f"{row} {study.sensitivity} {label.replace(TIMES, 'x')}"
        probe = spec(key, named_mode[1].seeds[0], study.probes_of(row)[label], text)
        specs.of_probes.setdefault(key, probe)


def _config_classes(study: Study) -> list[type]:
    """The class of a configuration counts as code: its properties may decide the result."""
    config = study.configuration(study.baseline_name)
    return [type(config)] if dataclasses.is_dataclass(config) else []


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
    lists = {name: tuple(content.pop(name)) for name in ("metrics", "not_selected", "also")}
    tables = tuple(MetricTable(**table) for table in content.pop("tables"))
    factorial = content.pop("factorial")
    factorial = None if factorial is None else Factorial.from_json(factorial)
    return StudyPlan(**content, **lists, rows=rows, tables=tables, factorial=factorial)


def _row_from_json(content: dict[str, Any]) -> RowPlan:
    keys = {int(seed): key for seed, key in content.pop("keys").items()}
    lists = {name: tuple(content.pop(name)) for name in ("unread", "allow_different")}
    return RowPlan(**content, **lists, keys=keys)
