"""The six component ablations by name: what each changes, and where the idea comes from.

The studies and the training command take them from here, so that ``--ablation no_pe`` is the same
change in both. Knows nothing of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ablation:
    """Changes of fields of ``TransformerConfig``, and one sentence about them."""

    changes: Mapping[str, Any]
    description: str


ABLATIONS = {
    "no_pe": Ablation(
        {"positional_encoding": None},
        "No positional encoding: the text becomes a bag of words (Vaswani et al. 2017, section "
        "3.5).",
    ),
    "single_head": Ablation(
        {"num_heads": 1},
        "One attention head as wide as all heads together (Vaswani et al. 2017, table 3, row A).",
    ),
    "no_ffn": Ablation(
        {"ffn_dim": None},
        "Blocks of attention only, without the feed-forward sub-layer (Vaswani et al. 2017, "
        "section 3.3).",
    ),
    "freeze_emb": Ablation(
        {"train_embeddings": False},
        "Word embeddings stay as they were initialised, at random (Kim 2014, CNN-static, but "
        "without pretraining).",
    ),
    "no_dropout": Ablation(
        {"dropout": 0.0},
        "No dropout anywhere (Srivastava et al. 2014).",
    ),
    "clip_grad": Ablation(
        {"grad_clip_norm": 1.0},
        "Gradients are scaled down to norm 1 (Pascanu, Mikolov and Bengio 2013, algorithm 1).",
    ),
}
