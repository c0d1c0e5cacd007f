"""From plan and records to results: statuses, means, deltas, verdicts. Pure; never trains.

The same functions serve a running case (its own row) and the report (all rows), so a case and the
table can never disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_ablation import guards, verdicts
from pytest_ablation.crossed import ExampleSpread, example_spread
from pytest_ablation.plan import RowPlan, StudyPlan
from pytest_ablation.record import LOST, Record
from pytest_ablation.statistics import Delta, mean, paired_delta, standard_deviation

if TYPE_CHECKING:
    import numpy as np

#: A run's key to its correctness by example, [examples] of 0 and 1 by metric.
Correctness = Callable[[str], Mapping[str, "np.ndarray"]]

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
        """The change relative to the size of the baseline's mean over the same seeds, in percent.

        Its sign is that of the delta.
        """
        if self.delta is None or not self.baseline_mean:
            return None
        return 100 * self.delta.value / abs(self.baseline_mean)


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
    """Baseline rows first, then variants from the largest harm to the largest benefit."""
    sign = 1 if study.plan.is_better_higher(study.plan.leading) else -1

    def position(row: RowResult) -> tuple[int, float]:
        delta = row.metrics[study.plan.leading].delta
        if row.plan.baseline is None:
            return 0, 0.0
        return (1, sign * delta.value) if delta is not None else (2, 0.0)

    return sorted(study.rows, key=position)


def study_result(
    plan: StudyPlan,
    records: Mapping[str, Record],
    failures: Mapping[str, str],
    lost: Collection[str] = (),
    correctness: Correctness | None = None,
) -> StudyResult:
    """The result of one study.

    Where seeds are spent as verdicts need them, its plan has the seeds that the records so far ask
    for, those too that nobody has trained yet.

    Parameters
    ----------
    plan : StudyPlan
    records : key to record, finished or diverged
    failures : key to the reason why that run has no record
    lost : keys of runs whose training began and never ended
    correctness : for intervals over seeds and test examples
    """
    known = _Known(records, failures, lost)
    plan, looked = _decided(plan, known)
    runs = {row.name: _run_results(plan, row, known) for row in plan.rows}
    outcomes = {
        row.name: _status(plan, row, runs[row.name], _compared_runs(row, runs, looked))
        for row in plan.rows
    }
    analysis = _Analysis(plan, runs, looked, outcomes, correctness)
    metrics = {name: analysis.deltas(name) for name in plan.metrics}
    rows = []
    for row in plan.rows:
        base = _compared_runs(row, runs, looked)
        status, message = outcomes[row.name]
        rows.append(
            RowResult(
                plan=row,
                status=status,
                message=message,
                same_as=plan.same_as(row),
                runs=tuple(_with_pair_status(row, run, base, status) for run in runs[row.name]),
                metrics={
                    name: _metric_result(name, runs[row.name], base, of.get(row.name), status)
                    for name, of in metrics.items()
                },
                probes=_probe_results(plan, row, known),
            )
        )
    return StudyResult(plan, tuple(rows))


@dataclass(frozen=True)
class _Known:
    """What is known of runs, by key; see :func:`study_result`."""

    records: Mapping[str, Record]
    failures: Mapping[str, str]
    lost: Collection[str]


@dataclass(frozen=True)
class _Analysis:
    """The comparisons of a study: its runs by row, the look of each compared row, statuses."""

    plan: StudyPlan
    runs: Mapping[str, tuple[RunResult, ...]]
    looked: Mapping[str, verdicts.Look]
    outcomes: Mapping[str, tuple[str, str]]
    correctness: Correctness | None = None

    def deltas(self, metric: str) -> dict[str, Delta | None]:
        """Compared row to its delta. Rows that are no comparison stand by themselves."""
        values = self.values(metric)
        sound = {name: look for name, look in self.looked.items() if name in values}
        examples = self._examples(metric) if self.plan.interval == "seeds+examples" else None
        found = verdicts.deltas(self.plan, metric, values, sound, examples)
        for row in self.plan.rows:
            if row.name in self.looked and row.name not in found:
                pair = (_values(metric, self.runs[name]) for name in (row.name, row.baseline))
                found[row.name] = paired_delta(*pair, margin=self.plan.margins[metric])
        return found

    def values(self, metric: str) -> dict[str, dict[int, float]]:
        """Row to its values by seed; what is no comparison has no part in the spread of others."""
        return {
            name: _values(metric, runs)
            for name, runs in self.runs.items()
            if self.outcomes[name][0] not in ("no_effect", "unfair")
        }

    def _examples(self, metric: str) -> verdicts.Examples:
        def spread_of(pair: verdicts.Pair, seeds: tuple[int, ...]) -> ExampleSpread | None:
            import numpy as np

            arrays = []
            for name in pair:
                keys = {run.seed: run.key for run in self.runs[name]}
                told = [self.correctness(keys[seed]).get(metric) for seed in seeds]
                if not told or any(array is None for array in told):
                    return None
                arrays.append(np.stack(told).astype(float))
            same_shape = arrays[0].shape == arrays[1].shape
            return example_spread(arrays[0] - arrays[1]) if same_shape else None

        return spread_of


def _decided(plan: StudyPlan, known: _Known) -> tuple[StudyPlan, dict[str, verdicts.Look]]:
    """The plan with the seeds that verdicts have asked for so far; compared row to its look."""
    most = tuple(verdicts.with_seeds(row, max(plan.most_seeds, len(row.keys))) for row in plan.rows)
    runs = {row.name: _run_results(plan, row, known) for row in most}
    first = {row.name: tuple(r for r in runs[row.name] if r.seed in row.keys) for row in plan.rows}
    outcomes = {
        row.name: _status(plan, row, first[row.name], first.get(row.baseline, ()))
        for row in plan.rows
    }
    states = {
        (name, run.seed): _state(run, outcomes[name][0], known)
        for name, of in runs.items()
        for run in of
    }
    values = _Analysis(plan, runs, {}, outcomes).values(plan.metrics[0])
    return verdicts.decide(plan, values, lambda name, seed: states[name, seed])


def _state(run: RunResult, row_status: str, known: _Known) -> str:
    """See :func:`verdicts.decide`."""
    if run.status == "missing" and run.key not in known.lost:
        return "pending"
    is_fine = run.status == "ok" and row_status in ("ok", "missing")
    return "finished" if is_fine else "trouble"


def _compared_runs(
    row: RowPlan,
    runs: Mapping[str, tuple[RunResult, ...]],
    looked: Mapping[str, verdicts.Look],
) -> tuple[RunResult, ...]:
    """The runs of its baseline that a row is compared with."""
    if row.baseline is None:
        return ()
    seeds = set(looked[row.name].seeds)
    return tuple(run for run in runs[row.baseline] if run.seed in seeds)


def _run_results(plan: StudyPlan, row: RowPlan, known: _Known) -> tuple[RunResult, ...]:
    """The runs of a row, seed by seed."""
    results = []
    for seed, key in row.keys.items():
        record = known.records.get(key)
        if record is not None:
            status, message = _told_status(plan, record)
        elif key in known.failures:
            status, message = "failed", known.failures[key]
        else:
            status, message = "missing", "it was never trained"
            if key in known.lost:
                message = LOST
        results.append(RunResult(seed, key, status, message, record))
    return tuple(results)


def _told_status(plan: StudyPlan, record: Record) -> tuple[str, str]:
    """A record's own status, unless it lacks a metric that the study reports."""
    absent = [name for name in plan.metrics if record.ok and name not in record.metrics]
    if not absent:
        return record.status, record.message
    found = ", ".join(sorted(record.metrics)) or "nothing"
    return "failed", f"{plan.train} returned no metric {absent[0]!r}, only {found}"


def _probe_results(plan: StudyPlan, row: RowPlan, known: _Known) -> dict[str, RunResult]:
    """The probes of a row, as if each were a row of the first seed alone."""
    seed = next(iter(row.keys), 0)
    probes = {}
    for label, key in row.probes.items():
        alone = replace(row, keys={seed: key})
        (probes[label],) = _run_results(plan, alone, known)
    return probes


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
    delta: Delta | None,
    status: str,
) -> MetricResult:
    values, baseline = _values(name, own), _values(name, base)
    if delta is not None and status != "ok":  # numbers to look at, but no claim
        delta = replace(delta, verdict=None)
    shared = [] if delta is None else [baseline[seed] for seed in delta.by_seed]
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
