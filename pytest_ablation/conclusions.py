"""What follows from a study's table, in words: sentences made from verdicts and intervals.

A study's result goes in, sentences about its leading metric come out.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_ablation.report_text import VERDICT_WORDS, code_list, interval, points, span
from pytest_ablation.results import StudyResult, by_delta
from pytest_ablation.statistics import Delta


def conclusions(study: StudyResult) -> list[str]:
    """Sentences about the leading metric, derived from the verdicts and intervals."""
    leading = study.plan.leading
    rows = {
        row.name: row.metrics[leading].delta
        for row in by_delta(study)
        if row.status == "ok" and row.metrics[leading].delta is not None
    }
    groups: Mapping[str, list[str]] = {verdict: [] for verdict in VERDICT_WORDS}
    for name, delta in rows.items():
        if delta.verdict is not None:
            groups[delta.verdict].append(name)
    sentences = [
        f"`{name}` is {verdict}: {leading} changes by {points(rows[name].value)} points "
        f"({interval(rows[name].low, rows[name].high)})."
        for verdict in ("worse", "better")
        for name in groups[verdict]
    ]
    if groups["no_detectable_change"]:
        sentences.append(
            f"{code_list(groups['no_detectable_change'])}: no change larger than the margin of "
            f"{100 * study.plan.margin:g} points."
        )
    sentences += _inconclusive({name: rows[name] for name in groups["inconclusive"]})
    single = [name for name, delta in rows.items() if delta.verdict is None]
    if single:
        sentences.append(f"{code_list(single)}: no verdict from fewer than two seeds.")
    return sentences


def _inconclusive(rows: Mapping[str, Delta]) -> list[str]:
    """What could have been seen, and where not even that is known."""
    sentences = []
    spread = [name for name, delta in rows.items() if delta.smallest_detectable is not None]
    if spread:
        sizes = [100 * rows[name].smallest_detectable for name in spread]
        sentences.append(
            f"{code_list(spread)}: inconclusive at this number of seeds; changes smaller than "
            f"{span(sizes, '.1f')} points would usually go unseen."
        )
    alike = [name for name in rows if name not in spread]
    if alike:
        sentences.append(
            f"{code_list(alike)}: inconclusive, because the difference is the same for every seed, "
            f"which says nothing about its spread."
        )
    return sentences
