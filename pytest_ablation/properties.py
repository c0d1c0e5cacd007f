"""What a case tells to JUnit XML: its result and its gate as named texts.

A row's result, its study's plan and its gate rows go in; pairs of plain strings come out, for
execnet and JUnit carry nothing else. Knows nothing of pytest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pytest_ablation.gate_results import GateRow
from pytest_ablation.plan import StudyPlan
from pytest_ablation.results import MetricResult, RowResult


def case_properties(
    row: RowResult, plan: StudyPlan, gate: Iterable[GateRow] = ()
) -> list[tuple[str, str]]:
    """Names such as ``ablation.top1.delta`` and their values; what is not known is left out.

    Parameters
    ----------
    row : RowResult
    plan : of the row's study; the leading metric and those that a gate compares are told
    gate : what a gate found of this row
    """
    found: dict[str, Any] = {
        "study": plan.name,
        "variant": row.name,
        "mode": plan.mode,
        "baseline": row.plan.baseline,
        "status": row.status,
    }
    for metric in dict.fromkeys((plan.leading, *plan.gate_metrics)):
        found |= _of_metric(metric, row.metrics[metric])
    for compared in gate:
        found |= _of_gate(compared)
    return [
        (f"ablation.{name}", _text(value)) for name, value in found.items() if not _is_empty(value)
    ]


def _of_metric(name: str, result: MetricResult) -> dict[str, Any]:
    found: dict[str, Any] = {"mean": result.mean, "std": result.std, "n_seeds": result.n_seeds}
    if (delta := result.delta) is not None:
        found |= {
            "delta": delta.value,
            "ci_low": delta.low,
            "ci_high": delta.high,
            "p_value": delta.p_value,
            "verdict": delta.verdict,
        }
    return {f"{name}.{key}": value for key, value in found.items()}


def _of_gate(row: GateRow) -> dict[str, Any]:
    found = {
        "outcome": row.outcome,
        "delta": row.delta,
        "ci_low": row.low,
        "ci_high": row.high,
        "margin": row.margin,
    }
    return {f"gate.{row.metric}.{key}": value for key, value in found.items()}


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _text(value: Any) -> str:
    """As in the CSV files: ten significant digits, no minus before a zero."""
    return format(value + 0.0, ".10g") if isinstance(value, float) else str(value)
