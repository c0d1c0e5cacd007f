"""The deltas of a study: which rows are compared, over which seeds, and where more are wanted.

The plan of a study and its values by row and seed go in. Where seeds are spent as verdicts need
them, the looks at the growing data are gone through one after the other, the same way in a running
session and in its report. Never trains, knows nothing of pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
class Known:
    """What is known of a study's runs in one metric.

    Attributes
    ----------
    values : row to its values by seed
    sound : the rows whose comparison is one; what changed nothing, or is unfair, says nothing of
        the spread of others
    examples : where the interval is to cover the choice of test examples too
    """

    values: Values
    sound: Collection[str]
    examples: Examples | None = None


@dataclass(frozen=True)
class Look:
    """After how many seeds a row's verdict fell, and the error rate of its interval."""

    seeds: tuple[int, ...]
    alpha: float


def deltas(
    plan: StudyPlan, metric: str, known: Known, looked: Mapping[str, Look]
) -> dict[str, Delta | None]:
    """The delta of each compared row in one metric, as known at the look that decided about it.

    Parameters
    ----------
    looked : compared row to its look
    """
    found: dict[str, Delta | None] = {}
    for look in dict.fromkeys(looked.values()):
        at_look = _deltas_at(plan, metric, known, look)
        found |= {name: at_look.get(name) for name, own in looked.items() if own == look}
    return found


def decide(
    plan: StudyPlan, known: Known, state: Callable[[str, int], str]
) -> tuple[StudyPlan, dict[str, Look]]:
    """As many seeds for each row as verdicts have asked for so far, and who was looked at when.

    A row has more seeds than at the first look where the verdict of its first metric, or of a row
    that is compared with it, was inconclusive at the looks before, and all runs that those needed
    are finished.

    Parameters
    ----------
    known : of the study's first metric
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
        found = deltas(plan, plan.metrics[0], _needed(plan, known, need), at_look)
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


def _needed(plan: StudyPlan, known: Known, need: Mapping[str, int]) -> Known:
    """Without the runs that nobody has asked for, which a gate or an older session may have left.

    With them the same session could come to other verdicts, as its store has them or not.
    """
    wanted = {row.name: set(seeds_of(row)[: need[row.name]]) for row in plan.rows}
    values = {
        name: {seed: value for seed, value in by_seed.items() if seed in wanted[name]}
        for name, by_seed in known.values.items()
    }
    return replace(known, values=values)


def _is_open(delta: Delta | None) -> bool:
    return delta is not None and delta.verdict in (None, "inconclusive")  # None: one seed


def _first_look(plan: StudyPlan, row: RowPlan) -> Look:
    """The only look of a study whose numbers of seeds are given; else the first one."""
    seeds = seeds_of(row)[: plan.looks[0]] if plan.looks else tuple(row.keys)
    return Look(seeds, _alphas(plan)[0])


def _alphas(plan: StudyPlan) -> tuple[float, ...]:
    alpha = 1 - CONFIDENCE
    return looks.alphas(plan.looks, alpha) if plan.looks else (alpha,)


def _deltas_at(plan: StudyPlan, metric: str, known: Known, look: Look) -> dict[str, Delta | None]:
    """All rows compared over the seeds of one look, as far as each has them."""
    model = {row.name: plan.same_as(row) or row.name for row in plan.rows}
    values: dict[str, dict[int, float]] = {}
    for name, by_seed in known.values.items():
        of_look = {seed: value for seed, value in by_seed.items() if seed in set(look.seeds)}
        values.setdefault(model[name], {}).update(of_look)
    pairs = {
        row.name: (model[row.name], model[row.baseline])
        for row in plan.rows
        if row.name in known.sound
    }
    distinct = sorted(set(pairs.values()))
    spreads = None
    if known.examples is not None:
        shared = {(a, b): tuple(sorted(set(values[a]) & set(values[b]))) for a, b in distinct}
        told = {pair: known.examples(pair, seeds) for pair, seeds in shared.items()}
        spreads = {pair: spread for pair, spread in told.items() if spread is not None}
    found = compare(
        values,
        distinct,
        margin=plan.margins[metric],
        alpha=look.alpha,
        higher_is_better=plan.is_better_higher(metric),
        examples=spreads,
    )
    share = look.alpha / (1 - CONFIDENCE)
    return {name: _over_all_looks(found[pair], share) for name, pair in pairs.items()}


def _over_all_looks(delta: Delta | None, share: float) -> Delta | None:
    """With the p-value of all looks together, where this one has a *share* of the error rate."""
    if delta is None or delta.p_value is None:
        return delta
    return replace(delta, p_value=min(1.0, delta.p_value / share))


def _same_model(plan: StudyPlan, name: str) -> list[str]:
    first = plan.same_as(plan.row(name)) or name
    return [row.name for row in plan.rows if (plan.same_as(row) or row.name) == first]
