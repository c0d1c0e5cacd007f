"""Dunnett's distribution: the largest of several t statistics that share baselines and a spread.

Numbers of comparisons, their correlation and degrees of freedom go in; adjusted p-values and
critical values come out. Pure; it knows nothing of variants, seeds or metrics.
"""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Family(NamedTuple):
    """Comparisons with one and the same baseline.

    Attributes
    ----------
    count : how many, 1 or more
    correlation : of any two of their estimates, at least 0 and below 1; the lowest where they
        differ. 0.5 where all sides have as many seeds, and n / (n + m) for n seeds of each variant
        and m of the baseline, as far as the estimates share nothing else
    """

    count: int
    correlation: float


# Families that are alike, counted, in a fixed order: plain values that can be remembered by.
_Families = tuple[tuple[Family, int], ...]

_NORMAL_DF = 1e8  # from here on the t distribution is the normal one, to a millionth of its tail
_HIGHEST_CORRELATION = 0.999  # a finer grid than this one asks for is not worth its time
_REACH = 4.8  # integrals end where what is left out is about exp(-4.8**2) of the whole
_TOLERANCE = 1e-8  # of the tail at a critical value, relative
_MOST_STEPS = 100  # towards a critical value; about seven are needed


def tail(statistic: float, df: float, families: Sequence[Family], *, sides: int = 2) -> float:
    """The adjusted p-value: how likely the largest of all statistics is this large by chance.

    ``P(max |T_i| >= statistic)`` (two-sided) or ``P(max T_i >= statistic)`` (one-sided), where the
    T_i are multivariate t: normal numbers, equally correlated within a family, over one common
    estimate of their standard deviation (C. W. Dunnett, "A multiple comparison procedure for
    comparing several treatments with a control", JASA 50, 1955, 1096-1121).

    Families are taken to depend on each other by that estimate alone. Where their estimates are
    correlated as well, the p-value is too high, never too low: two-sided by the Gaussian
    correlation inequality, whatever the correlations (T. Royen, Far East J. Theor. Stat. 48, 2014,
    139-145), one-sided by Slepian's inequality where none of them is negative (D. Slepian, Bell
    Syst. Tech. J. 41, 1962, 463-501).

    One comparison alone is Student's t. Elsewhere the relative error is below 1e-5 for tails of
    1e-12 or more; smaller ones lie between the unadjusted and Šidák's p-value. Correlations above
    0.999 are taken as 0.999, which is again the careful side.

    Parameters
    ----------
    statistic : any size; infinite too
    df : degrees of freedom of the common estimate, 1 or more, whole or not; infinite where the
        standard deviation is known
    families : one or more, in any order
    sides : 2 or 1

    Returns
    -------
    probability, 0 to 1

    Raises
    ------
    ValueError
        if an argument is outside its range
    """
    known = _checked(df, families, sides)
    if math.isnan(statistic):
        raise ValueError("the statistic is not a number: expected one, which may be infinite")
    return _tail(float(statistic), float(df), known, sides)


def critical_value(alpha: float, df: float, families: Sequence[Family], *, sides: int = 2) -> float:
    """The statistic whose `tail` is *alpha*: beyond it, a change is proven in any of the families.

    Intervals of plus and minus so many standard errors hold for all comparisons at once with
    probability ``1 - alpha``. Accurate to 1e-5 (relative). Results are remembered.

    Parameters
    ----------
    alpha : between 0 and 1
    df, families, sides : as in `tail`

    Raises
    ------
    ValueError
        if an argument is outside its range
    """
    known = _checked(df, families, sides)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha!r}: expected a number between 0 and 1")
    return _critical_value(float(alpha), float(df), known, sides)


def _checked(df: float, families: Sequence[Family], sides: int) -> _Families:
    if sides not in (1, 2):
        raise ValueError(f"sides is {sides!r}: expected 1 or 2")
    if not df >= 1:
        raise ValueError(f"degrees of freedom are {df!r}: expected 1 or more")
    counted: Counter[Family] = Counter()
    for count, correlation in families:
        if operator.index(count) < 1:
            raise ValueError(f"a family has {count} comparisons: expected 1 or more")
        if not 0 <= correlation < 1:
            raise ValueError(f"a correlation is {correlation!r}: expected at least 0, and below 1")
        # One comparison is correlated with no other of its family.
        shared = 0.0 if count == 1 else min(float(correlation), _HIGHEST_CORRELATION)
        counted[Family(int(count), shared)] += 1
    if not counted:
        raise ValueError("there are no families: expected one or more, of one comparison or more")
    return tuple(sorted(counted.items()))


def _comparisons(families: _Families) -> int:
    return sum(family.count * times for family, times in families)


def _tail(statistic: float, df: float, families: _Families, sides: int) -> float:
    """`tail` of checked arguments, kept between bounds that hold for certain.

    The lower one is the p-value of one comparison, the upper one Šidák's (JASA 62, 1967, 626-633).
    """
    alone = _student_tail(statistic, df, sides)
    comparisons = _comparisons(families)
    if comparisons == 1 or alone in (0.0, 1.0):
        return alone
    independent = -math.expm1(comparisons * math.log1p(-alone))
    return min(max(_integrated(statistic, df, families, sides), alone), independent)


def _student_tail(statistic: float, df: float, sides: int) -> float:
    from scipy.special import ndtr, stdtr  # not scipy.stats, which takes long to import

    below = ndtr(-statistic) if df > _NORMAL_DF else stdtr(df, -statistic)
    return min(1.0, sides * float(below))


def _integrated(statistic: float, df: float, families: _Families, sides: int) -> float:
    """The tail as the mean, over the common standard deviation, of the tail that it leaves."""
    import numpy as np

    if df > _NORMAL_DF:
        return float(_normal_tail(np.array([statistic]), families, sides)[0])
    deviations, weights = _deviations(statistic, df, _comparisons(families))
    return float(weights @ _normal_tail(statistic * deviations, families, sides))


def _deviations(statistic: float, df: float, comparisons: int):
    """Values of the common standard deviation, estimated over true, and their weights.

    The trapezoidal rule over its logarithm, for which both the density and the tail are analytic
    and die out at the ends, so that it converges exponentially (L. N. Trefethen and J. A. C.
    Weideman, SIAM Review 56, 2014, 385-458). The density times a far tail, ``exp(-x^2 / 2)``, is
    largest at ``log(df / (df + statistic^2)) / 2``, and falls off slowest to the left, as s^df.
    """
    import numpy as np
    from scipy.special import gammaln

    beyond = max(statistic, 0.0) / math.sqrt(df)
    peak = -math.log(math.hypot(1.0, beyond))
    reach = _REACH / math.sqrt(df)
    step = min(0.55 / math.sqrt(df), 0.25 / (1 + 0.3 * math.log(comparisons)))
    logs = np.arange(peak - reach - reach**2, peak + reach + step, step)
    half = df / 2
    density = math.log(2) + half * math.log(half) - half - gammaln(half)
    return np.exp(logs), step * np.exp(density + df * (logs - np.expm1(2 * logs) / 2))


def _normal_tail(values, families: _Families, sides: int):
    """The tail where the standard deviation is known, at each of the *values* [n]."""
    import numpy as np

    kept = np.zeros_like(values)  # log of the chance that no family goes beyond
    with np.errstate(divide="ignore"):  # log(0): some family surely does
        for family, times in families:
            kept += times * np.log1p(-_family_tail(values, family, sides))
    return -np.expm1(kept)


def _family_tail(values, family: Family, sides: int):
    """One family's part of it: given the number that its comparisons share, they are independent.

    The sum is one of tails, not of one minus them, so that small ones keep their precision.
    """
    import numpy as np
    from scipy.special import ndtr

    shared, weights = _shared_normal(family)
    own = math.sqrt(1 - family.correlation)
    beyond = ndtr((shared - values[:, None]) / own)
    if sides == 2:  # the shared number is symmetric, but each of its values is not
        beyond += ndtr((-shared - values[:, None]) / own)
    with np.errstate(divide="ignore"):
        any_beyond = -np.expm1(family.count * np.log1p(-np.minimum(beyond, 1.0)))
    return np.minimum(any_beyond @ weights, 1.0)


@functools.lru_cache(maxsize=256)
def _shared_normal(family: Family):
    """Values of the normal number that a family's comparisons share, and their weights."""
    import numpy as np

    if family.correlation == 0:
        return np.zeros(1), np.ones(1)
    step = 0.8 * math.sqrt(1 - family.correlation) / (1 + 0.15 * math.log(family.count))
    grid = np.arange(-9.0, 9.0 + step, step)
    weights = np.exp(-(grid**2) / 2)
    return math.sqrt(family.correlation) * grid, weights / weights.sum()


@functools.lru_cache(maxsize=4096)
def _critical_value(alpha: float, df: float, families: _Families, sides: int) -> float:
    """Solved between the value for one comparison and Šidák's for independent ones."""
    comparisons = _comparisons(families)
    low = _student_quantile(alpha, df, sides)
    if comparisons == 1:
        return low
    high = _student_quantile(-math.expm1(math.log1p(-alpha) / comparisons), df, sides)
    return _root(lambda value: math.log(_tail(value, df, families, sides) / alpha), low, high)


def _student_quantile(alpha: float, df: float, sides: int) -> float:
    from scipy.special import ndtri, stdtrit

    return -float(ndtri(alpha / sides) if df > _NORMAL_DF else stdtrit(df, alpha / sides))


def _root(function, low: float, high: float) -> float:
    """Where a falling function is 0, by the Illinois method (Dowell and Jarratt, BIT 11, 1971).

    Here, and not from scipy.optimize, whose import takes longer than a hundred critical values.
    """
    at_low, at_high = function(low), function(high)
    if at_low <= 0 or at_high >= 0:  # the bounds are sharp, but for rounding
        return low if at_low <= 0 else high
    kept_low = kept_high = False
    for _ in range(_MOST_STEPS):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        at_middle = function(middle)
        if abs(at_middle) <= _TOLERANCE:
            break
        if at_middle > 0:
            low, at_low = middle, at_middle
            at_high /= 2 if kept_high else 1  # an end that stays pulls less, so that it moves too
            kept_low, kept_high = False, True
        else:
            high, at_high = middle, at_middle
            at_low /= 2 if kept_low else 1
            kept_low, kept_high = True, False
    return middle
