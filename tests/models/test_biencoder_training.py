"""Training: every field takes effect, variants share random numbers, a seed gives the same bits."""

import dataclasses
import random
import shutil
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoder import WORDS, write_tiny_bert

from models.bbc_news import DataError
from models.biencoder import BiEncoderConfig, train_biencoder
from pytest_ablation.errors import Diverged
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

#: For every field a value other than the small configuration's.
CHANGES = {
    "encoder": None,  # another one, made by the fixture
    "max_length": 5,
    "layernorm": True,
    "relu": True,
    "embed_dim": 12,
    "dropout": 0.0,
    "triplet_margin": 3.0,
    "triplet_weight": 0.5,
    "pair_weight": 2.0,
    "hard_negative": 0.0,
    "rerank_top": 2,
    "rerank_weight": 3.0,
    "batch_size": 12,
    "learning_rate": 0.05,
    "weight_decay": 3.0,
}


BEST_IS_NOT_LAST = 1  # a seed


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """80 articles whose headline repeats words of its body; two encoders; a cache."""
    folder = tmp_path_factory.mktemp("biencoder")
    rng = random.Random(0)
    for name in ("art", "law"):
        (folder / "bbc_news" / name).mkdir(parents=True)
        for number in range(40):
            body = rng.choices(WORDS, k=rng.randint(6, 12))
            content = f"{' '.join(rng.sample(body, 3))}\n\n{' '.join(body)}\n"
            (folder / "bbc_news" / name / f"{number:03}.txt").write_text(content)
    for seed in (0, 1):
        write_tiny_bert(folder / f"bert{seed}", seed=seed)
    return folder


@pytest.fixture
def train(corpus):
    """Train a small bi-encoder; returns its metrics, its run and its record."""

    def train(seed=0, epochs=2, **changes):
        settings = {"encoder": str(corpus / "bert0"), "embed_dim": 8, "batch_size": 16}
        config = BiEncoderConfig(**settings | {"rerank_top": 5, "learning_rate": 0.01} | changes)
        run = Run(
            seed=seed, mode=Mode(seeds=1, epochs=epochs), device="cpu", data_dir=corpus,
            cache_dir=corpus / "cache",
        )  # fmt: skip
        metrics = train_biencoder(config, run)
        return metrics, run, run.finish(metrics)

    return train


def test_every_field_has_a_change_to_be_tested_with():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(BiEncoderConfig)}


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_changes_what_comes_out(field, train, corpus):
    value = str(corpus / "bert1") if field == "encoder" else CHANGES[field]
    _, _, before = train()
    _, _, after = train(**{field: value})
    assert before.outcome["predictions"] != after.outcome["predictions"]
    if not field.startswith("rerank"):
        assert before.outcome["weights"] != after.outcome["weights"]


def test_what_a_run_reports(train):
    metrics, run, record = train(epochs=3)
    assert set(metrics) == {
        f"{stage}top{k}" for stage in ("", "retrieval_") for k in (1, 5, 10)
    }  # fmt: skip
    ranks = run.predictions["ranks"]
    assert ranks.shape == (12,)
    for k in (1, 5, 10):
        assert metrics[f"top{k}"] == np.mean(ranks <= k) == run.predictions[f"top{k}"].mean()
    answers = run.predictions["answers"]
    assert answers.shape == (12, 10)
    assert ((answers[:, 0] == np.arange(12)) == (ranks == 1)).all()
    assert record.epochs == 3
    assert record.steps == 3 * 4  # 56 pairs in batches of 16
    assert record.cost.parameters == 16 * 8 + 8 + 24 * 2 + 2
    seen = {(row.split, row.metric) for row in record.history}
    assert seen == {("train", "loss"), *product(["validation"], ["loss", "top1", "retrieval_top1"])}
    assert "80 articles" in record.notes["data"]
    assert f"{BiEncoderConfig().max_length} tokens" in record.notes["encoder"]
    assert all(record.fingerprints.values())


def test_a_seed_gives_the_same_bits_and_another_seed_others(train):
    (_, first, a), (_, second, b), (_, _, c) = train(), train(), train(seed=1)
    assert a.outcome == b.outcome
    assert a.metrics == b.metrics
    assert first.history == second.history
    assert a.fingerprints["batch_order"] != c.fingerprints["batch_order"]
    assert a.outcome["weights"] != c.outcome["weights"]


def test_training_learns(train):
    _, _, record = train(epochs=12, layernorm=True, learning_rate=0.02)
    losses = [row.value for row in record.history if (row.split, row.metric) == ("train", "loss")]
    assert losses[-1] < 0.7 * losses[0]


def test_the_four_variants_see_the_same_batches_and_take_as_many_steps(train):
    records = [train(layernorm=n, relu=r)[2] for n, r in product([False, True], repeat=2)]
    for one, other in pairwise(records):
        assert one.fingerprints == other.fingerprints
        assert one.outcome["weights"] != other.outcome["weights"]


def test_the_four_variants_start_from_the_same_linear_weights():
    from models.biencoder.model import BiEncoder

    run = Run(seed=3, mode=Mode(seeds=1), device="cpu")
    configs = [BiEncoderConfig(layernorm=n, relu=r) for n, r in product([False, True], repeat=2)]
    states = [BiEncoder(config, run, width=16).state_dict() for config in configs]
    shared = ["projection.weight", "projection.bias", "pair_classifier.weight"]
    for state in states[1:]:
        assert all((state[name] == states[0][name]).all() for name in shared)
    assert [len(state) for state in states] == [4, 4, 6, 6]  # LayerNorm's weight and bias


def test_the_head_is_layernorm_then_relu_then_linear():
    import torch

    from models.biencoder.model import BiEncoder

    run = Run(seed=3, mode=Mode(seeds=1), device="cpu")
    model = BiEncoder(BiEncoderConfig(layernorm=True, relu=True, embed_dim=4), run, 6).eval()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.layernorm.weight.copy_(torch.linspace(0.5, 2, 6))
        model.layernorm.bias.copy_(torch.linspace(-1, 1, 6))
        centred = x - x.mean(dim=1, keepdim=True)
        normal = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        normal = normal * model.layernorm.weight + model.layernorm.bias
        expected = normal.clamp(min=0) @ model.projection.weight.T + model.projection.bias
        torch.testing.assert_close(model(x), expected)


def test_the_best_validation_epoch_is_what_is_tested(train, monkeypatch):
    from models.biencoder import training

    seen = []
    evaluate = training.evaluate
    monkeypatch.setattr(
        training, "evaluate",
        lambda model, *rest: seen.append(model.state_dict()["projection.weight"].clone())
        or evaluate(model, *rest),
    )  # fmt: skip
    _, run, _ = train(seed=BEST_IS_NOT_LAST, epochs=6, learning_rate=0.1)
    rows = {"top1": [], "loss": [], "retrieval_top1": []}
    for row in run.history:
        if row.split == "validation":
            rows[row.metric].append(row.value)
    best = max(range(6), key=lambda epoch: (rows["top1"][epoch], -rows["loss"][epoch]))
    assert best != 5, "the last epoch is the best: choose another seed for this test"
    assert (seen[-1] == seen[best]).all()
    assert not (seen[-1] == seen[5]).all()


# --- losses and batches -----------------------------------------------------------------------


def test_the_loss_equals_the_closed_form():
    import torch

    from models.biencoder.model import BiEncoder
    from models.biencoder.training import loss_of

    run = Run(seed=3, mode=Mode(seeds=1), device="cpu")
    config = BiEncoderConfig(embed_dim=4, triplet_margin=1.5, triplet_weight=0.7, pair_weight=0.4)
    model = BiEncoder(config, run, width=6)
    queries, bodies = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    negatives = torch.tensor([2, 0, 1])
    total = 0.0
    for i, j in enumerate(negatives.tolist()):
        near = (queries[i] - bodies[i]).square().sum().sqrt()
        far = (queries[i] - bodies[j]).square().sum().sqrt()
        total += 0.7 * max(0.0, (near - far).item() + 1.5) / 3
        for body, is_pair in ((bodies[i], 1), (bodies[j], 0)):
            features = torch.cat([queries[i], body, (queries[i] - body).abs()])
            chances = torch.softmax(model.pair_classifier(features), dim=0)
            total += 0.4 * -chances[is_pair].log().item() / 6
    loss = loss_of(model, config, queries, bodies, negatives)
    assert loss.item() == pytest.approx(total, 1e-4)


def test_the_nearest_other_is_never_the_own_body():
    import torch

    from models.biencoder.training import nearest_others

    queries = torch.tensor([[0.0], [1.0], [5.0]])
    bodies = torch.tensor([[0.0], [0.5], [1.1]])
    assert nearest_others(queries, bodies).tolist() == [1, 2, 1]


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 90), st.integers(2, 40), st.floats(0, 1), st.integers(0, 5))
def test_batches_hold_every_pair_once_and_negatives_are_other_pairs(pairs, size, share, seed):
    from models.biencoder.training import draw_batches

    config = BiEncoderConfig(batch_size=size, hard_negative=share)
    generators = np.random.default_rng(seed), np.random.default_rng(seed + 100)
    batches = list(draw_batches(config, pairs, *generators))
    seen = np.concatenate([batch.indices for batch in batches])
    assert len(seen) == len(set(seen.tolist())) == pairs - (pairs % size == 1)
    for batch in batches:
        assert ((batch.drawn >= 0) & (batch.drawn < len(batch.indices))).all()
        assert (batch.drawn != np.arange(len(batch.indices))).all()


def test_drawn_negatives_are_uniform_and_the_hard_share_is_kept():
    from models.biencoder.training import draw_batches

    config = BiEncoderConfig(batch_size=5, hard_negative=0.3)
    batches = list(draw_batches(config, 50_000, *map(np.random.default_rng, (0, 1))))
    distance = (np.stack([b.drawn for b in batches]) - np.arange(5)) % 5
    assert np.bincount(distance.ravel()) == pytest.approx([0, *[12_500] * 4], abs=450)
    assert np.mean([b.is_hard for b in batches]) == pytest.approx(0.3, abs=0.01)


def test_the_learning_rate_falls_linearly_to_zero():
    import torch

    from models.biencoder.training import Optimizer

    model = torch.nn.Linear(1, 1)
    optimizer = Optimizer(model, BiEncoderConfig(learning_rate=0.1, weight_decay=0), all_steps=4)
    places = [model.weight.item()]
    for _ in range(4):
        optimizer.step(model.weight.sum())  # a constant gradient: Adam's step is the learning rate
        places.append(model.weight.item())
    assert -np.diff(places) == pytest.approx([0.1, 0.075, 0.05, 0.025], rel=1e-4)


# --- what goes wrong --------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run(train):
    with pytest.raises(Diverged, match="epoch 1"):
        train(learning_rate=1e30)


def test_too_few_articles_for_top_10_are_refused(train, corpus, tmp_path):
    shutil.copytree(corpus / "bbc_news", tmp_path / "bbc_news")
    for path in (tmp_path / "bbc_news").glob("*/03*.txt"):
        path.unlink()
    run = Run(seed=0, mode=Mode(seeds=1, epochs=1), device="cpu", data_dir=tmp_path)
    with pytest.raises(DataError, match="retrieval needs 11"):
        train_biencoder(BiEncoderConfig(encoder=str(corpus / "bert0")), run)


@pytest.mark.parametrize("epochs", [0, 1.5, None])
def test_epochs_must_be_a_count(train, epochs):
    with pytest.raises(ValueError, match=r"epochs must be an integer of 1 or more.*Mode\("):
        train(epochs=epochs)
