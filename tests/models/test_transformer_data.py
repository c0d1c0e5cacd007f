"""Words, vocabulary and batches: nothing leaks from validation or test, nothing is left out."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ag_news import ag_news_digest, load_ag_news
from models.bbc_news import bbc_news_digest, labelled_bbc_news, load_bbc_news
from models.errors import DataError
from models.labelled_texts import LabelledTexts, Texts
from models.pretrained.encoder import EncoderError
from models.transformer import TransformerConfig, config_for, corpus_in, data_digest
from models.transformer.data import (
    PADDING,
    UNKNOWN,
    evaluation_batches,
    load_data,
    number_words,
    training_batches,
    words_of,
)

SPLITS = ("train", "validation", "test")
some_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=200).map(np.array)
batch_sizes = st.integers(1, 20)


def epochs_of(lengths, batch_size, seed=0, epochs=2):
    generator = np.random.default_rng(seed)
    return [list(training_batches(lengths, batch_size, generator)) for _ in range(epochs)]


def load(data_dir, corpus="ag_news", train_rows=None, **changes):
    return load_data(config_for(corpus, **changes), data_dir, train_rows)


@pytest.fixture(scope="module")
def odd_ag_news(tmp_path_factory, write_ag_news):
    """Few texts; some have no word; of those to test one has no known one, one is long."""
    train = [(label, f"title{label}", f"word{number} and") for label in (1, 2, 3, 4)
             for number in range(10)]  # fmt: skip
    train += [(1, "!", "?"), (2, "--", "..."), (3, "$", "%")]
    test = [(1, "", ""), (2, "\N{POUND SIGN} --", "!"), (3, "never", "seen anywhere"),
            (4, "title4", "and " * 30), (1, "title1", "and unseen")]  # fmt: skip
    return write_ag_news(tmp_path_factory.mktemp("odd"), train, test)


# --- words ------------------------------------------------------------------------------------


def test_words_are_lower_case_and_the_first_of_the_text():
    assert words_of("Don't PAY £5.50, he said -- twice", 99) == [
        "don't", "pay", "5", "50", "he", "said", "twice",
    ]  # fmt: skip
    assert words_of("one two three", 2) == ["one", "two"]


@pytest.mark.parametrize(("corpus", "max_length"), [("bbc_news", 10), ("ag_news", 7)])
@pytest.mark.parametrize("min_count", [1, 2, 5])
def test_vocabulary_is_that_of_what_is_read_of_the_training_split(
    small_bbc_news, small_ag_news, corpus, max_length, min_count
):
    folder = {"bbc_news": small_bbc_news, "ag_news": small_ag_news}[corpus]
    data = load(folder, corpus, max_length=max_length, min_count=min_count)
    counts = Counter(w for text in data.news.train.texts for w in words_of(text, max_length))
    kept = {word: count for word, count in counts.items() if count >= min_count}
    in_order = sorted(kept, key=lambda word: (-kept[word], word))
    assert data.vocabulary == {word: number for number, word in enumerate(in_order, start=2)}
    assert data.vocabulary_size == len(kept) + 2


def test_word_that_only_validation_or_test_texts_have_is_unknown(tmp_path, write_ag_news):
    rows = [
        (label, "shared", " ".join([f"word{label}x{number}"] * 3))
        for label in (1, 2, 3, 4) for number in range(12)
    ]  # fmt: skip
    data = load(write_ag_news(tmp_path, rows, [(1, "shared", "elsewhere"), (2, "shared", "gone")]),
                min_count=1)  # fmt: skip
    assert len(data.validation) == 4
    assert set(data.vocabulary) == {w for text in data.news.train.texts for w in text.split()}
    for encoded in (data.validation, data.test):
        assert (encoded.tokens[:, 0] == data.vocabulary["shared"]).all()
        read = np.arange(encoded.tokens.shape[1]) < encoded.lengths[:, None]
        assert (encoded.tokens[:, 1:][read[:, 1:]] == UNKNOWN).all()


@pytest.mark.parametrize(("corpus", "max_length"), [("bbc_news", 12), ("ag_news", 9)])
@pytest.mark.parametrize("split", SPLITS)
def test_encoded_text_reads_back(small_bbc_news, small_ag_news, split, corpus, max_length):
    folder = {"bbc_news": small_bbc_news, "ag_news": small_ag_news}[corpus]
    data = load(folder, corpus, max_length=max_length, min_count=2)
    words = {number: word for word, number in data.vocabulary.items()}
    encoded, texts = getattr(data, split), getattr(data.news, split)
    assert encoded.labels.tolist() == texts.labels.tolist()
    assert encoded.tokens.dtype == np.int32
    for row, text in enumerate(texts.texts):
        expected = words_of(text, max_length)
        read = encoded.tokens[row, : encoded.lengths[row]]
        assert read.tolist() == number_words(expected, data.vocabulary)
        assert [words.get(n) for n in read] == [
            w if w in data.vocabulary else None for w in expected
        ]
        assert (encoded.tokens[row, encoded.lengths[row] :] == PADDING).all()
        assert encoded.full_lengths[row] == len(words_of(text, 10**6))


def test_a_text_without_a_known_word_is_unknown_words_and_an_empty_one_is_one(odd_ag_news):
    data = load(odd_ag_news, min_count=2)
    empty, signs, unseen, _, partly = data.test.tokens.tolist()
    known = [data.vocabulary[word] for word in ("title1", "and")]
    width = data.test.tokens.shape[1]
    assert empty == signs == [UNKNOWN] + [PADDING] * (width - 1)
    assert unseen == [UNKNOWN] * 3 + [PADDING] * (width - 3)
    assert partly == [*known, UNKNOWN] + [PADDING] * (width - 3)
    assert data.test.lengths.tolist() == data.test.full_lengths.tolist() == [1, 1, 3, 31, 3]
    assert number_words(words_of("", 5), data.vocabulary) == [UNKNOWN]
    assert "" not in data.vocabulary


def test_a_long_text_is_cut_and_no_array_is_wider_than_its_longest_text(odd_ag_news):
    whole, cut = load(odd_ag_news, max_length=256), load(odd_ag_news, max_length=4)
    assert whole.test.tokens.shape == (5, 31)
    assert whole.train.tokens.shape == (len(whole.train), 3)
    assert cut.test.tokens.shape == (5, 4)
    assert (cut.test.tokens == whole.test.tokens[:, :4]).all()
    assert cut.test.lengths.tolist() == [1, 1, 3, 4, 3]
    assert cut.test.full_lengths.tolist() == whole.test.full_lengths.tolist()


# --- what a run is given --------------------------------------------------------------------


def test_runs_of_a_process_share_the_encoded_texts(small_ag_news):
    assert load(small_ag_news, dropout=0.0) is load(small_ag_news, num_heads=1)
    assert load(small_ag_news, max_length=5) is not load(small_ag_news)


def test_classes_and_sentence_are_the_corpus_own(small_ag_news):
    data, news = load(small_ag_news), load_ag_news(small_ag_news)
    assert (data.classes, data.description) == (news.classes, news.description)


def test_bbc_news_has_the_splits_that_its_articles_have(small_bbc_news):
    news, articles = labelled_bbc_news(small_bbc_news), load_bbc_news(small_bbc_news)
    assert news.description == articles.describe()
    for split in SPLITS:
        assert getattr(news, split).texts == tuple(a.text for a in getattr(articles, split))
        assert getattr(news, split).labels.tolist() == [a.label for a in getattr(articles, split)]


def test_bbc_news_is_split_by_a_fixed_seed(write_bbc_news):
    """Derived another way: the numbers of a class, shuffled by the seed and its name."""
    classes = {c: [f"{c} {n:02}\n\nbody {n} of {c}" for n in range(20)] for c in ("rum", "tea")}
    news = labelled_bbc_news(write_bbc_news(classes))
    drawn = {name: [] for name in SPLITS}
    for class_name, texts in classes.items():
        numbers = list(range(20))
        random.Random(f"2006/{class_name}").shuffle(numbers)
        for split, part in zip(SPLITS, (numbers[:14], numbers[14:17], numbers[17:]), strict=True):
            drawn[split] += [texts[number].replace("\n\n", "\n") for number in part]
    assert {name: list(getattr(news, name).texts) for name in SPLITS} == drawn


def test_train_rows_are_a_sample_of_the_training_texts_alone(small_ag_news):
    whole, part = load(small_ag_news), load(small_ag_news, train_rows=40)
    rows = list(zip(whole.news.train.texts, whole.news.train.labels, strict=True))
    sample = list(zip(part.news.train.texts, part.news.train.labels, strict=True))
    assert len(part.train) == 40
    assert sample == [row for row in rows if row in sample], "not in their order"
    assert Counter(part.train.labels.tolist()) == dict.fromkeys(range(4), 10)
    assert part.news.validation.digest == whole.news.validation.digest
    assert part.news.test.digest == whole.news.test.digest
    assert part.description == f"{whole.description}; of those to train, a sample of 40 is used"
    assert set(part.vocabulary) < set(whole.vocabulary)


@settings(max_examples=50)
@given(st.data(), st.tuples(*[st.integers(1, 60)] * 3), st.randoms(use_true_random=False))
def test_a_sample_keeps_the_share_of_each_class_and_is_part_of_a_larger_one(data, sizes, rng):
    labels = np.repeat([0, 1, 2], sizes).tolist()
    rng.shuffle(labels)
    texts = Texts.of([f"text {number}" for number in range(len(labels))], labels)
    news = LabelledTexts(("a", "b", "c"), texts, texts, texts, "Some texts")
    count = data.draw(st.integers(3, len(labels)))
    sample = news.with_training_texts(count)
    assert len(sample.train) == count
    for label, times in Counter(labels).items():
        chosen = sample.train.labels.tolist().count(label)
        assert chosen >= 1
        assert -3 < chosen - count * times / len(labels) <= 1
    larger = news.with_training_texts(min(len(labels), count + 1))
    assert set(sample.train.texts) <= set(larger.train.texts)


@pytest.mark.parametrize("train_rows", [3, 145, 0, -1, 40.0, True, "40"])
def test_a_sample_that_cannot_be_drawn_is_refused(small_ag_news, train_rows):
    message = r"train_rows must be an integer from 4 \(one text per class\) to 144 .*found"
    with pytest.raises(DataError, match=message):
        load(small_ag_news, train_rows=train_rows)


@pytest.mark.parametrize("train_rows", [4, 144])
def test_the_smallest_and_the_largest_sample_are_drawn(small_ag_news, train_rows):
    data = load(small_ag_news, train_rows=train_rows)
    assert len(data.train) == train_rows
    assert set(data.train.labels) == {0, 1, 2, 3}


# --- batches --------------------------------------------------------------------------------


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


@given(some_lengths, batch_sizes, st.integers(0, 2**32))
def test_batches_take_the_same_from_the_generator_whatever_the_lengths(lengths, batch_size, seed):
    states = []
    for some in (lengths, lengths[::-1], np.ones_like(lengths)):
        generator = np.random.default_rng(seed)
        list(training_batches(some, batch_size, generator))
        states.append(generator.bit_generator.state)
    assert states[0] == states[1] == states[2]


def test_batches_do_not_depend_on_where_texts_are_cut(small_ag_news):
    whole, cut = load(small_ag_news), load(small_ag_news, max_length=5)
    assert whole.train.lengths.tolist() != cut.train.lengths.tolist()
    batches = [
        [[batch.tolist() for batch in epoch] for epoch in epochs_of(data.train.full_lengths, 8)]
        for data in (whole, cut)
    ]
    assert batches[0] == batches[1]


@given(st.integers(0, 2**32), st.integers(2, 12))
def test_composition_of_batches_changes_with_epoch_and_seed(seed, batch_size):
    lengths = np.arange(300) % 50
    epochs = epochs_of(lengths, batch_size, seed) + epochs_of(lengths, batch_size, seed + 1)
    compositions = [{tuple(sorted(batch.tolist())) for batch in epoch} for epoch in epochs]
    for number, one in enumerate(compositions):
        assert all(len(one & other) < len(one) / 2 for other in compositions[:number])


@pytest.mark.parametrize(("texts", "batch_size"), [(24, 4), (40, 16), (100, 64), (500, 64)])
def test_length_does_not_part_the_texts_for_good(texts, batch_size):
    """However few batches there are, the shortest text meets others than the next shortest."""
    met = set()
    for batches in epochs_of(np.arange(1, texts + 1), batch_size, epochs=300):
        met.update(*(batch.tolist() for batch in batches if 0 in batch))
    assert len(met) > min(texts - 2, 3 * batch_size)


def test_batches_hold_texts_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 100, size=64 * 8)
    in_buckets, at_random = (
        sum(lengths[batch].max() * len(batch) for batch in epochs_of(of, 8, epochs=1)[0])
        for of in (lengths, np.ones_like(lengths))
    )
    assert in_buckets < 1.2 * lengths.sum() < 1.6 * lengths.sum() < at_random


def test_batches_do_not_come_in_order_of_length():
    (batches,) = epochs_of(np.arange(800), 4, epochs=1)
    rises = np.diff([batch.min() for batch in batches]) > 0
    assert 0.3 < rises.mean() < 0.7


@given(some_lengths, batch_sizes)
def test_evaluation_takes_each_example_once_shortest_first(lengths, batch_size):
    order = np.concatenate(list(evaluation_batches(lengths, batch_size)))
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) >= 0).all()


# --- which corpus, and its digest --------------------------------------------------------------


def test_the_corpus_is_ag_news_where_it_is_found(small_ag_news, small_bbc_news, monkeypatch):
    monkeypatch.delenv("ABLATION_AG_NEWS", raising=False)
    assert corpus_in(small_ag_news) == corpus_in(str(small_ag_news)) == "ag_news"
    assert corpus_in(None) == corpus_in(small_bbc_news) == "bbc_news"
    monkeypatch.setenv("ABLATION_AG_NEWS", "hub")
    assert corpus_in(None) == corpus_in(small_ag_news) == "ag_news_hub"
    monkeypatch.setenv("ABLATION_AG_NEWS", "kaggle")
    with pytest.raises(DataError, match="ABLATION_AG_NEWS must be 'hub' or empty, found 'kaggle'"):
        corpus_in(None)


def test_the_data_digest_is_that_of_the_corpus_files(small_ag_news, small_bbc_news):
    longer = config_for("ag_news", max_length=7, num_heads=1)
    assert data_digest(TransformerConfig(), small_ag_news) == ag_news_digest(small_ag_news)
    assert data_digest(longer, small_ag_news) == ag_news_digest(small_ag_news)
    bbc = config_for("bbc_news")
    assert data_digest(bbc, small_bbc_news) == bbc_news_digest(small_bbc_news) != data_digest(bbc)


def test_the_data_digest_covers_a_pretrained_encoder(small_ag_news, tmp_path):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text(name)
    with_encoder = config_for("ag_news", encoder=str(tmp_path))
    digests = [data_digest(config_for("ag_news"), small_ag_news)]
    digests.append(data_digest(with_encoder, small_ag_news))
    (tmp_path / "model.safetensors").write_text("other weights")
    digests.append(data_digest(with_encoder, small_ag_news))
    assert len(set(digests)) == 3
    with pytest.raises(EncoderError, match="was not found"):
        data_digest(config_for("ag_news", encoder="no-such-encoder"), small_ag_news)


def test_what_is_not_there_has_no_digest_and_no_data(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for corpus, message in (
        ("ag_news", "--ablation-data"),
        ("ag_news_hub", "pip install datasets"),
    ):
        for function in (data_digest, load_data):
            with pytest.raises(DataError, match=message):
                function(config_for(corpus), tmp_path)


def test_choosing_and_digesting_a_corpus_imports_nothing_heavy(small_ag_news):
    program = (
        "import sys\n"
        "from models.transformer import config_for, corpus_in, data_digest\n"
        "data_digest(config_for(corpus_in(sys.argv[1])), sys.argv[1])\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'pandas', 'scipy', 'datasets'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", program, str(small_ag_news)]
    assert subprocess.run(command, cwd=root).returncode == 0
