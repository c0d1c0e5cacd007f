"""A linear layer that trains fast in float32 on the CPU: its three products are oneDNN's.

Takes and gives what ``torch.nn.Linear`` does, with the same parameters. Knows no model.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Rows are filled up to a multiple of this. oneDNN prepares each shape of a product, for half a
#: millisecond, and batches without padding have a new shape at nearly every step: for a small model
#: that took longer than the products.
ROWS = 64


class Linear(nn.Linear):
    """``torch.nn.Linear``, to the last bits of a product.

    PyTorch gives float32 products to MKL, which is slow on CPUs that are not Intel's: 90 against
    200 GFLOP/s on one core of an AMD EPYC with AVX-512. On other devices, in other precisions and
    under autocast it is ``torch.nn.Linear`` itself.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or self.weight.dtype != torch.float32 or not _has_onednn(x):
            return F.linear(x, self.weight, self.bias)
        rows = _OneDNNLinear.apply(x.flatten(0, -2), self.weight, self.bias)
        return rows.view(*x.shape[:-1], -1) if x.ndim > 2 else rows


def _has_onednn(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and _is_built_in()


@functools.cache
def _is_built_in() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _OneDNNLinear(torch.autograd.Function):
    """x [n, in], weight [out, in], bias [out] or None -> [n, out]; float32, on the CPU."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        inputs = _filled_up(x)
        ctx.save_for_backward(inputs, weight)
        ctx.rows, ctx.has_bias = len(x), bias is not None
        return _first_rows(_times_transposed(inputs, weight, bias), len(x))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = _filled_up(gradient)
        return (
            _first_rows(_times_transposed(rows, weight.t()), ctx.rows) if needs_x else None,
            _weight_gradient(rows, inputs) if needs_weight else None,
            gradient.sum(dim=0) if ctx.has_bias and needs_bias else None,
        )


def _filled_up(x: Tensor) -> Tensor:
    """[n, width] -> [a multiple of ROWS, width], with zeros; contiguous, for oneDNN is slow with
    a gradient that was expanded from one number (a sum's)."""
    missing = -len(x) % ROWS
    return F.pad(x, (0, 0, 0, missing)) if missing else x.contiguous()


def _first_rows(x: Tensor, rows: int) -> Tensor:
    """No view of the other rows: what comes after may change it in place."""
    return x if rows == len(x) else x[:rows].clone()


def _weight_gradient(gradient: Tensor, inputs: Tensor) -> Tensor:
    """[n, out], [n, in] -> [out, in]; oneDNN is faster by a fifth where the result is wide."""
    if gradient.shape[1] > inputs.shape[1]:
        return _times_transposed(inputs.t(), gradient.t()).t()
    return _times_transposed(gradient.t(), inputs.t())


def _times_transposed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias; takes transposed views as they are."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
