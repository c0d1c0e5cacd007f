"""A kept model read back: a run's ``model.safetensors`` to its answers on a split.

A file and a split go in, ranks come out. Nothing is unpickled; trains nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from models.biencoder.config import BiEncoderConfig
from models.biencoder.data import RetrievalSplit
from models.biencoder.model import BiEncoder
from models.biencoder.outputs import CANDIDATE, QUERY, Outputs, make_outputs
from models.biencoder.retrieval import Answers, answer

if TYPE_CHECKING:
    from pytest_ablation.run import Run

ENCODERS = "encoders."


class CheckpointError(ValueError):
    """A file is no model of this family, or not of the shape that its configuration says."""


def answers_of(
    checkpoint: Path,
    changes: Mapping[str, Any],
    split: RetrievalSplit,
    run: Run,
) -> Answers:
    """The ranks that a kept model gives the right answers of *split*.

    Parameters
    ----------
    checkpoint : Path
        Its metadata hold the configuration that it was trained with.
    changes : mapping
        What of the configuration is to be another than in training.
    run : Run
        Gives the device, and the folder where encoder outputs are kept.

    Raises
    ------
    CheckpointError
        No such file, not a safetensors file, no configuration in it, or weights of other shapes.
    """
    weights, config = read_checkpoint(checkpoint, changes)
    outputs = make_outputs(config, (split,), run)
    model = BiEncoder(config, run, outputs.width).to(run.device).eval()
    _load(model, outputs, weights, checkpoint)
    with torch.no_grad():
        queries = outputs.of(split, split.queries, QUERY)
        candidates = outputs.of(split, split.candidates, CANDIDATE)
        embedded = model(torch.cat([queries, candidates]), len(queries))
        return answer(model, config, split, *embedded)


def read_checkpoint(
    path: Path, changes: Mapping[str, Any]
) -> tuple[dict[str, Tensor], BiEncoderConfig]:
    """The weights by name, and the configuration they were trained with."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors ({error}): expected the model.safetensors of a "
            f"run that was kept with --ablation-save-models"
        ) from error
    try:
        config = BiEncoderConfig(**{**json.loads(metadata["config"]), **changes})
    except (KeyError, TypeError, ValueError) as error:
        names = ", ".join(field.name for field in dataclasses.fields(BiEncoderConfig))
        raise CheckpointError(
            f"{path} has no configuration of a bi-encoder in its metadata ({error!r}); expected "
            f"one with the fields {names}"
        ) from error
    return weights, config


def _load(model: BiEncoder, outputs: Outputs, weights: dict[str, Tensor], path: Path) -> None:
    encoders = {n.removeprefix(ENCODERS): w for n, w in weights.items() if n.startswith(ENCODERS)}
    heads = {name: w for name, w in weights.items() if not name.startswith(ENCODERS)}
    try:
        model.load_state_dict(heads)
        outputs.modules().load_state_dict(encoders)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {path} do not fit its configuration and encoder: {error}"
        ) from error
