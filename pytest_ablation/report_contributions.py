"""The report's section on a 2x2 design: what two components contribute, alone and together.

A study's result goes in, Markdown comes out; the arithmetic is that of ``factorial.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pytest_ablation import guards
from pytest_ablation.factorial import CELLS, NONE, Cell, Factor, Factorial, Levels, effects
from pytest_ablation.report_text import (
    VERDICT_WORDS,
    bullets,
    code,
    code_list,
    escape,
    interval,
    points,
    table,
)
from pytest_ablation.results import RowResult, StudyResult
from pytest_ablation.statistics import Delta

_TOGETHER = {"worse": "less than the sum of both", "better": "more than the sum of both"}
#: Of a metric that is better when lower, of which "more" would be ambiguous.
_TOGETHER_LOWER = {"worse": "worse than the sum of both", "better": "better than the sum of both"}


def contributions(study: StudyResult) -> list[str]:
    """The section as parts of the report; empty where the study has no such design."""
    design = study.plan.factorial
    if design is None:
        return []
    cells = {cell.levels: _row_of(study, cell) for cell in design.cells}
    missing = [
        f"{escape(design.described(cell.levels))} ({_what_of(study, cell)})"
        for cell in design.cells
        if cells[cell.levels] is None
    ]
    parts = ["### Independent contributions"]
    if missing:
        return [*parts, f"Not computed, for lack of {', '.join(missing)}."]
    unfair = _unfair(cells)
    if unfair is not None:
        return [*parts, f"Not computed: {escape(unfair)}"]
    return [*parts, *_effects(study, design, cells)]


def _unfair(cells: Mapping[Levels, RowResult]) -> str | None:
    """Why two cells cannot be compared; a row is only ever compared with its own baseline."""
    declared = tuple({word for row in cells.values() for word in row.plan.allow_different})
    base = cells[NONE]
    for row in cells.values():
        plan = replace(row.plan, baseline=base.name, allow_different=declared)
        found = guards.unfair(plan, row.records, base.records)
        if found is not None:
            return found
    return None


def _row_of(study: StudyResult, cell: Cell) -> RowResult | None:
    """The first row of a cell that has figures and no doubt about them."""
    planned = [row for row in study.rows if row.name in cell.rows]
    sound = [row for row in planned if row.status not in ("unfair", "no_effect") and row.records]
    return next(iter(sound), None)


def _what_of(study: StudyResult, cell: Cell) -> str:
    """Why a cell has no figures: what became of its rows, or that nobody selected them."""
    planned = [row for row in study.rows if row.name in cell.rows]
    if not planned:
        return f"{code_list(cell.rows)} not selected"
    return ", ".join(f"{code(row.name)} {row.status}" for row in planned)


def _effects(
    study: StudyResult, design: Factorial, cells: dict[Levels, RowResult | None]
) -> list[str]:
    leading, margin = study.plan.leading, study.plan.margin
    rises = study.plan.is_better_higher(leading)
    values = {
        levels: {
            seed: record.metrics[leading]
            for seed, record in cells[levels].records.items()
            if leading in record.metrics
        }
        for levels in CELLS
    }
    found = effects(values, margin=margin, higher_is_better=rises)
    if found.interaction is None:
        return ["Not computed: no seed has finished in all four combinations."]
    first, second = design.factors
    rows = [
        _table_row(_change(factor), delta, VERDICT_WORDS)
        for factor, delta in ((first, found.first), (second, found.second))
    ]
    together = _TOGETHER if rises else _TOGETHER_LOWER
    words = {**VERDICT_WORDS, **{verdict: f"**{text}**" for verdict, text in together.items()}}
    rows.append(_table_row("interaction", found.interaction, words))
    sentences = [
        _main_sentence(first, second, found.first, margin, "" if rises else leading),
        _main_sentence(second, first, found.second, margin, "" if rises else leading),
        _interaction_sentence(found.interaction, margin, rises),
    ]
    seeds = ", ".join(map(str, found.interaction.by_seed))
    note = (
        f"Effects on {code(leading)}: one change's, averaged over both levels of the other; the "
        f"interaction is the effect of one change where the other is made too, minus that where it "
        f"is not. "
        f"Paired by seed ({seeds}); intervals are Student's t over the seeds, each by itself."
    )
    header = ["effect", "points", "95 % interval", "verdict"]
    return [table(header, rows, "lrrl"), bullets(sentences), note]


def _change(factor: Factor) -> str:
    return f"{code(factor.name)} ({escape(f'{factor.off!r} to {factor.on!r}')})"


def _added(factor: Factor) -> str:
    """What has the effect: the component where the baseline lacks it, else the change of it."""
    is_addition = factor.off in (None, False) and factor.on not in (None, False)
    return code(factor.name) if is_addition else _change(factor)


def _table_row(name: str, delta: Delta, words: dict[str, str]) -> list[str]:
    has_interval = math.isfinite(delta.low)
    ends = f"{points(delta.low)} to {points(delta.high)}" if has_interval else ""
    return [name, points(delta.value), ends, words.get(delta.verdict, "")]


def _main_sentence(
    changed: Factor, other: Factor, delta: Delta, margin: float, lower_is_better: str
) -> str:
    """What one factor does; *lower_is_better* is the metric where that is so, else ""."""
    factor = _added(changed)
    averaged = f"averaged over both levels of {code(other.name)}"
    if delta.verdict in ("better", "worse") and lower_is_better:
        verb = "lowers" if delta.verdict == "better" else "raises"
        size = points(abs(delta.value))[1:]
        return (
            f"{factor} {verb} {code(lower_is_better)} by {size} points, which is {delta.verdict} "
            f"({interval(delta.low, delta.high)}), {averaged}."
        )
    if delta.verdict in ("better", "worse"):
        verb = "adds" if delta.verdict == "better" else "costs"
        size = points(delta.value) if delta.verdict == "better" else points(-delta.value)[1:]
        return f"{factor} {verb} {size} points ({interval(delta.low, delta.high)}), {averaged}."
    if delta.verdict == "no_detectable_change":
        return (
            f"{factor} makes no difference larger than the margin of {100 * margin:g} points "
            f"({interval(delta.low, delta.high)}), {averaged}."
        )
    what = f"What {factor} adds or costs"
    if lower_is_better:
        what = f"Whether {factor} lowers or raises {code(lower_is_better)}"
    return f"{what} is open: {points(delta.value)} points, {_why_open(delta)}."


def _interaction_sentence(delta: Delta, margin: float, rises: bool) -> str:
    """What both do together; *rises* says whether a higher value of the metric is better."""
    size = f"the interaction is {points(delta.value)} points"
    if delta.verdict in _TOGETHER:
        verb, words = ("do", _TOGETHER) if rises else ("are", _TOGETHER_LOWER)
        return (
            f"Together they {verb} {words[delta.verdict]}: {size} "
            f"({interval(delta.low, delta.high)}), so each effect depends on the other component."
        )
    if delta.verdict == "no_detectable_change":
        return (
            f"Together they do what they do alone, added up: {size}, within the margin of "
            f"{100 * margin:g} points ({interval(delta.low, delta.high)})."
        )
    what = "do more or less" if rises else "are better or worse"
    return f"Whether together they {what} than the sum of both is open: {size}, {_why_open(delta)}."


def _why_open(delta: Delta) -> str:
    if delta.verdict is None:
        return "and there is no verdict from fewer than two seeds"
    if delta.smallest_detectable is None:
        return "the same for every seed, which says nothing about its spread"
    return f"but the {interval(delta.low, delta.high)} is too wide to tell"
