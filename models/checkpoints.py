"""Kept models read back: the safetensors file of a run to its weights and its configuration.

A path goes in; tensors, metadata and a checked configuration come out, or an error that says what
to do. Nothing is unpickled; knows no model family.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL_FILE = "model.safetensors"  # what a run's folder in the store calls it
_Config = TypeVar("_Config")


class CheckpointError(ValueError):
    """A file is no model of this family, or not of the shape that its configuration says."""


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights by name, and the metadata; *path* may be the folder that holds the file.

    Raises
    ------
    CheckpointError
        No such file, or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    inside = Path(path) / MODEL_FILE
    file_path = inside if inside.is_file() else path
    try:
        with safe_open(str(file_path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file_path} cannot be read as safetensors ({error}): expected the model.safetensors "
            f"of a run that was kept with --ablation-save-models"
        ) from error


def read_config(
    path: Path,
    metadata: Mapping[str, str],
    kind: type[_Config],
    family: str,
    changes: Mapping[str, Any] | None = None,
) -> _Config:
    """The configuration of the type *kind* that stands in *metadata*, with *changes*.

    Raises
    ------
    CheckpointError
        There is none, or it is one of another *family* of models.
    """
    try:
        return kind(**{**json.loads(metadata["config"]), **(changes or {})})
    except (KeyError, TypeError, ValueError) as error:
        names = ", ".join(field.name for field in dataclasses.fields(kind))
        raise CheckpointError(
            f"{path} has no configuration of a {family} in its metadata ({error!r}); expected one "
            f"with the fields {names}"
        ) from error


def load_weights(
    path: Path, parts: Mapping[nn.Module, Mapping[str, Tensor]], what_else: str = ""
) -> None:
    """Put weights into modules, all of them; *what_else* decides their shapes beside the config.

    Raises
    ------
    CheckpointError
        A weight is missing, left over, or of another shape.
    """
    try:
        for module, weights in parts.items():
            module.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {path} do not fit its configuration{what_else}: {error}"
        ) from error
