"""The loop over the epochs that all models share: the best epoch, early stopping, interruptions.

A model and what trains and judges it go in; the model ends with the weights of its best epoch. An
interrupted run goes on after the last epoch that was kept. Knows no data, losses or metrics.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from models.budget import patience_of
from models.resuming import dropout_state_of, state_of, take_back, take_dropout_back, with_tensors

if TYPE_CHECKING:
    from pytest_ablation.run import Run


@dataclass(frozen=True)
class Judgement:
    """How good a model is: the larger the better, compared from the first number on.

    ``figures`` (numbers and arrays, by name) are for whoever wants them of the best epoch.
    """

    value: tuple[float, ...]
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Best:
    """The best epoch so far, and the first among equals."""

    epoch: int
    judgement: Judgement
    weights: Mapping[str, Tensor]


class Epochs:
    """A model's training, epoch by epoch.

    Parameters
    ----------
    run : Run
        ``run.mode.epochs`` is how many there are at most; training stops early after
        ``run.mode.patience`` epochs that were no better than the best (None or absent: never).
    model : Module
        All that is trained; its dropout is :class:`models.dropout.SeededDropout` alone.
    parts : mapping
        Whatever else an epoch changes and depends on, by name: optimizers, NumPy generators.
    """

    def __init__(self, run: Run, model: nn.Module, parts: Mapping[str, Any]) -> None:
        self._run = run
        self._model = model
        self._parts = parts
        self._best: Best | None = None

    def train(self, epoch: Callable[[int], None], judge: Callable[[int], Judgement]) -> Best:
        """Train in place; the model ends with the weights of its best epoch.

        Parameters
        ----------
        epoch : callable
            Trains the epoch of this number, from 1.
        judge : callable
            Judges the model after the epoch of this number.
        """
        run, patience = self._run, patience_of(self._run)
        saved = run.resume()
        if saved is not None:
            self._take_back(saved.state)
        finished = 0 if saved is None else saved.epoch
        for number in range(finished + 1, run.mode.epochs + 1):
            epoch(number)
            self._compare(number, judge(number))
            if patience is not None and number - self._best.epoch >= patience:
                if number < run.mode.epochs:
                    run.stopped_early(number, self._best.epoch, patience)
                break
            run.checkpoint(number, functools.partial(self._state, number))
        self._model.load_state_dict(self._best.weights)
        run.report_epoch(self._best.epoch)
        return self._best

    def _compare(self, number: int, judgement: Judgement) -> None:
        if self._best is None or judgement.value > self._best.judgement.value:
            weights = {name: value.clone() for name, value in self._model.state_dict().items()}
            self._best = Best(number, judgement, weights)

    def _state(self, finished: int) -> dict[str, Any]:
        best = self._best
        return {
            "weights": self._model.state_dict(),
            "dropout": dropout_state_of(self._model),
            "parts": {name: state_of(part) for name, part in self._parts.items()},
            "best": {
                "epoch": best.epoch,
                "value": best.judgement.value,
                "figures": best.judgement.figures,
                "weights": None if best.epoch == finished else best.weights,
            },
        }

    def _take_back(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`_state` gave."""
        weights = with_tensors(state["weights"])
        self._model.load_state_dict(weights)
        take_dropout_back(self._model, state["dropout"])
        for name, part in self._parts.items():
            take_back(part, state["parts"][name])
        best = state["best"]
        judgement = Judgement(best["value"], best["figures"])
        best_weights = weights if best["weights"] is None else with_tensors(best["weights"])
        self._best = Best(best["epoch"], judgement, best_weights)
