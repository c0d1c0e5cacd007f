"""Nearest neighbours in the embedding space, by exact search or by a ball tree.

Two sets of points go in, indices of the nearest come out. Both searchers find a few candidates
more than are wanted, compute those distances again in float64 from differences, and break ties by
index, so that they agree to the last index. NumPy; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 256  # queries searched at once: a float32 block of 8,000 points is 8 MiB


class NeighbourSearch(Protocol):
    """Finds the *k* points nearest to each query, nearest first; equals by their index."""

    def __call__(self, queries: np.ndarray, points: np.ndarray, k: int) -> NDArray[np.int64]:
        """
        Parameters
        ----------
        queries, points : ndarray of finite floats, shape (n, width) and (m, width)
        k : int
            1 <= k <= m.

        Returns
        -------
        ndarray of int64, shape (n, k)

        Raises
        ------
        ValueError
            Shapes that do not match, no points, k out of range, or coordinates that are not
            finite.
        """
        ...


def exact_search(queries: np.ndarray, points: np.ndarray, k: int) -> NDArray[np.int64]:
    """All distances by matrix products. See :class:`NeighbourSearch`.

    |a|² - 2ab + |b|² loses the digits of small distances by cancellation; so it only rules out
    the points that are farther than the k-th by more than its error can be.
    """
    queries, points = _checked(queries, points, k)
    nearest = np.empty((len(queries), k), dtype=np.int64)
    center = points.mean(axis=0)  # distances do not change, numbers get smaller
    extent = _extent(queries - center, points - center)  # float32 squares up to 1e38 only
    near, far = (((x - center) / extent).astype(np.float32) for x in (queries, points))
    far_squares = np.einsum("ij,ij->i", far, far)
    for rows in _blocks(len(queries)):
        squares = np.einsum("ij,ij->i", near[rows], near[rows])[:, None]
        approximate = squares - 2 * (near[rows] @ far.T) + far_squares
        kth = np.partition(approximate, k - 1, axis=1)[:, [k - 1]]
        possible = approximate <= kth + 2 * _largest_error(squares, far_squares, far.shape[1])
        for row, columns in enumerate(map(np.flatnonzero, possible), start=rows.start):
            nearest[row] = _nearest_of(columns, queries[row], points, k)
    return nearest


def ball_tree_search(queries: np.ndarray, points: np.ndarray, k: int) -> NDArray[np.int64]:
    """By scikit-learn's ``BallTree``. See :class:`NeighbourSearch`.

    The tree tells the distance of the k-th neighbour; of all points within it, the first by index
    are taken (the tree itself breaks ties by its own order).
    """
    from sklearn.neighbors import BallTree

    queries, points = _checked(queries, points, k)
    if not len(queries):
        return np.empty((0, k), dtype=np.int64)
    tree = BallTree(points)
    distances, _ = tree.query(queries, k=k)
    # Rounding leaves none out: neither that of a distance, nor that of the tree's bounds, which are
    # differences of numbers as large as all points are wide.
    slack = 1e-12 * np.sqrt(points.shape[1]) * _extent(queries, points)
    radii = distances[:, -1] * (1 + 1e-9) + slack
    within = tree.query_radius(queries, radii)
    rows = (_nearest_of(np.sort(found), query, points, k)
            for found, query in zip(within, queries, strict=True))  # fmt: skip
    return np.stack(list(rows))


def _extent(queries: np.ndarray, points: np.ndarray) -> float:
    """The largest coordinate of all, by its size; 1 where all are 0."""
    return float(max(np.abs(queries).max(initial=0), np.abs(points).max())) or 1.0


def _nearest_of(columns: np.ndarray, query: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    """The first k of these points, by distance and then by index; *columns* rise."""
    difference = points[columns] - query
    squares = np.einsum("ij,ij->i", difference, difference)
    return columns[np.argsort(squares, kind="stable")[:k]]


def _largest_error(squares: np.ndarray, far_squares: np.ndarray, width: int) -> np.ndarray:
    """A bound on the error of |a|² - 2ab + |b|² in float32, shape of *squares*.

    Each of the three sums of *width* products errs by at most (width + 2) roundings of its size
    (N. J. Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), each size being at
    most that of the larger square; rounding the coordinates to float32 adds two more.
    """
    roundings = (4 * (width + 2) + 8) * np.finfo(np.float32).eps / 2
    return roundings * (squares + far_squares.max()) + np.finfo(np.float32).tiny


def _checked(queries: np.ndarray, points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    queries, points = (np.asarray(array, dtype=np.float64) for array in (queries, points))
    if queries.ndim != 2 or points.ndim != 2 or queries.shape[1] != points.shape[1]:
        raise ValueError(
            f"queries (n, width) and points (m, width) are needed, found {queries.shape} and "
            f"{points.shape}"
        )
    if not 1 <= k <= len(points):
        raise ValueError(f"k={k} neighbours of {len(points)} points: expected 1 to {len(points)}")
    if not (np.isfinite(queries).all() and np.isfinite(points).all()):
        raise ValueError("coordinates must be finite: did the training diverge?")
    return queries, points


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK_ROWS) for start in range(0, rows, BLOCK_ROWS))
