"""The summary at the end of pytest's output: one table per study, readable at 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ablation.report import problems
from pytest_ablation.results import RowResult, StudyResult, by_delta

if TYPE_CHECKING:
    from pytest_ablation.session import Finished

_NAME_WIDTH = 24


def study_lines(study: StudyResult) -> list[str]:
    """A study's table as lines: the leading metric, deltas with intervals, verdicts."""
    metric = study.plan.leading
    name = _wrapped(f"{study.plan.name} ({study.plan.mode}), {metric}")
    header = f"  {'variant':{_NAME_WIDTH}} {'mean':>6}  {'delta':>7}  {'95 % interval':16}  verdict"
    rows = by_delta(study)
    same = [
        line
        for row in rows
        if row.same_as
        for line in _wrapped(f"  {row.name} is the same model as {row.same_as}")
    ]
    return [*name, header, *(_row_line(row, metric) for row in rows), *same]


def _wrapped(text: str) -> list[str]:
    """Lines of at most 80 columns, broken between words, as names of 80 letters need."""
    return textwrap.wrap(text, 80, subsequent_indent="    ", break_on_hyphens=False)


def problem_lines(rows: Sequence[tuple[StudyResult, RowResult]]) -> list[str]:
    """What went wrong, each row's message under its name."""
    lines = []
    for study, row in rows:
        lines.append(f"{row.status}: {study.plan.name} ({study.plan.mode}) {row.name}")
        lines += [f"  {line}" for line in row.message.splitlines()]
    return lines


def _shown(path: Path) -> str:
    """Relative where the file lies below the current folder, as people would type it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _row_line(row: RowResult, metric: str) -> str:
    result = row.metrics[metric]
    delta = result.delta
    mean = f"{result.mean:.4f}" if result.mean is not None else ""
    change = f"{delta.value:+.4f}" if delta is not None else ""
    interval = ""
    if delta is not None and math.isfinite(delta.low):
        interval = f"{delta.low:+.4f} {delta.high:+.4f}"
    name = row.name if len(row.name) <= _NAME_WIDTH else row.name[: _NAME_WIDTH - 2] + ".."
    line = f"  {name:{_NAME_WIDTH}} {mean:>6}  {change:>7}  {interval:16}  {_outcome(row, metric)}"
    return line.rstrip()


def _outcome(row: RowResult, metric: str) -> str:
    if row.status != "ok":
        return row.status.upper()
    delta = row.metrics[metric].delta
    if row.plan.baseline is None:
        return "(baseline)"
    if delta is None or delta.verdict is None:
        return "-"
    return {"no_detectable_change": "no change"}.get(delta.verdict, delta.verdict)


def summary_lines(finished: Finished) -> list[tuple[str, str]]:
    """Lines with their markup ("title", a colour name, or "") for pytest's terminal writer."""
    if not finished.results:
        return []
    lines = [("ablation", "title")]
    for study in finished.results:
        lines += [(line, "") for line in study_lines(study)]
    lines += [(line, "red") for line in problem_lines(problems(finished.results))]
    lines += [(error, "red") for error in finished.errors]
    total = len({key for study in finished.results for key in study.runs})
    counts = f"{total} runs: {finished.trained} trained, {finished.reused} reused"
    return [
        *lines,
        (counts, ""),
        *((f"report: {_shown(folder / 'report.md')}", "") for folder in finished.files),
    ]
