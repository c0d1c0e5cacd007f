"""The report that people read: study results in, Markdown text out.

Warnings stand first, then a section per study with its table, pictures, costs and health, then
what follows from all of them in words. Nothing here trains or knows pytest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_ablation.conclusions import closing
from pytest_ablation.costs import costs
from pytest_ablation.gate_results import GateResult
from pytest_ablation.going_on import Standing, heading, missing_text, sentences
from pytest_ablation.images import Picture
from pytest_ablation.report_contributions import contributions
from pytest_ablation.report_gate import gate_section
from pytest_ablation.report_grid import choice_note, grid_note, grid_table
from pytest_ablation.report_health import health
from pytest_ablation.report_notes import interval_note, seeds_note
from pytest_ablation.report_tables import (
    hidden_metrics,
    lower_is_better_note,
    main_table,
    metric_tables,
    reference_warning,
)
from pytest_ablation.report_text import VERDICT_WORDS, bullets, code, code_list, count, escape
from pytest_ablation.results import RowResult, StudyResult


@dataclass(frozen=True)
class SessionFacts:
    """What the report says about the session beside its results; ``figures`` are by study."""

    mode: str
    runs: int
    trained: int
    reused: int
    warnings: tuple[str, ...]
    figures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
    gates: tuple[GateResult, ...] = ()
    standing: Standing | None = None


def markdown(results: Sequence[StudyResult], facts: SessionFacts) -> str:
    """The text of ``report.md`` for the studies of one mode."""
    parts = [_headline(results, facts), *_going_on(facts.standing)]
    parts += [*gate_section(facts.gates), *_warnings(results, facts)]
    for study in results:
        parts += _study_section(study, facts.figures.get(study.plan.name, ()))
    parts += closing(results)
    return "\n\n".join(part for part in parts if part) + "\n"


def problems(results: Sequence[StudyResult]) -> list[tuple[StudyResult, RowResult]]:
    """The rows whose status is not ok."""
    return [(study, row) for study in results for row in study.rows if row.status != "ok"]


def _headline(results: Sequence[StudyResult], facts: SessionFacts) -> str:
    variants = sum(row.plan.baseline is not None for study in results for row in study.rows)
    deltas = [row.metrics[s.plan.leading].delta for s in results for row in s.rows]
    verdicts = [delta.verdict for delta in deltas if delta is not None]
    counts = [f"{verdicts.count(v)} {w.strip('*')}" for v, w in VERDICT_WORDS.items()
              if v in verdicts]  # fmt: skip
    troubled = len(problems(results))
    if troubled:
        counts.append(f"**{troubled} with a problem**")
    interrupted = " (interrupted)" * (facts.standing is not None and facts.standing.is_interrupted)
    return (
        f"# Ablation report: {facts.mode}{interrupted}\n\n"
        f"{count(variants, 'variant')} in {count(len(results), 'study', 'studies')}: "
        f"{', '.join(counts) or 'no verdict'}. "
        f"{count(facts.runs, 'run')}: {facts.trained} trained, {facts.reused} reused."
    )


def _going_on(standing: Standing | None) -> list[str]:
    """What is not there, and the command that goes on from here."""
    told = [escape(text) for text in sentences(standing)] if standing is not None else []
    if not told:
        return []
    *facts, how = told
    head, text = escape(heading(standing)), " ".join(filter(None, facts))
    facts = [f"**{head}**{text.removeprefix(head)}"]
    if not standing.command:
        return [*facts, f"{how}."]
    return [*facts, f"{how}:", f"```sh\n{standing.command}\n```"]


def problem_text(study: StudyResult, row: RowResult) -> str:
    """What went wrong with a row; of one that was not trained to its end, in one line."""
    if row.status != "missing":
        return row.message
    base = study.row(row.plan.baseline) if row.plan.baseline is not None else None
    return missing_text(row, base)


def _warnings(results: Sequence[StudyResult], facts: SessionFacts) -> list[str]:
    lines = [
        f"- **{row.status}** `{study.plan.name}` / `{row.name}`: {escape(problem_text(study, row))}"
        for study, row in problems(results)
    ]
    lines += [f"- {escape(text)}" for text in facts.warnings]
    return ["## Warnings", "\n".join(lines)] if lines else []


def _study_section(study: StudyResult, pictures: Sequence[Picture]) -> list[str]:
    plan = study.plan
    parts = [f"## {plan.name} ({plan.mode})", escape(plan.description)]
    parts += [_notes(study), reference_warning(study)]
    is_grid = plan.grid is not None
    parts += grid_table(study) if is_grid else [_table_note(study), main_table(study)]
    parts.append(_footnotes(study))
    parts += contributions(study)
    parts += metric_tables(study)
    parts += [part for picture in pictures for part in _picture(picture)]
    return [*parts, *costs(study), *health(study)]


def _picture(picture: Picture) -> list[str]:
    image = f"![{escape(picture.alt)}]({picture.file})"
    return [f"### {escape(picture.heading)}", image, escape(picture.caption)]


def _notes(study: StudyResult) -> str:
    """Which cell the baseline is, and what training functions noted, each distinct text once."""
    notes: dict[str, dict[str, None]] = {}
    for row in study.rows:
        for run in row.runs:
            for topic, text in (run.record.notes if run.record is not None else {}).items():
                notes.setdefault(topic, {})[text] = None
    lines = [f"{escape(topic)}: {escape(text)}" for topic, of in notes.items() for text in of]
    choice = choice_note(study)
    return bullets([*([choice] if choice else []), *lines])


def _table_note(study: StudyResult) -> str:
    order = f"Ordered by the change of {code(study.plan.leading)}, the leading metric."
    return " ".join(filter(None, [order, lower_is_better_note(study), hidden_metrics(study)]))


def _footnotes(study: StudyResult) -> str:
    is_grid = study.plan.grid is not None
    lines = [
        f"{code(row.name)}: {escape(row.plan.description)}"
        for row in study.rows
        if row.plan.description and not is_grid  # the table says what a cell is
    ]
    if study.plan.not_selected:
        lines.append(f"Not selected in this session: {code_list(study.plan.not_selected)}")
    lines.append(grid_note(study) if is_grid else interval_note(study))
    return bullets([*lines, *filter(None, [seeds_note(study)])])
