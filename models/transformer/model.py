"""The classifier: embeddings, positions, encoder blocks, mean over words, linear head.

Word numbers go in, one score per class comes out. Knows the configuration; knows nothing of
training, data sets or metrics.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dropout import SeededDropout
from models.linear import Linear
from models.randomness import initialise
from models.transformer.config import TransformerConfig
from models.transformer.cpu_attention import CPUAttention
from models.transformer.data import PADDING
from models.transformer.packing import Packing
from models.transformer.positions import alibi_bias, rotary_turns, rotate, sinusoidal_positions

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
        self.in_bfloat16 = config.precision == "bfloat16"
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=PADDING)
        self.embedding.weight.requires_grad_(config.train_embeddings)
        self._make_positions(config)
        self.embedding_dropout = SeededDropout(config.dropout, run, "embedding")
        self.blocks = nn.ModuleList(
            EncoderBlock(config, run, place=f"blocks.{n}") for n in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        initialise(self, run)

    def _make_positions(self, config: TransformerConfig) -> None:
        """The table of the configured encoding; None for the others."""
        kind, length, width = config.positional_encoding, config.max_length, config.embed_dim
        self.position_embedding = nn.Embedding(length, width) if kind == "learned" else None
        tables = {
            "positions": sinusoidal_positions(length, width) if kind == "sinusoidal" else None,
            "turns": rotary_turns(length, width // config.num_heads) if kind == "rotary" else None,
            "distance_bias": alibi_bias(config.num_heads, length) if kind == "alibi" else None,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores (logits).

        Parameters
        ----------
        tokens : int [batch, words]
            PADDING where a text is shorter than the longest.
        lengths : int [batch], optional
            Words per text, best on the CPU: a GPU has to be waited for. None where no text of the
            batch is padded.

        Returns
        -------
        float [batch, classes]
        """
        packing = self._packing(tokens, lengths)
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            x = self.embed(packing.pack(tokens), packing.positions)
            turns = None if self.turns is None else self.turns[:, packing.positions]
            for block in self.blocks:
                x = block(x, packing, turns)
            return self.head(packing.mean_by_text(self.norm(x)))

    def embed(self, words: Tensor, positions: Tensor) -> Tensor:
        """Word vectors, scaled to unit variance, plus positions.

        Parameters
        ----------
        words, positions : int [n]
            The numbers of the words, and their places in their texts.

        Returns
        -------
        float [n, width]
        """
        x = self.embedding(words)
        if self.position_embedding is not None:  # scaled as the word vectors are
            x = x + self.position_embedding(positions)
        x = x * math.sqrt(self.embedding.embedding_dim)
        if self.positions is not None:
            x = x + self.positions[positions]
        return self.embedding_dropout(x)

    def _packing(self, tokens: Tensor, lengths: Tensor | None) -> Packing:
        batch, words = tokens.shape
        counts = np.full(batch, words) if lengths is None else lengths.cpu().numpy()
        return Packing(counts, tokens.device, self.distance_bias)


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

    def forward(self, x: Tensor, packing: Packing, turns: Tensor | None = None) -> Tensor:
        """x [rows, width] -> like x."""
        attended = self.attention(self.attention_norm(x), packing, turns)
        x = x + self.attention_dropout(attended)
        if self.ffn is not None:
            x = x + self.ffn_dropout(self.ffn(self.ffn_norm(x)))
        return x


class SelfAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, 3.2.2), one matrix for all Q, K and V.

    Where ``recorded`` is a list, each forward pass appends its weights, float [batch, heads, words,
    words], and uses these very weights for its output.
    """

    recorded: list[Tensor] | None = None

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor, packing: Packing, turns: Tensor | None = None) -> Tensor:
        """x [rows, width] -> like x.

        turns : float [2, rows, head_dim], by which queries and keys are rotated, or None
        """
        qkv = self.qkv(x)
        if turns is not None:
            query, key, value = qkv.view(len(x), 3, self.num_heads, -1).unbind(dim=1)
            turns = turns[:, :, None]
            qkv = torch.stack([rotate(query, turns), rotate(key, turns), value], dim=1).flatten(1)
        if self.recorded is None and qkv.device.type == "cpu":
            return self.out(CPUAttention.apply(qkv, packing, self.num_heads))
        heads = packing.whole.pad(qkv[: packing.words]).unflatten(2, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # [batch, heads, words, head_dim]
        mixed = self._mix(query, key, value, packing.whole.bias)
        mixed = packing.whole.unpad(mixed.transpose(1, 2).flatten(2))
        return self.out(packing.fill_up(mixed))

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        if self.recorded is None:
            bias = None if bias is None else bias.to(query.dtype)
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
        weights = (scores.float() if bias is None else scores + bias).softmax(dim=-1)
        self.recorded.append(weights)
        return weights @ value


class FeedForward(nn.Module):
    """Two linear maps with a ReLU between them, for each word alone (Vaswani et al. 2017, 3.3)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = Linear(width, hidden)
        self.contract = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(F.relu(self.expand(x), inplace=True))
