"""How the axes of a grid go together: means along one axis, and the best value of one per another.

A grid's result goes in, means by seed and their differences come out, for sentences and for what to
try next. Pure; it knows no words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_ablation.grid_results import GridResult, Place, is_told_apart
from pytest_ablation.grids import Axis
from pytest_ablation.statistics import Delta, mean, paired_delta

BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Means:
    """The metric at places on some of the axes: means over the values of the others.

    Attributes
    ----------
    by_place : place on the axes in question to seed to mean; empty where no combination of the
        others' values has results at all of these places
    averaged, of : over how many combinations of the others' values, and how many there are
    """

    by_place: Mapping[Place, BySeed]
    averaged: int
    of: int


@dataclass(frozen=True)
class Levels:
    """The metric at the values of one axis, two or more of them.

    Attributes
    ----------
    axis : Axis
    by_level : index of the value to seed to metric; from the lowest to the highest number where
        ``is_ordered``, else as the grid has them
    margin : a difference inside ``[-margin, margin]`` does not matter
    is_ordered : whether the values are numbers
    """

    axis: Axis
    by_level: Mapping[int, BySeed]
    margin: float
    is_ordered: bool

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(self.by_level)

    @property
    def best(self) -> int:
        """The value of the highest mean; of equal ones the first."""
        return max(self.order, key=self.mean)

    @property
    def lead(self) -> tuple[int, Delta] | None:
        """The second best value, and by how much the best one is ahead; None for one value."""
        others = [level for level in self.order if level != self.best]
        if not others:
            return None
        second = max(others, key=self.mean)
        return second, self.difference(self.best, second)

    @property
    def seeds(self) -> int:
        return len(self.by_level[self.order[0]])

    @property
    def shape(self) -> str:
        """How the means go: ``rises``, ``falls``, ``peaks`` between the ends, or ``varies``."""
        if not self.is_ordered:
            return "varies"
        means = [self.mean(level) for level in self.order]
        ups = [after > before for before, after in pairwise(means)]
        downs = [after < before for before, after in pairwise(means)]
        top = self.order.index(self.best)
        if all(ups):
            return "rises"
        if all(downs):
            return "falls"
        return "peaks" if all(ups[:top]) and all(downs[top:]) else "varies"

    def mean(self, level: int) -> float:
        return mean(list(self.by_level[level].values()))

    def difference(self, one: int, other: int) -> Delta:
        """The value *one* minus the value *other*, paired by seed."""
        return paired_delta(self.by_level[one], self.by_level[other], margin=self.margin)


def axis_means(result: GridResult, *axes: int) -> Means:
    """The metric at each place on these axes that has results.

    Only those combinations of the others' values count that have results at all these places, so
    that each mean is over the same ones (marginal means of a balanced design: Montgomery, *Design
    and Analysis of Experiments*, section 5.3).
    """
    others = [number for number in range(len(result.grid.axes)) if number not in axes]
    cells: dict[tuple[Place, Place], BySeed] = {}
    for cell in result.ranked:
        place = result.grid.cells[cell.name]
        cells[_part(place, axes), _part(place, others)] = cell.values
    places = sorted({own for own, _ in cells})
    rests = sorted({rest for _, rest in cells})
    whole = [rest for rest in rests if all((place, rest) in cells for place in places)]
    by_place = {
        place: {seed: mean([cells[place, rest][seed] for rest in whole]) for seed in result.seeds}
        for place in (places if whole else [])
    }
    combinations = math.prod(len(result.grid.axes[number].values) for number in others)
    return Means(by_place, len(whole), combinations)


def levels_of(result: GridResult, axis: int, by_level: Mapping[int, BySeed]) -> Levels:
    """The values of an axis, by index, in the order in which they are to be read."""
    design = result.grid.axes[axis]
    rising = rising_order(design)
    order = [level for level in (rising or sorted(by_level)) if level in by_level]
    ordered = {level: by_level[level] for level in order}
    return Levels(design, ordered, result.margin, rising is not None)


def levels_by(result: GridResult, outer: int, inner: int, means: Means) -> dict[int, Levels]:
    """For each value of the *outer* axis, by index, the values of the *inner* one at it."""
    found: dict[int, dict[int, BySeed]] = {}
    for (of_outer, of_inner), by_seed in means.by_place.items():
        found.setdefault(of_outer, {})[of_inner] = by_seed
    order = rising_order(result.grid.axes[outer]) or sorted(found)
    return {at: levels_of(result, inner, found[at]) for at in order if at in found}


def crossing(by_outer: Mapping[int, Levels]) -> tuple[int, int] | None:
    """Two values of the outer axis at which different values of the inner one are proven better.

    At each of the two its own best value is above the other's best by an interval that excludes 0:
    both must hold (an intersection-union test: Berger and Hsu 1996), for an interaction alone does
    not say that the order changes. None where no two values are so.
    """
    listed = list(by_outer.items())
    for number, (at_one, one) in enumerate(listed):
        for at_other, other in listed[number + 1 :]:
            has_both = one.best in other.by_level and other.best in one.by_level
            if one.best == other.best or not has_both:
                continue
            here, there = (x.difference(x.best, y.best) for x, y in ((one, other), (other, one)))
            if is_told_apart(here) and is_told_apart(there):
                return at_one, at_other
    return None


def rising_order(axis: Axis) -> list[int] | None:
    """The indices of an axis' values from the lowest to the highest number.

    None where the values of its first field are no numbers, or not all different.
    """
    values = [value[0] for value in axis.values]
    if not all(map(is_number, values)) or len(set(values)) < len(values):
        return None
    return sorted(range(len(values)), key=values.__getitem__)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _part(place: Place, numbers: Sequence[int]) -> Place:
    return tuple(place[number] for number in numbers)
