"""Whether an encoder bears bfloat16: tried once with sentences of this module, and remembered.

A wish and an encoder go in, "float32" or "bfloat16" comes out, the same for all processes of a
machine. Knows no other texts. Imports no torch unless it has to try an encoder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import uuid
from pathlib import Path

import numpy as np

from models.pretrained.encoder import (
    PRECISIONS,
    Encoder,
    EncoderError,
    encoder_digest,
    encoder_libraries,
    resolve_precision,
)

LEAST_COSINE = 0.999  # to float32's vector of the same sentence; MiniLM's are above 0.9999
PROBE_TOKENS = 128
PROBE = (
    "Rain.",
    "The minister resigned on Tuesday.",
    "Shares in 3 of the 17 largest banks fell by 4.5 % before the market closed in London.",
    "She won the final in straight sets, 6-4 6-2, after a rain delay of almost three hours!",
    "Schools should teach children to question what they read: a free press is worth little to "
    "people who believe every headline, and less to those who believe none.",
    "Critics say that the treaty, which was signed in 1987 and has been amended twice since, "
    "gives too much power to judges whom nobody elected. Its defenders reply that courts protect "
    "minorities from majorities, that no government has yet left the treaty, and that the few "
    "rulings which are quoted again and again were, in most cases, the work of national courts.",
)


def checked_precision(
    precision: str, folder: Path, *, device: str = "cpu", cache_dir: Path | None = None
) -> str:
    """``float32`` or ``bfloat16`` as *resolve_precision* says, bfloat16 only where it is borne.

    That is found out once per encoder, with sentences that are part of this module, so that the
    answer depends on the encoder and the machine alone: each vector must have a cosine of 0.999 or
    more to float32's.

    Parameters
    ----------
    precision : str
        ``auto`` becomes float32 where the encoder does not bear bfloat16.
    folder : Path
        The encoder's.
    device : str
        Where the encoder computes.
    cache_dir : Path or None
        Where the outcome is kept for other processes and sessions.

    Raises
    ------
    models.pretrained.encoder.EncoderError
        Another precision; or bfloat16 was asked for by name, and the encoder does not bear it.
    """
    if resolve_precision(precision, device) == "float32":
        return "float32"
    cosine = _bfloat16_cosine(folder, encoder_digest(folder), device, cache_dir)
    if cosine >= LEAST_COSINE:  # not so for NaN
        return "bfloat16"
    if precision == "auto":
        return "float32"
    raise EncoderError(
        f"precision='bfloat16', but with it the encoder in {folder} gives a sentence a vector of "
        f"cosine {cosine:.4f} to float32's, and {LEAST_COSINE} is the least: use 'float32'"
    )


@functools.lru_cache(maxsize=8)
def _bfloat16_cosine(folder: Path, digest: str, device: str, cache_dir: Path | None) -> float:
    """The least cosine over the sentences, read where it is kept, else computed and kept."""
    kind = device.split(":")[0]
    description = [digest, kind, *encoder_libraries(), LEAST_COSINE, PROBE_TOKENS, *PROBE]
    key = hashlib.sha256(json.dumps(description).encode()).hexdigest()[:32]
    path = None if cache_dir is None else Path(cache_dir) / "encodings" / f"bfloat16-{key}.json"
    if path is not None and (kept := _read(path)) is not None:
        return kept
    cosine = _least_cosine(folder, device)
    if path is not None:
        with contextlib.suppress(OSError):  # computed again then, with the same outcome
            _write(path, cosine)
    return cosine


def _least_cosine(folder: Path, device: str) -> float:
    tokens = min(PROBE_TOKENS, _positions(folder))
    one, other = (
        Encoder(folder, tokens, device, precision)(list(PROBE)).astype(np.float64)
        for precision in PRECISIONS
    )
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    lengths[lengths == 0] = 1.0  # a vector of zeros is like none
    return float(((one * other).sum(axis=1) / lengths).min())


def _positions(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config.get("max_position_embeddings", PROBE_TOKENS)


def _read(path: Path) -> float | None:
    """None where the file is not there or damaged."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["bfloat16_cosine"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, cosine: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".new-{uuid.uuid4().hex[:8]}-{path.name}")
    temporary.write_text(json.dumps({"bfloat16_cosine": cosine}), encoding="utf-8")
    os.replace(temporary, path)
