"""A bi-encoder made of removable components: which article body belongs to this headline?

A configuration and a run go in, test accuracies come out. Importing this imports no torch: a study
module imports it at collection, where torch's two seconds would be paid by every pytest command.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from models.bbc_news import bbc_news_digest
from models.biencoder.config import BiEncoderConfig

if TYPE_CHECKING:
    from pytest_ablation.run import Run

__all__ = ["BiEncoderConfig", "data_digest", "train_biencoder"]


def train_biencoder(config: BiEncoderConfig, run: Run) -> dict[str, float]:
    """Train one bi-encoder for ``run.mode.epochs`` epochs and score it on the test split.

    The epoch with the best validation accuracy gives the weights that are reported.

    Returns
    -------
    dict
        ``top1``, ``top5`` and ``top10``: fractions of the test headlines whose own body is among
        the first k of all test bodies, after re-ranking. ``retrieval_top1``, ``retrieval_top5`` and
        ``retrieval_top10``: the same, before it.

    Raises
    ------
    pytest_ablation.errors.Diverged
        A loss was not finite.
    models.bbc_news.DataError
        There are no articles to train on, or so few that top-10 would measure nothing.
    models.biencoder.encoder.EncoderError
        The encoder is not there, or cannot be used.
    """
    from models.biencoder.training import train  # imports torch

    return train(config, run)


def data_digest(config: BiEncoderConfig, data_dir: Path | None = None) -> str:
    """A digest of the files that a run would read: the articles' and the encoder's.

    Raises
    ------
    models.bbc_news.DataError, models.biencoder.encoder.EncoderError
        They are not there.
    """
    from models.biencoder.encoder import encoder_digest, encoder_folder

    parts = bbc_news_digest(data_dir), encoder_digest(encoder_folder(config.encoder))
    return hashlib.sha256("/".join(parts).encode()).hexdigest()
