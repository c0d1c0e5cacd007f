"""The end of a session: results, reports, gate and reference, from the plan and the store.

A plan and what every process of the session left on disk go in, files and :class:`Finished` come
out. Works in the process that users see, whoever trained; never trains itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.errors import AblationError
from pytest_ablation.gate_results import GateResult
from pytest_ablation.gating import Gating
from pytest_ablation.going_on import Ending, Standing, standing
from pytest_ablation.journal import Journal
from pytest_ablation.options import Options
from pytest_ablation.plan import Plan
from pytest_ablation.record import LOST, Record
from pytest_ablation.reference import Reference, reference_of
from pytest_ablation.report_files import write_reports
from pytest_ablation.results import StudyResult, study_result
from pytest_ablation.store import DamagedRecord, Store
from pytest_ablation.training import may_use


@dataclass
class Finished:
    """What the session came to, for the terminal and the exit status.

    Attributes
    ----------
    results : of each study and mode
    gates : of each mode that was compared with a reference
    files : the report folders that were written
    saved : the references that were written
    errors : why the session fails, beyond what failing tests and gates say
    trained, reused : how many runs
    standing : how far the session came; None where it had nothing planned
    warnings : what runs met that pytest's own summary of warnings has not
    """

    results: list[StudyResult] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    saved: list[Path] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    trained: int = 0
    reused: int = 0
    standing: Standing | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def is_failed(self) -> bool:
        """Whether the session fails, whatever the outcomes of its tests."""
        is_cut_short = self.standing is not None and self.standing.is_interrupted
        return bool(self.errors) or is_cut_short or not all(gate.ok for gate in self.gates)


class Finishing:
    """Reads back what a session did, and writes what it leaves."""

    def __init__(
        self, options: Options, store: Store, journal: Journal, session: str, gating: Gating
    ) -> None:
        self._options = options
        self._store = store
        self._journal = journal
        self._session = session
        self._gating = gating

    def finish(
        self, plan: Plan, outcomes: dict[str, str], ending: Ending | None = None
    ) -> Finished:
        """Write the reports.

        Parameters
        ----------
        outcomes : node id to "passed", "failed" or "skipped", as far as reports arrived
        ending : how pytest ended
        """
        finished = Finished()
        known = records, failures, lost = self._read_back(plan)
        epochs = self._kept_epochs(lost)

        def so_far(results: Sequence[StudyResult]) -> Standing:
            keys = {"there": records, "failed": failures, "lost": lost, "epochs": epochs}
            return standing(results, ending or Ending(), **keys)

        finished.results = [study_result(s, *known, self._gating.predictions) for s in plan.studies]
        keys = _keys_of(finished.results)
        used = [record for key, record in records.items() if key in keys]
        finished.trained = sum(record.session == self._session for record in used)
        finished.reused = len(used) - finished.trained
        finished.errors = _unasked(plan, finished.results, outcomes)
        finished.warnings = self._warnings_of_runs()
        self._gating.read_if_unread({study.mode for study in plan.studies})
        finished.standing = so_far(finished.results)
        gates = self._gating.results(finished.results, records)
        finished.gates = [_of_whole_session(gate, finished.standing) for gate in gates]
        for mode in dict.fromkeys(study.mode for study in plan.studies):
            results = [result for result in finished.results if result.plan.mode == mode]
            self._write(mode, results, so_far(results), finished)
        return finished

    def _write(
        self, mode: str, results: Sequence[StudyResult], came: Standing, finished: Finished
    ) -> None:
        """The reports of one mode, and its reference where that was asked for."""
        folder = self._options.report_dir / mode
        reference = self._reference(results, finished)
        try:
            write_reports(
                folder,
                results,
                session=self._session,
                warnings=self._warnings(),
                heat_maps=self._store.heat_maps,
                gates=[gate for gate in finished.gates if gate.mode == mode],
                reference=reference,
                standing=came,
            )
            finished.files.append(folder)
        except OSError as error:
            finished.errors.append(
                f"the reports in {folder} could not be written: {error}; the runs are kept in "
                f"{self._store.root}: run again with --ablation-report=DIR"
            )
        if self._options.save_reference is None or reference is None:
            return
        if finished.standing.is_interrupted:
            path = self._options.reference_path(self._options.save_reference, mode)
            finished.errors.append(f"{path} was not written, for the session was interrupted")
        else:
            try:
                finished.saved.append(self._gating.save(reference))
            except AblationError as error:
                finished.errors.append(str(error))

    def _reference(self, results: list[StudyResult], finished: Finished) -> Reference | None:
        try:
            return reference_of(results, self._gating.predictions, self._options.root)
        except DamagedRecord as problem:
            finished.errors.append(f"{problem}: run the same command again")
            return None

    def _warnings(self) -> tuple[str, ...]:
        damaged = self._journal.all_events("damaged")  # told by every process that met the record
        return tuple(dict.fromkeys(event["message"] for event in damaged))

    def _warnings_of_runs(self) -> list[str]:
        """Those about checkpoints, told where they were met: in a process of the pool, say."""
        told = [e["message"] for e in self._journal.all_events("damaged") if e.get("by_run")]
        return [*dict.fromkeys(told)]

    def _kept_epochs(self, keys: Iterable[str]) -> dict[str, int]:
        """The last epoch in the checkpoint of each run that would go on from one."""
        found = {key: CheckpointFolder(self._store.checkpoints / key).epoch for key in keys}
        return {k: epoch for k, epoch in found.items() if epoch is not None and not self._is_old(k)}

    def _is_old(self, key: str) -> bool:
        """Whether a run was only trained again, for the wish of it (--ablation-fresh)."""
        with contextlib.suppress(DamagedRecord):
            return self._options.fresh and self._store.read(key) is not None
        return False

    def _read_back(self, plan: Plan) -> tuple[dict[str, Record], dict[str, str], dict[str, str]]:
        """Records by key from the store; why others failed; of which began and never ended what is
        known about that."""
        records, failures = {}, {}
        trained = {event["key"] for event in self._journal.all_events("finished")}
        for event in self._journal.all_events("failed"):
            failures[event["key"]] = event["message"]
        for key in plan.all_keys:
            try:
                record = self._store.read(key)
            except DamagedRecord as problem:
                failures[key] = str(problem)
                continue
            if record is not None and key in trained:  # whoever has put it there again since
                record = replace(record, session=self._session)
            if record is not None and self._may_use(record):
                records[key] = record
        return records, failures, self._lost(records.keys() | failures.keys())

    def _lost(self, ended: Collection[str]) -> dict[str, str]:
        """Runs that began and never ended: key to what is known about that."""
        deaths = {event["pid"]: event["how"] for event in self._journal.all_events("died")}
        lost: dict[str, str] = {}
        for event in self._journal.all_events("started"):
            if event["key"] not in ended:
                how = deaths.get(event.get("pid"))
                told = f"training began and never ended: the process died ({how})"
                lost[event["key"]] = told if how else lost.get(event["key"], LOST)
        return lost

    def _may_use(self, record: Record) -> bool:
        wishes = {"fresh": self._options.fresh, "save_models": self._options.save_models}
        return may_use(record, self._store, self._session, **wishes)


def _of_whole_session(gate: GateResult, came: Standing) -> GateResult:
    """A gate over part of what was to be compared is no green one, whatever it has seen."""
    if not came.is_interrupted:
        return gate
    error = "the session was interrupted before it was through: run the same command again"
    return replace(gate, errors=(*gate.errors, error))


def _keys_of(results: Sequence[StudyResult]) -> set[str]:
    """The keys of all runs that the results are made of."""
    keys = {key for result in results for key in result.runs}
    return keys.union(*(result.plan.candidate_keys for result in results))


def _unasked(plan: Plan, results: Sequence[StudyResult], outcomes: dict[str, str]) -> list[str]:
    """Cases that pytest calls passed although their row is not ok, for they never asked for it."""
    errors = []
    by_name = {(result.plan.name, result.plan.mode): result for result in results}
    for node, (study, mode, variant) in plan.cases.items():
        row = by_name[study, mode].row(variant)
        if outcomes.get(node) == "passed" and row.status != "ok":
            errors.append(
                f"{node} passed, but its result is {row.status}: a case must call ablation.run()"
            )
    return errors
