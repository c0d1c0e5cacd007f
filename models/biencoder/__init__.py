"""A bi-encoder made of removable components: which answer belongs to this text?

A configuration and a run go in, test accuracies come out. Importing this imports no torch: a study
module imports it at collection, where torch's two seconds would be paid by every pytest command.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from models.arguana import arguana_digest, arguana_folder
from models.bbc_news import bbc_news_digest
from models.biencoder.config import BiEncoderConfig, config_for
from models.errors import DataError

if TYPE_CHECKING:
    from pytest_ablation.run import Run

__all__ = [
    "BiEncoderConfig",
    "config_for",
    "corpus_in",
    "data_digest",
    "metric_names",
    "train_biencoder",
]


def train_biencoder(config: BiEncoderConfig, run: Run) -> dict[str, float]:
    """Train one bi-encoder for up to ``run.mode.epochs`` epochs and score it on the test split.

    The epoch with the best validation accuracy of the overall task, before re-ranking, gives the
    weights that are reported. Training stops after ``run.mode.patience`` epochs without a better
    one (None or absent: never). ``run.mode.debates_share`` is the share of ArguAna's debates that
    is used (absent: all).

    Returns
    -------
    dict
        The figures that :func:`metric_names` names: accuracies in [0, 1] and mean reciprocal ranks
        in (0, 1].

    Raises
    ------
    pytest_ablation.errors.Diverged
        A loss was not finite.
    models.errors.DataError
        There is nothing to train on, or nothing that could be measured.
    models.pretrained.encoder.EncoderError
        The encoder is not there, or cannot be used.
    """
    from models.biencoder.training import train  # imports torch

    return train(config, run)


def metric_names(corpus: str) -> list[str]:
    """What a run on *corpus* returns; the overall figure first.

    ``epa_top1``, … are those of retrieval by the embeddings, ``reranked_epa_top1``, … those after
    the pair classifier has re-ranked the first candidates, ``unseen_epa_top1``, … those over the
    test pairs that do not stand in the training split as well. For BBC News, which has one task,
    ``top1`` and ``reranked_top1``, …
    """
    from models.biencoder.data import OVERALL_TASK, TASK_NAMES
    from models.biencoder.tasks import metric_names as names_of

    overall = OVERALL_TASK[corpus]
    tasks = sorted(TASK_NAMES[corpus], key=lambda name: name != overall)
    plain = names_of(tasks)
    names = [*plain, *(f"reranked_{name}" for name in plain)]
    if corpus == "arguana":
        of_overall = names_of([overall])
        names += [f"unseen_{name}" for name in of_overall]
        names += [f"unseen_reranked_{name}" for name in of_overall]
    return names


def corpus_in(data_dir: str | Path | None) -> str:
    """``"arguana"`` where *data_dir* holds that corpus, else ``"bbc_news"``."""
    return "arguana" if arguana_folder(data_dir) is not None else "bbc_news"


def data_digest(config: BiEncoderConfig, data_dir: Path | None = None) -> str:
    """A digest of the files that a run would read: the corpus's and the encoder's.

    The precision of the encoder's outputs is part of it, because ``auto`` is another one on another
    machine.

    Raises
    ------
    models.errors.DataError, models.pretrained.encoder.EncoderError
        They are not there.
    """
    from models.pretrained.encoder import encoder_digest, encoder_folder, resolve_precision

    if config.corpus == "bbc_news":
        corpus = bbc_news_digest(data_dir)
    elif data_dir is None:
        raise DataError(
            "the ArguAna corpus is not part of this project: give the folder that contains "
            "arguana-counterargs-corpus with --ablation-data or ABLATION_DATA"
        )
    else:
        corpus = arguana_digest(data_dir)
    parts = (
        corpus,
        encoder_digest(encoder_folder(config.encoder)),
        resolve_precision(config.encoder_precision),
    )
    return hashlib.sha256("/".join(parts).encode()).hexdigest()
