"""What a reference holds: studies, rows and runs of earlier code, as plain frozen values.

reference.py makes, writes and reads them. Knows nothing of files, statistics or pytest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Correctness:
    """Which of the test examples a run got right.

    Attributes
    ----------
    examples : how many there are, at least 1
    packed : one bit each, as ``numpy.packbits`` puts them into bytes
    """

    examples: int
    packed: bytes

    @classmethod
    def of(cls, correct: np.ndarray) -> Correctness:
        """From an array [examples] of bool, or of 0 and 1."""
        import numpy as np

        return cls(len(correct), np.packbits(np.asarray(correct) != 0).tobytes())

    def array(self) -> np.ndarray:
        """As an array [examples] of bool."""
        import numpy as np

        bits = np.unpackbits(np.frombuffer(self.packed, np.uint8), count=self.examples)
        return bits.astype(bool)


@dataclass(frozen=True)
class ReferenceRun:
    """What one run gave.

    Attributes
    ----------
    metrics : value of each of the study's metrics
    correct : for those of the gate's metrics of which the run told it per example
    outcome : digest of all that came out (metrics, weights, predictions, losses, as far as told):
        two runs of the same outcome are bit-identical
    train_data, evaluation_data : digests of what it trained on and was tested with, "" where it did
        not tell
    """

    seed: int
    metrics: Mapping[str, float]
    correct: Mapping[str, Correctness]
    outcome: str
    train_data: str = ""
    evaluation_data: str = ""


@dataclass(frozen=True)
class ReferenceRow:
    """A row of a study and its finished runs.

    Attributes
    ----------
    baseline : the row that it is compared with; None for one that is only a baseline
    configuration : digest of the resolved configuration and the budget; "" where no run is known.
        Seeds, code, library versions and device do not count
    data : digest of what the study's ``data`` told, "" where it has none; what the runs themselves
        told of their data stands with them
    runs : by seed; a run that failed or diverged is not there
    status : one of ``results.STATUSES``
    same_as : the first row of the same model, "" where that is this row
    config : the resolved configuration, to show; numbers that are not finite as text
    """

    name: str
    baseline: str | None
    configuration: str
    data: str
    runs: Mapping[int, ReferenceRun]
    status: str
    same_as: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReferenceStudy:
    """A study in the reference's mode; the words are those of ``plan.StudyPlan``.

    ``rows`` are in the order of the study's definition; ``not_selected`` are those that the session
    did not train; ``budget`` is the mode's, to show.
    """

    name: str
    metrics: tuple[str, ...]
    gate_metrics: tuple[str, ...]
    lower_is_better: tuple[str, ...]
    margins: Mapping[str, float]
    rows: Mapping[str, ReferenceRow]
    not_selected: tuple[str, ...] = ()
    budget: Mapping[str, Any] = field(default_factory=dict)

    def is_better_higher(self, metric: str) -> bool:
        return metric not in self.lower_is_better


@dataclass(frozen=True)
class Reference:
    """The results of one mode; ``made`` are the facts of :func:`provenance.facts_of`."""

    mode: str
    studies: Mapping[str, ReferenceStudy]
    made: Mapping[str, Any]
