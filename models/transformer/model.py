"""The classifier: embeddings, positions, encoder blocks, mean over words, linear head.

Word numbers go in, one score per class comes out. Knows the configuration; knows nothing of
training, data sets or metrics.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dropout import SeededDropout
from models.randomness import initialise
from models.transformer.config import TransformerConfig
from models.transformer.data import PADDING

if TYPE_CHECKING:
    from pytest_ablation.run import Run


class TransformerClassifier(nn.Module):
    """A pre-norm Transformer encoder, averaged over the words of a text, and a linear head.

    Normalising before each sub-layer needs no long warm-up (R. Xiong et al., "On Layer
    Normalization in the Transformer Architecture", ICML 2020).

    All randomness comes from *run*: initial weights by the name of each parameter, dropout masks
    by place, so that a removed component leaves those of the others as they were.
    """

    def __init__(
        self, config: TransformerConfig, run: Run, *, vocabulary_size: int, num_classes: int
    ) -> None:
        super().__init__()
        width = config.embed_dim
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=PADDING)
        self.embedding.weight.requires_grad_(config.train_embeddings)
        positions = None
        if config.positional_encoding == "sinusoidal":
            positions = sinusoidal_positions(config.max_length, width)
        self.register_buffer("positions", positions, persistent=False)
        self.embedding_dropout = SeededDropout(config.dropout, run, "embedding")
        self.blocks = nn.ModuleList(
            EncoderBlock(config, run, place=f"blocks.{n}") for n in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        initialise(self, run)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores (logits).

        Parameters
        ----------
        tokens : int [batch, words]
            PADDING where a text is shorter than the longest.
        lengths : int [batch], optional
            Words per text; None where no text of the batch is padded, which is faster.

        Returns
        -------
        float [batch, classes]
        """
        is_word = None
        if lengths is not None:
            is_word = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, is_word)
        return self.head(_mean_over_words(self.norm(x), is_word))

    def embed(self, tokens: Tensor) -> Tensor:
        """Word vectors, scaled to unit variance, plus positions: [batch, words, width]."""
        x = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)
        if self.positions is not None:
            x = x + self.positions[: tokens.shape[1]]
        return self.embedding_dropout(x)


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)) unless that is removed."""

    def __init__(self, config: TransformerConfig, run: Run, place: str) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.embed_dim)
        self.attention = SelfAttention(config.embed_dim, config.num_heads)
        self.attention_dropout = SeededDropout(config.dropout, run, f"{place}.attention")
        self.ffn = None
        if config.ffn_dim is not None:
            self.ffn_norm = nn.LayerNorm(config.embed_dim)
            self.ffn = FeedForward(config.embed_dim, config.ffn_dim)
            self.ffn_dropout = SeededDropout(config.dropout, run, f"{place}.ffn")

    def forward(self, x: Tensor, is_word: Tensor | None) -> Tensor:
        x = x + self.attention_dropout(self.attention(self.attention_norm(x), is_word))
        if self.ffn is not None:
            x = x + self.ffn_dropout(self.ffn(self.ffn_norm(x)))
        return x


class SelfAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, 3.2.2), one matrix for all Q, K and V."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, is_word: Tensor | None) -> Tensor:
        """x [batch, words, width]; is_word bool [batch, words] or None -> like x."""
        batch, words, width = x.shape
        qkv = self.qkv(x).view(batch, words, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mask = None if is_word is None else is_word[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(attended.transpose(1, 2).reshape(batch, words, width))


class FeedForward(nn.Module):
    """Two linear maps with a ReLU between them, for each word alone (Vaswani et al. 2017, 3.3)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(F.relu(self.expand(x)))


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Position p in dimensions 2i and 2i+1: sine and cosine of p / 10000^(2i/width).

    Source: Vaswani et al. 2017, 3.5.

    Returns
    -------
    float [length, width]
    """
    frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()


def _mean_over_words(x: Tensor, is_word: Tensor | None) -> Tensor:
    if is_word is None:
        return x.mean(dim=1)
    weight = is_word.to(x.dtype)
    return torch.einsum("bwd,bw->bd", x, weight) / weight.sum(dim=1, keepdim=True)
