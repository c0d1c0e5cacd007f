"""Words, vocabulary and batches: nothing leaks from validation or test, nothing is left out."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.transformer import TransformerConfig, data_digest
from models.transformer.data import (
    PADDING,
    UNKNOWN,
    build_vocabulary,
    encode_bbc_news,
    evaluation_batches,
    number_words,
    training_batches,
    words_of,
)

some_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=200).map(np.array)
batch_sizes = st.integers(1, 20)


def epochs_of(lengths, batch_size, seed=0, epochs=2):
    generator = np.random.default_rng(seed)
    return [list(training_batches(lengths, batch_size, generator)) for _ in range(epochs)]


def test_words_are_lower_case_and_the_first_of_the_text():
    assert words_of("Don't PAY £5.50, he said -- twice", 99) == [
        "don't", "pay", "5", "50", "he", "said", "twice",
    ]  # fmt: skip
    assert words_of("one two three", 2) == ["one", "two"]


def test_vocabulary_is_that_of_the_training_split(small_bbc_news):
    data = encode_bbc_news(small_bbc_news, max_length=10, min_count=2)
    counts = Counter(w for article in data.news.train for w in words_of(article.text, 10))
    assert set(data.vocabulary) == {word for word, count in counts.items() if count >= 2}
    assert sorted(data.vocabulary.values()) == list(range(2, data.vocabulary_size))


def test_word_that_only_test_texts_have_is_unknown(write_bbc_news):
    texts = {c: [f"{c} {n}\n\nword{c}{n} word{c}{n} shared" for n in range(12)] for c in "ab"}
    data = encode_bbc_news(write_bbc_news(texts), max_length=9, min_count=1)
    for article, tokens in zip(data.news.test, data.test.tokens, strict=True):
        class_name, number = article.headline.split()
        assert f"word{class_name}{number}" not in data.vocabulary
        assert (tokens == UNKNOWN).sum() >= 2
        assert data.vocabulary["shared"] in tokens


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_encoded_text_reads_back(small_bbc_news, split):
    data = encode_bbc_news(small_bbc_news, max_length=12, min_count=2)
    words = {number: word for word, number in data.vocabulary.items()}
    encoded = getattr(data, split)
    assert encoded.labels.tolist() == [a.label for a in getattr(data.news, split)]
    for row, article in enumerate(getattr(data.news, split)):
        expected = words_of(article.text, 12)
        read = encoded.tokens[row, : encoded.lengths[row]]
        assert [words.get(n) for n in read] == [
            w if w in data.vocabulary else None for w in expected
        ]
        assert (encoded.tokens[row, encoded.lengths[row] :] == PADDING).all()


@pytest.mark.parametrize("text", ["", "£ -- !", "neverseen"])
def test_text_without_known_word_is_one_unknown(text):
    vocabulary = build_vocabulary([["seen", "seen"]], min_count=1)
    assert number_words(words_of(text, 5), vocabulary) == [UNKNOWN]


def test_runs_of_a_process_share_the_encoded_texts(small_bbc_news):
    assert encode_bbc_news(small_bbc_news, 10, 2) is encode_bbc_news(small_bbc_news, 10, 2)


@given(some_lengths, batch_sizes)
def test_each_example_stands_in_an_epoch_once(lengths, batch_size):
    for batches in epochs_of(lengths, batch_size):
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        sizes = sorted((len(batch) for batch in batches), reverse=True)
        assert all(size == batch_size for size in sizes[:-1])
        assert 1 <= sizes[-1] <= batch_size


@given(some_lengths, batch_sizes)
def test_same_seed_gives_the_same_batches(lengths, batch_size):
    as_lists = lambda: [[b.tolist() for b in e] for e in epochs_of(lengths, batch_size)]  # noqa: E731
    assert as_lists() == as_lists()


def test_composition_of_batches_changes_with_epoch_and_seed():
    lengths = np.arange(300) % 50
    epochs = epochs_of(lengths, 10, seed=0) + epochs_of(lengths, 10, seed=1)
    compositions = [{tuple(sorted(batch.tolist())) for batch in epoch} for epoch in epochs]
    for number, one in enumerate(compositions):
        assert not any(one & other for other in compositions[:number])


def test_batches_hold_texts_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 100, size=64)
    (batches,) = epochs_of(lengths, 8, epochs=1)
    spans = sorted((lengths[batch].min(), lengths[batch].max()) for batch in batches)
    assert all(upper <= lower for (_, upper), (lower, _) in itertools.pairwise(spans))


def test_batches_do_not_come_in_order_of_length():
    (batches,) = epochs_of(np.arange(64), 8, epochs=1)
    first = [batch.min() for batch in batches]
    assert first != sorted(first)


@given(some_lengths, batch_sizes)
def test_evaluation_takes_each_example_once_shortest_first(lengths, batch_size):
    order = np.concatenate(list(evaluation_batches(lengths, batch_size)))
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) >= 0).all()


def test_data_digest_is_that_of_the_files_for_every_configuration(small_bbc_news):
    plain, longer = TransformerConfig(), TransformerConfig(max_length=7)
    assert data_digest(plain, small_bbc_news) == data_digest(longer, small_bbc_news)
    assert data_digest(plain, small_bbc_news) != data_digest(plain)
