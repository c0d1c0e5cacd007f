"""A trained encoder gets gradients in all its layers and is kept; a frozen one stays as it is."""

import numpy as np
import pytest
from tiny_encoder import write_tiny_bert

from models.biencoder import BiEncoderConfig
from models.biencoder.data import load_retrieval_data
from models.pretrained.encoder import Encoder
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

ENCODERS = "encoders."
TOKENS = 6  # fewer than most texts have
#: Without decay, nothing but a gradient moves a weight.
FINE_TUNED = {"train_encoder": True, "keep_weights": True, "encoder_learning_rate": 0.001}


def encoder_weights(trained, number=0):
    start = f"{ENCODERS}{number}."
    weights = trained.run.weights.items()
    return {name.removeprefix(start): w for name, w in weights if name.startswith(start)}


@pytest.fixture
def pretrained(biencoder_folder):
    from safetensors.numpy import load_file

    return load_file(biencoder_folder / "bert0" / "model.safetensors")


def moved(weights, others):
    return {name for name, w in weights.items() if not np.array_equal(w, others[name])}


def make_outputs(biencoder_folder, **changes):
    from models.biencoder import outputs

    bert = str(biencoder_folder / "bert0")
    config = BiEncoderConfig(
        encoder=bert, max_length=TOKENS, encoder_precision="float32", **changes
    )
    run = Run(seed=0, mode=Mode(seeds=1), device="cpu", data_dir=biencoder_folder)
    data = load_retrieval_data(config, run)
    return outputs.make_outputs(config, (data.train, data.test), run), data


# --- what is trained --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["triplet_weight", "contrastive_weight", "pair_weight"])
def test_every_loss_moves_every_layer_of_the_encoder(loss, train_tiny, pretrained):
    off = {"triplet_weight": 0.0, "contrastive_weight": 0.0, "pair_weight": 0.0}
    trained = train_tiny(**FINE_TUNED | off | {loss: 1.0, "weight_decay": 0.0})
    weights = encoder_weights(trained)
    assert weights.keys() == pretrained.keys()
    # The pooler comes after what is averaged, and a key's bias drops out of the softmax.
    without_gradient = {n for n in weights if n.startswith("pooler") or n.endswith("key.bias")}
    assert moved(weights, pretrained) >= weights.keys() - without_gradient
    assert not moved(weights, pretrained) & {n for n in weights if n.startswith("pooler")}
    words = np.abs(weights["embeddings.word_embeddings.weight"]
                   - pretrained["embeddings.word_embeddings.weight"]).max(axis=1)  # fmt: skip
    assert (words > 0).sum() > 20, "the words of the texts"


def test_a_frozen_encoder_stays_as_it_is(train_tiny, biencoder_folder, pretrained):
    from safetensors.numpy import load_file

    trained = train_tiny(keep_weights=True)
    assert not [name for name in trained.run.weights if name.startswith(ENCODERS)]
    unused = train_tiny(encoder_learning_rate=0.1)
    assert unused.record.outcome == trained.record.outcome
    assert not moved(load_file(biencoder_folder / "bert0" / "model.safetensors"), pretrained)
    assert "frozen, float32" in trained.record.notes["encoder"]


def test_one_encoder_is_trained_for_both_sides_or_one_for_each(train_tiny, pretrained):
    shared, separate = (train_tiny(**FINE_TUNED, shared=shared) for shared in (True, False))
    assert not encoder_weights(shared, 1)
    one, other = encoder_weights(separate, 0), encoder_weights(separate, 1)
    assert one.keys() == other.keys() == pretrained.keys()
    for weights in (one, other):
        assert moved(weights, pretrained)
    assert len(moved(one, other)) > len(one) / 2
    size = sum(w.size for w in pretrained.values())
    heads = 64 * 16 + 16
    assert separate.record.cost.parameters == shared.record.cost.parameters + size + heads


def test_heads_that_are_not_shared_start_alike_and_part(train_tiny):
    start = train_tiny(keep_weights=True, shared=False, learning_rate=1e-9, weight_decay=0.0)
    trained = train_tiny(keep_weights=True, shared=False)
    for name in ("projection.weight", "projection.bias"):
        before, after = (
            (run.weights[f"head.{name}"], run.weights[f"candidate_head.{name}"])
            for run in (start.run, trained.run)
        )
        np.testing.assert_allclose(*before, atol=1e-7)
        assert np.abs(after[0] - after[1]).max() > 1e-3
    together = train_tiny(keep_weights=True).run.weights
    assert np.array_equal(together["head.projection.weight"],
                          together["candidate_head.projection.weight"])  # fmt: skip


def test_the_best_epochs_encoder_is_kept_with_its_head(train_tiny):
    """Trained for as long as the best epoch, the run ends with the same encoder."""
    settings = FINE_TUNED | {"learning_rate": 0.03, "encoder_learning_rate": 0.01}
    long = train_tiny(**settings, budget={"epochs": 6})
    best = long.record.reported_epoch
    short = train_tiny(**settings, budget={"epochs": best})
    assert not moved(long.run.weights, short.run.weights)
    assert long.metrics == short.metrics


def test_a_seed_gives_the_same_bits(train_tiny):
    first, second = (train_tiny(**FINE_TUNED, shared=False) for _ in range(2))
    assert first.record.outcome == second.record.outcome
    assert first.record.history == second.record.history
    assert "fine-tuned, float32" in first.record.notes["encoder"]


def test_decay_takes_from_the_encoders_matrices_too(train_tiny, pretrained):
    decayed = encoder_weights(train_tiny(**FINE_TUNED | {"weight_decay": 100.0}))
    pooler = "pooler.dense.weight"  # no gradient reaches it
    plain = encoder_weights(train_tiny(**FINE_TUNED | {"weight_decay": 0.0}))
    assert np.array_equal(plain[pooler], pretrained[pooler])
    assert np.array_equal(decayed[pooler], pretrained[pooler]), "nor does the optimizer touch it"
    name = "encoder.layer.0.attention.self.query.weight"
    assert np.abs(decayed[name]).sum() < 0.9 * np.abs(plain[name]).sum()


# --- outputs ----------------------------------------------------------------------------------


def test_trained_outputs_begin_as_those_of_the_frozen_encoder(biencoder_folder):
    """Padded batches against one text at a time: the same but for the last bits."""
    import torch

    frozen, data = make_outputs(biencoder_folder)
    trained, _ = make_outputs(biencoder_folder, train_encoder=True, shared=False)
    assert frozen.width == trained.width == 64
    alone = Encoder(biencoder_folder / "bert0", TOKENS)
    for split in (data.train, data.test):
        rows = np.random.default_rng(0).permutation(len(split.texts))
        expected = alone([split.texts[row] for row in rows])
        for outputs in (frozen, trained):
            for side in (0, 1):
                with torch.no_grad():
                    found = outputs.of(split, rows, side)
                np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_the_report_names_the_precision_that_was_computed_in(train_tiny, biencoder_folder):
    """An encoder that does not bear bfloat16 gets float32 where the choice is free."""
    sturdy, fragile = (
        write_tiny_bert(biencoder_folder / f"offset{offset}", offset=offset) for offset in (0, 1000)
    )
    notes = {
        (encoder, precision): train_tiny(
            encoder=str(encoder), encoder_precision=precision, budget={"epochs": 1}
        ).record.notes["encoder"]
        for encoder, precision in ((sturdy, "bfloat16"), (sturdy, "float32"), (fragile, "auto"))
    }
    assert "frozen, bfloat16" in notes[sturdy, "bfloat16"]
    assert "frozen, float32" in notes[sturdy, "float32"]
    assert "frozen, float32" in notes[fragile, "auto"]


def test_outputs_have_a_gradient_while_training_and_the_same_values(biencoder_folder):
    import torch

    trained, data = make_outputs(biencoder_folder, train_encoder=True)
    rows = np.arange(10)
    with_gradient = trained.of(data.train, rows, 0)
    with torch.no_grad():
        without = trained.of(data.train, rows, 0)
    assert with_gradient.requires_grad
    assert not without.requires_grad
    torch.testing.assert_close(with_gradient.detach(), without, atol=1e-4, rtol=1e-4)
    frozen, _ = make_outputs(biencoder_folder)
    assert not frozen.of(data.train, rows, 0).requires_grad
    assert len(frozen.modules()) == 0
