"""The guards: did an ablation change anything, and is its comparison fair?

Records of a variant and of its baseline go in, by seed; a sentence comes out where something is
wrong, None where nothing is. Pure functions that never train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_ablation.plan import RowPlan
from pytest_ablation.record import FAIRNESS, Record

BySeed = Mapping[int, Record]
_WORDS = {
    "train_data": "training data",
    "evaluation_data": "evaluation data",
    "batch_order": "batch order",
    "steps": "number of steps",
    "device": "device",
}


def no_effect(
    row: RowPlan, variant: BySeed, baseline: BySeed, *, train: str, metrics: Sequence[str]
) -> str | None:
    """Why the variant counts as having changed nothing: it is bit-identical for every seed.

    Parameters
    ----------
    row : the variant's plan (its changed fields)
    variant, baseline : finished records by seed
    train : the training function's name, for the message
    metrics : what the study reports; what else runs return (seconds, say) does not count
    """
    seeds = sorted(set(variant) & set(baseline))
    if not seeds or not all(identical(variant[seed], baseline[seed], metrics) for seed in seeds):
        return None
    changes = ", ".join(f"{f}={new!r} instead of {old!r}" for f, (old, new) in row.changes.items())
    same = _what_is_identical(variant[seeds[0]], baseline[seeds[0]])
    return (
        f"{row.name} changed nothing: with {changes}, {same} are bit-identical to those of "
        f"{row.baseline} for every seed ({_listed(seeds)}). {_hint(row, variant, train)}"
    )


def identical(one: Record, other: Record, metrics: Sequence[str]) -> bool:
    """Whether two runs came out the same, bit for bit, as far as they told.

    These metrics and the loss history must agree, and the predictions, or the final weights where
    not both kept predictions.
    """
    if any(one.metrics[name] != other.metrics[name] for name in metrics):
        return False
    if not _agree("loss_history", one, other):
        return False
    if _both_told("predictions", one, other):
        return _agree("predictions", one, other)
    return _agree("weights", one, other)


def unfair(row: RowPlan, variant: BySeed, baseline: BySeed) -> str | None:
    """What differs between the runs that should not, and was not declared by the variant."""
    findings, found = [], set()
    for seed in sorted(set(variant) & set(baseline)):
        names = differing(row, variant[seed], baseline[seed])
        found.update(names)
        if names:
            words = (_difference(name, variant[seed], baseline[seed]) for name in names)
            findings.append(f"seed {seed}: {', '.join(words)}")
    if not findings:
        return None
    stops = _unexcused(row, variant, baseline) if found & {"batch_order", "steps"} else ""
    return (
        f"{row.name} is not comparable with {row.baseline}: {'; '.join(findings)}. {stops}Make "
        f"them equal, or, where the variant is about that, declare it: "
        f"Variant({row.name!r}, ..., allow_different=[...])"
    )


def differing(row: RowPlan, variant: Record, baseline: Record) -> list[str]:
    """The names in ``FAIRNESS`` in which a pair of runs differs, undeclared.

    What one of them told and the other did not differs too: no step at all, say. Where early
    stopping ended one of them, they may differ in the number of steps, and the batch order is
    compared over the epochs that both trained.
    """
    ours, theirs = _compared(variant, baseline), _compared(baseline, variant)
    return [
        name
        for name in FAIRNESS
        if name not in row.allow_different and ours.get(name) != theirs.get(name)
    ]


def _compared(one: Record, other: Record) -> Mapping[str, Any]:
    """The fingerprints by which *one* is compared with *other*."""
    shared = _shared_epochs(one, other)
    if shared is None:
        return one.fingerprints
    return {**one.fingerprints, "steps": None, "batch_order": one.epoch_orders[shared - 1]}


def _shared_epochs(one: Record, other: Record) -> int | None:
    """Over how many epochs two runs are compared, None where that is over all they did.

    It is over the shorter one's where early stopping is all that made them differ in length: both
    stopped by one rule (patience and budget), or the one that told of no stop had the budget of the
    other and used it up. A stop that its own rule does not account for is none.
    """
    stops = [run.early_stop for run in (one, other) if run.early_stop is not None]
    if not stops or not one.epoch_orders or not other.epoch_orders:
        return None
    if _is_unruly(one) or _is_unruly(other):
        return None
    if len({(stop.patience, stop.budget) for stop in stops}) > 1:
        return None
    whole = [len(run.epoch_orders) for run in (one, other) if run.early_stop is None]
    if whole and whole != [stops[0].budget]:
        return None
    return min(len(one.epoch_orders), len(other.epoch_orders))


def _is_unruly(run: Record) -> bool:
    """Whether a run that told of early stopping ended otherwise: cut short by a field, say.

    By the rule it ends with its budget, or when it has waited as long as its patience for a better
    epoch; and the last epoch that it told is the last one that it trained.
    """
    stop = run.early_stop
    if stop is None or not run.epoch_orders:
        return False
    waited = stop.epoch - stop.best_epoch
    is_due = stop.epoch == stop.budget or waited >= stop.patience
    return not is_due or stop.epoch != len(run.epoch_orders)


def _unexcused(row: RowPlan, variant: BySeed, baseline: BySeed) -> str:
    """Why early stopping, where a run told of it, is no excuse: a sentence, "" where none did."""
    runs = [(row.name, *pair) for pair in sorted(variant.items())]
    runs += [(row.baseline, *pair) for pair in sorted(baseline.items())]
    for name, seed, run in runs:
        if _is_unruly(run):
            stop = run.early_stop
            return (
                f"Early stopping does not account for it: {name}, seed {seed}, trained "
                f"{len(run.epoch_orders)} epochs and told that it stopped in epoch {stop.epoch} of "
                f"{stop.budget}, with epoch {stop.best_epoch} its best and a patience of "
                f"{stop.patience}. "
            )
    silent = dict.fromkeys(name for name, _, run in runs if not run.epoch_orders)
    if not silent or all(run.early_stop is None for _, _, run in runs):
        return ""
    return (
        f"Early stopping accounts for it only where all steps tell their epochs, which those of "
        f"{' and '.join(silent)} did not: call run.step(..., epoch=epoch), counted 1, 2, 3 ... "
    )


def _difference(name: str, variant: Record, baseline: Record) -> str:
    shared = _shared_epochs(variant, baseline)
    if name == "batch_order" and shared is not None:
        over = "epoch, the only one" if shared == 1 else f"{shared} epochs"
        return f"{_WORDS[name]} over the first {over} that both trained"
    if name not in ("steps", "device"):  # digests say nothing to a reader, these do
        return _WORDS[name]
    ours, theirs = (record.fingerprints.get(name) for record in (variant, baseline))
    return f"{_WORDS[name]} ({ours or 'none'} against {theirs or 'none'})"


def _both_told(name: str, one: Record, other: Record) -> bool:
    return None not in (one.outcome.get(name), other.outcome.get(name))


def _agree(name: str, one: Record, other: Record) -> bool:
    return one.outcome.get(name) == other.outcome.get(name) or not _both_told(name, one, other)


def _what_is_identical(one: Record, other: Record) -> str:
    names = {"loss_history": "loss history", "predictions": "predictions", "weights": "weights"}
    told = [word for name, word in names.items() if _both_told(name, one, other)
            and _agree(name, one, other)]  # fmt: skip
    return ", ".join(["metrics", *told[:-1]]) + f" and {told[-1]}" if told else "metrics"


def _hint(row: RowPlan, variant: BySeed, train: str) -> str:
    """The likeliest reason, and what to do."""
    hints = [_limit_hint(field, new, variant) for field, (_, new) in row.changes.items()]
    hints += [
        f"The training code never reads {field!r}: use it in {train}." for field in row.unread
    ]
    found = [hint for hint in hints if hint]
    if found:
        return " ".join(found)
    if not any(any(record.outcome.values()) for record in variant.values()):
        return (
            f"Only metrics are known of these runs; if they agree by chance, let {train} call "
            f"run.save_predictions, or run.log with a loss, which tells them apart."
        )
    fields = " and ".join(repr(field) for field in row.changes)
    return f"Check that {train} really uses {fields} on the way to its result."


def _limit_hint(field: str, value: Any, variant: BySeed) -> str | None:
    limits = [record.limits[field] for record in variant.values() if field in record.limits]
    if not limits:
        return None
    largest = max(limit.largest_seen for limit in limits)
    count = sum(limit.comparisons for limit in limits)
    if largest > limits[0].limit:
        return None
    return (
        f"The threshold {field}={value!r} was never reached: the largest value seen was "
        f"{largest:.4g} in {count:,} steps; choose one below that."
    )


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))
