"""Retrieval and re-ranking against brute force, one query and one pair at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.biencoder import BiEncoderConfig

COORDINATES = st.integers(-3, 3).map(float)  # few values: many ties


def embeddings(rows: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(rows, st.integers(1, 4))
    return shapes.flatmap(lambda shape: arrays(np.float32, (2, *shape), elements=COORDINATES))


def brute_force_order(query: np.ndarray, candidates: np.ndarray) -> list[int]:
    squares = [float(((query - candidate) ** 2).sum()) for candidate in candidates]  # exact here
    return sorted(range(len(candidates)), key=lambda index: (squares[index], index))


def retrieve(queries, candidates):
    import torch

    from models.biencoder.retrieval import euclidean_distances, nearest_first

    distances = euclidean_distances(torch.from_numpy(queries), torch.from_numpy(candidates))
    return nearest_first(distances.numpy())


@settings(deadline=None, max_examples=60)
@given(embeddings(rows=st.integers(1, 40)))
def test_candidates_come_nearest_first_and_ties_by_index(sides):
    queries, candidates = sides
    expected = [brute_force_order(query, candidates) for query in queries]
    assert retrieve(queries, candidates).candidates.tolist() == expected


def test_near_candidates_are_told_apart_far_from_the_origin():
    sides = 1000 + np.random.default_rng(0).normal(size=(2, 40, 6), scale=0.1)
    queries, candidates = sides.astype(np.float32)
    distances = np.linalg.norm(queries[:, None].astype(float) - candidates[None], axis=-1)
    expected = np.argsort(distances, axis=1)
    assert retrieve(queries, candidates).candidates.tolist() == expected.tolist()


@settings(deadline=None, max_examples=60)
@given(embeddings(rows=st.integers(2, 30)), st.data())
def test_ranks_and_top_k_agree_with_brute_force(sides, data):
    queries, candidates = sides
    k = data.draw(st.integers(1, len(queries) - 1))
    ranking = retrieve(queries, candidates)
    expected = [brute_force_order(q, candidates).index(i) + 1 for i, q in enumerate(queries)]
    assert ranking.ranks().tolist() == expected
    assert ranking.correct(k).tolist() == [rank <= k for rank in expected]


def test_top_k_agrees_with_scikit_learn():
    from sklearn.metrics import top_k_accuracy_score

    sides = np.random.default_rng(0).normal(size=(2, 50, 6)).astype(np.float32)
    sides[1] += sides[0]
    ranking = retrieve(*sides)
    distances = np.linalg.norm(sides[0][:, None] - sides[1][None], axis=-1)
    for k in (1, 5, 10, 49):
        assert ranking.correct(k).mean() == top_k_accuracy_score(np.arange(50), -distances, k=k)


def test_as_many_places_as_candidates_measure_nothing():
    sides = np.zeros((2, 10, 3), np.float32)
    with pytest.raises(ValueError, match="top-10"):
        retrieve(*sides).correct(10)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 20), st.data())
def test_reranking_sorts_the_top_by_score_and_leaves_the_rest(queries, candidates, data):
    from models.biencoder.retrieval import Ranking, rerank

    order = np.random.default_rng(0).permuted(np.tile(np.arange(candidates), (queries, 1)), axis=1)
    top = data.draw(st.integers(1, candidates))
    scores = data.draw(arrays(np.float32, (queries, top), elements=COORDINATES))
    reranked = rerank(Ranking(order), scores).candidates
    assert (reranked[:, top:] == order[:, top:]).all()
    for row, before, score in zip(reranked, order, scores, strict=True):
        places = sorted(range(top), key=lambda place: (-score[place], place))
        assert row[:top].tolist() == before[places].tolist()


@pytest.fixture
def model():
    from models.biencoder.model import BiEncoder

    run = SimpleNamespace(seed_for=lambda purpose: 7, device="cpu")
    return BiEncoder(BiEncoderConfig(embed_dim=6), run, width=9).eval()


def random_sides(rows=15, width=6):
    import torch

    return torch.randn(2, rows, width, generator=torch.Generator().manual_seed(3))


def answers_of(model, **changes):
    import torch

    from models.biencoder.retrieval import answer

    with torch.inference_mode():
        return answer(model, BiEncoderConfig(embed_dim=6, **changes), *random_sides())


def test_reranking_is_one_call_that_equals_a_call_per_pair(model, monkeypatch):
    import torch

    calls = []
    classify = model.pair_classifier.forward
    monkeypatch.setattr(
        model.pair_classifier, "forward", lambda x: calls.append(tuple(x.shape)) or classify(x)
    )
    answers = answers_of(model, rerank_top=4, rerank_weight=2.0)
    assert calls == [(15, 4, 18)]
    queries, candidates = random_sides()
    for i, query in enumerate(queries):
        top = answers.retrieved.candidates[i, :4]
        scores = []
        for j in top:
            with torch.inference_mode():
                no_pair, pair = model.pair_logits(query, candidates[j]).tolist()
            scores.append(2.0 * (pair - no_pair) - float((query - candidates[j]).norm()))
        expected = top[np.argsort(-np.array(scores))]
        assert answers.reranked.candidates[i, :4].tolist() == expected.tolist()
    assert not np.array_equal(answers.reranked.candidates, answers.retrieved.candidates)


def test_reranking_permutes_the_top_alone(model):
    answers = answers_of(model, rerank_top=4, rerank_weight=2.0)
    before, after = answers.retrieved.candidates, answers.reranked.candidates
    assert (np.sort(before[:, :4]) == np.sort(after[:, :4])).all()
    assert (before[:, 4:] == after[:, 4:]).all()


def test_without_reranking_candidates_stay_as_found(model):
    answers = answers_of(model, rerank_top=None)
    assert np.array_equal(answers.reranked.candidates, answers.retrieved.candidates)
    weightless = answers_of(model, rerank_top=5, rerank_weight=0.0)
    assert np.array_equal(weightless.reranked.candidates, answers.retrieved.candidates)


def test_fewer_candidates_than_are_reranked_are_no_problem(model):
    assert answers_of(model, rerank_top=100).reranked.candidates.shape == (15, 15)
