"""The stable tables: runs, summary and history as pandas frames, and their bytes as CSV.

Study results go in, frames come out, rows in the order of the definition. The same records give
the same bytes. The columns are documented in README.md; other tools read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pytest_ablation.record import HistoryRow
from pytest_ablation.results import RowResult, RunResult, StudyResult

if TYPE_CHECKING:
    import pandas as pd

RUNS_COLUMNS = (
    "study variant seed mode metric value baseline baseline_value delta status epochs steps "
    "train_seconds examples_per_second peak_memory_mib parameters reused key"
).split()
SUMMARY_COLUMNS = (
    "study variant mode metric baseline n_seeds mean std baseline_mean delta delta_pct ci_low "
    "ci_high p_value smallest_detectable verdict status same_as"
).split()
HISTORY_COLUMNS = "study variant seed mode epoch split metric value".split()


def runs_table(results: Iterable[StudyResult], session: str) -> pd.DataFrame:
    """One row per study, variant, seed and metric; a run without a record has empty values."""
    rows = [
        _runs_row(study, row, run, metric, session)
        for study in results
        for row in study.rows
        for run in row.runs
        for metric in study.plan.metrics
    ]
    return _frame(rows, RUNS_COLUMNS)


def summary_table(results: Iterable[StudyResult]) -> pd.DataFrame:
    """One row per study, variant and metric."""
    rows = [
        _summary_row(study, row, metric)
        for study in results
        for row in study.rows
        for metric in study.plan.metrics
    ]
    return _frame(rows, SUMMARY_COLUMNS)


def history_table(results: Iterable[StudyResult]) -> pd.DataFrame:
    """One row per logged value of every run."""
    rows = [
        [study.plan.name, row.name, run.seed, study.plan.mode, *_readable(logged)]
        for study in results
        for row in study.rows
        for run in row.runs
        if run.record is not None
        for logged in run.record.history
    ]
    return _frame(rows, HISTORY_COLUMNS)


def to_csv(table: pd.DataFrame) -> str:
    """The table as CSV: ten significant digits, empty where there is no value.

    Text that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, "CSV
    Injection").
    """
    return table.map(_cell).to_csv(index=False, lineterminator="\n")


def _runs_row(
    study: StudyResult, row: RowResult, run: RunResult, metric: str, session: str
) -> list[Any]:
    record = run.record
    value = record.metrics.get(metric) if record is not None else None
    delta = row.metrics[metric].delta
    difference = delta.by_seed.get(run.seed) if delta is not None else None
    baseline_value = _baseline_value(study, row, run.seed, metric)
    head = [study.plan.name, row.name, run.seed, study.plan.mode, metric, value]
    head += [row.plan.baseline, baseline_value, difference, run.status]
    if record is None:
        return [*head, *[None] * 7, run.key]
    cost = record.cost
    costs = [cost.train_seconds, cost.examples_per_second, cost.peak_of_device_mib, cost.parameters]
    return [*head, record.epochs, record.steps, *costs, record.session != session, run.key]


def _baseline_value(study: StudyResult, row: RowResult, seed: int, metric: str) -> float | None:
    if row.plan.baseline is None:
        return None
    runs = study.row(row.plan.baseline).runs
    record = next((run.record for run in runs if run.seed == seed), None)
    return record.metrics.get(metric) if record is not None else None


def _readable(row: HistoryRow) -> tuple[Any, ...]:
    """A loss that is not finite is the very thing to see in a history: keep it as text."""
    return tuple(row) if math.isfinite(row.value) else (*row[:-1], str(row.value))


def _summary_row(study: StudyResult, row: RowResult, metric: str) -> list[Any]:
    result = row.metrics[metric]
    delta = result.delta
    head = [study.plan.name, row.name, study.plan.mode, metric, row.plan.baseline]
    numbers = [result.n_seeds, result.mean, result.std, result.baseline_mean]
    if delta is None:
        return [*head, *numbers, *[None] * 7, row.status, row.same_as]
    change = [delta.value, result.delta_percent, delta.low, delta.high, delta.p_value]
    change += [delta.smallest_detectable, delta.verdict]
    return [*head, *numbers, *change, row.status, row.same_as]


def _frame(rows: list[list[Any]], columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=columns, dtype=object)


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(value + 0.0, ".10g")  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
