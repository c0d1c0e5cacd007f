"""The facts that a training function tells of a run, each when it is known.

Plain values go in and are checked; the run puts them into its record. Knows nothing of data, steps,
weights, studies or stores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pytest_ablation.heat_maps import HeatMaps, HeatMapTexts, checked_name
from pytest_ablation.mode import Mode
from pytest_ablation.plain import finite_float
from pytest_ablation.record import MODEL_METADATA, EarlyStop, Limit

_LONGEST_NAME = 80  #: characters that fit into a table's first column


class Facts:
    """What is told about a run beside its training; :class:`pytest_ablation.Run` is one.

    Parameters
    ----------
    mode : Mode
        The budget; its ``epochs`` is what early stopping is measured by.
    """

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self._limits: dict[str, Limit] = {}
        self._notes: dict[str, str] = {}
        self._references: dict[str, dict[str, float]] = {}
        self._early_stop: EarlyStop | None = None
        self._reported_epoch: int | None = None
        self.told_heat_maps: dict[str, HeatMaps] = {}  #: by name, with their numbers

    def watch_limit(self, field: str, *, limit: float, observed: float) -> None:
        """Tell a threshold of the configuration and the value that was compared with it.

        ``run.watch_limit("grad_clip_norm", limit=1.0, observed=norm)`` at every step lets the
        harness say why clipping changed nothing: the largest norm seen stayed below the limit.
        """
        old = self._limits.get(field, Limit(float(limit), -math.inf, 0))
        largest = max(old.largest_seen, float(observed))
        self._limits[field] = Limit(float(limit), largest, old.comparisons + 1)

    def stopped_early(
        self, epoch: int, best_epoch: int, patience: int, budget: int | None = None
    ) -> None:
        """Record what early stopping did, so that unequal numbers of steps are no surprise.

        It excuses them where *epoch* is the last of the epochs that the steps told, and the rule
        was due there: the budget was used up, or *patience* epochs brought nothing better.

        Parameters
        ----------
        epoch : int
            The last epoch that was trained.
        best_epoch : int
            The epoch that was best by the rule, up to *epoch*; 0 is the state before training.
        patience : int
            For how many epochs without a better one the rule waits.
        budget : int, optional
            How many epochs the run could have had; ``run.mode.epochs`` where not given.

        Raises
        ------
        ValueError
            Not 0 <= best_epoch <= epoch <= budget, a negative patience, or no budget at all.
        """
        budget = self.mode.budget.get("epochs") if budget is None else budget
        if budget is None:
            raise ValueError(
                "how many epochs the run could have had is not known, for its mode has no epochs: "
                "call stopped_early(..., budget=N), or name the budget Mode(epochs=N)"
            )
        stop = EarlyStop(int(epoch), int(best_epoch), int(patience), int(budget))
        if not 0 <= stop.best_epoch <= stop.epoch <= stop.budget or stop.patience < 0:
            raise ValueError(
                f"stopped_early expects 0 <= best_epoch <= epoch <= budget and a patience of 0 or "
                f"more, found {stop}"
            )
        self._early_stop = stop

    def report_epoch(self, epoch: int) -> None:
        """Tell the epoch whose weights the returned metrics belong to; 0 is before training.

        Raises
        ------
        ValueError
            A negative epoch.
        """
        if int(epoch) < 0:
            raise ValueError(f"an epoch is counted from 1 (0 is before training), found {epoch}")
        self._reported_epoch = int(epoch)

    def reference(self, name: str, /, **metrics: float) -> None:
        """Figures that stand beside the variants in the report and that no training changed.

        ``run.reference("TF-IDF", top1=0.26)``. Told again under the same name, it adds to them.

        Parameters
        ----------
        name : str
            What they are of, up to 80 characters.
        **metrics
            Finite numbers, under the names of the study's metrics.

        Raises
        ------
        TypeError, ValueError
            A value is not a number or not finite, there is none, or the name does not fit.
        """
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
            raise ValueError(
                f"a reference is called by a text of 1 to {_LONGEST_NAME} characters, found "
                f"{name!r:.100}"
            )
        if not metrics:
            raise ValueError(f"reference {name!r} has no figures: give at least one, as top1=0.5")
        told = {
            n: finite_float(f"metric {n!r} of reference {name!r}", v) for n, v in metrics.items()
        }
        self._references.setdefault(name, {}).update(told)

    def heat_maps(self, name: str, maps: HeatMaps) -> None:
        """Keep *maps* with the run, for a figure of the report; told again, they are replaced.

        ``run.heat_maps("attention", HeatMaps(values=..., panels=..., rows=..., ...))``. The report
        draws those of one run per study, the best one by the validation metric that it selects by.

        Parameters
        ----------
        name : str
            1 to 40 lower-case letters, digits and dashes: part of the figure's file name.
        maps : HeatMaps

        Raises
        ------
        TypeError, ValueError
            Something else than HeatMaps, or a name that does not fit.
        """
        if not isinstance(maps, HeatMaps):
            raise TypeError(
                f"run.heat_maps({name!r:.50}, ...) expects HeatMaps (of pytest_ablation.heat_maps),"
                f" found {type(maps).__name__}"
            )
        self.told_heat_maps[checked_name(name)] = maps

    def note(self, topic: str, text: str) -> None:
        """A fact about this run that a reader of the report should see, such as the data used."""
        self._notes[topic] = str(text)

    def _told(self) -> dict[str, Any]:
        """The facts, by the names that they have in a record."""
        return {
            "limits": dict(self._limits),
            "notes": dict(self._notes),
            "references": {name: dict(told) for name, told in self._references.items()},
            "early_stop": self._early_stop,
            "reported_epoch": self._reported_epoch,
            "heat_maps": {name: maps.texts for name, maps in self.told_heat_maps.items()},
        }

    def _facts_state(self) -> dict[str, Any]:
        """What was told so far, as nested plain values and arrays."""
        maps = self.told_heat_maps.items()
        return {
            "limits": {field: list(limit) for field, limit in self._limits.items()},
            "notes": self._notes,
            "references": self._references,
            "early_stop": None if self._early_stop is None else list(self._early_stop),
            "reported_epoch": self._reported_epoch,
            "heat_maps": {n: {"texts": asdict(m.texts), "values": m.values} for n, m in maps},
        }

    def _facts_of(self, state: Mapping[str, Any]) -> Facts:
        """The inverse of :meth:`_facts_state`; LookupError, TypeError, ValueError for others."""
        facts = Facts(self.mode)
        facts._limits = {field: Limit(*limit) for field, limit in state["limits"].items()}
        facts._notes = dict(state["notes"])
        facts._references = {name: dict(told) for name, told in state["references"].items()}
        facts._early_stop = state["early_stop"] and EarlyStop(*state["early_stop"])
        facts._reported_epoch = state["reported_epoch"]
        facts.told_heat_maps = {
            name: HeatMaps.of(HeatMapTexts(**told["texts"]), told["values"])
            for name, told in state["heat_maps"].items()
        }
        return facts

    def _take_back_facts(self, facts: Facts) -> None:
        """Know what another process had told: all that this one has, and more."""
        self._limits |= facts._limits
        self._notes |= facts._notes
        self._references |= facts._references
        self._early_stop, self._reported_epoch = facts._early_stop, facts._reported_epoch
        self.told_heat_maps |= facts.told_heat_maps


def checked_about(about: Mapping[str, str]) -> dict[str, str]:
    """The texts that are to be kept in a model's metadata, beside those of MODEL_METADATA.

    Raises
    ------
    TypeError, ValueError
        A name or a value is no text, or the name is one of MODEL_METADATA.
    """
    for name, text in about.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(
                f"what is kept about a model is text (use json.dumps for other values), found "
                f"{type(text).__name__} for {name!r:.50}"
            )
        if name in MODEL_METADATA:
            raise ValueError(
                f"{name!r} is written by the harness: call what is kept about a model otherwise "
                f"than {', '.join(MODEL_METADATA)}"
            )
    return dict(about)
