"""The epoch of the lowest validation loss is reported, and training stops soon after it."""

import functools

import numpy as np
import pytest
import tiny_classifier
from tiny_classifier import splits_of, untrained, values_of


@pytest.fixture(scope="module")
def train(small_ag_news):
    return functools.partial(tiny_classifier.train, small_ag_news)


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_the_epoch_with_the_lowest_validation_loss_are_kept(small_ag_news, seed):
    from models.transformer.training import evaluate, fit

    model, config, run, data = untrained(
        small_ag_news, budget={"epochs": 6}, seed=seed, learning_rate=0.1
    )
    reported = fit(model, config, run, *splits_of(data))
    record = run.finish({})
    losses = values_of(record, "validation", "loss")
    best = int(np.argmin(losses))
    kept = evaluate(model, splits_of(data)[1])
    assert record.reported_epoch == best + 1
    assert kept.loss == pytest.approx(losses[best])
    assert reported.top1 == kept.top1 == values_of(record, "validation", "top1")[best]


def test_validation_accuracy_of_the_reported_epoch_is_a_metric(train):
    _, record = train(epochs=4, learning_rate=0.1)
    accuracies = values_of(record, "validation", "top1")
    assert record.metrics["validation_top1"] == accuracies[record.reported_epoch - 1]


@pytest.mark.parametrize("patience", [1, 2])
def test_training_stops_after_so_many_epochs_without_a_lower_validation_loss(train, patience):
    _, record = train(epochs=25, patience=patience, learning_rate=0.3)
    losses = values_of(record, "validation", "loss")
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + patience < 25
    assert record.reported_epoch == best
    stop = record.early_stop
    assert (stop.epoch, stop.best_epoch, stop.patience) == (len(losses), best, patience)
    for epoch in range(1, len(losses)):  # no earlier epoch gave reason to stop
        assert epoch - (int(np.argmin(losses[:epoch])) + 1) < patience


def test_without_patience_every_epoch_is_trained(train):
    _, record = train(epochs=8, learning_rate=0.3)
    assert record.epochs == 8
    assert record.early_stop is None


@pytest.mark.parametrize("patience", [0, 1.5, True])
def test_patience_that_is_no_number_of_epochs_is_refused(train, patience):
    with pytest.raises(ValueError, match=f"patience must be .* found {patience}"):
        train(patience=patience)
