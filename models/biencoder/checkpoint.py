"""A kept model read back: a run's ``model.safetensors`` to its answers on a split.

A file and a split go in, ranks come out. Nothing is unpickled; trains nothing.
"""

from __future__ import annotations

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
from models.checkpoints import load_weights, read_config, read_safetensors

if TYPE_CHECKING:
    from pytest_ablation.run import Run

ENCODERS = "encoders."


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
    models.checkpoints.CheckpointError
        No such file, not a safetensors file, no configuration in it, or weights of other shapes.
    """
    weights, metadata = read_safetensors(checkpoint)
    config = read_config(checkpoint, metadata, BiEncoderConfig, "bi-encoder", changes)
    outputs = make_outputs(config, (split,), run)
    model = BiEncoder(config, run, outputs.width).to(run.device).eval()
    _load(model, outputs, weights, checkpoint)
    with torch.no_grad():
        queries = outputs.of(split, split.queries, QUERY)
        candidates = outputs.of(split, split.candidates, CANDIDATE)
        embedded = model(torch.cat([queries, candidates]), len(queries))
        return answer(model, config, split, *embedded)


def _load(model: BiEncoder, outputs: Outputs, weights: dict[str, Tensor], path: Path) -> None:
    encoders = {n.removeprefix(ENCODERS): w for n, w in weights.items() if n.startswith(ENCODERS)}
    heads = {name: w for name, w in weights.items() if not name.startswith(ENCODERS)}
    parts = {model: heads, outputs.modules(): encoders}
    load_weights(path, parts, what_else=" and encoder")
