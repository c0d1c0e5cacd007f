"""Positional encodings: what is added to words, to scores, or turns queries and keys.

Lengths and widths go in; tables, biases and turned vectors come out. Knows nothing of layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Position p in dimensions 2i and 2i+1: sine and cosine of p / 10000^(2i/width).

    Source: Vaswani et al. 2017, 3.5.

    Returns
    -------
    float [length, width]
    """
    angles = _angles(length, width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


def rotary_turns(length: int, head_dim: int) -> Tensor:
    """Cosines and sines by which :func:`rotate` turns the vectors of each position.

    Position p turns the pair of dimensions 2i and 2i+1 by the angle p / 10000^(2i/head_dim), so
    that a score depends on the distance of two words alone. Source: J. Su et al., "RoFormer",
    arXiv 2104.09864, equations 15 and 34.

    Parameters
    ----------
    head_dim : int
        Even.

    Returns
    -------
    float [2, length, head_dim]
        The sine of each pair stands there twice, first negative.
    """
    angles = _angles(length, head_dim)
    cosines = torch.stack([angles.cos(), angles.cos()], dim=-1).flatten(1)
    sines = torch.stack([-angles.sin(), angles.sin()], dim=-1).flatten(1)
    return torch.stack([cosines, sines]).float()


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn each vector of x by the cosines and sines of its position.

    Parameters
    ----------
    x : float [..., head_dim]
    turns : float [2, ..., head_dim]
        Rows of :func:`rotary_turns`, of a shape that broadcasts to that of x.
    """
    cosines, sines = turns.to(x.dtype)
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cosines + swapped * sines


def alibi_bias(num_heads: int, length: int) -> Tensor:
    """What is added to the scores: minus the distance of two words, by a slope for each head.

    Source: O. Press, N. A. Smith and M. Lewis, "Train Short, Test Long", ICLR 2022, section 3.
    There a word sees those before it alone; an encoder sees both sides, and so the distance counts
    the same in both directions.

    Returns
    -------
    float [heads, length, length]
    """
    place = torch.arange(length)
    distance = (place[:, None] - place).abs()
    return -torch.tensor(alibi_slopes(num_heads))[:, None, None] * distance


def alibi_slopes(num_heads: int) -> list[float]:
    """2^(-8h/n) for the heads h = 1 ... n, where n is a power of two.

    For another n: the slopes of the next lower power of two, then every second one of the next
    higher, from its first on (the authors' published code, ``get_slopes``).
    """
    below = 2 ** int(math.log2(num_heads))
    slopes = [2.0 ** (-8 * head / below) for head in range(1, below + 1)]
    between = [2.0 ** (-4 * head / below) for head in range(1, 2 * below, 2)]
    return slopes + between[: num_heads - below]


def _angles(length: int, width: int) -> Tensor:
    """float64 [length, width / 2]"""
    frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.arange(length, dtype=torch.float64)[:, None] * frequency
