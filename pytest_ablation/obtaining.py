"""What one process of a session knows of its runs: kept records, and those that it has trained.

Keys of runs go in; records and failures come out, and stay known. It looks into the store, and has
an executor train what is not there; it knows no pytest, no case and no verdict.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_ablation.errors import RecordWarning
from pytest_ablation.journal import Journal
from pytest_ablation.options import Options
from pytest_ablation.plan import RunSpec
from pytest_ablation.record import LOST, Record
from pytest_ablation.share import Worker, cores_of, jobs_of
from pytest_ablation.store import DamagedRecord, Store
from pytest_ablation.training import Failure, Workplace, usable_record

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

    def add(self, specs: Mapping[str, RunSpec], planned: Iterable[str]) -> None:
        """Runs that this session may ask for; those that are *planned* may be trained ahead."""
        self._specs |= specs
        planned = set(planned)
        ahead = [key for key in specs if key in planned]
        if self._executor is not None and self._worker.count == 1:
            self._executor.announce(self._untrained(ahead))
        self._ahead += ahead

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
            return usable_record(key, self._workplace())
        except DamagedRecord as problem:
            text = f"{problem}; the run is trained again, the damaged record is set aside"
            self._journal.tell("damaged", key=key, message=text)
            self._store.set_aside(key)
            warnings.warn(text, RecordWarning, stacklevel=2)
            return None

    def _the_executor(self) -> Executor:
        if self._executor is None:
            self._executor = self._new_executor(self._workplace())
        return self._executor

    def _new_executor(self, place: Workplace) -> Executor:
        from pytest_ablation.executors import InlineExecutor, PoolExecutor

        jobs = jobs_of(self._options, self._worker)
        if jobs == 1:
            return InlineExecutor(place)
        # The pool may train all ahead, but under -n only the case at hand: others train too.
        ahead = self._ahead if self._worker.count == 1 else []
        return PoolExecutor(place, jobs, self._untrained(ahead))

    def _untrained(self, keys: Iterable[str]) -> list[RunSpec]:
        needed, place = [], self._workplace()
        for key in keys:
            with contextlib.suppress(DamagedRecord):  # its own case will warn of it
                if usable_record(key, place) is not None:
                    continue
            needed.append(self._specs[key])
        return needed

    def _workplace(self) -> Workplace:
        jobs = jobs_of(self._options, self._worker)
        return Workplace(
            store=self._store.root,
            journal=self._journal.folder,
            session=self._uid,
            fresh=self._options.fresh,
            device=self._options.device,
            device_index=self._worker.index * jobs,
            data_dir=self._options.data_dir,
            threads=max(1, cores_of(self._worker) // jobs),
            save_models=self._options.save_models,
            checkpoint_seconds=self._options.checkpoint_seconds,
        )
