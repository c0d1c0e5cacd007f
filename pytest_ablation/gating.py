"""The gate of one session: reads the references, says which runs they ask for, and saves new ones.

Between the session, which has plans, records and options, and gate.py, which compares. Writes the
reference file and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ablation import gate
from pytest_ablation.errors import AblationError
from pytest_ablation.gate_results import GateResult, GateRow
from pytest_ablation.options import SAVE_REFERENCE_OPTION, Options
from pytest_ablation.record import Record
from pytest_ablation.reference import (
    ReferenceError,
    problems,
    read_reference,
    reference_of,
    study_of,
    write_reference,
)
from pytest_ablation.reference_types import Reference
from pytest_ablation.results import RunResult, StudyResult
from pytest_ablation.store import Store
from pytest_ablation.verdicts import with_seeds

if TYPE_CHECKING:
    import numpy as np

Known = Mapping[str, Record]


class Gating:
    """The references of a session, by mode; without ``--ablation-gate`` there are none."""

    def __init__(self, options: Options, store: Store) -> None:
        self._options = options
        self._references: dict[str, Reference] = {}
        self._store = store
        self._compared: dict[tuple[str, str], tuple[StudyResult, int, gate.StudyGate]] = {}
        self.predictions = lru_cache(maxsize=4096)(self._read_predictions)

    def read(self, modes: Iterable[str]) -> None:
        """Read what the session is compared with, before anything trains.

        Raises
        ------
        ReferenceError
            There is none, or it cannot be used.
        AblationError
            A file to save to cannot be written.
        """
        for mode in modes:
            if self._options.gate is not None:
                path = self._options.reference_path(self._options.gate, mode)
                self._references[mode] = read_reference(path, mode)
            if self._options.save_reference is not None:
                _check_folder(self._options.reference_path(self._options.save_reference, mode))

    def read_if_unread(self, modes: Iterable[str]) -> None:
        """The same for a process that has collected no cases itself (pytest-xdist's controller)."""
        if not self._references:
            self.read(modes)

    def wanted(self, result: StudyResult, known: Known) -> list[str]:
        """The keys of the runs that the gate needs to decide about a study."""
        counts = self._study(result, known).wanted if self._is_on(result) else {}
        rows = [with_seeds(result.plan.row(name), count) for name, count in counts.items()]
        return [key for row in rows for key in row.keys.values()]

    def rows_of(self, result: StudyResult, row: str, known: Known) -> list[GateRow]:
        """The comparisons of one row, for its case."""
        found = self._study(result, known).rows if self._is_on(result) else ()
        return [of for of in found if of.row == row]

    def results(self, results: Sequence[StudyResult], known: Known) -> list[GateResult]:
        """The gate of each mode that has a reference."""
        gates = []
        for mode, old in self._references.items():
            studies = [result for result in results if result.plan.mode == mode]
            new = reference_of(studies, self.predictions, self._options.root)
            compared = [self._study(study, known) for study in studies]
            rows = [row for of in compared for row in of.rows]
            path = self._options.reference_path(self._options.gate, mode)
            gates.append(
                gate.gate_result(
                    old,
                    new,
                    rows,
                    path=_relative(path, self._options.root),
                    strict=self._options.strict,
                    extra_runs=_extra_runs(studies, compared),
                )
            )
        return gates

    def save(self, new: Reference) -> Path:
        """Write the reference of a mode; returns its file.

        Raises
        ------
        AblationError
            It must not be saved, or cannot be; the old one stays as it is.
        """
        path = self._options.reference_path(self._options.save_reference, new.mode)
        found = [*problems(new), *_lost_studies(path, new)]
        if found:
            raise AblationError(f"{path} was not written, for {'; '.join(found)}")
        try:
            write_reference(path, new)
        except OSError as error:
            raise AblationError(f"the reference could not be written: {error}") from error
        return path

    def _is_on(self, result: StudyResult) -> bool:
        return result.plan.mode in self._references

    def _study(self, result: StudyResult, known: Known) -> gate.StudyGate:
        """The comparisons of a study, made anew where its result or what is known has changed."""
        kept = self._compared.get((result.plan.name, result.plan.mode))
        if kept is None or kept[0] is not result or kept[1] != len(known):
            kept = result, len(known), self._compare(result, known)
            self._compared[result.plan.name, result.plan.mode] = kept
        return kept[2]

    def _compare(self, result: StudyResult, known: Known) -> gate.StudyGate:
        old = self._references[result.plan.mode]
        plan = result.plan
        terms = gate.Terms(most_seeds=plan.most_seeds, strict=self._options.strict)
        planned = {row.name: tuple(row.keys)[: plan.first_seeds] for row in plan.rows}
        new = study_of(_with_reserve(result, known), self.predictions)
        terms = terms.shared_by(len(old.studies))
        return gate.compare_study(old.studies.get(plan.name), new, planned, terms)

    def _read_predictions(self, key: str) -> Mapping[str, np.ndarray]:
        return self._store.predictions(key)


def _with_reserve(result: StudyResult, known: Known) -> StudyResult:
    """The result with the finished runs of seeds in reserve beside those of each row.

    They are taken in their order, up to the first that is not there: one that failed must be
    missed, and no other that an earlier session has left may stand in for it.
    """
    rows = []
    for row in result.rows:
        reserve = [(s, k) for s, k in row.plan.reserve.items() if s not in row.plan.keys]
        there = itertools.takewhile(lambda of: of[1] in known and known[of[1]].ok, reserve)
        extra = [RunResult(seed, key, "ok", "", known[key]) for seed, key in there]
        rows.append(replace(row, runs=(*row.runs, *extra)))
    return replace(result, rows=tuple(rows))


def _extra_runs(results: Sequence[StudyResult], found: Iterable[gate.StudyGate]) -> int:
    """How many runs the gate has asked for that the studies themselves do not have."""
    extra: set[str] = set()
    for result, of in zip(results, found, strict=True):
        for name, count in of.asked.items():
            row = result.plan.row(name)
            extra |= set(with_seeds(row, count).keys.values()) - set(row.keys.values())
    return len(extra)


def _lost_studies(path: Path, new: Reference) -> list[str]:
    """Studies that are in the file and would be lost from it."""
    try:
        old = read_reference(path)
    except ReferenceError:  # there is none yet, or one that is of no use
        return []
    if old.mode != new.mode:
        return [
            f"it holds results of mode {old.mode}, and these are of mode {new.mode}: write another "
            f"file with {SAVE_REFERENCE_OPTION}=FILE"
        ]
    lost = [name for name in old.studies if name not in new.studies]
    if not lost:
        return []
    return [
        f"it holds {', '.join(lost)}, which this session did not select: select all studies, or "
        f"write another file with {SAVE_REFERENCE_OPTION}=FILE"
    ]


def _check_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AblationError(f"{path} cannot be written: {error}") from error
    if path.is_dir():
        raise AblationError(f"{path} is a folder: name a file with {SAVE_REFERENCE_OPTION}=FILE")


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
