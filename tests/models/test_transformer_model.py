"""The classifier's parts against closed forms, and what removing each of them leaves alone."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.transformer import TransformerConfig
from models.transformer.config import POSITIONAL_ENCODINGS
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

SMALL = {"embed_dim": 8, "num_heads": 2, "num_layers": 2, "ffn_dim": 12, "max_length": 12}
ENCODINGS = [None, *POSITIONAL_ENCODINGS]


def run(seed=0):
    return Run(seed=seed, mode=Mode(seeds=1, epochs=1), device="cpu")


def classifier(seed=0, **changes):
    from models.transformer.model import TransformerClassifier

    config = TransformerConfig(**SMALL | changes)
    return TransformerClassifier(config, run(seed), vocabulary_size=20, num_classes=3).eval()


def ragged_batch(lengths, seed=0):
    import torch

    rng = np.random.default_rng(seed)
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.int32)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.from_numpy(rng.integers(1, 20, size=length))
    return tokens, torch.tensor(lengths)


def close(actual, expected, tolerance=1e-5):
    import torch

    return torch.allclose(actual, expected, atol=tolerance, rtol=tolerance)


# --- padding --------------------------------------------------------------------------------


@settings(max_examples=40)  # the first example imports torch
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.sampled_from(ENCODINGS))
def test_padding_does_not_change_the_scores(lengths, positions):
    import torch

    model = classifier(positional_encoding=positions)
    tokens, counts = ragged_batch(lengths)
    alone = [model(tokens[i : i + 1, :n]) for i, n in enumerate(lengths)]
    assert close(model(tokens, counts), torch.cat(alone))


@pytest.mark.parametrize("positions", ENCODINGS)
def test_padding_does_not_change_the_gradients(positions):
    lengths = [3, 12, 1, 7, 7, *[5] * 20]
    model = classifier(positional_encoding=positions)
    tokens, counts = ragged_batch(lengths)
    model(tokens, counts).square().sum().backward()
    together = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    for i, n in enumerate(lengths):
        model(tokens[i : i + 1, :n]).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert close(together[name], parameter.grad, tolerance=1e-4), name


def test_what_stands_in_padding_does_not_matter():
    model = classifier()
    tokens, counts = ragged_batch([2, 9, 5])
    garbage = tokens.clone()
    garbage[0, 2:] = 7
    assert close(model(tokens, counts), model(garbage, counts), tolerance=0)


# --- the whole model ------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[9] * 5, [9, 4, 1, 6, 9], list(range(1, 13)) * 3], ids=str)
def test_scores_and_gradients_are_those_of_torch_s_own_encoder(lengths):
    import torch

    model = classifier(dropout=0.0)
    peer = _torch_encoder(model)
    tokens, counts = ragged_batch(lengths)
    is_word = torch.arange(tokens.shape[1]) < counts[:, None]
    x = model.embedding(tokens.long()) * math.sqrt(8) + model.positions[: tokens.shape[1]]
    x = peer(x, src_key_padding_mask=~is_word)
    expected = model.head((x * is_word[..., None]).sum(dim=1) / counts[:, None])
    assert close(model(tokens, counts), expected)
    expected.square().sum().backward()
    model.embedding.weight.grad = model.head.weight.grad = model.head.bias.grad = None
    theirs = dict(peer.named_parameters())
    model(tokens, counts).square().sum().backward()
    for ours, name in NAMES_IN_TORCH.items():
        assert close(model.get_parameter(ours).grad, theirs[name].grad, tolerance=1e-4), ours


_OF_LAYER = {
    "attention_norm": "norm1",
    "attention.qkv": "self_attn.in_proj_",
    "attention.out": "self_attn.out_proj",
    "ffn_norm": "norm2",
    "ffn.expand": "linear1",
    "ffn.contract": "linear2",
}
NAMES_IN_TORCH = {
    f"blocks.{n}.{ours}.{kind}": f"layers.{n}.{theirs}{'' if theirs[-1] == '_' else '.'}{kind}"
    for n in range(2)
    for ours, theirs in _OF_LAYER.items()
    for kind in ("weight", "bias")
} | {f"norm.{kind}": f"norm.{kind}" for kind in ("weight", "bias")}


def _torch_encoder(model):
    """torch's modules with copies of the model's weights."""
    import torch
    from torch import nn

    layer = nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, activation="relu", batch_first=True, norm_first=True
    )
    peer = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    with torch.no_grad():
        for ours, theirs in NAMES_IN_TORCH.items():
            peer.get_parameter(theirs).copy_(model.get_parameter(ours))
    return peer


def test_words_are_embedded_as_scaled_vector_plus_position():
    import torch

    words = torch.tensor([5, 3, 19])
    model = classifier()
    vectors = model.embedding.weight[words] * math.sqrt(8)
    positions = torch.tensor([0, 7, 2])
    assert close(model.embed(words, positions), vectors + model.positions[positions])


# --- attention ------------------------------------------------------------------------------


@pytest.mark.parametrize("num_heads", [1, 2, 4])
@pytest.mark.parametrize("lengths", [[6, 6], [6, 3]])
def test_attention_equals_softmax_written_out(num_heads, lengths):
    import torch

    from models.transformer.model import SelfAttention
    from models.transformer.packing import Packing

    torch.manual_seed(0)
    attention, x = SelfAttention(8, num_heads), torch.randn(sum(lengths), 8)
    expected = [_attention_by_hand(attention, text, num_heads) for text in x.split(lengths)]
    packing = Packing(np.array(lengths), x.device)
    found = attention(packing.fill_up(x), packing)[: len(x)]
    assert close(found, torch.cat(expected))


def _attention_by_hand(attention, x, num_heads):
    """[words, 8] for one text, head by head."""
    import torch

    query, key, value = (x @ attention.qkv.weight.T + attention.qkv.bias).split(8, dim=1)
    heads = []
    for head in range(num_heads):
        columns = slice(head * 8 // num_heads, (head + 1) * 8 // num_heads)
        q, k, v = query[:, columns], key[:, columns], value[:, columns]
        weights = torch.exp(q @ k.T / math.sqrt(8 / num_heads))
        heads.append(weights / weights.sum(dim=1, keepdim=True) @ v)
    return torch.cat(heads, dim=1) @ attention.out.weight.T + attention.out.bias


# --- precision ------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ENCODINGS)
def test_bfloat16_gives_nearly_the_same_scores_from_float32_parameters(positions):
    import torch

    tokens, counts = ragged_batch([12, 3, 7, 7])
    exact, rounded = (
        classifier(positional_encoding=positions, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}
    scores = rounded(tokens, counts).float()
    assert close(scores, exact(tokens, counts), tolerance=0.05)
    assert not torch.equal(scores, exact(tokens, counts))
    scores.square().sum().backward()
    assert {p.grad.dtype for p in rounded.parameters()} == {torch.float32}


# --- removed components ---------------------------------------------------------------------


def test_removed_ffn_removes_exactly_its_parameters():
    count = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    per_block = 2 * 8 * 12 + 12 + 8 + 2 * 8  # two matrices, their biases, one norm
    full, reduced = (classifier(ffn_dim=n) for n in (12, None))
    assert count(full) - count(reduced) == 2 * per_block
    assert not any("ffn" in name for name, _ in reduced.named_parameters())


def test_frozen_embeddings_are_not_trained_and_all_else_is():
    model = classifier(train_embeddings=False)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["embedding.weight"]


COMPONENTS = [
    *({"positional_encoding": other} for other in (None, "learned", "rotary", "alibi")),
    {"num_heads": 1},
    {"ffn_dim": None},
    {"train_embeddings": False},
    {"grad_clip_norm": 0.1},
    {"num_layers": 1},
]


@pytest.mark.parametrize("change", [*COMPONENTS, {"dropout": 0.0}, {"max_length": 6}], ids=str)
def test_removing_a_component_leaves_the_initial_weights_of_the_others(change):
    import torch

    full, changed = classifier().state_dict(), classifier(**change).state_dict()
    assert changed.keys() - full.keys() <= {"position_embedding.weight"}
    for name in changed.keys() & full.keys():
        assert torch.equal(changed[name], full[name]), name


@pytest.mark.parametrize("change", COMPONENTS, ids=str)
def test_removing_a_component_leaves_the_dropout_masks_of_the_others(change):
    full = _masks(classifier())
    changed = _masks(classifier(**change))
    assert changed.keys() <= full.keys()
    assert "embedding_dropout" in changed
    for place, masks in changed.items():
        assert masks == full[place], place


def test_each_dropout_place_has_masks_of_its_own():
    masks = _masks(classifier())
    assert len(masks) == 5  # the embeddings, and two sub-layers in each of two blocks
    for one, other in itertools.combinations(masks.values(), 2):
        assert one != other


def test_each_dropout_place_drops_at_the_configured_rate():
    for masks in _masks(classifier(dropout=0.5), words=[12] * 200).values():
        assert np.mean(masks) == pytest.approx(0.5, abs=0.03)
    for masks in _masks(classifier(dropout=0.0)).values():
        assert np.all(masks)


def _masks(model, words=(7, 7)):
    """What each dropout place kept in two training steps."""
    from models.dropout import SeededDropout

    kept = {}
    for place, module in model.named_modules():
        if isinstance(module, SeededDropout):
            module.register_forward_hook(
                lambda _, inputs, output, place=place: kept.setdefault(place, []).append(
                    (output[: sum(words)] != 0).tolist()  # what comes after fills up
                )
            )
    model.train()
    for seed in range(2):
        model(ragged_batch(list(words), seed)[0])
    return kept


# --- dropout --------------------------------------------------------------------------------


def dropout(rate, seed=0, place="here"):
    from models.dropout import SeededDropout

    return SeededDropout(rate, run(seed), place)


@settings(max_examples=25)
@given(st.floats(0.01, 0.95), st.integers(0, 100))
def test_dropout_drops_at_its_rate_and_keeps_the_expectation(rate, seed):
    import torch

    size = 40_000
    output = dropout(rate, seed)(torch.ones(size))
    drawn = round(rate * 256) / 256
    noise = 5 * math.sqrt(drawn * (1 - drawn) / size)
    assert (output == 0).float().mean().item() == pytest.approx(drawn, abs=noise)
    assert output.mean().item() == pytest.approx(1, abs=noise / (1 - drawn))
    assert output.max().item() == pytest.approx(1 / (1 - drawn))


def test_smallest_dropout_still_drops():
    import torch

    assert (dropout(1e-6)(torch.ones(100_000)) == 0).any()


def test_largest_dropout_still_keeps():
    import torch

    assert (dropout(0.9999)(torch.ones(100_000)) != 0).any()


def test_dropped_elements_pass_no_gradient():
    import torch

    x = torch.ones(1000, requires_grad=True)
    output = dropout(0.5)(x)
    output.sum().backward()
    assert torch.equal(x.grad, output.detach())


@pytest.mark.parametrize("module", ["off in evaluation", "rate of zero"])
def test_dropout_that_is_off_returns_its_input(module):
    import torch

    x = torch.randn(50)
    layer = dropout(0.5).eval() if module == "off in evaluation" else dropout(0.0)
    assert layer(x) is x


def test_dropout_masks_depend_on_seed_place_and_call():
    import torch

    ones = torch.ones(200)
    layer = dropout(0.5)
    first, second = layer(ones), layer(ones)
    assert torch.equal(first, dropout(0.5)(ones))
    for other in (second, dropout(0.5, seed=1)(ones), dropout(0.5, place="there")(ones)):
        assert not torch.equal(first, other)


def test_dropout_draws_nothing_from_the_global_generators():
    import torch

    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    dropout(0.5)(torch.ones(100))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_dropout_is_off_when_a_text_is_classified():
    import torch

    model = classifier(dropout=0.5)
    tokens, _ = ragged_batch([7, 7])
    assert torch.equal(model(tokens), model(tokens))
    assert not torch.equal(model.train()(tokens), model(tokens))
