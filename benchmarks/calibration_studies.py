"""The real training runs that ``gate_calibration.py`` counts with: studies of many seeds.

``calibration`` is the quick mode of ``transformer-components``; each ``planted-…`` study trains
rows of it by code into which a mistake was put. The rows have the same names, so that a gate can
compare one with the other.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "ablation_tests")]

from test_transformer_grid import QUICK  # noqa: E402

from models.transformer import (  # noqa: E402
    ABLATIONS,
    config_for,
    corpus_in,
    data_digest,
    train_classifier,
)
from pytest_ablation import Mode, Study, Variant  # noqa: E402

#: The variants that are trained with a planted mistake too.
GATED = ("no_pe", "single_head", "no_ffn", "no_dropout")
#: What was planted: the learning rate cut to a part, a share of the training labels shuffled.
CUTS = {"rate-0.8": 0.8, "rate-0.65": 0.65, "rate-0.5": 0.5}
SHUFFLES = {"labels-0.1": 0.1, "labels-0.2": 0.2}
BUDGET = {"epochs": 4, "train_rows": 800}


def train_with_cut_rate(config: Any, run: Any) -> dict[str, float]:
    """A learning rate that is only a part of what the configuration says."""
    part = run.mode.planted
    return train_classifier(
        dataclasses.replace(config, learning_rate=config.learning_rate * part), run
    )


def train_with_shuffled_labels(config: Any, run: Any) -> dict[str, float]:
    """A share of the training labels permuted among themselves, anew for each seed."""
    from models.transformer import training

    load = training.load_data

    def damaged(*arguments: Any) -> Any:
        data = load(*arguments)
        labels = data.train.labels.copy()
        draw = np.random.default_rng([run.seed, 20])
        chosen = draw.permutation(len(labels))[: round(run.mode.planted * len(labels))]
        labels[chosen] = labels[draw.permutation(chosen)]
        return dataclasses.replace(data, train=dataclasses.replace(data.train, labels=labels))

    with mock.patch.object(training, "load_data", damaged):
        return train_classifier(config, run)


def _study(name: str, train: Any, variants: Any, **budget: Any) -> Study:
    return Study(
        name,
        train=train,
        data=data_digest,
        baseline=config_for(corpus_in(os.environ.get("ABLATION_DATA"))),
        metrics=["top1", "top2", "validation_top1"],
        variants=[Variant(variant, ABLATIONS[variant].changes) for variant in variants],
        quick=Mode(seeds=3, config=QUICK, **BUDGET, **budget),
    )


calibration = _study("calibration", train_classifier, ABLATIONS)
planted = {
    **{name: _study(f"planted-{name}", train_with_cut_rate, GATED, planted=part)
       for name, part in CUTS.items()},
    **{name: _study(f"planted-{name}", train_with_shuffled_labels, GATED, planted=share)
       for name, share in SHUFFLES.items()},
}  # fmt: skip


@calibration.cases
def test_calibration(ablation):
    ablation.run()


def _case_of(study: Study) -> Any:
    @study.cases
    def test_planted(ablation):
        ablation.run()

    return test_planted


for _name, _planted in planted.items():
    globals()[f"test_planted_{_name}"] = _case_of(_planted)
