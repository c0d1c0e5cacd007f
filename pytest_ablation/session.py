"""One pytest session's ablation work: plan, runs, results, files. The hooks only call it.

Selected cases go in; report files and an exit verdict come out. In a session under pytest-xdist
each worker has one of these, which trains, and the controller has one, which writes the reports
from the plan and the store, so that a crashed worker takes no result with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ablation.errors import AblationError
from pytest_ablation.finishing import Finished, Finishing
from pytest_ablation.gate_results import GateRow
from pytest_ablation.gating import Gating
from pytest_ablation.journal import Journal
from pytest_ablation.options import Options
from pytest_ablation.plan import Plan, RowPlan, RunSpec, StudyPlan, write_settled
from pytest_ablation.planning import Planner
from pytest_ablation.record import LOST, Record
from pytest_ablation.report_files import check_writable
from pytest_ablation.results import RowResult, StudyResult, study_result
from pytest_ablation.store import DamagedRecord, Store
from pytest_ablation.training import Failure, Workplace, usable_record

if TYPE_CHECKING:
    from pytest_ablation.executors import Executor
    from pytest_ablation.study import CaseSpec, Study

_LEFTOVER_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Worker:
    """Which of the processes that run tests this one is (pytest-xdist); 0 of 1 without ``-n``."""

    index: int = 0
    count: int = 1


class RecordWarning(UserWarning):
    """A kept record could not be used; its run is trained again."""


class AblationSession:
    """State of one process of one session.

    Parameters
    ----------
    options : Options
    uid : str, the session's id, shared by all its processes
    worker : Worker
    """

    def __init__(self, options: Options, uid: str | None = None, worker: Worker | None = None):
        self.options = options
        self.uid = uid or uuid.uuid4().hex
        self.worker = worker or Worker()
        self.store = Store(options.store_dir)
        self.folder = self.store.sessions / self.uid
        self.journal = Journal(self.folder / "journal")
        self.plan: Plan | None = None
        self.tick: Callable[[], None] = lambda: None  # called while runs are waited for
        self.pause: Callable[[], None] = lambda: None  # called when they are there
        self._specs: dict[str, RunSpec] = {}
        self._outcomes: dict[str, Record | Failure] = {}
        self.gating = Gating(options, self.store)
        self._lost: dict[str, str] = {}  # runs that killed another process, and the word for it
        self._results: dict[tuple[str, str], tuple[tuple[int, int], StudyPlan, StudyResult]] = {}
        self._executor: Executor | None = None

    def read_plan(self) -> Plan | None:
        """The plan that this process made or that another one has written, if there is one yet."""
        if self.plan is None or (not self._specs and any(s.is_open for s in self.plan.studies)):
            self.plan = Plan.read(self.folder) or self.plan
        return self.plan

    def total_runs(self) -> int:
        plan = self.read_plan()
        if plan is None:
            return 0
        can_grow = self.options.auto_seeds or self.options.gate is not None
        extra = self.journal.all_events("wanted") if can_grow else []
        return len(set(plan.keys).union(*(event["keys"] for event in extra)))

    # --- before the first case ---------------------------------------------------------------

    def collected(self, cases: Iterable[tuple[str, CaseSpec]]) -> None:
        """Plan the selected cases, and make sure that results can be kept and written.

        Raises
        ------
        AblationError
            The store or the report folder cannot be written, or two studies share a name.
        """
        cases = list(cases)
        if not cases:
            return
        try:
            self.store.prepare()
        except OSError as error:
            raise AblationError(
                f"the store {self.store.root} cannot be written ({error}): choose another one "
                f"with --ablation-store=DIR"
            ) from error
        modes = sorted({case.mode for _, case in cases})
        for mode in modes:
            check_writable(self.options.report_dir / mode)
        self.gating.read(modes)
        self._remove_leftovers()
        self.plan, self._specs = self._planner().plan(cases)
        self.plan.write(self.folder)

    def _planner(self) -> Planner:
        options = self.options
        return Planner(
            self.uid,
            seeds=options.seeds,
            device=options.device,
            data_dir=options.data_dir,
            metric=options.metric,
            auto=options.auto_seeds,
            most_seeds=options.max_seeds if options.auto_seeds or options.gate is not None else 0,
            interval=options.interval,
        )

    def _remove_leftovers(self) -> None:
        """What killed sessions left behind; younger folders may belong to one that still runs."""
        unfinished = (path for path in self.store.runs.iterdir() if path.name.startswith("."))
        for folder in (*self.store.sessions.iterdir(), *unfinished):
            if time.time() - _last_change(folder) > _LEFTOVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    # --- during a case -----------------------------------------------------------------------

    def run_case(self, case: CaseSpec) -> RowResult:
        """Train or reuse the runs of a variant and of its baseline, and compare them.

        Its interval hangs on the spread of the study's other rows, so that these are trained too,
        unless it is in trouble itself. Probes come after all else; how they end is for the report.
        Where the baseline is a grid's best cell, the grid's runs come first.
        """
        plan = self.plan.study(case.study.name, case.mode)
        if plan.is_open:
            plan = self._settle(case.study, plan)
        rows = _compared_rows(plan, case)
        self._obtain([key for row in rows for key in row.keys.values()])
        row = self._result(plan).row(case.variant)
        if row.status in ("ok", "missing"):  # missing: its verdict asks for more seeds
            row = self._whole_study(plan).row(case.variant)
        probes = [key for row in rows for key in row.probes.values()]
        if probes:
            self._obtain(probes)
        return self._result(plan).row(case.variant) if probes else row

    def _whole_study(self, plan: StudyPlan) -> StudyResult:
        """The result of a study with all runs that its verdicts ask for, trained or reused."""
        while True:
            result = self._result(plan)
            wanted = self._unknown(key for row in result.plan.rows for key in row.keys.values())
            if not wanted:
                records, _ = self._records_and_failures()
                wanted = self._unknown(self.gating.wanted(result, records))
            if not wanted:
                return result
            extra = sorted(set(wanted) - set(self.plan.keys))
            if extra:
                self.journal.tell("wanted", keys=extra)
            self._obtain(wanted, again=False)

    def gate_rows(self, case: CaseSpec) -> list[GateRow]:
        """The gate's comparisons of a variant, as far as its runs are known in this process."""
        plan = self.plan.study(case.study.name, case.mode)
        known = self._records_and_failures()[0]
        return self.gating.rows_of(self._result(plan), case.variant, known)

    def failures_of(self, case: CaseSpec) -> list[Failure]:
        """The failures among the runs of a variant and of its baseline, in this process."""
        plan = self.plan.study(case.study.name, case.mode)
        keys = [key for of in plan.candidates.values() for key in of.values()]
        keys += [key for row in _compared_rows(plan, case) for key in row.keys.values()]
        outcomes = [self._outcomes.get(key) for key in keys]
        return [outcome for outcome in outcomes if isinstance(outcome, Failure)]

    def _unknown(self, keys: Iterable[str]) -> list[str]:
        """The keys of runs of which this process does not know how they ended."""
        known = self._outcomes.keys() | self._lost.keys()
        return [key for key in dict.fromkeys(keys) if key not in known]

    def _settle(self, study: Study, plan: StudyPlan) -> StudyPlan:
        """Train or reuse a grid's runs, and plan the rows that follow from its best cell."""
        self._obtain([key for keys in plan.candidates.values() for key in keys.values()])
        settled, specs = self._planner().settle(study, plan, *self._records_and_failures())
        self.plan = self.plan.with_study(settled)
        self._specs |= specs
        write_settled(self.folder, settled)
        if self._executor is not None and self.worker.count == 1:
            self._executor.announce(self._untrained(self._planned(specs), self._workplace()))
        return settled

    def _result(self, plan: StudyPlan) -> StudyResult:
        """The study as far as its runs are known; the same object while that does not change."""
        stamp = len(self._outcomes), len(self._lost)
        kept = self._results.get((plan.name, plan.mode))
        if kept is None or kept[0] != stamp or kept[1] is not plan:
            known = self._records_and_failures()
            result = study_result(plan, *known, self._lost, self.gating.predictions)
            kept = self._results[plan.name, plan.mode] = stamp, plan, result
        return kept[2]

    def _records_and_failures(self) -> tuple[dict[str, Record], dict[str, str]]:
        """What this process knows of runs, by key."""
        records = {k: o for k, o in self._outcomes.items() if isinstance(o, Record)}
        failures = {k: o.message for k, o in self._outcomes.items() if isinstance(o, Failure)}
        return records, failures

    def _obtain(self, keys: Sequence[str], *, again: bool = True) -> None:
        """Reuse or train runs; one that killed another process is tried *again* or is lost."""
        unknown = [key for key in dict.fromkeys(keys) if key not in self._outcomes]
        place = self._workplace()
        for key in unknown:
            record = self._kept(key, place)
            if record is not None:
                self._outcomes[key] = record
                if record.session != self.uid:
                    self.journal.tell("reused", key=key)
        wanted = [self._specs[key] for key in unknown if key not in self._outcomes]
        if wanted:
            found = self._the_executor(place).collect(wanted, self.tick, again=again)
            self._lost |= {k: o.message for k, o in found.items() if o == Failure(LOST)}
            self._outcomes |= {k: o for k, o in found.items() if k not in self._lost}
        self.tick()
        self.pause()

    def _kept(self, key: str, place: Workplace) -> Record | None:
        """The usable record of a run; a damaged one is set aside, with a warning."""
        try:
            return usable_record(key, place)
        except DamagedRecord as problem:
            text = f"{problem}; the run is trained again, the damaged record is set aside"
            self.journal.tell("damaged", key=key, message=text)
            self.store.set_aside(key)
            warnings.warn(text, RecordWarning, stacklevel=2)
            return None

    def _the_executor(self, place: Workplace) -> Executor:
        if self._executor is None:
            from pytest_ablation.executors import InlineExecutor, PoolExecutor

            jobs = self._jobs()
            if jobs == 1:
                self._executor = InlineExecutor(place)
            else:
                self._executor = PoolExecutor(place, jobs, self._still_needed(place))
        return self._executor

    def _still_needed(self, place: Workplace) -> list[RunSpec]:
        """What the pool may train ahead: all of it here, but under ``-n`` only the case at hand."""
        return self._untrained(self._planned(self._specs), place) if self.worker.count == 1 else []

    def _planned(self, specs: Mapping[str, RunSpec]) -> dict[str, RunSpec]:
        """Those that are not in reserve."""
        planned = set(self.plan.keys)
        return {key: spec for key, spec in specs.items() if key in planned}

    def _untrained(self, specs: Mapping[str, RunSpec], place: Workplace) -> list[RunSpec]:
        needed = []
        for key, spec in specs.items():
            with contextlib.suppress(DamagedRecord):  # its own case will warn of it
                if usable_record(key, place) is not None:
                    continue
            needed.append(spec)
        return needed

    def _workplace(self) -> Workplace:
        return Workplace(
            store=self.store.root,
            journal=self.journal.folder,
            session=self.uid,
            fresh=self.options.fresh,
            device=self.options.device,
            device_index=self.worker.index * self._jobs(),
            data_dir=self.options.data_dir,
            threads=max(1, self._cores() // self._jobs()),
            save_models=self.options.save_models,
        )

    def _cores(self) -> int:
        """This process's share of the cores."""
        from joblib import cpu_count  # knows about affinity and container limits

        return max(1, cpu_count() // self.worker.count)

    def _jobs(self) -> int:
        """How many processes train at once: one per core, on a GPU one per GPU."""
        if self.options.jobs:
            return self.options.jobs
        gpus = _visible_gpus() if self.options.device in ("auto", "cuda") else 0
        if gpus or self.options.device.startswith("cuda:"):
            return max(1, max(1, gpus) // self.worker.count)
        return self._cores()

    # --- after the last case -----------------------------------------------------------------

    def close(self) -> None:
        """Stop training; called in every process, also after Ctrl-C."""
        if self._executor is not None:
            self._executor.close()

    def finish(self, outcomes: dict[str, str]) -> Finished:
        """Write the reports from the plan and the store.

        Parameters
        ----------
        outcomes : node id to "passed", "failed" or "skipped", as far as reports arrived
        """
        plan = self.read_plan()
        if plan is None:
            return Finished()
        found = Finishing(self.options, self.store, self.journal, self.uid, self.gating)
        finished = found.finish(plan, outcomes)
        shutil.rmtree(self.folder, ignore_errors=True)
        return finished


def _compared_rows(plan: StudyPlan, case: CaseSpec) -> list[RowPlan]:
    """The row of a case and its baseline's, where it is not a baseline itself."""
    row = plan.row(case.variant)
    return [row] if row.baseline is None else [row, plan.row(row.baseline)]


def _last_change(folder: Path) -> float:
    """When anything in *folder* was last written; now, where another session removes it."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _visible_gpus() -> int:
    """How many NVIDIA GPUs this process may use, found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
