"""Makes the plan of a session: selected cases go in, rows, keys and how to train each run come out.

Trains nothing and reads no store. A study whose baseline is a grid's best cell is planned in two
steps: the grid's runs first, its own rows when these are known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_ablation.configuration import did_you_mean, plain_budget, plain_values
from pytest_ablation.digests import digest
from pytest_ablation.errors import StudyError, described
from pytest_ablation.grid_results import grid_result
from pytest_ablation.grids import choose
from pytest_ablation.keys import run_key
from pytest_ablation.looks import look_sizes
from pytest_ablation.mode import Mode
from pytest_ablation.options import METRIC_OPTION, Options
from pytest_ablation.plan import Plan, RowPlan, RunSpec, StudyPlan
from pytest_ablation.probes import TIMES
from pytest_ablation.record import Record
from pytest_ablation.resolution import Rows
from pytest_ablation.results import study_result
from pytest_ablation.study import CaseSpec, Study
from pytest_ablation.training_code import TrainingCode, training_code


@dataclass(frozen=True)
class Planner:
    """What of a session decides its plan.

    Attributes
    ----------
    session : the session's id
    seeds : that many seeds instead of a mode's own; None keeps these
    device : the device asked for
    data_dir : the user's data folder
    metric : leads in the studies that report it; None leaves each study its first
    auto : whether rows get more seeds where verdicts are open
    most_seeds : how many a row can get in all, for that or for a gate; 0: no more than it has
    interval : "seeds" or "seeds+examples"
    """

    session: str
    seeds: int | None
    device: str
    data_dir: Path | None
    metric: str | None = None
    auto: bool = False
    most_seeds: int = 0
    interval: str = "seeds"

    @classmethod
    def of(cls, options: Options, session: str) -> Planner:
        """The one that a session of this id and these options has."""
        can_grow = options.auto_seeds or options.gate is not None
        return cls(
            session,
            seeds=options.seeds,
            device=options.device,
            data_dir=options.data_dir,
            metric=options.metric,
            auto=options.auto_seeds,
            most_seeds=options.max_seeds if can_grow else 0,
            interval=options.interval,
        )

    def plan(self, cases: Iterable[tuple[str, CaseSpec]]) -> tuple[Plan, dict[str, RunSpec]]:
        """The plan for the selected cases, and how to train each of its runs, by key.

        The probes of all studies come last. A study whose baseline is a grid's best cell is open:
        the grid's runs are planned, and its own when :meth:`settle` is told what they gave.

        Raises
        ------
        StudyError
            Two different studies of one name, or none that reports the metric.
        """
        cases = list(cases)
        if self.metric is not None:
            _check_metric(self.metric, [case.study for _, case in cases])
        chosen: dict[tuple[str, str], tuple[Study, list[str]]] = {}
        for _, case in cases:
            study, rows = chosen.setdefault((case.study.name, case.mode), (case.study, []))
            if study is not case.study:
                raise StudyError(
                    f"two studies are called {study.name!r}: their rows could not be told apart; "
                    f"rename one"
                )
            rows.append(case.variant)
        specs = _Specs()
        studies = tuple(
            self._plan_study(study, mode, set(rows), specs)
            for (_, mode), (study, rows) in chosen.items()
        )
        by_node = {node: [case.study.name, case.mode, case.variant] for node, case in cases}
        return Plan(self.session, studies, by_node), specs.in_order()

    def settle(
        self,
        study: Study,
        plan: StudyPlan,
        records: Mapping[str, Record],
        failures: Mapping[str, str],
    ) -> tuple[StudyPlan, dict[str, RunSpec]]:
        """An open plan with the rows that follow from the grid's best cell, and their runs.

        The best cell is the one that the grid's own report has first: of the highest mean of its
        ``select`` metric over the seeds, cells of which a run diverged left out. Where a run of the
        grid has no record, the best cell is not known, and the plan says so as its error.

        Parameters
        ----------
        records, failures : key to record, key to the reason why there is none
        """
        grid = study.best_cell(plan.mode).study
        grid_plan = self._plan_study(grid, plan.mode, set(grid.rows), _Specs())
        grid_plan = dataclasses.replace(grid_plan, looks=())  # its cells have the mode's seeds
        found = study_result(grid_plan, records, failures)
        unknown = [f"{row.name}, seed {run.seed}: {run.message}" for row in found.rows
                   for run in row.runs if run.status in ("missing", "failed")]  # fmt: skip
        values = {cell.name: cell.values for cell in grid_result(found).ranked}
        if unknown or not values:
            why = unknown[0] if unknown else "of every cell a run diverged"
            text = f"the best cell of {grid.name} cannot be chosen: {why}"
            return dataclasses.replace(plan, error=text), {}
        choice = choose(grid.name, grid.design, grid.select, values)
        specs = _Specs()
        context = self._context(study, plan.mode, choice.cell)
        selected = {row.name for row in plan.rows if row.selected}
        rows, error = self._plan_rows(context, selected, specs)
        settled = dataclasses.replace(
            plan, rows=rows, error=error, choice=choice, factorial=context.rows.factorial
        )
        return settled, specs.in_order()

    # --- inside ------------------------------------------------------------------------------

    def _context(self, study: Study, mode_name: str, cell: str | None) -> _Context:
        mode = study.modes[mode_name]
        mode = mode if self.seeds is None else mode.with_seed_count(self.seeds)
        code = code_of(study)
        rows = study.resolved(mode_name, cell)
        return _Context(study, mode_name, mode.budget_alone, rows, code)

    def _plan_study(
        self, study: Study, mode_name: str, selected: set[str], specs: _Specs
    ) -> StudyPlan:
        best = study.best_cell(mode_name)
        candidates: dict[str, Mapping[int, str]] = {}
        if best is None:
            context = self._context(study, mode_name, None)
            rows, error = self._plan_rows(context, selected, specs)
        else:
            grid = self._context(best.study, mode_name, None)
            rows, error = self._plan_rows(grid, set(best.study.rows), specs)
            candidates = {row.name: row.keys for row in rows}
            first = next(iter(best.changes_in(mode_name)))
            context = self._context(study, mode_name, first)
            rows = tuple(_plan_row(context, name, {}, {}, selected)
                         for name in _wanted(study, selected))  # fmt: skip
        leading = self.metric if self.metric in study.metrics else study.metrics[0]
        return StudyPlan(
            name=study.name,
            mode=mode_name,
            description=study.description,
            train=getattr(study.train, "__name__", type(study.train).__name__),
            metrics=study.metrics,
            margins=study.margins,
            lower_is_better=study.lower_is_better,
            gate_metrics=study.gate_metrics,
            rows=rows,
            not_selected=tuple(name for name in study.case_rows if name not in selected),
            leading=leading,
            also=study.shown_beside(leading),
            tables=study.tables,
            factorial=context.rows.factorial,
            sensitivity=study.sensitivity or "",
            error=error,
            select=study.select,
            cost_figure=study.cost_figure,
            grid=study.design,
            candidates=candidates,
            looks=self._looks(context.mode),
            first_seeds=len(context.mode.seeds),
            most_seeds=max(self.most_seeds, len(context.mode.seeds)),
            interval=self.interval,
            budget=plain_budget(context.mode.budget),
            libraries=context.code.libraries,
        )

    def _looks(self, mode: Mode) -> tuple[int, ...]:
        first = len(mode.seeds)
        return look_sizes(first, max(first, self.most_seeds)) if self.auto else ()

    def _plan_rows(
        self, context: _Context, selected: set[str], specs: _Specs
    ) -> tuple[tuple[RowPlan, ...], str]:
        """The rows with the keys of their runs, and why these are not known, where that is so."""
        rows, error = [], ""
        for name in _wanted(context.study, selected):
            keys: dict[int, str] = {}
            probes: dict[str, str] = {}
            reserve: dict[int, str] = {}
            told = ""
            try:
                config = context.rows.configurations[name]
                data = self._data(context, config)
                told = digest(data) if context.study.data is not None else ""
                keys, reserve = self._row_keys(context, config, data)
                if context.mode_name == "full":
                    probes = self._probe_keys(context, name)
            except Exception as problem:  # the user's data function: its errors are the study's
                error = described(problem)
            _add_specs(specs, context, name, keys | reserve, probes, told)
            row = _plan_row(context, name, keys, probes, selected)
            rows.append(dataclasses.replace(row, reserve=reserve, data=told))
        return tuple(rows), error

    def _data(self, context: _Context, config: Any) -> Any:
        """What the study tells of the data that *config* would train on."""
        return context.study.data(config, self.data_dir) if context.study.data is not None else None

    def _row_keys(
        self, context: _Context, config: Any, data: Any
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Seed to the key of the run of *config*, and the same for the seeds in reserve."""
        if not context.code.is_stable:  # nobody can tell whether it is the same code the next time
            data = [data, self.session]
        common = {"mode": context.mode, "data": data, "code": context.code, "device": self.device}
        plain = plain_values(config)
        own = context.mode.seeds
        every = context.mode.with_seed_count(max(self.most_seeds, len(own))).seeds
        keys = {seed: run_key(config=plain, seed=seed, **common) for seed in every}
        return {s: keys[s] for s in own}, {s: k for s, k in keys.items() if s not in own}

    def _probe_keys(self, context: _Context, row: str) -> dict[str, str]:
        """Label to the key of the probe, with the mode's first seed."""
        first = dataclasses.replace(
            context, mode=Mode(context.mode.seeds[:1], **context.mode.budget)
        )
        return {
            label: self._row_keys(first, config, self._data(first, config))[0][first.mode.seeds[0]]
            for label, config in context.rows.probes[row].items()
        }


@dataclass(frozen=True)
class _Context:
    """A study in a mode: its seeds and budget, its rows as the mode has them, its code."""

    study: Study
    mode_name: str
    mode: Mode
    rows: Rows
    code: TrainingCode


@dataclass
class _Specs:
    """How to train each run, by key: of rows, those in reserve too, and what is only a probe."""

    of_rows: dict[str, RunSpec] = field(default_factory=dict)
    of_probes: dict[str, RunSpec] = field(default_factory=dict)

    def in_order(self) -> dict[str, RunSpec]:
        """Probes last: no result waits for them."""
        probes = {key: spec for key, spec in self.of_probes.items() if key not in self.of_rows}
        return self.of_rows | probes


def _wanted(study: Study, selected: set[str]) -> list[str]:
    """The selected rows and their baselines, in the order of the definition."""
    wanted = selected | {study.baseline_of(name) for name in selected}
    return [row for row in study.rows if row in wanted]


def _check_metric(metric: str, studies: Iterable[Study]) -> None:
    known = dict.fromkeys(name for study in studies for name in study.metrics)
    if metric not in known:
        raise StudyError(
            f"{METRIC_OPTION}={metric}: no selected study reports it{did_you_mean(metric, known)}"
        )


def _add_specs(
    specs: _Specs,
    context: _Context,
    row: str,
    keys: Mapping[int, str],
    probes: Mapping[str, str],
    data: str,
) -> None:
    study, mode = context.study, context.mode
    depends = {"code": context.code.digest, "data": data, "libraries": context.code.libraries}

    def spec(key: str, seed: int, config: Any, label: str) -> RunSpec:
        label = f"{study.name} {label}"
        named_mode = context.mode_name, mode
        return RunSpec(key, seed, *named_mode, config, study.train, label, **depends)

    for seed, key in keys.items():
        config = context.rows.configurations[row]
        specs.of_rows.setdefault(key, spec(key, seed, config, row))
    for label, key in probes.items():
        text = f"{row} {study.sensitivity} {label.replace(TIMES, 'x')}"
        probe = spec(key, mode.seeds[0], context.rows.probes[row][label], text)
        specs.of_probes.setdefault(key, probe)


def code_of(study: Study) -> TrainingCode:
    """What the runs of a study hang on besides their configuration."""
    return training_code(study.train, *_config_classes(study))


def _config_classes(study: Study) -> list[type]:
    """The class of a configuration counts as code: its properties may decide the result."""
    config = study.configuration(study.baseline_name)
    return [type(config)] if dataclasses.is_dataclass(config) else []


def _plan_row(
    context: _Context,
    name: str,
    keys: Mapping[int, str],
    probes: Mapping[str, str],
    selected: set[str],
) -> RowPlan:
    study = context.study
    changes = {field: list(pair) for field, pair in context.rows.changes_of(name).items()}
    variant = study.variant(name) if name != study.baseline_name else None
    return RowPlan(
        name=name,
        baseline=study.baseline_of(name) if name in selected else None,
        changes=changes,
        unread=tuple(field for field in changes if field not in context.code.mentioned),
        allow_different=tuple(sorted(variant.allow_different)) if variant else (),
        description=variant.description if variant else "",
        keys=keys,
        selected=name in selected,
        probes=probes,
    )
