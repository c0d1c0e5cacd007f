"""Training: every field takes effect, variants share random numbers, a seed gives the same bits."""

import dataclasses
import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.biencoder import BiEncoderConfig, metric_names
from models.errors import DataError
from pytest_ablation.errors import Diverged

#: For every field a value other than the tiny configuration's, and what else it needs.
CHANGES = {
    "corpus": "bbc_news",
    "encoder": None,  # another one, made by the fixture
    "encoder_precision": "bfloat16",
    "max_length": 5,
    "known_pairs": False,
    "train_encoder": True,
    "shared": False,
    "layernorm": True,
    "relu": True,
    "embed_dim": 12,
    "dropout": 0.0,
    "fusion": "both",
    "triplet_margin": 3.0,
    "triplet_weight": 0.5,
    "contrastive_weight": 0.0,
    "contrastive_scale": 5.0,
    "pair_weight": 2.0,
    "negatives": 1,
    "random_negatives": 0.0,
    "random_decay": 0.5,
    "hard_pool": 1,
    "exact_search": False,
    "rerank_top": 2,
    "rerank_weight": 30.0,
    "batch_size": 12,
    "learning_rate": 0.05,
    "encoder_learning_rate": 0.01,
    "weight_decay": 3.0,
    "grad_clip_norm": None,
}
NEEDS = {"encoder_learning_rate": {"train_encoder": True}}
#: Interchangeable by design: both find the same neighbours.
WITHOUT_EFFECT = "exact_search"


# --- the configuration ------------------------------------------------------------------------


def test_every_field_has_a_change_to_be_tested_with():
    assert list(CHANGES) == [field.name for field in dataclasses.fields(BiEncoderConfig)]


@pytest.mark.parametrize("field", [field for field in CHANGES if field != WITHOUT_EFFECT])
def test_every_field_changes_what_comes_out(field, train_tiny, biencoder_folder):
    value = str(biencoder_folder / "bert1") if field == "encoder" else CHANGES[field]
    base = NEEDS.get(field, {})
    before, after = train_tiny(**base), train_tiny(**base | {field: value})
    old, new = before.record.outcome, after.record.outcome
    is_trained = not field.startswith("rerank")
    assert (old["loss_history"] != new["loss_history"]) == is_trained
    if field != "random_decay":  # acts from the second epoch on, and the first may be the best
        assert (old["weights"] != new["weights"]) == is_trained
        assert old["predictions"] != new["predictions"]


def test_both_searchers_train_the_same_bits(train_tiny):
    before, after = train_tiny(), train_tiny(exact_search=False)
    assert before.record.outcome == after.record.outcome
    assert before.record.history == after.record.history
    assert before.metrics == after.metrics


# --- what a run tells -------------------------------------------------------------------------


@pytest.mark.parametrize(("corpus", "pairs"), [("arguana", 32), ("bbc_news", 56)])
def test_a_run_reports_exactly_the_metrics_that_are_named(corpus, pairs, train_tiny):
    trained = train_tiny(corpus=corpus, budget={"epochs": 3})
    assert set(trained.metrics) == set(metric_names(corpus))
    assert all(0 <= value <= 1 for value in trained.metrics.values())
    record = trained.record
    assert (record.status, record.epochs) == ("ok", 3)
    assert record.steps == 3 * math.ceil(pairs / 16)
    assert all(record.fingerprints.values())
    assert "the mean over the first 12 tokens, 64 numbers per text" in record.notes["encoder"]
    assert f"{pairs} " in record.notes["data"]


def test_predictions_are_what_the_metrics_are_made_of(train_tiny):
    trained = train_tiny()
    predictions = trained.run.predictions
    for name, value in trained.metrics.items():
        task, figure = name.removeprefix("unseen_").rsplit("_", 1)
        ranks = predictions[f"{task}_rank"]
        assert ranks.shape == (20,)
        assert (predictions[f"{task}_top1"] == (ranks == 1)).all()
        if not name.startswith("unseen_"):
            figures = {f"top{k}": np.mean(ranks <= k) for k in (1, 5, 10)}
            figures["mrr"] = np.mean(1 / ranks)
            assert value == pytest.approx(figures[figure])


def test_history_holds_the_overall_task_of_all_three_splits(train_tiny):
    trained = train_tiny(budget={"epochs": 4})
    figures = [f"epa_{figure}" for figure in ("top1", "top5", "top10", "mrr")]
    seen = [(row.epoch, row.split, row.metric) for row in trained.record.history]
    expected = {*product(range(1, 5), ("train", "validation", "test"), figures)}
    assert len(seen) == len(set(seen))
    assert set(seen) == expected | {(epoch, "train", "loss") for epoch in range(1, 5)}
    reported = trained.record.reported_epoch
    for name in figures:
        assert trained.history("test", name)[reported - 1] == trained.metrics[name]
    assert set(trained.history("train", "epa_top1")) <= {n / 32 for n in range(33)}
    assert set(trained.history("validation", "epa_top1")) <= {n / 16 for n in range(17)}


def test_references_stand_beside_the_metrics_and_no_training_changes_them(train_tiny):
    one, other = train_tiny(), train_tiny(seed=1, learning_rate=0.05, relu=True)
    assert one.record.references == other.record.references
    assert set(one.record.references) == {"TF-IDF", "untrained encoder"}
    for figures in one.record.references.values():
        assert set(figures) == {name for name in metric_names("arguana") if "reranked" not in name}


def test_gradients_and_the_clipping_threshold_are_told(train_tiny):
    trained = train_tiny(budget={"epochs": 3})
    gradients, limit = trained.record.gradients, trained.record.limits["grad_clip_norm"]
    assert gradients.steps == limit.comparisons == trained.record.steps == 6
    assert limit.limit == 0.5
    assert limit.largest_seen == gradients.largest > 0.5, "told before clipping"
    assert 1 <= gradients.epoch <= 3
    unclipped = train_tiny(grad_clip_norm=None)
    assert unclipped.record.limits == {}
    assert unclipped.record.gradients.steps == unclipped.record.steps


def test_a_threshold_that_is_never_reached_changes_nothing(train_tiny):
    high, none = train_tiny(grad_clip_norm=1e6), train_tiny(grad_clip_norm=None)
    assert high.record.outcome == none.record.outcome


@pytest.mark.parametrize(
    ("changes", "classifier"),
    [({}, 3 * 16), ({"fusion": "encoder"}, 3 * 64), ({"fusion": "both"}, 3 * 80)],
)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("layernorm", [True, False])
def test_parameters_are_those_of_the_head_and_the_classifier(
    changes, classifier, shared, layernorm, train_tiny
):
    head = 64 * 16 + 16 + 2 * 64 * layernorm
    trained = train_tiny(**changes, shared=shared, layernorm=layernorm, budget={"epochs": 1})
    expected = head * (1 if shared else 2) + 2 * classifier + 2
    assert trained.record.cost.parameters == expected


# --- random numbers ---------------------------------------------------------------------------


def test_a_seed_gives_the_same_bits_and_another_seed_others(train_tiny):
    first, second, other = train_tiny(), train_tiny(), train_tiny(seed=1)
    assert first.record.outcome == second.record.outcome
    assert first.record.history == second.record.history
    assert first.metrics == second.metrics
    assert first.record.fingerprints["batch_order"] != other.record.fingerprints["batch_order"]
    assert first.record.outcome["weights"] != other.record.outcome["weights"]


def test_the_factorial_variants_differ_in_nothing_but_their_components(train_tiny):
    records = [train_tiny(layernorm=n, relu=r).record for n, r in product([False, True], repeat=2)]
    for one, other in pairwise(records):
        assert one.fingerprints == other.fingerprints
        assert one.epoch_orders == other.epoch_orders
        assert one.outcome["weights"] != other.outcome["weights"]


@pytest.mark.parametrize(
    "field", [name for name in CHANGES if name not in ("corpus", "known_pairs", "batch_size")]
)
def test_no_component_changes_the_data_or_the_batch_order(field, train_tiny, biencoder_folder):
    value = str(biencoder_folder / "bert1") if field == "encoder" else CHANGES[field]
    before, after = train_tiny(), train_tiny(**{field: value})
    assert before.record.fingerprints == after.record.fingerprints


def test_what_trains_on_other_pairs_says_so(train_tiny):
    whole, part = train_tiny().record.fingerprints, train_tiny(known_pairs=False).record
    assert whole["train_data"] != part.fingerprints["train_data"]
    assert whole["evaluation_data"] == part.fingerprints["evaluation_data"]


def test_every_epoch_has_an_order_of_its_own(train_tiny):
    orders = train_tiny(budget={"epochs": 3}).record.epoch_orders
    assert len(set(orders)) == 3
    assert orders[:2] == train_tiny(budget={"epochs": 2}).record.epoch_orders


# --- the best epoch ---------------------------------------------------------------------------


def train_quickly(train_tiny, seed, epochs, **budget):
    """At a rate that is too high to get better for long."""
    return train_tiny(seed, learning_rate=0.03, budget={"epochs": epochs, **budget})


def validation_figures(trained):
    """What the best epoch is chosen by, epoch by epoch."""
    names = ("epa_top1", "epa_mrr")
    return list(zip(*(trained.history("validation", name) for name in names), strict=True))


def best_epoch(trained):
    """By the rule that is documented, epochs from 1; the first of equals."""
    figures = validation_figures(trained)
    return figures.index(max(figures)) + 1


def test_training_learns(train_tiny):
    trained = train_tiny(layernorm=True, dropout=0.0, budget={"epochs": 20})
    losses, top1 = trained.history("train", "loss"), trained.history("train", "epa_top1")
    assert losses[-1] < 0.7 * losses[0]
    assert max(top1) > 0.4 > top1[0]


def test_the_weights_of_the_best_validation_epoch_are_reported(train_tiny):
    seeds = (seed for seed in range(20) if 1 < best_epoch(train_quickly(train_tiny, seed, 8)) < 8)
    seed = next(seeds)
    trained = train_quickly(train_tiny, seed, 8)
    best = best_epoch(trained)
    assert trained.record.reported_epoch == best
    for epochs in (best, best + 1):
        other = train_quickly(train_tiny, seed, epochs)
        assert other.record.outcome["weights"] == trained.record.outcome["weights"]
        assert other.metrics == trained.metrics
    assert trained.metrics["epa_mrr"] == trained.history("test", "epa_mrr")[best - 1]
    assert trained.metrics["epa_mrr"] != trained.history("test", "epa_mrr")[-1]


def test_top1_comes_before_the_mean_reciprocal_rank(train_tiny):
    def best_by_mrr(trained):
        told = trained.history("validation", "epa_mrr")
        return told.index(max(told)) + 1

    runs = (train_tiny(seed, learning_rate=0.1, budget={"epochs": 12}) for seed in range(99))
    trained = next(run for run in runs if best_epoch(run) != best_by_mrr(run))
    assert trained.record.reported_epoch == best_epoch(trained)


def test_of_equal_epochs_the_first_is_best(train_tiny):
    """Steps too small to change an order."""
    trained = train_tiny(learning_rate=1e-9, weight_decay=0.0, budget={"epochs": 9, "patience": 2})
    assert len(set(validation_figures(trained))) == 1
    assert trained.record.reported_epoch == 1
    assert trained.record.early_stop == (3, 1, 2, 9)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_stops_training_after_so_many_epochs_without_a_better_one(train_tiny, patience):
    long = train_quickly(train_tiny, 0, 30)
    expected = stop_by_hand(long, patience)
    assert expected < 30
    stopped = train_quickly(train_tiny, 0, 30, patience=patience)
    record = stopped.record
    assert record.epochs == expected
    assert record.history == tuple(row for row in long.record.history if row.epoch <= expected)
    best = best_epoch(stopped)
    assert record.reported_epoch == best == expected - patience
    assert record.early_stop == (expected, best, patience, 30)
    until_best = train_quickly(train_tiny, 0, best)
    assert record.outcome["weights"] == until_best.record.outcome["weights"]


def stop_by_hand(trained, patience):
    """The first epoch by which *patience* epochs were no better than all before them."""
    figures = validation_figures(trained)
    for epoch in range(patience + 1, len(figures) + 1):
        if max(figures[epoch - patience : epoch]) <= max(figures[: epoch - patience]):
            return epoch
    return len(figures)


def test_without_patience_and_where_it_never_ran_out_nothing_stops(train_tiny):
    for budget in ({"epochs": 5}, {"epochs": 5, "patience": None}, {"epochs": 5, "patience": 5}):
        record = train_tiny(budget=budget).record
        assert (record.epochs, record.early_stop) == (5, None)


# --- batches and the optimizer ----------------------------------------------------------------


@given(st.integers(1, 90), st.integers(2, 40))
def test_batches_hold_every_pair_once_and_none_is_alone(pairs, size):
    from models.biencoder.training import batches

    order = np.random.default_rng(0).permutation(pairs)
    found = list(batches(order, size))
    assert np.concatenate(found).tolist() == order.tolist()
    sizes = [len(batch) for batch in found]
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert 1 < sizes[-1] <= size + 1 or pairs == 1


def test_only_matrices_decay():
    """Without gradients, AdamW does nothing but shrink what decays."""
    import torch

    from models.biencoder.training import make_optimizer

    head, encoder = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)
    config = BiEncoderConfig(learning_rate=0.1, encoder_learning_rate=0.01, weight_decay=0.5)
    optimizer = make_optimizer(head, torch.nn.ModuleList([encoder]), config)
    before = [p.detach().clone() for module in (head, encoder) for p in module.parameters()]
    for module in (head, encoder):
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = [p for module in (head, encoder) for p in module.parameters()]
    for old, new, factor in zip(before, after, (0.95, 1, 0.995, 1), strict=True):
        torch.testing.assert_close(new.detach(), old * factor)


def test_the_learning_rate_stays_as_it_is():
    import torch

    from models.biencoder.training import make_optimizer

    model = torch.nn.Linear(1, 1)
    optimizer = make_optimizer(
        model, torch.nn.ModuleList(), BiEncoderConfig(learning_rate=0.1, weight_decay=0)
    )
    places = [model.weight.item()]
    for _ in range(4):
        optimizer.zero_grad()
        model.weight.sum().backward()  # a constant gradient: Adam's step is the learning rate
        optimizer.step()
        places.append(model.weight.item())
    assert -np.diff(places) == pytest.approx([0.1] * 4, rel=1e-4)


# --- what goes wrong --------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run(train_tiny):
    with pytest.raises(Diverged, match="epoch 1"):
        train_tiny(learning_rate=1e30)


def test_weights_that_the_last_step_made_infinite_stop_the_run_too(train_tiny):
    with pytest.raises(Diverged, match="train loss became nan in epoch 1"):
        train_tiny(learning_rate=1e38, batch_size=10_000)  # one step: its own loss is finite


def test_without_a_corpus_there_is_nothing_to_train_on(train_tiny):
    with pytest.raises(DataError, match=r"--ablation-data or ABLATION_DATA"):
        train_tiny(data_dir=None)


@pytest.mark.parametrize("epochs", [0, 1.5, None])
def test_epochs_must_be_a_count(train_tiny, epochs):
    with pytest.raises(ValueError, match=r"epochs must be an integer of 1 or more.*Mode\("):
        train_tiny(budget={"epochs": epochs})


@pytest.mark.parametrize("patience", [0, -1, 1.5, True])
def test_patience_must_be_a_count(train_tiny, patience):
    with pytest.raises(ValueError, match="patience must be an integer of 1 or more, or None"):
        train_tiny(budget={"epochs": 2, "patience": patience})
