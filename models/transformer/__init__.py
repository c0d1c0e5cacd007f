"""A Transformer text classifier made of removable components, for AG News or BBC News.

A configuration and a run go in, test accuracies come out. Importing this imports no torch: a study
module imports it at collection, where torch's two seconds would be paid by every pytest command.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from models.ag_news import ag_news_digest, ag_news_folder, ag_news_hub_digest
from models.bbc_news import bbc_news_digest
from models.errors import DataError
from models.transformer.ablations import ABLATIONS
from models.transformer.config import TransformerConfig, config_for

if TYPE_CHECKING:
    from pytest_ablation.run import Run

__all__ = [
    "ABLATIONS",
    "TransformerConfig",
    "config_for",
    "corpus_in",
    "data_digest",
    "train_classifier",
]

HUB_VARIABLE = "ABLATION_AG_NEWS"  # what --ablation-ag-news sets


def train_classifier(config: TransformerConfig, run: Run) -> dict[str, float]:
    """Train one classifier for ``run.mode.epochs`` epochs and score it on the test split.

    ``run.mode.train_rows`` is how many of the training texts are used, by class in proportion and
    the same for every run (absent or None: all); validation and test texts are always all used.
    The epoch with the lowest validation loss gives the weights that are reported. Training stops
    after ``run.mode.patience`` epochs without a lower one (None or absent: never).

    Returns
    -------
    dict
        ``top1`` and, for three or more classes, ``top2``: test accuracies in [0, 1]; and
        ``validation_top1``, of the validation split in the epoch that is reported.

    Raises
    ------
    pytest_ablation.errors.Diverged
        A loss was not finite.
    models.errors.DataError
        There are no texts to train on, or not ``train_rows`` of them.
    """
    from models.transformer.training import train  # imports torch

    return train(config, run)


def corpus_in(data_dir: str | Path | None) -> str:
    """The corpus that there is to train on: a name for ``TransformerConfig.corpus``.

    ``"ag_news_hub"`` where the user asked for it (``--ablation-ag-news=hub``, or the variable
    ``ABLATION_AG_NEWS``), whether it can be loaded or not; else ``"ag_news"`` where *data_dir*
    holds it; else ``"bbc_news"``.

    Raises
    ------
    models.errors.DataError
        The variable is neither ``hub`` nor empty.
    """
    asked = os.environ.get(HUB_VARIABLE, "")
    if asked not in ("", "hub"):
        raise DataError(
            f"the variable {HUB_VARIABLE} must be 'hub' or empty, found {asked!r}: set it to hub "
            f"for the copy of the Hugging Face hub, or remove it"
        )
    if asked:
        return "ag_news_hub"
    return "ag_news" if ag_news_folder(data_dir) is not None else "bbc_news"


def data_digest(config: TransformerConfig, data_dir: Path | None = None) -> str:
    """A digest of what a run would read: the corpus's files, and a pretrained encoder's.

    Raises
    ------
    models.errors.DataError, models.pretrained.encoder.EncoderError
        They are not there.
    """
    if config.corpus == "ag_news":
        corpus = ag_news_digest(data_dir)
    elif config.corpus == "ag_news_hub":
        corpus = ag_news_hub_digest()
    else:
        corpus = bbc_news_digest(data_dir)
    if config.encoder is None:
        return corpus
    from models.pretrained.encoder import encoder_digest, encoder_folder

    parts = (corpus, encoder_digest(encoder_folder(config.encoder)))
    return hashlib.sha256("/".join(parts).encode()).hexdigest()
