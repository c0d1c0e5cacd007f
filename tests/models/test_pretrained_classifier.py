"""A pretrained encoder under the classifier's head: frozen it stays, fine-tuned it learns."""

import dataclasses

import numpy as np
import pytest
from tiny_encoder import WORDS, write_tiny_bert

from models.transformer import TransformerConfig, data_digest, train_classifier
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

START = TransformerConfig(
    max_length=10, batch_size=8, learning_rate=0.02, weight_decay=0.0, dropout=0.1, num_layers=1,
    embed_dim=8, num_heads=2, ffn_dim=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def news(tmp_path_factory, write_ag_news):
    """News of words that the tiny encoder knows: eight for each class."""
    rng = np.random.default_rng(0)

    def rows(count):
        found = []
        for number in range(count):
            own = WORDS[number % 4 * 8 : number % 4 * 8 + 8]
            text = " ".join(rng.choice(own, rng.integers(3, 14)))
            found.append((number % 4 + 1, f"no{number} {own[number % 8]}", text))
        return found

    return write_ag_news(tmp_path_factory.mktemp("news"), rows(120), rows(40))


@pytest.fixture(scope="module")
def train(bert, news):
    """Train with the encoder (or *encoder*); returns the run and its record."""

    def train(encoder=bert, seed=0, epochs=2, **changes):
        run = Run(seed=seed, mode=Mode(seeds=1, epochs=epochs), device="cpu", data_dir=news,
                  keep_weights=True)  # fmt: skip
        changes["encoder"] = None if encoder is None else str(encoder)
        config = dataclasses.replace(START, **changes)
        return run, run.finish(train_classifier(config, run))

    return train


@pytest.fixture(scope="module")
def frozen(train):
    return train()


@pytest.fixture(scope="module")
def fine_tuned(train):
    return train(fine_tune=True)


def encoder_weights(run):
    return {n.removeprefix("encoder."): w for n, w in run.weights.items()
            if n.startswith("encoder.")}  # fmt: skip


def pretrained_weights(bert):
    from safetensors.numpy import load_file

    return load_file(bert / "model.safetensors")


def test_of_a_frozen_encoder_the_head_alone_is_trained(frozen, bert):
    run, record = frozen
    assert set(run.weights) == {"head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"}
    assert record.cost.parameters == sum(w.size for w in run.weights.values()) == 16 * 2 + 4 * 17
    assert "frozen" in record.notes["encoder"]


def test_a_head_over_a_frozen_encoder_is_logistic_regression_over_its_outputs(train, bert, news):
    """Trained long, without dropout, it finds what scikit-learn finds on the same vectors."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from models.pretrained.encoder import Encoder
    from models.transformer.data import load_data

    data = load_data(dataclasses.replace(START), news)
    encoder = Encoder(bert, START.max_length)
    vectors = {n: encoder(list(getattr(data.news, n).texts)) for n in ("train", "test")}
    scaler = StandardScaler().fit(vectors["train"].T)  # each text by itself, as LayerNorm does
    rows = {n: scaler.fit_transform(v.T).T for n, v in vectors.items()}
    theirs = LogisticRegression(max_iter=2000).fit(rows["train"], data.news.train.labels)
    run, record = train(epochs=40, dropout=0.0)
    ours = run.predictions["scores"].argmax(axis=1)
    agreement = (ours == theirs.predict(rows["test"])).mean()
    assert agreement > 0.9
    assert record.metrics["top1"] > 0.5


def test_fine_tuning_moves_every_layer_of_the_encoder(fine_tuned, bert):
    run, record = fine_tuned
    before, after = pretrained_weights(bert), encoder_weights(run)
    moved = {name for name in after if not np.array_equal(after[name], before[name])}
    # The pooler comes after what is averaged, and a key's bias drops out of the softmax.
    idle = {name for name in after if name.startswith("pooler") or name.endswith("key.bias")}
    assert moved >= after.keys() - idle
    assert not [name for name in moved if name.startswith("pooler")]
    assert "fine-tuned" in record.notes["encoder"]


def test_the_encoders_rate_is_its_own(train, bert):
    """At a rate next to nothing it stays, while the head learns as before."""
    run, _ = train(fine_tune=True, encoder_learning_rate=1e-30)
    before, after = pretrained_weights(bert), encoder_weights(run)
    assert all(np.allclose(after[name], before[name], rtol=0, atol=1e-20) for name in after)
    start, _ = train(fine_tune=True, encoder_learning_rate=1e-30, learning_rate=1e-30)
    assert not np.array_equal(run.weights["head.2.weight"], start.weights["head.2.weight"])


def test_frozen_and_fine_tuned_start_from_the_same_head_and_read_the_same_outputs(train):
    """With nothing learning, the two give the same scores."""
    still = {"learning_rate": 1e-30, "encoder_learning_rate": 1e-30, "dropout": 0.0, "epochs": 1}
    one, other = train(**still)[0], train(**still, fine_tune=True)[0]
    np.testing.assert_allclose(one.predictions["scores"], other.predictions["scores"], atol=2e-5)


def test_the_comparison_with_a_model_from_scratch_is_fair(train, frozen, fine_tuned):
    scratch = train(encoder=None)[1]
    for _, record in (frozen, fine_tuned):
        assert record.fingerprints == scratch.fingerprints


def test_a_seed_gives_the_same_bits(train, frozen, fine_tuned):
    assert train()[1].outcome == frozen[1].outcome
    assert train(fine_tune=True)[1].outcome == fine_tuned[1].outcome
    assert train(fine_tune=True, seed=1)[1].outcome != fine_tuned[1].outcome


@pytest.mark.parametrize("fine_tune", [False, True])
@pytest.mark.parametrize(
    ("field", "value"),
    [("max_length", 5), ("dropout", 0.5), ("learning_rate", 0.01), ("batch_size", 5),
     ("warmup_fraction", 0.5), ("weight_decay", 0.5), ("grad_clip_norm", 0.01),
     ("precision", "bfloat16")],
)  # fmt: skip
def test_a_field_that_is_not_idle_changes_what_is_trained(
    train, frozen, fine_tuned, fine_tune, field, value
):
    plain = (fine_tuned if fine_tune else frozen)[1]
    changed = train(fine_tune=fine_tune, **{field: value})[1]
    assert changed.outcome["loss_history"] != plain.outcome["loss_history"]


@pytest.mark.parametrize("fine_tune", [False, True])
def test_an_idle_field_changes_nothing(train, frozen, fine_tuned, fine_tune):
    plain = (fine_tuned if fine_tune else frozen)[1]
    others = {"embed_dim": 4, "num_heads": 1, "num_layers": 2, "ffn_dim": None,
              "positional_encoding": None, "train_embeddings": False, "min_count": 5}  # fmt: skip
    assert others.keys() <= dataclasses.replace(START, encoder="x", fine_tune=fine_tune).idle_fields
    assert train(fine_tune=fine_tune, **others)[1].outcome == plain.outcome


def test_the_encoders_own_dropout_stays_off(train):
    """It would draw from torch's global stream, which other runs of the process move on."""
    import torch

    torch.manual_seed(1)
    one = train(fine_tune=True)[1].outcome
    torch.manual_seed(2)
    assert train(fine_tune=True)[1].outcome == one


def test_the_data_digest_covers_the_encoders_files(news, tmp_path, bert):
    other = write_tiny_bert(tmp_path / "other", seed=1)
    digests = {
        data_digest(dataclasses.replace(START, encoder=encoder), news)
        for encoder in (None, str(bert), str(other))
    }
    assert len(digests) == 3


def test_an_encoder_that_is_nowhere_is_named(train):
    from models.pretrained.encoder import EncoderError

    with pytest.raises(EncoderError, match="'no-such-encoder' was not found"):
        train(encoder="no-such-encoder")


def test_it_tells_no_attention_and_no_vocabulary(fine_tuned):
    run, record = fine_tuned
    assert not record.heat_maps
    assert not run.about
