"""What a run leaves behind: metrics, history, digests and cost, as plain Python values.

A record flows from the run interface to the store and from there to statistics, guards and
reports. It knows nothing of studies: two studies that need the same run share its record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from pytest_ablation.heat_maps import HeatMapTexts, checked_name
from pytest_ablation.typed_json import as_type

SCHEMA_VERSION = 3
#: Older records stay readable: what they do not hold has its default.
READABLE_SCHEMAS = (1, 2, 3)

STATUSES = ("ok", "diverged")

#: Why a run has no record whose process told nothing more.
LOST = "training began and never ended (interrupted, or the process died)"

#: What the metadata of a kept model say in every case; a run may add its own beside them.
MODEL_METADATA = ("config", "seed", "key", "train")

#: What must agree between a variant and its baseline, seed by seed, for a fair comparison.
FAIRNESS = ("train_data", "evaluation_data", "batch_order", "steps", "device")


class HistoryRow(NamedTuple):
    """One logged value: a metric of one split at the end of one epoch."""

    epoch: int
    split: str
    metric: str
    value: float


class Limit(NamedTuple):
    """A threshold that a component compares with (gradient clipping, say), and what it saw."""

    limit: float
    largest_seen: float
    comparisons: int


class GradientNorms(NamedTuple):
    """The gradient norms of a run, as told step by step.

    Attributes
    ----------
    largest : the largest norm; where some were not finite, the first of those (inf or nan)
    epoch, step : where it was; the step is counted from 1, the epoch None where it was not told
    median : over the norms that are finite; inf where none is
    steps : how many norms were told
    """

    largest: float
    epoch: int | None
    step: int
    median: float
    steps: int


class LossSpikes(NamedTuple):
    """The steps whose loss jumped out of its surroundings; see :class:`watches.LossWatch`.

    Attributes
    ----------
    count : how many steps
    largest_ratio : the largest loss of such a step over the median before it; 0.0 for no step
    epoch, step : where that was; the step is counted from 1, 0 for no step
    """

    count: int
    largest_ratio: float
    epoch: int | None
    step: int


class EarlyStop(NamedTuple):
    """What early stopping did: a run told of it, and may have used its whole budget even so.

    Attributes
    ----------
    epoch : the last epoch that was trained
    best_epoch : the epoch that was best by the rule; 0 is the state before training
    patience : for how many epochs without a better one the rule waits
    budget : how many epochs the run could have had
    """

    epoch: int
    best_epoch: int
    patience: int
    budget: int


@dataclass(frozen=True)
class Cost:
    """What a run spent. Never part of a comparison.

    Attributes
    ----------
    train_seconds : of ``run.training()``, else of the whole run
    examples_per_second : training examples over those seconds
    peak_memory_mib : the process's peak resident memory during the run
    parameters : number of parameters
    forward_examples_per_second : examples over seconds of all ``run.forward(n)`` blocks
    peak_cuda_memory_mib : the peak of allocated device memory, where the run used CUDA
    epoch_seconds : for epoch i + 1, the seconds of training up to its last ``run.log``; an epoch
        that logged nothing has the time of the next one that did
    resumed : the epochs after which an interrupted run was taken up again from a checkpoint
    """

    train_seconds: float
    examples_per_second: float | None = None
    peak_memory_mib: float | None = None
    parameters: int | None = None
    forward_examples_per_second: float | None = None
    peak_cuda_memory_mib: float | None = None
    epoch_seconds: tuple[float, ...] = ()
    resumed: tuple[int, ...] = ()

    @property
    def peak_of_device_mib(self) -> float | None:
        """The peak on the device that trained: CUDA's where it was used, else the resident one."""
        cuda = self.peak_cuda_memory_mib
        return self.peak_memory_mib if cuda is None else cuda


@dataclass(frozen=True)
class Record:
    """The result of one training of one resolved configuration with one seed.

    Attributes
    ----------
    status : "ok" or "diverged"
    metrics : name to value; empty when the run diverged
    fingerprints : what was trained on and how: the digests named in ``FAIRNESS`` (``steps`` is a
        count, ``device`` a kind), each absent or None where the training function did not tell
    outcome : digests of what came out (``weights``, ``predictions``, ``loss_history``), likewise
    limits : thresholds that the run compared with, by the configuration field they belong to
    references : figures that stand beside the variants and that no training changed (an untrained
        model's, say): name to {metric: value}
    gradients, loss_spikes, early_stop : None where the training function did not tell
    epoch_orders : for epoch i + 1, the digest of the batch order up to its end; empty where steps
        told no epoch, or epochs did not go 1, 2, 3 ...
    reported_epoch : the epoch whose weights ``metrics`` belong to, where that was told
    session : the session that trained it; a record of another session counts as reused
    heat_maps : the words of the heat maps that the run told, by name; the store has the numbers
    origin : what it was trained for and depends on: ``label`` ("study row"), ``train`` (module and
        name of the training function), ``code`` and ``data`` (digests), ``libraries`` (versions),
        ``budget``; {} in records of schema 1 and 2
    """

    key: str
    seed: int
    mode: str
    config: Mapping[str, Any]
    status: str
    metrics: Mapping[str, float]
    cost: Cost
    message: str = ""
    epochs: int = 0
    steps: int = 0
    fingerprints: Mapping[str, str | int | None] = field(default_factory=dict)
    outcome: Mapping[str, str | None] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""
    history: tuple[HistoryRow, ...] = ()
    references: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gradients: GradientNorms | None = None
    loss_spikes: LossSpikes | None = None
    early_stop: EarlyStop | None = None
    epoch_orders: tuple[str, ...] = ()
    reported_epoch: int | None = None
    heat_maps: Mapping[str, HeatMapTexts] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def to_json(self) -> dict[str, Any]:
        """Everything but the history (which has a file of its own) as JSON-ready values."""
        content = asdict(self)
        del content["history"]
        if not self.heat_maps:  # few runs tell any: the records of the others stay as they were
            del content["heat_maps"]
        for name in ("epoch_seconds", "resumed"):
            content["cost"][name] = list(getattr(self.cost, name))
        content["epoch_orders"] = list(self.epoch_orders)
        content["limits"] = {name: _to_json(limit) for name, limit in self.limits.items()}
        for name in _TOLD:
            told = getattr(self, name)
            content[name] = None if told is None else _to_json(told)
        return content

    @classmethod
    def from_json(
        cls,
        content: Mapping[str, Any],
        history: tuple[HistoryRow, ...],
        schema: int = SCHEMA_VERSION,
    ) -> Record:
        """The inverse of :meth:`to_json`, for content of any schema in ``READABLE_SCHEMAS``.

        Raises
        ------
        ValueError
            Other content; it says which.
        """
        values = dict(as_type(Mapping[str, Any], content, "record"))
        if "history" in values:
            raise ValueError("record.history is not known here: it has a file of its own")
        if schema == 1:
            values["cost"] = _first_cost(values)
        record = as_type(cls, values | {"history": history}, "record")
        _check(record)
        return record


_TOLD = ("gradients", "loss_spikes", "early_stop")
_ORIGIN = {
    "label": str,
    "train": str,
    "code": str,
    "data": str,
    "libraries": Mapping[str, str],
    "budget": Mapping[str, Any],
}
_LARGEST_COUNT = 2**63 - 1  # what tables and figures can hold


def _to_json(values: NamedTuple) -> dict[str, Any]:
    """By name; what is not finite as text ("inf"), for JSON has no such numbers (RFC 8259)."""
    pairs = values._asdict().items()
    return {n: str(v) if isinstance(v, float) and not math.isfinite(v) else v for n, v in pairs}


def _first_cost(values: Mapping[str, Any]) -> Any:
    """The cost as schema 1 had it: one field held the peak of whichever device it was."""
    cost = dict(as_type(Mapping[str, Any], values.get("cost"), "record.cost"))
    device = as_type(Mapping[str, Any], values.get("fingerprints"), "record.fingerprints")
    if device.get("device") == "cuda" and "peak_memory_mib" in cost:
        cost["peak_cuda_memory_mib"] = cost.pop("peak_memory_mib")
    return cost


def _check(record: Record) -> None:
    """Raise ``ValueError`` for what has the right types and still is no record."""
    if record.status not in STATUSES:
        raise ValueError(f"status is {record.status!r:.60}: expected {' or '.join(STATUSES)}")
    for name in ("seed", "steps"):
        if getattr(record, name) < 0:
            raise ValueError(f"{name} is {getattr(record, name)}: expected 0 or more")
    for name in ("epochs", "steps", "reported_epoch"):
        if abs(getattr(record, name) or 0) > _LARGEST_COUNT:
            raise ValueError(f"{name} is {getattr(record, name)}, which is too large")
    for where, numbers in _numbers_of(record):
        for name, number in numbers.items():
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{where}.{name:.60} is {number}: expected a finite number")
    for name in record.heat_maps:
        checked_name(name)
    for name, value in record.origin.items():
        as_type(_ORIGIN.get(name, Any), value, f"record.origin.{name:.60}")


def _numbers_of(record: Record) -> Iterator[tuple[str, Mapping[str, float | None]]]:
    """The numbers of a record that are finite, by their place and name."""
    yield "metrics", record.metrics
    for name, figures in record.references.items():
        yield f"references.{name:.60}", figures
    cost = vars(record.cost)
    yield "cost", {name: value for name, value in cost.items() if not isinstance(value, tuple)}
    for name in ("epoch_seconds", "resumed"):
        yield f"cost.{name}", {str(i): number for i, number in enumerate(cost[name])}
