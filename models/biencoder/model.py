"""The trained part of the bi-encoder: a head per side, and a classifier of pairs.

Encoder outputs go in; embeddings, and log-odds of pairs, come out. Knows neither texts nor
training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.biencoder.config import BiEncoderConfig
from models.dropout import SeededDropout
from models.randomness import initialise

if TYPE_CHECKING:
    from pytest_ablation.run import Run


@dataclass(frozen=True)
class Embedded:
    """Texts as the search sees them, and as the pair classifier does.

    ``embeddings`` float [..., embed_dim]; ``features`` float [..., features], by ``fusion``.
    """

    embeddings: Tensor
    features: Tensor

    def __getitem__(self, rows: slice | Tensor) -> Embedded:
        return Embedded(self.embeddings[rows], self.features[rows])


class Head(nn.Module):
    """Encoder output → [LayerNorm] → [ReLU] → Linear.

    Parameters are named after what they are, not where they stand, so that they get the same
    initial values whether or not a LayerNorm or a ReLU is there.
    """

    def __init__(self, config: BiEncoderConfig, width: int) -> None:
        super().__init__()
        self.fusion = config.fusion
        self.layernorm = nn.LayerNorm(width) if config.layernorm else nn.Identity()
        self.activation = nn.ReLU() if config.relu else nn.Identity()
        self.projection = nn.Linear(width, config.embed_dim)

    def forward(self, outputs: Tensor) -> Embedded:
        activated = self.activation(self.layernorm(outputs))
        embeddings = self.projection(activated)
        if self.fusion == "projected":
            return Embedded(embeddings, embeddings)
        if self.fusion == "encoder":
            return Embedded(embeddings, activated)
        return Embedded(embeddings, torch.cat([embeddings, activated], dim=-1))


class BiEncoder(nn.Module):
    """Dropout, then a head for queries and one for candidates (the same one where shared).

    Heads that are not shared start with the same weights.

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
        self.head = Head(config, width)
        self.candidate_head = self.head if config.shared else Head(config, width)
        features = {"projected": config.embed_dim, "encoder": width}
        size = features.get(config.fusion, config.embed_dim + width)
        self.pair_classifier = nn.Linear(3 * size, 2)
        initialise(self, run)
        self.candidate_head.load_state_dict(self.head.state_dict())

    def forward(self, outputs: Tensor, queries: int) -> tuple[Embedded, Embedded]:
        """Outputs [n, width], the first *queries* of them of queries, the others of candidates."""
        outputs = self.dropout(outputs)
        return self.head(outputs[:queries]), self.candidate_head(outputs[queries:])

    def pair_logits(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits of "no pair" and "pair", [..., 2], of features [..., features].

        The classifier sees (a, b, |a - b|), as in Sentence-BERT (N. Reimers and I. Gurevych, EMNLP
        2019, section 3, classification objective). Leading dimensions broadcast.
        """
        a, b = torch.broadcast_tensors(a, b)
        return self.pair_classifier(torch.cat([a, b, (a - b).abs()], dim=-1))

    def pair_log_odds(self, a: Tensor, b: Tensor) -> Tensor:
        """log P(pair) - log P(no pair), [...]."""
        logits = self.pair_logits(a, b)
        return logits[..., 1] - logits[..., 0]
