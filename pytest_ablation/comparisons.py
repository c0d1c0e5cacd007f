"""All comparisons of a study in one metric at once: seeds as blocks, spread shared between rows.

Values by row and seed go in, a delta per comparison comes out, with intervals and p-values that
hold for all of them together. Knows nothing of plans, records or reports.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from pytest_ablation.crossed import ExampleSpread
from pytest_ablation.many_to_one import Family
from pytest_ablation.statistics import (
    CONFIDENCE,
    Delta,
    Precision,
    delta_of,
    differences,
    mean,
    size_of,
)

Pair = tuple[str, str]  # variant, baseline
BySeed = Mapping[int, float]

#: What the other rows' spread weighs beside a row's own, in degrees of freedom (as many as two
#: more seeds and their baselines give). Chosen on real runs by benchmarks/gate_calibration.py.
PRIOR_DF = 4.0
#: A row whose spread chance explains less often than this has no part in that of other rows.
UNLIKE = 0.01


def compare(
    rows: Mapping[str, BySeed],
    pairs: Sequence[Pair],
    *,
    margin: float,
    alpha: float = 1 - CONFIDENCE,
    higher_is_better: bool = True,
    examples: Mapping[Pair, ExampleSpread] | None = None,
) -> dict[Pair, Delta | None]:
    """The delta of each pair; None for a pair that shares no seed.

    A pair's variance is its own, shrunken toward that of the rest of the study: with d differences
    and the residual variance of the additive model *row + seed* (Montgomery, *Design and Analysis
    of Experiments*, randomized complete block design) without the pair's own part, which is
    independent of it, the mean of both weighted by degrees of freedom, where the rest counts
    ``PRIOR_DF`` at most (G. Smyth, *Stat. Appl. Genet. Mol. Biol.* 3, 2004, equation for the
    posterior variance). Where one pair is all there is, that is the paired t-test.

    Rows of the rest that vary more than the others of it (F-test at ``UNLIKE``) are left out, for
    one variant that collapses at some seeds would else hide the changes of all others. A pair that
    varies more than all others itself has its own variance alone. Where the rest is one row, it
    counts as far as chance explains its spread by the pair's (at ``UNLIKE`` too).

    Intervals and p-values are simultaneous over the pairs (Dunnett 1955; see many_to_one.py).

    Parameters
    ----------
    rows : model to its values by seed; unequal seeds are fine. Each model once.
    pairs : of names in *rows*, each once
    margin : a change inside ``[-margin, margin]`` does not matter
    alpha : the chance that any of the intervals misses its true change
    examples : what the choice of test examples adds to a pair's variance, where that is to count
    """
    by_pair = {pair: differences(*(rows[name] for name in pair)) for pair in pairs}
    counted = {pair: by_seed for pair, by_seed in by_pair.items() if len(by_seed) > 1}
    families = _families(counted)
    taking_part = {name for pair in counted for name in pair}
    table = _Table({name: rows[name] for name in sorted(taking_part)})
    deltas = {}
    for pair, by_seed in by_pair.items():
        precision = None
        if pair in counted:
            variance, borrowed = table.variance(pair, by_seed)
            precision = Precision(
                variance=variance,
                df=len(by_seed) - 1 + borrowed,
                seeds=len(by_seed),
                borrowed=borrowed,
                alpha=alpha,
                families=families,
                examples=None if examples is None else examples.get(pair),
            )
        deltas[pair] = delta_of(
            by_seed,
            precision,
            margin=margin,
            higher_is_better=higher_is_better,
            size=size_of(rows[name] for name in pair),
        )
    return deltas


def shrunken(own: float, own_df: float, rest: float, rest_df: float) -> tuple[float, float]:
    """A variance from two independent sums of squares of the same scale, and what it borrowed.

    Parameters
    ----------
    own, own_df : the sum of squares of what the variance is of, and its degrees of freedom
    rest, rest_df : those of the others, which count ``PRIOR_DF`` degrees of freedom at most

    Returns
    -------
    variance : float
    borrowed : the degrees of freedom that came from the others
    """
    borrowed = max(0.0, min(PRIOR_DF, rest_df))
    others = borrowed * rest / rest_df if borrowed else 0.0
    return (own + others) / (own_df + borrowed), borrowed


def residuals(rows: Mapping[str, BySeed]) -> tuple[float, float]:
    """Sum of squares of what *row + seed* does not explain, and its degrees of freedom.

    Least squares over the cells that there are, by the normal equations of the seeds after each
    row's mean is taken off; complete tables are a randomized block design. Infinite where no float
    holds the sum, which proves nothing.
    """
    import numpy as np

    if not rows:
        return 0.0, 0.0
    seeds = sorted(set().union(*rows.values()))
    values = np.array([[by_seed.get(seed, np.nan) for seed in seeds] for by_seed in rows.values()])
    there = (~np.isnan(values)).astype(float)
    counts = there.sum(axis=1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.where(there, values - np.nansum(values / counts, axis=1, keepdims=True), 0.0)
        equations = np.diag(there.sum(axis=0)) - (there / counts).T @ there
        effects, _, rank, _ = np.linalg.lstsq(equations, values.sum(axis=0), rcond=None)
        left = values - there * (effects - there @ effects[:, None] / counts)
        squares = float((left * left).sum())
    df = counts.sum() - len(rows) - rank
    return math.inf if math.isnan(squares) else squares, float(df)


class _Table:
    """The runs of a study in one metric, and what *row + seed* leaves of parts of it."""

    def __init__(self, rows: Mapping[str, BySeed]) -> None:
        self._rows = rows
        self._known: dict[frozenset[str], tuple[float, float]] = {}

    def variance(self, pair: Pair, by_seed: BySeed) -> tuple[float, float]:
        """Of a difference of *pair*, and the degrees of freedom borrowed from other rows."""
        own, own_df = _squares(list(by_seed.values())), len(by_seed) - 1
        names = self._alike(pair, own, own_df)
        has_one_other = len(names.difference(pair)) == 1
        # One row alone has no residuals: there the baseline is needed beside it.
        others = self._residuals(names - {pair[0]} if has_one_other else names.difference(pair))
        # The residuals are those of single runs; of differences the variance is twice that.
        if is_larger((own / 2, own_df), others):
            return own / own_df, 0.0
        squares, df = self._residuals(names)
        rest, rest_df = max(0.0, 2 * squares - own), df - own_df
        if has_one_other and own > 0:  # nothing else tells whether it is like the others
            rest = min(rest, most_alike(own, own_df, rest_df))
        return shrunken(own, own_df, rest, rest_df)

    def _alike(self, pair: Pair, own: float, own_df: float) -> frozenset[str]:
        """The pair and the rows that vary as much as the rest of these do.

        What a row adds to the residuals is independent of those without it, of the pair's own
        differences too, so that leaving rows out does not favour any size of the latter.
        """
        names = frozenset(self._rows)
        while others := names.difference(pair):
            squares, df = self._residuals(names)
            added = {}
            for name in sorted(others):
                without, without_df = self._residuals(names - {name})
                of_row = max(0.0, squares - without), df - without_df
                if is_larger(of_row, (max(0.0, without - own / 2), without_df - own_df)):
                    added[name] = of_row[0] / of_row[1]
            if not added:
                break
            names -= {max(added, key=added.__getitem__)}
        return names

    def _residuals(self, names: Iterable[str]) -> tuple[float, float]:
        names = frozenset(names)
        if names not in self._known:
            part = {name: self._rows[name] for name in self._rows if name in names}
            self._known[names] = residuals(part)
        return self._known[names]


def most_alike(squares: float, df: float, other_df: float) -> float:
    """The largest sum of squares that chance explains beside one of the same variance."""
    from scipy.special import fdtri

    return squares / df * other_df * float(fdtri(other_df, df, 1 - UNLIKE)) if other_df else 0.0


def is_larger(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether the first of two sums of squares, each with its degrees of freedom, varies more."""
    from scipy.special import fdtrc  # not scipy.stats, which takes long to import

    (squares, df), (other_squares, other_df) = one, other
    if df <= 0 or other_df <= 0 or not squares > 0 or other_squares == math.inf:
        return False
    if other_squares == 0 or squares == math.inf:
        return True
    return bool(fdtrc(df, other_df, squares / df / (other_squares / other_df)) < UNLIKE)


def _squares(values: Sequence[float]) -> float:
    center = mean(values)
    try:
        return math.fsum((value - center) * (value - center) for value in values)
    except OverflowError:
        return math.inf


def _families(counted: Mapping[Pair, BySeed]) -> tuple[Family, ...]:
    """The pairs by baseline; two of a family share its runs, which correlates their deltas.

    Where seeds are unequal the smallest correlation stands for all, which widens the intervals.
    """
    families = []
    for baseline in sorted({pair[1] for pair in counted}):
        seeds = [set(by_seed) for pair, by_seed in counted.items() if pair[1] == baseline]
        correlations = [
            len(one & other) / (2 * math.sqrt(len(one) * len(other)))
            for one, other in itertools.combinations(seeds, 2)
        ]
        families.append(Family(len(seeds), min(correlations, default=0.0)))
    return tuple(sorted(families))
