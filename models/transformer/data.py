"""Texts as word numbers: vocabulary of the training split, padded arrays, batches.

The texts of a corpus go in, NumPy arrays come out; knows neither torch nor the model.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np

from models.ag_news import load_ag_news, load_ag_news_hub
from models.bbc_news import labelled_bbc_news
from models.labelled_texts import LabelledTexts, Texts
from models.transformer.config import TransformerConfig

PADDING, UNKNOWN = 0, 1
BATCHES_PER_POOL = 8  # texts of similar length are looked for among this many batches' worth
FEWEST_POOLS = 4  # and no more: one pool of all texts would be the same batches in every epoch
SPLITS = ("train", "validation", "test")
_WORD = re.compile(r"\w+(?:'\w+)*")
_NO_WORD = ""  # stands for a text without words, in numbers that are not yet the vocabulary's


@dataclass(frozen=True)
class EncodedSplit:
    """Texts as word numbers.

    tokens : int32 [n, longest], filled up with PADDING; lengths : int64 [n], at least 1;
    labels : int64 [n]; full_lengths : int64 [n], words before a text was cut, at least 1
    """

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    full_lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class EncodedNews:
    """The three splits as word numbers, the vocabulary that numbers them, and their texts."""

    news: LabelledTexts
    vocabulary: dict[str, int]  # word to number; PADDING and UNKNOWN have no word
    train: EncodedSplit
    validation: EncodedSplit
    test: EncodedSplit

    @property
    def vocabulary_size(self) -> int:
        return len(self.vocabulary) + 2

    @property
    def classes(self) -> tuple[str, ...]:
        return self.news.classes

    @property
    def description(self) -> str:
        """One sentence for the report."""
        return self.news.description


def load_data(
    config: TransformerConfig, data_dir: Path | None, train_rows: int | None = None
) -> EncodedNews:
    """The texts of the configuration's corpus, the first ``max_length`` words of each as numbers.

    The vocabulary is that of the training split: words that occur ``min_count`` times or more in
    what is read of it. What stands only in validation or test texts is UNKNOWN, so that a text
    without a known word is a row of UNKNOWN; a text without any word is one UNKNOWN. A text longer
    than ``max_length`` words is cut there; arrays are no wider than the longest text.

    Parameters
    ----------
    config : TransformerConfig
        Its ``corpus``, ``max_length`` and ``min_count`` are read.
    data_dir : Path or None
        The user's ``--ablation-data``.
    train_rows : int, optional
        How many of the training texts are used; None: all.

    Raises
    ------
    models.errors.DataError
        The corpus is not there or is not what it should be; there are fewer than *train_rows*
        training texts, or *train_rows* is less than one per class.
    """
    return _encoded(config.corpus, data_dir, train_rows, config.max_length, config.min_count)


@functools.lru_cache(maxsize=4, typed=True)  # the runs of a process share it; 40.0 is no 40
def _encoded(
    corpus: str, data_dir: Path | None, train_rows: int | None, max_length: int, min_count: int
) -> EncodedNews:
    numbered = _numbered(corpus, data_dir, train_rows)
    cut = {name: getattr(numbered, name).cut(max_length) for name in SPLITS}
    vocabulary = _frequent_words(numbered.words, cut["train"].numbers, min_count)
    own_numbers = np.array([vocabulary.get(word, UNKNOWN) for word in numbered.words], np.int32)
    return EncodedNews(
        news=numbered.news,
        vocabulary=vocabulary,
        **{
            name: EncodedSplit(
                tokens=cut[name].padded(own_numbers),
                lengths=cut[name].lengths,
                labels=getattr(numbered.news, name).labels.copy(),  # torch wants to write to them
                full_lengths=getattr(numbered, name).lengths,
            )
            for name in SPLITS
        },
    )


@dataclass(frozen=True)
class _FlatTexts:
    """Texts as numbers, one after the other; numbers : int32 [sum of lengths]; lengths : int64."""

    numbers: np.ndarray
    lengths: np.ndarray

    def cut(self, max_length: int) -> _FlatTexts:
        """The first *max_length* numbers of each text."""
        starts = np.cumsum(self.lengths) - self.lengths
        place = np.arange(len(self.numbers)) - np.repeat(starts, self.lengths)
        return _FlatTexts(self.numbers[place < max_length], np.minimum(self.lengths, max_length))

    def padded(self, numbers: np.ndarray) -> np.ndarray:
        """int32 [n, longest]: ``numbers[i]`` for every number i; PADDING behind the end."""
        rows = np.full((len(self.lengths), self.lengths.max()), PADDING, dtype=np.int32)
        rows[np.arange(rows.shape[1]) < self.lengths[:, None]] = numbers[self.numbers]
        return rows


@dataclass(frozen=True)
class _NumberedTexts:
    """Whole texts, their words numbered in the order in which they came: ``words[number]``."""

    news: LabelledTexts
    words: tuple[str, ...]
    train: _FlatTexts
    validation: _FlatTexts
    test: _FlatTexts


@functools.lru_cache(maxsize=2, typed=True)  # split into words once, however long texts may be
def _numbered(corpus: str, data_dir: Path | None, train_rows: int | None) -> _NumberedTexts:
    news = _load(corpus, data_dir)
    if train_rows is not None:
        news = news.with_training_texts(train_rows)
    number_of: dict[str, int] = defaultdict(count().__next__)
    splits = {name: _flat(getattr(news, name), number_of) for name in SPLITS}
    return _NumberedTexts(news=news, words=tuple(number_of), **splits)


def _load(corpus: str, data_dir: Path | None) -> LabelledTexts:
    if corpus == "ag_news":
        return load_ag_news(data_dir)
    if corpus == "ag_news_hub":
        return load_ag_news_hub()
    return labelled_bbc_news(data_dir)


def _flat(split: Texts, number_of: dict[str, int]) -> _FlatTexts:
    numbers: list[int] = []
    lengths = np.empty(len(split), dtype=np.int64)
    for row, text in enumerate(split.texts):
        words = _WORD.findall(text.lower()) or [_NO_WORD]
        numbers += [number_of[word] for word in words]
        lengths[row] = len(words)
    return _FlatTexts(np.array(numbers, dtype=np.int32), lengths)


def words_of(text: str, max_length: int) -> list[str]:
    """The first *max_length* words, in lower case: letters, digits, and apostrophes inside."""
    return [match.group() for match in islice(_WORD.finditer(text.lower()), max_length)]


def number_words(words: Sequence[str], vocabulary: dict[str, int]) -> list[int]:
    """At least one number: a text without words becomes one UNKNOWN, for there is no mean of 0."""
    return [vocabulary.get(word, UNKNOWN) for word in words] or [UNKNOWN]


def _frequent_words(words: Sequence[str], read: np.ndarray, min_count: int) -> dict[str, int]:
    """Number those *words* that are *read* often enough, from 2 on, most frequent first."""
    counts = np.bincount(read, minlength=len(words)).tolist()
    frequent = sorted(
        (-times, word)
        for word, times in zip(words, counts, strict=True)
        if times >= min_count and word != _NO_WORD
    )
    return {word: number for number, (_, word) in enumerate(frequent, start=UNKNOWN + 1)}


def training_batches(
    full_lengths: np.ndarray, batch_size: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """One epoch: each index once, in shuffled batches of texts of similar length.

    Texts are shuffled, then ordered by length within pools of a few batches, and of a quarter of
    the texts at most, so that every epoch and seed puts other texts together. Takes the same from
    *generator* whatever the lengths are, so that the next epoch's batches follow from the seed.

    Parameters
    ----------
    full_lengths : int64 [n]
        Of the whole texts, so that batches do not depend on where texts are cut: a study that
        varies ``max_length`` compares runs of the same batches.
    batch_size : int
    generator : numpy.random.Generator

    Yields
    ------
    int64 arrays of batch_size indices; one of them may be shorter
    """
    order = generator.permutation(len(full_lengths))
    batches = -(-len(order) // batch_size)
    pool = batch_size * max(1, min(BATCHES_PER_POOL, batches // FEWEST_POOLS))
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        order[start : start + pool] = part[np.argsort(full_lengths[part], kind="stable")]
    starts = np.arange(0, len(order), batch_size)
    for start in generator.permutation(starts):
        yield order[start : start + batch_size]


def evaluation_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Each index once, shortest text first, so that little is padded."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
