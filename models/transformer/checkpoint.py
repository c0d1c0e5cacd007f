"""A kept classifier read back, ready to classify: nothing but its own file is needed.

The ``model.safetensors`` of a run goes in; model, vocabulary, classes and configuration come out.
Nothing is unpickled; trains nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from models.checkpoints import CheckpointError, load_weights, read_config, read_safetensors
from models.transformer.config import TransformerConfig
from models.transformer.kept_words import words_from
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

if TYPE_CHECKING:
    from models.transformer.model import TransformerClassifier

_FAMILY = "models.transformer"


class KeptClassifier(NamedTuple):
    """A classifier on the CPU, dropout off; ``vocabulary`` maps a word to its number."""

    model: TransformerClassifier
    vocabulary: dict[str, int]
    classes: tuple[str, ...]
    config: TransformerConfig


def load_classifier(path: Path) -> KeptClassifier:
    """The classifier that a run kept with its words.

    Parameters
    ----------
    path : Path
        A ``model.safetensors``, or the folder that holds it.

    Raises
    ------
    CheckpointError
        No such file; not safetensors; kept by another training function, or with a pretrained
        encoder; no vocabulary in it; weights of other shapes than its configuration says.
    """
    weights, metadata = read_safetensors(path)
    _require_family(path, metadata.get("train", ""))
    config = read_config(path, metadata, TransformerConfig, "classifier")
    if config.encoder is not None:
        raise CheckpointError(
            f"{path} is a classifier on the pretrained encoder {config.encoder!r}, and only the "
            f"classifier's own blocks can be looked into: give one that was trained from scratch"
        )
    vocabulary, classes = _words(path, metadata)
    from models.transformer.model import TransformerClassifier  # imports torch

    run = Run(seed=0, mode=Mode(seeds=1), device="cpu")
    model = TransformerClassifier(
        config, run, vocabulary_size=len(vocabulary) + 2, num_classes=len(classes)
    )
    load_weights(path, {model: weights}, what_else=" and vocabulary")
    return KeptClassifier(model.eval(), vocabulary, classes, config)


def _require_family(path: Path, train: str) -> None:
    module = train.partition(":")[0]
    if module != _FAMILY and not module.startswith(f"{_FAMILY}."):
        raise CheckpointError(
            f"{path} was kept by the training function {train or '(none is named)'}; expected one "
            f"of {_FAMILY}: give the model.safetensors of a classifier"
        )


def _words(path: Path, metadata: dict[str, str]) -> tuple[dict[str, int], tuple[str, ...]]:
    try:
        return words_from(metadata)
    except KeyError as error:
        raise CheckpointError(
            f"{path} holds no {error.args[0]}, for it was kept by an older version: train it again "
            f"with --ablation-save-models"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be used: {error}; train it again") from error
