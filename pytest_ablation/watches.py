"""What a run watches as it goes: gradient norms, jumps of the loss, order and time of its epochs.

Plain values go in one by one, a summary for the record comes out; ``state()`` gives what was seen
as nested plain values, and ``of()`` goes on from there. Knows nothing of runs, studies or stores.
"""

from __future__ import annotations

import math
import statistics
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from pytest_ablation.record import GradientNorms, LossSpikes

SPIKE_WINDOW = 50  #: steps before the one that is judged
SPIKE_FIRST = 20  #: the first step that is judged: before it, too few to compare with
SPIKE_DEVIATIONS = 5.0
SPIKE_RATIO = 1.5
_NORMAL_DEVIATION = 1.4826  # of a normal sample, the standard deviation is this many times its MAD


class GradientWatch:
    """The largest gradient norm, where it was, and the median; keeps 8 bytes a step."""

    def __init__(self) -> None:
        self._finite = array("d")
        self._told = 0
        self._overflowed = False
        self._largest = -math.inf
        self._place: tuple[int | None, int] = (None, 0)

    def see(self, norm: float, epoch: int | None, step: int) -> None:
        """A norm; the first that is not finite (an overflow) is larger than all others."""
        self._told += 1
        if math.isfinite(norm):
            self._finite.append(norm)
            larger = norm > self._largest
        else:
            larger = not self._overflowed
            self._overflowed = True
        if larger:
            self._largest, self._place = norm, (epoch, step)

    def summary(self) -> GradientNorms | None:
        """None where no norm was seen."""
        if not self._told:
            return None
        median = statistics.median(self._finite) if self._finite else math.inf
        return GradientNorms(self._largest, *self._place, median, self._told)

    def state(self) -> dict[str, Any]:
        import numpy as np

        return {
            "finite": np.array(self._finite),  # one for every step: as text, three times as large
            "told": self._told,
            "overflowed": self._overflowed,
            "largest": self._largest,
            "place": list(self._place),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> GradientWatch:
        watch = cls()
        watch._finite = array("d", state["finite"].tolist())
        watch._told = state["told"]
        watch._overflowed = state["overflowed"]
        watch._largest = state["largest"]
        watch._place = _place(state["place"])
        return watch


class LossWatch:
    """Finds the steps whose loss is a spike.

    A loss is one where it is more than 5 robust standard deviations (1.4826 times the median
    absolute deviation) above the median of the up to 50 losses before it, and at least 1.5 times
    that median. The first 19 losses are not judged; where the median is not positive, nothing is,
    for then a ratio says nothing. Source of the robust deviation: F. R. Hampel, "The influence
    curve and its role in robust estimation", 1974.
    """

    def __init__(self) -> None:
        self._before: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self._count = 0
        self._largest = 0.0
        self._place: tuple[int | None, int] = (None, 0)

    def see(self, loss: float, epoch: int | None, step: int) -> None:
        """The finite loss of the next step."""
        if len(self._before) >= SPIKE_FIRST - 1:
            median = statistics.median(self._before)
            if median > 0 and loss >= SPIKE_RATIO * median:
                self._judge(loss, median, (epoch, step))
        self._before.append(loss)

    def _judge(self, loss: float, median: float, place: tuple[int | None, int]) -> None:
        deviation = statistics.median(abs(value - median) for value in self._before)
        if loss - median > SPIKE_DEVIATIONS * _NORMAL_DEVIATION * deviation:
            self._count += 1
            if loss / median > self._largest:
                self._largest, self._place = loss / median, place

    def summary(self) -> LossSpikes | None:
        """None where no loss was seen."""
        if not self._before:
            return None
        return LossSpikes(self._count, self._largest, *self._place)

    def state(self) -> dict[str, Any]:
        return {
            "before": list(self._before),
            "count": self._count,
            "largest": self._largest,
            "place": list(self._place),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> LossWatch:
        watch = cls()
        watch._before.extend(state["before"])
        watch._count = state["count"]
        watch._largest = state["largest"]
        watch._place = _place(state["place"])
        return watch


def _place(told: list[Any]) -> tuple[int | None, int]:
    epoch, step = told
    return epoch, step


class EpochOrders:
    """The digest of the batch order up to the end of each epoch, for runs that end early."""

    def __init__(self) -> None:
        self._orders: list[str] = []
        self._is_known = True

    def see(self, epoch: int | None, order: Callable[[], str]) -> None:
        """A step of *epoch*, after which *order* gives the digest of all steps so far."""
        if epoch == len(self._orders) + 1:
            self._orders.append(order())
        elif self._orders and epoch == len(self._orders):
            self._orders[-1] = order()
        else:
            self._is_known = False

    def summary(self) -> tuple[str, ...]:
        """Empty where a step told no epoch, or epochs did not go 1, 2, 3 ..."""
        return tuple(self._orders) if self._is_known else ()

    def state(self) -> dict[str, Any]:
        return {"orders": list(self._orders), "is_known": self._is_known}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> EpochOrders:
        orders = cls()
        orders._orders = list(state["orders"])
        orders._is_known = state["is_known"]
        return orders


class EpochSeconds:
    """When each epoch ended: its last log, as long as no later epoch has logged."""

    def __init__(self) -> None:
        self._ends: dict[int, float] = {}
        self._latest = 0

    def see(self, epoch: int, seconds: float) -> None:
        """A log of *epoch* after so many seconds of training.

        Ignored are epochs below 1, what comes after a later epoch (a test of the best one, say),
        and jumps of more than a thousand, which are no epochs (steps, say).
        """
        if max(1, self._latest) <= epoch <= self._latest + 1000:
            self._ends[epoch] = seconds
            self._latest = epoch

    def summary(self) -> tuple[float, ...]:
        """Seconds of epoch i + 1; one that logged nothing has those of the next one that did."""
        filled: list[float] = []
        for epoch, seconds in self._ends.items():
            filled += [seconds] * (epoch - len(filled))
        return tuple(filled)

    def state(self) -> list[list[float]]:
        return [[epoch, seconds] for epoch, seconds in self._ends.items()]

    @classmethod
    def of(cls, state: list[list[float]]) -> EpochSeconds:
        ends = cls()
        for epoch, seconds in state:
            ends.see(int(epoch), seconds)
        return ends


class TrainingClock:
    """Seconds of training: of what lies between enter() and leave(), without these of all."""

    def __init__(self) -> None:
        self._before = 0.0  # of earlier processes and of earlier blocks
        self._since = time.perf_counter()
        self._has_blocks = False
        self._is_running = True

    def enter(self) -> None:
        if not self._has_blocks:
            self._has_blocks, self._before = True, 0.0
        self._since, self._is_running = time.perf_counter(), True

    def leave(self) -> None:
        self._before, self._is_running = self.seconds(), False

    def seconds(self) -> float:
        """Until now."""
        return self._before + (time.perf_counter() - self._since if self._is_running else 0.0)

    def state(self) -> dict[str, Any]:
        return {"seconds": self.seconds(), "has_blocks": self._has_blocks}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Add what an earlier process had spent; where it counted blocks, so does this one."""
        if state["has_blocks"] and not self._has_blocks:
            self._has_blocks, self._is_running, self._before = True, False, 0.0
        self._before += float(state["seconds"])
