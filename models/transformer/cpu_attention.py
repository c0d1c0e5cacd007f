"""Attention over packed words on the CPU, with a backward pass of its own.

Queries, keys and values of a batch go in, one layer's mixed values come out. PyTorch's fused
attention is slower for texts of news, by far in bfloat16, and autograd copies more than is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.transformer.packing import Group, Packing


class CPUAttention(torch.autograd.Function):
    """softmax(Q K^T / sqrt(d) + bias) V of each head (Vaswani et al. 2017, equation 1).

    ``apply(qkv, packing, num_heads)``: qkv float [rows, 3 * width] -> [rows, width]
    """

    @staticmethod
    def forward(ctx, qkv: Tensor, packing: Packing, num_heads: int) -> Tensor:
        mixed, kept = [], []
        for part, group in _by_group(qkv, packing):
            query, key, value = _split_heads(part, group, 3, num_heads)
            weights = _weights(query, key, group)
            mixed.append(_merge_heads(torch.bmm(weights, value)[None], group))
            kept += [query, key, value, weights]
        ctx.save_for_backward(*kept)
        ctx.packing, ctx.num_heads = packing, num_heads
        return packing.fill_up(torch.cat(mixed))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradients, kept = [], iter(ctx.saved_tensors)
        for part, group in _by_group(gradient, ctx.packing):
            query, key, value, weights = (next(kept) for _ in range(4))
            of_mixed = _split_heads(part, group, 1, ctx.num_heads)[0]
            found = torch.empty((3, *query.shape), dtype=query.dtype)  # of query, key and value
            torch.bmm(weights.mT, of_mixed, out=found[2])
            of_weights = torch.bmm(of_mixed, value.mT)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_scores.div_(math.sqrt(query.shape[-1]))
            torch.bmm(of_scores, key, out=found[0])
            torch.bmm(of_scores.mT, query, out=found[1])
            gradients.append(_merge_heads(found, group))
        return ctx.packing.fill_up(torch.cat(gradients)), None, None


def _weights(query: Tensor, key: Tensor, group: Group) -> Tensor:
    """[texts * heads, longest, head_dim] each -> [texts * heads, longest, longest]; softmax in
    float32, which in bfloat16 would take three times as long."""
    scores = torch.bmm(query, key.mT).float().div_(math.sqrt(query.shape[-1]))
    if group.bias is not None:
        scores.view(group.texts, -1, group.longest, group.longest).add_(group.bias)
    return scores.softmax(dim=-1).to(query.dtype)


def _by_group(x: Tensor, packing: Packing) -> Iterator[tuple[Tensor, Group]]:
    """The words of each group among x [rows, ...]."""
    parts = x[: packing.words].split([group.words for group in packing.groups])
    return zip(parts, packing.groups, strict=True)


def _split_heads(x: Tensor, group: Group, count: int, num_heads: int) -> Tensor:
    """[words, count * width] -> [count, texts * heads, longest, head_dim], zero for padding."""
    heads = group.pad(x).view(group.texts, group.longest, count, num_heads, -1)
    return heads.permute(2, 0, 3, 1, 4).flatten(1, 2)


def _merge_heads(x: Tensor, group: Group) -> Tensor:
    """The reverse of :func:`_split_heads`."""
    heads = x.unflatten(1, (group.texts, -1)).permute(1, 3, 0, 2, 4)
    return group.unpad(heads.flatten(2))
