"""What a kept classifier says of its words and classes, so that its file stands for itself.

Vocabulary and classes become the texts of a checkpoint's metadata, and come back from them. Knows
neither files nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from models.transformer.data import UNKNOWN

_VOCABULARY, _CLASSES = "vocabulary", "classes"


def about_words(vocabulary: Mapping[str, int], classes: Sequence[str]) -> dict[str, str]:
    """For ``run.save_weights(..., about=...)``: the words in the order of their numbers, as JSON.

    Parameters
    ----------
    vocabulary : word to number, from UNKNOWN + 1 on without a gap
    classes : in the order of their labels
    """
    in_order = sorted(vocabulary, key=vocabulary.__getitem__)
    return {_VOCABULARY: json.dumps(in_order), _CLASSES: json.dumps(list(classes))}


def words_from(metadata: Mapping[str, str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Vocabulary and classes: the inverse of :func:`about_words`.

    Raises
    ------
    KeyError
        The metadata have none: they were written before these were kept.
    ValueError
        They are no lists of different words, or no two classes.
    """
    words, classes = json.loads(metadata[_VOCABULARY]), json.loads(metadata[_CLASSES])
    for name, found, least in ((_VOCABULARY, words, 0), (_CLASSES, classes, 2)):
        is_list = isinstance(found, list) and all(isinstance(text, str) for text in found)
        if not is_list or len(set(found)) < max(least, len(found)):
            raise ValueError(f"{name} must be a list of different texts, found {found!r:.80}")
    return {word: number for number, word in enumerate(words, start=UNKNOWN + 1)}, tuple(classes)
