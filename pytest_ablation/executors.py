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
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, TimeoutError
from dataclasses import replace
from typing import Any, Protocol

from pytest_ablation.plan import RunSpec
from pytest_ablation.record import Record
from pytest_ablation.training import Failure, Workplace, limit_threads, obtain, tell_failure

Outcome = Record | Failure
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0


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
    """Trains in this process, one run after the other."""

    def __init__(self, place: Workplace) -> None:
        self._place = place

    def collect(
        self, specs: Sequence[RunSpec], tick: Callable[[], None], *, again: bool = True
    ) -> dict[str, Outcome]:
        """Runs that another process is training right now are left for last."""
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
            if len(busy) == len(waiting):
                tick()
                time.sleep(_POLL_SECONDS)
            waiting = busy
        return outcomes

    def announce(self, specs: Sequence[RunSpec]) -> None:
        pass

    def close(self) -> None:
        pass


class PoolExecutor:
    """Trains in *jobs* processes. The first call also queues all runs of the session.

    Parameters
    ----------
    place : Workplace
    jobs : int, number of processes
    session_specs : all runs that the session needs, in the order in which it needs them
    """

    def __init__(self, place: Workplace, jobs: int, session_specs: Sequence[RunSpec]) -> None:
        self._place = place
        self._upcoming = list(session_specs)
        self._queue: collections.deque[RunSpec] = collections.deque()
        self._futures: dict[str, Future[Outcome | _Unloadable]] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._slots = [
            threading.Thread(target=self._work, args=(index,), daemon=True) for index in range(jobs)
        ]
        self._children: dict[int, _Child] = {}

    def collect(
        self, specs: Sequence[RunSpec], tick: Callable[[], None], *, again: bool = True
    ) -> dict[str, Outcome]:
        for spec in [*specs, *self._upcoming]:
            self._submit(spec)
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

    def _submit(self, spec: RunSpec) -> None:
        if spec.key in self._futures:
            return
        with self._wake:
            self._futures[spec.key] = Future()
            self._queue.append(spec)
            self._wake.notify()
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
                outcome = Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
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
            child = self._children[index] = _Child(place)
        if self._closing:  # close() may have come before this child was there to be stopped
            child.stop()
        outcome = child.train(spec)
        if not child.alive:
            del self._children[index]
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

    def __init__(self, place: Workplace) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._process = context.Process(target=_child_main, args=(far_end, place))
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
            return Failure(f"the process that trained it died ({self._how_it_died()})")

    def stop(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def _how_it_died(self) -> str:
        code = self._process.exitcode or 0
        if code >= 0:
            return f"exit status {code}"
        name = signal.Signals(-code).name
        return f"{name}: out of memory?" if name == "SIGKILL" else name


def _child_main(connection: Any, place: Workplace) -> None:
    """Train what comes until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; pytest decides
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
            outcome = Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
            tell_failure(place, spec.key, outcome)
        connection.send(outcome)


def _end_with_parent() -> None:
    """A pytest that was killed must not leave hours of training behind that nobody waits for."""
    multiprocessing.parent_process().join()
    os._exit(1)
