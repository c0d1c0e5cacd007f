"""What the tests of kept vectors share: texts, and an encoder that makes a vector of a number."""

from __future__ import annotations

import numpy as np
from tiny_encoder import WORDS

from models.pretrained.vectors import CHUNK

TEXTS = [f"{WORDS[i % 31]} {' '.join(WORDS[i % 11 : i % 23])} {i}" for i in range(2 * CHUNK + 9)]
NUMBERS = [str(number) for number in range(300)]


class Numbering:
    """In an encoder's place: a vector made of the text's number. Counts what it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, texts):
        self.given += texts
        return vectors_of(texts)


def vectors_of(texts):
    return np.array([[float(text), float(text) / 3, -1.0] for text in texts], np.float32)


def expected(texts):
    return {text: row.tobytes() for text, row in zip(texts, vectors_of(texts), strict=True)}
