"""Where runs train: in this process, or in a pool of processes with a share of the cores each.

Specifications go in, records or failures come out, in any order. Two processes of one thread train
small models faster than one process of two threads, so a session without ``-n`` uses the pool.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, TimeoutError
from dataclasses import replace
from multiprocessing import resource_tracker
from typing import Any, Protocol

from pytest_ablation.journal import Journal
from pytest_ablation.plan import RunSpec
from pytest_ablation.record import Record
from pytest_ablation.share import GpuShare
from pytest_ablation.stopping import how_it_died
from pytest_ablation.store import DamagedRecord
from pytest_ablation.training import (
    Failure,
    Workplace,
    limit_threads,
    obtain,
    tell_failure,
    usable_record,
)

Outcome = Record | Failure
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0
_HAS_MASKS = hasattr(signal, "pthread_sigmask")  # Windows has none


class Executor(Protocol):
    """Trains runs. One per session and process."""

    def collect(
        self, specs: Sequence[RunSpec], tick: Callable[[], None], *, again: bool = True
    ) -> dict[str, Outcome]:
        """The outcome of each run, by key; calls *tick* now and then while it waits.

        A run that killed another process of this session is tried *again* or not.
        """
        ...

    def announce(self, specs: Sequence[RunSpec]) -> None:
        """Runs that will be asked for, and may be trained ahead."""
        ...

    def close(self) -> None:
        """Stop what is running and forget what is queued."""
        ...


class InlineExecutor:
    """Trains in this process, one run after the other.

    Parameters
    ----------
    place : Workplace
    session_specs : runs of the session that it may train while it would only wait for others
    """

    def __init__(self, place: Workplace, session_specs: Sequence[RunSpec] = ()) -> None:
        self._place = place
        self._meanwhile = {spec.key: spec for spec in session_specs}

    def collect(
        self, specs: Sequence[RunSpec], tick: Callable[[], None], *, again: bool = True
    ) -> dict[str, Outcome]:
        """Runs that another process is training right now are left for last.

        While all that are left are such, it trains one that another case of the session needs.
        """
        outcomes: dict[str, Outcome] = {}
        waiting = list(specs)
        while waiting:
            busy = []
            for spec in waiting:
                tick()
                outcome = obtain(spec, self._place, tick, again=again)
                if outcome is None:
                    busy.append(spec)
                else:
                    outcomes[spec.key] = outcome
            if len(busy) == len(waiting) and not self._help(tick):
                tick()
                time.sleep(_POLL_SECONDS)
            waiting = busy
        return outcomes

    def announce(self, specs: Sequence[RunSpec]) -> None:
        self._meanwhile |= {spec.key: spec for spec in specs}

    def _help(self, tick: Callable[[], None]) -> bool:
        """Train a run that nobody has begun; False where there is none.

        Not where a process has died: what killed it would take this case with it too.
        """
        if Journal(self._place.journal).all_events("died"):
            return False
        for key, spec in list(self._meanwhile.items()):
            tick()
            try:
                is_kept = usable_record(key, self._place) is not None
            except DamagedRecord:
                is_kept = True  # its own case sets it aside and warns of it
            if not is_kept and obtain(spec, self._place, tick, again=False) is None:
                continue  # another process is training it, and may yet leave it unfinished
            del self._meanwhile[key]
            if not is_kept:
                return True
        return False

    def close(self) -> None:
        pass


class PoolExecutor:
    """Trains in a process for each of *gpus*. The first call also queues all runs of the session.

    Parameters
    ----------
    place : Workplace
    gpus : for each process the GPU that it is to have, None for no one in particular
    session_specs : all runs that the session needs
    in_order : gives runs the order in which they are to be trained
    """

    def __init__(
        self,
        place: Workplace,
        gpus: Sequence[GpuShare | None],
        session_specs: Sequence[RunSpec],
        in_order: Callable[[Sequence[RunSpec]], list[RunSpec]] = list,
    ) -> None:
        self._place = place
        self._gpus = gpus
        self._in_order = in_order
        self._upcoming = list(session_specs)
        self._queue: collections.deque[RunSpec] = collections.deque()
        self._futures: dict[str, Future[Outcome | _Unloadable]] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._slots = [
            threading.Thread(target=self._work, args=(index,), daemon=True)
            for index in range(len(gpus))
        ]
        self._children: dict[int, _Child] = {}

    def collect(
        self, specs: Sequence[RunSpec], tick: Callable[[], None], *, again: bool = True
    ) -> dict[str, Outcome]:
        self._submit([*specs, *self._upcoming])
        self._upcoming = []
        return {spec.key: self._await(spec, tick) for spec in specs}

    def announce(self, specs: Sequence[RunSpec]) -> None:
        self._upcoming += specs

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._queue.clear()
            self._wake.notify_all()
        for child in list(self._children.values()):
            child.stop()
        deadline = time.monotonic() + _GRACE_SECONDS
        for thread in self._slots:
            if thread.is_alive():
                thread.join(timeout=max(0.0, deadline - time.monotonic()))
        for child in list(self._children.values()):  # training code may handle SIGTERM itself
            child.kill()

    def _submit(self, specs: Sequence[RunSpec]) -> None:
        new = {spec.key: spec for spec in specs if spec.key not in self._futures}
        if not new:
            return
        with self._wake:
            self._futures |= {key: Future() for key in new}
            self._queue = collections.deque(self._in_order([*self._queue, *new.values()]))
            self._wake.notify_all()
        for thread in self._slots:
            if thread.ident is None:
                thread.start()

    def _await(self, spec: RunSpec, tick: Callable[[], None]) -> Outcome:
        future = self._futures[spec.key]
        while True:
            tick()
            with contextlib.suppress(TimeoutError):
                outcome = future.result(timeout=_POLL_SECONDS)
                break
        if isinstance(outcome, _Unloadable):
            place = replace(self._place, device_index=0)
            return InlineExecutor(place).collect([spec], tick)[spec.key]
        return outcome

    def _work(self, index: int) -> None:
        """One slot of the pool: take a run, have the slot's process train it, repeat."""
        while (spec := self._next()) is not None:
            try:
                outcome = self._train_in_child(index, spec)
            except Exception as error:  # whatever it is, somebody waits for this run
                outcome = Failure.of(error)
            if outcome is None:  # another session is training it
                time.sleep(_POLL_SECONDS)
                with self._wake:
                    self._queue.append(spec)
                continue
            self._futures[spec.key].set_result(outcome)

    def _train_in_child(self, index: int, spec: RunSpec) -> Outcome | _Unloadable | None:
        child = self._children.get(index)
        if child is None:
            place = replace(self._place, device_index=self._place.device_index + index)
            child = self._children[index] = _Child(place, self._gpus[index])
        if self._closing:  # close() may have come before this child was there to be stopped
            child.stop()
        outcome = child.train(spec)
        if not child.alive:
            del self._children[index]
            if child.was_stopped:  # a signal for the whole session reaches us next
                deadline = time.monotonic() + _GRACE_SECONDS
                while not self._closing and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
            if not self._closing:
                tell_failure(self._place, spec.key, outcome)
        return outcome

    def _next(self) -> RunSpec | None:
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            return None if self._closing else self._queue.popleft()


class _Unloadable:
    """The training function or configuration cannot be sent to another process."""


class _Child:
    """A process that trains what it is sent, and the death of which costs one run."""

    def __init__(self, place: Workplace, gpu: GpuShare | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._process = context.Process(target=_child_main, args=(far_end, place, gpu))
        with _ctrl_c_held():
            self._process.start()
        far_end.close()
        self.alive = True

    def train(self, spec: RunSpec) -> Outcome | _Unloadable | None:
        try:
            message = pickle.dumps(spec)
        except Exception:  # pickle raises whatever the object's own code raises
            return _Unloadable()
        try:
            self._connection.send_bytes(message)
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            self.alive = False
            how = how_it_died(self._process.exitcode or 0)
            helps = ": train fewer runs at once, --ablation-jobs=1" * ("out of memory" in how)
            return Failure(f"the training process died ({how}){helps}")

    def stop(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    @property
    def was_stopped(self) -> bool:
        """Whether it was asked to end, as a whole session is, and did not die of its run."""
        names = ("SIGTERM", "SIGHUP", "SIGINT")
        return -(self._process.exitcode or 0) in [getattr(signal, name, None) for name in names]


@contextlib.contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """A process that is started here does not see Ctrl-C before it can ignore it.

    It has what this thread holds back. In its first second, while it imports, Ctrl-C would end it
    with a traceback on the screen.
    """
    if not _HAS_MASKS:
        yield
        return
    resource_tracker.ensure_running()  # the first start would do so, and let the signal go again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child_main(connection: Any, place: Workplace, gpu: GpuShare | None) -> None:
    """Train what comes until the other end closes."""
    if gpu is not None:  # before any training code is imported
        gpu.take()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; pytest decides
    if _HAS_MASKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads(place.threads)
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        try:
            spec = pickle.loads(message)  # from our own parent's pipe, never from disk
        except Exception:  # its module cannot be imported here
            connection.send(_Unloadable())
            continue
        try:
            outcome = obtain(spec, place)
        except BaseException as error:  # pytest.skip() in a training function, say
            outcome = Failure.of(error)
            tell_failure(place, spec.key, outcome)
        connection.send(outcome)


def _end_with_parent() -> None:
    """A pytest that was killed must not leave hours of training behind that nobody waits for."""
    multiprocessing.parent_process().join()
    os._exit(1)
