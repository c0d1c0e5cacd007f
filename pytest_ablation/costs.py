"""What the variants cost: parameters, speed, memory, and how soon they were nearly as good as ever.

A study's result goes in, figures and the report's section come out. No verdict reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_ablation.histories import validation_series
from pytest_ablation.plan import StudyPlan
from pytest_ablation.record import Cost, Record
from pytest_ablation.report_text import code, code_list, table
from pytest_ablation.results import StudyResult
from pytest_ablation.statistics import mean

NEARLY = 0.95

_COSTS: tuple[tuple[str, Callable[[Cost], float | None], str], ...] = (
    ("parameters", lambda cost: cost.parameters, ",.0f"),
    ("forward examples/s", lambda cost: cost.forward_examples_per_second, ",.0f"),
    ("training examples/s", lambda cost: cost.examples_per_second, ",.0f"),
    ("memory MiB", lambda cost: cost.peak_memory_mib, ",.0f"),
    ("CUDA MiB", lambda cost: cost.peak_cuda_memory_mib, ",.0f"),
    ("training s", lambda cost: cost.train_seconds, ",.2f"),
)


@dataclass(frozen=True)
class Reached:
    """When a run was nearly as good as it ever was; ``seconds`` is None where nobody knows."""

    epoch: int
    seconds: float | None


def nearly_best(record: Record, leading: str, *, higher_is_better: bool = True) -> Reached | None:
    """The first epoch whose validation value is 95 % of the run's best, and the seconds up to it.

    Of a metric that is better when lower it is the first whose best is 95 % of its value or more.
    None where nothing was logged that stands for the leading metric on validation data, or where
    its best is not above 0, of which 95 % is no progress.
    """
    values = validation_series(record, leading, higher_is_better=higher_is_better)
    best = (max if higher_is_better else min)(values.values(), default=0.0)
    if best <= 0:
        return None
    epoch = next(
        epoch
        for epoch, value in values.items()
        if (value >= NEARLY * best if higher_is_better else NEARLY * value <= best)
    )
    seconds = record.cost.epoch_seconds
    return Reached(epoch, seconds[epoch - 1] if 1 <= epoch <= len(seconds) else None)


def costs(study: StudyResult) -> list[str]:
    """The section as parts of the report: a line per model, means over its finished seeds.

    A column is there where any run has a figure for it. Empty where no run has finished.
    """
    models = [(names, list(row.records.values())) for names, row in study.models() if row.records]
    if not models:
        return []
    columns = [
        (name, [_mean([figure(record.cost) for record in of], form) for _, of in models])
        for name, figure, form in _COSTS
    ]
    columns += _until_nearly_best(study.plan, [of for _, of in models])
    columns = [(name, cells) for name, cells in columns if any(cells)]
    rows = [
        [code_list(names), *(cells[number] for _, cells in columns)]
        for number, (names, _) in enumerate(models)
    ]
    return [
        "### Costs",
        table(["variant", *(name for name, _ in columns)], rows),
        _note(study, [name for name, _ in columns]),
    ]


def _until_nearly_best(
    plan: StudyPlan, models: Sequence[Sequence[Record]]
) -> list[tuple[str, list[str]]]:
    epochs, seconds = [], []
    rises = plan.is_better_higher(plan.leading)
    for records in models:
        told = [nearly_best(r, plan.leading, higher_is_better=rises) for r in records]
        reached = [found for found in told if found is not None]
        epochs.append(_mean([found.epoch for found in reached], ".1f"))
        seconds.append(_mean([found.seconds for found in reached], ",.2f"))
    return [("epochs to 95 %", epochs), ("s to 95 %", seconds)]


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [float(value) for value in values if value is not None]
    return format(mean(known), form) if known else ""


def _note(study: StudyResult, columns: Sequence[str]) -> str:
    parts = ["Means over the seeds, no part of any verdict."]
    if "epochs to 95 %" in columns:
        rises = study.plan.is_better_higher(study.plan.leading)
        parts.append(
            f"95 % is of each run's best validation value of {code(study.plan.leading)}, or of "
            f"what was logged in its place{'' if rises else ' (lower is better: best / 0.95)'}."
        )
    parts.append(
        "Times and memory are those of one process; runs that were trained at the same time on "
        "one machine slow each other down, so read them as rough."
    )
    return " ".join(parts)
