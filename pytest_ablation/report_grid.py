"""The table of a grid's cells in the report, the best first, and what a reader must know of it.

A study's result goes in, Markdown comes out; the numbers are those of ``grid_results.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_ablation.grid_results import GridResult, RankedCell, grid_result
from pytest_ablation.grids import shown_value
from pytest_ablation.report_tables import (
    hidden_metrics,
    lower_is_better_note,
    references,
    with_spread,
)
from pytest_ablation.report_text import code, count, escape, evidence, points, table
from pytest_ablation.results import RowResult, StudyResult
from pytest_ablation.statistics import Delta

_OUTCOMES = {
    "better": "behind",
    "no_detectable_change": "no detectable difference",
    "inconclusive": "not told apart",
}


def grid_table(study: StudyResult) -> list[str]:
    """How the cells are ordered, and a line for each: parts of the report."""
    result = grid_result(study)
    note = (
        f"Ordered by {code(result.metric)}, by which the best cell is chosen. Behind the best: "
        f"its {code(result.metric)} minus the cell's, paired by seed."
    )
    others = _other_metrics(study)
    header = [result.metric, "behind the best", "95 % interval", *others, "outcome"]
    axes = [escape(", ".join(axis.fields)) for axis in result.grid.axes]
    lines = [*_reference_lines(study, len(axes)), *_cell_lines(study, result)]
    align = "l" * (1 + len(axes)) + "r" * (4 + len(others)) + "l"
    shown = table(["cell", *axes, "seeds", *header], lines, align)
    notes = [note, lower_is_better_note(study), hidden_metrics(study)]
    return [" ".join(filter(None, notes)), shown]


def grid_note(study: StudyResult) -> str:
    """What the intervals are, and where the deltas of the report's files come from."""
    baseline = next((r.name for r in study.rows if r.plan.baseline is None), None)
    text = (
        "Intervals are Student's t over the seeds, not adjusted for the number of cells; the best "
        "cell was chosen by the same figures, so it tends to look better than it is."
    )
    if baseline is None or len(study.rows) < 2:
        return text
    return (
        f"{text} Deltas in the CSV files are against the baseline's cell, {code(baseline)}, with "
        f"intervals that hold for all cells together (Dunnett 1955)."
    )


def choice_note(study: StudyResult) -> str:
    """Which cell the baseline is and by how much it leads; "" where it is no grid's best one."""
    choice = study.plan.choice
    if choice is None:
        return ""
    text = (
        f"Baseline: the cell {code(choice.cell)} of {code(choice.study)} "
        f"({escape(choice.described)}), best by {code(choice.metric)} (mean {choice.mean:.4f}, "
        f"{count(choice.seeds, 'seed')}); "
    )
    if choice.lead is None:
        return f"{text}no other cell had all its results"
    lead = choice.lead
    if lead.verdict == "better":
        return (
            f"{text}second {code(choice.second)}, {points(lead.value)[1:]} points behind "
            f"({evidence(lead)})"
        )
    return (
        f"{text}it cannot be told apart from the second, {code(choice.second)} "
        f"({points(lead.value)} points, {evidence(lead)})"
    )


def _other_metrics(study: StudyResult) -> list[str]:
    plan = study.plan
    return [name for name in (plan.leading, *plan.also) if name != plan.select]


def _reference_lines(study: StudyResult, axes: int) -> list[list[str]]:
    names = _other_metrics(study)
    lines = []
    for reference in references(study):
        values = reference.values
        if any(name in values for name in (study.plan.select, *names)):
            told = [f"{values[n]:.4f}" if n in values else "" for n in (study.plan.select, *names)]
            lines.append([reference.label, *[""] * axes, "", told[0], "", "", *told[1:], ""])
    return lines


def _cell_lines(study: StudyResult, result: GridResult) -> list[list[str]]:
    """The cells with all their results, the best first; then those without."""
    lines = [_line(study, result, cell.row, cell) for cell in result.ranked]
    return [*lines, *(_line(study, result, study.row(name)) for name in result.left_out)]


def _line(
    study: StudyResult, result: GridResult, row: RowResult, cell: RankedCell | None = None
) -> list[str]:
    names = _other_metrics(study)
    chosen = row.metrics[result.metric]
    place = result.grid.cells[row.name]
    values = [
        escape(", ".join(map(shown_value, axis.values[index])))
        for axis, index in zip(result.grid.axes, place, strict=True)
    ]
    found = [with_spread(row.metrics[name].mean, row.metrics[name].std) for name in names]
    mean = with_spread(chosen.mean, chosen.std)
    cells = [*values, str(chosen.n_seeds), mean, *_behind(cell), *found]
    is_best = cell is not None and cell is result.best
    if is_best:
        cells = [f"**{text}**" if text else "" for text in cells]
    name = f"**{code(row.name)}**" if is_best else code(row.name)
    return [name, *cells, _outcome(result, row, cell)]


def _behind(cell: RankedCell | None) -> list[str]:
    delta = cell.behind if cell is not None else None
    if delta is None:
        return ["", ""]
    has_interval = math.isfinite(delta.low)
    return [f"{delta.value:+.4f}", f"{delta.low:+.4f} to {delta.high:+.4f}" if has_interval else ""]


def _outcome(result: GridResult, row: RowResult, cell: RankedCell | None) -> str:
    words: Sequence[str] = [f"**{result.left_out.get(row.name)}**"]
    if cell is not None:
        words = ["**best**" if cell is result.best else _against_best(cell.behind)]
    if row.plan.baseline is None:
        words = [*words, "(the baseline's cell)"]
    return " ".join(filter(None, words))


def _against_best(delta: Delta | None) -> str:
    return _OUTCOMES.get(delta.verdict, "") if delta is not None else ""
