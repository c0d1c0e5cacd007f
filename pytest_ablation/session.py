"""One pytest session's ablation work: plan, runs, results, files. The hooks only call it.

Selected cases go in; report files and an exit verdict come out. In a session under pytest-xdist
each worker has one of these, which trains, and the controller has one, which writes the reports
from the plan and the store, so that a crashed worker takes no result with it.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_ablation.finishing import Finished, Finishing
from pytest_ablation.gate_results import GateRow
from pytest_ablation.gating import Gating
from pytest_ablation.going_on import Ending
from pytest_ablation.journal import Journal
from pytest_ablation.leftovers import mark_alive, remove_leftovers
from pytest_ablation.obtaining import Obtaining
from pytest_ablation.options import Options
from pytest_ablation.plan import Plan, RowPlan, StudyPlan, write_settled
from pytest_ablation.planning import Planner
from pytest_ablation.report_files import check_writable
from pytest_ablation.results import RowResult, StudyResult, study_result
from pytest_ablation.run_order import seconds_of_cases
from pytest_ablation.share import Worker
from pytest_ablation.store import Store
from pytest_ablation.training import Failure

if TYPE_CHECKING:
    from filelock import FileLock

    from pytest_ablation.study import CaseSpec, Study


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
        self.runs = Obtaining(options, self.store, self.journal, self.uid, self.worker)
        self.gating = Gating(options, self.store)
        self._alive: FileLock | None = None
        self._results: dict[tuple[str, str], tuple[tuple[int, int], StudyPlan, StudyResult]] = {}

    def read_plan(self) -> Plan | None:
        """The plan that this process made or that another one has written, if there is one yet."""
        if self.plan is None or (
            not self.runs.has_specs and any(s.is_open for s in self.plan.studies)
        ):
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
        self.store.prepare()
        modes = sorted({case.mode for _, case in cases})
        for mode in modes:
            check_writable(self.options.report_dir / mode)
        self.gating.read(modes)
        with self.store.words_for_errors():
            self._alive = mark_alive(self.folder)
            self.journal.reserve()
        remove_leftovers(self.store)
        self.plan, specs = self._planner().plan(cases)
        self.runs.add(specs, self.plan.keys)
        self.runs.connect()
        with self.store.words_for_errors():
            self.plan.write(self.folder)

    def seconds_of_cases(self) -> dict[str, float]:
        """Node id to the expected seconds of what a case has to train, for an order of cases.

        The same in all workers of a session; {} where there are no earlier runs to expect from.
        """
        expected = self.runs.agree(self.folder)
        return {} if expected is None else seconds_of_cases(self.plan, expected)

    def _planner(self) -> Planner:
        return Planner.of(self.options, self.uid)

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
        self.runs.obtain([key for row in rows for key in row.keys.values()])
        row = self._result(plan).row(case.variant)
        if row.status in ("ok", "missing"):  # missing: its verdict asks for more seeds
            row = self._whole_study(plan).row(case.variant)
        probes = [key for row in rows for key in row.probes.values()]
        if probes:
            self.runs.obtain(probes)
        return self._result(plan).row(case.variant) if probes else row

    def _whole_study(self, plan: StudyPlan) -> StudyResult:
        """The result of a study with all runs that its verdicts ask for, trained or reused."""
        while True:
            result = self._result(plan)
            wanted = self.runs.unknown(key for row in result.plan.rows for key in row.keys.values())
            if not wanted:
                records, _ = self.runs.records_and_failures()
                wanted = self.runs.unknown(self.gating.wanted(result, records))
            if not wanted:
                return result
            extra = sorted(set(wanted) - set(self.plan.keys))
            if extra:
                self.journal.tell("wanted", keys=extra)
            self.runs.obtain(wanted, again=False)

    def gate_rows(self, case: CaseSpec) -> list[GateRow]:
        """The gate's comparisons of a variant, as far as its runs are known in this process."""
        plan = self.plan.study(case.study.name, case.mode)
        known = self.runs.records_and_failures()[0]
        return self.gating.rows_of(self._result(plan), case.variant, known)

    def failures_of(self, case: CaseSpec) -> list[Failure]:
        """The failures among the runs of a variant and of its baseline, in this process."""
        plan = self.plan.study(case.study.name, case.mode)
        rows = _compared_rows(plan, case)
        keys = [*plan.candidate_keys, *(key for row in rows for key in row.keys.values())]
        outcomes = [self.runs.outcome(key) for key in keys]
        return [outcome for outcome in outcomes if isinstance(outcome, Failure)]

    def _settle(self, study: Study, plan: StudyPlan) -> StudyPlan:
        """Train or reuse a grid's runs, and plan the rows that follow from its best cell."""
        self.runs.obtain(plan.candidate_keys)
        settled, specs = self._planner().settle(study, plan, *self.runs.records_and_failures())
        self.plan = self.plan.with_study(settled)
        with contextlib.suppress(OSError):  # a full disk; this process knows it all the same
            write_settled(self.folder, settled)
        self.runs.add(specs, self.plan.keys)
        return settled

    def _result(self, plan: StudyPlan) -> StudyResult:
        """The study as far as its runs are known; the same object while that does not change."""
        stamp = self.runs.stamp
        kept = self._results.get((plan.name, plan.mode))
        if kept is None or kept[0] != stamp or kept[1] is not plan:
            known = self.runs.records_and_failures()
            result = study_result(plan, *known, self.runs.lost, self.gating.predictions)
            kept = self._results[plan.name, plan.mode] = stamp, plan, result
        return kept[2]

    # --- after the last case -----------------------------------------------------------------

    def close(self) -> None:
        """Stop training; called in every process, also after Ctrl-C."""
        self.runs.close()

    def finish(self, outcomes: dict[str, str], ending: Ending | None = None) -> Finished:
        """Write the reports from the plan and the store.

        Parameters
        ----------
        outcomes : node id to "passed", "failed" or "skipped", as far as reports arrived
        ending : how pytest ended
        """
        plan = self.read_plan()
        if plan is None:
            return Finished()
        self._tell_untold()
        found = Finishing(self.options, self.store, self.journal, self.uid, self.gating)
        finished = found.finish(plan, outcomes, ending)
        if self._alive is not None:
            self._alive.release()
        shutil.rmtree(self.folder, ignore_errors=True)
        return finished

    def _tell_untold(self) -> None:
        """Failures that another process could not write down, for its disk was full, say."""
        told = {event["key"] for event in self.journal.all_events("failed")}
        for key, message in self.runs.records_and_failures()[1].items():
            if key not in told:
                self.journal.tell("failed", key=key, message=message, details="")


def _compared_rows(plan: StudyPlan, case: CaseSpec) -> list[RowPlan]:
    """The row of a case and its baseline's, where it is not a baseline itself."""
    row = plan.row(case.variant)
    return [row] if row.baseline is None else [row, plan.row(row.baseline)]
