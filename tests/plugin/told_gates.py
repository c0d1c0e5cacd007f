"""Gate results as a test says them: plain values, as gate.py would have made them."""

from __future__ import annotations

from pytest_ablation.gate_results import GateResult, GateRow

NUMBERS = {
    "unchanged": (0.0, 0.0, 0.0),
    "pass": (0.001, -0.003, 0.005),
    "inconclusive": (-0.01, -0.03, 0.01),
    "fail": (-0.0293, -0.041, -0.017),
}


def gate_row(outcome: str, row: str = "no_pe", **fields) -> GateRow:
    """A comparison of the study "parts" in top1 that came to this outcome."""
    told = {"study": "parts", "row": row, "metric": "top1", "outcome": outcome, "margin": 0.005}
    if outcome == "error":
        told |= {"message": "seed 2 is missing: train it"}
    else:
        delta, low, high = NUMBERS[outcome]
        told |= {
            "old_mean": 0.8123, "new_mean": 0.8123 + delta, "delta": delta, "low": low,
            "high": high, "seeds": (0, 1, 2), "reference_seeds": (0, 1, 2, 3, 4),
            "by_seed": {0: delta - 0.001, 1: delta, 2: delta + 0.001},
            "missed": 0.0231 if outcome == "inconclusive" else None,
        }  # fmt: skip
    return GateRow(**told | fields)


def gate(*rows: GateRow, **fields) -> GateResult:
    told = {"mode": "quick", "reference": "reports/reference/quick.json", "rows": rows}
    return GateResult(**told | fields)


def each_outcome() -> GateResult:
    """A gate that came to each outcome, the mildest first."""
    outcomes = ("unchanged", "pass", "inconclusive", "error", "fail")
    return gate(*(gate_row(outcome, f"row_{outcome}") for outcome in outcomes))
