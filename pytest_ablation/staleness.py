"""Whether kept runs are still what the project would train: of the same code, data and libraries.

Kept and planned runs go in, a state and the reason for it come out. Reads and trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_ablation.inventory import KeptRun
from pytest_ablation.planned_runs import Planned, PlannedRun

CURRENT, STALE, UNUSED, UNKNOWN, DAMAGED = "current", "stale", "unused", "unknown", "damaged"


_OTHER_CODE, _OTHER_DATA = "code changed", "data changed"
_ANY_MODE = ("", "alone")  # of a checkpoint, and of a run outside pytest


@dataclass(frozen=True)
class State:
    """One of the words above, and why."""

    word: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


def state_of(run: KeptRun, planned: Planned | None) -> State:
    """What a kept run is for the project as it is now.

    Parameters
    ----------
    run : KeptRun
    planned : what the project would train; None where that cannot be known
    """
    if run.record is None:
        return State(DAMAGED, run.problem)
    python = str(run.record.environment.get("python", ""))
    return state_of_origin(run.key, run.origin, python, planned, run.record.mode)


def state_of_origin(
    key: str, origin: Mapping[str, Any], python: str, planned: Planned | None, mode: str = ""
) -> State:
    """The same of a run's key and origin, the Python that it was trained with, and its mode."""
    if planned is None:
        return State(UNKNOWN, "the project could not be collected")
    if key in planned.runs:
        return State(CURRENT)
    train = origin.get("train")
    if train is None:
        return State(UNKNOWN, "it does not say what it is of, as those of older versions")
    same = [other for other in planned.runs.values() if other.train == train]
    if same:
        state = _compared(origin, ".".join(python.split(".")[:2]), same, planned)
    else:
        state = State(UNUSED, f"no selected study trains with {train}")
    if state.word == UNUSED or state.reason in (_OTHER_CODE, _OTHER_DATA):  # than known runs have
        for study in planned.open:
            is_alike = (study.train, study.code) == (train, origin.get("code"))
            if is_alike and mode in (study.mode, *_ANY_MODE):
                return State(UNKNOWN, f"perhaps one of {study}")
    return state


def _compared(
    origin: Mapping[str, Any], python: str, others: Iterable[PlannedRun], planned: Planned
) -> State:
    """The state of a run whose training function is still in use, by these *others*."""
    same = [other for other in others if other.code == origin.get("code")]
    if not same:
        return State(STALE, _OTHER_CODE)
    if python and python != planned.python:
        return State(STALE, f"Python {python} -> {planned.python}")
    then = origin.get("libraries")
    then = then if isinstance(then, dict) else {}  # a checkpoint's was not checked
    if then not in [other.libraries for other in same]:
        return State(STALE, _changed(then, same[0].libraries))
    if origin.get("data") not in [other.data for other in same]:
        return State(STALE, _OTHER_DATA)
    return State(UNUSED, "no selected case needs it")


def _changed(then: dict[str, str], now: dict[str, str]) -> str:
    """Which libraries have another version now."""
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    return ", ".join(f"{n} {then.get(n, 'none')} -> {now.get(n, 'none')}" for n in names)
