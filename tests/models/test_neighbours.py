"""Both searchers against brute force: all differences in float64, sorted by distance and index."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.biencoder.neighbours import BLOCK_ROWS, ball_tree_search, exact_search

SEARCHES = [exact_search, ball_tree_search]
both = pytest.mark.parametrize("search", SEARCHES)
#: More points than a leaf of scikit-learn's tree holds (40), so that there is a tree.
POINTS = st.integers(1, 70)


@st.composite
def grids(draw):
    """Points of few places, so that ties and duplicates are the rule; differences are exact.

    The grid may be coarse or fine, and stand far from the origin: 1e4 beside steps of 2**-20.
    """
    queries, points, width = draw(st.integers(0, 5)), draw(POINTS), draw(st.integers(1, 4))
    step = 2.0 ** draw(st.integers(-20, 3))
    offset = draw(st.sampled_from([0, 10_000, -30_000]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    if offset and dtype == np.float32:
        step = 2.0**-6  # finer steps are not float32 numbers there
    places = st.integers(-draw(st.sampled_from([1, 6])), 6)
    sides = (
        (offset + step * draw(arrays(np.int64, (rows, width), elements=places))).astype(dtype)
        for rows in (queries, points)
    )
    return *sides, draw(st.integers(1, points))


def brute_force(queries, points, k):
    """Exact on a grid: no distance is rounded."""
    queries, points = (array.astype(np.float64) for array in (queries, points))
    order = []
    for query in queries.tolist():
        squares = [sum((a - b) ** 2 for a, b in zip(point, query, strict=True))
                   for point in points.tolist()]  # fmt: skip
        order.append(sorted(range(len(points)), key=lambda j: (squares[j], j))[:k])
    return order


@settings(max_examples=100)  # the first example imports scikit-learn
@given(grids())
def test_both_find_what_brute_force_finds(case):
    queries, points, k = case
    expected = brute_force(queries, points, k)
    for search in SEARCHES:
        found = search(queries, points, k)
        assert found.dtype == np.int64
        assert found.shape == (len(queries), k)
        assert found.tolist() == expected, search.__name__


@settings(max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(2, 150), st.integers(1, 12), st.data())
def test_both_agree_on_any_coordinates(seed, count, width, data):
    """Clusters of any size and place, with duplicates, and queries that stand on points."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, width)) * 10.0 ** data.draw(st.integers(-3, 4))
    spread = 10.0 ** data.draw(st.integers(-12, 2))
    points = centres[rng.integers(0, 3, count)] + rng.normal(size=(count, width)) * spread
    points[rng.integers(0, count, count // 4)] = points[0]
    queries = np.concatenate([points[:3], points[:3] + rng.normal(size=(1, width)) * spread])
    k = data.draw(st.integers(1, count))
    assert (exact_search(queries, points, k) == ball_tree_search(queries, points, k)).all()


@both
def test_near_points_far_from_the_origin_are_told_apart(search):
    """In float32, |a|² - 2ab + |b|² of these is noise: 1e8 beside differences of 1e-4."""
    rng = np.random.default_rng(0)
    points = 1e4 + rng.normal(size=(300, 8), scale=0.01)
    queries = 1e4 + rng.normal(size=(20, 8), scale=0.01)
    distances = np.sqrt(((queries[:, None] - points[None]) ** 2).sum(axis=-1))
    assert (search(queries, points, 10) == np.argsort(distances, axis=1)[:, :10]).all()


@both
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_that_float32_does_not_hold_are_no_problem(search, scale):
    """Such are the embeddings of a training that is about to diverge."""
    rng = np.random.default_rng(0)
    points, queries = rng.normal(size=(80, 3)), rng.normal(size=(9, 3))
    found = search(queries * scale, points * scale, 5)
    distances = np.sqrt(((queries[:, None] - points[None]) ** 2).sum(axis=-1))
    assert (found == np.argsort(distances, axis=1)[:, :5]).all()


def test_a_tree_over_a_wide_range_loses_no_neighbour():
    """Two clusters 3,000 apart with steps of 2e-9 in them: bounds of the tree round by as much."""
    rng = np.random.default_rng(0)
    for _ in range(200):  # without any slack, some 3 in 100 lose one
        points = rng.integers(0, 2, (60, 1)) * 3000.1 + rng.integers(-5, 6, (60, 2)) * 2.0**-29
        queries = points[:20] + rng.integers(-8, 9, (20, 2)) * 2.0**-29
        assert (ball_tree_search(queries, points, 1) == exact_search(queries, points, 1)).all()


@both
@pytest.mark.parametrize("count", [BLOCK_ROWS - 1, BLOCK_ROWS, 2 * BLOCK_ROWS + 1])
def test_more_queries_than_are_searched_at_once_are_searched_alike(search, count):
    queries = np.random.default_rng(0).normal(size=(count, 3))
    points = np.random.default_rng(1).normal(size=(50, 3))
    alone = np.concatenate([search(query[None], points, 4) for query in queries])
    assert (search(queries, points, 4) == alone).all()


@both
def test_the_nearest_of_equal_points_is_the_first(search):
    points = np.ones((60, 2))
    assert search(np.zeros((2, 2)), points, 60).tolist() == [list(range(60))] * 2


@both
def test_no_queries_have_no_neighbours(search):
    assert search(np.empty((0, 3)), np.ones((4, 3)), 2).shape == (0, 2)


@both
@pytest.mark.parametrize(
    ("queries", "points", "k", "message"),
    [
        (np.ones((2, 3)), np.ones((4, 2)), 1, r"are needed, found \(2, 3\) and \(4, 2\)"),
        (np.ones(3), np.ones((4, 3)), 1, r"are needed, found \(3,\) and \(4, 3\)"),
        (np.ones((2, 3)), np.ones((4, 3)), 0, "k=0 neighbours of 4 points: expected 1 to 4"),
        (np.ones((2, 3)), np.ones((4, 3)), 5, "k=5 neighbours of 4 points: expected 1 to 4"),
        (np.ones((2, 3)), np.ones((0, 3)), 1, "k=1 neighbours of 0 points"),
        (np.full((1, 1), np.nan), np.ones((4, 1)), 1, "must be finite"),
        (np.ones((1, 1)), np.array([[0.0], [np.inf]]), 1, "must be finite"),
    ],
)
def test_what_cannot_be_searched_is_refused(search, queries, points, k, message):
    with pytest.raises(ValueError, match=message):
        search(queries, points, k)
