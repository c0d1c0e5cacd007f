"""Positional encodings against closed forms, and what they let the classifier see."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.transformer import TransformerConfig
from models.transformer.config import POSITIONAL_ENCODINGS
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run


def classifier(positional_encoding, **changes):
    from models.transformer.model import TransformerClassifier

    config = TransformerConfig(
        **{
            "embed_dim": 8, "num_heads": 2, "num_layers": 2, "ffn_dim": 12, "max_length": 12,
            "positional_encoding": positional_encoding, **changes,
        }
    )  # fmt: skip
    run = Run(seed=0, mode=Mode(seeds=1, epochs=1), device="cpu")
    return TransformerClassifier(config, run, vocabulary_size=20, num_classes=3).eval()


def words(count, seed=0):
    import torch

    return torch.from_numpy(np.random.default_rng(seed).permutation(np.arange(1, 20))[:count])[None]


# --- what the classifier sees ---------------------------------------------------------------


def test_without_positions_the_order_of_words_does_not_matter():
    import torch

    model, text = classifier(None), words(12)
    torch.testing.assert_close(model(text), model(text.flip(1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", POSITIONAL_ENCODINGS)
def test_with_positions_the_order_of_words_matters(kind):
    model, text = classifier(kind), words(12)
    assert (model(text) - model(text.roll(5))).abs().max() > 1e-3


@pytest.mark.parametrize("kind", POSITIONAL_ENCODINGS)
def test_a_text_of_max_length_can_be_read_and_max_length_alone_changes_no_score(kind):
    import torch

    model, longer, text = classifier(kind), classifier(kind, max_length=40), words(12)
    if kind == "learned":  # its table is drawn in one piece, so that it depends on the length
        with torch.no_grad():
            longer.position_embedding.weight[:12] = model.position_embedding.weight
    torch.testing.assert_close(model(text), longer(text))


# --- sinusoidal -----------------------------------------------------------------------------


def test_sinusoidal_positions_are_the_sines_and_cosines_of_the_paper():
    from models.transformer.positions import sinusoidal_positions

    table = sinusoidal_positions(50, 6)
    assert table.shape == (50, 6)
    for position in (0, 1, 7, 49):
        for pair in range(3):
            angle = position / 10000 ** (2 * pair / 6)
            assert table[position, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


# --- learned --------------------------------------------------------------------------------


def test_learned_positions_are_trained_where_there_are_words():
    model = classifier("learned")
    model(words(5)).square().sum().backward()
    is_trained = model.position_embedding.weight.grad.abs().sum(dim=1) > 0
    assert is_trained.tolist() == [True] * 5 + [False] * 7


def test_learned_positions_are_added_as_large_as_word_vectors():
    import torch

    model = classifier("learned")
    numbers, places = torch.tensor([4, 9]), torch.tensor([11, 0])
    expected = model.embedding.weight[numbers] + model.position_embedding.weight[places]
    torch.testing.assert_close(model.embed(numbers, places), expected * math.sqrt(8))


def test_learned_positions_stay_trained_where_word_vectors_are_frozen():
    model = classifier("learned", train_embeddings=False)
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["embedding.weight"]


# --- rotary ---------------------------------------------------------------------------------


def test_rotation_multiplies_pairs_as_complex_numbers():
    import torch

    from models.transformer.positions import rotary_turns, rotate

    x = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    pairs = x.double().numpy()[:, 0::2] + 1j * x.double().numpy()[:, 1::2]
    angles = np.arange(9)[:, None] * 10000.0 ** (-2 * np.arange(3) / 6)
    expected = pairs * np.exp(1j * angles)
    turned = rotate(x, rotary_turns(9, 6)).numpy()
    np.testing.assert_allclose(turned[:, 0::2], expected.real, atol=1e-5)
    np.testing.assert_allclose(turned[:, 1::2], expected.imag, atol=1e-5)


@settings(max_examples=50)  # the first example imports torch
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 1000))
def test_rotary_scores_depend_on_the_distance_alone(one, other, shift, seed):
    import torch

    from models.transformer.positions import rotary_turns, rotate

    turns = rotary_turns(121, 8)
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed))

    def score(i, j):
        return (rotate(query, turns[:, i]) @ rotate(key, turns[:, j])).item()

    assert score(one, other) == pytest.approx(score(one + shift, other + shift), abs=1e-4)
    assert score(one, one) == pytest.approx((query @ key).item(), abs=1e-4)


def test_rotary_turns_queries_and_keys_in_the_model():
    """Of one word again and again, scores differ by the distance alone, and they do differ."""
    import torch

    model = classifier("rotary", num_layers=1)
    with torch.no_grad():
        model.blocks[0].attention.qkv.weight.mul_(3)  # so that the weights are not nearly even
    model.blocks[0].attention.recorded = recorded = []
    model(torch.full((1, 8), 5))
    scores = recorded[0][0].detach().double().log()  # but for a constant in each row
    scores = scores - scores.diagonal(dim1=1, dim2=2)[..., None]
    for distance in range(-6, 7):
        same = scores.diagonal(offset=distance, dim1=1, dim2=2)
        torch.testing.assert_close(same, same[:, :1].expand_as(same), atol=1e-4, rtol=0)
    assert scores[0, 0, 1:].abs().min() > 0.01


# --- ALiBi ----------------------------------------------------------------------------------


def published_slopes(count):
    """The function of the authors' code, line by line."""
    if math.log2(count).is_integer():
        start = 2 ** (-(2 ** -(math.log2(count) - 3)))
        return [start * start**i for i in range(count)]
    closest = 2 ** math.floor(math.log2(count))
    return (
        published_slopes(closest) + published_slopes(2 * closest)[0::2][: count - closest]
    )  # fmt: skip


@pytest.mark.parametrize("num_heads", [*range(1, 18), 24, 32])
def test_alibi_slopes_are_those_of_the_authors(num_heads):
    from models.transformer.positions import alibi_slopes

    assert alibi_slopes(num_heads) == pytest.approx(published_slopes(num_heads))


def test_alibi_slopes_of_eight_heads_halve_from_one_half():
    from models.transformer.positions import alibi_slopes

    assert alibi_slopes(8) == [2**-n for n in range(1, 9)]


@pytest.mark.parametrize("num_heads", [1, 3, 4])
def test_alibi_lowers_scores_by_slope_times_distance_on_both_sides(num_heads):
    from models.transformer.positions import alibi_bias

    table = alibi_bias(num_heads, 7)
    assert table.shape == (num_heads, 7, 7)
    for head, i, j in np.ndindex(num_heads, 7, 7):
        expected = -published_slopes(num_heads)[head] * abs(i - j)
        assert table[head, i, j].item() == pytest.approx(expected)


def test_alibi_counts_in_the_model_what_its_table_says():
    """A far word gets less of the mass, by exp(-slope) a step, where all else is equal."""
    import torch

    model = classifier("alibi", num_layers=1)
    attention = model.blocks[0].attention
    with torch.no_grad():
        attention.qkv.weight.zero_()
    attention.recorded = []
    model(words(6))
    (weights,) = attention.recorded
    for head, slope in enumerate(published_slopes(2)):
        row = weights[0, head, 2].detach().numpy()
        expected = np.exp(-slope * np.abs(np.arange(6) - 2))
        np.testing.assert_allclose(row, expected / expected.sum(), atol=1e-6)
