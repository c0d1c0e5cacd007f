"""What one process of a session knows of its runs: kept records, and those that it has trained.

Keys of runs go in; records and failures come out, and stay known. It looks into the store, and has
an executor train what is not there; it knows no pytest, no case and no verdict.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ablation.errors import RecordWarning
from pytest_ablation.estimates import Estimates
from pytest_ablation.journal import Journal
from pytest_ablation.options import Options
from pytest_ablation.plan import RunSpec
from pytest_ablation.record import LOST, Record
from pytest_ablation.run_order import Expected, agreed, longest_first
from pytest_ablation.share import Worker, gpu_of, jobs_of, threads_of
from pytest_ablation.store import DamagedRecord, Store
from pytest_ablation.training import Failure, Workplace, set_damaged_aside, usable_record

if TYPE_CHECKING:
    from pytest_ablation.executors import Executor


class Obtaining:
    """The runs of one process.

    Parameters
    ----------
    options : Options
    store : Store
    journal : Journal
    uid : str, the session's id
    worker : Worker

    Attributes
    ----------
    tick : called while runs are waited for
    pause : called when they are there
    """

    def __init__(
        self, options: Options, store: Store, journal: Journal, uid: str, worker: Worker
    ) -> None:
        self.tick: Callable[[], None] = lambda: None
        self.pause: Callable[[], None] = lambda: None
        self._options = options
        self._store = store
        self._journal = journal
        self._uid = uid
        self._worker = worker
        self._specs: dict[str, RunSpec] = {}
        self._ahead: list[str] = []  # keys that may be trained before they are asked for
        self._outcomes: dict[str, Record | Failure] = {}
        self._lost: dict[str, str] = {}  # runs that killed another process, and the word for it
        self._executor: Executor | None = None
        self._estimates = Estimates(store)
        self._seconds: dict[str, float | None] = {}  # expected ones; None where nothing is known

    def add(self, specs: Mapping[str, RunSpec], planned: Iterable[str]) -> None:
        """Runs that this session may ask for; those that are *planned* may be trained ahead."""
        self._specs |= specs
        planned = set(planned)
        ahead = [key for key in specs if key in planned]
        if self._executor is not None:
            self._executor.announce(self._to_train_ahead(ahead))
        self._ahead += ahead

    def connect(self) -> None:
        """Connect to the Ray cluster, where one is to be used and anything is to be trained.

        Raises
        ------
        AblationError
            There is none, or it cannot train the runs.
        """
        if self._options.executor == "ray" and any(self._untrained([k]) for k in self._ahead):
            self._the_executor()

    def agree(self, folder: Path) -> Expected | None:
        """The expected seconds of all runs, the same in all workers of a session."""

        def decide() -> Expected:
            known = self._estimates.seconds(self._specs.values())
            untrained = [spec.key for spec in self._untrained(self._ahead)]
            return Expected({key: known.get(key) for key in self._specs}, untrained)

        expected = agreed(folder / "expected.json", decide)
        if expected is not None:
            self._seconds |= expected.seconds
        return expected

    @property
    def has_specs(self) -> bool:
        """Whether this process has planned: the controller of pytest-xdist has not."""
        return bool(self._specs)

    @property
    def stamp(self) -> tuple[int, int]:
        """Changes whenever more is known."""
        return len(self._outcomes), len(self._lost)

    @property
    def lost(self) -> Mapping[str, str]:
        return self._lost

    def outcome(self, key: str) -> Record | Failure | None:
        return self._outcomes.get(key)

    def records_and_failures(self) -> tuple[dict[str, Record], dict[str, str]]:
        """What this process knows of runs, by key."""
        records = {k: o for k, o in self._outcomes.items() if isinstance(o, Record)}
        failures = {k: o.message for k, o in self._outcomes.items() if isinstance(o, Failure)}
        return records, failures

    def unknown(self, keys: Iterable[str]) -> list[str]:
        """The keys of runs of which this process does not know how they ended."""
        known = self._outcomes.keys() | self._lost.keys()
        return [key for key in dict.fromkeys(keys) if key not in known]

    def obtain(self, keys: Sequence[str], *, again: bool = True) -> None:
        """Reuse or train runs; one that killed another process is tried *again* or is lost."""
        unknown = [key for key in dict.fromkeys(keys) if key not in self._outcomes]
        for key in unknown:
            record = self._kept(key)
            if record is not None:
                self._outcomes[key] = record
                if record.session != self._uid:
                    self._journal.tell("reused", key=key)
        wanted = [self._specs[key] for key in unknown if key not in self._outcomes]
        if wanted:
            wanted = self._longest_first(wanted)
            found = self._the_executor().collect(wanted, self.tick, again=again)
            self._lost |= {k: o.message for k, o in found.items() if o == Failure(LOST)}
            self._outcomes |= {k: o for k, o in found.items() if k not in self._lost}
        self.tick()
        self.pause()

    def close(self) -> None:
        """Stop training; called in every process, also after Ctrl-C."""
        if self._executor is not None:
            self._executor.close()

    def _kept(self, key: str) -> Record | None:
        """The usable record of a run; a damaged one is set aside, with a warning."""
        try:
            return usable_record(key, self._workplace)
        except DamagedRecord as problem:
            text = set_damaged_aside(self._store, self._journal, key, problem)
            warnings.warn(text, RecordWarning, stacklevel=2)
            return None

    def _the_executor(self) -> Executor:
        if self._executor is None:
            self._executor = self._new_executor(self._workplace)
        return self._executor

    def _new_executor(self, place: Workplace) -> Executor:
        if self._options.executor == "ray":
            from pytest_ablation.on_ray.executor import RayExecutor

            ahead = self._to_train_ahead(self._ahead)
            return RayExecutor(place, self._options, ahead, self._longest_first)
        from pytest_ablation.executors import InlineExecutor, PoolExecutor

        jobs = jobs_of(self._options, self._worker)
        ahead = self._to_train_ahead(self._ahead)
        if jobs == 1:
            return InlineExecutor(place, ahead)
        gpus = [gpu_of(self._options, self._worker, slot) for slot in range(jobs)]
        return PoolExecutor(place, gpus, ahead, self._longest_first)

    def _to_train_ahead(self, keys: Iterable[str]) -> list[RunSpec]:
        """Those of the planned runs *keys* that may be trained before their case asks for them.

        A process without a pool does that while it would only wait; under ``-n`` a pool does not,
        for it would be stopped in the middle of such a run when its worker's last case is done.
        """
        has_pool = self._options.executor != "local" or jobs_of(self._options, self._worker) > 1
        if not has_pool:  # it looks into the store when it comes to that
            return self._longest_first([self._specs[key] for key in keys])
        return self._longest_first(self._untrained(keys)) if self._worker.count == 1 else []

    def _longest_first(self, specs: Sequence[RunSpec]) -> list[RunSpec]:
        """The order in which runs are tried; as they came where one process does it all alone."""
        processes = self._worker.count * jobs_of(self._options, self._worker)
        if self._options.executor == "local" and processes == 1:
            return list(specs)
        new = [spec for spec in specs if spec.key not in self._seconds]
        if new:
            known = self._estimates.seconds(new)
            self._seconds |= {spec.key: known.get(spec.key) for spec in new}
        return longest_first(specs, self._seconds)

    def _untrained(self, keys: Iterable[str]) -> list[RunSpec]:
        """Without those of a damaged record: their own case sets it aside and warns of it."""
        needed, place = [], self._workplace
        for key in keys:
            with contextlib.suppress(DamagedRecord):
                if usable_record(key, place) is None:
                    needed.append(self._specs[key])
        return needed

    @functools.cached_property
    def _workplace(self) -> Workplace:
        return Workplace(
            store=self._store.root,
            journal=self._journal.folder,
            session=self._uid,
            fresh=self._options.fresh,
            device=self._options.device,
            device_index=self._worker.index * jobs_of(self._options, self._worker),
            data_dir=self._options.data_dir,
            threads=threads_of(self._options, self._worker),
            save_models=self._options.save_models,
            checkpoint_seconds=self._options.checkpoint_seconds,
        )
