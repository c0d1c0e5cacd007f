"""The numbers behind a forest plot: how each variant of a study changed its leading metric.

A study's result goes in, a line per variant and the words for it come out. Pure: knows no
matplotlib.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pytest_ablation.images import shortened
from pytest_ablation.report_text import VERDICT_WORDS
from pytest_ablation.results import RowResult, StudyResult, by_delta

#: What may come out where a row's status is ok.
OUTCOMES = (*(word.strip("*") for word in VERDICT_WORDS.values()), "one seed")


@dataclass(frozen=True)
class Change:
    """A line of the plot: a variant, or several that are the same model.

    Attributes
    ----------
    names : of the variants
    baseline : the row that it is compared with
    outcome : the verdict in words, "one seed", or the status where that is not ok
    value : variant minus baseline; None without a seed that both have
    low, high : ends of the 95 % interval; None with fewer than two seeds
    seeds : the change of each single seed, in their order
    margin : a change up to this size does not matter
    """

    names: tuple[str, ...]
    baseline: str
    outcome: str
    value: float | None
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    margin: float


@dataclass(frozen=True)
class Changes:
    """All lines from top to bottom, in one unit.

    Attributes
    ----------
    metric : what changed
    margin : a change up to this size, in the metric's own unit, does not matter
    is_relative : whether numbers are percent of the baseline's mean; else they are as measured
    lines : tuple of Change
    higher_is_better : whether what lies on the right is better
    """

    metric: str
    margin: float
    is_relative: bool
    lines: tuple[Change, ...]
    higher_is_better: bool = True

    @property
    def baseline(self) -> str:
        """The row that most lines are compared with; among equals the first."""
        return Counter(line.baseline for line in self.lines).most_common(1)[0][0]

    def told(self, value: float) -> str:
        """A number as the report's table has it."""
        return f"{value + 0.0:+.1f}" if self.is_relative else f"{value + 0.0:+.4f}"


def changes(study: StudyResult) -> Changes:
    """What the plot shows: the study's variants in the order of the report.

    Numbers are percent of the baseline's mean over the same seeds where all of these means are
    above 0; else a percentage would say nothing, and they are as measured. Variants that are the
    same model, compared with the same baseline, are one line.
    """
    metric = study.plan.leading
    groups: dict[tuple[str, str], list[RowResult]] = {}
    for row in by_delta(study):
        if row.plan.baseline is not None:
            groups.setdefault((row.same_as or row.name, row.plan.baseline), []).append(row)
    means = [
        rows[0].metrics[metric].baseline_mean
        for rows in groups.values()
        if rows[0].metrics[metric].delta is not None
    ]
    is_relative = all(mean is not None and mean > 0 for mean in means)
    lines = tuple(_change(rows, metric, study.plan.margin, is_relative) for rows in groups.values())
    rises = study.plan.is_better_higher(metric)
    return Changes(metric, study.plan.margin, is_relative, lines, rises)


def _change(rows: Sequence[RowResult], metric: str, margin: float, is_relative: bool) -> Change:
    first = rows[0]
    result = first.metrics[metric]
    delta = result.delta
    names = tuple(row.name for row in rows)
    if delta is None:
        return Change(
            names, first.plan.baseline, _outcome(first, metric), None, None, None, (), 0.0
        )
    scale = 100 / result.baseline_mean if is_relative else 1.0
    has_interval = math.isfinite(delta.low)
    return Change(
        names=names,
        baseline=first.plan.baseline,
        outcome=_outcome(first, metric),
        value=scale * delta.value,
        low=scale * delta.low if has_interval else None,
        high=scale * delta.high if has_interval else None,
        seeds=tuple(scale * value for _, value in sorted(delta.by_seed.items())),
        margin=scale * margin,
    )


def _outcome(row: RowResult, metric: str) -> str:
    delta = row.metrics[metric].delta
    if row.status != "ok":
        return row.status.replace("_", " ")
    return VERDICT_WORDS[delta.verdict].strip("*") if delta.verdict else "one seed"


def unit_of(found: Changes, most: int = 80) -> str:
    """What the numbers are; of the metric's name no more than *most* characters."""
    metric = shortened(found.metric, most)
    if found.is_relative:
        return f"relative change of {metric}, in percent of the baseline's mean"
    return f"change of {metric}, as measured (not relative)"


def remarks(found: Changes) -> list[str]:
    """What a reader must know of marks, bars and dots, as far as this plot has them."""
    lines = [line for line in found.lines if line.value is not None]
    has_interval = [line for line in lines if line.low is not None]
    limits = limits_of(found)
    said = {
        "lower is better: improvements lie on the left of 0": not found.higher_is_better,
        "mark and bar: mean over the seeds and its 95 % interval": any(
            line.low < line.high for line in has_interval
        ),
        "no spread: all seeds changed alike, which gives no interval": any(
            line.low == line.high for line in has_interval
        ),
        "one seed: no interval and no verdict": len(has_interval) < len(lines),
        "small dots: single seeds": any(len(line.seeds) > 1 for line in lines),
        f"shaded: within the margin of {found.margin:g} a change does not matter": any(
            line.margin for line in lines
        ),
        "an arrow: the interval goes on": any(is_cut(line, limits) for line in has_interval),
        "a cross: no verdict, see the outcome": any(line.outcome not in OUTCOMES for line in lines),
    }
    return [remark for remark, holds in said.items() if holds]


def in_words(found: Changes, line: Change) -> str:
    names = ", ".join(line.names)
    if line.value is None:
        return f"{names} without a number ({line.outcome})"
    return f"{names} {found.told(line.value)}{' %' if found.is_relative else ''} ({line.outcome})"


def limits_of(found: Changes) -> tuple[float, float]:
    """The ends of the axis: all means, seeds and margins, and intervals but for the longest.

    An interval over two seeds may be a hundred times as long as another; where one reaches three
    times the typical length from its mean, it is cut, so that the others stay readable.
    """
    lines = [line for line in found.lines if line.value is not None]
    values = [0.0, *(value for line in lines for value in (line.value, *line.seeds))]
    halves = [line.high - line.value for line in lines if line.low is not None]
    reach = 3 * median([half for half in halves if half > 0] or [0.0])
    for line in lines:
        if line.low is not None:
            values += [max(line.low, line.value - reach), min(line.high, line.value + reach)]
    widest = max(abs(value) for value in values)
    margin = max((line.margin for line in lines), default=0.0)
    if margin <= 2 * widest or not widest:
        values += [-margin, margin]
    low, high = min(values), max(values)
    edge = 0.04 * (high - low) or 1.0
    return low - edge, high + edge


def is_cut(line: Change, limits: tuple[float, float]) -> bool:
    """Whether the interval of a line goes beyond the axis."""
    return line.low is not None and (line.low < limits[0] or line.high > limits[1])
