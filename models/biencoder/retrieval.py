"""Retrieval and re-ranking: embeddings to an order of candidates for each query, and its accuracy.

Row i of the queries belongs to row i of the candidates. Uses a model, trains none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.biencoder.config import BiEncoderConfig
from models.biencoder.model import BiEncoder
from models.metrics import top_k_correct


@dataclass(frozen=True)
class Ranking:
    """For each query the indices of all candidates, best first: int64 [queries, candidates]."""

    candidates: np.ndarray

    def ranks(self) -> np.ndarray:
        """The place of each query's own candidate, int64 [queries], from 1."""
        own = np.arange(len(self.candidates))[:, None]
        return (self.candidates == own).argmax(axis=1) + 1

    def correct(self, k: int) -> np.ndarray:
        """Whether each query's own candidate is among the first *k*, bool [queries].

        Raises
        ------
        ValueError
            k outside [1, candidates).
        """
        queries, candidates = self.candidates.shape
        scores = np.empty_like(self.candidates)
        np.put_along_axis(scores, self.candidates, -np.arange(candidates)[None], axis=1)
        return top_k_correct(scores, np.arange(queries), k)


@dataclass(frozen=True)
class Answers:
    """Rankings as found and as re-ranked, and all distances, float32 [queries, candidates]."""

    distances: np.ndarray
    retrieved: Ranking
    reranked: Ranking


def answer(
    model: BiEncoder, config: BiEncoderConfig, queries: Tensor, candidates: Tensor
) -> Answers:
    """Find each query's nearest candidates, and re-rank the first ``config.rerank_top`` of them.

    Parameters
    ----------
    queries, candidates : Tensor, float [n, embed_dim] and [c, embed_dim]
        Embeddings.
    """
    distances = euclidean_distances(queries, candidates)
    as_array = distances.cpu().numpy()
    retrieved = nearest_first(as_array)
    if config.rerank_top is None:
        return Answers(as_array, retrieved, retrieved)
    top = torch.from_numpy(retrieved.candidates[:, : config.rerank_top]).to(queries.device)
    scores = rerank_scores(model, config, queries, candidates[top], distances.gather(1, top))
    return Answers(as_array, retrieved, rerank(retrieved, scores.cpu().numpy()))


def euclidean_distances(a: Tensor, b: Tensor) -> Tensor:
    """All distances, [n, c], from differences, so that near ones keep their digits.

    torch.cdist's default for more than 25 rows, |a|² - 2ab + |b|², loses them by cancellation.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def nearest_first(distances: np.ndarray) -> Ranking:
    """Candidates by distance; of equal distances the smaller index comes first."""
    return Ranking(np.argsort(distances, axis=1, kind="stable"))


def rerank_scores(
    model: BiEncoder, config: BiEncoderConfig, queries: Tensor, top: Tensor, distances: Tensor
) -> Tensor:
    """Scores of the *top* candidates [n, r, embed_dim], float [n, r]; higher is better.

    All pairs go through the classifier in one call. Its log-odds are added to the distance with a
    weight, because alone it is the weaker judge: it sees the same embeddings as the distance does.
    """
    log_odds = model.pair_log_odds(queries.unsqueeze(1), top)
    return config.rerank_weight * log_odds - distances


def rerank(ranking: Ranking, scores: np.ndarray) -> Ranking:
    """The first r candidates by falling score, [queries, r]; equals and the rest stay in order."""
    top = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    candidates = ranking.candidates.copy()
    candidates[:, :top] = np.take_along_axis(ranking.candidates[:, :top], order, axis=1)
    return Ranking(candidates)
