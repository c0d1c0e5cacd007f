"""The deltas of a study: which rows are compared, over which seeds, and where more are wanted.

The plan of a study and its values by row and seed go in. Where seeds are spent as verdicts need
them, the looks at the growing data are gone through one after the other, the same way in a running
session and in its report. Never trains, knows nothing of pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pytest_ablation import looks
from pytest_ablation.comparisons import Pair, compare
from pytest_ablation.crossed import ExampleSpread
from pytest_ablation.plan import RowPlan, StudyPlan
from pytest_ablation.statistics import CONFIDENCE, Delta

Values = Mapping[str, Mapping[int, float]]  # row to its values by seed
#: A pair and the seeds it is compared over to what the choice of test examples adds; None where
#: the runs kept no result per example.
Examples = Callable[[Pair, tuple[int, ...]], ExampleSpread | None]


@dataclass(frozen=True)
class Look:
    """After how many seeds a row's verdict fell, and the error rate of its interval."""

    seeds: tuple[int, ...]
    alpha: float


def deltas(
    plan: StudyPlan,
    metric: str,
    values: Values,
    looked: Mapping[str, Look],
    examples: Examples | None = None,
) -> dict[str, Delta | None]:
    """The delta of each compared row in one metric, as known at the look that decided about it.

    Parameters
    ----------
    values : the rows that take part; others have no place in the table of spreads
    looked : compared row to its look
    examples : where the interval is to cover the choice of test examples too
    """
    found: dict[str, Delta | None] = {}
    for look in dict.fromkeys(looked.values()):
        at_look = _deltas_at(plan, metric, values, look, examples)
        found |= {name: at_look.get(name) for name, own in looked.items() if own == look}
    return found


def decide(
    plan: StudyPlan, values: Values, state: Callable[[str, int], str]
) -> tuple[StudyPlan, dict[str, Look]]:
    """As many seeds for each row as verdicts have asked for so far, and who was looked at when.

    A row has more seeds than at the first look where the verdict of its first metric, or of a row
    that is compared with it, was inconclusive at the looks before, and all runs that those needed
    are finished.

    Parameters
    ----------
    values : of the study's first metric
    state : of a row and a seed: "finished"; "trouble" where there will be no result, or the row
        has trouble elsewhere; "pending" while it may still come. A look waits for all its runs, so
        that nothing is decided from a part of them.

    Returns
    -------
    plan : with these seeds
    looked : compared row to the look that decided about it, or the one that it waits for
    """
    compared = [row for row in plan.rows if row.baseline is not None]
    looked = {row.name: _first_look(plan, row) for row in compared}
    if not plan.looks:
        return plan, looked
    undecided = compared
    need = {row.name: plan.looks[0] for row in plan.rows}
    for size, alpha in zip(plan.looks, _alphas(plan), strict=True):
        for row in undecided:
            looked[row.name] = Look(seeds_of(row)[:size], alpha)
            for name in (row.name, row.baseline):
                for same in _same_model(plan, name):
                    need[same] = max(need[same], size)
        states = {row.name: _state(row, looked[row.name].seeds, state) for row in undecided}
        if "pending" in states.values():
            break
        ready = [row for row in undecided if states[row.name] == "finished"]
        at_look = {row.name: looked[row.name] for row in ready}
        found = deltas(plan, plan.metrics[0], values, at_look)
        undecided = [row for row in ready if _is_open(found[row.name])]
    rows = tuple(with_seeds(row, need[row.name]) for row in plan.rows)
    return replace(plan, rows=rows), looked


def seeds_of(row: RowPlan) -> tuple[int, ...]:
    """All seeds that a row can have, in the order in which they are taken."""
    return (*row.keys, *(seed for seed in row.reserve if seed not in row.keys))


def with_seeds(row: RowPlan, count: int) -> RowPlan:
    """The row with the first *count* of all seeds that it can have."""
    every = {**row.keys, **row.reserve}
    return replace(row, keys={seed: every[seed] for seed in seeds_of(row)[:count]})


def _state(row: RowPlan, seeds: tuple[int, ...], state: Callable[[str, int], str]) -> str:
    """The state of all runs that a look at a row needs; trouble is not waited for."""
    states = {state(name, seed) for name in (row.name, row.baseline) for seed in seeds}
    return next((word for word in ("trouble", "pending") if word in states), "finished")


def _is_open(delta: Delta | None) -> bool:
    return delta is not None and delta.verdict in (None, "inconclusive")  # None: one seed


def _first_look(plan: StudyPlan, row: RowPlan) -> Look:
    """The only look of a study whose numbers of seeds are given; else the first one."""
    seeds = seeds_of(row)[: plan.looks[0]] if plan.looks else tuple(row.keys)
    return Look(seeds, _alphas(plan)[0])


def _alphas(plan: StudyPlan) -> tuple[float, ...]:
    alpha = 1 - CONFIDENCE
    return looks.alphas(plan.looks, alpha) if plan.looks else (alpha,)


def _deltas_at(
    plan: StudyPlan, metric: str, values: Values, look: Look, examples: Examples | None
) -> dict[str, Delta | None]:
    """All rows compared over the seeds of one look, as far as each has them."""
    model = {row.name: plan.same_as(row) or row.name for row in plan.rows}
    known = {
        model[name]: {seed: value for seed, value in by_seed.items() if seed in set(look.seeds)}
        for name, by_seed in values.items()
    }
    pairs = {
        row.name: (model[row.name], model[row.baseline])
        for row in plan.rows
        if row.baseline is not None and {model[row.name], model[row.baseline]} <= set(known)
    }
    distinct = sorted(set(pairs.values()))
    spreads = None
    if examples is not None:
        told = {
            p: examples(p, tuple(sorted(set(known[p[0]]) & set(known[p[1]])))) for p in distinct
        }
        spreads = {pair: spread for pair, spread in told.items() if spread is not None}
    found = compare(
        known,
        distinct,
        margin=plan.margins[metric],
        alpha=look.alpha,
        higher_is_better=plan.is_better_higher(metric),
        examples=spreads,
    )
    return {name: found[pair] for name, pair in pairs.items()}


def _same_model(plan: StudyPlan, name: str) -> list[str]:
    first = plan.same_as(plan.row(name)) or name
    return [row.name for row in plan.rows if (plan.same_as(row) or row.name) == first]
