"""Seeds and test examples as two crossed samples: what the choice of examples adds to the variance.

Differences by seed and example go in, a variance with its degrees of freedom comes out. Pure; it
knows nothing of metrics, and not how the seeds' own part of the variance is estimated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_ROUNDING = 1e-12  # relative: a spread below this is that of floating point alone


class ExampleSpread(NamedTuple):
    """What the choice of test examples adds to the variance of the mean difference.

    Attributes
    ----------
    variance : of the mean, in squared units of the differences; 0 or more
    df : degrees of freedom of that estimate, 1 or more
    """

    variance: float
    df: float


def example_spread(differences) -> ExampleSpread:
    """What the choice of test examples adds, from a table of differences without replication.

    With random effects of seed and example, ``difference = delta + seed + example + rest``, the
    mean over n seeds and m examples has the variance

        (MS_seeds + MS_examples - MS_rest) / (n m)

    in mean squares of the two-way analysis of variance. ``MS_seeds / (n m)`` is the usual variance
    of a mean over seeds, and speaks of new seeds on the same examples. This is the remainder,
    ``max(0, MS_examples - MS_rest) / (n m)``, with which it speaks of new examples as well. One
    seed cannot tell examples from the rest: then it is ``MS_examples / m``, which holds both, with
    m - 1 degrees of freedom.

    The degrees of freedom are F. E. Satterthwaite's (Biometrics Bulletin 2, 1946, 110-114), but
    never below 1: of a difference that is nearly zero they would say that nothing is known, while
    it is known to be small.

    Parameters
    ----------
    differences : array-like [seeds n, examples m], variant minus baseline, n >= 1 and m >= 2

    Raises
    ------
    ValueError
        if the shape is another, or a number is not finite

    References
    ----------
    A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007, 386-411, for the
    variance of a mean over two crossed samples; H. H. Clark, "The language-as-fixed-effect
    fallacy", J. Verbal Learning and Verbal Behavior 12, 1973, 335-359, for why it matters.
    """
    table = _checked(differences)
    seeds, examples = table.shape
    size = abs(table).max()
    if size == 0:
        return ExampleSpread(0.0, examples - 1.0)
    table = table / size  # neither tiny nor huge numbers then leave the range of floats
    by_example = table.mean(axis=0)
    of_examples = seeds * by_example.var(ddof=1)
    if of_examples <= seeds * _ROUNDING**2:
        return ExampleSpread(0.0, examples - 1.0)
    of_rest = 0.0
    if seeds > 1:
        rest = table - table.mean(axis=1, keepdims=True) - by_example + table.mean()
        of_rest = (rest**2).sum() / ((seeds - 1) * (examples - 1))
    share = 1 - of_rest / of_examples  # of the examples' mean square, what is theirs alone
    if share <= _ROUNDING:
        return ExampleSpread(0.0, examples - 1.0)
    noise = 1 + ((1 - share) ** 2 / (seeds - 1) if seeds > 1 else 0)
    variance = share * of_examples / (seeds * examples) * size * size
    return ExampleSpread(float(variance), max(1.0, float(share**2 * (examples - 1) / noise)))


def combined(seed_variance: float, seed_df: float, examples: ExampleSpread) -> tuple[float, float]:
    """Variance of the mean for new seeds and new examples, and its degrees of freedom.

    The two parts are independent (for normal effects), so that their variances add up, and
    Satterthwaite's degrees of freedom hold for the sum. They are never fewer than the fewer of the
    two, nor more than both together.

    With few seeds these are an approximation, and its intervals can be narrower than those of the
    seeds alone, for more degrees of freedom ask for fewer standard errors. A claim about more than
    the seeds should not be the bolder one: take the wider of the two intervals, and the larger of
    the two p-values. Simulated at 2 to 12 seeds and 30 to 300 examples (20,000 studies each, 95 %),
    that covers 94.6 % to 97.3 %; this variance alone covers 92.9 % to 96.8 %, the seeds' own 48.5 %
    to 95.2 %.

    Parameters
    ----------
    seed_variance : of the mean over the seeds, in squared units of the differences; 0 or more
    seed_df : its degrees of freedom, above 0; may be infinite
    examples : ExampleSpread

    Raises
    ------
    ValueError
        if a variance is negative or not finite, or degrees of freedom are not above 0
    """
    for variance, df in ((seed_variance, seed_df), examples):
        if not (0 <= variance < math.inf and df > 0):
            raise ValueError(
                f"a variance of {variance!r} with {df!r} degrees of freedom: expected a finite "
                "variance of 0 or more, and degrees of freedom above 0"
            )
    total = seed_variance + examples.variance
    if examples.variance == 0:
        return float(total), float(seed_df)
    share = examples.variance / total
    inverse = (1 - share) ** 2 / seed_df + share**2 / examples.df
    return float(total), 1 / inverse if inverse > 0 else math.inf


def _checked(differences):
    """The table as floats, shifted to begin at 0 so that a large constant costs no precision."""
    import numpy as np

    table = np.asarray(differences, dtype=float)
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] < 2:
        raise ValueError(
            f"differences have the shape {list(table.shape)}: expected [seeds, examples], one seed "
            "or more and two examples or more"
        )
    if not np.isfinite(table).all():
        raise ValueError("differences hold numbers that are not finite: expected finite ones")
    return table - table[0, 0]
