"""The rows beside the variants: TF-IDF and the untrained encoder, by hand with scikit-learn."""

import dataclasses
import json

import numpy as np
import pytest

from models.arguana import load_arguana
from models.biencoder.data import evaluated_split
from models.errors import DataError

TFIDF, UNTRAINED = "TF-IDF", "untrained encoder"


@pytest.fixture
def split(biencoder_folder):
    return evaluated_split(load_arguana(biencoder_folder), "test")


@pytest.fixture
def vectors(split):
    """Outputs of a made-up encoder: the same for texts that are the same."""
    rng = np.random.default_rng(0)
    of_text = {text: rng.normal(size=12) for text in split.texts}
    return np.array([of_text[text] for text in split.texts], dtype=np.float32)


def ranks_by_hand(split, similarities):
    """Task to ranks: Python's sort of the allowed candidates by similarity and index."""
    found = {}
    for task in split.tasks:
        found[task.name] = []
        for i, own in enumerate(split.own):
            allowed = np.flatnonzero(task.allowed[i]).tolist()
            order = sorted(allowed, key=lambda j: (-round(similarities[i, j], 9), j))
            found[task.name].append(order.index(own) + 1)
    return found


def tfidf_similarities(split):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    rows = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(split.texts)
    return cosine_similarity(rows[split.queries], rows[split.candidates])


def cosines(split, vectors):
    from sklearn.metrics.pairwise import cosine_similarity

    vectors = vectors.astype(np.float64)
    return cosine_similarity(vectors[split.queries], vectors[split.candidates])


def figures_by_hand(split, similarities):
    found = {}
    for task, ranks in ranks_by_hand(split, similarities).items():
        asked = {task: np.array(ranks)}
        if task == "epa":
            asked["unseen_epa"] = np.array(ranks)[split.unseen]
        for name, places in asked.items():
            found |= {f"{name}_top{k}": np.mean(places <= k) for k in (1, 5, 10)}
            found[f"{name}_mrr"] = np.mean(1 / places)
    return found


def test_ranks_are_those_of_scikit_learns_similarities(split, vectors):
    from models.biencoder.references import cosine_ranks, tfidf_ranks

    for found, similarities in (
        (tfidf_ranks(split), tfidf_similarities(split)),
        (cosine_ranks(split, vectors), cosines(split, vectors)),
    ):
        expected = ranks_by_hand(split, similarities)
        assert {task: ranks.tolist() for task, ranks in found.items()} == expected
        assert len(set(expected["epa"])) > 2, "nothing to tell apart"


def test_lengths_of_vectors_do_not_count_and_no_vector_is_none(split, vectors):
    from models.biencoder.references import cosine_ranks

    longer = vectors.copy()
    longer[split.queries] *= 8
    vectors[split.queries[0]] = longer[split.queries[0]] = 0
    ranks, of_longer = cosine_ranks(split, vectors), cosine_ranks(split, longer)
    for task in ranks:
        assert ranks[task].tolist() == of_longer[task].tolist()
    own = split.own[0]
    before = np.count_nonzero(split.task("epa").allowed[0, :own])
    assert ranks["epa"][0] == before + 1, "all are alike to a query of no length"


def test_texts_that_are_the_same_score_the_same_whatever_their_vectors(split, vectors):
    from models.biencoder.references import cosine_ranks

    noise = 1e-6 * np.random.default_rng(1).normal(size=vectors.shape)
    noisy = (vectors + noise).astype(np.float32)
    assert len(set(split.texts)) < len(split.texts)
    expected = cosine_ranks(split, vectors)
    for task, ranks in cosine_ranks(split, noisy).items():
        assert ranks.tolist() == expected[task].tolist()


def test_figures_are_those_of_retrieval_in_every_task(split, vectors):
    from models.biencoder.references import reference_figures

    found = reference_figures(split, vectors, unseen_task="epa", cache_dir=None)
    assert list(found) == [TFIDF, UNTRAINED]
    assert found[TFIDF] == pytest.approx(figures_by_hand(split, tfidf_similarities(split)))
    assert found[UNTRAINED] == pytest.approx(figures_by_hand(split, cosines(split, vectors)))


def test_where_all_pairs_are_known_it_is_said(split, vectors):
    from models.biencoder.references import reference_figures

    known = dataclasses.replace(split, unseen=np.zeros(len(split), dtype=bool))
    with pytest.raises(DataError, match="stand in the training split too"):
        reference_figures(known, vectors, unseen_task="epa", cache_dir=None)


# --- the kept file ----------------------------------------------------------------------------


def kept_files(folder):
    return sorted((folder / "references").glob("*.json"))


def test_figures_are_kept_and_read_again(split, vectors, tmp_path):
    from models.biencoder.references import reference_figures

    first = reference_figures(split, vectors, unseen_task="epa", cache_dir=tmp_path)
    (file,) = kept_files(tmp_path)
    assert json.loads(file.read_text()) == first
    marked = {name: dict.fromkeys(figures, 0.5) for name, figures in first.items()}
    file.write_text(json.dumps(marked))
    again = reference_figures(split, vectors, unseen_task="epa", cache_dir=tmp_path)
    assert again == marked, "what is kept is not computed again"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: "",
        lambda text: "\0\xff",
        lambda text: "[]",
        lambda text: '{"TF-IDF": {}}',
    ],
)
def test_a_damaged_file_is_computed_again(split, vectors, tmp_path, damage):
    from models.biencoder.references import reference_figures

    first = reference_figures(split, vectors, unseen_task="epa", cache_dir=tmp_path)
    (file,) = kept_files(tmp_path)
    whole = file.read_text()
    file.write_text(damage(whole), encoding="latin-1")
    assert reference_figures(split, vectors, unseen_task="epa", cache_dir=tmp_path) == first
    assert file.read_text() == whole


def test_a_folder_that_cannot_be_used_costs_nothing_but_time(split, vectors, tmp_path):
    from models.biencoder.references import reference_figures

    first = reference_figures(split, vectors, unseen_task="epa", cache_dir=None)
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert reference_figures(split, vectors, unseen_task="epa", cache_dir=in_the_way) == first


def test_another_question_is_another_file(split, vectors, tmp_path):
    from models.biencoder.references import reference_figures

    fewer = split.only_task("epa")
    asked = [
        (split, vectors, "epa"),
        (split, vectors, ""),
        (split, vectors + 1, "epa"),
        (fewer, vectors, "epa"),
        (dataclasses.replace(fewer, own=split.own[::-1].copy()), vectors, "epa"),
        (dataclasses.replace(split, unseen=~split.unseen), vectors, "epa"),
        (dataclasses.replace(split, texts=(*split.texts[:-1], "tax")), vectors, "epa"),
    ]
    for number, (question, outputs, unseen) in enumerate(asked, start=1):
        found = reference_figures(question, outputs, unseen_task=unseen, cache_dir=tmp_path)
        alone = reference_figures(question, outputs, unseen_task=unseen, cache_dir=None)
        assert found == alone
        assert len(kept_files(tmp_path)) == number
