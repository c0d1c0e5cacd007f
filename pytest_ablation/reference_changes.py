"""What a row was trained with, then and now: the differences of configuration and data, in words.

Rows of two references go in, phrases for an error message come out. Decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_ablation.reference_types import ReferenceRow, ReferenceStudy

_MISSING = object()


def configuration_changes(old: ReferenceStudy, new: ReferenceStudy, row: str) -> list[str]:
    """What is another in the configuration or the budget of *row*, such as "width was 64, is 32".

    Parameters
    ----------
    old, new : the study in two references; both have *row*
    row : its name

    Returns
    -------
    list of str
        [] exactly where the digests agree.
    """
    before, after = old.rows[row], new.rows[row]
    if before.configuration == after.configuration:
        return []
    if not before.configuration or not after.configuration:
        return ["one of them has no finished run, so that its configuration is not known"]
    found = [*_differences("", before.config, after.config),
             *_differences("the mode's ", old.budget, new.budget)]  # fmt: skip
    return found or ["its text is the same, but not its digest"]


def data_changes(old: ReferenceRow, new: ReferenceRow) -> list[str]:
    """Which of the data are others, such as "the training data (seed 0)"; [] where none are.

    Runs are compared seed by seed. Where the rows have no seed in common, the digest of all runs of
    the one is compared with that of the other, if the seeds of each agree about it.
    """
    found = []
    if old.data != new.data:
        found.append("what the study's data function tells")
    for words, attribute in (("training", "train_data"), ("test", "evaluation_data")):
        before = {seed: getattr(run, attribute) for seed, run in old.runs.items()}
        after = {seed: getattr(run, attribute) for seed, run in new.runs.items()}
        shared = sorted(before.keys() & after.keys())
        differing = [seed for seed in shared if before[seed] != after[seed]]
        if differing:
            seeds = "all seeds" if differing == shared else f"seed {differing[0]}"
            found.append(f"the {words} data ({seeds})")
        elif (
            not shared and _agreed(before) and _agreed(after) and _agreed(before) != _agreed(after)
        ):
            found.append(f"the {words} data")
    return found


def _differences(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*old, *new)):
        before, after = (_text(values.get(name, _MISSING)) for values in (old, new))
        if before != after:
            yield f"{prefix}{name} was {_short(before)}, is {_short(after)}"


def _text(value: Any) -> str:
    return "not there" if value is _MISSING else json.dumps(value, sort_keys=True)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}…{text[-19:]}"


def _agreed(by_seed: Mapping[int, str]) -> str:
    """The one value of all seeds, "" where there is none."""
    values = set(by_seed.values())
    return values.pop() if len(values) == 1 else ""
