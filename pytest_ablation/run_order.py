"""What is tried first: long runs and long cases, so that no long one is left over at the end.

Estimates and a plan go in, orders come out. The workers of a session agree on one set of estimates
through a file, for pytest-xdist takes only one order of cases. Trains nothing, reads no record.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from filelock import FileLock

from pytest_ablation.plan import Plan, RunSpec

Seconds = Mapping[str, float | None]  # by key; None where there is nothing to expect from


@dataclass(frozen=True)
class Expected:
    """What the workers of a session agree on: seconds by key, and what there is to train."""

    seconds: Seconds
    untrained: list[str]


def longest_first(specs: Iterable[RunSpec], seconds: Seconds) -> list[RunSpec]:
    """The same runs, those that take longest first.

    Runs that take equally long keep their order; those of unknown length count as average ones.
    """
    average = _average(seconds)
    return sorted(specs, key=lambda spec: -_known(seconds.get(spec.key), average))


def seconds_of_cases(plan: Plan, expected: Expected) -> dict[str, float]:
    """Node id to the expected seconds of a case's own runs that are not trained yet.

    A case whose rows hang on a grid's best cell counts with the grid's runs. {} where no length is
    known: then there is nothing to order by.
    """
    if not any(expected.seconds.get(key) for key in expected.untrained):
        return {}
    average, untrained = _average(expected.seconds), set(expected.untrained)
    found = {}
    for node, (name, mode, variant) in plan.cases.items():
        study = plan.study(name, mode)
        rows = study.candidates.values() if study.is_open else [study.row(variant).keys]
        keys = {key for keys in rows for key in keys.values()} & untrained
        found[node] = sum(_known(expected.seconds.get(key), average) for key in sorted(keys))
    return found


def agreed(path: Path, decide: Callable[[], Expected]) -> Expected | None:
    """What the first process of a session decided, which is asked where nobody has yet.

    None where the file cannot be kept: nobody gets one then.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # one looks through the store, the others wait for it
            if not path.exists():
                _publish(path, json.dumps(asdict(decide())))
            return Expected(**json.loads(path.read_text(encoding="utf-8")))
    return None


def _publish(path: Path, text: str) -> None:
    """Whole or not at all; where two processes decided after all, the first one's stands."""
    own = path.with_name(f"{path.name}.{os.getpid()}")
    own.write_text(text, encoding="utf-8")
    try:
        os.link(own, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.replace(own, path)
    finally:
        own.unlink(missing_ok=True)


def _average(seconds: Seconds) -> float:
    known = [value for value in seconds.values() if value is not None]
    return fmean(known) if known else 0.0


def _known(seconds: float | None, average: float) -> float:
    return average if seconds is None else seconds
