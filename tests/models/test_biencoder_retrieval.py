"""Retrieval and re-ranking against brute force: one query, one candidate and one pair at a time."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.biencoder import BiEncoderConfig
from models.biencoder.data import RetrievalSplit
from models.biencoder.tasks import Task
from models.errors import DataError

RUN = SimpleNamespace(seed_for=lambda purpose: sum(purpose.encode()), device="cpu")
WIDTH = 9
FUSIONS = ["projected", "encoder", "both"]


def make_split(queries=11, candidates=17, seed=0, repeat=True):
    """A split with a full task, and one that allows few: some queries the own answer alone."""
    rng = np.random.default_rng(seed)
    texts = [f"query {i}" for i in range(queries)] + [f"text {i}" for i in range(candidates)]
    if repeat:  # candidates that read like another one
        texts[queries + 5] = texts[queries + 2]
        texts[queries + 9] = texts[queries + 2]
    own = rng.integers(0, candidates, queries)
    few = rng.random((queries, candidates)) < 0.2
    few[:2] = False
    few[np.arange(queries), own] = True
    full = np.ones((queries, candidates), dtype=bool)
    return RetrievalSplit(
        "test",
        tuple(texts),
        np.arange(queries),
        np.arange(queries, queries + candidates),
        own,
        (Task("few", "", few), Task("epa", "", full)),
        rng.random(queries) < 0.5,
    )


def make_config(**changes):
    return BiEncoderConfig(**{"embed_dim": 5, "layernorm": True, "relu": True} | changes)


def embed(config, split, seed=0, noise=0.0):
    """A model, and the queries and candidates of *split* as it sees random encoder outputs.

    *noise* is added to outputs of texts that repeat, as batches on a GPU may add it.
    """
    import torch

    from models.biencoder.model import BiEncoder

    rng = np.random.default_rng(seed)
    of_text = {text: rng.normal(size=WIDTH) for text in split.texts}
    outputs = np.array([of_text[text] for text in split.texts])
    outputs += noise * rng.normal(size=outputs.shape)
    model = BiEncoder(config, RUN, WIDTH).eval()
    rows = np.concatenate([split.queries, split.candidates])
    with torch.no_grad():
        return model, *model(torch.from_numpy(outputs[rows]).float(), len(split.queries))


def answers_of(config, split, **options):
    import torch

    from models.biencoder.retrieval import answer

    model, queries, candidates = embed(config, split, **options)
    with torch.no_grad():
        return answer(model, config, split, queries, candidates)


def brute_force(config, split, model, queries, candidates):
    """Task to (retrieved ranks, re-ranked ranks), by Python's sort."""
    import torch

    def distance(i, j):
        other = candidates.embeddings[split.first_of_text[j]]
        return math.dist(queries.embeddings[i].tolist(), other.tolist())

    def pair_score(i, j):
        other = candidates.features[split.first_of_text[j]]
        with torch.no_grad():
            none, pair = model.pair_logits(queries.features[i], other).tolist()
        return -distance(i, j) + config.rerank_weight * (pair - none)

    found = {}
    for task in split.tasks:
        retrieved, reranked = [], []
        for i, own in enumerate(split.own):
            allowed = np.flatnonzero(task.allowed[i]).tolist()
            order = sorted(allowed, key=lambda j: (distance(i, j), j))
            retrieved.append(order.index(own) + 1)
            top = order[: config.rerank_top or 0]
            again = sorted(top, key=lambda j: (-pair_score(i, j), order.index(j)))
            reranked.append([*again, *order[len(top) :]].index(own) + 1)
        found[task.name] = retrieved, reranked
    return found


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("shared", [True, False])
def test_ranks_before_and_after_reranking_equal_brute_force(fusion, shared):
    """Re-ranking is asked pair by pair here, and 40 candidates are more than any task has."""
    split, is_changed = make_split(), False
    for top, weight in ((4, 2.0), (40, 0.5), (2, 1.0)):
        config = make_config(fusion=fusion, shared=shared, rerank_top=top, rerank_weight=weight)
        expected = brute_force(config, split, *embed(config, split))
        answers = answers_of(config, split)
        for task, (retrieved, reranked) in expected.items():
            assert answers.retrieved[task].tolist() == retrieved
            assert answers.reranked[task].tolist() == reranked
            is_changed |= retrieved != reranked
    assert is_changed


@settings(max_examples=25)
@given(
    st.integers(1, 12), st.integers(10, 30), st.integers(2, 31), st.sampled_from(FUSIONS),
    st.integers(0, 99),
)  # fmt: skip
def test_splits_of_any_size_are_ranked_like_that(queries, candidates, top, fusion, seed):
    config = make_config(fusion=fusion, rerank_top=top, rerank_weight=3.0)
    split = make_split(queries, candidates, seed)
    answers = answers_of(config, split, seed=seed)
    for task, (retrieved, reranked) in brute_force(
        config, split, *embed(config, split, seed=seed)
    ).items():
        assert answers.retrieved[task].tolist() == retrieved
        assert answers.reranked[task].tolist() == reranked


def test_without_reranking_and_with_a_weight_of_0_ranks_stay_as_retrieved():
    split = make_split()
    for changes in ({"rerank_top": None}, {"rerank_top": 6, "rerank_weight": 0.0}):
        answers = answers_of(make_config(**changes), split)
        for task in ("few", "epa"):
            assert answers.reranked[task].tolist() == answers.retrieved[task].tolist()


def test_a_lone_candidate_is_found_and_stays_first():
    answers = answers_of(make_config(rerank_top=5), make_split())
    assert (answers.retrieved["few"][:2] == 1).all()
    assert (answers.reranked["few"][:2] == 1).all()


def test_pairs_go_through_the_classifier_in_few_calls():
    import torch

    from models.biencoder.retrieval import PAIRS_AT_ONCE, pair_log_odds

    split = make_split(queries=300, candidates=60)
    config = make_config()
    model, queries, candidates = embed(config, split)
    calls = []
    model.pair_classifier.register_forward_hook(lambda *call: calls.append(call[2].shape[:-1]))
    top = np.random.default_rng(0).integers(-1, 60, size=(300, 60))
    with torch.no_grad():
        log_odds = pair_log_odds(model, queries, candidates, top)
    assert log_odds.shape == (300, 60)
    assert len(calls) == math.ceil(300 / (PAIRS_AT_ONCE // 60)) == 2
    for i, j in ((0, 0), (272, 59), (273, 0), (299, 3)):
        alone = model.pair_log_odds(queries.features[i], candidates.features[max(top[i, j], 0)])
        assert log_odds[i, j] == pytest.approx(alone.item(), abs=1e-5)


def test_more_pairs_for_one_query_than_go_at_once_are_one_call_each(monkeypatch):
    from models.biencoder import retrieval

    split, config = make_split(), make_config(rerank_top=7)
    expected = answers_of(config, split)
    monkeypatch.setattr(retrieval, "PAIRS_AT_ONCE", 3)
    found = answers_of(config, split)
    assert found.reranked["epa"].tolist() == expected.reranked["epa"].tolist()


# --- what the order is made of ----------------------------------------------------------------


def test_candidates_that_read_the_same_are_equally_far():
    """Even where their outputs differ in the last bits: the first of them comes first."""
    import torch

    from models.biencoder.retrieval import distances

    split = make_split()
    _, queries, candidates = embed(make_config(), split, noise=1e-6)
    found = distances(queries.embeddings, candidates.embeddings, split.first_of_text)
    assert not torch.equal(candidates.embeddings[2], candidates.embeddings[9])
    assert (found[:, [5, 9]] == found[:, [2]]).all()
    assert len(np.unique(found[0])) == 17 - 2
    plain, noisy = (answers_of(make_config(), split, noise=noise) for noise in (0.0, 1e-6))
    assert plain.retrieved["epa"].tolist() == noisy.retrieved["epa"].tolist()


def test_reranking_keeps_candidates_that_read_the_same_in_their_order():
    """Its products round differently from row to row; 2, 5 and 9 are one text."""
    split = make_split(queries=60)
    ranks = []
    for own in (2, 5, 9):
        asked = dataclasses.replace(split, own=np.full(60, own), tasks=split.tasks[1:])
        ranks.append(answers_of(make_config(rerank_top=17), asked).reranked["epa"])
    assert (ranks[1] == ranks[0] + 1).all()
    assert (ranks[2] == ranks[0] + 2).all()


def test_distances_are_euclidean_and_keep_small_differences():
    """1e-3 apart, 1e3 from the origin: in float32, |a|² - 2ab + |b|² would be noise."""
    import torch

    from models.biencoder.retrieval import distances

    sides = 1e3 + 1e-3 * np.random.default_rng(0).integers(-9, 10, size=(2, 40, 6))
    queries, candidates = sides.astype(np.float32)
    found = distances(torch.from_numpy(queries), torch.from_numpy(candidates), np.arange(40))
    expected = np.linalg.norm(queries[:, None].astype(float) - candidates[None], axis=-1)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_embeddings_that_are_not_finite_are_not_ranked():
    from models.biencoder.model import Embedded
    from models.biencoder.retrieval import answer

    split, config = make_split(), make_config()
    model, queries, candidates = embed(config, split)
    broken = Embedded(candidates.embeddings.clone(), candidates.features)
    broken.embeddings[3, 0] = math.nan
    with pytest.raises(ValueError, match="scores must be finite"):
        answer(model, config, split, queries, broken)


# --- the figures ------------------------------------------------------------------------------


def figures_of(ranks):
    return {
        **{f"top{k}": np.mean([rank <= k for rank in ranks]) for k in (1, 5, 10)},
        "mrr": np.mean([1 / rank for rank in ranks]),
    }


def test_metrics_are_the_figures_of_every_task_and_of_the_unseen_pairs():
    from models.biencoder.retrieval import metrics_of

    split = make_split()
    answers = answers_of(make_config(), split)
    expected = {}
    for prefix, ranks in (("", answers.retrieved), ("reranked_", answers.reranked)):
        for task in ("few", "epa"):
            for name, value in figures_of(ranks[task]).items():
                expected[f"{prefix}{task}_{name}"] = value
        unseen = [rank for rank, is_unseen in zip(ranks["epa"], split.unseen, strict=True)
                  if is_unseen]  # fmt: skip
        assert 0 < len(unseen) < len(split)
        for name, value in figures_of(unseen).items():
            expected[f"unseen_{prefix}epa_{name}"] = value
    assert metrics_of(answers, split, "epa") == pytest.approx(expected)
    seen_alone = {name: value for name, value in expected.items() if "unseen" not in name}
    assert metrics_of(answers, split) == pytest.approx(seen_alone)


def test_a_task_without_a_name_gives_the_names_of_the_figures():
    from models.biencoder.retrieval import metrics_of

    split = make_split()
    nameless = dataclasses.replace(split, tasks=(Task("", "", split.tasks[1].allowed),))
    names = metrics_of(answers_of(make_config(), nameless), nameless)
    plain = ["top1", "top5", "top10", "mrr"]
    assert list(names) == [*plain, *(f"reranked_{name}" for name in plain)]


def test_a_split_whose_pairs_are_all_known_says_so():
    from models.biencoder.retrieval import metrics_of

    split = make_split()
    known = dataclasses.replace(split, unseen=np.zeros(len(split), dtype=bool))
    answers = answers_of(make_config(), known)
    with pytest.raises(DataError, match="all 11 pairs of the evaluated split stand in"):
        metrics_of(answers, known, "epa")
    assert "few_top1" in metrics_of(answers, known)
