"""The end of a session: results, reports, gate and reference, from the plan and the store.

A plan and what every process of the session left on disk go in, files and :class:`Finished` come
out. Works in the process that users see, whoever trained; never trains itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_ablation.errors import AblationError
from pytest_ablation.gate_results import GateResult
from pytest_ablation.gating import Gating
from pytest_ablation.journal import Journal
from pytest_ablation.options import Options
from pytest_ablation.plan import Plan
from pytest_ablation.record import Record
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
    """

    results: list[StudyResult] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    saved: list[Path] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    trained: int = 0
    reused: int = 0

    @property
    def is_failed(self) -> bool:
        """Whether the session fails, whatever the outcomes of its tests."""
        return bool(self.errors) or not all(gate.ok for gate in self.gates)


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

    def finish(self, plan: Plan, outcomes: dict[str, str]) -> Finished:
        """Write the reports.

        Parameters
        ----------
        outcomes : node id to "passed", "failed" or "skipped", as far as reports arrived
        """
        finished = Finished()
        records, failures, lost = self._read_back(plan)
        known = records, failures, lost
        finished.results = [study_result(s, *known, self._gating.predictions) for s in plan.studies]
        used = [record for key, record in records.items() if key in _keys_of(finished.results)]
        finished.trained = sum(record.session == self._session for record in used)
        finished.reused = len(used) - finished.trained
        finished.errors = _unasked(plan, finished.results, outcomes)
        self._gating.read_if_unread({study.mode for study in plan.studies})
        finished.gates = self._gating.results(finished.results, records)
        for mode in dict.fromkeys(study.mode for study in plan.studies):
            self._write(mode, finished)
        return finished

    def _write(self, mode: str, finished: Finished) -> None:
        """The reports of one mode, and its reference where that was asked for."""
        folder = self._options.report_dir / mode
        results = [result for result in finished.results if result.plan.mode == mode]
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
            )
            finished.files.append(folder)
        except OSError as error:
            finished.errors.append(
                f"the reports could not be written: {error}; the runs are kept in "
                f"{self._store.root}: run again with --ablation-report=DIR"
            )
        if self._options.save_reference is not None and reference is not None:
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

    def _read_back(self, plan: Plan) -> tuple[dict[str, Record], dict[str, str], set[str]]:
        """Records by key from the store; why others failed; which began and never ended."""
        records, failures = {}, {}
        for event in self._journal.all_events("failed"):
            failures[event["key"]] = event["message"]
        for key in plan.all_keys:
            try:
                record = self._store.read(key)
            except DamagedRecord as problem:
                failures[key] = str(problem)
                continue
            if record is not None and self._may_use(record):
                records[key] = record
        started = {event["key"] for event in self._journal.all_events("started")}
        return records, failures, started - set(records) - set(failures)

    def _may_use(self, record: Record) -> bool:
        wishes = {"fresh": self._options.fresh, "save_models": self._options.save_models}
        return may_use(record, self._store, self._session, **wishes)


def _keys_of(results: Sequence[StudyResult]) -> set[str]:
    """The keys of all runs that the results are made of."""
    keys = {key for result in results for key in result.runs}
    candidates = (of for result in results for of in result.plan.candidates.values())
    return keys.union(*(of.values() for of in candidates))


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
