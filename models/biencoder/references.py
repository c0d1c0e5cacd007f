"""What no training changes, to stand beside the variants: TF-IDF, and the untrained encoder.

A split and the vectors of its texts go in, the figures of its tasks come out; kept in a folder,
because every run of a session asks for the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from models.biencoder.data import RetrievalSplit
from models.biencoder.retrieval import Answers, metrics_of, ranks_of
from models.biencoder.tfidf import tfidf_scores

TFIDF, UNTRAINED = "TF-IDF", "untrained encoder"


def tfidf_ranks(split: RetrievalSplit) -> dict[str, np.ndarray]:
    """Task to ranks by :func:`models.biencoder.tfidf.tfidf_scores`, fitted on the split's texts."""
    return ranks_of(split, tfidf_scores(split.texts, split.queries)[:, split.candidates])


def cosine_ranks(split: RetrievalSplit, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Task to ranks by the cosine of encoder outputs, [texts, width]; equal texts score equal."""
    vectors = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths, lengths, 1.0)
    cosines = unit[split.queries] @ unit[split.candidates].T
    return ranks_of(split, cosines[:, split.first_of_text])


def reference_figures(
    split: RetrievalSplit,
    vectors: np.ndarray,
    *,
    unseen_task: str,
    cache_dir: Path | None,
) -> dict[str, dict[str, float]]:
    """The figures of both references, without those after re-ranking, which they have none of.

    Parameters
    ----------
    vectors : ndarray of float32, shape (texts, width)
    unseen_task : str
        See :func:`models.biencoder.retrieval.metrics_of`.
    cache_dir : Path or None
        Where they are kept.
    """

    def compute() -> dict[str, dict[str, float]]:
        by_reference = {TFIDF: tfidf_ranks(split), UNTRAINED: cosine_ranks(split, vectors)}
        return {
            reference: _retrieved_only(metrics_of(Answers(by_task, by_task), split, unseen_task))
            for reference, by_task in by_reference.items()
        }

    if cache_dir is None:
        return compute()
    return _kept(
        Path(cache_dir) / "references" / f"{_digest(split, vectors, unseen_task)}.json", compute
    )


def _retrieved_only(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "reranked" not in name}


def _digest(split: RetrievalSplit, vectors: np.ndarray, unseen_task: str) -> str:
    hasher = hashlib.sha256(json.dumps([unseen_task, split.texts]).encode())
    for array in (split.queries, split.candidates, split.own, split.unseen, vectors):
        hasher.update(np.ascontiguousarray(array).tobytes())
    for task in split.tasks:
        hasher.update(task.name.encode() + np.packbits(task.allowed).tobytes())
    return hasher.hexdigest()[:32]


def _kept(path: Path, compute: Callable[[], dict]) -> dict[str, dict[str, float]]:
    """What is kept at *path*, or else computed, and kept where that is possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if (found := _read(path)) is None:
                found = compute()
                temporary = path.with_suffix(".tmp")
                temporary.write_text(json.dumps(found), encoding="utf-8")
                os.replace(temporary, path)
            return found
    except (OSError, NotImplementedError):  # a full or read-only folder: it is cheap to compute
        return compute()


def _read(path: Path) -> dict[str, dict[str, float]] | None:
    """None where it is not there, or is not what was written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if found.keys() == {TFIDF, UNTRAINED} else None
    except (OSError, ValueError, AttributeError):
        return None
