"""The eight retrieval tasks of ArguAna: which arguments are candidates, and where a counter ranks.

A split goes in, a mask of candidates per task comes out; scores and a mask go in, ranks, the first
k candidates and the figures of the table come out. NumPy only: knows no model and reads no file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import DataError

if TYPE_CHECKING:
    from models.arguana import Split

DESCRIPTIONS = {
    "sdoc": "same debate, opposing counters",
    "sdoa": "same debate, opposing arguments",
    "sdc": "same debate, counters",
    "sda": "same debate, arguments",
    "stc": "same theme, counters",
    "sta": "same theme, arguments",
    "epc": "entire portal, counters",
    "epa": "entire portal, arguments",
}
TASKS = tuple(DESCRIPTIONS)
TOP_K = (1, 5, 10)
FIGURES = (*(f"top{k}" for k in TOP_K), "mrr")
BLOCK_ROWS = 256  # queries ranked at once: temporary arrays of a few MiB, whatever the split


@dataclass(frozen=True, eq=False)
class Task:
    """One task: ``allowed[i, j]`` says whether argument j is a candidate for query i.

    The columns are the arguments of the split in its order; the rows are its queries.
    """

    name: str
    description: str
    allowed: NDArray[np.bool_]

    @property
    def mean_candidates(self) -> float:
        return float(self.allowed.sum(axis=1).mean())


def arguana_tasks(split: Split, names: Collection[str] = TASKS) -> tuple[Task, ...]:
    """The tasks of Wachsmuth, Syed and Stein (ACL 2018, table 3) for every query point p.

    ``sdoc``: the counters in p's debate whose stance is opposite to p's; ``sdoa``: the points and
    counters there whose stance is; ``sdc``: all counters of the debate; ``sda``: all its arguments;
    ``stc``, ``sta``: the same over p's theme; ``epc``, ``epa``: the same over the whole split. p
    itself is never a candidate. Two debates of one name under two themes are two debates.

    A mask takes queries x arguments bytes: 31 MiB for the eight of the test split, but 265 MB for
    the training split. For a sample of its queries, cut the split first:
    ``dataclasses.replace(split, queries=split.queries[::10], counters=split.counters[::10])``.

    Parameters
    ----------
    split : models.arguana.Split
    names : collection of str
        The tasks wanted; they come in the order of ``TASKS``.

    Raises
    ------
    DataError
        The split has no queries.
    ValueError
        A name that is no task.
    """
    if unknown := [name for name in names if name not in TASKS]:
        raise ValueError(f"no such task: {', '.join(map(repr, unknown))}; there are {TASKS}")
    if not split.queries:
        raise DataError("the split has no queries (points with a counter), so no task has any")
    return tuple(
        Task(name, DESCRIPTIONS[name], _read_only(allowed))
        for name, allowed in _masks(split)
        if name in names
    )


def single_task(queries: int, candidates: int, name: str = "") -> Task:
    """One task in which every candidate is allowed for every query.

    Raises
    ------
    ValueError
        No queries, or no candidates.
    """
    if queries < 1 or candidates < 1:
        raise ValueError(
            f"a task needs queries and candidates, found {queries} queries, {candidates} candidates"
        )
    return Task(name, "all candidates", _read_only(np.ones((queries, candidates), dtype=bool)))


def ranks(scores: ArrayLike, own: ArrayLike, allowed: ArrayLike) -> NDArray[np.int64]:
    """The place of each query's own candidate among the allowed ones, from 1.

    Of candidates with equal scores the one with the smaller index comes first.

    Parameters
    ----------
    scores : array-like of finite numbers, shape (queries, candidates)
        Higher is better; those of candidates that are not allowed do not count.
    own : array-like of int, shape (queries,)
        The index of the right candidate.
    allowed : array-like of bool, shape (queries, candidates)

    Returns
    -------
    ndarray of int64, shape (queries,)

    Raises
    ------
    ValueError
        No queries, shapes that do not match, scores that are not finite, an index that is no
        candidate, or a query whose own candidate is not allowed.
    """
    scores, allowed = _checked(scores, allowed)
    own = _checked_own(own, allowed)
    position = np.arange(scores.shape[1])
    found = np.empty(len(scores), dtype=np.int64)
    for rows in _blocks(len(scores)):
        block, of_own = scores[rows], scores[rows][np.arange(len(own[rows])), own[rows]][:, None]
        before = (block > of_own) | ((block == of_own) & (position < own[rows, None]))
        found[rows] = 1 + np.count_nonzero(before & allowed[rows], axis=1)
    return found


def top_allowed(scores: ArrayLike, allowed: ArrayLike, k: int) -> NDArray[np.int64]:
    """The first *k* allowed candidates of each query, best first; equals by their index.

    Parameters
    ----------
    scores, allowed : see :func:`ranks`
    k : int
        1 or more; may be larger than the number of candidates.

    Returns
    -------
    ndarray of int64, shape (queries, k)
        Indices of candidates; -1 in the last places of queries with fewer than k candidates.

    Raises
    ------
    ValueError
        As :func:`ranks`, and k below 1.
    """
    scores, allowed = _checked(scores, allowed)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k is a number of candidates, 1 or more, found {k!r}")
    top = np.full((len(scores), k), -1, dtype=np.int64)
    within = min(k, scores.shape[1])
    for rows in _blocks(len(scores)):
        top[rows, :within] = _top_of(np.where(allowed[rows], scores[rows], -np.inf), within)
    return top


def reranked_ranks(
    plain_ranks: ArrayLike, top: ArrayLike, own: ArrayLike, top_scores: ArrayLike
) -> NDArray[np.int64]:
    """The place of each query's own candidate after its first k were put in another order.

    The first k are sorted by falling *top_scores*; equals keep the order of retrieval. An own
    candidate that was not among them keeps its plain rank.

    Parameters
    ----------
    plain_ranks : array-like of int, shape (queries,)
        What :func:`ranks` returned.
    top : array-like of int, shape (queries, k)
        What :func:`top_allowed` returned, for the same scores and candidates.
    own : array-like of int, shape (queries,)
    top_scores : array-like of numbers, shape (queries, k)
        Higher is better. Finite, except in the places where *top* is -1, which are ignored.

    Returns
    -------
    ndarray of int64, shape (queries,)

    Raises
    ------
    ValueError
        No queries, shapes that do not match, scores that are not finite, or plain ranks and *top*
        that cannot come from the same retrieval.
    """
    plain_ranks, top, own = np.asarray(plain_ranks), np.asarray(top), np.asarray(own)
    top_scores = np.asarray(top_scores)
    _check_retrieved(plain_ranks, top, own, top_scores)
    place = plain_ranks - 1
    inside = place < top.shape[1]
    of_own = np.take_along_axis(top_scores, np.where(inside, place, 0)[:, None], axis=1)
    retrieved_before = np.arange(top.shape[1]) < place[:, None]
    before = (top_scores > of_own) | ((top_scores == of_own) & retrieved_before)
    reranked = 1 + np.count_nonzero(before & (top >= 0), axis=1)
    return np.where(inside, reranked, plain_ranks).astype(np.int64)


def figures(ranks: ArrayLike) -> dict[str, float]:
    """Top-1, top-5, top-10 accuracy and mean reciprocal rank, as fractions.

    Where a query has fewer than k candidates, its top-k is right whatever the scores: its own
    counter is always one of them. ``sdoc`` has one to seven candidates in the corpus, so that its
    top-10 is 1 for any scores; the mean number of candidates stands in the table for that reason.

    Parameters
    ----------
    ranks : array-like of int, shape (queries,)
        Places from 1.

    Returns
    -------
    dict
        ``top1``, ``top5``, ``top10`` in [0, 1] and ``mrr`` in (0, 1], plain floats.

    Raises
    ------
    ValueError
        No queries, or a rank below 1.

    Examples
    --------
    >>> figures([1, 2, 4, 20])
    {'top1': 0.25, 'top5': 0.75, 'top10': 0.75, 'mrr': 0.45}
    """
    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or not ranks.size:
        raise ValueError(f"there are no queries to score: ranks have the shape {ranks.shape}")
    if ranks.dtype.kind not in "iu" or ranks.min() < 1:
        raise ValueError(f"ranks are integers from 1, found {ranks.min()} ({ranks.dtype})")
    accuracies = {f"top{k}": float((ranks <= k).mean()) for k in TOP_K}
    return {**accuracies, "mrr": float((1 / ranks).mean())}


def metric_names(tasks: Iterable[str] = TASKS) -> list[str]:
    """Task by task ``sdoc_top1``, ``sdoc_top5``, ``sdoc_top10``, ``sdoc_mrr``, …

    A task without a name ("") has the names of the figures alone: ``top1``, ``top5``, …
    """
    return [f"{task}_{figure}" if task else figure for task in tasks for figure in FIGURES]


def _masks(split: Split) -> Iterator[tuple[str, np.ndarray]]:
    """Each task's name and mask, in the order of ``TASKS``, one at a time."""
    arguments, queries = split.arguments, np.asarray(split.queries)
    counter = np.array([argument.is_counter for argument in arguments])
    stance = np.array([argument.stance for argument in arguments])
    theme = _codes(argument.theme for argument in arguments)
    debate = _codes((argument.theme, argument.debate) for argument in arguments)
    others = np.arange(len(arguments)) != queries[:, None]
    same_debate = others & (debate == debate[queries, None])
    opposing = same_debate & (stance != stance[queries, None])
    yield "sdoc", opposing & counter
    yield "sdoa", opposing
    yield "sdc", same_debate & counter
    yield "sda", same_debate
    same_theme = others & (theme == theme[queries, None])
    yield "stc", same_theme & counter
    yield "sta", same_theme
    yield "epc", others & counter
    yield "epa", others


def _codes(values: Iterable[object]) -> np.ndarray:
    """Equal integers for equal values."""
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values])


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK_ROWS) for start in range(0, rows, BLOCK_ROWS))


def _top_of(scores: np.ndarray, k: int) -> np.ndarray:
    """The first k of each row, best first; -inf marks what is no candidate and becomes -1.

    All above the k-th largest value are in, and of those equal to it the first ones: exactly k,
    found without sorting whole rows (five times as fast for 10 of 2,800).
    """
    kth = np.partition(scores, scores.shape[1] - k, axis=1)[:, [scores.shape[1] - k]]
    above, equal = scores > kth, scores == kth
    room = k - np.count_nonzero(above, axis=1)[:, None]
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    columns = np.nonzero(chosen)[1].reshape(len(scores), k)
    of_chosen = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-of_chosen, axis=1, kind="stable")  # columns rise: equals stay by index
    best_first = np.where(np.isneginf(of_chosen), -1, columns)
    return np.take_along_axis(best_first, order, axis=1)


def _checked(scores: ArrayLike, allowed: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, allowed = np.asarray(scores), np.asarray(allowed)
    if scores.ndim != 2 or scores.shape != allowed.shape or allowed.dtype != bool:
        raise ValueError(
            "scores and allowed are needed with one shape (queries, candidates), allowed of bool; "
            f"found {scores.shape} and {allowed.shape} of {allowed.dtype}"
        )
    if not scores.size:
        raise ValueError(f"there are no queries to rank for: scores have the shape {scores.shape}")
    if not np.isfinite(scores).all():
        query, candidate = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(
            f"scores must be finite, found {scores[query, candidate]} for query {query}, "
            f"candidate {candidate}"
        )
    return scores, allowed


def _checked_own(own: ArrayLike, allowed: np.ndarray) -> np.ndarray:
    own = np.asarray(own)
    queries, candidates = allowed.shape
    if own.shape != (queries,) or own.dtype.kind not in "iu":
        raise ValueError(
            f"own needs an index for each of the {queries} queries, found {own.dtype} of shape "
            f"{own.shape}"
        )
    if own.min() < 0 or own.max() >= candidates:
        raise ValueError(f"own indexes {candidates} candidates, found {own.min()} to {own.max()}")
    excluded = np.flatnonzero(~allowed[np.arange(queries), own])
    if len(excluded):
        raise ValueError(
            f"the own candidate of query {excluded[0]} (candidate {own[excluded[0]]}) is not "
            f"allowed, and so for {len(excluded)} of {queries} queries: it could never be found"
        )
    return own


def _check_retrieved(
    plain_ranks: np.ndarray, top: np.ndarray, own: np.ndarray, top_scores: np.ndarray
) -> None:
    """Whether the four belong together: each own candidate stands in *top* where its rank says."""
    if top.ndim != 2 or not top.size:
        raise ValueError(f"there is nothing to re-rank: top has the shape {top.shape}")
    queries, k = top.shape
    if plain_ranks.shape != (queries,) or own.shape != (queries,) or top_scores.shape != top.shape:
        raise ValueError(
            f"top of shape {top.shape} needs plain_ranks and own of shape ({queries},) and "
            f"top_scores of its own shape, found {plain_ranks.shape}, {own.shape} and "
            f"{top_scores.shape}"
        )
    if not np.isfinite(top_scores[top >= 0]).all():
        raise ValueError("top_scores must be finite wherever top names a candidate")
    in_top = (top == own[:, None]) & (top >= 0)
    place = np.where(in_top.any(axis=1), in_top.argmax(axis=1) + 1, 0)
    expected = np.where((plain_ranks >= 1) & (plain_ranks <= k), plain_ranks, 0)
    if (plain_ranks < 1).any() or (place != expected).any():
        query = np.flatnonzero((plain_ranks < 1) | (place != expected))[0]
        raise ValueError(
            f"plain_ranks and top differ: query {query} has rank {plain_ranks[query]}, but its own "
            f"candidate {own[query]} is "
            + (f"number {place[query]} of its first {k}" if place[query] else "not among its top")
            + "; both must come from the same scores and candidates"
        )
