"""What follows from a grid, in words: its best cell, its lead, how its axes go together.

A study's result goes in, sentences come out; the numbers are those of ``grid_results.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from pytest_ablation.grid_effects import Levels, Means, axis_means, crossing, levels_by, levels_of
from pytest_ablation.grid_results import GridResult, grid_result, is_told_apart
from pytest_ablation.grids import Axis, shown_value
from pytest_ablation.report_text import code, count, escape, evidence, points, short_list
from pytest_ablation.results import StudyResult
from pytest_ablation.statistics import Delta

_MOST_DIFFERENCES = 4  # told one by one
_ARROW = " → "


def grid_conclusions(study: StudyResult) -> list[str]:
    """Sentences on the best cell, on each axis, and on each two of them."""
    result = grid_result(study)
    if result.best is None:
        return [
            f"No cell has all its results, so there is no best one: {_left_out(study, result)}."
        ]
    axes = range(len(result.grid.axes))
    sentences = [_best(study, result), *_lead(result), *_equals(result), *_leading(study, result)]
    if len(result.ranked) > 1:
        sentences += [_main_effect(result, axis) for axis in axes]
        sentences += [s for pair in combinations(axes, 2) for s in _together(result, *pair)]
    return sentences


# --- the best cell ---------------------------------------------------------------------------


def _best(study: StudyResult, result: GridResult) -> str:
    best, number = result.best, len(result.ranked)
    text = (
        f"Best by {code(result.metric)}: {code(best.name)} "
        f"({escape(result.grid.described(best.name))}), {best.mean:.4f} "
        f"({_mean_of(len(best.values))}"
    )
    if number == 1:
        text += ", the only cell with all its results)."
    else:
        text += f", the highest of {number} cells)."
    left_out = _left_out(study, result)
    return f"{text} Left out: {left_out}." if left_out else text


def _mean_of(seeds: int) -> str:
    return f"mean of {seeds} seeds" if seeds > 1 else "one seed"


def _left_out(study: StudyResult, result: GridResult) -> str:
    """The cells without a place in the order, and why."""
    absent = [cell for cell in result.grid.cells if cell in study.plan.not_selected]
    reasons = {**result.left_out, **dict.fromkeys(absent, "not selected")}
    by_reason: dict[str, list[str]] = {}
    for cell, reason in reasons.items():
        by_reason.setdefault(reason, []).append(cell)
    return "; ".join(f"{short_list(cells)} ({why})" for why, cells in by_reason.items())


def _lead(result: GridResult) -> list[str]:
    """The best against the second, and what choosing the best does to that."""
    if len(result.ranked) < 2:
        return []
    second, delta = result.ranked[1], result.ranked[1].behind
    name = f"the second, {code(second.name)}"
    if is_zero(delta):
        same = "mean" if delta.p_value is not None else "value at each seed"
        return [
            f"{name[0].upper()}{name[1:]}, has the same {same} ({count(delta.n_seeds, 'seed')}): "
            f"the two cannot be told apart, and the first in the grid's order counts as the best."
        ]
    if delta.verdict == "better":
        text = f"It leads {name}, by {points(delta.value)[1:]} points ({evidence(delta)})."
    elif delta.verdict == "no_detectable_change":
        text = (
            f"It is {points(delta.value)[1:]} points ahead of {name} ({evidence(delta)}): the two "
            f"do not differ by more than the margin of {100 * result.margin:g} points."
        )
    else:
        text = (
            f"It is {points(delta.value)[1:]} points ahead of {name} ({evidence(delta)}): the two "
            f"cannot be told apart."
        )
    bias = (
        f"The lead of the best of {len(result.ranked)} cells is biased upwards, for it was chosen "
        f"as the best by the same figures ({count(delta.n_seeds, 'seed')})."
    )
    return [text, bias]


def is_zero(delta: Delta) -> bool:
    """No difference but for rounding."""
    return abs(delta.value) < 1e-12


def _equals(result: GridResult) -> list[str]:
    """The cells that are not told apart from the best, where it is not the second alone."""
    alike = [cell.name for cell in result.ranked[1:] if not is_told_apart(cell.behind)]
    seeds = count(len(result.best.values), "seed")
    if not alike or alike == [result.ranked[1].name]:
        return []
    if len(result.best.values) == 1:
        return ["At one seed no cell can be told apart from another."]
    return [f"At {seeds} {count(len(alike), 'cell')} cannot be told apart from the best: "
            f"{short_list(alike)}."]  # fmt: skip


def _leading(study: StudyResult, result: GridResult) -> list[str]:
    """The leading metric of the best cell, by which it was not chosen."""
    leading, row = study.plan.leading, result.best.row
    if leading == result.metric:
        return []
    found = row.metrics[leading]
    spread = f" ± {found.std:.4f}" if found.std is not None else ""
    text = f"Its {code(leading)} is {found.mean:.4f}{spread} ({_mean_of(found.n_seeds)})"
    if row.plan.baseline is None:
        return [f"{text}; it is the baseline's cell." if len(study.rows) > 1 else f"{text}."]
    if found.delta is None or row.status != "ok":
        return [f"{text}."]
    return [
        f"{text}: {points(found.delta.value)} points against the baseline's cell, "
        f"{code(row.plan.baseline)} ({evidence(found.delta)})."
    ]


# --- one axis --------------------------------------------------------------------------------


def _main_effect(result: GridResult, number: int) -> str:
    """Whether the metric rises, falls or has a peak along an axis, as far as intervals say so."""
    axis = result.grid.axes[number]
    means = axis_means(result, number)
    if len(means.by_place) < 2:
        return (
            f"How {code(result.metric)} goes with {code(axis.name)} is open: too few cells have "
            f"results to compare its values over the same ones."
        )
    levels = levels_of(result, number, {at: values for (at,), values in means.by_place.items()})
    words = value_labels(axis)
    told = (
        f"{(_ARROW if levels.is_ordered else ', ').join(words[at] for at in levels.order)}: "
        f"{', '.join(f'{levels.mean(at):.4f}' for at in levels.order)} "
        f"({_over(result, means, number)}{count(levels.seeds, 'seed')})"
    )
    text = _trend(levels, code(result.metric), f"{code(axis.name)} {told}", words)
    return " ".join([text, *_companions(levels)])


def _trend(levels: Levels, metric: str, told: str, words: Sequence[str]) -> str:
    others = [at for at in levels.order if at != levels.best]
    ahead = {at: levels.difference(levels.best, at) for at in others}
    if all(delta.verdict == "no_detectable_change" for delta in ahead.values()):
        size = f"the margin of {100 * levels.margin:g} points"
        return f"{metric} does not change by more than {size} with {told}."
    if levels.shape in ("rises", "falls"):
        return _monotone(levels, metric, told, words)
    apart = [at for at in others if is_told_apart(ahead[at])]
    alike = [at for at in others if at not in apart]
    if not apart:
        if all(map(is_zero, ahead.values())):
            return f"{metric} has the same mean along {told}."
        return (
            f"Where {metric} is highest along {told} is open: {words[levels.best]} is not told "
            f"apart from {_versus(ahead, alike, words)}."
        )
    ends = {levels.order[0], levels.order[-1]}
    has_peak = levels.shape == "peaks" and ends <= set(apart)
    parts = [f"told apart from {_versus(ahead, apart, words)}"]
    if alike:
        parts.append(f"not told apart from {_versus(ahead, alike, words)}")
    return (
        f"{metric} {'has its peak' if has_peak else 'is highest'} at {words[levels.best]} along "
        f"{told}: {', '.join(parts)}."
    )


def _monotone(levels: Levels, metric: str, told: str, words: Sequence[str]) -> str:
    """Means that only rise or only fall: from the first to the last, and steps in doubt."""
    first, last = levels.order[0], levels.order[-1]
    change = levels.difference(last, first)
    size = (
        f"{points(change.value)} points from {words[first]} to {words[last]} ({evidence(change)})"
    )
    if not is_told_apart(change):
        return f"Whether {metric} changes with {told} is open: {size}, not told apart from 0."
    steps = list(zip(levels.order, levels.order[1:], strict=False))
    doubtful = {pair: delta for pair in steps
                if not is_told_apart(delta := levels.difference(pair[1], pair[0]))}  # fmt: skip
    text = f"{metric} {levels.shape} with {told}; {size}."
    if not doubtful or len(steps) == 1:
        return text
    listed = "; ".join(
        f"{words[before]} and {words[after]} ({points(delta.value)} points, {evidence(delta)})"
        for (before, after), delta in doubtful.items()
    )
    return f"{text} Not told apart: {listed}."


def _versus(ahead: Mapping[int, Delta], which: Sequence[int], words: Sequence[str]) -> str:
    """By how much the highest is ahead of some other values; of many, the names alone."""
    if len(which) > _MOST_DIFFERENCES:
        return ", ".join(words[at] for at in which)
    return " and ".join(
        f"{words[at]} ({points(ahead[at].value)} points, {evidence(ahead[at])})" for at in which
    )


def _companions(levels: Levels) -> list[str]:
    """The fields that change together with the one that an axis is called by."""
    axis, others = levels.axis, []
    for number, field in enumerate(axis.fields[1:], 1):
        values = [shown_value(axis.values[at][number]) for at in levels.order]
        if len(set(values)) > 1:
            others.append(f"{code(field)} ({escape(', '.join(values))})")
    if not others:
        return []
    verb = "changes" if len(others) == 1 else "change"
    return [f"{' and '.join(others)} {verb} with it, so what each of them does cannot be told."]


def _over(result: GridResult, means: Means, *axes: int) -> str:
    """What the means are over: the values of the other axes, or those that have all results."""
    others = [code(axis.name) for at, axis in enumerate(result.grid.axes) if at not in axes]
    if not others:
        return ""
    if means.averaged == means.of:
        return f"means over {' and '.join(others)}, "
    kind = "values" if len(others) == 1 else "combinations"
    return (
        f"means over the {means.averaged} of {means.of} {kind} of {' and '.join(others)} that have "
        f"all results, "
    )


# --- two axes --------------------------------------------------------------------------------


def _together(result: GridResult, outer: int, inner: int) -> list[str]:
    """Which value of the inner axis is best at each of the outer one, and whether that changes."""
    means = axis_means(result, outer, inner)
    by_outer = levels_by(result, outer, inner, means)
    if len(by_outer) < 2 or all(len(levels.order) < 2 for levels in by_outer.values()):
        return []
    axes = result.grid.axes
    at_words, words = value_labels(axes[outer]), value_labels(axes[inner])
    parts = [f"at {at_words[at]}: {_best_value(levels, words)}" for at, levels in by_outer.items()]
    over = _over(result, means, outer, inner).rstrip(", ")
    names = code(axes[inner].name), code(axes[outer].name)
    text = f"The best {names[0]} at each {names[1]}{f' ({over})' if over else ''}"
    return [f"{text} is {'; '.join(parts)}. {_change(by_outer, names, at_words, words)}"]


def _best_value(levels: Levels, words: Sequence[str]) -> str:
    if levels.lead is None:
        return f"{words[levels.best]}, the only one with results"
    second, delta = levels.lead
    if is_zero(delta):
        return f"{words[levels.best]} and {words[second]} alike ({count(delta.n_seeds, 'seed')})"
    size = f"{points(delta.value)} points, {evidence(delta)}"
    apart = "ahead of" if is_told_apart(delta) else "not told apart from"
    return f"{words[levels.best]}, {apart} {words[second]} ({size})"


def _change(
    by_outer: Mapping[int, Levels],
    names: tuple[str, str],
    at_words: Sequence[str],
    words: Sequence[str],
) -> str:
    inner, outer = names
    leads = {at: levels.lead for at, levels in by_outer.items() if levels.lead is not None}
    ahead = [at for at, (_, delta) in leads.items() if not is_zero(delta)]
    apart = [at for at in ahead if is_told_apart(leads[at][1])]
    bests = {by_outer[at].best for at in ahead}
    if not bests:
        return f"No {inner} is ahead at any {outer}."
    if len(bests) == 1:
        at = f"at every {outer}" if len(ahead) == len(by_outer) else "wherever one is ahead"
        text = f"It is {words[bests.pop()]} {at}"
        if len(apart) == len(ahead):
            return f"{text}."
        where = " and ".join(at_words[at] for at in apart)
        return f"{text}, told apart {f'at {where} alone' if apart else 'at none of them'}."
    crossed = crossing(by_outer)
    if crossed is None:
        return f"That it changes with {outer} is not shown: one {inner} may be best at all of them."
    one, other = (at_words[at] for at in crossed)
    return f"So the best {inner} changes with {outer}: at {one} it is another than at {other}."


def value_labels(axis: Axis) -> list[str]:
    """The values of an axis in words: those of the first field, of all fields where it repeats."""
    first = [axis.label(index) for index in range(len(axis.values))]
    if len(set(first)) < len(first):
        first = ["/".join(map(shown_value, values)) for values in axis.values]
    return [escape(label) for label in first]
