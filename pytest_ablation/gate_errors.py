"""Why a row, a metric or a study cannot be compared with the reference, and what to do then.

Parts of two references go in; sentences, or comparisons with the outcome ``error``, come out. Each
turns the session red: nothing passes because it was lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_ablation.gate_results import WHOLE, GateRow
from pytest_ablation.reference_changes import configuration_changes, data_changes
from pytest_ablation.reference_types import ReferenceRow, ReferenceStudy

ACCEPT = "to accept the change, save the reference anew with --ablation-save-reference"


def error_row(study: ReferenceStudy, row: ReferenceRow, message: str) -> GateRow:
    """That *row* cannot be compared in any metric; told of the first."""
    metric = study.gate_metrics[0] if study.gate_metrics else study.metrics[0]
    margin = study.margins[metric]
    return GateRow(study.name, row.name, metric, "error", margin, message)


def trouble(
    old: ReferenceStudy, new: ReferenceStudy, name: str, metric: str, planned: Sequence[int]
) -> str:
    """Why a row cannot be compared, and what to do; "" where it can."""
    row = new.rows[name]
    if row.status != "ok":
        return f"its result is {row.status}: see the warnings of the report"
    if name not in old.rows:
        return f"the reference does not have it: {ACCEPT}"
    if metric not in old.metrics:
        return f"the reference has no metric {metric}: {ACCEPT}"
    if old.is_better_higher(metric) != new.is_better_higher(metric):
        was = "higher" if old.is_better_higher(metric) else "lower"
        return f"in the reference {metric} is better when {was}, here it is not: {ACCEPT}"
    absent = [seed for seed in planned if seed not in row.runs]
    if absent or not planned:
        return f"it has no result for {_listed(absent) or 'any seed'}"
    unknown = [seed for seed in planned if seed not in old.rows[name].runs]
    if unknown:
        known = _listed(old.rows[name].runs) or "none"
        return (
            f"the reference has no {_listed(unknown)}, only {known}: save it anew with the same "
            f"seeds or more (--ablation-save-reference)"
        )
    found = configuration_changes(old, new, name)
    if found:
        return f"its configuration is another: {'; '.join(found)}; {ACCEPT}"
    found = data_changes(old.rows[name], row)
    if found:
        return f"its data are others: {'; '.join(found)}; bring the same data, or {ACCEPT}"
    return ""


def lost(old: ReferenceStudy, new: ReferenceStudy) -> list[GateRow]:
    """Rows and metrics that the reference compares and the session does not."""
    text = f"it is in the reference and has no result: select it, or {ACCEPT}"
    rows = [error_row(new, row, text) for name, row in old.rows.items() if name not in new.rows]
    text = f"the reference has this metric, and the study no longer compares it: {ACCEPT}"
    metrics = [name for name in old.gate_metrics if name not in new.gate_metrics]
    rows += [GateRow(new.name, WHOLE, m, "error", old.margins[m], text) for m in metrics]
    return rows


def _listed(seeds: Iterable[int]) -> str:
    listed = sorted(seeds)
    word = "seed" if len(listed) == 1 else "seeds"
    return f"{word} {', '.join(map(str, listed))}" if listed else ""
