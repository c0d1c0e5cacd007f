"""Articles as word numbers: vocabulary of the training split, padded arrays, batches.

Articles go in, NumPy arrays come out; knows neither torch nor the model.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from models.bbc_news import Article, BBCNews, load_bbc_news

PADDING, UNKNOWN = 0, 1
BATCHES_PER_POOL = 8  # texts of similar length are looked for among this many batches' worth
_WORD = re.compile(r"\w+(?:'\w+)*")


@dataclass(frozen=True)
class EncodedSplit:
    """Texts as word numbers.

    tokens : int32 [n, longest], filled up with PADDING; lengths : int64 [n], at least 1;
    labels : int64 [n]
    """

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class EncodedNews:
    """The three splits as word numbers, and the vocabulary that numbers them."""

    news: BBCNews
    vocabulary: dict[str, int]  # word to number; PADDING and UNKNOWN have no word
    train: EncodedSplit
    validation: EncodedSplit
    test: EncodedSplit

    @property
    def vocabulary_size(self) -> int:
        return len(self.vocabulary) + 2


@functools.lru_cache(maxsize=4)  # the runs of a process share it
def encode_bbc_news(data_dir: Path | None, max_length: int, min_count: int) -> EncodedNews:
    """Number the first *max_length* words of each article.

    The vocabulary is that of the training split: words that occur *min_count* times or more in
    what is read of it. What stands only in validation or test texts is UNKNOWN.
    """
    news = load_bbc_news(data_dir)
    words = {
        name: [words_of(article.text, max_length) for article in getattr(news, name)]
        for name in ("train", "validation", "test")
    }
    vocabulary = build_vocabulary(words["train"], min_count)
    return EncodedNews(
        news=news,
        vocabulary=vocabulary,
        **{name: _encode(words[name], getattr(news, name), vocabulary) for name in words},
    )


def words_of(text: str, max_length: int) -> list[str]:
    """The first *max_length* words, in lower case: letters, digits, and apostrophes inside."""
    return [match.group() for match in islice(_WORD.finditer(text.lower()), max_length)]


def build_vocabulary(texts: Iterable[Sequence[str]], min_count: int) -> dict[str, int]:
    """Number the words that occur *min_count* times or more, from 2 on, most frequent first."""
    counts = Counter(word for words in texts for word in words)
    frequent = sorted((-count, word) for word, count in counts.items() if count >= min_count)
    return {word: number for number, (_, word) in enumerate(frequent, start=UNKNOWN + 1)}


def number_words(words: Sequence[str], vocabulary: dict[str, int]) -> list[int]:
    """At least one number: a text without words becomes one UNKNOWN, for there is no mean of 0."""
    return [vocabulary.get(word, UNKNOWN) for word in words] or [UNKNOWN]


def _encode(
    texts: Sequence[Sequence[str]], articles: Sequence[Article], vocabulary: dict[str, int]
) -> EncodedSplit:
    numbered = [number_words(words, vocabulary) for words in texts]
    lengths = np.array([len(numbers) for numbers in numbered], dtype=np.int64)
    tokens = np.full((len(numbered), lengths.max()), PADDING, dtype=np.int32)
    for row, numbers in zip(tokens, numbered, strict=True):
        row[: len(numbers)] = numbers
    labels = np.array([article.label for article in articles], dtype=np.int64)
    return EncodedSplit(tokens, lengths, labels)


def training_batches(
    lengths: np.ndarray, batch_size: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """One epoch: each index of *lengths* once, in shuffled batches of texts of similar length.

    Texts are shuffled, then ordered by length within pools of a few batches. Takes a fixed amount
    from *generator*, so that the next epoch's batches follow from the seed alone.

    Yields
    ------
    int64 arrays of batch_size indices; one of them may be shorter
    """
    order = generator.permutation(len(lengths))
    pool = batch_size * BATCHES_PER_POOL
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        order[start : start + pool] = part[np.argsort(lengths[part], kind="stable")]
    starts = np.arange(0, len(order), batch_size)
    for start in generator.permutation(starts):
        yield order[start : start + batch_size]


def evaluation_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Each index once, shortest text first, so that little is padded."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
