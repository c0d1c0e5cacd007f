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
from pytest_ablation.told import told_once

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
    lost : keys of runs whose training began and never ended; may map them to what is known of that
    correctness : for intervals over seeds and test examples
    """
    known = _Known(records, failures, lost)
    plan, looked, sound = _decided(plan, known, correctness)
    runs = {row.name: _run_results(plan, row, known) for row in plan.rows}
    outcomes = {
        row.name: _status(plan, row, runs[row.name], _compared_runs(row, runs, looked))
        for row in plan.rows
    }
    analysis = _Analysis(plan, runs, sound, correctness)
    metrics = {name: analysis.deltas(name, looked) for name in plan.metrics}
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
    """The comparisons of a study: its runs by row, and the rows whose comparison is sound."""

    plan: StudyPlan
    runs: Mapping[str, tuple[RunResult, ...]]
    sound: Collection[str]
    correctness: Correctness | None = None

    def deltas(self, metric: str, looked: Mapping[str, verdicts.Look]) -> dict[str, Delta | None]:
        """Compared row to its delta. Rows that are no comparison stand by themselves."""
        sound = {name: look for name, look in looked.items() if name in self.sound}
        found = verdicts.deltas(self.plan, metric, self.known(metric), sound)
        for row in self.plan.rows:
            if row.name in looked and row.name not in found:
                found[row.name] = paired_delta(
                    _values(metric, self.runs[row.name]),
                    _values(metric, self.runs[row.baseline]),
                    margin=self.plan.margins[metric],
                    higher_is_better=self.plan.is_better_higher(metric),
                )
        return found

    def known(self, metric: str) -> verdicts.Known:
        values = {name: _values(metric, runs) for name, runs in self.runs.items()}
        with_examples = self.plan.interval == "seeds+examples" and self.correctness is not None
        return verdicts.Known(values, self.sound, self._examples(metric) if with_examples else None)

    def _examples(self, metric: str) -> verdicts.Examples:
        def spread_of(pair: verdicts.Pair, seeds: tuple[int, ...]) -> ExampleSpread | None:
            tables = [self._by_example(metric, name, seeds) for name in pair]
            if any(table is None for table in tables) or tables[0].shape != tables[1].shape:
                return None
            return example_spread(tables[0] - tables[1])

        return spread_of

    def _by_example(self, metric: str, name: str, seeds: tuple[int, ...]) -> np.ndarray | None:
        """[seeds, examples] of a row's results; None where they cannot be crossed.

        They can where all seeds have the same test examples, the mean of which is the metric.
        """
        import numpy as np

        runs = {run.seed: run for run in self.runs[name]}
        told = [self.correctness(runs[seed].key).get(metric) for seed in seeds]
        data = {runs[seed].record.fingerprints.get("evaluation_data") for seed in seeds}
        if not told or any(array is None or np.ndim(array) != 1 for array in told):
            return None
        if len(data) > 1 or len({len(array) for array in told}) > 1 or len(told[0]) < 2:
            return None
        table = np.stack(told).astype(float)
        values = [runs[seed].record.metrics[metric] for seed in seeds]
        return table if np.allclose(table.mean(axis=1), values, rtol=0, atol=1e-6) else None


def _decided(
    plan: StudyPlan, known: _Known, correctness: Correctness | None
) -> tuple[StudyPlan, dict[str, verdicts.Look], set[str]]:
    """The plan with the seeds that verdicts have asked for so far; compared row to its look; the
    rows whose comparison is sound, as their first seeds tell."""
    most = tuple(verdicts.with_seeds(row, max(plan.most_seeds, len(row.keys))) for row in plan.rows)
    runs = {row.name: _run_results(plan, row, known) for row in most}
    first = {row.name: tuple(r for r in runs[row.name] if r.seed in row.keys) for row in plan.rows}
    statuses = {
        row.name: _status(plan, row, first[row.name], first.get(row.baseline, ()))[0]
        for row in plan.rows
    }
    sound = {
        row.name
        for row in plan.rows
        if row.baseline is not None and statuses[row.name] not in ("no_effect", "unfair")
    }
    states = {
        (name, run.seed): _state(run, statuses[name], known)
        for name, of in runs.items()
        for run in of
    }
    analysis = _Analysis(plan, runs, sound, correctness).known(plan.metrics[0])
    decided = verdicts.decide(plan, analysis, lambda name, seed: states[name, seed])
    return *decided, sound


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
            status, message = "missing", "never trained"
            if key in known.lost:
                message = known.lost[key] if isinstance(known.lost, Mapping) else LOST
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
        said = [(name, run.seed, f"{run.status}: {run.message}") for name, run in troubled]
        return gravest, told_once(said)
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
