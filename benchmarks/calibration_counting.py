"""Dealing runs out into sessions, and counting alarms: what gate_calibration.py counts with.

Values of real runs go in, hands of seeds, rates with intervals and the methods that people use
today come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from pytest_ablation.gate import Terms, compare_study
from pytest_ablation.reference import ReferenceStudy

METRIC = "top1"
THRESHOLD = 0.01  # "the mean fell by more than a point"

Values = Mapping[str, Mapping[int, float]]  # row to its values by seed


def hands(seeds: list[int], size: int, draw: np.random.Generator) -> Iterator[list[int]]:
    """The seeds in a random order, *size* at a time; no two hands share one."""
    shuffled = [seeds[i] for i in draw.permutation(len(seeds))]
    for start in range(0, len(seeds) - size + 1, size):
        yield shuffled[start : start + size]


def values_of(study: ReferenceStudy) -> dict[str, dict[int, float]]:
    return {name: {seed: run.metrics[METRIC] for seed, run in row.runs.items()}
            for name, row in study.rows.items()}  # fmt: skip


def relabelled(by_seed: Mapping[int, float], seeds: list[int]) -> dict[int, float]:
    """These seeds' values under the numbers 0, 1, 2 ..."""
    return {number: by_seed[seed] for number, seed in enumerate(seeds)}


def restricted(study: ReferenceStudy, seeds: list[int], rows: list[str]) -> ReferenceStudy:
    """The study with these seeds only, under the numbers 0, 1, 2 ..."""
    return replace(study, rows={
        name: replace(study.rows[name], same_as="", configuration="", data="", runs={
            number: replace(study.rows[name].runs[seed], seed=number, train_data="",
                            evaluation_data="")
            for number, seed in enumerate(seeds)})
        for name in rows})  # fmt: skip


def gated(
    old: ReferenceStudy, new: ReferenceStudy, first: int, most: int
) -> tuple[list[bool], float]:
    """Whether each comparison of the gate fails, and how many seeds a row had on average."""
    planned = {name: tuple(range(first)) for name in new.rows}
    found = compare_study(old, new, planned, Terms(most_seeds=most))
    errors = [row.message for row in found.rows if row.outcome == "error"]
    if errors or found.wanted:
        raise SystemExit(f"the gate could not compare: {errors[:1]} {found.wanted}")
    spent = [len(row.seeds) for row in found.rows if row.row in new.rows]
    return [row.outcome == "fail" for row in found.rows], float(np.mean(spent))


@dataclass
class Count:
    """Alarms among chances, over many deals; *independent* chances are in one of them."""

    alarms: int = 0
    chances: int = 0
    independent: int = 0

    def add(self, alarms: int, chances: int) -> None:
        self.alarms += alarms
        self.chances += chances

    def __str__(self) -> str:
        """The rate, and the interval that the runs at hand allow."""
        rate = self.alarms / max(1, self.chances)
        low, high = clopper_pearson(rate * self.independent, self.independent)
        return f"{100 * rate:5.1f} % ({100 * low:.1f} to {100 * high:.1f}, n = {self.independent})"


def clopper_pearson(alarms: float, chances: int) -> tuple[float, float]:
    """95 % interval of a rate; *alarms* need not be whole, as it is a mean over deals."""
    low = stats.beta.ppf(0.025, alarms, chances - alarms + 1) if alarms > 0 else 0.0
    high = stats.beta.ppf(0.975, alarms + 1, chances - alarms) if alarms < chances else 1.0
    return float(low), float(high)


# --- what people use today ---------------------------------------------------------------------

Alarm = Callable[[list[float], list[float]], bool]  # new values, old values: did it fall?


def by_threshold(new: list[float], old: list[float]) -> bool:
    return np.mean(new) - np.mean(old) < -THRESHOLD


def by_welch(new: list[float], old: list[float]) -> bool:
    return stats.ttest_ind(new, old, equal_var=False, alternative="less").pvalue < 0.05


def by_pairs(new: list[float], old: list[float]) -> bool:
    if np.ptp(np.subtract(new, old)) < 1e-12:
        return False
    return stats.ttest_rel(new, old, alternative="less").pvalue < 0.05


TODAY: dict[str, Alarm] = {
    "mean fell by more than 1 point": by_threshold,
    "Welch t, one-sided 5 %": by_welch,
    "paired t, one-sided 5 %": by_pairs,
}
