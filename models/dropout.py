"""Dropout whose masks come from a generator of its own: one per run and place in the model.

PyTorch's dropout draws from one global stream, so that removing a place shifts the masks of all
others, and on the CPU it costs a quarter of a training step of a small model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

    def extra_repr(self) -> str:
        return f"rate={self.dropped_levels}/{LEVELS}"
