"""The report's section on the health of the runs: a table of facts, and advice where it is due.

A study's result goes in, Markdown comes out; the rules are those of ``health.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_ablation import told
from pytest_ablation.health import (
    LARGE_GAP,
    Epochs,
    Gap,
    LargestGradient,
    Sensitivity,
    Spikes,
    differing_data,
    differing_seeds,
    epochs_of,
    gap,
    largest_gradient,
    loss_spikes,
    seeds_of,
    sensitivity,
    silent_rows,
)
from pytest_ablation.probes import TIMES
from pytest_ablation.report_text import bullets, code, code_list, escape, points, span, table
from pytest_ablation.results import RowResult, StudyResult

_DATA = {"train_data": "training data", "evaluation_data": "evaluation data"}


@dataclass(frozen=True)
class _Cell:
    """What stands in the table about a row, and what follows from it, "" for nothing."""

    text: str = ""
    advice: str = ""


def health(study: StudyResult) -> list[str]:
    """The section as parts of the report. Columns stand only for what any run told of."""
    models = [(names, row) for names, row in study.models() if row.all_records]
    if not models:
        return []
    columns = [(title, [find(row) for _, row in models]) for title, find in _columns(study)]
    columns = [(title, cells) for title, cells in columns if any(cell.text for cell in cells)]
    rows = [
        [code_list(names), *(cells[number].text for _, cells in columns)]
        for number, (names, _) in enumerate(models)
    ]
    named = [
        (code(names[0]), cells[number].advice)
        for _, cells in columns
        for number, (names, _) in enumerate(models)
    ]
    lines = [*_advice(named), *_sensitivity_lines(study)]
    align = "l" * (1 + len(columns))
    parts = ["### Health", _check(study)]
    parts.append(
        table(["variant", *(title for title, _ in columns)], rows, align) if columns else ""
    )
    return [*parts, bullets(lines)]


def _columns(study: StudyResult) -> list[tuple[str, Callable[[RowResult], _Cell]]]:
    """Titles, and what finds the cell of a row; what led to a divergence is worth knowing too."""
    leading = study.plan.leading
    rises = study.plan.is_better_higher(leading)
    return [
        ("largest gradient norm", lambda row: _gradient_cell(largest_gradient(row.all_records))),
        ("loss spikes", lambda row: _spikes_cell(loss_spikes(row.all_records))),
        (
            "validation gap",
            lambda row: _gap_cell(gap(row.records, leading, higher_is_better=rises)),
        ),
        (
            "epochs",
            lambda row: _epochs_cell(epochs_of(row.records, leading, higher_is_better=rises)),
        ),
    ]


def _advice(named: Sequence[tuple[str, str]]) -> list[str]:
    """A line per advice, with all the rows that it is for."""
    by_text: dict[str, list[str]] = {}
    for name, text in named:
        if text:
            by_text.setdefault(text, []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in by_text.items()]


# --- one row ---------------------------------------------------------------------------------


def _where(epoch: int | None, step: int, seed: int) -> str:
    return ", ".join([*([f"epoch {epoch}"] if epoch is not None else []),
                      f"step {step}", f"seed {seed}"])  # fmt: skip


def _gradient_cell(found: LargestGradient | None) -> _Cell:
    if found is None:
        return _Cell()
    norms = found.norms
    where = _where(norms.epoch, norms.step, found.seed)
    text = f"{norms.largest:.3g} ({where})"
    if not found.exploded:
        return _Cell(text)
    advice = "lower the learning rate"
    if math.isfinite(norms.median) and norms.median > 0:
        advice = (
            f"clip its norm at about {norms.median:.2g}, the median of that run (half to ten times "
            f"as much does as well: Pascanu, Mikolov and Bengio 2013), or {advice}"
        )
    return _Cell(f"**{text}**", f"the gradient exploded: {advice}.")


def _spikes_cell(found: Spikes | None) -> _Cell:
    if found is None:
        return _Cell()
    if not found.count:
        return _Cell("0")
    where = _where(found.largest.epoch, found.largest.step, found.seed)
    text = f"{found.count} (largest {found.largest.largest_ratio:.3g}{TIMES}: {where})"
    if found.recovered:
        return _Cell(text)
    return _Cell(
        f"**{text}**",
        "the loss jumped, and its epoch was no better than the one before, as far as was logged: "
        "warm the learning rate up or lower it, clip gradients, or look at the examples of that "
        "step.",
    )


def _gap_cell(found: Gap | None) -> _Cell:
    if found is None:
        return _Cell()
    text = f"{found.value:+.3f} {code(found.metric)} (epoch {span(found.epochs)})"
    if not found.overfits:
        return _Cell(text)
    size = f"{LARGE_GAP:g}" if "loss" in found.metric else f"{100 * LARGE_GAP:g} points"
    return _Cell(
        f"**{text}**",
        f"over-fitting: training is more than {size} ahead of validation, and validation got worse "
        f"over the last quarter of the epochs: use more data, dropout or weight decay"
        f"{'' if found.chosen else ', or stop earlier'}.",
    )


def _epochs_cell(found: Epochs | None) -> _Cell:
    if found is None:
        return _Cell()
    known = [epoch for epoch in found.best if epoch is not None]
    best = f"best {span(known)}"
    budgets = [budget for budget in found.budget if budget is not None]
    if any(found.stopped):
        runs = zip(found.trained, found.stopped, strict=True)
        ends = [epoch for epoch, stopped in runs if stopped]
        some = f" ({len(ends)} of {len(found.stopped)} runs)" if not all(found.stopped) else ""
        return _Cell(f"stopped at {span(ends)} of {span(budgets)}{some}, {best}")
    text = f"all {span(found.trained)}, {best}"
    return _Cell(text, "the best epoch is the last one: more epochs may help."
                 if found.best_is_last else "")  # fmt: skip


# --- the study -------------------------------------------------------------------------------


def _sensitivity_lines(study: StudyResult) -> list[str]:
    """What the probes gave, a line per model, and the advice to look again at the rate."""
    lines = []
    for names, row in study.models():
        found = sensitivity(study, row)
        if found is not None:
            lines.append(f"{code_list(names)}: {_sensitivity_text(found, study.plan.margin)}")
    return lines


def _sensitivity_text(found: Sensitivity, margin: float) -> str:
    parts = []
    for probe in found.probes:
        change = f" ({probe.change:+.4f})" if probe.change is not None else ""
        told = f"{probe.value:.4f}{change}" if probe.value is not None else probe.status
        if probe.status == "failed":  # no case fails for it: this is where its reason is told
            told += f" ({escape(probe.message)})"
        parts.append(f"{probe.label} {told}")
    own = f"{found.value:.4f}" if found.value is not None else "no result"
    text = f"{code(found.field)} {', '.join(parts)}; at {TIMES}1 {own} (seed {found.seed} alone)."
    better = found.better(margin)
    if better is None:
        return text
    return (
        f"{text} At {found.rates[better.label]:.3g} it is {points(abs(better.change))} points "
        f"better: that is one seed only, so try it with all seeds before you believe it."
    )


def _check(study: StudyResult) -> str:
    """Whether all rows had the same seeds and splits, or what differs."""
    problems = [
        f"{code(name)} finished {told.seeds(seeds)}"
        for name, seeds in differing_seeds(study).items()
    ]
    untold = []
    for fingerprint, words in _DATA.items():
        differing = differing_data(study, fingerprint)
        if differing is None:
            untold.append(words)
            continue
        if silent := silent_rows(study, fingerprint):
            untold.append(f"{words} of {code_list(silent)}")
        problems += [
            f"the {words} of {code(name)} differ ({told.seeds(seeds)})"
            for name, seeds in differing.items()
        ]
    seeds = _listed(seeds_of(study))
    text = f"Seeds ({seeds}) and splits were the same for all variants."
    if problems:
        text = f"**Seeds and splits were not the same for all variants**: {'; '.join(problems)}."
    elif untold:
        text = f"Seeds ({seeds}) were the same for all variants."
    if untold:
        text += f" The {' and the '.join(untold)} were not told (`run.use_data`)."
    return text


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
