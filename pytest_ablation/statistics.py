"""Means, paired deltas, intervals and verdicts: pure functions of numbers by seed.

The replicate is the seed. Values by seed go in, small frozen results come out; nothing here knows
about records, pytest or reports. Many deltas of one study at once: comparisons.py.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_ablation.crossed import ExampleSpread, combined
from pytest_ablation.many_to_one import Family, critical_value, tail

CONFIDENCE = 0.95
POWER = 0.80
VERDICTS = ("worse", "better", "no_detectable_change", "inconclusive")
_NO_SPREAD = 1e-12  # relative to the values: differences that agree but for rounding
_ALONE = (Family(1, 0.0),)


@dataclass(frozen=True)
class Precision:
    """How exactly the mean of differences is known.

    Attributes
    ----------
    variance : of the difference of one pair of runs
    df : its degrees of freedom, of which *borrowed* came from other rows of the study
    seeds : how many pairs
    alpha : the error rate of the interval, over all *families*
    families : the comparisons that share that error rate
    examples : what the choice of test examples adds; None where that is not asked for
    """

    variance: float
    df: float
    seeds: int
    borrowed: float = 0.0
    alpha: float = 1 - CONFIDENCE
    families: tuple[Family, ...] = _ALONE
    examples: ExampleSpread | None = None

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return max(math.sqrt(variance) for variance, _ in self._ways(self.seeds))

    @property
    def half_width(self) -> float:
        """Of the interval around the mean."""
        return max(
            critical_value(self.alpha, df, self.families) * math.sqrt(variance)
            for variance, df in self._ways(self.seeds)
        )

    def p_value(self, center: float) -> float:
        """Two-sided, for "no change", adjusted for the families."""
        return max(
            tail(abs(center) / math.sqrt(variance), df, self.families)
            for variance, df in self._ways(self.seeds)
            if variance
        )

    def smallest_detectable(self, seeds: int | None = None) -> float:
        """The true change that is found with ``POWER``, with these seeds or with another number.

        Solved from the noncentral t distribution (Cohen 1988, chapter 2), the tiny chance of a
        verdict in the wrong direction left out.
        """
        from scipy.special import nctdtrinc

        sizes = []
        for variance, df in self._ways(self.seeds if seeds is None else seeds):
            critical = critical_value(self.alpha, df, self.families)
            # The noncentrality at which P(t < critical) is 1 - POWER.
            sizes.append(float(nctdtrinc(df, 1 - POWER, critical)) * math.sqrt(variance))
        return max(sizes)

    def _ways(self, seeds: int) -> list[tuple[float, float]]:
        """Variance of the mean over *seeds* pairs and its degrees of freedom.

        With test examples once without and once with them: the second can have so many more degrees
        of freedom that its interval would be the narrower one, and the wider one counts.
        """
        alone = self.variance / seeds, self.df + seeds - self.seeds
        return [alone] if self.examples is None else [alone, combined(*alone, self.examples)]


@dataclass(frozen=True)
class Delta:
    """A change of one metric, variant minus baseline, paired by seed.

    Attributes
    ----------
    value : mean of the paired differences (a fraction; -0.012 is 1.2 points down)
    low, high : ends of the interval; infinite with fewer than two pairs, which bound nothing
    p_value : two-sided, for "no change", adjusted as the interval is; None with fewer than two
        pairs or without any spread
    smallest_detectable : the size of change that as many seeds with this spread would find in four
        of five studies; None likewise
    verdict : ``worse``, ``better``, ``no_detectable_change`` or ``inconclusive``, which it also is
        where nothing is known of the spread because the difference is the same for every seed;
        None with fewer than two pairs
    by_seed : seed to difference
    precision : what the interval was made of; None likewise
    """

    value: float
    low: float
    high: float
    p_value: float | None
    smallest_detectable: float | None
    verdict: str | None
    by_seed: Mapping[int, float] = field(default_factory=dict)
    precision: Precision | None = None

    @property
    def n_seeds(self) -> int:
        return len(self.by_seed)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Delta:
        """The inverse of ``dataclasses.asdict`` after a way through JSON."""
        by_seed = {int(seed): value for seed, value in content["by_seed"].items()}
        told = content["precision"]
        precision = None
        if told is not None:
            families = tuple(Family(*family) for family in told["families"])
            examples = told["examples"] and ExampleSpread(*told["examples"])
            precision = Precision(**{**told, "families": families, "examples": examples})
        return cls(**{**content, "by_seed": by_seed, "precision": precision})


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean, exactly rounded (so that the order of seeds does not matter)."""
    try:
        return math.fsum(values) / len(values) if values else None
    except OverflowError:  # the sum is too large for a float, the mean is not
        return statistics.mean(values)


def standard_deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1), None with fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def differences(variant: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """Seed to variant minus baseline, for the seeds that both have."""
    return {seed: variant[seed] - baseline[seed] for seed in sorted(set(variant) & set(baseline))}


def paired_delta(
    variant: Mapping[int, float],
    baseline: Mapping[int, float],
    *,
    margin: float,
    higher_is_better: bool = True,
) -> Delta | None:
    """The delta over the seeds that both have; None if they share none.

    The interval is Student's t interval of the paired differences (as ``scipy.stats.ttest_rel``).

    Parameters
    ----------
    variant, baseline : seed to metric value
    margin : a change inside ``[-margin, margin]`` does not matter
    """
    by_seed = differences(variant, baseline)
    spread = standard_deviation(list(by_seed.values()))
    if spread is None:
        precision = None
    else:  # a product, for a power that no float holds is an error
        precision = Precision(spread * spread, len(by_seed) - 1, len(by_seed))
    return delta_of(
        by_seed,
        precision,
        margin=margin,
        higher_is_better=higher_is_better,
        size=size_of([variant, baseline]),
    )


def size_of(sides: Iterable[Mapping[int, float]]) -> float:
    """The largest value of all, without its sign; 1 where that is less."""
    return max([1.0, *(abs(value) for side in sides for value in side.values())])


def delta_of(
    by_seed: Mapping[int, float],
    precision: Precision | None,
    *,
    margin: float,
    higher_is_better: bool = True,
    size: float = 1.0,
) -> Delta | None:
    """The delta of these differences, known as exactly as *precision* says; None without any.

    Parameters
    ----------
    precision : None with fewer than two differences
    margin : a change inside ``[-margin, margin]`` does not matter
    size : of the values that were subtracted, 1 or more; what rounding makes of them is no spread
    """
    center = mean(list(by_seed.values()))
    if center is None:
        return None
    if precision is None:
        return Delta(center, -math.inf, math.inf, None, None, None, by_seed)
    if precision.error < _NO_SPREAD * size:
        # Values on a grid (accuracies) can agree by chance: that says nothing about their spread.
        return Delta(center, center, center, None, None, "inconclusive", by_seed)
    low, high = center - precision.half_width, center + precision.half_width
    return Delta(
        value=center,
        low=low,
        high=high,
        p_value=precision.p_value(center),
        smallest_detectable=precision.smallest_detectable(),
        verdict=verdict(low, high, margin, higher_is_better=higher_is_better),
        by_seed=by_seed,
        precision=precision,
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
    for count in range(delta.n_seeds + 1, most + 1):
        if delta.precision.smallest_detectable(count) <= size:
            return count
    return None


def verdict(low: float, high: float, margin: float, *, higher_is_better: bool = True) -> str:
    """What an interval says: a direction where it excludes 0, else whether it is narrow enough."""
    if high < 0:
        return "worse" if higher_is_better else "better"
    if low > 0:
        return "better" if higher_is_better else "worse"
    return "no_detectable_change" if -margin <= low and high <= margin else "inconclusive"
