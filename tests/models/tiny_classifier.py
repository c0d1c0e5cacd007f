"""A classifier that trains in a moment on a part of the small AG News corpus."""

import dataclasses

from models.transformer import TransformerConfig, train_classifier
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

TINY = TransformerConfig(
    corpus="ag_news", embed_dim=8, num_heads=2, num_layers=1, ffn_dim=12, max_length=14,
    batch_size=5, learning_rate=0.01, weight_decay=0.1, min_count=2,
)  # fmt: skip
TRAIN_ROWS = 24


def train(
    data_dir, seed=0, epochs=2, device="cpu", patience=None, train_rows=TRAIN_ROWS, of_run=None,
    **changes,
):  # fmt: skip
    """The finished run and its record; *changes* are of TINY."""
    mode = Mode(seeds=1, epochs=epochs, patience=patience, train_rows=train_rows)
    run = Run(seed=seed, mode=mode, device=device, data_dir=data_dir, **(of_run or {}))
    metrics = train_classifier(dataclasses.replace(TINY, **changes), run)
    return run, run.finish(metrics)


def untrained(data_dir, seed=0, budget=None, **changes):
    """The model, its configuration, its run and the data, before the first step."""
    from models.transformer.data import load_data
    from models.transformer.model import TransformerClassifier

    config = dataclasses.replace(TINY, **changes)
    mode = Mode(seeds=1, **{"epochs": 1, **(budget or {})})
    run = Run(seed=seed, mode=mode, device="cpu", data_dir=data_dir)
    data = load_data(config, data_dir, TRAIN_ROWS)
    model = TransformerClassifier(
        config, run, vocabulary_size=data.vocabulary_size, num_classes=len(data.classes)
    )
    return model, config, run, data


def splits_of(data):
    """The training and the validation split on the device."""
    from models.transformer.training import DeviceSplit

    return DeviceSplit.of(data.train, "cpu"), DeviceSplit.of(data.validation, "cpu")


def values_of(record, split, metric):
    """Epoch by epoch."""
    return [row.value for row in record.history if (row.split, row.metric) == (split, metric)]
