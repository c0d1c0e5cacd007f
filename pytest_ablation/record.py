"""What a run leaves behind: metrics, history, digests and cost, as plain Python values.

A record flows from the run interface to the store and from there to statistics, guards and
reports. It knows nothing of studies: two studies that need the same run share its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

SCHEMA_VERSION = 1

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


@dataclass(frozen=True)
class Cost:
    """What a run spent. Never part of a comparison.

    ``peak_memory_mib`` is the process's peak resident memory during the run, or the peak of
    allocated device memory where the run used CUDA.
    """

    train_seconds: float
    examples_per_second: float | None = None
    peak_memory_mib: float | None = None
    parameters: int | None = None


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
    session : the session that trained it; a record of another session counts as reused
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
    fingerprints: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, str | None] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""
    history: tuple[HistoryRow, ...] = ()

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def to_json(self) -> dict[str, Any]:
        """Everything but the history (which has a file of its own) as JSON-ready values."""
        content = asdict(self)
        del content["history"]
        content["limits"] = {name: limit._asdict() for name, limit in self.limits.items()}
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any], history: tuple[HistoryRow, ...]) -> Record:
        """The inverse of :meth:`to_json`; raises ``TypeError`` or ``KeyError`` on other content."""
        values = dict(content)
        values["cost"] = Cost(**values["cost"])
        values["limits"] = {name: Limit(**limit) for name, limit in values["limits"].items()}
        return cls(**values, history=history)
