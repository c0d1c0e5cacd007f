"""One run, from lock to record: reuse it, or train it and keep what came out.

A run's specification goes in; its record comes out, or the reason why there is none. Works the same
in the pytest process, in a pytest-xdist worker and in a process of the pool.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from filelock import Timeout

from pytest_ablation.configuration import plain_budget, plain_values
from pytest_ablation.errors import Diverged
from pytest_ablation.journal import Journal
from pytest_ablation.plan import RunSpec
from pytest_ablation.record import LOST, Record
from pytest_ablation.run import Run
from pytest_ablation.store import DamagedRecord, Store, files_of

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SET_BY_US = "_ABLATION_THREADS"

OnLog = Callable[[int, str, Mapping[str, float]], None]
Tell = Callable[..., None]


@dataclass(frozen=True)
class Workplace:
    """Where and for which session a process trains.

    ``fresh`` ignores what older sessions kept; ``save_models`` keeps models with the runs. A run
    that can be resumed keeps its state after so many ``checkpoint_seconds``, inf for never.
    """

    store: Path
    journal: Path
    session: str
    fresh: bool
    device: str
    device_index: int
    data_dir: Path | None
    threads: int
    save_models: bool = False
    checkpoint_seconds: float = math.inf


@dataclass(frozen=True)
class Failure:
    """Why a run has no record: one sentence, and the traceback where there was an exception."""

    message: str
    details: str = ""


@dataclass(frozen=True)
class Trained:
    """What a run came to: its record, and the files that the store keeps it as."""

    record: Record
    files: Mapping[str, bytes]


def usable_record(key: str, place: Workplace) -> Record | None:
    """The kept record, where there is one that this session may use.

    Raises
    ------
    DamagedRecord
    """
    store = Store(place.store)
    record = store.read(key, check_model=place.save_models)
    wishes = {"fresh": place.fresh, "save_models": place.save_models}
    return record if record and may_use(record, store, place.session, **wishes) else None


def may_use(record: Record, store: Store, session: str, *, fresh: bool, save_models: bool) -> bool:
    """Whether a session may use this record of *store*: its own, or one that has all it wants.

    Where models are wanted, a record of weights that were not kept is not enough.
    """
    if record.session == session:
        return True
    lacks_model = record.outcome.get("weights") is not None and not store.has_model(record.key)
    return not fresh and not (save_models and lacks_model)


def obtain(
    spec: RunSpec,
    place: Workplace,
    tick: Callable[[], None] = lambda: None,
    on_log: OnLog | None = None,
    *,
    again: bool = True,
) -> Record | Failure | None:
    """The record of a run: the kept one, or one trained now under the run's lock.

    Returns None when another process is training it. Calls *tick* whenever the run logs, and
    *on_log* with what it logs. A run that has failed in this session already fails with the same
    words, untrained; so does one whose process died, unless it is to be tried *again*.
    """
    store = Store(place.store)
    lock = store.lock(spec.key)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    try:
        with contextlib.suppress(DamagedRecord):  # the session has told it already
            record = usable_record(spec.key, place)
            if record is not None:
                return record
        for event in Journal(place.journal).all_events("failed"):
            if event["key"] == spec.key:
                return Failure(event["message"], event["details"])
        if not again and _has_begun(spec.key, place):
            return Failure(LOST)
        return _train_and_keep(spec, place, store, tick, on_log)
    finally:
        lock.release()


def _has_begun(key: str, place: Workplace) -> bool:
    """Whether its training began in this session; who holds its lock knows that it has no more."""
    return any(event["key"] == key for event in Journal(place.journal).all_events("started"))


def tell_failure(place: Workplace, key: str, failure: Failure) -> None:
    """Let the other processes of the session, and its report, know why a run has no record."""
    Journal(place.journal).tell("failed", key=key, message=failure.message, details=failure.details)


def _train_and_keep(
    spec: RunSpec,
    place: Workplace,
    store: Store,
    tick: Callable[[], None],
    told: OnLog | None,
) -> Record | Failure:
    journal = Journal(place.journal)
    outcome = train(spec, place, journal.tell, tick, told)
    if isinstance(outcome, Failure):
        tell_failure(place, spec.key, outcome)
        return outcome
    try:
        store.put(spec.key, outcome.files)
    except OSError as error:
        failure = Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
        tell_failure(place, spec.key, failure)
        return failure
    record = outcome.record
    journal.tell("finished", key=spec.key, status=record.status, seconds=record.cost.train_seconds)
    return record


def train(
    spec: RunSpec,
    place: Workplace,
    tell: Tell,
    tick: Callable[[], None] = lambda: None,
    told: OnLog | None = None,
) -> Trained | Failure:
    """Train one run here and now, whoever else may be training it; keeps nothing.

    Calls *tell* with what watchers may want to know (a kind of event and its content, as
    :meth:`Journal.tell`), *tick* whenever the run logs and *told* with what it logs.
    """
    epochs = spec.mode.budget.get("epochs")
    epochs = int(epochs) if isinstance(epochs, Integral) else None
    tell("started", key=spec.key, label=spec.label, seed=spec.seed, epochs=epochs)
    limit_threads(place.threads)
    try:
        record, run = _train(spec, place, tell, tick, told)
        files = files_of(
            record, run.predictions, run.weights, _name_of(spec.train),
            about=run.about, heat_maps=run.told_heat_maps,
        )  # fmt: skip
    except (Exception, SystemExit) as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
    return Trained(record, files)


def _train(
    spec: RunSpec,
    place: Workplace,
    tell: Tell,
    tick: Callable[[], None],
    told: OnLog | None,
) -> tuple[Record, Run]:
    def on_log(epoch: int, split: str, values: Mapping[str, float]) -> None:
        losses = [value for name, value in values.items() if "loss" in name]
        tell("epoch", key=spec.key, epoch=epoch, loss=losses[0] if losses else None)
        tick()
        if told is not None:
            told(epoch, split, values)

    def on_doing(text: str) -> None:
        tell("doing", key=spec.key, text=text)
        tick()

    run = Run(
        seed=spec.seed,
        mode=spec.mode,
        device=place.device,
        device_index=place.device_index,
        data_dir=place.data_dir,
        cache_dir=Store(place.store).cache,
        on_log=on_log,
        on_doing=on_doing,
        keep_weights=place.save_models,
    )
    metrics: Mapping[str, float] = {}
    with contextlib.suppress(Diverged):  # the run remembers it
        metrics = spec.train(spec.config, run)
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"a training function returns {{metric: value}}, found {type(metrics).__name__}: "
            f"{metrics!r:.80}"
        )
    record = run.finish(
        metrics,
        key=spec.key,
        mode_name=spec.mode_name,
        config=plain_values(spec.config),
        session=place.session,
        origin={
            "label": spec.label,
            "train": _name_of(spec.train),
            "code": spec.code,
            "data": spec.data,
            "libraries": dict(spec.libraries),
            "budget": plain_budget(spec.mode.budget),
        },
    )
    return record, run


def _name_of(train: Any) -> str:
    """Where a training function is defined, as ``module:name``; of what is called, its class."""
    while isinstance(train, functools.partial):
        train = train.func
    named = train if hasattr(train, "__qualname__") else type(train)
    return f"{named.__module__}:{named.__qualname__}"


def limit_threads(count: int) -> None:
    """Let numerical libraries in this process use *count* threads, so that N processes share.

    Libraries that are not loaded yet read the environment. ``OMP_NUM_THREADS`` as set by the user
    stands.
    """
    if "OMP_NUM_THREADS" in os.environ and _SET_BY_US not in os.environ:
        return
    if os.environ.get(_SET_BY_US) == f"{os.getpid()}:{count}":
        return
    os.environ[_SET_BY_US] = f"{os.getpid()}:{count}"
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(count)
    if "numpy" in sys.modules:  # its BLAS is loaded and has read the environment already
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
