"""What follows from the studies' results, in words: the closing section of the report.

Study results go in, Markdown comes out. Sentences are made from verdicts, intervals and counts of
seeds; those of grids are in conclusions_grid.py, what to try next is in next_steps.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_ablation.conclusions_grid import grid_conclusions
from pytest_ablation.next_steps import next_steps
from pytest_ablation.report_text import (
    VERDICT_WORDS,
    bullets,
    code,
    code_list,
    count,
    escape,
    evidence,
    points,
    short_list,
    span,
)
from pytest_ablation.results import RowResult, StudyResult, by_delta
from pytest_ablation.statistics import Delta

_NOTE = "Intervals are 95 %, in points; what they speak about stands below each study's table."


def closing(results: Sequence[StudyResult]) -> list[str]:
    """The section as parts of the report; empty where nothing follows from any study."""
    parts = []
    for study in results:
        sentences, steps = conclusions(study), next_steps(study)
        if sentences or steps:
            parts += [f"### {study.plan.name}", bullets(sentences)]
        if steps:
            parts += ["What to try next:", bullets(steps)]
    return ["## Conclusions", _NOTE, *parts] if parts else []


def conclusions(study: StudyResult) -> list[str]:
    """Sentences about a study: its cells or its variants, and what the shown heat maps say."""
    from pytest_ablation.heat_map_figures import findings_of

    sentences = grid_conclusions(study) if study.plan.grid is not None else _of_variants(study)
    return [*sentences, *map(escape, findings_of(study))]


def _of_variants(study: StudyResult) -> list[str]:
    """What the leading metric says of the variants, in order of effect."""
    leading = study.plan.leading
    rows = [row for row in by_delta(study) if row.status == "ok"]
    told = {row.name: row for row in rows if row.metrics[leading].delta is not None}
    deltas = {name: row.metrics[leading].delta for name, row in told.items()}
    groups: Mapping[str | None, list[str]] = {verdict: [] for verdict in (*VERDICT_WORDS, None)}
    for name, delta in deltas.items():
        groups[delta.verdict].append(name)
    worse, better = groups["worse"], groups["better"][::-1]  # the largest effect first
    return [
        *_changed(study, [told[name] for name in (*worse, *better)]),
        *_necessary(study, [told[name] for name in worse]),
        *_unchanged({name: deltas[name] for name in groups["no_detectable_change"]}, study),
        *_inconclusive({name: deltas[name] for name in groups["inconclusive"]}),
        *_single(groups[None]),
        *_troubled(study),
        *_favoured(study, deltas),
    ]


def _changed(study: StudyResult, rows: Sequence[RowResult]) -> list[str]:
    """A sentence for each comparison whose interval excludes 0; rows of the same runs share it."""
    leading, margin = study.plan.leading, study.plan.margin
    baselines = {row.plan.baseline for row in study.rows} - {None}
    sentences = {}
    for row in rows:
        comparison = row.plan.baseline, *row.plan.keys.values()
        if comparison in sentences:
            continue
        alike = [r.name for r in rows if (r.plan.baseline, *r.plan.keys.values()) == comparison]
        same = f" (the same model: {code_list(alike[1:])})" if alike[1:] else ""
        delta = row.metrics[leading].delta
        against = f", against {code(row.plan.baseline)}" if len(baselines) > 1 else ""
        small = ""
        if -margin <= delta.low and delta.high <= margin:
            small = f", less than the margin of {100 * margin:g} points"
        sentences[comparison] = (
            f"{code(row.name)}{same} is {delta.verdict}: {leading} changes by "
            f"{points(delta.value)} points ({evidence(delta)}){against}{small}."
        )
    return list(sentences.values())


def _necessary(study: StudyResult, worse: Sequence[RowResult]) -> list[str]:
    """What the variants that are worse take away, in order of the harm that is done without it.

    A variant takes something away where all that it changes is switched off (None, False, 0 or an
    empty text) or cut to one (heads, say). Other changes exchange one thing for another, and that
    an exchange is worse makes nothing necessary.
    """
    removed: dict[str, list[RowResult]] = {}
    for row in worse:
        changes = row.plan.changes
        if changes and all(_is_removal(old, new) for old, new in changes.values()):
            what = " and ".join(
                f"{code(field)} ({escape(f'{old!r} to {new!r}')})"
                for field, (old, new) in changes.items()
            )
            removed.setdefault(what, []).append(row)
    if not removed:
        return []
    leading = study.plan.leading
    listed = [
        f"{what}, by {code_list([row.name for row in rows])}: "
        f"{points(rows[0].metrics[leading].delta.value)}"
        for what, rows in removed.items()
    ]
    seeds = span([row.metrics[leading].delta.n_seeds for row in worse])
    order = "the points that are lost without"
    if not study.plan.is_better_higher(leading):
        order = f"the points that {code(leading)} rises by without"
    return [f"Necessary, in order of {order} ({seeds} seeds): {'; '.join(listed)}."]


def _is_removal(old: Any, new: Any) -> bool:
    is_off = new is None or new is False or new in (0, "")
    was_on = old is not None and old is not False and old not in (0, "")
    is_cut = isinstance(old, int) and type(new) is int and old > new == 1
    return was_on and (is_off or is_cut)


def _unchanged(rows: Mapping[str, Delta], study: StudyResult) -> list[str]:
    if not rows:
        return []
    return [
        f"{code_list(list(rows))}: no change larger than the margin of "
        f"{100 * study.plan.margin:g} points ({_ends(rows)})."
    ]


def _inconclusive(rows: Mapping[str, Delta]) -> list[str]:
    """What could have been seen, and where not even that is known."""
    sentences = []
    spread = {name: d for name, d in rows.items() if d.smallest_detectable is not None}
    if spread:
        sizes = [100 * delta.smallest_detectable for delta in spread.values()]
        sentences.append(
            f"{code_list(list(spread))}: inconclusive at this number of seeds, too wide to tell "
            f"({_ends(spread)}); changes smaller than {span(sizes, '.1f')} points would usually go "
            f"unseen."
        )
    alike = {name: delta for name, delta in rows.items() if name not in spread}
    if alike:
        seeds = span([delta.n_seeds for delta in alike.values()])
        sentences.append(
            f"{code_list(list(alike))}: inconclusive, because the difference is the same for every "
            f"seed ({seeds} seeds), which says nothing about its spread."
        )
    return sentences


def _ends(rows: Mapping[str, Delta]) -> str:
    """The intervals of several differences as one that holds them all, and their seeds."""
    low, high = min(d.low for d in rows.values()), max(d.high for d in rows.values())
    kind = "interval" if len(rows) == 1 else "intervals within"
    seeds = span([delta.n_seeds for delta in rows.values()])
    return f"{kind} {points(low)} to {points(high)}, {seeds} seeds"


def _single(names: Sequence[str]) -> list[str]:
    return [f"{code_list(names)}: no verdict from fewer than two seeds."] if names else []


def _troubled(study: StudyResult) -> list[str]:
    """The rows of which nothing can be concluded, by what became of them."""
    by_status: dict[str, list[str]] = {}
    for row in study.rows:
        if row.status != "ok" and row.plan.baseline is not None:
            by_status.setdefault(row.status, []).append(row.name)
    listed = "; ".join(f"{short_list(names)} ({s})" for s, names in by_status.items())
    return [f"Nothing follows on {listed}: see the warnings."] if listed else []


def _favoured(study: StudyResult, deltas: Mapping[str, Delta]) -> list[str]:
    """A baseline that was chosen by its own runs looks better beside its variants than it is."""
    choice = study.plan.choice
    if choice is None or not choice.second or not deltas:
        return []
    harm = "losses" if study.plan.is_better_higher(study.plan.leading) else "rises"
    return [
        f"The baseline was chosen as the best cell of {code(choice.study)} by the same runs of it "
        f"({count(choice.seeds, 'seed')}), which favours it: {harm} may be a little overstated."
    ]
