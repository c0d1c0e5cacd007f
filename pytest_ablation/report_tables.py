"""The tables of a study's section in the report: the main one, and those that a study defines.

A study's result goes in, Markdown comes out; figures that no training changed (references) stand
before the variants. Knows nothing of sessions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_ablation.metric_tables import MetricTable
from pytest_ablation.report_text import (
    VERDICT_WORDS,
    code,
    code_list,
    count,
    escape,
    table,
    table_line,
)
from pytest_ablation.results import RowResult, StudyResult, by_delta
from pytest_ablation.told import seeds


def main_table(study: StudyResult) -> str:
    """Reference rows, then a line per row with the leading metric, its delta and its verdict."""
    leading, others = study.plan.leading, study.plan.also
    header = ["variant", "against", "seeds", leading, "delta", "95 % interval", "relative", "p"]
    header += ["verdict", *(f"{name} (delta)" for name in others)]
    rule = ["---", "---", *["--:"] * 6, "---", *["--:"] * len(others)]
    lines = [table_line(header), table_line(rule)]
    for reference in references(study):
        values = reference.values
        if any(name in values for name in (leading, *others)):
            told = [f"{values[name]:.4f}" if name in values else "" for name in (leading, *others)]
            cells = [reference.label, "", "", told[0], *[""] * 5, *told[1:]]
            lines.append(table_line(cells))
    lines += [table_line(_cells(row, leading, others)) for row in by_delta(study)]
    return "\n".join(lines)


def hidden_metrics(study: StudyResult) -> str:
    """Where to find the metrics that no table of the report shows; "" where there are none."""
    shown = _shown_metrics(study)
    hidden = [name for name in study.plan.metrics if name not in shown]
    return f"{count(len(hidden), 'more metric')} in `summary.csv`." if hidden else ""


def _shown_metrics(study: StudyResult) -> set[str]:
    """The metrics that stand in a table of the report."""
    shown = {study.plan.leading, *study.plan.also}
    if study.plan.grid is not None:
        shown.add(study.plan.select)
    return shown.union(name for defined in study.plan.tables for name in defined.metrics)


def lower_is_better_note(study: StudyResult) -> str:
    """Which of the shown metrics are better when lower; "" where none is."""
    names = [name for name in study.plan.metrics if not study.plan.is_better_higher(name)]
    shown = [name for name in names if name in _shown_metrics(study)]
    return f"Lower is better for {code_list(shown)}." if shown else ""


def metric_tables(study: StudyResult) -> list[str]:
    """The study's own tables, as parts of the report."""
    parts = []
    for defined in study.plan.tables:
        caption = f"{escape(defined.caption)} " if defined.caption else ""
        parts += [
            f"### {escape(defined.title)}",
            f"{caption}Means over the seeds; the best of each column is bold.",
        ]
        for column in defined.columns:
            parts += [f"#### {escape(column)}", _metric_table(study, defined, column)]
    return parts


def reference_warning(study: StudyResult) -> str:
    """Which references are not the same for all runs; "" where all are."""
    names = [reference.name for reference in references(study)]
    differing = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if not differing:
        return ""
    listed = ", ".join(map(escape, differing))
    return (
        f"**Warning**: the figures of {listed} are not the same for all runs, so these were not "
        f"measured on the same data, or not by the same code; each set of values has a line."
    )


# --- references ------------------------------------------------------------------------------


@dataclass
class Reference:
    """Figures that no training changed, and the runs that told them as {row: seeds}."""

    name: str
    values: dict[str, float]
    told_by: dict[str, list[int]] = field(default_factory=dict)
    is_only: bool = True

    @property
    def label(self) -> str:
        """Its name in a table, with those who told it where not all told the same."""
        if self.is_only:
            return f"{escape(self.name)} (not trained)"
        runs = (f"`{row}` {seeds(of)}" for row, of in self.told_by.items())
        return f"{escape(self.name)} (not trained; told by {'; '.join(runs)})"


def references(study: StudyResult) -> list[Reference]:
    """The references of all runs: equal ones once, each differing set of values by itself.

    Two sets of values are one where they agree in the metrics that both have.
    """
    found: list[Reference] = []
    for row in study.rows:
        for run in row.runs:
            for name, values in (run.record.references if run.record is not None else {}).items():
                known = next(
                    (r for r in found if r.name == name and _agree(r.values, values)), None
                )
                if known is None:
                    known = Reference(name, {})
                    found.append(known)
                known.values = {**values, **known.values}
                known.told_by.setdefault(row.name, []).append(run.seed)
    for reference in found:
        reference.is_only = sum(other.name == reference.name for other in found) == 1
    return found


def _agree(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Equal as far as the tables of a report can show it."""
    shared = set(one) & set(other)
    return all(math.isclose(one[name], other[name], rel_tol=1e-9, abs_tol=1e-9) for name in shared)


# --- cells -----------------------------------------------------------------------------------


def _metric_table(study: StudyResult, defined: MetricTable, column: str) -> str:
    names = [defined.metric_of(row, column) for row in defined.rows]
    lines = [(r.label, [r.values.get(name) for name in names]) for r in references(study)]
    lines = [(label, values) for label, values in lines if any(v is not None for v in values)]
    for rows, row in study.models():
        trouble = f" **{row.status}**" if row.status != "ok" else ""
        lines.append((code_list(rows) + trouble, [row.metrics[name].mean for name in names]))
    columns = zip(*(values for _, values in lines), strict=True)
    best = [_best(study, *column) for column in zip(names, columns, strict=False)]
    cells = [
        [label, *(_bold_if_best(v, top) for v, top in zip(values, best, strict=True))]
        for label, values in lines
    ]
    return table(["variant", *map(escape, defined.rows)], cells)


def _best(study: StudyResult, metric: str, values: Iterable[float | None]) -> float | None:
    pick = max if study.plan.is_better_higher(metric) else min
    return pick((value for value in values if value is not None), default=None)


def _bold_if_best(value: float | None, best: float | None) -> str:
    """Three digits; what is shown like the best is as good as the best."""
    if value is None:
        return ""
    text = f"{value:.3f}"
    return f"**{text}**" if text == f"{best:.3f}" else text


def _cells(row: RowResult, leading: str, others: Sequence[str]) -> list[str]:
    result = row.metrics[leading]
    delta = result.delta
    cells = [code(row.name), code(row.plan.baseline) if row.plan.baseline else "(baseline)"]
    cells += [str(result.n_seeds), with_spread(result.mean, result.std)]
    if delta is None:
        cells += ["", "", "", ""]
    else:
        has_interval = math.isfinite(delta.low)
        cells += [
            f"{delta.value:+.4f}",
            f"{delta.low:+.4f} to {delta.high:+.4f}" if has_interval else "",
            f"{result.delta_percent:+.1f} %" if result.delta_percent is not None else "",
            f"{delta.p_value:.3f}" if delta.p_value is not None else "",
        ]
    cells.append(_outcome(row, leading))
    for name in others:
        other = row.metrics[name]
        change = f" ({other.delta.value:+.4f})" if other.delta is not None else ""
        cells.append(f"{other.mean:.4f}{change}" if other.mean is not None else "")
    return cells


def _outcome(row: RowResult, leading: str) -> str:
    if row.status != "ok":
        return f"**{row.status}**"
    delta = row.metrics[leading].delta
    text = VERDICT_WORDS.get(delta.verdict, "") if delta is not None else ""
    return " ".join(filter(None, [text, f"(same model as `{row.same_as}`)" if row.same_as else ""]))


def with_spread(mean: float | None, std: float | None) -> str:
    """A mean over seeds and its standard deviation, as far as there are any."""
    if mean is None:
        return ""
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"
