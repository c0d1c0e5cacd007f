"""What to try next, in words: where a grid ends too early, and what more epochs or seeds could do.

A study's result goes in, sentences come out, none where the numbers ask for nothing. The findings
on over-fitting and on the best epoch are those of ``health.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_ablation.grid_effects import is_number, rising_order
from pytest_ablation.grid_results import GridResult, grid_result, is_told_apart
from pytest_ablation.grids import Axis, shown_value
from pytest_ablation.health import Gap, epochs_of, gap
from pytest_ablation.histories import VALIDATION, is_better_higher, leading_name, series
from pytest_ablation.options import SEEDS_OPTION
from pytest_ablation.report_text import code, evidence, points, short_list, span
from pytest_ablation.results import RowResult, StudyResult, by_delta
from pytest_ablation.statistics import Delta, paired_delta, seeds_to_detect

MOST_SEEDS = 50  #: more are not proposed
POINT = 0.01  #: the change that more seeds are to find, where the margin is below it


def next_steps(study: StudyResult) -> list[str]:
    """Sentences on what the numbers of a study ask for."""
    result = grid_result(study) if study.plan.grid is not None else None
    edges = [] if result is None else _edges(result)
    return [
        *edges,
        *_more_epochs(study, result),
        *_regularise(study, result),
        *_more_seeds(study, result),
    ]


# --- the edge of a grid ----------------------------------------------------------------------


def _edges(result: GridResult) -> list[str]:
    """A sentence for each axis on whose end the best cell lies, better than the value before it."""
    if len(result.ranked) < 2:
        return []
    place = result.grid.cells[result.best.name]
    sentences = []
    for number, axis in enumerate(result.grid.axes):
        rising = rising_order(axis) or []
        for order, kind in ((rising, "largest"), (rising[::-1], "smallest")):
            if order and order[-1] == place[number] and (beyond := _beyond(axis, order)):
                before = (*place[:number], order[-2], *place[number + 1 :])
                sentences += _edge(result, axis, order, kind, beyond, before)
    return sentences


def _edge(
    result: GridResult,
    axis: Axis,
    order: Sequence[int],
    kind: str,
    beyond: str,
    before: tuple[int, ...],
) -> list[str]:
    """The sentence, [] where the last step along the axis gained nothing that matters."""
    text = (
        f"Extend the grid beyond {code(axis.name)} {axis.label(order[-1])}, its {kind} value, "
        f"where the best cell lies; the next by the distances on this axis: {beyond}."
    )
    cell = result.cell_at(before)
    if cell is None:
        return [f"{text} The cell before it has no result to compare with."]
    step = cell.behind
    if step.value < 1e-12 or step.verdict == "no_detectable_change":
        return []
    gain = (
        f"The step from {axis.label(order[-2])} to {axis.label(order[-1])} gained "
        f"{points(step.value)} points ({evidence(step)})"
    )
    return [f"{text} {gain}{'' if is_told_apart(step) else ', not told apart from 0'}."]


def _beyond(axis: Axis, order: Sequence[int]) -> str:
    """The values after the last one in this *order*; "" where the first field can have none.

    What is below 1 so far may be a share (dropout, say), which never reaches 1: a doubt is added,
    and fields that only go along with the first are left out.
    """
    found, doubt = [], ""
    for number, field in enumerate(axis.fields):
        values = [axis.values[index][number] for index in order]
        following = next_value(values) if all(map(is_number, values)) else None
        is_doubtful = following is not None and max(values) < 1 <= following
        if number == 0:
            if following is None:
                return ""
            doubt = ", if the field allows it" if is_doubtful else ""
        elif following is None or is_doubtful:
            continue
        found.append(f"{field}={shown_value(following)}")
    return f"{code(', '.join(found))}{doubt}"


def next_value(values: Sequence[float]) -> float | None:
    """The number that goes on where *values* end: by their last ratio, or by their equal steps.

    Integers stay integers; None where that would lead back, or to 0 or below it from above.

    Examples
    --------
    >>> next_value([64, 128, 256]), next_value([1e-3, 5e-4]), next_value([1, 2, 3])
    (512, 0.00025, 4)
    >>> next_value([2, 1]) is None
    True
    """
    before, last = values[-2:]
    if before == last:
        return last
    steps = [b - a for a, b in pairwise(values)]
    is_even = len(steps) > 1 and all(math.isclose(step, steps[0]) for step in steps)
    found = last + steps[-1] if is_even or min(values) <= 0 else last * (last / before)
    if all(isinstance(value, int) for value in values):
        found = round(found)
    leads_on = (found - last) * (last - before) > 0
    return found if leads_on and (found > 0 or min(values) < 0) else None


# --- epochs and over-fitting -----------------------------------------------------------------


@dataclass(frozen=True)
class _Rise:
    """By how much validation got better from the epoch before the last one to the last one."""

    metric: str
    verb: str
    change: Delta


def _models(study: StudyResult, result: GridResult | None) -> list[tuple[str, RowResult]]:
    """The rows in the order of their table, rows of the same runs once."""
    if result is not None:
        return [(cell.name, cell.row) for cell in result.ranked]
    return [(names[0], row) for names, row in study.models() if row.records]


def _more_epochs(study: StudyResult, result: GridResult | None) -> list[str]:
    plan = study.plan
    rises = plan.is_better_higher(plan.leading)
    by_metric: dict[tuple[str, str], dict[str, Delta]] = {}
    for name, row in _models(study, result):
        found = epochs_of(row.records, plan.leading, higher_is_better=rises)
        rise = _last_rise(row, plan.leading, plan.margin, rises)
        if found is not None and found.best_is_last and rise is not None:
            by_metric.setdefault((rise.metric, rise.verb), {})[name] = rise.change
    return [_epochs_sentence(*told, rows) for told, rows in by_metric.items()]


def _last_rise(row: RowResult, leading: str, margin: float, rises: bool) -> _Rise | None:
    """Of the leading metric on validation data, else of the loss; None where neither improved."""
    for wanted, is_higher_better in ((leading, rises), ("loss", False)):
        before, after, name = {}, {}, ""
        for seed, record in row.records.items():
            logged = leading_name(record, wanted, VALIDATION, higher_is_better=is_higher_better)
            values = list(series(record, VALIDATION, logged).values()) if logged else []
            if len(values) > 1:
                before[seed], after[seed] = values[-2:]
                name = logged
        verb = "rose" if is_better_higher(name, is_higher_better) else "fell"
        pair = (before, after) if verb == "fell" else (after, before)
        change = paired_delta(*pair, margin=margin)
        if change is not None and change.value > 1e-12:
            return _Rise(name, verb, change)
    return None


def _epochs_sentence(metric: str, verb: str, rows: Mapping[str, Delta]) -> str:
    factor, unit, form = (1, "", ".3f") if "loss" in metric else (100, " points", ".1f")
    sizes = span([factor * change.value for change in rows.values()], form)
    apart = [name for name, change in rows.items() if is_told_apart(change)]
    seeds = _seeds([change.n_seeds for change in rows.values()])
    if len(apart) == len(rows):
        doubt = "by intervals that exclude 0" if len(rows) > 1 else "by an interval that excludes 0"
    elif apart:
        doubt = f"told apart from 0 in {short_list(apart)} alone"
    else:
        doubt = "not told apart from 0"
    return (
        f"More epochs: in most runs of {short_list(list(rows))} the last epoch was the best, and "
        f"validation {code(metric)} still {verb} in it, by {sizes}{unit} "
        f"(mean of {seeds}, {doubt})."
    )


def _seeds(counts: Sequence[int]) -> str:
    """``3 seeds``, ``1 to 3 seeds``."""
    return f"{span(counts)} {'seed' if set(counts) == {1} else 'seeds'}"


def _regularise(study: StudyResult, result: GridResult | None) -> list[str]:
    rises = study.plan.is_better_higher(study.plan.leading)
    by_metric: dict[str, dict[str, Gap]] = {}
    for name, row in _models(study, result):
        found = gap(row.records, study.plan.leading, higher_is_better=rises)
        if found is not None and found.overfits:
            by_metric.setdefault(found.metric, {})[name] = found
    sentences = []
    for metric, gaps in by_metric.items():
        factor, unit, form = (1, "", ".3f") if "loss" in metric else (100, " points", ".1f")
        sizes = span([factor * found.value for found in gaps.values()], form)
        seeds = _seeds([len(found.epochs) for found in gaps.values()])
        earlier = "" if any(found.chosen for found in gaps.values()) else ", or fewer epochs"
        sentences.append(
            f"Regularise (dropout, weight decay or more data{earlier}): in "
            f"{short_list(list(gaps))} training is ahead of validation by {sizes}{unit} of "
            f"{code(metric)} (mean of {seeds}), and validation got worse over the last quarter of "
            f"the epochs."
        )
    return sentences


# --- seeds -----------------------------------------------------------------------------------


def _more_seeds(study: StudyResult, result: GridResult | None) -> list[str]:
    """How many seeds would settle what is inconclusive."""
    open_ = _open_differences(study, result)
    if not open_:
        return []
    if any(delta.n_seeds < 2 for delta in open_.values()):
        return [
            f"More seeds: one seed has no interval and gives no verdict; two are the least "
            f"(`{SEEDS_OPTION}=3`, say)."
        ]
    margin = study.plan.margin if result is None else result.margin
    by_size: dict[float, dict[str, Delta]] = {}
    for what, delta in open_.items():
        by_size.setdefault(_size_to_find(delta, margin), {})[what] = delta
    return [text for size, deltas in by_size.items() if (text := _seeds_sentence(size, deltas))]


def _too_many(delta: Delta, size: float) -> str:
    """What is to be said where *size* is out of reach: whether the change as it was seen is not."""
    text = f"more than {MOST_SEEDS}"
    seen = abs(delta.value)
    number = seeds_to_detect(delta, seen, most=MOST_SEEDS) if seen > size else None
    if number is None:
        return text
    return f"{text} (about {number} for one as large as was seen, {points(delta.value)} points)"


def _open_differences(study: StudyResult, result: GridResult | None) -> dict[str, Delta]:
    """What to tell apart, in words, and the difference as it is now."""
    if result is not None:
        if len(result.ranked) < 2:
            return {}
        best, second = result.ranked[:2]
        found = {f"{code(best.name)} against {code(second.name)}": second.behind}
    else:
        leading = study.plan.leading
        rows = [row for row in by_delta(study) if row.status == "ok" and not row.same_as]
        found = {code(row.name): row.metrics[leading].delta for row in rows}
    return {
        what: delta
        for what, delta in found.items()
        if delta is not None and delta.verdict in ("inconclusive", None)
    }


def _size_to_find(delta: Delta, margin: float) -> float:
    """One point, where the margin is smaller and not even that could be seen; else the margin.

    0 where nothing is known of the spread.
    """
    if delta.smallest_detectable is None:
        return 0.0
    return POINT if margin < POINT < delta.smallest_detectable else margin


def _seeds_sentence(size: float, deltas: Mapping[str, Delta]) -> str:
    seeds = span([delta.n_seeds for delta in deltas.values()])
    if any(delta.smallest_detectable is None for delta in deltas.values()):
        alike = [what for what, delta in deltas.items() if delta.smallest_detectable is None]
        return (
            f"More seeds for {', '.join(alike)}: the difference is the same at each of {seeds} "
            f"seeds, so nothing says how many."
        )
    if not size:
        return ""
    needed = {what: seeds_to_detect(d, size, most=MOST_SEEDS) for what, d in deltas.items()}
    listed = ", ".join(
        f"{what} {f'about {number}' if number else _too_many(deltas[what], size)}"
        for what, number in needed.items()
    )
    return (
        f"More seeds (`{SEEDS_OPTION}=N`), to find a change of {100 * size:g} "
        f"{'point' if size == POINT else 'points'} four times out of five: {listed} (by the spread "
        f"over {seeds} seeds)."
    )
