"""What attention weights say, in numbers and in sentences that claim no more than these.

The weights of all heads for one text go in, sentences come out. Knows NumPy; knows neither the
model nor how anything is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_MOST_WORDS = 3  # named in a sentence


def mass_by_word(weights: np.ndarray) -> np.ndarray:
    """The share of all attention that each word gets, over heads and the words that look.

    Parameters
    ----------
    weights : float [heads, words, words], rows that sum to 1

    Returns
    -------
    float64 [words], which sums to 1; uniform attention gives each 1 / words
    """
    return np.asarray(weights, np.float64).mean(axis=(0, 1))


def mean_distances(weights: np.ndarray) -> np.ndarray:
    """How many words away each head looks: sum of w_ij |i - j| over j, averaged over i.

    Returns
    -------
    float64 [heads], from 0; see :func:`uniform_distance`
    """
    place = np.arange(weights.shape[-1])
    distance = np.abs(place[:, None] - place)
    return (np.asarray(weights, np.float64) * distance).sum(axis=-1).mean(axis=-1)


def uniform_distance(words: int) -> float:
    """The mean distance where every word looks at all equally: (n^2 - 1) / 3n."""
    return (words**2 - 1) / (3 * words)


def mean_entropies(weights: np.ndarray) -> np.ndarray:
    """The entropy of each head's rows in bits, averaged over the words that look.

    Returns
    -------
    float64 [heads], from 0 (each word looks at one) to log2(words) (at all equally)
    """
    exact = np.asarray(weights, np.float64)
    logs = np.log2(exact, out=np.zeros_like(exact), where=exact > 0)
    return np.abs((exact * logs).sum(axis=-1)).mean(axis=-1)


def attention_findings(
    weights: np.ndarray, words: Sequence[str], heads: Sequence[str], source: str
) -> tuple[str, ...]:
    """Sentences about the mass, the distance and the entropy of attention in one text.

    Parameters
    ----------
    weights : float [heads, words, words]
    words : the text
    heads : the name of each head
    source : which text it is: "the text of 24 words"
    """
    if len(words) == 1:
        return (f"In {source}, that word can only look at itself: attention says nothing there.",)
    return (
        _mass_sentence(weights, words, source),
        _distance_sentence(mean_distances(weights), heads, len(words)),
        _entropy_sentence(mean_entropies(weights), heads, len(words)),
    )


def _mass_sentence(weights: np.ndarray, words: Sequence[str], source: str) -> str:
    mass, uniform = mass_by_word(weights), _percent(1 / len(words))
    over = "one head" if len(weights) == 1 else f"{len(weights)} heads"
    averaged = f"averaged over {over} and all words that look"
    if _percent(mass.max()) == _percent(mass.min()) == uniform:
        return (
            f"In {source}, each word gets {uniform} of the attention, {averaged}: none stands out."
        )
    most = np.argsort(-mass, kind="stable")[:_MOST_WORDS]
    named = _listed([f'"{words[i]}" (word {i + 1}, {_percent(mass[i])})' for i in most])
    return (
        f"In {source}, most attention goes to {named}, {averaged}; uniform "
        f"attention would give each word {uniform}."
    )


def _distance_sentence(distances: np.ndarray, heads: Sequence[str], words: int) -> str:
    uniform = f"uniform attention would look {uniform_distance(words):.1f} words away"
    near, far = int(distances.argmin()), int(distances.argmax())
    if len(heads) == 1:
        return f"The one head looks {distances[0]:.1f} words away on average; {uniform}."
    return (
        f"Heads look from {distances[near]:.1f} ({heads[near]}) to {distances[far]:.1f} "
        f"words away on average ({heads[far]}); {uniform}."
    )


def _entropy_sentence(entropies: np.ndarray, heads: Sequence[str], words: int) -> str:
    most = np.log2(words)
    focused, diffuse = int(entropies.argmin()), int(entropies.argmax())

    def share(head: int) -> str:
        return f"{entropies[head]:.2f} bits, {_percent(entropies[head] / most, 0)}"

    if len(heads) == 1:
        return (
            f"The entropy of its attention is {share(0)} of the {most:.2f} bits of uniform "
            f"attention."
        )
    return (
        f"The most focused head is {heads[focused]} (entropy {share(focused)} of the {most:.2f} "
        f"bits of uniform attention), the most diffuse is {heads[diffuse]} ({share(diffuse)})."
    )


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
