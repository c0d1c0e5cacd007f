"""What training makes small: a triplet, a contrastive and a pair classification loss, weighted.

Embedded queries, answers and negatives go in, a scalar comes out. Knows no optimizer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.biencoder.config import BiEncoderConfig
from models.biencoder.model import BiEncoder, Embedded


def loss_of(
    model: BiEncoder,
    config: BiEncoderConfig,
    queries: Embedded,
    answers: Embedded,
    negatives: Embedded,
) -> Tensor:
    """The weighted sum of the losses, a scalar.

    Parameters
    ----------
    queries, answers : Embedded [n, ...]
        Row i of the answers belongs to row i of the queries.
    negatives : Embedded [n * negatives, ...]
        ``config.negatives`` for each query, one query's after the other's.
    """
    total = queries.embeddings.new_zeros(())
    if config.triplet_weight:
        triplet = triplet_loss(queries, answers, negatives, config.triplet_margin)
        total = total + config.triplet_weight * triplet
    if config.contrastive_weight:
        contrastive = contrastive_loss(queries, answers, negatives, config.contrastive_scale)
        total = total + config.contrastive_weight * contrastive
    if config.pair_weight:
        total = total + config.pair_weight * pair_loss(model, queries, answers, negatives)
    return total


def triplet_loss(
    queries: Embedded, answers: Embedded, negatives: Embedded, margin: float
) -> Tensor:
    """Mean of max(0, d(q, a) - d(q, n) + margin), d Euclidean.

    N. Reimers and I. Gurevych, EMNLP 2019, section 3, triplet objective.
    """
    repeats = len(negatives.embeddings) // len(queries.embeddings)
    return F.triplet_margin_loss(
        queries.embeddings.repeat_interleave(repeats, dim=0),
        answers.embeddings.repeat_interleave(repeats, dim=0),
        negatives.embeddings,
        margin=margin,
    )


def contrastive_loss(
    queries: Embedded, answers: Embedded, negatives: Embedded, scale: float
) -> Tensor:
    """Cross-entropy of each query's own answer among the batch's answers and negatives.

    The logits are cosines times *scale*: "multiple negatives ranking" (M. Henderson et al., 2017,
    arXiv 1705.00652, section 4.4), as in sentence-transformers.
    """
    candidates = torch.cat([answers.embeddings, negatives.embeddings])
    cosines = F.normalize(queries.embeddings, dim=-1) @ F.normalize(candidates, dim=-1).T
    own = torch.arange(len(cosines), device=cosines.device)
    return F.cross_entropy(scale * cosines, own)


def pair_loss(
    model: BiEncoder, queries: Embedded, answers: Embedded, negatives: Embedded
) -> Tensor:
    """Cross-entropy of the pair classifier on the pairs, plus that on what are none."""
    repeats = len(negatives.features) // len(queries.features)
    pairs = model.pair_logits(queries.features, answers.features)
    none = model.pair_logits(queries.features.repeat_interleave(repeats, dim=0), negatives.features)
    is_pair = torch.ones(len(pairs), dtype=torch.long, device=pairs.device)
    is_none = torch.zeros(len(none), dtype=torch.long, device=none.device)
    return F.cross_entropy(pairs, is_pair) + F.cross_entropy(none, is_none)
