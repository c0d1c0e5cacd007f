"""From plan and records to results: statuses, means, deltas, verdicts. Pure; never trains.

The same functions serve a running case (its own row) and the report (all rows), so a case and the
table can never disagree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from pytest_ablation import guards
from pytest_ablation.plan import RowPlan, StudyPlan
from pytest_ablation.record import Record
from pytest_ablation.statistics import Delta, mean, paired_delta, standard_deviation

#: From the mildest to the gravest.
STATUSES = ("ok", "no_effect", "unfair", "diverged", "missing", "failed")


@dataclass(frozen=True)
class RunResult:
    """One seed of a row: its record, if there is one, and what became of it."""

    seed: int
    key: str
    status: str
    message: str
    record: Record | None


@dataclass(frozen=True)
class MetricResult:
    """One metric of a row over its finished seeds; ``delta`` is None for a baseline row."""

    n_seeds: int
    mean: float | None
    std: float | None
    baseline_mean: float | None
    delta: Delta | None

    @property
    def delta_percent(self) -> float | None:
        """The change relative to the baseline's mean over the same seeds, in percent."""
        if self.delta is None or not self.baseline_mean:
            return None
        return 100 * self.delta.value / self.baseline_mean


@dataclass(frozen=True)
class RowResult:
    """One row of a study: status, the reason where it is not ok, and numbers by metric.

    ``probes`` are single runs beside the row (another learning rate), by label; what becomes of
    them never changes the row's status.
    """

    plan: RowPlan
    status: str
    message: str
    same_as: str
    runs: tuple[RunResult, ...]
    metrics: Mapping[str, MetricResult]
    probes: Mapping[str, RunResult] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def records(self) -> dict[int, Record]:
        """Seed to the record of its run, where that finished; its pair may have had trouble."""
        return {seed: record for seed, record in self.all_records.items() if record.ok}

    @property
    def all_records(self) -> dict[int, Record]:
        """Seed to the record of its run, diverged ones too."""
        return {run.seed: run.record for run in self.runs if run.record is not None}


@dataclass(frozen=True)
class StudyResult:
    plan: StudyPlan
    rows: tuple[RowResult, ...]

    def row(self, name: str) -> RowResult:
        return next(row for row in self.rows if row.name == name)

    @property
    def runs(self) -> dict[str, RunResult]:
        """All runs of the study by key, those of several rows once, probes last."""
        runs = [run for row in self.rows for run in row.runs]
        runs += [run for row in self.rows for run in row.probes.values()]
        by_key: dict[str, RunResult] = {}
        for run in runs:
            by_key.setdefault(run.key, run)
        return by_key

    def models(self) -> list[tuple[tuple[str, ...], RowResult]]:
        """The rows in the order of :func:`by_delta`, rows of the same runs as one: their names, and
        the first of them."""
        models = []
        for row in by_delta(self):
            if not row.same_as:
                others = (other.name for other in self.rows if other.same_as == row.name)
                models.append(((row.name, *others), row))
        return models


def by_delta(study: StudyResult) -> list[RowResult]:
    """Baseline rows first, then variants from the largest loss to the largest gain."""

    def position(row: RowResult) -> tuple[int, float]:
        delta = row.metrics[study.plan.leading].delta
        if row.plan.baseline is None:
            return 0, 0.0
        return (1, delta.value) if delta is not None else (2, 0.0)

    return sorted(study.rows, key=position)


def study_result(
    plan: StudyPlan,
    records: Mapping[str, Record],
    failures: Mapping[str, str],
    lost: Collection[str] = (),
) -> StudyResult:
    """The result of one study.

    Parameters
    ----------
    plan : StudyPlan
    records : key to record, finished or diverged
    failures : key to the reason why that run has no record
    lost : keys of runs whose training began and never ended
    """
    runs = {row.name: _run_results(plan, row, records, failures, lost) for row in plan.rows}
    rows = []
    for row in plan.rows:
        probes = _probe_results(plan, row, records, failures, lost)
        rows.append(replace(_row_result(plan, row, runs), probes=probes))
    return StudyResult(plan, tuple(rows))


def _run_results(
    plan: StudyPlan,
    row: RowPlan,
    records: Mapping[str, Record],
    failures: Mapping[str, str],
    lost: Collection[str],
) -> tuple[RunResult, ...]:
    """The runs of a row, seed by seed; see :func:`study_result`."""
    results = []
    for seed, key in row.keys.items():
        record = records.get(key)
        if record is not None:
            status, message = _told_status(plan, record)
        elif key in failures:
            status, message = "failed", failures[key]
        else:
            status, message = "missing", "it was never trained"
            if key in lost:
                message = "its training began and never ended (interrupted, or the process died)"
        results.append(RunResult(seed, key, status, message, record))
    return tuple(results)


def _told_status(plan: StudyPlan, record: Record) -> tuple[str, str]:
    """A record's own status, unless it lacks a metric that the study reports."""
    absent = [name for name in plan.metrics if record.ok and name not in record.metrics]
    if not absent:
        return record.status, record.message
    found = ", ".join(sorted(record.metrics)) or "nothing"
    return "failed", f"{plan.train} returned no metric {absent[0]!r}, only {found}"


def _probe_results(
    plan: StudyPlan,
    row: RowPlan,
    records: Mapping[str, Record],
    failures: Mapping[str, str],
    lost: Collection[str],
) -> dict[str, RunResult]:
    """The probes of a row, as if each were a row of the first seed alone."""
    seed = next(iter(row.keys), 0)
    probes = {}
    for label, key in row.probes.items():
        alone = replace(row, keys={seed: key})
        (probes[label],) = _run_results(plan, alone, records, failures, lost)
    return probes


def _row_result(
    plan: StudyPlan, row: RowPlan, runs: Mapping[str, tuple[RunResult, ...]]
) -> RowResult:
    own = runs[row.name]
    base = runs[row.baseline] if row.baseline is not None else ()
    status, message = _status(plan, row, own, base)
    return RowResult(
        plan=row,
        status=status,
        message=message,
        same_as=plan.same_as(row),
        runs=tuple(_with_pair_status(row, run, base, status) for run in own),
        metrics={
            name: _metric_result(name, own, base, plan.margin, status) for name in plan.metrics
        },
    )


def _status(
    plan: StudyPlan, row: RowPlan, own: tuple[RunResult, ...], base: tuple[RunResult, ...]
) -> tuple[str, str]:
    """The gravest status that applies to the row, and all that is to be said about it."""
    is_planned = row.keys and (row.baseline is None or plan.row(row.baseline).keys)
    if plan.error and not is_planned:
        return "failed", plan.error
    if plan.is_open:
        return "missing", "which cell of the grid its baseline is was never known"
    troubled = [(row.name, run) for run in own if run.status != "ok"]
    troubled += [(f"its baseline {row.baseline}", run) for run in base if run.status != "ok"]
    if troubled:
        gravest = max((run.status for _, run in troubled), key=STATUSES.index)
        parts = [f"{name}, seed {run.seed}: {run.status}: {run.message}" for name, run in troubled]
        return gravest, "\n".join(parts)
    if row.baseline is None:
        return "ok", ""
    variant, baseline = _records(own), _records(base)
    unfair = guards.unfair(row, variant, baseline)
    if unfair is not None:
        return "unfair", unfair
    no_effect = guards.no_effect(row, variant, baseline, train=plan.train, metrics=plan.metrics)
    return ("no_effect", no_effect) if no_effect is not None else ("ok", "")


def _with_pair_status(
    row: RowPlan, run: RunResult, base: tuple[RunResult, ...], row_status: str
) -> RunResult:
    """The run with the status of its pair, where the run itself is ok and its pair is not."""
    pair = next((other for other in base if other.seed == run.seed), None)
    if run.status != "ok" or pair is None or pair.status != "ok":
        return run
    if row_status == "no_effect":
        return replace(run, status="no_effect")
    if guards.differing(row, run.record, pair.record):
        return replace(run, status="unfair")
    return run


def _metric_result(
    name: str,
    own: tuple[RunResult, ...],
    base: tuple[RunResult, ...],
    margin: float,
    status: str,
) -> MetricResult:
    values, baseline = _values(name, own), _values(name, base)
    delta = paired_delta(values, baseline, margin=margin)
    if delta is not None and status != "ok":  # numbers to look at, but no claim
        delta = replace(delta, verdict=None)
    shared = [baseline[seed] for seed in sorted(set(values) & set(baseline))]
    return MetricResult(
        n_seeds=len(values),
        mean=mean(list(values.values())),
        std=standard_deviation(list(values.values())),
        baseline_mean=mean(shared),
        delta=delta,
    )


def _records(runs: tuple[RunResult, ...]) -> dict[int, Record]:
    return {run.seed: run.record for run in runs if run.status == "ok"}


def _values(name: str, runs: tuple[RunResult, ...]) -> dict[int, float]:
    return {seed: record.metrics[name] for seed, record in _records(runs).items()}
