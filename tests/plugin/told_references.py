"""References and sessions as a test says them: plain values by row and seed, and their gate."""

from __future__ import annotations

import numpy as np

from pytest_ablation.gate import Terms, compare, compare_study
from pytest_ablation.reference_types import (
    Correctness,
    Reference,
    ReferenceRow,
    ReferenceRun,
    ReferenceStudy,
)

OLD = {"baseline": [0.80, 0.82, 0.81], "no_pe": [0.70, 0.73, 0.71], "slow": [0.78, 0.80, 0.81]}


def run(seed, metrics, *, outcome="", correct=None, train="t", test="e"):
    correct = {} if correct is None else {"top1": Correctness.of(np.array(correct))}
    outcome = outcome or f"digest of {sorted({*metrics.values()})}"
    return ReferenceRun(seed, metrics, correct, outcome, train, test)


def row(name, values, *, metric="top1", first=0, **fields):
    """A row that gave these values with seeds 0, 1, ..."""
    values = values if isinstance(values, dict) else dict(enumerate(values, first))
    runs = {seed: run(seed, {metric: value}) for seed, value in values.items()}
    told = {"baseline": None if name == "baseline" else "baseline", "configuration": f"c {name}",
            "data": "", "status": "ok", "config": {"width": 64, "rate": 0.1}}  # fmt: skip
    return ReferenceRow(**{"name": name, "runs": runs} | told | fields)


def study(rows, *, metric="top1", margin=0.005, **fields):
    rows = rows.values() if isinstance(rows, dict) else rows
    rows = [row(*of, metric=metric) if isinstance(of, tuple) else of for of in rows]
    told = {"name": "parts", "metrics": (metric,), "gate_metrics": (metric,), "margins":
            {metric: margin}, "lower_is_better": (), "budget": {"epochs": 2}}  # fmt: skip
    return ReferenceStudy(**{"rows": {of.name: of for of in rows}} | told | fields)


def values(rows, **fields):
    """A study of these values: row to a list."""
    return study([*rows.items()], **fields)


def reference(*studies, mode="quick"):
    return Reference(mode, {of.name: of for of in studies}, {})


def gated(old, new, **wishes):
    return compare(reference(old), reference(new), **wishes)


def outcomes(gate, metric="top1"):
    return {of.row: of.outcome for of in gate.rows if of.metric == metric}


def at_looks(old, new, *, first=3, **terms):
    """One study at the looks of a session, whose first one has so many seeds."""
    planned = {name: tuple(of.runs)[:first] for name, of in new.rows.items()}
    return compare_study(old, new, planned, Terms(**terms))


def lowered(rows, drop, *names):
    return {name: [v - drop for v in of] if name in names or not names else of
            for name, of in rows.items()}  # fmt: skip


def with_metrics(rows, names, *, gate=None):
    """A study whose rows have the same values in each of several metrics."""
    told = [row(name, of, runs={s: run(s, dict.fromkeys(names, v)) for s, v in enumerate(of)})
            for name, of in rows.items()]  # fmt: skip
    return study(
        told, metrics=tuple(names), gate_metrics=tuple(names if gate is None else gate),
        margins=dict.fromkeys(names, 0.005),
    )  # fmt: skip
