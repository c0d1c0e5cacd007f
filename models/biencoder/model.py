"""The trained part of the bi-encoder: a head for both sides, and a classifier of pairs.

Encoder outputs go in; embeddings, and log-odds of pairs, come out. Knows neither texts nor
training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.biencoder.config import BiEncoderConfig
from models.dropout import SeededDropout
from models.randomness import initialise

if TYPE_CHECKING:
    from pytest_ablation.run import Run


class BiEncoder(nn.Module):
    """Encoder output → dropout → [LayerNorm] → [ReLU] → Linear, shared by headlines and bodies.

    Parameters are named after what they are, not where they stand, so that they get the same
    initial values whether or not a LayerNorm or a ReLU is there.

    Parameters
    ----------
    config : BiEncoderConfig
    run : Run
        Gives the seeds of initial values and of dropout.
    width : int
        Of the encoder's output.
    """

    def __init__(self, config: BiEncoderConfig, run: Run, width: int) -> None:
        super().__init__()
        self.dropout = SeededDropout(config.dropout, run, "encoder")
        self.layernorm = nn.LayerNorm(width) if config.layernorm else nn.Identity()
        self.activation = nn.ReLU() if config.relu else nn.Identity()
        self.projection = nn.Linear(width, config.embed_dim)
        self.pair_classifier = nn.Linear(3 * config.embed_dim, 2)
        initialise(self, run)

    def forward(self, outputs: Tensor) -> Tensor:
        """Encoder outputs [n, width] to embeddings [n, embed_dim]."""
        return self.projection(self.activation(self.layernorm(self.dropout(outputs))))

    def pair_logits(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits of "no pair" and "pair", [..., 2], of embeddings [..., embed_dim].

        The features are (a, b, |a - b|), as in Sentence-BERT (N. Reimers and I. Gurevych, EMNLP
        2019, section 3, classification objective). Leading dimensions broadcast.
        """
        a, b = torch.broadcast_tensors(a, b)
        return self.pair_classifier(torch.cat([a, b, (a - b).abs()], dim=-1))

    def pair_log_odds(self, a: Tensor, b: Tensor) -> Tensor:
        """log P(pair) - log P(no pair), [...]."""
        logits = self.pair_logits(a, b)
        return logits[..., 1] - logits[..., 0]
