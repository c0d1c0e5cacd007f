"""Random numbers of a run: one generator per purpose, all derived from the run's seed.

A purpose (``"order"``, ``"dropout:embedding"``) goes in, a generator comes out, so that removing a
component never shifts the random numbers of another. Imports torch inside the functions only: a
study module may import this at collection.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from pytest_ablation.run import Run


def numpy_generator(run: Run, purpose: str) -> np.random.Generator:
    """A NumPy generator (SFC64, the fastest that NumPy has) of this run's seed and purpose."""
    return np.random.Generator(np.random.SFC64(run.seed_for(purpose)))


def torch_generator(run: Run, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on *device* of this run's seed and purpose.

    A CPU and a CUDA generator of one seed give different numbers.
    """
    import torch

    return torch.Generator(device).manual_seed(run.seed_for(purpose))


def make_repeatable(device: str) -> None:
    """Let torch choose algorithms that give the same bits again, where CUDA has a choice.

    Without it, two equal runs on a GPU differ in their last bits, and a variant that changed
    nothing could not be told from one that did. On the CPU there is nothing to choose. Source:
    PyTorch documentation, "Reproducibility".
    """
    import torch

    if torch.device(device).type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def initialise(module: torch.nn.Module, run: Run) -> None:
    """Set all parameters of *module* in place, each from its own generator, named after it.

    A parameter's values depend on the seed, its name, shape and kind alone: not on which other
    parameters there are, nor on the device (all are drawn on the CPU).

    - embedding tables: normal with standard deviation ``embedding_dim ** -0.5``, the row of the
      padding index zero;
    - normalisation layers: weights one, biases zero;
    - other parameters of two or more dimensions: Xavier uniform (X. Glorot and Y. Bengio,
      "Understanding the difficulty of training deep feedforward neural networks", 2010);
    - other parameters called ``bias`` or ``..._bias``: zero;
    - what is left (a temperature, say) keeps the value it was constructed with.
    """
    import torch

    done = set()
    with torch.no_grad():
        for prefix, owner in module.named_modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if id(parameter) not in done:  # a tied parameter keeps its first name
                    full_name = f"{prefix}.{name}" if prefix else name
                    generator = torch_generator(run, f"init:{full_name}")
                    _initialise_parameter(owner, name, parameter, generator)
                    done.add(id(parameter))


def _initialise_parameter(
    owner: torch.nn.Module, name: str, parameter: torch.nn.Parameter, generator: torch.Generator
) -> None:
    import torch

    if isinstance(owner, torch.nn.Embedding | torch.nn.EmbeddingBag):
        values = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(values * owner.embedding_dim**-0.5)
        if owner.padding_idx is not None:
            parameter[owner.padding_idx].zero_()
    elif parameter.ndim >= 2:
        fan_in, fan_out = torch.nn.init._calculate_fan_in_and_fan_out(parameter)
        bound = math.sqrt(6 / (fan_in + fan_out))
        values = torch.rand(parameter.shape, generator=generator)
        parameter.copy_((2 * values - 1) * bound)
    elif name.endswith("bias"):
        parameter.zero_()
    elif "Norm" in type(owner).__name__:
        parameter.fill_(1.0)
