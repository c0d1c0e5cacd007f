"""The reference: results of earlier code that a session is compared with, made, written and read.

A session's results go in and come out as a file to commit, or as ``results.json`` in the report
folder; a file that is damaged, merged by hand or of another version is an error that says so. Knows
nothing of statistics, verdicts or pytest.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ablation import provenance
from pytest_ablation.digests import digest
from pytest_ablation.errors import AblationError
from pytest_ablation.record import Record
from pytest_ablation.reference_json import SCHEMA_VERSION, json_of, reference_from
from pytest_ablation.reference_types import (
    Correctness,
    Reference,
    ReferenceRow,
    ReferenceRun,
    ReferenceStudy,
)
from pytest_ablation.results import RowResult, StudyResult
from pytest_ablation.strict_json import Value, parse

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray]

#: The name under which each session leaves its results, as a reference, in its report folder.
RESULTS_FILE = "results.json"

_MOST_BYTES = 256 * 2**20
_SAVE_ANEW = "save it anew with --ablation-save-reference"


class ReferenceError(AblationError):
    """A reference that is not there or cannot be used."""


# --- from results ------------------------------------------------------------------------------


def reference_of(
    results: Sequence[StudyResult], predictions: Callable[[str], Arrays], root: Path
) -> Reference:
    """The results of one mode as a reference.

    Parameters
    ----------
    results : at least one, all of the same mode
    predictions : a run's key to what it kept per example, by name, as :meth:`Store.predictions`
        gives it; see :func:`correct_arrays` for what is taken of it
    root : the folder of the code, whose revision is noted

    Raises
    ------
    ValueError
        No results, or results of several modes.
    DamagedRecord
        From *predictions*.
    """
    modes = sorted({result.plan.mode for result in results})
    if len(modes) != 1:
        raise ValueError(f"a reference holds the results of one mode, found {modes or 'none'}")
    studies = {result.plan.name: study_of(result, predictions) for result in results}
    return Reference(modes[0], studies, provenance.facts_of(results, root))


def problems(reference: Reference) -> list[str]:
    """Why results must not be saved as what later code is compared with; [] where they may.

    A row is not ok, its runs are not known, or rows of a study were not selected: a gate would find
    them missing in the reference, and say so in every session that follows.
    """
    found = [] if reference.studies else ["there are no studies"]
    for study in reference.studies.values():
        if study.not_selected:
            names = ", ".join(study.not_selected)
            found.append(f"{study.name}: not all of its rows were selected ({names} were not)")
        for row in study.rows.values():
            if row.status != "ok":
                found.append(f"{study.name}, {row.name}: its status is {row.status}")
            elif not row.runs:
                found.append(f"{study.name}, {row.name}: it has no runs")
    return found


def correct_arrays(arrays: Arrays, metrics: Iterable[str]) -> dict[str, np.ndarray]:
    """Of a run's arrays those that say of each example whether it was right, as bool [examples].

    They have the name of one of *metrics*, one dimension, and hold nothing but 0 and 1; ranks and
    real numbers per example are left out.
    """
    return {
        name: arrays[name] != 0
        for name in metrics
        if name in arrays and _is_of_zeros_and_ones(arrays[name])
    }


def _is_of_zeros_and_ones(array: np.ndarray) -> bool:
    is_list = array.ndim == 1 and array.size > 0 and array.dtype.kind in "biuf"
    return is_list and bool(((array == 0) | (array == 1)).all())


def study_of(result: StudyResult, predictions: Callable[[str], Arrays]) -> ReferenceStudy:
    """One study of :func:`reference_of`."""
    plan = result.plan
    runs: dict[str, ReferenceRun] = {}  # by key: rows of the same model share theirs

    def run_of(record: Record, key: str) -> ReferenceRun:
        if key not in runs:
            correct = correct_arrays(predictions(key), plan.gate_metrics)
            runs[key] = _run(record, plan.metrics, correct)
        return runs[key]

    rows = {}
    for row in result.rows:
        usable = sorted((run.seed, run) for run in row.runs if _is_usable(run.record, plan.metrics))
        of_seed = {seed: run_of(run.record, run.key) for seed, run in usable}
        rows[row.name] = _row(row, plan.budget, of_seed)
    return ReferenceStudy(
        name=plan.name,
        metrics=tuple(plan.metrics),
        gate_metrics=tuple(plan.gate_metrics),
        lower_is_better=tuple(plan.lower_is_better),
        margins={name: float(plan.margins[name]) for name in plan.metrics},
        rows=rows,
        not_selected=tuple(plan.not_selected),
        budget=_shown(_as_read_back(plan.budget)),
    )


def _is_usable(record: Record | None, metrics: Iterable[str]) -> bool:
    return record is not None and record.ok and all(name in record.metrics for name in metrics)


def _row(
    row: RowResult, budget: Mapping[str, Any], runs: Mapping[int, ReferenceRun]
) -> ReferenceRow:
    config = next((record.config for record in row.records.values()), None)
    settings = _as_read_back({"config": config, "budget": budget})
    return ReferenceRow(
        name=row.name,
        baseline=row.plan.baseline,
        configuration="" if config is None else digest(settings),
        data=row.plan.data,
        runs=runs,
        status=row.status,
        same_as=row.same_as,
        config=_shown(settings["config"] or {}),
    )


def _run(record: Record, metrics: Iterable[str], correct: Arrays) -> ReferenceRun:
    return ReferenceRun(
        seed=record.seed,
        metrics={name: float(record.metrics[name]) for name in metrics},
        correct={name: Correctness.of(array) for name, array in correct.items()},
        outcome=digest(_as_read_back([record.metrics, record.outcome])),
        train_data=record.fingerprints.get("train_data") or "",
        evaluation_data=record.fingerprints.get("evaluation_data") or "",
    )


def _as_read_back(content: Any) -> Any:
    """As the store would read it back: a ``numpy.float64``, say, becomes the float that it is.

    Equal digests need equal types, wherever a record has come from.
    """
    return json.loads(json.dumps(content, sort_keys=True))


def _shown(content: Any) -> Any:
    """*content* for a reader, with text for the numbers that JSON does not have (RFC 8259)."""
    if isinstance(content, dict):
        return {name: _shown(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_shown(value) for value in content]
    is_finite = not isinstance(content, float) or math.isfinite(content)
    return content if is_finite else str(content)


# --- the file ----------------------------------------------------------------------------------


def write_reference(path: Path, reference: Reference) -> None:
    """Write *reference*, whole or not at all; its folder is made where there is none.

    The same results give the same bytes, but for ``made``. Each run has a line of its own.

    Raises
    ------
    OSError
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_text(json_of(reference), encoding="ascii", newline="")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_reference(path: Path, mode: str | None = None) -> Reference:
    """The reference in a file, or the results that a session left in a report folder.

    Parameters
    ----------
    path : a file, or a folder that holds ``results.json``
    mode : the mode it is wanted for; None takes any

    Raises
    ------
    ReferenceError
        There is none, it cannot be used, or it is of another mode.
    """
    path = Path(path)
    if path.is_dir():
        path = path / RESULTS_FILE
    try:
        content = parse(_text_of(path))
    except ValueError as error:
        raise ReferenceError(f"{path} is no reference: {error}; {_SAVE_ANEW}") from None
    _check_schema(path, content)
    try:
        reference = reference_from(content)
    except ValueError as error:
        raise ReferenceError(
            f"{path} was damaged, or changed by hand: {error}; {_SAVE_ANEW}"
        ) from None
    if mode is not None and reference.mode != mode:
        raise ReferenceError(
            f"{path} holds results of mode {reference.mode!r}, expected {mode!r}: name the file of "
            f"that mode, or save one with -m {mode} --ablation-save-reference"
        )
    return reference


def _text_of(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ReferenceError(
            f"there is no reference {path}: save one with --ablation-save-reference, from code "
            f"that is known to be good, and commit it"
        ) from None
    except OSError as error:
        raise ReferenceError(f"{path} cannot be read: {error}; {_SAVE_ANEW}") from None
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES // 2**20} MiB")
    return data.decode("utf-8")


def _check_schema(path: Path, content: Value) -> None:
    found = content.content.get("schema") if isinstance(content.content, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise ReferenceError(f"{path} is no reference: it names no schema; {_SAVE_ANEW}")
    if found != SCHEMA_VERSION:
        is_newer = found > SCHEMA_VERSION
        age, also = ("a newer", ", or update pytest-ablation") if is_newer else ("an older", "")
        raise ReferenceError(
            f"{path} was written by {age} version of pytest-ablation: it has schema "
            f"{found!s:.40}, expected {SCHEMA_VERSION}; {_SAVE_ANEW}{also}"
        )
