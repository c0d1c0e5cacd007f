"""The report that people read: study results in, Markdown text out.

Warnings stand first, then one table per study ordered by delta, then what follows from it in
words. Sentences are made from the numbers; nothing here trains or knows pytest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_ablation.results import RowResult, StudyResult
from pytest_ablation.statistics import Delta

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
_VERDICT_WORDS = {
    "worse": "**worse**",
    "better": "**better**",
    "no_detectable_change": "no detectable change",
    "inconclusive": "inconclusive",
}


@dataclass(frozen=True)
class SessionFacts:
    """What the report says about the session beside its results."""

    mode: str
    runs: int
    trained: int
    reused: int
    warnings: tuple[str, ...]


def markdown(results: Sequence[StudyResult], facts: SessionFacts) -> str:
    """The text of ``report.md`` for the studies of one mode."""
    parts = [_headline(results, facts), *_warnings(results, facts)]
    for study in results:
        parts += _study_section(study)
    return "\n\n".join(part for part in parts if part) + "\n"


def problems(results: Sequence[StudyResult]) -> list[tuple[StudyResult, RowResult]]:
    """The rows whose status is not ok."""
    return [(study, row) for study in results for row in study.rows if row.status != "ok"]


def by_delta(study: StudyResult) -> list[RowResult]:
    """Baseline rows first, then variants from the largest loss to the largest gain."""
    leading = study.plan.metrics[0]

    def position(row: RowResult) -> tuple[int, float]:
        delta = row.metrics[leading].delta
        if row.plan.baseline is None:
            return 0, 0.0
        return (1, delta.value) if delta is not None else (2, 0.0)

    return sorted(study.rows, key=position)


def escape(text: str) -> str:
    """*text* so that Markdown and HTML show it and do nothing else; line breaks become spaces."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def _headline(results: Sequence[StudyResult], facts: SessionFacts) -> str:
    variants = sum(row.plan.baseline is not None for study in results for row in study.rows)
    verdicts = [
        row.metrics[study.plan.metrics[0]].delta.verdict
        for study in results
        for row in study.rows
        if row.metrics[study.plan.metrics[0]].delta is not None
    ]
    counts = [f"{verdicts.count(v)} {w.strip('*')}" for v, w in _VERDICT_WORDS.items()
              if v in verdicts]  # fmt: skip
    troubled = len(problems(results))
    if troubled:
        counts.append(f"**{troubled} with a problem**")
    return (
        f"# Ablation report: {facts.mode}\n\n"
        f"{_count(variants, 'variant')} in {_count(len(results), 'study', 'studies')}: "
        f"{', '.join(counts) or 'no verdict'}. "
        f"{_count(facts.runs, 'run')}: {facts.trained} trained, {facts.reused} reused."
    )


def _warnings(results: Sequence[StudyResult], facts: SessionFacts) -> list[str]:
    lines = [
        f"- **{row.status}** `{study.plan.name}` / `{row.name}`: {escape(row.message)}"
        for study, row in problems(results)
    ]
    lines += [f"- {escape(text)}" for text in facts.warnings]
    unfinished = sum(run.status in ("missing", "failed") for s in results for r in s.rows
                     for run in r.runs)  # fmt: skip
    if unfinished:
        lines.append(
            f"- {_count(unfinished, 'result')} did not arrive. Finished runs are kept: run the "
            f"same command again to go on from here."
        )
    return ["## Warnings", "\n".join(lines)] if lines else []


def _study_section(study: StudyResult) -> list[str]:
    plan = study.plan
    parts = [f"## {plan.name} ({plan.mode})", escape(plan.description)]
    parts += [_notes(study), _table(study), _footnotes(study)]
    sentences = conclusions(study)
    if sentences:
        parts += ["### Conclusions", "\n".join(f"- {sentence}" for sentence in sentences)]
    return parts


def _notes(study: StudyResult) -> str:
    """What the training functions noted (data, encoder ...), each distinct text once."""
    notes: dict[str, dict[str, None]] = {}
    for row in study.rows:
        for run in row.runs:
            for topic, text in (run.record.notes if run.record is not None else {}).items():
                notes.setdefault(topic, {})[text] = None
    return "\n".join(f"- {escape(topic)}: {escape(text)}" for topic, texts in notes.items()
                     for text in texts)  # fmt: skip


def _table(study: StudyResult) -> str:
    leading, *others = study.plan.metrics
    header = ["variant", "against", "seeds", leading, "delta", "95 % interval", "relative", "p"]
    header += ["verdict", *(f"{name} (delta)" for name in others)]
    lines = [_line(header), _line(["---", "---", *["--:"] * 6, "---", *["--:"] * len(others)])]
    for row in by_delta(study):
        lines.append(_line(_cells(row, leading, others)))
    return "\n".join(lines)


def _cells(row: RowResult, leading: str, others: Sequence[str]) -> list[str]:
    result = row.metrics[leading]
    delta = result.delta
    cells = [f"`{row.name}`", f"`{row.plan.baseline}`" if row.plan.baseline else "(baseline)"]
    cells += [str(result.n_seeds), _with_spread(result.mean, result.std)]
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
    text = _VERDICT_WORDS.get(delta.verdict, "") if delta is not None else ""
    return " ".join(filter(None, [text, f"(same model as `{row.same_as}`)" if row.same_as else ""]))


def _footnotes(study: StudyResult) -> str:
    lines = [
        f"- `{row.name}`: {escape(row.plan.description)}"
        for row in study.rows
        if row.plan.description
    ]
    if study.plan.not_selected:
        names = ", ".join(f"`{name}`" for name in study.plan.not_selected)
        lines.append(f"- Not selected in this session: {names}")
    lines.append(
        "- Deltas are variant minus baseline, paired by seed; intervals are Student's t over the "
        "seeds, not adjusted for the number of variants."
    )
    return "\n".join(lines)


def conclusions(study: StudyResult) -> list[str]:
    """Sentences about the leading metric, derived from the verdicts and intervals."""
    leading = study.plan.metrics[0]
    rows = {
        row.name: row.metrics[leading].delta
        for row in by_delta(study)
        if row.status == "ok" and row.metrics[leading].delta is not None
    }
    groups: Mapping[str, list[str]] = {verdict: [] for verdict in _VERDICT_WORDS}
    for name, delta in rows.items():
        if delta.verdict is not None:
            groups[delta.verdict].append(name)
    sentences = []
    for verdict in ("worse", "better"):
        sentences += [
            f"`{name}` is {verdict}: {leading} changes by {100 * rows[name].value:+.1f} points "
            f"(interval {100 * rows[name].low:+.1f} to {100 * rows[name].high:+.1f})."
            for name in groups[verdict]
        ]
    if groups["no_detectable_change"]:
        sentences.append(
            f"{_names(groups['no_detectable_change'])}: no change larger than the margin of "
            f"{100 * study.plan.margin:g} points."
        )
    sentences += _inconclusive({name: rows[name] for name in groups["inconclusive"]})
    single = [name for name, delta in rows.items() if delta.verdict is None]
    if single:
        sentences.append(f"{_names(single)}: no verdict from fewer than two seeds.")
    return sentences


def _inconclusive(rows: Mapping[str, Delta]) -> list[str]:
    """What could have been seen, and where not even that is known."""
    sentences = []
    spread = [name for name, delta in rows.items() if delta.smallest_detectable is not None]
    if spread:
        sizes = [100 * rows[name].smallest_detectable for name in spread]
        sentences.append(
            f"{_names(spread)}: inconclusive at this number of seeds; changes smaller than "
            f"{_range(sizes)} points would usually go unseen."
        )
    alike = [name for name in rows if name not in spread]
    if alike:
        sentences.append(
            f"{_names(alike)}: inconclusive, because the difference is the same for every seed, "
            f"which says nothing about its spread."
        )
    return sentences


def _range(sizes: Sequence[float]) -> str:
    low, high = f"{min(sizes):.1f}", f"{max(sizes):.1f}"
    return low if low == high else f"{low} to {high}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _with_spread(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
