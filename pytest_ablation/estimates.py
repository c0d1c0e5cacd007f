"""How long runs will take, from the records of runs like them.

Specifications and the store go in, seconds by key come out; where nothing is like a run, it has
none. Reads ``record.json`` alone, without its checksum: a wrong estimate costs time, and nothing
else hangs on it.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pytest_ablation.configuration import plain_budget, plain_values
from pytest_ablation.errors import StudyError
from pytest_ablation.plan import RunSpec
from pytest_ablation.store import Store
from pytest_ablation.training import name_of

_LARGEST_RECORD = 64 * 2**20  # bytes; not worth reading for a guess
Fields = frozenset[tuple[str, str]]  # of a configuration or a budget: name and value as JSON


def seconds_by_key(specs: Sequence[RunSpec], store: Store) -> dict[str, float]:
    """The expected seconds of training of those runs that there is something to expect from.

    Parameters
    ----------
    specs : sequence of RunSpec
    store : Store

    Returns
    -------
    dict
        Key to seconds, above 0; without the runs that no record is like. See :class:`Estimates`.
    """
    return Estimates(store).seconds(specs)


@dataclass(frozen=True)
class _Runs:
    """Kept runs that were trained alike, but for their seeds."""

    train: str  # "" in records that do not say
    study: str
    config: Fields
    budget: Fields | None
    mode: str
    code: str
    epochs: int | None


class Estimates:
    """What the runs in a store took. Reads each record once, however often it is asked.

    The estimate of a run is the mean over kept runs of the same training function, configuration
    and budget; where there are none, over those of the same function and the fewest fields that
    differ; else over those of its study. Runs of the same code are preferred, and where epochs
    differ the seconds are scaled by those of the budgets. Records without an origin (schema 1 and
    2) count where configuration and mode agree.
    """

    def __init__(self, store: Store) -> None:
        self._folder = store.runs
        self._seen: set[str] = set()
        self._runs: dict[_Runs, list[float]] = {}

    def seconds(self, specs: Iterable[RunSpec]) -> dict[str, float]:
        """Key to expected seconds, for the runs of which anything is known."""
        self._read_on()
        found: dict[_Runs, float | None] = {}
        estimates = {}
        for spec in specs:
            wanted = _wanted(spec)
            if wanted not in found:
                found[wanted] = self._estimate(wanted)
            if found[wanted] is not None:
                estimates[spec.key] = found[wanted]
        return estimates

    def _estimate(self, wanted: _Runs) -> float | None:
        distances: dict[tuple[int, int, int, int], list[float]] = {}
        for runs, seconds in self._runs.items():
            distance = _distance(wanted, runs)
            if distance is not None:
                factor = _factor(wanted, runs)
                distances.setdefault(distance, []).extend(factor * s for s in seconds)
        return fmean(distances[min(distances)]) if distances else None

    def _read_on(self) -> None:
        """Take in the records that have come since the last time."""
        try:
            names = sorted(os.listdir(self._folder))
        except OSError:  # nothing was ever trained
            return
        for name in names:
            if name.startswith(".") or name in self._seen:
                continue
            self._seen.add(name)
            found = _read(self._folder / name / "record.json")
            if found is not None:
                runs, seconds = found
                self._runs.setdefault(runs, []).append(seconds)


def _wanted(spec: RunSpec) -> _Runs:
    budget = plain_budget(spec.mode.budget)
    return _Runs(
        train=name_of(spec.train),
        study=_study_of(spec.label),
        config=_fields(_plain(spec.config)),
        budget=_fields(budget),
        mode=spec.mode_name,
        code=spec.code,
        epochs=_epochs(budget),
    )


def _distance(wanted: _Runs, kept: _Runs) -> tuple[int, int, int, int] | None:
    """How unlike a run kept ones are, None where nothing follows from them.

    In this order: another function, fields that differ, another budget, other code.
    """
    if kept.budget is None:  # of an older schema
        is_same = wanted.config == kept.config and wanted.mode == kept.mode
        return (0, 0, 0, 1) if is_same else None
    if wanted.train != kept.train and wanted.study != kept.study:
        return None
    fields = {name for name, _ in wanted.config ^ kept.config}
    other_function = int(wanted.train != kept.train)
    return (
        other_function,
        0 if other_function else len(fields),
        int(wanted.budget != kept.budget),
        int(wanted.code != kept.code),
    )


def _factor(wanted: _Runs, kept: _Runs) -> float:
    if wanted.budget == kept.budget or not wanted.epochs or not kept.epochs:
        return 1.0
    return wanted.epochs / kept.epochs


def _read(path: Path) -> tuple[_Runs, float] | None:
    """What a record says of its run; None where it is damaged, or the run did not finish well."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or state.st_size > _LARGEST_RECORD:
            return None
        record = json.loads(path.read_bytes())["record"]
        seconds = record["cost"]["train_seconds"]
        if record["status"] != "ok" or not _is_positive(seconds):
            return None
        return _runs_of(record), float(seconds)
    except (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None
    except RecursionError:  # nested as no record is
        return None


def _runs_of(record: Mapping[str, Any]) -> _Runs:
    origin = record.get("origin") or {}
    budget = origin.get("budget")
    return _Runs(
        train=str(origin.get("train", "")),
        study=_study_of(str(origin.get("label", ""))),
        config=_fields(record["config"]),
        budget=None if budget is None else _fields(budget),
        mode=str(record["mode"]),
        code=str(origin.get("code", "")),
        epochs=_epochs(budget or {}),
    )


def _is_positive(seconds: Any) -> bool:
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return is_number and 0 < seconds < math.inf


def _epochs(budget: Mapping[str, Any]) -> int | None:
    epochs = budget.get("epochs")
    is_count = isinstance(epochs, int) and not isinstance(epochs, bool) and epochs > 0
    return epochs if is_count else None


def _study_of(label: str) -> str:
    return label.partition(" ")[0]


def _plain(config: Any) -> Mapping[str, Any]:
    try:
        return plain_values(config)
    except StudyError:  # its own case will say so
        return {}


def _fields(values: Mapping[str, Any]) -> Fields:
    return frozenset((name, json.dumps(value, sort_keys=True)) for name, value in values.items())
