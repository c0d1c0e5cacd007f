"""Training: every field of the configuration takes effect, and a seed gives the same bits."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import tiny_classifier
from tiny_classifier import TINY, TRAIN_ROWS, splits_of, untrained, values_of

from models.transformer import train_classifier
from pytest_ablation.errors import Diverged
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

#: For every field a value other than TINY's.
CHANGES = {
    "embed_dim": 12,
    "num_heads": 1,
    "num_layers": 2,
    "ffn_dim": None,
    "positional_encoding": None,
    "dropout": 0.0,
    "train_embeddings": False,
    "grad_clip_norm": 0.01,
    "max_length": 9,
    "min_count": 1,
    "batch_size": 4,
    "learning_rate": 0.02,
    "warmup_fraction": 0.5,
    "weight_decay": 0.0,
    "precision": "bfloat16",
}
#: Tested by themselves: other data, and a model of another kind.
OTHER_FIELDS = {"corpus", "encoder", "fine_tune", "encoder_learning_rate"}


@pytest.fixture(scope="module")
def train(small_ag_news):
    return functools.partial(tiny_classifier.train, small_ag_news)


@pytest.fixture(scope="module")
def trained_with(train):
    """The run and record of TINY with another value of one field (None: as it is), made once."""
    return functools.cache(lambda field=None: train(**({field: CHANGES[field]} if field else {})))


# --- the configuration ----------------------------------------------------------------------


def test_every_field_has_a_change_to_be_tested_with():
    fields = {field.name: getattr(TINY, field.name) for field in dataclasses.fields(TINY)}
    assert CHANGES.keys() | OTHER_FIELDS == fields.keys()
    assert all(fields[name] != value for name, value in CHANGES.items())


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_changes_what_is_trained(trained_with, field):
    (run, plain), (changed_run, changed) = trained_with(), trained_with(field)
    for what in ("weights", "predictions", "loss_history"):
        assert plain.outcome[what] is not None
        assert changed.outcome[what] != plain.outcome[what], what
    assert not np.array_equal(run.predictions["scores"], changed_run.predictions["scores"])


@pytest.mark.parametrize("field", [name for name in CHANGES if name != "batch_size"])
def test_no_field_but_batch_size_changes_the_data_or_the_batch_order(trained_with, field):
    assert trained_with(field)[1].fingerprints == trained_with()[1].fingerprints


def test_learning_rate_warms_up_and_falls_linearly_to_zero():
    from models.transformer.training import learning_rate_factor

    factors = [learning_rate_factor(step, 20, warmup_fraction=0.2) for step in range(20)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert np.diff(factors[4:]) == pytest.approx(-1 / 16)
    assert factors[-1] == pytest.approx(1 / 16)


def test_without_warm_up_the_first_step_has_the_full_rate():
    from models.transformer.training import learning_rate_factor

    assert learning_rate_factor(0, 10, warmup_fraction=0.0) == 1.0


def test_frozen_embeddings_end_as_they_began_while_the_rest_moved(small_ag_news):
    import torch

    before, after = _before_and_after(small_ag_news, train_embeddings=False)
    assert torch.equal(before.pop("embedding.weight"), after.pop("embedding.weight"))
    for name, value in before.items():
        assert not torch.equal(value, after[name]), name


def test_trained_embeddings_move(small_ag_news):
    import torch

    before, after = _before_and_after(small_ag_news)
    assert not torch.equal(before["embedding.weight"], after["embedding.weight"])


def test_embeddings_are_not_decayed_and_matrices_are(small_ag_news):
    """Rows of positions that no text reaches have no gradient: only decay could move them."""
    import torch

    before, after = _before_and_after(
        small_ag_news, positional_encoding="learned", max_length=60, weight_decay=0.9
    )
    name = "position_embedding.weight"
    assert torch.equal(before[name][40:], after[name][40:])
    assert not torch.equal(before[name][:3], after[name][:3])
    less = _before_and_after(
        small_ag_news, positional_encoding="learned", max_length=60, weight_decay=0.0
    )[1]
    for matrix in ("blocks.0.ffn.expand.weight", "head.weight"):
        assert after[matrix].norm() < less[matrix].norm()


def _before_and_after(data_dir, **changes):
    """Copies of all weights before and after one epoch on the small corpus."""
    from models.transformer.training import fit

    model, config, run, data = untrained(data_dir, **changes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, config, run, *splits_of(data))
    return before, model.state_dict()


def test_gradients_of_earlier_steps_are_not_added(small_ag_news):
    import torch

    # At this rate the weights stay, and so each step's gradient is the first one's again.
    once, _ = _gradients(small_ag_news, steps=1, learning_rate=1e-12)
    thrice, _ = _gradients(small_ag_news, steps=3, learning_rate=1e-12)
    assert torch.allclose(once, thrice, atol=1e-6)


def test_logged_training_loss_and_accuracy_are_means_over_the_examples(train, small_ag_news):
    from models.transformer.training import evaluate

    # At this rate and without dropout an epoch is an evaluation of the training split.
    record = train(learning_rate=1e-12, dropout=0.0, batch_size=7)[1]
    model, _, _, data = untrained(small_ag_news)
    expected = evaluate(model, splits_of(data)[0])
    assert values_of(record, "train", "loss") == pytest.approx([expected.loss] * 2, rel=1e-5)
    assert values_of(record, "train", "top1") == pytest.approx([expected.top1] * 2)


def test_dropout_is_on_in_every_epoch(train):
    with_dropout = train(learning_rate=1e-12, dropout=0.5, epochs=3)[1]
    without = train(learning_rate=1e-12, dropout=0.0, epochs=3)[1]
    for one, other in zip(
        values_of(with_dropout, "train", "loss"), values_of(without, "train", "loss"), strict=True
    ):
        assert abs(one - other) > 1e-4


# --- clipping -------------------------------------------------------------------------------


def _gradients(data_dir, steps=1, **changes):
    """The gradient as it was applied in the last of some steps on the whole training split."""
    import torch

    from models.transformer.training import Optimizer

    model, config, run, data = untrained(data_dir, dropout=0.0, **changes)
    optimizer = Optimizer(model, config, run, steps_per_epoch=steps)
    split, _ = splits_of(data)
    inputs = split.inputs(np.arange(len(split)))
    for _ in range(steps):
        optimizer.step(torch.nn.functional.cross_entropy(model(*inputs), split.labels))
    optimizer.tell_norms()
    return torch.cat([p.grad.flatten() for p in model.parameters()]), run.finish({}).limits


def test_clipping_bounds_the_norm_of_the_gradient_that_is_applied(small_ag_news):
    import torch

    whole, nothing_watched = _gradients(small_ag_news)
    limit = whole.norm().item() / 3
    clipped, limits = _gradients(small_ag_news, grad_clip_norm=limit)
    assert clipped.norm().item() == pytest.approx(limit, rel=1e-4)
    assert torch.allclose(clipped, whole / 3, rtol=1e-3)
    assert limits["grad_clip_norm"].limit == limit
    assert limits["grad_clip_norm"].largest_seen == pytest.approx(3 * limit, rel=1e-4)
    assert nothing_watched == {}


def test_limit_above_all_norms_changes_nothing_and_tells_the_norms(train, trained_with):
    plain, clipped = trained_with()[1], train(grad_clip_norm=1e6)[1]
    assert clipped.outcome == plain.outcome
    assert clipped.limits["grad_clip_norm"].comparisons == clipped.fingerprints["steps"]
    assert 0 < clipped.limits["grad_clip_norm"].largest_seen < 1e6


def test_the_norm_of_every_gradient_is_told_whether_it_is_clipped_or_not(trained_with):
    plain, clipped = trained_with()[1], trained_with("grad_clip_norm")[1]
    assert plain.gradients.steps == clipped.gradients.steps == plain.fingerprints["steps"]
    assert clipped.gradients.largest == clipped.limits["grad_clip_norm"].largest_seen


# --- divergence -----------------------------------------------------------------------------


def test_absurd_learning_rate_is_reported_with_its_epoch(train):
    with pytest.raises(Diverged, match=r"loss became (nan|inf) in epoch 1 \(step [2-9]\)"):
        train(learning_rate=1e36)


def test_loss_that_stops_being_finite_later_is_reported_with_its_epoch(train, monkeypatch):
    from torch.nn import functional

    whole, calls = functional.cross_entropy, itertools.count(1)

    def cross_entropy(*args, **kwargs):  # 5 batches and a validation in each epoch
        return whole(*args, **kwargs) * (float("nan") if next(calls) == 9 else 1.0)

    monkeypatch.setattr(functional, "cross_entropy", cross_entropy)
    with pytest.raises(Diverged, match=r"loss became nan in epoch 2 \(step 8\)"):
        train(batch_size=5)


@pytest.mark.parametrize("epochs", [0, -1, 2.5])
def test_budget_without_an_epoch_is_refused(train, epochs):
    with pytest.raises(ValueError, match=f"epochs must be an integer of 1 or more, found {epochs}"):
        train(epochs=epochs)


# --- determinism ----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_same_seed_gives_the_same_bits_whatever_ran_before(train, precision):
    import torch

    torch.manual_seed(1)
    first = train(seed=3, precision=precision)[1]
    train(seed=4, num_heads=1)
    torch.manual_seed(2)
    second = train(seed=3, precision=precision)[1]
    assert first.outcome == second.outcome
    assert first.fingerprints == second.fingerprints
    assert first.metrics == second.metrics


def test_another_seed_gives_other_weights_and_another_order_of_the_same_data(train):
    first, second = train(seed=0)[1], train(seed=1)[1]
    assert first.outcome["weights"] != second.outcome["weights"]
    assert first.fingerprints["batch_order"] != second.fingerprints["batch_order"]
    assert first.fingerprints["train_data"] == second.fingerprints["train_data"]
    assert first.fingerprints["evaluation_data"] == second.fingerprints["evaluation_data"]


# --- what a run tells -----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5, 7, 1000])
def test_an_epoch_has_a_step_for_each_batch_of_the_budget_s_texts(train, batch_size):
    _, record = train(epochs=3, batch_size=batch_size)
    batches = -(-TRAIN_ROWS // batch_size)
    assert (record.epochs, record.fingerprints["steps"]) == (3, 3 * batches)


def test_without_a_number_of_rows_all_texts_are_trained_on(small_ag_news):
    run = Run(seed=0, mode=Mode(seeds=1, epochs=1), device="cpu", data_dir=small_ag_news)
    record = run.finish(train_classifier(dataclasses.replace(TINY, batch_size=16), run))
    assert record.fingerprints["steps"] == 144 / 16


def test_run_tells_history_parameters_and_data(trained_with, small_ag_news):
    run, record = trained_with()
    for split, metric in itertools.product(("train", "validation"), ("loss", "top1")):
        assert len(values_of(record, split, metric)) == 2
    model, _, _, data = untrained(small_ag_news)
    assert run.parameters == sum(value.numel() for value in model.state_dict().values())
    assert record.notes["data"] == data.description
    assert record.cost.train_seconds > 0


def test_accuracies_are_those_of_the_saved_predictions_in_the_order_of_the_test_split(
    trained_with, small_ag_news
):
    from sklearn.metrics import top_k_accuracy_score

    run, record = trained_with()
    saved = run.predictions
    labels = untrained(small_ag_news)[3].news.test.labels
    assert saved["labels"].tolist() == labels.tolist()
    assert saved["scores"].shape == (len(labels), 4)
    assert saved["scores"].dtype == np.float32
    for k in (1, 2):
        expected = top_k_accuracy_score(labels, saved["scores"], k=k)
        assert record.metrics[f"top{k}"] == pytest.approx(expected)
        assert saved[f"top{k}"].mean() == pytest.approx(expected)


def test_evaluation_scores_each_text_as_if_alone(small_ag_news):
    import torch

    from models.transformer.training import evaluate

    model, _, _, data = untrained(small_ag_news)
    seen = evaluate(model, splits_of(data)[0])
    for row, length in enumerate(data.train.lengths):
        alone = model(torch.from_numpy(data.train.tokens[row : row + 1, :length]))
        assert seen.scores[row] == pytest.approx(alone[0].detach().numpy(), abs=1e-5)
    right = seen.scores.argmax(axis=1) == data.train.labels
    assert seen.top1 == pytest.approx(right.mean())


def test_any_model_and_splits_that_fit_each_other_can_be_trained():
    import torch

    from models.transformer.training import fit

    class Numbers:
        """Inputs of two parts; the class is the larger number of the two."""

        def __init__(self, count, seed):
            values = np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)
            self.values = torch.from_numpy(values)
            self.labels = self.values.argmax(dim=1)
            self.full_lengths = np.arange(count)

        def __len__(self):
            return len(self.values)

        def inputs(self, indices):
            return tuple(self.values[torch.from_numpy(indices)].split(1, dim=1))

    class Model(torch.nn.Linear):
        def forward(self, one, other):
            return super().forward(torch.cat([one, other], dim=1))

    run = Run(seed=0, mode=Mode(seeds=1, epochs=30), device="cpu")
    config = dataclasses.replace(TINY, learning_rate=0.1)
    assert fit(Model(2, 2), config, run, Numbers(60, 0), Numbers(40, 1)).top1 > 0.9


# --- what is learned ------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_classes_that_words_tell_apart_are_learned(train, precision):
    _, record = train(epochs=8, train_rows=96, learning_rate=0.03, precision=precision)
    assert values_of(record, "train", "loss")[-1] < 0.5 * values_of(record, "train", "loss")[0]
    assert record.metrics["top1"] >= 0.8


def test_two_classes_have_a_top_1_and_no_top_2(write_bbc_news):
    data_dir = write_bbc_news(
        {c: [f"{c} {n}\n\nabout {c} {n} {c}" for n in range(10)] for c in ("tea", "rum")}
    )
    run = Run(seed=0, mode=Mode(seeds=1, epochs=1), device="cpu", data_dir=data_dir)
    config = dataclasses.replace(TINY, corpus="bbc_news")
    assert list(train_classifier(config, run)) == ["top1", "validation_top1"]


def test_trains_on_a_gpu_to_the_same_initial_weights_and_order(train):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_gpu, on_cpu = train(device="cuda", dropout=0.0)[1], train(dropout=0.0)[1]
    assert on_gpu.fingerprints["batch_order"] == on_cpu.fingerprints["batch_order"]
    assert values_of(on_gpu, "validation", "loss") == pytest.approx(
        values_of(on_cpu, "validation", "loss"), rel=0.01
    )
    train(device="cuda", dropout=0.5, grad_clip_norm=0.1)
