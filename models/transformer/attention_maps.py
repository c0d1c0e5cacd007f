"""What a classifier looks at: its attention weights, taken in its own forward pass, as heat maps.

A trained model and the words of a text go in, heat maps with findings come out. Knows the model;
imports torch inside functions only, and knows neither files nor how anything is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.transformer.attention_findings import attention_findings, mean_entropies
from models.transformer.data import EncodedNews, number_words, words_of
from pytest_ablation.heat_maps import HeatMaps

if TYPE_CHECKING:
    from torch import Tensor

    from models.transformer.model import TransformerClassifier
    from pytest_ablation.run import Run

FEWEST_WORDS, MOST_WORDS = (
    12,
    24,
)  # of the text that runs look at: enough to see, few enough to read
MOST_ACROSS = 8  # heads beside each other in a picture
UNKNOWN_MARK = "*"


class Attention(NamedTuple):
    """scores : float [batch, classes]; weights : float [batch, heads, words, words] per layer."""

    scores: Tensor
    weights: list[Tensor]


@contextmanager
def recording(model: TransformerClassifier) -> Iterator[list[Tensor]]:
    """Let *model* append the attention weights of every layer, pass by pass, to the yielded list.

    They are the weights that it uses for its output, float [batch, heads, words, words] for each
    layer from the first to the last; those on padding are 0. Afterwards, and after an exception,
    the model is as it was.
    """
    layers = [block.attention for block in model.blocks]
    before = [layer.recorded for layer in layers]
    weights: list[Tensor] = []
    for layer in layers:
        layer.recorded = weights
    try:
        yield weights
    finally:
        for layer, recorded in zip(layers, before, strict=True):
            layer.recorded = recorded


def attention_of(
    model: TransformerClassifier, tokens: Tensor, lengths: Tensor | None = None
) -> Attention:
    """Scores and attention weights of one forward pass, dropout off.

    Parameters
    ----------
    model : TransformerClassifier
    tokens, lengths
        As its ``forward`` takes them.
    """
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), recording(model) as weights:
            return Attention(model(tokens, lengths), weights)
    finally:
        model.train(was_training)


def attention_on(
    model: TransformerClassifier, vocabulary: Mapping[str, int], words: Sequence[str]
) -> Attention:
    """:func:`attention_of` for one text, given as *words*; a batch of one."""
    import torch

    device = model.embedding.weight.device
    return attention_of(model, torch.tensor([number_words(words, vocabulary)], device=device))


def attention_maps(
    model: TransformerClassifier,
    vocabulary: Mapping[str, int],
    words: Sequence[str],
    source: str = "",
) -> HeatMaps:
    """A heat map for each head of each layer, and what they say in words; see :func:`maps_of`."""
    return maps_of(attention_on(model, vocabulary, words).weights, vocabulary, words, source)


def maps_of(
    weights: Sequence[Tensor],
    vocabulary: Mapping[str, int],
    words: Sequence[str],
    source: str = "",
) -> HeatMaps:
    """Recorded weights as heat maps; the most focused head, of least entropy, leads.

    Parameters
    ----------
    weights : float [1, heads, words, words] per layer
    vocabulary : marks the words that it lacks
    words : at least one; an empty text has one word, ""
    source : which text it is, with its length; default "the text of 24 words"

    Returns
    -------
    HeatMaps
        Rows are the words that look, columns those looked at. Panels are called "layer 1, head 1".
    """
    words = list(words) or [""]
    source = source or f"the text of {counted(words)}"
    values = np.concatenate([layer[0].float().cpu().numpy() for layer in weights])
    num_heads = weights[0].shape[1]
    names = [head_name(i // num_heads, i % num_heads) for i in range(len(values))]
    labels = [word if word in vocabulary else f"{word}{UNKNOWN_MARK}" for word in words]
    return HeatMaps(
        values=values,
        panels=names,
        rows=labels,
        columns=labels,
        title="Attention",
        caption=_caption(source, has_unknown=any(word not in vocabulary for word in words)),
        findings=attention_findings(values, words, names, source),
        leading=int(mean_entropies(values).argmin()),
        row_axis="word that looks",
        column_axis="word looked at",
        measure="attention weight",
        across=_across(len(weights), num_heads),
    )


def tell_attention(model: TransformerClassifier, data: EncodedNews, run: Run) -> None:
    """Tell *run* what *model* looks at in one validation text, the same for all runs.

    It is the first one of FEWEST_WORDS words or more (else the longest), cut to MOST_WORDS, and to
    as many as the model reads.
    """
    texts = data.news.validation.texts
    lengths = data.validation.full_lengths
    long_enough = np.flatnonzero(lengths >= FEWEST_WORDS)
    chosen = long_enough[0] if len(long_enough) else lengths.argmax()
    read = min(MOST_WORDS, int(data.validation.lengths[chosen]))
    words = words_of(texts[chosen], read)
    is_cut = read < lengths[chosen]
    part = f"the first {counted(words)} of a validation text"
    source = part if is_cut else f"a validation text of {counted(words)}"
    run.heat_maps("attention", attention_maps(model, data.vocabulary, words, source))


def counted(words: Sequence[str]) -> str:
    return "1 word" if len(words) == 1 else f"{len(words)} words"


def head_name(layer: int, head: int) -> str:
    """What a head is called; both are counted from 0 here and from 1 in the name."""
    return f"layer {layer + 1}, head {head + 1}"


def _caption(source: str, has_unknown: bool) -> str:
    unknown = (
        f"; {UNKNOWN_MARK} marks words that the vocabulary lacks, which are one word to the model"
        if has_unknown
        else ""
    )
    return (
        f"In {source}: a row is the word that looks, a column the word looked at, and each row "
        f"sums to 1{unknown}. One text shows what a head can do, not what it does in others."
    )


def _across(num_layers: int, num_heads: int) -> int:
    """A layer's heads in one line; where they are too many, in lines of one length if they can.

    The heads of a single layer, which has all the room, stand in larger panels.
    """
    most = MOST_ACROSS if num_layers > 1 else MOST_ACROSS // 2
    if num_heads <= most:
        return num_heads
    return next((n for n in range(most, most // 2, -1) if num_heads % n == 0), most)
