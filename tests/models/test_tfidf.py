"""TF-IDF scores against the formula, scikit-learn's cosines and the published figure."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arguana import load_arguana
from models.biencoder.tasks import arguana_tasks, figures, ranks
from models.biencoder.tfidf import tfidf_scores

WORDS = ("the", "of", "ban", "bans", "Ban", "animal", "tax", "x", "vote", "é", "café", "2020", "-")
texts_of_words = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), min_size=1, max_size=7
).map(lambda texts: ["tax vote", *texts])


def cosines(texts):
    """The documented formula, in plain Python: (1 + ln tf) * (1 + ln((1 + n) / (1 + df)))."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    counts = [
        Counter(w for w in re.findall(r"\w\w+", text.lower()) if w not in ENGLISH_STOP_WORDS)
        for text in texts
    ]
    documents = Counter(word for count in counts for word in count)
    idf = {w: 1 + math.log((1 + len(texts)) / (1 + df)) for w, df in documents.items()}
    rows = [{w: (1 + math.log(tf)) * idf[w] for w, tf in count.items()} for count in counts]
    lengths = [math.sqrt(sum(v * v for v in row.values())) or 1.0 for row in rows]
    units = [
        {w: v / length for w, v in row.items()} for row, length in zip(rows, lengths, strict=True)
    ]
    return np.array([[sum(a[w] * b.get(w, 0) for w in a) for b in units] for a in units])


@settings(max_examples=60)  # the first example imports scikit-learn
@given(texts_of_words, st.data())
def test_equals_the_formula(texts, data):
    queries = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=5))
    scores = tfidf_scores(texts, queries)
    assert scores.shape == (len(queries), len(texts))
    np.testing.assert_allclose(scores, cosines(texts)[queries], atol=1e-12)


@settings(max_examples=30)
@given(texts_of_words)
def test_equals_scikit_learns_cosine_similarity(texts):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    rows = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(texts)
    scores = tfidf_scores(texts, range(len(texts)))
    np.testing.assert_allclose(scores, cosine_similarity(rows), atol=1e-12)


def test_equal_texts_score_1_and_have_equal_scores_to_the_bit(small_arguana):
    texts = load_arguana(small_arguana).test.texts
    scores = tfidf_scores([*texts, *texts], range(len(texts)))
    np.testing.assert_allclose(np.diagonal(scores), 1, atol=1e-12)
    assert (scores[:, : len(texts)] == scores[:, len(texts) :]).all()


def test_no_shared_word_scores_0_and_so_do_stop_words():
    scores = tfidf_scores(["tax vote", "animal", "the of", ""], [0, 2])
    np.testing.assert_allclose(scores, [[1, 0, 0, 0], [0, 0, 0, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("texts", "queries", "message"),
    [
        ([], [0], "found 0 texts and 1 queries"),
        (["tax"], [], "found 1 texts and 0 queries"),
        (["tax", "vote"], [0, 2], "index the 2 texts, found 0 to 2"),
        (["tax", "vote"], [-1], "index the 2 texts, found -1 to -1"),
        (["the", "of x", ""], [0], "none of the 3 texts has a word"),
    ],
)
def test_what_cannot_be_compared_is_refused(texts, queries, message):
    with pytest.raises(ValueError, match=message):
        tfidf_scores(texts, queries)


def test_the_test_split_gives_the_known_figures(real_arguana):
    """To the printed digit: the row of top-1 that trained encoders have to beat."""
    split = load_arguana(real_arguana).test
    scores = tfidf_scores(split.texts, split.queries)
    top1 = {
        task.name: figures(ranks(scores, split.counters, task.allowed))["top1"]
        for task in arguana_tasks(split)
    }
    assert {name: f"{100 * value:.1f}" for name, value in top1.items()} == {
        "sdoc": "70.5", "sdoa": "48.8", "sdc": "51.0", "sda": "34.1",
        "stc": "49.0", "sta": "32.9", "epc": "42.7", "epa": "26.4",
    }  # fmt: skip
