"""The numbers behind a figure of curves: a metric by split, seed and epoch.

Histories go in as panels, one per model; means, bands and the words that explain them come out.
Pure: it knows neither matplotlib nor where a history came from.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pytest_ablation.statistics import mean

_ALIASES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}
_ORDER = ("train", "validation", "test")


@dataclass(frozen=True)
class Panel:
    """The curves of one model.

    Attributes
    ----------
    title : str
    values : split to seed to epoch to value; values that are not finite are not drawn
    reported_epoch : the mean epoch whose weights the reported metrics belong to, if it is known
    """

    title: str
    values: Mapping[str, Mapping[int, Mapping[int, float]]]
    reported_epoch: float | None = None


@dataclass(frozen=True)
class Series:
    """One line: by epoch the mean, lowest and highest value of the ``seeds`` that have one."""

    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: tuple[int, ...]


def series(by_seed: Mapping[int, Mapping[int, float]]) -> Series:
    """Mean, lowest and highest value over the seeds, epoch by epoch.

    Parameters
    ----------
    by_seed : seed to epoch to value

    Returns
    -------
    Series
        Its epochs are those with any value; NaN stands where no seed has a finite one.
    """
    epochs = sorted({epoch for values in by_seed.values() for epoch in values})
    found = [
        [values[epoch] for values in by_seed.values() if math.isfinite(values.get(epoch, math.nan))]
        for epoch in epochs
    ]
    return Series(
        epochs=tuple(epochs),
        mean=tuple(mean(values) if values else math.nan for values in found),
        low=tuple(min(values, default=math.nan) for values in found),
        high=tuple(max(values, default=math.nan) for values in found),
        seeds=tuple(len(values) for values in found),
    )


def split_name(split: str) -> str:
    """``train``, ``validation`` or ``test`` for the names that people give to these; else *split*.

    Examples
    --------
    >>> split_name("dev")
    'validation'
    """
    return _ALIASES.get(split, split)


def splits_of(panels: Sequence[Panel]) -> list[str]:
    """The splits in *panels*: train, validation, test, then others by name."""
    names = {split for panel in panels for split in panel.values}
    return [split for split in _ORDER if split in names] + sorted(names - set(_ORDER))


def split_words(splits: Sequence[str]) -> list[str]:
    """The splits as a legend has them."""
    return ["training" if split == "train" else split for split in splits]


def logged_metric(
    leading: str, names: Collection[str], *, higher_is_better: bool = True
) -> str | None:
    """The logged metric that stands for *leading*: itself, or the longest name that it ends with.

    What rises where *leading* falls does not stand for it: no loss for what is better when higher,
    and of ``neg_x`` not ``x``.

    Parameters
    ----------
    higher_is_better : of *leading*

    Examples
    --------
    >>> logged_metric("epa_top1", ["loss", "top1"])
    'top1'
    >>> logged_metric("neg_mse", ["mse"]) is None
    True
    """
    alike = [name for name in names if not _is_opposite(leading, name, higher_is_better)]
    return _ending_of(leading, alike)


def _ending_of(leading: str, names: Collection[str]) -> str | None:
    fitting = [name for name in names if leading == name or leading.endswith(f"_{name}")]
    return max(fitting, key=len, default=None)


def _is_opposite(leading: str, name: str, higher_is_better: bool) -> bool:
    rest = leading.removesuffix(name)
    if not rest:
        return False
    is_turned = rest.endswith(("neg_", "negative_"))
    if not higher_is_better:  # of "error_top1" "top1" is the opposite, "top1_error" is not
        return is_turned or "error" in rest or "loss" in rest
    return is_turned or "loss" in name


def drawn_metric(leading: str, names: Collection[str]) -> str | None:
    """What to draw for *leading* where *names* are logged: what its name ends with, else the loss.

    Other than for :func:`logged_metric` it may fall where *leading* rises: the figure names it.
    """
    return _ending_of(leading, names) or ("loss" if "loss" in names else None)


def seed_counts(panel: Panel) -> str:
    """How many seeds a panel's lines are made of, and from which epoch on they are fewer.

    Examples
    --------
    >>> seed_counts(Panel("plain", {"test": {0: {1: 0.5, 2: 0.6}, 1: {1: 0.4}}}))
    'n = 2, from epoch 2: 1'
    """
    seeds: dict[int, set[int]] = {}
    for by_seed in panel.values.values():
        for seed, values in by_seed.items():
            for epoch, value in values.items():
                if math.isfinite(value):
                    seeds.setdefault(epoch, set()).add(seed)
    steps: list[tuple[int, int]] = []
    for epoch in sorted(seeds):
        if not steps or len(seeds[epoch]) != steps[-1][1]:
            steps.append((epoch, len(seeds[epoch])))
    if not steps:
        return "n = 0"
    (_, first), *changes = steps
    if len(changes) > 2:
        counts = [count for _, count in steps]
        return (
            f"n = {min(counts)} to {max(counts)}, changing in epochs {changes[0][0]} to "
            f"{changes[-1][0]}"
        )
    return ", ".join([f"n = {first}", *(f"from epoch {e}: {n}" for e, n in changes)])


def remarks(panels: Sequence[Panel]) -> list[str]:
    """What a reader must know of lines, bands and marks, as far as these panels have them."""
    counts = [seed_counts(panel) for panel in panels]
    parts = []
    if any(count not in ("n = 0", "n = 1") for count in counts):
        parts.append("mean over the seeds, the band spans the lowest and the highest seed")
    if any("," in count for count in counts):
        parts.append("n is the number of seeds; where it falls, the mean is over those still there")
    if any(panel.reported_epoch is not None for panel in panels):
        parts.append("the vertical line marks the reported epoch (mean over the seeds)")
    return parts
