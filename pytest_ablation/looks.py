"""Looks at growing data: at how many seeds to look, and what of alpha each look may spend.

Numbers of seeds and an error rate go in, a plan comes out. Pure; nothing here knows about studies,
gates or what is tested at a look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def look_sizes(first: int, most: int) -> tuple[int, ...]:
    """How many seeds there are at each look: *first*, then twice as many each time, up to *most*.

    Where *most* is less than one and a half times the next look's, that look is left out: it would
    spend a part of alpha shortly before the last one. So every step is at least as large as the
    step before it.

    Parameters
    ----------
    first : seeds at the first look, 1 or more
    most : seeds at the last look, *first* or more

    Raises
    ------
    ValueError
        if *first* is below 1, or *most* below *first*

    Examples
    --------
    >>> look_sizes(3, 12), look_sizes(5, 12)
    ((3, 6, 12), (5, 12))
    """
    if not 1 <= first <= most:
        raise ValueError(
            f"looks from {first} to {most} seeds: expected 1 seed or more at the first look, and "
            "at the last one no fewer than at the first"
        )
    sizes = [first]
    while most >= 3 * sizes[-1]:
        sizes.append(2 * sizes[-1])
    if most > sizes[-1]:
        sizes.append(most)
    return tuple(sizes)


def spent(alpha: float, fraction: float) -> float:
    """The part of *alpha* that may be spent by the time that this *fraction* of the data is there.

    ``alpha * ln(1 + (e - 1) * fraction)``, which spends about as much at each of several equally
    spaced looks, as Pocock's constant boundary does (K. K. G. Lan and D. L. DeMets, "Discrete
    sequential boundaries for clinical trials", Biometrika 70, 1983, 659-663).

    Parameters
    ----------
    alpha : the error rate over all looks, between 0 and 1
    fraction : of the data of the last look, 0 to 1

    Raises
    ------
    ValueError
        if *alpha* or *fraction* is outside its range
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha!r}: expected a number between 0 and 1")
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction of the data is {fraction!r}: expected 0 to 1")
    return alpha * math.log1p(math.expm1(1) * fraction)


def alphas(sizes: Sequence[int], alpha: float) -> tuple[float, ...]:
    """The error rate of each look; they add up to *alpha*.

    They are what `spent` grows by from look to look. Tests at these levels are wrong at any look
    with a probability of at most *alpha* by the union bound, which holds however the looks depend
    on each other, on what was seen at earlier ones, and on when one stops. So do intervals of
    confidence one minus these levels, taken at every look, cover at all looks at once: repeated
    confidence intervals (C. Jennison and B. W. Turnbull, J. R. Stat. Soc. B 51, 1989, 305-361;
    *Group Sequential Methods*, 2000, chapters 7 and 9). The price is a slightly wider interval than
    that from the joint distribution of the looks, which would have to be known.

    Parameters
    ----------
    sizes : seeds at each look, 1 or more, each above the one before
    alpha : the error rate over all looks, between 0 and 1

    Raises
    ------
    ValueError
        if there are no sizes, if they do not rise from 1 or more, or *alpha* is outside its range
    """
    if not sizes or sizes[0] < 1 or any(after <= before for before, after in pairwise(sizes)):
        raise ValueError(
            f"seeds at the looks are {list(sizes)}: expected numbers from 1 on, each above the one "
            "before, such as look_sizes() gives"
        )
    spending = [spent(alpha, size / sizes[-1]) for size in sizes]
    return tuple(after - before for before, after in pairwise([0.0, *spending]))
