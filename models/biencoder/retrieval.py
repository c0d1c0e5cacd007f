"""Retrieval and re-ranking: an embedded split to ranks of the right answers, task by task.

Embeddings and tasks go in, ranks and the figures of the tables come out. Uses a model, trains none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.biencoder.config import BiEncoderConfig
from models.biencoder.data import RetrievalSplit
from models.biencoder.model import BiEncoder, Embedded
from models.biencoder.tasks import figures, ranks, reranked_ranks, top_allowed
from models.errors import DataError

PAIRS_AT_ONCE = 2**14  # pairs in one call of the classifier: some 25 MB of features

#: Indices [q, k] of candidates, -1 for none, to scores [q, k]; higher is better.
PairScores = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Answers:
    """Task to the rank of each query's right answer, int64 [q]: as retrieved, and re-ranked.

    The two are the same where the configuration asks for no re-ranking.
    """

    retrieved: Mapping[str, np.ndarray]
    reranked: Mapping[str, np.ndarray]


def answer(
    model: BiEncoder,
    config: BiEncoderConfig,
    split: RetrievalSplit,
    queries: Embedded,
    candidates: Embedded,
) -> Answers:
    """Rank the candidates of every task of *split*, and re-rank the first of each.

    Parameters
    ----------
    queries, candidates : Embedded [q, ...] and [c, ...]
    """
    scores = -distances(queries.embeddings, candidates.embeddings, split.first_of_text)
    if config.rerank_top is None:
        return Answers(retrieved := ranks_of(split, scores), retrieved)

    def pair_scores(top: np.ndarray) -> np.ndarray:
        log_odds = pair_log_odds(model, queries, candidates, top)
        log_odds = _of_first_equal(log_odds, split.first_of_text[np.maximum(top, 0)])
        retrieved = np.take_along_axis(scores, np.maximum(top, 0), axis=1)
        return retrieved + config.rerank_weight * log_odds

    return Answers(*reranked_ranks_of(split, scores, config.rerank_top, pair_scores))


def distances(queries: Tensor, candidates: Tensor, first_of_text: np.ndarray) -> np.ndarray:
    """All Euclidean distances, float64 [q, c], equal where two candidates read the same.

    In float64, because |a|² - 2ab + |b|² loses the digits of small distances by cancellation.
    """
    found = torch.cdist(
        queries.double(), candidates.double(), compute_mode="use_mm_for_euclid_dist"
    )
    return found.cpu().numpy()[:, first_of_text]


def ranks_of(split: RetrievalSplit, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Task to ranks, for scores [q, c] of which higher is better."""
    return {task.name: ranks(scores, split.own, task.allowed) for task in split.tasks}


def reranked_ranks_of(
    split: RetrievalSplit, scores: np.ndarray, top: int, pair_scores: PairScores
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Task to ranks as retrieved, and with the first *top* of each task in a new order."""
    retrieved, reranked = ranks_of(split, scores), {}
    for task in split.tasks:
        first = top_allowed(scores, task.allowed, top)
        reranked[task.name] = reranked_ranks(
            retrieved[task.name], first, split.own, pair_scores(first)
        )
    return retrieved, reranked


def pair_log_odds(
    model: BiEncoder, queries: Embedded, candidates: Embedded, top: np.ndarray
) -> np.ndarray:
    """The classifier's log-odds of each query with its *top* candidates, float64 [q, k].

    Many queries' pairs go through the classifier in one call. Where *top* is -1, the number stands
    for nothing.
    """
    places = torch.from_numpy(np.maximum(top, 0)).to(queries.features.device)
    found = [
        model.pair_log_odds(queries.features[rows].unsqueeze(1), candidates.features[places[rows]])
        for rows in _blocks(*top.shape)
    ]
    return torch.cat(found).double().cpu().numpy()


def _of_first_equal(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """*values* [q, k], each replaced by the first one in its row that has the same code.

    The last bits of a product depend on the row's place in the batch; texts that read the same are
    to score the same.
    """
    order = np.argsort(codes, axis=1, kind="stable")
    ordered = np.take_along_axis(codes, order, axis=1)
    is_first = np.diff(ordered, axis=1, prepend=-1) != 0
    start = np.maximum.accumulate(np.where(is_first, np.arange(codes.shape[1]), 0), axis=1)
    first = np.empty_like(order)
    np.put_along_axis(first, order, np.take_along_axis(order, start, axis=1), axis=1)
    return np.take_along_axis(values, first, axis=1)


def metrics_of(answers: Answers, split: RetrievalSplit, unseen_task: str = "") -> dict[str, float]:
    """Top-1, top-5, top-10 accuracy and MRR of every task, retrieved and re-ranked.

    For *unseen_task* they are there once more over the pairs that training has not seen, with
    ``unseen_`` before their names.

    Raises
    ------
    models.errors.DataError
        Training has seen all pairs.
    """
    found = {}
    for prefix, by_task in (("", answers.retrieved), ("reranked_", answers.reranked)):
        for task, places in by_task.items():
            found |= named_figures(places, task, prefix)
        if unseen_task:
            places = by_task[unseen_task][_unseen(split)]
            found |= named_figures(places, unseen_task, f"unseen_{prefix}")
    return found


def _unseen(split: RetrievalSplit) -> np.ndarray:
    if not split.unseen.any():
        raise DataError(
            f"all {len(split)} pairs of the evaluated split stand in the training split too, word "
            f"for word: their accuracy would say nothing; give other splits"
        )
    return split.unseen


def named_figures(places: np.ndarray, task: str, prefix: str = "") -> dict[str, float]:
    """``{prefix}{task}_top1``, … of these ranks; of a task without a name ``{prefix}top1``, …"""
    middle = f"{task}_" if task else ""
    return {f"{prefix}{middle}{name}": value for name, value in figures(places).items()}


def _blocks(queries: int, per_query: int) -> Iterator[slice]:
    size = max(1, PAIRS_AT_ONCE // max(1, per_query))
    return (slice(start, start + size) for start in range(0, queries, size))
