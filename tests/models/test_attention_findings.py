"""Distances, entropies and words of attention agree with sums by hand, and sentences with them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.transformer.attention_findings import (
    attention_findings,
    mass_by_word,
    mean_distances,
    mean_entropies,
    uniform_distance,
)

# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [1, 2, 5, 24])
def test_distance_and_entropy_of_uniform_attention(words):
    uniform = np.full((3, words, words), 1 / words)
    np.testing.assert_allclose(mean_distances(uniform), [(words**2 - 1) / (3 * words)] * 3)
    assert mean_distances(uniform)[0] == pytest.approx(uniform_distance(words))
    np.testing.assert_allclose(mean_entropies(uniform), [math.log2(words)] * 3, atol=1e-12)


@pytest.mark.parametrize("step", [0, 1, 3])
def test_distance_and_entropy_where_each_word_looks_at_one(step):
    words = 10
    weights = np.eye(words)[None, np.minimum(np.arange(words) + step, words - 1)]
    expected = sum(min(i + step, words - 1) - i for i in range(words)) / words
    assert mean_distances(weights)[0] == pytest.approx(expected)
    assert mean_entropies(weights)[0] == 0


def random_attention(seed, heads=3, words=6):
    return np.random.default_rng(seed).dirichlet(np.full(words, 0.5), size=(heads, words))


@settings(max_examples=40)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.shared(st.integers(1, 7), key="n"),
                  st.shared(st.integers(1, 7), key="n")),
        elements=st.floats(0, 1),
    )
)  # fmt: skip
def test_the_numbers_agree_with_sums_by_hand_and_stay_in_their_range(raw):
    from scipy.stats import entropy as entropy_of

    weights = (raw + 1e-3) / (raw + 1e-3).sum(axis=-1, keepdims=True)
    heads, words, _ = weights.shape
    mass = mass_by_word(weights)
    assert mass.sum() == pytest.approx(1)
    for word in range(words):
        looks = [weights[h, i, word] for h in range(heads) for i in range(words)]
        assert mass[word] == pytest.approx(sum(looks) / len(looks))
    for head in range(heads):
        entropy = np.mean([entropy_of(row, base=2) for row in weights[head]])
        assert mean_entropies(weights)[head] == pytest.approx(entropy, abs=1e-9)
        far = [weights[head, i, j] * abs(i - j) for i in range(words) for j in range(words)]
        assert mean_distances(weights)[head] == pytest.approx(sum(far) / words)
        assert -1e-9 <= entropy <= math.log2(words) + 1e-9


# --- sentences ------------------------------------------------------------------------------------


def names(count):
    return [f"layer 1, head {head + 1}" for head in range(count)]


def test_the_sentences_name_the_words_and_heads_that_the_numbers_name():
    weights = np.full((2, 4, 4), 0.25)
    weights[1] = [0, 0, 0.25, 0.75]  # every word looks at the last ones
    mass, distance, entropy = attention_findings(
        weights, ["the", "oil", "price", "fell"], names(2), "the text of 4 words"
    )
    assert mass == (
        'In the text of 4 words, most attention goes to "fell" (word 4, 50.0 %), "price" (word 3, '
        '25.0 %) and "the" (word 1, 12.5 %), averaged over 2 heads and all words that look; '
        "uniform attention would give each word 25.0 %."
    )
    uniform, last = 15 / 12, (0.75 * (3 + 2 + 1 + 0) + 0.25 * (2 + 1 + 0 + 1)) / 4
    assert f"from {uniform:.1f} (layer 1, head 1) to {last:.1f} words away" in distance
    assert f"uniform attention would look {uniform:.1f} words away" in distance
    bits = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert f"layer 1, head 2 (entropy {bits:.2f} bits, {100 * bits / 2:.0f} %" in entropy
    assert "the most diffuse is layer 1, head 1 (2.00 bits, 100 %)" in entropy


def test_no_word_is_named_where_all_get_the_same():
    mass, *_ = attention_findings(np.full((2, 5, 5), 0.2), list("abcde"), names(2), "the text")
    assert "each word gets 20.0 % of the attention" in mass
    assert "most attention" not in mass


def test_of_two_words_two_are_named():
    mass, *_ = attention_findings(random_attention(0, words=2), ["a", "b"], names(3), "the text")
    assert mass.count("(word ") == 2


def test_of_one_word_it_is_said_that_there_is_nothing_to_see():
    said = attention_findings(np.ones((3, 1, 1)), ["oil"], names(3), "the text of 1 word")
    assert said == (
        "In the text of 1 word, that word can only look at itself: attention says nothing there.",
    )


def test_one_head_is_not_compared_with_itself():
    said = " ".join(attention_findings(random_attention(1, heads=1), "abcdef", names(1), "it"))
    assert "most focused" not in said
    assert "heads" not in said
