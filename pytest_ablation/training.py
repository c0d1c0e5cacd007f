"""One run, from lock to record: reuse it, or train it and keep what came out.

A run's specification goes in; its record comes out, or the reason why there is none. Works the same
in the pytest process, in a pytest-xdist worker and in a process of the pool.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import os
import platform
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

from filelock import Timeout

from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.configuration import plain_budget, plain_values
from pytest_ablation.errors import Diverged, described
from pytest_ablation.journal import Journal
from pytest_ablation.out_of_memory import OutOfMemory, free_memory, out_of_memory
from pytest_ablation.plan import RunSpec
from pytest_ablation.record import LOST, Record
from pytest_ablation.record_files import files_of
from pytest_ablation.run import Run
from pytest_ablation.store import DamagedRecord, Store, UnwritableStore

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SET_BY_US = "_ABLATION_THREADS"

_MOST_BEGINNINGS = 2  # of a run in one session, where none of them came to an end
_NOT_AGAIN = (
    "training began {} times in this session and never ended (each time the process died, or a "
    "time limit stopped it): not tried again"
)
_WAY_BACK = (
    " (the next try goes on from the checkpoint after epoch {}; to begin anew, remove that with "
    "`python -m pytest_ablation runs remove --checkpoints`, or use --ablation-fresh)"
)

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

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        return cls(described(error), "".join(traceback.format_exception(error)))


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
    if record is None or may_use(record, store, place.session, **wishes):
        return record
    if place.fresh and _has_trained(key, place):
        # Another session with --ablation-fresh has put the same run in the place of ours.
        return replace(record, session=place.session)
    return None


def set_damaged_aside(store: Store, journal: Journal, key: str, problem: DamagedRecord) -> str:
    """Make room for a record that can be read; returns what the journal is told of it."""
    text = f"{problem}; the run is trained again, the damaged record is set aside"
    journal.tell("damaged", key=key, message=text)
    store.set_aside(key)
    return text


def _has_trained(key: str, place: Workplace) -> bool:
    """Whether this session has trained a run to its end already."""
    return bool(Journal(place.journal).all_events("finished", key))


def may_use(record: Record, store: Store, session: str, *, fresh: bool, save_models: bool) -> bool:
    """Whether a session may use this record of *store*: its own, or one that has all it wants.

    Where models are wanted, a record of weights that were not kept is not enough.
    """
    if record.session == session:
        return True
    return not fresh and not (save_models and store.lacks_model(record))


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
    except OSError as error:
        return _failed(place, spec.key, store.unwritable(error))
    try:
        with contextlib.suppress(DamagedRecord):  # the session has told it already
            record = usable_record(spec.key, place)
            if record is not None:
                return record
        failed = Journal(place.journal).all_events("failed")
        for event in failed:
            if event["key"] == spec.key:
                return Failure(event["message"], event["details"])
        begun = _times_begun(spec.key, place)
        if begun and not again:
            return Failure(LOST)
        if begun >= _MOST_BEGINNINGS:
            failure = Failure(_NOT_AGAIN.format(begun))
            tell_failure(place, spec.key, failure)
            return failure
        try:  # nobody wants to train for hours what then cannot be kept
            store.check_room(max((event.get("bytes", 0) for event in failed), default=0))
        except UnwritableStore as error:
            return _failed(place, spec.key, error)
        return _train_and_keep(keeping_its_model(spec, store), place, store, tick, on_log)
    finally:
        lock.release()


def keeping_its_model(spec: RunSpec, store: Store) -> RunSpec:
    """The run as who has its lock is to train it: what takes a model's place has one itself.

    Another session, with ``--ablation-save-models``, may have promised that model. (Without the
    package safetensors it cannot be kept, nor used.)
    """
    has_one = store.has_model(spec.key) and importlib.util.find_spec("safetensors") is not None
    return replace(spec, keep_model=has_one)


def _failed(place: Workplace, key: str, error: UnwritableStore, needed: int = 0) -> Failure:
    """The failure of a run that could not be kept, or not be trained for that reason.

    The journal says how many bytes were *needed*, so that other runs ask for that much room before
    they are trained.
    """
    failure = Failure(str(error))
    tell_failure(place, key, failure, needed)
    return failure


def _times_begun(key: str, place: Workplace) -> int:
    """How often its training began in this session; who holds its lock knows that it has ended."""
    return len(Journal(place.journal).all_events("started", key))


def tell_failure(place: Workplace, key: str, failure: Failure, needed: int = 0) -> None:
    """Let the other processes of the session, and its report, know why a run has no record."""
    content = {"message": failure.message, "details": failure.details, "bytes": needed}
    Journal(place.journal).tell("failed", key=key, **content)


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
    except UnwritableStore as error:
        return _failed(place, spec.key, error, sum(map(len, outcome.files.values())))
    _checkpoints(spec, place).remove()
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
    facts = {"label": spec.label, "seed": spec.seed, "epochs": epochs, "pid": os.getpid()}
    tell("started", key=spec.key, **facts)
    limit_threads(place.threads)
    outcome = _attempt(spec, place, tell, tick, told)
    if isinstance(outcome, OutOfMemory):
        free_memory()
        tell("doing", key=spec.key, text="out of memory, tried again")
        outcome = _attempt(spec, place, tell, tick, told)
    if isinstance(outcome, OutOfMemory):
        free_memory()
        outcome = Failure(outcome.advice, outcome.details)
    if isinstance(outcome, Failure):
        return _with_way_back(outcome, _checkpoints(spec, place).epoch)
    return outcome


def _with_way_back(failure: Failure, epoch: int | None) -> Failure:
    """The failure says how to begin anew, where the next try would go on from a checkpoint."""
    if epoch is None:
        return failure
    return replace(failure, message=f"{failure.message}{_WAY_BACK.format(epoch)}")


def _attempt(
    spec: RunSpec,
    place: Workplace,
    tell: Tell,
    tick: Callable[[], None],
    told: OnLog | None,
) -> Trained | Failure | OutOfMemory:
    """One try, from a new Run to the files of its record."""
    try:
        run = _new_run(spec, place, tell, tick, told)
        record = _train(spec, run, place)
        files = files_of(
            record, run.predictions, run.weights, name_of(spec.train),
            about=run.about, heat_maps=run.told_heat_maps,
        )  # fmt: skip
    except (Exception, SystemExit) as error:
        return out_of_memory(error) or Failure.of(error)
    return Trained(record, files)


def _train(spec: RunSpec, run: Run, place: Workplace) -> Record:
    metrics: Mapping[str, float] = {}
    with contextlib.suppress(Diverged):  # the run remembers it
        metrics = spec.train(spec.config, run)
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"a training function returns {{metric: value}}, found {type(metrics).__name__}: "
            f"{metrics!r:.80}"
        )
    return run.finish(
        metrics,
        key=spec.key,
        mode_name=spec.mode_name,
        config=plain_values(spec.config),
        session=place.session,
        origin=_origin(spec),
    )


def _new_run(
    spec: RunSpec,
    place: Workplace,
    tell: Tell,
    tick: Callable[[], None],
    told: OnLog | None,
) -> Run:
    """What the training function gets; all that it tells while it trains goes to *tell*."""

    def on_log(epoch: int, split: str, values: Mapping[str, float]) -> None:
        losses = [value for name, value in values.items() if "loss" in name]
        tell("epoch", key=spec.key, epoch=epoch, loss=losses[0] if losses else None)
        tick()
        if told is not None:
            told(epoch, split, values)

    def on_doing(text: str) -> None:
        tell("doing", key=spec.key, text=text)
        tick()

    return Run(
        seed=spec.seed,
        mode=spec.mode,
        device=place.device,
        device_index=place.device_index,
        data_dir=place.data_dir,
        cache_dir=Store(place.store).cache,
        on_log=on_log,
        on_doing=on_doing,
        on_damaged=lambda text: tell("damaged", key=spec.key, message=text, by_run=True),
        keep_weights=place.save_models or spec.keep_model,
        checkpoints=_checkpoints(spec, place),
    )


def _checkpoints(spec: RunSpec, place: Workplace) -> CheckpointFolder:
    return CheckpointFolder(
        Store(place.store).checkpoints / spec.key,
        key=spec.key,
        seed=spec.seed,
        session=place.session,
        only_of_session=place.fresh,
        seconds=place.checkpoint_seconds,
        origin={**_origin(spec), "python": platform.python_version()},
    )


def _origin(spec: RunSpec) -> dict[str, Any]:
    """What a run is of, for whoever asks later whether it is still what the project trains."""
    return {
        "label": spec.label,
        "train": name_of(spec.train),
        "code": spec.code,
        "data": spec.data,
        "libraries": dict(spec.libraries),
        "budget": plain_budget(spec.mode.budget),
    }


def name_of(train: Any) -> str:
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
