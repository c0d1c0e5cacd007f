"""Dropout whose masks come from a generator of its own: one per run and place in the model.

PyTorch's dropout draws from one global stream, so that removing a place shifts the masks of all
others, and on the CPU it costs a quarter of a training step of a small model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from models.randomness import numpy_generator, torch_generator

if TYPE_CHECKING:
    from pytest_ablation.run import Run

LEVELS = 256  # a mask element is decided by one random byte


class SeededDropout(nn.Module):
    """Inverted dropout (N. Srivastava et al., JMLR 15, 2014) with its own stream of masks.

    Parameters
    ----------
    rate : float in [0, 1)
        Drawn to the nearest 1/256, at least 1/256 where it is above zero. At 0, and in evaluation,
        the input is returned as it is.
    run, place
        The masks depend on the run's seed, the place's name and the calls before, alone.
    """

    def __init__(self, rate: float, run: Run, place: str) -> None:
        super().__init__()
        self.dropped_levels = 0 if rate == 0 else min(max(round(rate * LEVELS), 1), LEVELS - 1)
        self._cpu_generator = numpy_generator(run, f"dropout:{place}")
        self._device_generator = None
        if torch.device(run.device).type != "cpu":
            self._device_generator = torch_generator(run, f"dropout:{place}", run.device)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.dropped_levels:
            return x
        return x * self._mask(x)

    def _mask(self, x: Tensor) -> Tensor:
        """Zero with the rate's probability, else 1 / (1 - rate); like *x* in shape and dtype."""
        # Written straight into numbers: by way of booleans it takes six times as long on the CPU.
        kept = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        torch.ge(self._random_bytes(x), self.dropped_levels, out=kept)
        return kept.mul_(LEVELS / (LEVELS - self.dropped_levels))

    def _random_bytes(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return torch.randint(
                LEVELS, x.shape, dtype=torch.uint8, device=x.device,
                generator=self._device_generator,
            )  # fmt: skip
        words = self._cpu_generator.integers(0, 2**64, size=-(-x.numel() // 8), dtype=np.uint64)
        return torch.from_numpy(words.view(np.uint8)[: x.numel()]).view(x.shape)

    def masks_state(self) -> dict[str, Any]:
        """Where the stream of masks is, as nested plain values and arrays."""
        device = self._device_generator
        return {
            "cpu": self._cpu_generator.bit_generator.state,
            "device": None if device is None else device.get_state(),
        }

    def take_masks_back(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that :meth:`masks_state` gave."""
        self._cpu_generator.bit_generator.state = state["cpu"]
        if self._device_generator is not None:
            self._device_generator.set_state(torch.as_tensor(state["device"]))

    def extra_repr(self) -> str:
        return f"rate={self.dropped_levels}/{LEVELS}"
