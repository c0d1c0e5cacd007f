"""The state of a training as plain values and arrays, and back: what its next step depends on.

Modules, optimizers and random generators go in, nested values come out, without touching a random
stream; the values go back into parts that were made anew. Knows no files and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from models.dropout import SeededDropout


def state_of(part: Any) -> dict[str, Any]:
    """The state of an optimizer, or of whatever else has a ``state_dict``, or of a generator."""
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    return part.state_dict()


def take_back(part: Any, state: Mapping[str, Any]) -> None:
    """Bring *part* into a state that :func:`state_of` gave, its tensors being arrays by now."""
    if isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    else:
        part.load_state_dict(with_tensors(state))


def with_tensors(value: Any) -> Any:
    """*value*, nested at will, with a tensor in place of each array."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {name: with_tensors(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_tensors(member) for member in value)
    return value


def dropout_state_of(model: nn.Module) -> dict[str, Any]:
    """Where all streams of masks are, by the place of their module."""
    return {name: module.masks_state() for name, module in _dropouts(model)}


def take_dropout_back(model: nn.Module, state: Mapping[str, Any]) -> None:
    """The inverse of :func:`dropout_state_of`, for a model of the same places."""
    for name, module in _dropouts(model):
        module.take_masks_back(state[name])


def _dropouts(model: nn.Module) -> list[tuple[str, SeededDropout]]:
    return [(n, module) for n, module in model.named_modules() if isinstance(module, SeededDropout)]
