"""Top-k accuracy of scores against labels: arrays in, a number or a boolean per example out.

Knows NumPy only. Counts ties as scikit-learn's ``top_k_accuracy_score`` does, and refuses what
scikit-learn only warns about: a k that makes every example correct.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int) -> float:
    """The fraction of examples whose label is among the k classes of highest score.

    Parameters, ties and errors are those of :func:`top_k_correct`.

    Returns
    -------
    float in [0, 1]

    Examples
    --------
    >>> top_k_accuracy([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], [2, 0], k=1)
    0.5
    """
    return float(top_k_correct(scores, labels, k).mean())


def top_k_correct(scores: ArrayLike, labels: ArrayLike, k: int) -> NDArray[np.bool_]:
    """Whether each example's label is among the k classes of highest score.

    Of classes with equal scores, the one with the larger index ranks higher. This is the rule of
    ``sklearn.metrics.top_k_accuracy_score`` (a stable ascending sort, read backwards), so that a
    model that gives one score to all classes is right only for the labels of the last k.

    Parameters
    ----------
    scores : array-like of finite numbers, shape (n, c)
        Higher is better: logits, probabilities or similarities.
    labels : array-like of int, shape (n,)
        Class indices in [0, c).
    k : int
        1 <= k < c.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    ValueError
        k outside [1, c), no examples, shapes that do not match, labels that are no class, scores
        that are not finite.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    _check_arrays(scores, labels)
    _check_k(k, classes=scores.shape[1])
    of_label = np.take_along_axis(scores, labels[:, None], axis=1)
    higher_index = np.arange(scores.shape[1]) > labels[:, None]
    ranked_above = (scores > of_label) | ((scores == of_label) & higher_index)
    return ranked_above.sum(axis=1) < k


def _check_arrays(scores: np.ndarray, labels: np.ndarray) -> None:
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"scores of shape (n, classes) and labels of shape (n,) are needed, "
            f"found {scores.shape} and {labels.shape}"
        )
    if not scores.size:
        raise ValueError(f"there is nothing to score: scores have the shape {scores.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels are class indices (integers), found {labels.dtype}")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels index the {scores.shape[1]} columns of scores, "
            f"found labels from {labels.min()} to {labels.max()}"
        )
    if not np.isfinite(scores).all():
        bad = np.argwhere(~np.isfinite(scores))
        row, column = bad[0]
        raise ValueError(
            f"scores must be finite, found {scores[row, column]} for example {row}, class {column} "
            f"({len(bad)} of {scores.size} scores are not finite)"
        )


def _check_k(k: int, classes: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k is a number of classes, 1 or more, found {k!r}")
    if k >= classes:
        raise ValueError(
            f"top-{k} accuracy of {classes} classes is 1 for any scores and measures nothing: "
            f"choose k from 1 to {classes - 1}"
            if classes > 1
            else f"top-{k} accuracy needs two or more classes, found one column of scores"
        )
