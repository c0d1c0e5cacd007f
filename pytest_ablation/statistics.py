"""Means, paired deltas, intervals and verdicts: pure functions of numbers by seed.

The replicate is the seed. Values by seed go in, small frozen results come out; nothing here knows
about records, pytest or reports.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CONFIDENCE = 0.95
POWER = 0.80
_NO_SPREAD = 1e-12  # differences that agree but for rounding


@dataclass(frozen=True)
class Delta:
    """A change of one metric, variant minus baseline, paired by seed.

    Attributes
    ----------
    value : mean of the paired differences (a fraction; -0.012 is 1.2 points down)
    low, high : ends of the interval; infinite with fewer than two pairs, which bound nothing
    p_value : two-sided, for "no change"; None with fewer than two pairs or without any spread
    smallest_detectable : the size of change that as many seeds with this spread would find in four
        of five studies; None likewise
    verdict : ``worse``, ``better``, ``no_detectable_change`` or ``inconclusive``, which it also is
        where the difference is the same for every seed, so that nothing is known of its spread;
        None with fewer than two pairs
    by_seed : seed to difference
    """

    value: float
    low: float
    high: float
    p_value: float | None
    smallest_detectable: float | None
    verdict: str | None
    by_seed: Mapping[int, float] = field(default_factory=dict)

    @property
    def n_seeds(self) -> int:
        return len(self.by_seed)


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean, exactly rounded (so that the order of seeds does not matter)."""
    try:
        return math.fsum(values) / len(values) if values else None
    except OverflowError:  # the sum is too large for a float, the mean is not
        return statistics.mean(values)


def standard_deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1), None with fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def paired_delta(
    variant: Mapping[int, float], baseline: Mapping[int, float], *, margin: float
) -> Delta | None:
    """The delta over the seeds that both have; None if they share none.

    The interval is Student's t interval of the paired differences (as ``scipy.stats.ttest_rel``).

    Parameters
    ----------
    variant, baseline : seed to metric value
    margin : a change inside ``[-margin, margin]`` does not matter
    """
    seeds = sorted(set(variant) & set(baseline))
    differences = {seed: variant[seed] - baseline[seed] for seed in seeds}
    values = list(differences.values())
    if not values:
        return None
    center = mean(values)
    if len(values) < 2:
        return Delta(center, -math.inf, math.inf, None, None, None, differences)
    error = standard_deviation(values) / math.sqrt(len(values))
    if error < _NO_SPREAD:
        # Values on a grid (accuracies) can agree by chance: that says nothing about their spread.
        return Delta(center, center, center, None, None, "inconclusive", differences)
    df = len(values) - 1
    low, high, p_value = _t_interval(center, error, df)
    return Delta(
        value=center,
        low=low,
        high=high,
        p_value=p_value,
        smallest_detectable=_smallest_detectable(error, df),
        verdict=verdict(low, high, margin),
        by_seed=differences,
    )


def seeds_to_detect(delta: Delta, size: float, *, most: int) -> int | None:
    """How many seeds, more than there are, would find a true change of *size* four times in five.

    Estimated from the spread of the differences that there are, which few seeds tell roughly.

    Parameters
    ----------
    delta : of two seeds or more that differ
    size : above 0, a fraction
    most : None is returned where more would be needed
    """
    deviation = standard_deviation(list(delta.by_seed.values()))
    for count in range(delta.n_seeds + 1, most + 1):
        if _smallest_detectable(deviation / math.sqrt(count), count - 1) <= size:
            return count
    return None


def verdict(low: float, high: float, margin: float) -> str:
    """What an interval says: a direction where it excludes 0, else whether it is narrow enough."""
    if high < 0:
        return "worse"
    if low > 0:
        return "better"
    return "no_detectable_change" if -margin <= low and high <= margin else "inconclusive"


def _t_interval(center: float, error: float, df: int) -> tuple[float, float, float]:
    """Interval and two-sided p-value of a mean with this standard error."""
    from scipy.special import stdtr, stdtrit  # the t distribution, without all of scipy.stats

    half = float(stdtrit(df, (1 + CONFIDENCE) / 2)) * error
    p_value = 2 * float(stdtr(df, -abs(center) / error))
    return center - half, center + half, p_value


def _smallest_detectable(error: float, df: int) -> float:
    """The true change that a two-sided t-test with this standard error finds with ``POWER``.

    Solved from the noncentral t distribution (Cohen 1988, chapter 2), the tiny chance of a verdict
    in the wrong direction left out.
    """
    from scipy.special import nctdtrinc, stdtrit

    # The noncentrality at which P(t < critical) is 1 - POWER.
    critical = float(stdtrit(df, (1 + CONFIDENCE) / 2))
    return float(nctdtrinc(df, 1 - POWER, critical)) * error
