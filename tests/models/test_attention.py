"""Attention: the weights are those of the model's own forward pass, and heat maps show them."""

import dataclasses
import math

import numpy as np
import pytest

from models.transformer import TransformerConfig, train_classifier
from models.transformer.attention_findings import attention_findings
from models.transformer.attention_maps import (
    MOST_WORDS,
    attention_maps,
    attention_of,
    recording,
)
from models.transformer.config import POSITIONAL_ENCODINGS
from models.transformer.data import PADDING, load_data, words_of
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

HEADS, LAYERS, WIDTH, VOCABULARY = 4, 2, 16, 30
ENCODINGS = [None, *POSITIONAL_ENCODINGS]


def make_model(**changes):
    import torch

    from models.transformer.model import TransformerClassifier

    config = TransformerConfig(
        **{
            "embed_dim": WIDTH, "num_heads": HEADS, "num_layers": LAYERS, "ffn_dim": 12,
            "max_length": 20, "dropout": 0.3, **changes,
        }
    )  # fmt: skip
    run = Run(seed=3, mode=Mode(seeds=1), device="cpu")
    model = TransformerClassifier(config, run, vocabulary_size=VOCABULARY, num_classes=3)
    with torch.no_grad():  # as after training: no bias is zero any more
        for number, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter += 0.3 * noise
    return model.eval()


def make_batch():
    """Five texts of 1 to 9 words, padded."""
    import torch

    lengths = torch.tensor([9, 1, 4, 9, 7])
    tokens = torch.randint(2, VOCABULARY, (5, 9), generator=torch.Generator().manual_seed(1))
    tokens[torch.arange(9) >= lengths[:, None]] = PADDING
    return tokens, lengths


@pytest.fixture(params=ENCODINGS, ids=str, scope="module")
def encoding(request):
    return request.param


# --- the weights ----------------------------------------------------------------------------------


def test_every_row_sums_to_one_and_padding_gets_exactly_nothing(encoding):
    import torch

    tokens, lengths = make_batch()
    seen = attention_of(make_model(positional_encoding=encoding), tokens, lengths)
    assert [weights.shape for weights in seen.weights] == [(5, HEADS, 9, 9)] * LAYERS
    for weights in seen.weights:
        torch.testing.assert_close(weights.sum(-1), torch.ones(5, HEADS, 9), atol=1e-6, rtol=0)
        for text, length in enumerate(lengths):
            assert (weights[text, :, :, length:] == 0).all()
            assert (weights[text, :, :, :length] > 0).all()


@pytest.mark.parametrize("is_padded", [True, False])
def test_recording_does_not_change_the_scores(encoding, is_padded):
    import torch

    model, (tokens, lengths) = make_model(positional_encoding=encoding), make_batch()
    if not is_padded:
        tokens, lengths = tokens[:1], None
    with torch.no_grad():
        plain = model(tokens, lengths)
    seen = attention_of(model, tokens, lengths)
    torch.testing.assert_close(seen.scores, plain, atol=1e-6, rtol=0)


def brute_force(layer, x, lengths, encoding):
    """softmax(Q K^T / sqrt(d)) by the definitions, from the module's own parameters."""
    from scipy.special import softmax

    head_dim = WIDTH // HEADS
    matrix, bias = (p.detach().double().numpy() for p in (layer.qkv.weight, layer.qkv.bias))
    query, key, _ = np.split(x @ matrix.T + bias, 3, axis=-1)
    batch, words, _ = x.shape
    weights = np.zeros((batch, HEADS, words, words))
    for text, head, i in np.ndindex(batch, HEADS, words):
        part = slice(head * head_dim, (head + 1) * head_dim)
        scores = np.full(words, -np.inf)
        for j in range(lengths[text]):
            q, k = query[text, i, part], key[text, j, part]
            if encoding == "rotary":
                q, k = turned(q, i), turned(k, j)
            scores[j] = q @ k / math.sqrt(head_dim)
            if encoding == "alibi":
                scores[j] -= 2.0 ** (-8 * (head + 1) / HEADS) * abs(i - j)
        weights[text, head, i] = softmax(scores)
    return weights


def turned(vector, place):
    """Pairs of numbers as complex numbers, turned by the place (J. Su et al., equation 12)."""
    pairs = vector[0::2] + 1j * vector[1::2]
    angles = place * 10000.0 ** (-2 * np.arange(len(pairs)) / len(vector))
    result = np.empty_like(vector)
    product = pairs * np.exp(1j * angles)
    result[0::2], result[1::2] = product.real, product.imag
    return result


def test_the_weights_are_the_softmax_of_the_model_s_own_queries_and_keys(encoding):
    model, (tokens, lengths) = make_model(positional_encoding=encoding), make_batch()
    inputs = []
    hooks = [
        block.attention.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        for block in model.blocks
    ]
    weights = attention_of(model, tokens, lengths).weights
    for hook in hooks:
        hook.remove()
    is_word = np.arange(9) < lengths.numpy()[:, None]
    for layer, words, seen in zip(model.blocks, inputs, weights, strict=True):
        x = np.zeros((5, 9, WIDTH))
        x[is_word] = (
            words[: is_word.sum()].double().numpy()
        )  # the model packs them, one text after the other
        expected = brute_force(layer.attention, x, lengths, encoding)
        of_words = (w.swapaxes(1, 2)[is_word] for w in (seen.numpy(), expected))
        np.testing.assert_allclose(*of_words, atol=1e-5)


def gradients(model):
    model.zero_grad()
    tokens, lengths = make_batch()
    model(tokens, lengths).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_model_is_as_it_was(encoding, fails):
    import torch

    model = make_model(positional_encoding=encoding)
    before = gradients(model)

    def record():
        with recording(model):
            model(*make_batch())
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            record()
    else:
        record()
    after = gradients(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {block.attention.recorded for block in model.blocks} == {None}


def test_what_is_recorded_carries_the_gradients_of_the_model():
    import torch

    model = make_model()
    plain = gradients(model)
    with recording(model):
        recorded = gradients(model)
    for name, gradient in plain.items():
        torch.testing.assert_close(recorded[name], gradient, atol=1e-4, rtol=1e-4)


def test_several_passes_are_recorded_one_after_the_other_and_recordings_may_be_nested():
    import torch

    model, (tokens, lengths) = make_model(), make_batch()
    with torch.no_grad(), recording(model) as outer:
        model(tokens, lengths)
        with recording(model) as inner:
            model(tokens[:2], lengths[:2])
        model(tokens[:3], lengths[:3])
    assert [len(weights) for weights in outer] == [5] * LAYERS + [3] * LAYERS
    assert [len(weights) for weights in inner] == [2] * LAYERS


def test_dropout_is_off_and_training_goes_on_as_before():
    import torch

    model, (tokens, lengths) = make_model().train(), make_batch()
    first, second = (attention_of(model, tokens, lengths) for _ in range(2))
    assert torch.equal(first.scores, second.scores)
    assert model.training
    assert model.blocks[0].attention_dropout.training


# --- heat maps ------------------------------------------------------------------------------------


def test_the_maps_of_a_text_have_a_panel_per_head_and_mark_unknown_words():
    import torch
    from scipy.stats import entropy

    model, vocabulary = make_model(), {"oil": 2, "price": 3}
    maps = attention_maps(model, vocabulary, ["oil", "zebra", "price"])
    seen = attention_of(model, torch.tensor([[2, 1, 3]])).weights
    np.testing.assert_array_equal(maps.values, torch.cat(seen, dim=1)[0].numpy())
    assert maps.rows == maps.columns == ("oil", "zebra*", "price")
    assert maps.panels[0] == "layer 1, head 1"
    assert maps.panels[HEADS + 2] == "layer 2, head 3"
    assert len(maps.panels) == HEADS * LAYERS
    assert maps.across == HEADS
    entropies = [entropy(head, axis=-1).mean() for head in maps.values]
    assert maps.leading == int(np.argmin(entropies))
    assert "* marks words that the vocabulary lacks" in maps.caption
    assert maps.findings == attention_findings(
        maps.values, ["oil", "zebra", "price"], maps.panels, "the text of 3 words"
    )


def test_an_empty_text_is_one_unknown_word():
    maps = attention_maps(make_model(), {"oil": 2}, [])
    assert (maps.rows, maps.values.shape) == (("*",), (HEADS * LAYERS, 1, 1))
    np.testing.assert_array_equal(maps.values, 1)


@pytest.mark.parametrize(
    ("layers", "heads", "across"),
    [
        (2, 1, 1), (2, 7, 7), (2, 8, 8), (2, 12, 6), (2, 16, 8), (2, 13, 8),
        (1, 3, 3), (1, 4, 4), (1, 6, 3), (1, 8, 4), (1, 7, 4),
    ],
)  # fmt: skip
def test_a_layer_s_heads_stand_in_lines_of_at_most_eight(layers, heads, across):
    model = make_model(num_layers=layers, num_heads=heads, embed_dim=2 * heads)
    assert attention_maps(model, {"oil": 2}, ["oil", "oil"]).across == across


# --- in training ----------------------------------------------------------------------------------

TINY = TransformerConfig(
    corpus="bbc_news", embed_dim=8, num_heads=2, num_layers=1, ffn_dim=8, batch_size=16
)


def told(data_dir, seed=0, **changes):
    config = dataclasses.replace(TINY, **changes)
    run = Run(seed=seed, mode=Mode(seeds=1, epochs=1), device="cpu", data_dir=data_dir)
    metrics = train_classifier(config, run)
    record = run.finish(metrics)
    assert record.heat_maps.keys() == {"attention"}
    assert record.heat_maps["attention"] == run.told_heat_maps["attention"].texts
    return run.told_heat_maps["attention"]


def without_marks(labels):
    return [label.rstrip("*") for label in labels]


def test_every_run_of_a_corpus_looks_at_the_same_validation_text(small_ag_news):
    ag_news = {"corpus": "ag_news"}
    news = load_data(dataclasses.replace(TINY, **ag_news), small_ag_news).news
    texts = [words_of(text, 10**6) for text in news.validation.texts]
    expected = next(words for words in texts if len(words) >= 12)
    assert len(expected) < max(map(len, texts))
    for changes in ({}, {"seed": 1, "num_heads": 1, "num_layers": 2}):
        assert without_marks(told(small_ag_news, **ag_news, **changes).rows) == expected
    assert without_marks(told(small_ag_news, **ag_news, max_length=5).rows) == expected[:5]


def test_a_long_text_is_cut_and_the_words_say_so(write_bbc_news):
    bodies = [f"{' '.join(f'w{i}' for i in range(40))} end{n}" for n in range(12)]
    classes = {
        name: [f"{name} {n}\n\n{name}{body}" for n, body in enumerate(bodies)]
        for name in ("a", "b")
    }
    maps = told(write_bbc_news(classes))
    assert len(maps.rows) == MOST_WORDS
    assert "In the first 24 words of a validation text, " in maps.findings[0]


def test_where_all_texts_are_short_the_longest_is_looked_at(write_bbc_news):
    def text(name, number):
        return f"{name} {number}\n\n{' '.join(f'{name}{number}w{i}' for i in range(number % 9))}"

    data_dir = write_bbc_news({name: [text(name, n) for n in range(20)] for name in ("a", "b")})
    texts = load_data(TINY, data_dir).news.validation.texts
    longest = max((words_of(t, 100) for t in texts), key=len)  # the first of those
    maps = told(data_dir)
    assert without_marks(maps.rows) == longest
    assert f"a validation text of {len(longest)} words" in maps.findings[0]
