"""Texts of different lengths without padding: the words of a batch, one text after the other.

Lengths go in; where each word stands comes out. Everything that treats each word alone works on
packed words, [words, ...]; attention pads a few texts of similar length at a time.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.linear import ROWS

#: Attention on the CPU pads this many texts at a time: they fit into the cache, and texts that lie
#: beside each other in a batch ordered by length are about as long as each other.
TEXTS_AT_ONCE = 16


@dataclass(frozen=True)
class Packing:
    """How the words of one batch lie: one text after the other, then rows that fill up.

    What fills up belongs to no text. It is PADDING for the embeddings, takes part in no attention
    and in no mean, and so has no gradient.

    lengths : int [batch], on the CPU, each at least 1
    device : of the words
    distance_bias : float [heads, longest, longest] or more, added to the scores of attention
    """

    lengths: np.ndarray
    device: torch.device
    distance_bias: Tensor | None = None

    @functools.cached_property
    def words(self) -> int:
        """Words in all texts."""
        return int(self.lengths.sum())

    @functools.cached_property
    def rows(self) -> int:
        """Words, and what fills up, so that linear layers need not."""
        return -(-self.words // ROWS) * ROWS if self.device.type == "cpu" else self.words

    @functools.cached_property
    def texts(self) -> Tensor:
        """int64 [words]: the text that each word belongs to."""
        return self._tensor(np.repeat(np.arange(len(self.lengths)), self.lengths))

    @functools.cached_property
    def positions(self) -> Tensor:
        """int64 [rows]: each word's place in its text, from 0."""
        starts = np.cumsum(self.lengths) - self.lengths
        positions = np.zeros(self.rows, dtype=np.int64)
        positions[: self.words] = np.arange(self.words) - np.repeat(starts, self.lengths)
        return self._tensor(positions)

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """All texts in their order, in the groups that attention pads."""
        if self.device.type != "cpu":
            return (self.whole,)
        starts = range(0, len(self.lengths), TEXTS_AT_ONCE)
        return tuple(self._group(self.lengths[start : start + TEXTS_AT_ONCE]) for start in starts)

    @functools.cached_property
    def whole(self) -> Group:
        """All texts in one group."""
        return self._group(self.lengths)

    def pack(self, tokens: Tensor) -> Tensor:
        """tokens int [batch, longest or more] -> int [rows]."""
        return self.fill_up(tokens[self.texts, self.positions[: self.words]])

    def fill_up(self, x: Tensor) -> Tensor:
        """x [words, ...] -> [rows, ...], zero for what fills up."""
        missing = self.rows - self.words
        return torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x

    def mean_by_text(self, x: Tensor) -> Tensor:
        """x [rows, width] -> [batch, width]."""
        sums = x.new_zeros(len(self.lengths), x.shape[1])
        sums = sums.index_add(0, self.texts, x[: self.words])
        return sums / self._tensor(self.lengths)[:, None]

    def _group(self, lengths: np.ndarray) -> Group:
        longest = int(lengths.max())
        bias = None
        if self.distance_bias is not None:
            bias = self.distance_bias[None, :, :longest, :longest]
        if (lengths == longest).all():
            return Group(len(lengths), longest, len(lengths) * longest, bias)
        is_word = np.arange(longest) < lengths[:, None]
        places = np.flatnonzero(is_word)
        sources = np.zeros(is_word.size, dtype=np.int64)
        sources[places] = np.arange(len(places))
        of_padding = self._tensor(np.where(is_word, np.float32(0), np.float32(-math.inf)))
        of_padding = of_padding[:, None, None, :]
        return Group(
            len(lengths), longest, len(places),
            of_padding if bias is None else bias + of_padding,
            _Moves(*map(self._tensor, (places, sources, np.flatnonzero(~is_word)))),
        )  # fmt: skip

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)


@dataclass(frozen=True)
class Group:
    """Some texts of a batch, padded to the longest of them.

    bias : float [texts or 1, heads or 1, longest or 1, longest] or None: added to the scores of
        attention, -inf for padding
    moves : None where nothing is padded
    """

    texts: int
    longest: int
    words: int
    bias: Tensor | None
    moves: _Moves | None = None

    def pad(self, x: Tensor) -> Tensor:
        """x [words, width] -> [texts, longest, width], zero for padding."""
        padded = x if self.moves is None else self.moves.to_padded(x)
        return padded.view(self.texts, self.longest, -1)

    def unpad(self, x: Tensor) -> Tensor:
        """x [texts, longest, width] -> [words, width]."""
        x = x.flatten(0, 1)
        return x if self.moves is None else self.moves.to_packed(x)


@dataclass(frozen=True)
class _Moves:
    """Between packed words and padded texts, both in rows.

    places : int64 [words], the row of each word among padded texts
    sources : int64 [texts * longest], the word of each row (any, for padding)
    padding : int64, the rows that hold no word
    """

    places: Tensor
    sources: Tensor
    padding: Tensor

    def to_padded(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.sources).index_fill_(0, self.padding, 0)

    def to_packed(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.places)
