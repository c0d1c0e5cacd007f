"""Did a metric fall? Runs of new code against runs of a reference: pure functions of numbers.

Values of one metric by row and seed go in, for both sides; a change with an interval per row comes
out, and one for the mean over all rows. Knows nothing of files, plans or pytest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_ablation.comparisons import PRIOR_DF, is_larger, most_alike, shrunken
from pytest_ablation.many_to_one import Family, critical_value
from pytest_ablation.statistics import POWER, differences, mean

BySeed = Mapping[int, float]

#: By how much runs of one seed are taken to agree, to choose between pairs and means before any
#: value is looked at (measured by benchmarks/gate_calibration.py on small changes of code).
TYPICAL_CORRELATION = 0.3

_NO_SPREAD = 1e-12  # a standard deviation of values that agree but for rounding


@dataclass(frozen=True)
class Sides:
    """The values of a row by seed, ``new`` (this session's) and ``old`` (the reference's)."""

    new: BySeed
    old: BySeed

    def turned(self) -> Sides:
        """The same with the sign turned round, for metrics that are better when lower."""
        return Sides(*({seed: -v for seed, v in side.items()} for side in (self.new, self.old)))


@dataclass(frozen=True)
class Change:
    """New minus old of one row or of their mean.

    Attributes
    ----------
    low, high : each bound alone misses with the error rate that was asked for; infinite where too
        few runs bound nothing
    paired : whether runs were compared seed by seed
    missed : the drop that such runs would have shown to be beyond the margin four times out of
        five; None where nothing is bounded
    """

    delta: float
    low: float
    high: float
    paired: bool
    missed: float | None

    def turned(self) -> Change:
        return Change(-self.delta, -self.high, -self.low, self.paired, self.missed)


def changes(
    rows: Mapping[str, Sides],
    *,
    alpha: float,
    margin: float,
    unchanged: Mapping[str, BySeed] | None = None,
) -> dict[str, Change]:
    """The change of each row, the bounds holding for all rows together with error rate *alpha*.

    Rows are compared seed by seed, or by their means where the seeds at hand make that sharper,
    which is chosen by their numbers alone. A row's variance is shrunken toward that of the others
    (:func:`pytest_ablation.comparisons.shrunken`); the bounds are Dunnett's for independent
    comparisons, one-sided.

    Parameters
    ----------
    rows : those that changed, each with a value on either side
    unchanged : values of rows that are the same on both sides, which tell of the spread of runs
    """
    found = {}
    families = tuple([Family(1, 0.0)] * len(rows))
    for name, sides in rows.items():
        others = [other for key, other in rows.items() if key != name]
        paired = _paired_spread(sides, others)
        by_means = _spread_of_means(sides, others, unchanged or {})
        # Differences that agree for every seed do so by chance: they tell nothing of their spread.
        is_sharper = paired.expected_width < by_means.expected_width
        is_paired = is_sharper and math.sqrt(paired.variance) > _NO_SPREAD
        spread = paired if is_paired else by_means
        found[name] = _change(sides, spread, is_paired, alpha, margin, families)
    return found


def change_of_means(rows: Mapping[str, Sides], *, alpha: float, margin: float) -> Change | None:
    """The change of the mean over all rows, seed by seed; None where no seed has all rows.

    A mistake that touches every row shows here with far fewer runs than in any single one.
    """
    sides = Sides(
        _means_by_seed([side.new for side in rows.values()]),
        _means_by_seed([side.old for side in rows.values()]),
    )
    if not sides.new or not sides.old:
        return None
    return changes({"": sides}, alpha=alpha, margin=margin)[""]


@dataclass(frozen=True)
class _Spread:
    """The variance of a mean change, and how wide its interval is before any value is seen."""

    variance: float
    df: float
    expected_width: float


def _paired_spread(sides: Sides, others: list[Sides]) -> _Spread:
    own = list(differences(sides.new, sides.old).values())
    rest = [list(differences(other.new, other.old).values()) for other in others]
    per_run = 1 / len(own) if own else math.inf
    return _spread([own], rest, per_run=per_run, typical=2 * (1 - TYPICAL_CORRELATION))


def _spread_of_means(sides: Sides, others: list[Sides], unchanged: Mapping[str, BySeed]) -> _Spread:
    own = [list(sides.new.values()), list(sides.old.values())]
    rest = [list(side.values()) for other in others for side in (other.new, other.old)]
    rest += [list(by_seed.values()) for by_seed in unchanged.values()]
    return _spread(own, rest, per_run=sum(1 / len(side) for side in own), typical=1.0)


def _spread(
    own: list[list[float]], rest: list[list[float]], *, per_run: float, typical: float
) -> _Spread:
    from scipy.special import stdtrit

    squares, df = _squares(own)
    if df < 1:
        return _Spread(math.inf, 0.0, math.inf)
    expected_df = df + min(PRIOR_DF, _squares(rest)[1])
    width = math.sqrt(typical * per_run) * float(stdtrit(expected_df, 1 - 0.05))
    # Rows that never vary, a metric at its limit say, tell nothing of the spread of those that do.
    rest = _alike([values for values in rest if _varies(values)])
    rest_squares, rest_df = _squares(rest)
    if is_larger((squares, df), (rest_squares, rest_df)):
        rest_squares, rest_df = 0.0, 0.0
    if len(rest) == 1 and squares > 0:  # nothing else tells whether it is like the others
        rest_squares = min(rest_squares, most_alike(squares, df, rest_df))
    variance, borrowed = shrunken(squares, df, rest_squares, rest_df)
    return _Spread(variance * per_run, df + borrowed, width)


def _alike(groups: list[list[float]]) -> list[list[float]]:
    """Without those that vary more than all others together, as in ``comparisons.compare``."""
    while len(groups) > 1:
        larger = {
            number: _squares([values])[0]
            for number, values in enumerate(groups)
            if is_larger(_squares([values]), _squares(groups[:number] + groups[number + 1 :]))
        }
        if not larger:
            break
        groups = [g for n, g in enumerate(groups) if n != max(larger, key=larger.__getitem__)]
    return groups


def _squares(groups: Iterable[list[float]]) -> tuple[float, float]:
    """Sum of squares around the groups' own means, and its degrees of freedom."""
    squares, df = [], 0
    for values in groups:
        center = mean(values)
        squares += [(value - center) ** 2 for value in values]
        df += max(0, len(values) - 1)
    return math.fsum(squares), float(df)


def _varies(values: list[float]) -> bool:
    return len(values) > 1 and max(values) - min(values) > _NO_SPREAD


def _change(
    sides: Sides,
    spread: _Spread,
    is_paired: bool,
    alpha: float,
    margin: float,
    families: tuple[Family, ...],
) -> Change:
    shared = list(differences(sides.new, sides.old).values())
    center = mean(list(sides.new.values())) - mean(list(sides.old.values()))
    if is_paired:
        center = mean(shared)
    if not math.isfinite(spread.variance):
        return Change(center, -math.inf, math.inf, False, None)
    from scipy.special import nctdtrinc

    error = math.sqrt(spread.variance)
    critical = critical_value(alpha, spread.df, families, sides=1)
    half = critical * error
    missed = margin + float(nctdtrinc(spread.df, 1 - POWER, critical)) * error
    return Change(center, center - half, center + half, is_paired, missed)


def _means_by_seed(rows: list[BySeed]) -> dict[int, float]:
    shared = set.intersection(*(set(by_seed) for by_seed in rows))
    return {seed: mean([by_seed[seed] for by_seed in rows]) for seed in sorted(shared)}
