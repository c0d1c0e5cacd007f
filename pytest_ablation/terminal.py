"""The summary at the end of pytest's output: one table per study, readable at 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ablation.gate_text import gate_lines
from pytest_ablation.going_on import Standing, sentences
from pytest_ablation.grid_results import grid_result
from pytest_ablation.report import problem_text, problems
from pytest_ablation.report_text import count
from pytest_ablation.results import RowResult, StudyResult, by_delta
from pytest_ablation.statistics import Delta

if TYPE_CHECKING:
    from pytest_ablation.finishing import Finished

_NAME_WIDTH = 24
_LEADING_WIDTH = 8  # of a metric's name above its column


def study_lines(study: StudyResult) -> list[str]:
    """A study's table as lines: the leading metric, deltas with intervals, verdicts.

    Of a grid the cells, the best first, and how far the others are behind it.
    """
    if study.plan.grid is not None:
        return _grid_lines(study)
    metric = study.plan.leading
    title = f"{study.plan.name} ({study.plan.mode}), {metric}"
    if not study.plan.is_better_higher(metric):
        title += " (lower is better)"
    name = _wrapped(title)
    header = f"  {'variant':{_NAME_WIDTH}} {'mean':>6}  {'delta':>7}  {'95 % interval':16}  verdict"
    header += " (seeds)" if study.plan.looks else ""
    rows = by_delta(study)
    same = [
        line
        for row in rows
        if row.same_as
        for line in _wrapped(f"  {row.name} is the same model as {row.same_as}")
    ]
    return [*name, header, *(_row_line(study, row, metric) for row in rows), *same]


def _grid_lines(study: StudyResult) -> list[str]:
    """The cells in the order of the report, with the leading metric beside what they are chosen by.

    Cells without all their results come last.
    """
    plan, result = study.plan, grid_result(study)
    title = f"{plan.name} ({plan.mode}), best by {result.metric}"
    leading = "" if plan.leading == result.metric else plan.leading
    heading = leading
    if len(leading) > _LEADING_WIDTH:
        heading, title = "leading", f"{title}, leading {leading}"
    header = (
        f"  {'cell':{_NAME_WIDTH}} {'mean':>6}  {'behind':>7} {'95 % interval':15}  {heading:>6}"
    )
    cells = [(cell.row, cell.behind) for cell in result.ranked]
    cells += [(study.row(name), None) for name in result.left_out]
    lines = [header.rstrip()]
    for row, behind in cells:
        is_best = result.best is not None and row is result.best.row
        outcome = result.left_out.get(row.name, "").upper()
        if not outcome and row.plan.baseline is None:
            outcome = "(baseline)"
        change = "best" if is_best else _number(behind.value if behind else None, "+.4f")
        mean = _number(row.metrics[result.metric].mean)
        beside = _number(row.metrics[leading].mean) if leading else ""
        line = (
            f"  {_short(row.name):{_NAME_WIDTH}} {mean:>6}  {change:>7} {_interval(behind):15}  "
            f"{beside:>{max(6, len(heading))}} {outcome}"
        )
        lines.append(line.rstrip())
    return [*_wrapped(title), *lines]


def _wrapped(text: str) -> list[str]:
    """Lines of at most 80 columns, broken between words, as names of 80 letters need."""
    return textwrap.wrap(text, 80, subsequent_indent="    ", break_on_hyphens=False)


def problem_lines(rows: Sequence[tuple[StudyResult, RowResult]]) -> list[str]:
    """What went wrong, each row's message under its name."""
    lines = []
    for study, row in rows:
        lines.append(f"{row.status}: {study.plan.name} ({study.plan.mode}) {row.name}")
        told = problem_text(study, row).splitlines()
        if row.status == "missing":  # seeds in a list, not the words of an error
            told = [part for line in told for part in textwrap.wrap(line, 78)]
        lines += [f"  {line}" for line in told]
    return lines


def going_on_lines(standing: Standing | None) -> list[str]:
    """What is not there, and the command that goes on from here, on a line of its own."""
    told = sentences(standing) if standing is not None else []
    lines = [line for text in told for line in textwrap.wrap(text, 80)]
    if not lines:
        return []
    lines[-1] += ":" if standing.command else "."
    return [*lines, *([f"  {standing.command}"] if standing.command else [])]


def _shown(path: Path) -> str:
    """Relative where the file lies below the current folder, as people would type it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _row_line(study: StudyResult, row: RowResult, metric: str) -> str:
    result = row.metrics[metric]
    delta = result.delta
    change = _number(delta.value if delta is not None else None, "+.4f")
    line = (
        f"  {_short(row.name):{_NAME_WIDTH}} {_number(result.mean):>6}  {change:>7}  "
        f"{_interval(delta):16}  {_outcome(row, metric)}"
    )
    if study.plan.looks:
        line += f" ({len(row.plan.keys)})"
    return line.rstrip()


def _short(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 2] + ".."


def _number(value: float | None, form: str = ".4f") -> str:
    return format(value, form) if value is not None else ""


def _interval(delta: Delta | None) -> str:
    if delta is None or not math.isfinite(delta.low):
        return ""
    return f"{delta.low:+.4f} {delta.high:+.4f}"


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
    if not finished.results and not finished.errors:
        return []
    lines = [("ablation", "title")]
    for study in finished.results:
        lines += [(line, "") for line in study_lines(study)]
    lines += [(line, "red") for line in problem_lines(problems(finished.results))]
    lines += gate_lines(finished.gates)
    lines += [(error, "red") for error in finished.errors]
    lines += [(f"warning: {text}", "yellow") for text in finished.warnings]
    keys = [[*study.runs, *study.plan.candidate_keys] for study in finished.results]
    total = len(set().union(*keys))
    counts = f"{count(total, 'run')}: {finished.trained} trained, {finished.reused} reused"
    return [
        *lines,
        (counts, ""),
        *((f"report: {_shown(folder / 'report.md')}", "") for folder in finished.files),
        *((f"reference: {_shown(path)}", "") for path in finished.saved),
        *((line, "yellow") for line in going_on_lines(finished.standing)),
    ]
