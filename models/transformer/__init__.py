"""A Transformer text classifier made of removable components, trained on BBC News.

A configuration and a run go in, test accuracies come out. Importing this imports no torch: a study
module imports it at collection, where torch's two seconds would be paid by every pytest command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.bbc_news import bbc_news_digest
from models.transformer.config import TransformerConfig

if TYPE_CHECKING:
    from pytest_ablation.run import Run

__all__ = ["TransformerConfig", "data_digest", "train_classifier"]


def train_classifier(config: TransformerConfig, run: Run) -> dict[str, float]:
    """Train one classifier for ``run.mode.epochs`` epochs and score it on the test split.

    The epoch with the best validation accuracy gives the weights that are reported.

    Returns
    -------
    dict
        ``top1`` and, for three or more classes, ``top2``: test accuracies in [0, 1].

    Raises
    ------
    pytest_ablation.errors.Diverged
        A loss was not finite.
    models.errors.DataError
        There are no articles to train on.
    """
    from models.transformer.training import train  # imports torch

    return train(config, run)


def data_digest(config: TransformerConfig, data_dir: Path | None = None) -> str:
    """A digest of the files that a run would read; the same for all configurations."""
    del config
    return bbc_news_digest(data_dir)
