"""Negatives: never the query or its answer, as near as was asked for, drawn from one stream."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.biencoder import BiEncoderConfig
from models.biencoder.data import RetrievalSplit, load_retrieval_data
from models.biencoder.negatives import Negatives
from models.errors import DataError
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

ALL_RANDOM = {"random_negatives": 1.0, "random_decay": 0.0}
ALL_HARD = {"random_negatives": 0.0}


def split_of(texts, queries, candidates, own):
    queries, candidates, own = map(np.array, (queries, candidates, own))
    unseen = np.zeros(len(queries), dtype=bool)
    return RetrievalSplit("train", tuple(texts), queries, candidates, own, (), unseen)


@st.composite
def splits(draw):
    """Splits in which texts repeat; queries may be candidates too, and answer each other."""
    count = draw(st.integers(3, 14))
    texts = [draw(st.sampled_from("abcdefghijklmn"[:count])) for _ in range(count)]
    candidates = draw(st.permutations(range(count)))[: draw(st.integers(2, count))]
    queries = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8))
    own = [draw(st.integers(0, len(candidates) - 1)) for _ in queries]
    split = split_of(texts, queries, candidates, own)
    assume(all(allowed_of(split)))
    return split


def allowed_of(split):
    """For each query, the candidates that read neither like it nor like its answer."""
    texts = [split.texts[place] for place in split.candidates]
    return [
        [j for j, text in enumerate(texts) if text not in (split.texts[query], texts[own])]
        for query, own in zip(split.queries, split.own, strict=True)
    ]


def embeddings_of(split, seed, places=4):
    """Queries and candidates on a small grid: many ties; equal texts have equal embeddings."""
    of_text = {
        text: np.random.default_rng([seed, i]).integers(0, places, 2).astype(np.float32)
        for i, text in enumerate(sorted(set(split.texts)))
    }
    vectors = np.array([of_text[text] for text in split.texts])
    return vectors[split.queries], vectors[split.candidates]


def negatives_of(split, seed=0, **changes):
    return Negatives(BiEncoderConfig(**changes), split, np.random.default_rng(seed))


@settings(max_examples=80)
@given(splits(), st.integers(0, 99), st.integers(1, 4), st.sampled_from([0.0, 0.3, 1.0]))
def test_a_negative_reads_neither_like_the_query_nor_like_its_answer(split, seed, count, share):
    drawn = negatives_of(split, seed, negatives=count, random_negatives=share, random_decay=0.0)
    allowed = allowed_of(split)
    for epoch in (1, 2):
        found = drawn.draw(epoch, *embeddings_of(split, seed))
        assert found.shape == (len(split), count)
        for row, may in zip(found.tolist(), allowed, strict=True):
            assert set(row) <= set(may)


@settings(max_examples=80)
@given(splits(), st.integers(0, 99), st.integers(1, 5), st.booleans())
def test_hard_negatives_are_among_the_nearest_that_are_allowed(split, seed, pool, exact):
    changes = ALL_HARD | {"hard_pool": pool, "negatives": 3, "exact_search": exact}
    queries, candidates = embeddings_of(split, seed)
    found = negatives_of(split, seed, **changes).draw(1, queries, candidates)
    for row, query, may in zip(found.tolist(), queries, allowed_of(split), strict=True):
        distances = ((candidates - query) ** 2).sum(axis=1)
        assert set(row) <= set(sorted(may, key=lambda j: (distances[j], j))[:pool])


@settings(max_examples=60)
@given(splits(), st.integers(0, 99), st.sampled_from([0.0, 0.5]))
def test_both_searchers_give_the_same_draws(split, seed, share):
    found = [
        negatives_of(
            split, seed, exact_search=exact, random_negatives=share, negatives=2, hard_pool=3
        ).draw(1, *embeddings_of(split, seed))
        for exact in (True, False)
    ]
    assert (found[0] == found[1]).all()


# --- how many are random ----------------------------------------------------------------------


def far_apart(count=400):
    """Pairs on a line, one step apart: a query stands where its answer stands."""
    texts = [f"q{i}" for i in range(count)] + [f"a{i}" for i in range(count)]
    split = split_of(texts, range(count), range(count, 2 * count), range(count))
    places = np.arange(count, dtype=np.float32)[:, None]
    return split, places, places


def distance_to_query(found):
    return np.abs(found - np.arange(len(found))[:, None])


def test_the_share_of_random_negatives_falls_by_epoch_to_none():
    split, queries, candidates = far_apart()
    start, decay = 0.7, 0.2
    drawn = negatives_of(
        split, negatives=20, hard_pool=2, random_negatives=start, random_decay=decay
    )
    for epoch, expected in ((1, 0.7), (2, 0.5), (3, 0.3), (4, 0.1), (5, 0.0), (6, 0.0)):
        assert drawn.random_share(epoch) == pytest.approx(expected, abs=1e-12)
        is_far = distance_to_query(drawn.draw(epoch, queries, candidates)) > 2
        # Of the random ones, some 4 of 399 are near by chance; 8,000 draws: 0.0056 is one sigma.
        assert is_far.mean() == pytest.approx(expected * (1 - 4 / 399), abs=0.025 * (expected > 0))


def test_at_the_ends_all_are_hard_or_all_are_random():
    split, queries, candidates = far_apart()
    found = negatives_of(split, negatives=5, hard_pool=2, **ALL_HARD).draw(1, queries, candidates)
    assert set(np.unique(distance_to_query(found))) <= {1, 2}
    everywhere = negatives_of(split, negatives=5, hard_pool=2, **ALL_RANDOM)
    for epoch in (1, 50):
        # Coordinates that no search takes: it is not asked at all.
        found = everywhere.draw(epoch, np.full_like(queries, np.nan), candidates)
        assert (distance_to_query(found) > 2).mean() > 0.97


def test_random_negatives_reach_every_candidate_alike():
    split, queries, candidates = far_apart(count=40)
    drawn = negatives_of(split, negatives=1000, **ALL_RANDOM).draw(1, queries, candidates)
    counts = np.array([np.bincount(row, minlength=40) for row in drawn])
    assert (counts[np.arange(40), np.arange(40)] == 0).all()
    # The place of the own answer goes to the next candidate, which so is drawn twice as often.
    following = (np.arange(40) + 1) % 40
    assert counts[np.arange(40), following].mean() == pytest.approx(50, abs=5)
    counts[np.arange(40), following] //= 2
    assert counts.sum(axis=0) / 39 == pytest.approx(25, abs=5)


def test_hard_negatives_reach_the_whole_pool_alike():
    split, queries, candidates = far_apart(count=60)
    drawn = negatives_of(split, negatives=500, hard_pool=4, **ALL_HARD).draw(1, queries, candidates)
    distances = distance_to_query(drawn)[5:-5].ravel()
    assert np.bincount(distances)[1:] / len(distances) == pytest.approx([0.5, 0.5], abs=0.02)


# --- the stream -------------------------------------------------------------------------------


def test_the_stream_does_not_depend_on_the_embeddings():
    """So that a variant's negatives differ from its baseline's by what is near, not by luck."""
    split, queries, candidates = far_apart()
    one, other, random_only = (
        negatives_of(split, seed=3, negatives=2, **changes)
        for changes in ({}, {}, {"random_negatives": 1.0, "random_decay": 0.5})
    )
    shuffled = np.random.default_rng(0).permutation(candidates)
    first = one.draw(1, queries, candidates)
    moved = other.draw(1, shuffled[: len(queries)], shuffled)
    random_only.draw(1, queries, candidates)
    is_same = (first == moved).mean()
    assert 0.4 < is_same < 0.6, "the random half is the same, the hard half is not"
    again = [drawn.draw(2, queries, candidates) for drawn in (one, other)]
    assert (again[0] == again[1]).all()
    # 0.45 and 0.5 of these are random: but for 0.05 of them, the same choices at the same places.
    same = again[0] == random_only.draw(2, queries, candidates)
    assert same.mean() == pytest.approx(0.95, abs=0.03)


def test_every_epoch_and_every_seed_draws_others():
    split, queries, candidates = far_apart()
    drawn = negatives_of(split, seed=0, **ALL_RANDOM)
    first, second = (drawn.draw(epoch, queries, candidates) for epoch in (1, 2))
    other_seed = negatives_of(split, seed=1, **ALL_RANDOM).draw(1, queries, candidates)
    assert (first == second).mean() < 0.05
    assert (first == other_seed).mean() < 0.05


# --- a corpus, and what cannot be drawn from --------------------------------------------------


def test_points_without_a_counter_and_points_are_negatives_too(small_arguana):
    run = Run(seed=0, mode=Mode(seeds=1), data_dir=small_arguana)
    train = load_retrieval_data(BiEncoderConfig(), run).train
    drawn = negatives_of(train, negatives=100, **ALL_RANDOM)
    found = drawn.draw(1, np.zeros((len(train), 2)), np.zeros((len(train.candidates), 2)))
    assert set(found.ravel()) == set(range(len(train.candidates)))
    assert not (found == train.own[:, None]).any()
    assert not (train.candidates[found] == train.queries[:, None]).any()


@pytest.mark.parametrize(
    ("texts", "candidates"),
    [
        (["a", "b", "c"], [1]),  # the answer alone
        (["a", "b", "c"], [1, 0]),  # the answer, and the query
        (["a", "b", "a", "b"], [1, 2, 3]),  # what reads like them
    ],
)
def test_a_query_for_which_nothing_can_be_a_negative_is_refused(texts, candidates):
    split = split_of(texts, [0], candidates, [0])
    message = f"has {len(candidates)} candidates, and for 1 of its 1 queries .* give more data"
    with pytest.raises(DataError, match=message):
        negatives_of(split)
    more = dataclasses.replace(
        split,
        texts=(*texts, "d"),
        candidates=np.append(split.candidates, len(texts)),
    )
    zeros = np.zeros((1, 2)), np.zeros((len(more.candidates), 2))
    assert negatives_of(more).draw(1, *zeros).tolist() == [[len(candidates)]]
