"""The configuration of the Transformer classifier: one field per component, checked when made.

The default is the baseline of the study. Knows nothing of torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

POSITIONAL_ENCODINGS = ("sinusoidal",)


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A text classifier after "Attention Is All You Need" (A. Vaswani et al., NeurIPS 2017).

    The section numbers beside the fields are that paper's, where no other is named.

    Raises
    ------
    ValueError
        A value out of its range; the message names the field, the value and what is allowed.
    """

    # fmt: off
    embed_dim: int = 64                # width of the residual stream
    num_heads: int = 4                 # 3.2.2; divides embed_dim
    num_layers: int = 1                # 3.1
    ffn_dim: int | None = 128          # 3.3; None: blocks without the feed-forward sub-layer
    positional_encoding: str | None = "sinusoidal"  # 3.5; None: a bag of words
    dropout: float = 0.2               # 5.4, on embeddings and sub-layer outputs; to 1/256
    train_embeddings: bool = True      # False: word vectors stay as initialised
    grad_clip_norm: float | None = None  # R. Pascanu et al., ICML 2013, algorithm 1
    max_length: int = 96               # words of an article that are read
    min_count: int = 2                 # rarer words of the training split are unknown
    batch_size: int = 16               # articles
    learning_rate: float = 3e-3        # peak, of AdamW
    warmup_fraction: float = 0.1       # 5.3: of all steps; linear up, then linear down to zero
    weight_decay: float = 0.01         # I. Loshchilov and F. Hutter, ICLR 2019; of matrices
    # fmt: on

    def __post_init__(self) -> None:
        for name in (
            "embed_dim",
            "num_heads",
            "num_layers",
            "max_length",
            "min_count",
            "batch_size",
        ):
            self._require(name, _is_count(getattr(self, name)), "an integer of 1 or more")
        self._require(
            "ffn_dim", self.ffn_dim is None or _is_count(self.ffn_dim),
            "an integer of 1 or more, or None for no feed-forward sub-layer",
        )  # fmt: skip
        self._require("embed_dim", self.embed_dim % 2 == 0, "even (sines and cosines in pairs)")
        self._require(
            "num_heads", self.embed_dim % self.num_heads == 0,
            f"a divisor of embed_dim={self.embed_dim}",
        )  # fmt: skip
        self._require(
            "positional_encoding", self.positional_encoding in (None, *POSITIONAL_ENCODINGS),
            f"one of {', '.join(map(repr, POSITIONAL_ENCODINGS))} or None",
        )  # fmt: skip
        self._require("train_embeddings", isinstance(self.train_embeddings, bool), "True or False")
        self._require("dropout", _is_between(self.dropout, 0, 1), "a rate in [0, 1)")
        self._require("warmup_fraction", _is_between(self.warmup_fraction, 0, 1), "in [0, 1)")
        self._require("learning_rate", _is_positive(self.learning_rate), "a positive number")
        self._require(
            "weight_decay", _is_number(self.weight_decay) and self.weight_decay >= 0, "0 or more"
        )
        self._require(
            "grad_clip_norm", self.grad_clip_norm is None or _is_positive(self.grad_clip_norm),
            "a positive number, or None for no clipping",
        )  # fmt: skip

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(
                f"{type(self).__name__}: {field} must be {expected}, found {getattr(self, field)!r}"
            )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0


def _is_between(value: object, low: float, high: float) -> bool:
    return _is_number(value) and low <= value < high
