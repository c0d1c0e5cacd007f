"""Texts with class labels, in three splits: what every corpus of the classifier becomes.

Lists of texts and labels go in, one frozen shape and seeded stratified samples of it come out.
Knows no corpus, no file and no word; imports no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import DataError

SAMPLE_SEED = 2015  # one sample for all runs: a seed of a run varies training, never the data


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts of one split; ``labels`` : int64 [n], indices into ``LabelledTexts.classes``."""

    texts: tuple[str, ...]
    labels: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str], labels: Sequence[int] | np.ndarray) -> Texts:
        """Keeps copies that nobody can change: the runs of a process share them."""
        own = np.array(labels, dtype=np.int64)
        own.setflags(write=False)
        return cls(tuple(texts), own)

    def __len__(self) -> int:
        return len(self.texts)

    @functools.cached_property
    def digest(self) -> str:
        """Of texts and labels, in their order; 0.2 s for 120,000 texts of news, once."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in self.texts]
        hasher = hashlib.sha256()
        hasher.update(np.array([len(text) for text in encoded], dtype="<i8").tobytes())
        hasher.update(b"".join(encoded))
        hasher.update(self.labels.astype("<i8").tobytes())
        return hasher.hexdigest()

    def rows(self, indices: Sequence[int] | np.ndarray) -> Texts:
        """The texts of these *indices*, in their order."""
        return Texts.of([self.texts[index] for index in indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """A corpus to train, validate and test a classifier on.

    ``description`` is one sentence for the report: where the texts come from, what was dropped and
    why, and how large the splits are.
    """

    classes: tuple[str, ...]
    train: Texts
    validation: Texts
    test: Texts
    description: str

    def with_training_texts(self, count: int) -> LabelledTexts:
        """The same corpus with *count* of its training texts; validation and test stay whole.

        Classes keep their proportions, as far as one text of each at least allows. The texts are
        the same for every run, stand in the order that they had, and are among those of any larger
        *count*.

        Raises
        ------
        DataError
            *count* is no integer from the number of classes to the number of training texts.
        """
        least, most = len(np.unique(self.train.labels)), len(self.train)
        is_integer = isinstance(count, int) and not isinstance(count, bool)
        if not (is_integer and least <= count <= most):
            raise DataError(
                f"the mode's train_rows must be an integer from {least} (one text per class) to "
                f"{most:,} (all training texts), found {count!r}: change Mode(..., train_rows=...)"
            )
        if count == most:
            return self
        chosen = _evenly_from_each_class(self.train.labels, self.classes)[:count]
        return dataclasses.replace(
            self,
            train=self.train.rows(np.sort(chosen)),
            description=f"{self.description}; of those to train, a sample of {count:,} is used",
        )


def shuffled_by_class(
    labels: Sequence[int] | np.ndarray, classes: Sequence[str], seed: int
) -> list[list[int]]:
    """For each class the indices of its members in *labels*, shuffled by *seed* and its name.

    A class's order depends on how many members it has, not on the other classes.
    """
    members: list[list[int]] = [[] for _ in classes]
    for index, label in enumerate(labels):
        members[label].append(index)
    for indices, name in zip(members, classes, strict=True):
        random.Random(f"{seed}/{name}").shuffle(indices)
    return members


def _evenly_from_each_class(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """All indices, so ordered that any first few hold the classes in proportion."""
    by_class = shuffled_by_class(labels, classes, SAMPLE_SEED)
    # The first of every class comes at 0, the rest of a class evenly up to 1.
    place = np.concatenate([np.arange(len(members)) / max(1, len(members)) for members in by_class])
    return np.concatenate([np.array(m, dtype=np.int64) for m in by_class])[
        np.argsort(place, kind="stable")
    ]
