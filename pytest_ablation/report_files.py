"""The report's folder of one mode: tables, figures and text, each file whole or not at all.

Study results go in, files are written. Knows nothing of pytest, stores or how runs were trained.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ablation.errors import AblationError
from pytest_ablation.gate_results import GateResult
from pytest_ablation.going_on import Standing
from pytest_ablation.reference import RESULTS_FILE, Reference, write_reference
from pytest_ablation.report import SessionFacts, markdown
from pytest_ablation.results import StudyResult

if TYPE_CHECKING:
    from pytest_ablation.figures import LoadHeatMaps


def write_reports(
    folder: Path,
    results: Sequence[StudyResult],
    *,
    session: str,
    warnings: Sequence[str],
    heat_maps: LoadHeatMaps | None = None,
    gates: Sequence[GateResult] = (),
    reference: Reference | None = None,
    standing: Standing | None = None,
) -> None:
    """Write the report of the studies of one mode.

    Parameters
    ----------
    folder : ``reports/<mode>``
    session : whose runs count as trained now, the others as reused
    warnings : sentences for the head of the report
    heat_maps : a run's key to its heat maps by name; without it none are drawn
    gates : the comparison with a reference, where there was one
    reference : the results in the form of one, for later comparisons
    standing : how far the studies came

    Raises
    ------
    OSError
        A file cannot be written.
    """
    from pytest_ablation.figures import draw_studies
    from pytest_ablation.gate_table import gate_table
    from pytest_ablation.tables import history_table, runs_table, summary_table, to_csv

    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "runs.csv", to_csv(runs_table(results, session)))
    _replace(folder / "summary.csv", to_csv(summary_table(results)))
    _replace(folder / "history.csv", to_csv(history_table(results)))
    if gates:
        _replace(folder / "gate.csv", to_csv(gate_table(gates)))
    else:  # one of an earlier session would speak of other results
        (folder / "gate.csv").unlink(missing_ok=True)
    if reference is not None:
        write_reference(folder / RESULTS_FILE, reference)
    figures = draw_studies(results, folder, heat_maps)
    records = [run.record for s in results for run in s.runs.values() if run.record]
    is_new = {record.key: record.session == session for record in records}
    facts = SessionFacts(
        mode=folder.name,
        runs=len({key for study in results for key in study.runs}),
        trained=sum(is_new.values()),
        reused=len(is_new) - sum(is_new.values()),
        warnings=(*warnings, *figures.warnings),
        figures=figures.pictures,
        gates=tuple(gates),
        standing=standing,
    )
    text = markdown(results, facts)
    _replace(folder / "report.md", text)
    _append_to_step_summary(text)


def check_writable(folder: Path) -> None:
    """Make sure, before anything trains, that reports can be written there.

    Raises
    ------
    AblationError
    """
    probe = folder / f".writable-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise AblationError(
            f"the report folder {folder} cannot be written ({error}): choose another one with "
            f"--ablation-report=DIR"
        ) from error


def _replace(path: Path, text: str) -> None:
    """Write whole or not at all, so that a reader never sees half a table.

    An error may quote what no text file can hold, half a pair of surrogates: it is written as
    ``\\udc80`` then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(_encoded(text))
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _append_to_step_summary(text: str) -> None:
    """GitHub Actions shows this file on the page of the run (docs: "job summaries")."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with open(path, "ab") as file:
            file.write(_encoded(text))
