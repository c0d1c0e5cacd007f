"""What the intervals of a study's table speak about, and how its seeds were spent, in sentences.

A study's result goes in, Markdown comes out. Decides nothing.
"""

from __future__ import annotations

from pytest_ablation.report_text import code, count
from pytest_ablation.results import StudyResult
from pytest_ablation.statistics import Delta


def interval_note(study: StudyResult) -> str:
    """How deltas are paired, over what the intervals hold, and of which population they speak."""
    deltas = _deltas(study)
    text = "Deltas are variant minus baseline, paired by seed. "
    together = max((_comparisons(delta) for delta in deltas), default=0)
    if together > 1:
        text += (
            f"The 95 % intervals and p-values hold for all {together} comparisons together "
            f"(Dunnett 1955). "
        )
    if any(delta.precision.borrowed for delta in deltas):
        text += (
            "A variant's spread is its own, drawn toward that of the study's other rows; what "
            "varies far more than the others keeps to itself. "
        )
    return text + _population(study, deltas)


def _population(study: StudyResult, deltas: list[Delta]) -> str:
    if study.plan.interval == "seeds":
        return "They speak of new trainings (other seeds), tested on the same examples."
    if not any(delta.precision.examples for delta in deltas):
        return (
            f"They speak of new trainings alone: the runs kept no result per example of "
            f"{code(study.plan.leading)} (`run.save_predictions({study.plan.leading}=…)`)."
        )
    return (
        "They speak of new trainings (other seeds), tested on other examples of the same kind "
        "(`seeds+examples`; metrics without a result per example: of new trainings alone)."
    )


def seeds_note(study: StudyResult) -> str:
    """How many runs were spent where verdicts decided about that, and how many that saved."""
    plan = study.plan
    if not plan.looks:
        return ""
    spent = {key for row in plan.rows for key in row.keys.values()}
    every = spent | {key for row in plan.rows for key in row.reserve.values()}
    steps = ", ".join(map(str, plan.looks))
    return (
        f"Seeds were spent where verdicts were open, looked at after {steps} seeds: "
        f"{count(len(spent), 'run')}, {len(every) - len(spent)} fewer than with {plan.most_seeds} "
        f"seeds for every row. The looks share the error rate of 5 % (Lan and DeMets 1983), so "
        f"that early intervals are wider."
    )


def _comparisons(delta: Delta) -> int:
    """How many comparisons share the error rate of a delta's interval."""
    return sum(family.count for family in delta.precision.families)


def _deltas(study: StudyResult) -> list[Delta]:
    """Those of the leading metric that have an interval."""
    deltas = [row.metrics[study.plan.leading].delta for row in study.rows]
    return [delta for delta in deltas if delta is not None and delta.precision is not None]
