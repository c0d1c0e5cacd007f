"""How well the runs of a study went: gradients, loss, over-fitting, stopping, learning rate, data.

A row's finished records go in, findings with their advice come out; ``report_health.py`` puts them
into words and a table. Each rule stands in the docstring of its function. Never a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_ablation.histories import (
    TRAIN,
    VALIDATION,
    best_epoch,
    is_better_higher,
    leading_name,
    reported_epoch,
    series,
)
from pytest_ablation.record import GradientNorms, LossSpikes, Record
from pytest_ablation.results import RowResult, StudyResult
from pytest_ablation.statistics import mean

EXPLODED = 100.0  #: times the median norm
LARGE_GAP = 0.1  #: 10 points of a fraction, or 0.1 of a loss

Records = Mapping[int, Record]


@dataclass(frozen=True)
class LargestGradient:
    """The largest gradient norm of a row's runs, and the seed it was in."""

    seed: int
    norms: GradientNorms

    @property
    def exploded(self) -> bool:
        """Not finite, or more than 100 times the run's own median norm."""
        largest, median = self.norms.largest, self.norms.median
        return not math.isfinite(largest) or largest > EXPLODED * median > 0


@dataclass(frozen=True)
class Spikes:
    """Steps whose loss jumped: how many over all seeds, and the largest with its seed.

    ``recovered`` says that each run got over its largest one, which is then hardly more than an
    odd batch; see :func:`recovered_from`.
    """

    count: int
    seed: int
    largest: LossSpikes
    recovered: bool


@dataclass(frozen=True)
class Gap:
    """How far training and validation are apart, means over the seeds.

    Attributes
    ----------
    metric : what was compared
    value : in the direction that is worse for validation: training minus validation, or, of a
        loss and of what else is better when lower, validation minus training
    epochs : the epochs at which it was read, seed by seed
    chosen : whether some run reports an epoch before its last one already
    worsens : whether validation got worse over the last quarter of the epochs; None where there
        are too few to tell
    """

    metric: str
    value: float
    epochs: tuple[int, ...]
    worsens: bool | None
    chosen: bool

    @property
    def overfits(self) -> bool:
        """The gap is above 0.1 and validation got worse at the end."""
        return self.value > LARGE_GAP and bool(self.worsens)


@dataclass(frozen=True)
class Epochs:
    """How long the runs of a row trained, seed by seed.

    ``best`` is None for a run that tells nothing of it; ``stopped`` says whether early stopping
    ended it before its ``budget``.
    """

    trained: tuple[int, ...]
    best: tuple[int | None, ...]
    budget: tuple[int | None, ...]
    stopped: tuple[bool, ...]

    @property
    def best_is_last(self) -> bool:
        """In more than half of the runs the best epoch is the last, and nothing stopped them."""
        runs = zip(self.trained, self.best, self.stopped, strict=True)
        late = sum(best == last and not stopped for last, best, stopped in runs)
        return 2 * late > len(self.trained)


@dataclass(frozen=True)
class Probe:
    """A run at another learning rate: its value, the change, or what became of it instead."""

    label: str
    status: str
    value: float | None
    change: float | None
    message: str = ""


@dataclass(frozen=True)
class Sensitivity:
    """The probes of a row beside its own run of the same seed."""

    field: str
    seed: int
    value: float | None
    rates: Mapping[str, float]
    probes: tuple[Probe, ...]
    higher_is_better: bool = True

    def better(self, margin: float) -> Probe | None:
        """The best probe, where it beats the used rate by more than *margin*."""
        found = [probe for probe in self.probes if self._gain(probe) > margin]
        return max(found, key=self._gain, default=None)

    def _gain(self, probe: Probe) -> float:
        change = probe.change or 0.0
        return change if self.higher_is_better else -change


def largest_gradient(records: Records) -> LargestGradient | None:
    """The largest norm of all runs; one that is not finite is larger than any other."""
    told = [LargestGradient(s, r.gradients) for s, r in records.items() if r.gradients is not None]

    def size(found: LargestGradient) -> float:
        return found.norms.largest if math.isfinite(found.norms.largest) else math.inf

    return max(told, key=size, default=None)


def loss_spikes(records: Records) -> Spikes | None:
    """The spikes of all runs, by the rule of ``LossSpikes``; None where no run told of losses."""
    told = {seed: r for seed, r in records.items() if r.loss_spikes is not None}
    if not told:
        return None
    seed = max(told, key=lambda seed: told[seed].loss_spikes.largest_ratio)
    spiky = [record for record in told.values() if record.loss_spikes.count]
    return Spikes(
        count=sum(record.loss_spikes.count for record in spiky),
        seed=seed,
        largest=told[seed].loss_spikes,
        recovered=all(map(recovered_from, spiky)),
    )


def recovered_from(record: Record) -> bool:
    """Whether the largest spike of a run did no lasting harm.

    The rule: the run did not diverge, and the training loss that it logged for the epoch of the
    spike is below that of the epoch before. False where that was not logged.
    """
    losses, epoch = series(record, TRAIN, "loss"), record.loss_spikes.epoch
    if not record.ok or epoch is None or not {epoch - 1, epoch} <= set(losses):
        return False
    return losses[epoch] < losses[epoch - 1]


def gap(records: Records, leading: str, *, higher_is_better: bool = True) -> Gap | None:
    """Training against validation at the reported epoch, or the last one before that has both.

    Of the leading metric, or what was logged in its place; else of the loss. None where no run has
    logged the same on both splits.
    """
    for wanted, rises in ((leading, higher_is_better), ("loss", False)):
        found = [pair for r in records.values() if (pair := _gap_of(r, wanted, rises)) is not None]
        if found:
            name = found[0][0]
            told = [
                validation_worsens(record, name, higher_is_better=rises)
                for record in records.values()
            ]
            worsens = [worse for worse in told if worse is not None]
            return Gap(
                metric=name,
                value=mean([value for _, value, _ in found]),
                epochs=tuple(epoch for _, _, epoch in found),
                chosen=any(reported_epoch(r) < r.epochs for r in records.values()),
                worsens=2 * sum(worsens) > len(worsens) if worsens else None,
            )
    return None


def _gap_of(record: Record, wanted: str, rises: bool) -> tuple[str, float, int] | None:
    """The metric's name, the gap, and the epoch."""
    name = leading_name(record, wanted, TRAIN, VALIDATION, higher_is_better=rises)
    if name is None:
        return None
    train, validation = series(record, TRAIN, name), series(record, VALIDATION, name)
    epochs = [e for e in train if e in validation and e <= reported_epoch(record)]
    if not epochs:
        return None
    difference = train[epochs[-1]] - validation[epochs[-1]]
    return name, difference if is_better_higher(name, rises) else -difference, epochs[-1]


def validation_worsens(
    record: Record, metric: str, *, higher_is_better: bool = True
) -> bool | None:
    """Whether validation got worse over the last quarter of the epochs.

    The rule: over the last quarter of the epochs with a value (rounded up), the mean validation
    loss is higher, or the mean validation metric worse, than over as many epochs before. None with
    fewer than four such epochs.
    """
    harms = [
        -change if is_better_higher(name, higher_is_better) else change
        for name in dict.fromkeys((metric, "loss"))
        if (change := _late_change(series(record, VALIDATION, name))) is not None
    ]
    return any(harm > 0 for harm in harms) if harms else None


def _late_change(values: Mapping[int, float]) -> float | None:
    """Mean over the last quarter minus mean over the quarter before it."""
    if len(values) < 4:
        return None
    quarter = math.ceil(len(values) / 4)
    listed = list(values.values())
    return mean(listed[-quarter:]) - mean(listed[-2 * quarter : -quarter])


def epochs_of(records: Records, leading: str, *, higher_is_better: bool = True) -> Epochs | None:
    """How long the runs trained and which epoch was best; None where no run tells the latter."""
    told = list(records.values())
    best = tuple(best_epoch(r, leading, higher_is_better=higher_is_better) for r in told)
    if all(epoch is None for epoch in best):
        return None
    stops = [record.early_stop for record in told]
    return Epochs(
        trained=tuple(
            stop.epoch if stop is not None else record.epochs
            for record, stop in zip(told, stops, strict=True)
        ),
        best=best,
        budget=tuple(None if stop is None else stop.budget for stop in stops),
        stopped=tuple(stop is not None and stop.epoch < stop.budget for stop in stops),
    )


def sensitivity(study: StudyResult, row: RowResult) -> Sensitivity | None:
    """What the row's probes gave beside its own run of their seed; None where it has none."""
    if not row.probes:
        return None
    leading, field = study.plan.leading, study.plan.sensitivity
    seed = next(iter(row.probes.values())).seed
    own = row.records.get(seed)
    value = own.metrics.get(leading) if own is not None else None
    probes, rates = [], {}
    for label, run in row.probes.items():
        given = run.record.metrics.get(leading) if run.status == "ok" else None
        change = given - value if None not in (given, value) else None
        probes.append(Probe(label, run.status, given, change, run.message))
        if run.record is not None:
            rates[label] = run.record.config.get(field)
    rises = study.plan.is_better_higher(leading)
    return Sensitivity(field, seed, value, rates, tuple(probes), rises)


def differing_seeds(study: StudyResult) -> dict[str, list[int]]:
    """Row to the seeds it finished, for the rows that lack some of the seeds of others."""
    finished = {row.name: sorted(row.records) for row in study.rows}
    all_seeds = sorted({seed for seeds in finished.values() for seed in seeds})
    return {name: seeds for name, seeds in finished.items() if seeds != all_seeds}


def differing_data(study: StudyResult, fingerprint: str) -> dict[str, list[int]] | None:
    """Row to the seeds in which its digest is not that of the first row that told one.

    None where no run told it. *fingerprint* is ``train_data`` or ``evaluation_data``.
    """
    first: dict[int, str] = {}
    differing: dict[str, list[int]] = {}
    for row in study.rows:
        for seed, record in row.records.items():
            told = record.fingerprints.get(fingerprint)
            if told is not None and first.setdefault(seed, told) != told:
                differing.setdefault(row.name, []).append(seed)
    return differing if first else None


def silent_rows(study: StudyResult, fingerprint: str) -> list[str]:
    """The rows of which some finished run did not tell it, so that nobody knows."""
    return [
        row.name
        for row in study.rows
        if any(record.fingerprints.get(fingerprint) is None for record in row.records.values())
    ]


def seeds_of(study: StudyResult) -> Sequence[int]:
    """All seeds that any row has finished, in order."""
    return sorted({seed for row in study.rows for seed in row.records})
