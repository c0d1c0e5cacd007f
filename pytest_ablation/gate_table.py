"""The stable table of a gate: ``gate.csv``, a row per comparison.

Gate results go in, a pandas frame comes out, rows in their order; ``tables.to_csv`` makes it bytes.
The columns are documented in README.md; other tools read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_ablation.gate_results import GateResult, GateRow

if TYPE_CHECKING:
    import pandas as pd

GATE_COLUMNS = (
    "study variant mode metric outcome reference_mean mean delta ci_low ci_high margin missed "
    "n_seeds n_reference_seeds paired looks newly_wrong newly_right message"
).split()


def gate_table(gates: Sequence[GateResult]) -> pd.DataFrame:
    """One row per comparison; an error that belongs to no row of a study has its message alone."""
    import pandas as pd

    rows = []
    for gate in gates:
        rows += [_row(gate.mode, row) for row in gate.rows]
        nothing = [None] * (len(GATE_COLUMNS) - 6)
        rows += [[None, None, gate.mode, None, "error", *nothing, text] for text in gate.errors]
    return pd.DataFrame(rows, columns=GATE_COLUMNS, dtype=object)


def _row(mode: str, row: GateRow) -> list[Any]:
    wrong, right = row.flips if row.flips is not None else (None, None)
    has_numbers = row.delta is not None
    return [
        row.study, row.row, mode, row.metric, row.outcome,
        row.old_mean, row.new_mean, row.delta, row.low, row.high, row.margin, row.missed,
        len(row.seeds), len(row.reference_seeds), row.paired if has_numbers else None, row.looks,
        wrong, right, row.message,
    ]  # fmt: skip
