"""A mode is a budget: how many seeds, epochs, rows a run may spend. It is chosen by marker."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from pytest_ablation.errors import StudyError


@dataclass(frozen=True, init=False)
class Mode:
    """The budget of the runs of one mode (``quick`` or ``full``).

    Parameters
    ----------
    seeds : int or iterable of int
        ``3`` means the seeds 0, 1 and 2. At least one, without repetition.
    config : mapping, or the best cell of a grid
        What this mode changes in the study's baseline, before any variant's changes: a narrower
        model for ``quick``, say; or ``grid.best()``.
    **budget
        Anything the training function reads from ``run.mode``, such as ``epochs=3``. It is part of
        a run's key, so two modes of equal budget share their runs.

    Raises
    ------
    StudyError
        No seeds, negative or repeated seeds; or a *config* that is neither.

    Examples
    --------
    >>> Mode(seeds=2, epochs=3).epochs
    3
    """

    seeds: tuple[int, ...]
    budget: Mapping[str, Any] = field(default_factory=dict)
    config: Any = None

    def __init__(self, seeds: int | Iterable[int], *, config: Any = None, **budget: Any) -> None:
        object.__setattr__(self, "seeds", _seed_tuple(seeds))
        object.__setattr__(self, "config", _checked_config(config))
        object.__setattr__(self, "budget", dict(budget))

    def __getattr__(self, name: str) -> Any:
        budget = self.__dict__.get("budget", {})  # not self.budget: unpickling has none yet
        if name in budget:
            return budget[name]
        raise AttributeError(
            f"this mode has no {name!r}; its budget has {sorted(budget) or 'nothing'}: "
            f"add {name}=... to Mode(...)"
        )

    def with_seed_count(self, count: int) -> Mode:
        """The same budget with the first *count* seeds, or with the next unused ones added."""
        unused = (seed for seed in itertools.count() if seed not in self.seeds)
        seeds = itertools.islice(itertools.chain(self.seeds, unused), count)
        return Mode(seeds, config=self.config, **self.budget)

    @property
    def budget_alone(self) -> Mode:
        """What a run is given: the same seeds and budget, without changes of a configuration."""
        return Mode(self.seeds, **self.budget)


def _checked_config(config: Any) -> Any:
    if config is None or hasattr(config, "changes_in"):  # a BestCell, which study.py defines
        return config
    if isinstance(config, Mapping):
        return dict(config)
    raise StudyError(
        f"a mode's config is the changes that it makes to the baseline, as in "
        f'Mode(seeds=3, config={{"num_layers": 1}}), or grid.best(); found {config!r:.80}'
    )


def _seed_tuple(seeds: int | Iterable[int]) -> tuple[int, ...]:
    if isinstance(seeds, bool) or not isinstance(seeds, (Integral, Iterable)):
        raise StudyError(f"seeds are a number or a list of them, found {seeds!r}: give seeds=3")
    listed = tuple(range(seeds)) if isinstance(seeds, Integral) else tuple(seeds)
    if not listed:
        raise StudyError(f"a mode needs at least one seed, found seeds={seeds!r}: give seeds=3")
    if any(isinstance(s, bool) or not isinstance(s, Integral) or s < 0 for s in listed):
        raise StudyError(f"seeds are integers of 0 or more, found {seeds!r}")
    if len(set(listed)) != len(listed):
        raise StudyError(f"each seed may be named once, found {seeds!r}")
    return tuple(map(int, listed))
