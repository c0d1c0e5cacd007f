"""Where runs train when a Ray cluster trains them: an executor as those in executors.py.

Specifications go in, records or failures come out. Ray schedules; this submits runs, takes what
comes back from the nodes, and alone writes the store.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import os
import pickle
import platform
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from filelock import Timeout

from pytest_ablation.errors import AblationError, described
from pytest_ablation.executors import Outcome
from pytest_ablation.journal import Journal
from pytest_ablation.on_ray.cluster import connect, imported_ray, leave
from pytest_ablation.on_ray.data import DataFolder, content_digest
from pytest_ablation.on_ray.events import NodeEvents
from pytest_ablation.on_ray.locks import RunLocks
from pytest_ablation.on_ray.node import Errand, Returned, lacking
from pytest_ablation.on_ray.post import DATA_WANTED, Parcel, Post
from pytest_ablation.on_ray.project import shipped_project
from pytest_ablation.on_ray.task import UnsendableRun, packed, training_task
from pytest_ablation.on_ray.watch import Watch
from pytest_ablation.options import CPUS_PER_RUN_OPTION, Options
from pytest_ablation.plan import RunSpec
from pytest_ablation.store import DamagedRecord, Store, UnwritableStore
from pytest_ablation.training import (
    Failure,
    Workplace,
    keeping_its_model,
    tell_failure,
    usable_record,
)

_POLL_SECONDS = 0.2
_Arrived = queue.SimpleQueue[tuple[str, Any, Future[Any]]]  # key, reference, what came of it
_POST_SECONDS = 0.5  # between two looks for events
_MOST_DEATHS = 2  # of processes, by one run
_MOST_MOVES = 3  # of one run, from nodes that were lost
_LOOK_SECONDS = 1.0  # between two looks at other sessions and at the cluster
_CANCEL_SECONDS = 3.0
_MESSAGE_BYTES = 50_000  # each task carries it, and Ray up to 100 kB of an argument
_POST = ""  # in place of a key
_NO_RAY_HERE = "Ray has ended on the machine where pytest runs (its raylet): start it there again"


class RayExecutor:
    """Trains on a Ray cluster. The first call also submits all runs of the session.

    Parameters
    ----------
    place : Workplace, of the driver
    options : Options
    session_specs : all runs that the session needs
    in_order : gives runs the order in which they are to be trained

    Raises
    ------
    AblationError
        There is no cluster, or it cannot train them.
    """

    def __init__(
        self,
        place: Workplace,
        options: Options,
        session_specs: Sequence[RunSpec],
        in_order: Callable[[Sequence[RunSpec]], list[RunSpec]] = list,
    ) -> None:
        self._ray = imported_ray()
        self._place = place
        self._store = Store(place.store)
        self._journal = Journal(place.journal)
        self._in_order = in_order
        self._upcoming = list(session_specs)
        self._specs: dict[str, RunSpec] = {}  # all that were ever submitted
        self._outcomes: dict[str, Outcome] = {}
        self._references: dict[str, Any] = {}  # of what Ray has in hand, by key
        self._locks = RunLocks(self._store)
        self._elsewhere: dict[str, RunSpec] = {}  # another session is training them
        self._deaths: collections.Counter[str] = collections.Counter()
        self._moves: collections.Counter[str] = collections.Counter()
        self._arrived: _Arrived = queue.SimpleQueue()
        self._events = NodeEvents(self._journal, self._outcomes)
        self._last_look = self._last_ask = time.monotonic()
        self._is_asking = self._is_closed = False
        self._needed = 0  # bytes of the largest run that could not be kept, 0 where all could
        self._connect(options)

    def _connect(self, options: Options) -> None:
        folders = [options.store_dir, options.report_dir, options.data_dir]
        project = shipped_project(options.root, [path for path in folders if path is not None])
        share = connect(options, project)
        self._watch = Watch(self._ray, share)
        data = None if options.data_dir is None else DataFolder.of(options.data_dir)
        errand = Errand(
            session=self._place.session,
            fresh=self._place.fresh,
            device=self._place.device,
            threads=max(1, int(share.cpus)),
            save_models=self._place.save_models,
            checkpoint_seconds=self._place.checkpoint_seconds,
            gpus=share.gpus,
            home=home_of(self._place.store),
            import_folders=project.import_folders,
            environment={n: v for n, v in os.environ.items() if n.startswith("ABLATION_")},
            data=data,
        )
        message = pickle.dumps(errand)
        # An object of Ray's store ends this process where its own node is lost; a message does not.
        self._errand = message if len(message) <= _MESSAGE_BYTES else self._ray.put(message)
        self._task = training_task(self._ray, share)
        self._data = data
        self._post = self._new_post()

    def _new_post(self) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=False
        )
        actor = self._ray.remote(num_cpus=0, scheduling_strategy=here)(Post)
        return actor.remote()

    def collect(
        self, specs: Sequence[RunSpec], tick: Callable[[], None], *, again: bool = True
    ) -> dict[str, Outcome]:
        self._submit([*specs, *self._upcoming], tick)
        self._upcoming = []
        waiting = {spec.key for spec in specs}
        while waiting := waiting - self._outcomes.keys():
            tick()
            self._take_arrived(_POLL_SECONDS)
            self._ask_post()
            self._look_around()
        return {spec.key: self._outcomes[spec.key] for spec in specs}

    def announce(self, specs: Sequence[RunSpec]) -> None:
        self._upcoming += specs

    def close(self) -> None:
        """What has arrived is kept; what runs is stopped."""
        if self._is_closed:
            return
        self._is_closed = True
        self._take_arrived(0.0)
        deadline = time.monotonic() + _CANCEL_SECONDS
        for reference in self._references.values():
            if time.monotonic() > deadline:  # the end of the connection ends the others
                break
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        self._references.clear()
        self._watch.end()
        leave(self._ray)
        self._locks.release_all()

    # --- to the nodes ------------------------------------------------------------------------

    def _submit(self, specs: Sequence[RunSpec], tick: Callable[[], None]) -> None:
        new = {spec.key: spec for spec in specs if spec.key not in self._specs}
        self._specs |= new
        self._locks.make_room(len(new))
        for count, spec in enumerate(self._in_order(list(new.values()))):
            if count % 100 == 0:
                tick()
            self._begin(spec)

    def _begin(self, spec: RunSpec) -> None:
        """Submit a run under its lock, unless it is kept by now or another session trains it."""
        try:
            self._locks.take(spec.key)
        except Timeout:
            self._elsewhere[spec.key] = spec
            return
        except OSError as error:
            self._fail(spec.key, Failure(str(self._store.unwritable(error))))
            return
        record = None
        with contextlib.suppress(DamagedRecord):  # the session has told it already
            record = usable_record(spec.key, self._place)
        if record is None:
            self._send_where_room(spec)
            return
        if record.session != self._place.session:
            self._journal.tell("reused", key=spec.key)
        self._end(spec.key, record)

    def _send_where_room(self, spec: RunSpec) -> None:
        """Nobody wants to train for hours what then cannot be kept."""
        try:
            if self._needed:
                self._store.check_room(self._needed)
        except UnwritableStore as error:
            self._fail(spec.key, Failure(str(error)))
        else:
            self._send(spec)

    def _send(self, spec: RunSpec) -> None:
        try:
            message = packed(keeping_its_model(spec, self._store))
        except UnsendableRun as error:
            self._fail(spec.key, Failure(str(error)))
            return
        reference = self._task.remote(message, self._errand, self._post)
        self._references[spec.key] = reference
        self._when_done(spec.key, reference)

    def _when_done(self, key: str, reference: Any) -> None:
        reference.future().add_done_callback(
            functools.partial(_put, self._arrived, key, reference)  # from a thread of Ray
        )

    def _send_data(self) -> None:
        """Once, when the first node lacks the folder."""
        try:
            content = self._data.packed()
            parcel = Parcel(content_digest(content), (self._ray.put(content),))
        except (AblationError, OSError) as error:
            parcel = Parcel(problem=f"the data {self._data.path} cannot be sent: {error}")
        self._post.provide.remote(parcel)

    def _ask_post(self) -> None:
        now = time.monotonic()
        if not self._is_asking and now - self._last_ask >= _POST_SECONDS:
            self._is_asking, self._last_ask = True, now
            self._when_done(_POST, self._post.take.remote())

    # --- from the nodes ----------------------------------------------------------------------

    def _take_arrived(self, timeout: float) -> None:
        """Take what is there, after waiting for the first; for a second at most."""
        until = time.monotonic() + timeout + 1.0
        try:
            self._take(*self._arrived.get(timeout=timeout or None, block=bool(timeout)))
            while time.monotonic() < until or self._is_closed:
                self._take(*self._arrived.get_nowait())
        except queue.Empty:
            return

    def _take(self, key: str, reference: Any, future: Future[Any]) -> None:
        error = future.exception()
        if key == _POST:
            self._is_asking = error is not None  # without its actor there are no events any more
            events = () if error is not None else future.result()
            self._events.take(events)
            if any(event["kind"] == DATA_WANTED for event in events):
                self._send_data()
            return
        if self._references.get(key) is not reference:  # given up, or begun anew elsewhere
            return
        del self._references[key]
        if error is not None:
            self._after(key, error)
            return
        returned = future.result()
        if not isinstance(returned, Returned):
            self._fail(key, Failure(lacking(*returned)))
            return
        self._events.take_last(returned.events)
        if returned.failure is not None:
            self._fail(key, returned.failure)
        else:
            self._keep(key, returned.files)

    def _keep(self, key: str, files: Mapping[str, bytes]) -> None:
        try:
            self._store.put(key, files)
            record = self._store.read(key)
        except UnwritableStore as error:
            self._needed = max(self._needed, sum(map(len, files.values())))
            self._fail(key, Failure(str(error)), self._needed)
            self._stop_where_full()
            return
        except DamagedRecord as error:
            self._fail(key, Failure(str(error)))
            return
        seconds = record.cost.train_seconds
        self._journal.tell("finished", key=key, status=record.status, seconds=seconds)
        self._end(key, record)

    def _stop_where_full(self) -> None:
        """What is under way could not be kept either."""
        try:
            self._store.check_room(self._needed)
        except UnwritableStore as error:
            self._fail_all(str(error))

    def _after(self, key: str, error: BaseException) -> None:
        """Try a run again elsewhere that lost its node or its process, or let it fail."""
        kinds = self._ray.exceptions
        if isinstance(error, (kinds.NodeDiedError, kinds.ObjectLostError)):
            self._move(key)
        elif isinstance(error, (kinds.WorkerCrashedError, kinds.OutOfMemoryError)):
            self._deaths[key] += 1
            if self._deaths[key] < _MOST_DEATHS:
                self._send(self._specs[key])
                return
            is_memory = isinstance(error, kinds.OutOfMemoryError)
            how = _died(self._deaths[key], self._node_of(key), is_memory)
            self._fail(key, Failure(how, str(error)))
        elif isinstance(error, kinds.LocalRayletDiedError):
            self._fail(key, Failure(_NO_RAY_HERE, str(error)))
        else:
            cause = getattr(error, "cause", None) or error
            self._fail(key, Failure(described(cause), str(error)))

    def _move(self, key: str) -> None:
        """Train a run anew that has lost its node."""
        self._references.pop(key, None)
        self._events.forget(key)
        self._moves[key] += 1
        if self._moves[key] <= _MOST_MOVES:
            self._send(self._specs[key])
        else:
            self._fail(key, Failure(f"{self._moves[key]} times the node that trained it was lost"))

    def _node_of(self, key: str) -> str:
        """Where a run was that died, which is known here sooner than that it had begun there."""
        with contextlib.suppress(Exception):  # the actor is lost too
            return self._ray.get(self._post.node_of.remote(key), timeout=_POST_SECONDS)
        return ""

    def _fail(self, key: str, failure: Failure, needed: int = 0) -> None:
        tell_failure(self._place, key, failure, needed)
        self._end(key, failure)

    def _fail_all(self, message: str) -> None:
        for key, reference in list(self._references.items()):
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
            self._fail(key, Failure(message))
        self._references.clear()

    def _end(self, key: str, outcome: Outcome) -> None:
        self._outcomes[key] = outcome
        self._events.forget(key)
        self._locks.release(key)

    # --- while waiting -----------------------------------------------------------------------

    def _look_around(self) -> None:
        """Now and then: has another session trained what it had, is the cluster still there?"""
        now = time.monotonic()
        if now - self._last_look < _LOOK_SECONDS:
            return
        self._last_look = now
        for key in list(self._elsewhere):
            self._begin(self._elsewhere.pop(key))
        for key in self._events.on_nodes(self._watch.newly_lost()):
            if key in self._references:  # on a node in silence Ray itself gives up after 7 minutes
                self._move(key)
        if self._references and (trouble := self._watch.trouble()):
            self._fail_all(trouble)


def home_of(store: Path) -> str:
    """What the nodes call their folder for *store*: two stores never share one."""
    text = f"{platform.node()}:{os.path.realpath(store)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _put(arrived: _Arrived, key: str, reference: Any, done: Future[Any]) -> None:
    arrived.put((key, reference, done))


def _died(times: int, node: str, is_memory: bool) -> str:
    where = f", last on node {node}" if node else ""
    how = (
        f"Ray ended it because the node was short of memory: a larger {CPUS_PER_RUN_OPTION} lets "
        f"fewer runs train there at once"
        if is_memory
        else "a segmentation fault, os._exit, or out of memory? Ray's logs there may say"
    )
    return f"the training process died {times} times{where} ({how})"
