"""A run's history read as series: a metric of a split by epoch, and where it was best.

Records go in, epochs and values come out, for the report's sections on costs and on health.
"""

from __future__ import annotations

import math

from pytest_ablation.curves import logged_metric, split_name
from pytest_ablation.record import Record

TRAIN, VALIDATION = "train", "validation"


def series(record: Record, split: str, metric: str) -> dict[int, float]:
    """Epoch to the last finite value that was logged for it, by rising epoch.

    Parameters
    ----------
    split : ``train``, ``validation`` or ``test``, whatever the run calls it (``val``, say)
    """
    values = {
        row.epoch: row.value
        for row in record.history
        if split_name(row.split) == split and row.metric == metric and math.isfinite(row.value)
    }
    return dict(sorted(values.items()))


def leading_name(
    record: Record, leading: str, *splits: str, higher_is_better: bool = True
) -> str | None:
    """The metric that was logged for all *splits* and that stands for the leading one, if any."""
    logged = [
        {row.metric for row in record.history if split_name(row.split) == split} for split in splits
    ]
    return logged_metric(leading, set.intersection(*logged), higher_is_better=higher_is_better)


def is_better_higher(name: str, higher_is_better: bool = True) -> bool:
    """Whether a logged metric is the better the higher it is: never a loss, else as is said."""
    return higher_is_better and "loss" not in name


def validation_series(
    record: Record, leading: str, *, higher_is_better: bool = True
) -> dict[int, float]:
    """What the run logged for the leading metric on validation data; empty for nothing."""
    name = leading_name(record, leading, VALIDATION, higher_is_better=higher_is_better)
    return {} if name is None else series(record, VALIDATION, name)


def best_epoch(record: Record, leading: str, *, higher_is_better: bool = True) -> int | None:
    """The epoch that was chosen, else the first of the best validation value; None if unknown."""
    if record.reported_epoch is not None:
        return record.reported_epoch
    if record.early_stop is not None:
        return record.early_stop.best_epoch
    values = validation_series(record, leading, higher_is_better=higher_is_better)
    best = max if higher_is_better else min
    return best(values, key=values.__getitem__) if values else None


def reported_epoch(record: Record) -> int:
    """The epoch that the metrics belong to: the one that was told, else the last one."""
    if record.reported_epoch is not None:
        return record.reported_epoch
    return record.early_stop.best_epoch if record.early_stop is not None else record.epochs
