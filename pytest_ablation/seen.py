"""What a run has seen of its training: data, steps, losses, logs, forward passes.

Checked plain values go in, the parts of a record come out. All of it can be had as nested plain
values, from which the run goes on in another process. Knows no models, files, studies or stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_ablation.digests import RunningDigest, digest
from pytest_ablation.record import HistoryRow
from pytest_ablation.watches import EpochOrders, EpochSeconds, GradientWatch, LossWatch

_COUNTS = ("steps", "examples", "forward_examples")


class Seen:
    """One run's."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}  #: digests, by what they are of
        self.history: list[HistoryRow] = []
        self.steps = 0
        self.examples = 0
        self.forward_examples = 0
        self.forward_seconds = 0.0
        self.resumed: list[int] = []  #: the epochs after which the run was taken up again
        self.last_finite_loss: float | None = None
        self.batch_order = RunningDigest()
        self.epoch_orders = EpochOrders()
        self.epoch_seconds = EpochSeconds()
        self.gradients = GradientWatch()
        self.step_losses = LossWatch()

    def step(self, indices: Any, epoch: int | None, grad_norm: float | None) -> None:
        """One optimizer step on the examples of these *indices*, an array."""
        self.batch_order.update(indices)
        self.examples += indices.size
        self.steps += 1
        self.epoch_orders.see(epoch, self.batch_order.hexdigest)
        if grad_norm is not None:
            self.gradients.see(grad_norm, epoch, self.steps)

    def step_loss(self, loss: float, epoch: int | None) -> None:
        """The finite loss of the step that was seen last."""
        self.step_losses.see(loss, epoch, self.steps)

    def log(self, epoch: int, split: str, values: Mapping[str, float], seconds: float) -> None:
        """Values of one epoch, logged after so many seconds of training."""
        self.history += [HistoryRow(epoch, split, name, value) for name, value in values.items()]
        self.epoch_seconds.see(epoch, seconds)

    def fingerprints(self, device: str) -> dict[str, Any]:
        """What comparisons are judged fair by, see :data:`pytest_ablation.record.FAIRNESS`."""
        return {
            "train_data": self.data.get("train_data"),
            "evaluation_data": self.data.get("evaluation_data"),
            "batch_order": self.batch_order.hexdigest() if self.steps else None,
            "steps": self.steps or None,
            "device": device.split(":")[0],
        }

    def loss_history_digest(self) -> str | None:
        """Of what is called a loss alone: times, which may be logged too, would never agree."""
        losses = [tuple(row) for row in self.history if "loss" in row.metric]
        return digest(losses) if losses else None

    def in_record(self) -> dict[str, Any]:
        """The fields of a record that are made of nothing else."""
        return {
            "epochs": max((row.epoch for row in self.history), default=0),
            "steps": self.steps,
            "history": tuple(self.history),
            "gradients": self.gradients.summary(),
            "loss_spikes": self.step_losses.summary(),
            "epoch_orders": self.epoch_orders.summary(),
        }

    def state(self) -> dict[str, Any]:
        """All of it, as nested plain values and arrays."""
        return {
            "data": self.data,
            "history": [list(row) for row in self.history],
            **{name: getattr(self, name) for name in _COUNTS},
            "forward_seconds": self.forward_seconds,
            "resumed": self.resumed,
            "last_finite_loss": self.last_finite_loss,
            "batch_order": self.batch_order.state,
            "epoch_orders": self.epoch_orders.state(),
            "epoch_seconds": self.epoch_seconds.state(),
            "gradients": self.gradients.state(),
            "step_losses": self.step_losses.state(),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Seen:
        """The inverse of :meth:`state`.

        Raises
        ------
        LookupError, TypeError, ValueError, AttributeError
            Other content.
        """
        seen = cls()
        seen.data = dict(state["data"])
        seen.history = [HistoryRow(*row) for row in state["history"]]
        for name in _COUNTS:
            setattr(seen, name, int(state[name]))
        seen.forward_seconds = float(state["forward_seconds"])
        seen.resumed = [int(epoch) for epoch in state["resumed"]]
        seen.last_finite_loss = state["last_finite_loss"]
        seen.batch_order = RunningDigest(state["batch_order"])
        seen.epoch_orders = EpochOrders.of(state["epoch_orders"])
        seen.epoch_seconds = EpochSeconds.of(state["epoch_seconds"])
        seen.gradients = GradientWatch.of(state["gradients"])
        seen.step_losses = LossWatch.of(state["step_losses"])
        return seen
