"""Encoder outputs, computed once per machine: in memory, and as chunks in a folder on disk.

Texts go in, vectors come out. Processes that arrive together share the work: each takes the next
chunk that nobody has. Which texts are in a chunk depends on the texts alone, so the bits do not
depend on how many processes took part. Knows nothing of training; imports no torch.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from models.biencoder.encoder import Encoder, encoder_digest, encoder_folder

CHUNK = 64  # texts in a batch and in a file; larger batches leave the CPU's second-level cache

EncodeTexts = Callable[[list[str]], np.ndarray]


def encode_texts(
    texts: Sequence[str],
    *,
    encoder: str,
    max_length: int,
    device: str = "cpu",
    cache_dir: Path | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> np.ndarray:
    """The encoder's vectors of *texts*, float32 [n, width], in the order of *texts*; read-only.

    Parameters
    ----------
    texts : sequence of str
    encoder : str
        See :func:`models.biencoder.encoder.encoder_folder`.
    max_length : int
        Tokens that are read of a text.
    device : str
        Where the encoder computes.
    cache_dir : Path or None
        A folder shared by processes, where vectors are kept; None keeps them in memory alone.
    on_progress : callable
        Called with a text before each chunk that has to be encoded.

    Raises
    ------
    models.biencoder.encoder.EncoderError
    """
    folder = encoder_folder(encoder)
    digest = encoder_digest(folder)
    watcher = _Watcher(on_progress)
    return _vectors(tuple(texts), folder, digest, max_length, device, cache_dir, watcher)


@dataclass(frozen=True)
class _Watcher:
    """Who is told of progress. All are equal: the vectors do not depend on who watches."""

    tell: Callable[[str], None] = field(compare=False)


@functools.lru_cache(maxsize=4)
def _vectors(
    texts: tuple[str, ...],
    folder: Path,
    folder_digest: str,
    max_length: int,
    device: str,
    cache_dir: Path | None,
    watcher: _Watcher,
) -> np.ndarray:
    openings = [opening(text, max_length) for text in texts]
    distinct = sorted(set(openings), key=_length)
    chunks = [distinct[start : start + CHUNK] for start in range(0, len(distinct), CHUNK)]
    encode = _Lazy(lambda: Encoder(folder, max_length, device))

    def encode_and_tell(chunk: list[str]) -> np.ndarray:
        watcher.tell(f"encoding {chunks.index(chunk) + 1}/{len(chunks)}")
        return encode(chunk)

    if cache_dir is None:
        encoded = [encode_and_tell(chunk) for chunk in chunks]
    else:
        key = _key(distinct, folder_digest, max_length, device)
        encoded = encode_shared(chunks, encode_and_tell, Path(cache_dir) / "encodings" / key)
    row_of = {text: row for row, text in enumerate(distinct)}
    vectors = np.concatenate(encoded)[[row_of[text] for text in openings]]
    vectors.flags.writeable = False
    return vectors


def opening(text: str, max_length: int) -> str:
    """The start of *text*, long enough for *max_length* tokens: tokenizing is paid by the word.

    Two words per token, because a word of nothing but odd characters may give no token.
    """
    words = text.split(None, 2 * max_length)
    return text[: len(text) - len(words[-1])] if len(words) > 2 * max_length else text


def _length(text: str) -> tuple[int, int, str]:
    """Sorts texts by (about) their tokens, so that a batch holds little padding, and by content."""
    return len(text.split()), len(text), text


def _key(texts: list[str], folder_digest: str, max_length: int, device: str) -> str:
    description = {
        "encoder": folder_digest,
        "max_length": max_length,
        "pooling": "mean",
        "precision": "float32",
        "device": device.split(":")[0],
        "chunk": CHUNK,
        "libraries": [version(name) for name in ("torch", "transformers", "tokenizers")],
        "texts": texts,
    }
    return hashlib.sha256(json.dumps(description).encode()).hexdigest()[:32]


class _Lazy:
    """An encoder that is loaded when the first chunk needs it, which may be never."""

    def __init__(self, load: Callable[[], EncodeTexts]) -> None:
        self._load = functools.cache(load)

    def __call__(self, texts: list[str]) -> np.ndarray:
        return self._load()(texts)


def encode_shared(
    chunks: Sequence[list[str]], encode: EncodeTexts, folder: Path
) -> list[np.ndarray]:
    """The vectors of each chunk, from *folder* where they are kept there, else computed and kept.

    Any number of processes may call this at once; each chunk is computed by one of them. A chunk
    whose process died is computed by another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [_ChunkFile(folder / f"chunk-{number:05d}.npz", chunk)
             for number, chunk in enumerate(chunks)]  # fmt: skip
    encoded = [file.read_or_compute(encode, wait=False) for file in files]
    return [
        file.read_or_compute(encode, wait=True) if vectors is None else vectors
        for file, vectors in zip(files, encoded, strict=True)
    ]


class _ChunkFile:
    """One chunk's vectors on disk: whole or not there, and checked when read."""

    def __init__(self, path: Path, texts: list[str]) -> None:
        self.path = path
        self.texts = texts

    def read_or_compute(self, encode: EncodeTexts, *, wait: bool) -> np.ndarray | None:
        """The vectors; None where another process has the chunk and *wait* is false."""
        if (vectors := self._read()) is not None:
            return vectors
        lock = FileLock(self.path.with_suffix(".lock"))
        try:
            held = lock.acquire(blocking=wait)
        except Timeout:
            return None
        with held:
            if self.path.exists() and (vectors := self._read(warn=True)) is not None:
                return vectors
            vectors = encode(self.texts)
            self._write(vectors)
            return vectors

    def _read(self, *, warn: bool = False) -> np.ndarray | None:
        """None where the file is not there or damaged; a zip file carries a checksum (CRC-32)."""
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                vectors = arrays["vectors"]
        except FileNotFoundError:
            return None
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            rows = len(self.texts)
            if vectors.ndim == 2 and len(vectors) == rows and vectors.dtype == np.float32:
                return vectors
            problem = f"found {vectors.dtype} {vectors.shape}, expected float32 ({rows}, width)"
        if warn:
            warnings.warn(
                f"{self.path} is damaged ({problem}): its vectors are computed again", stacklevel=2
            )
        return None

    def _write(self, vectors: np.ndarray) -> None:
        temporary = self.path.with_suffix(".tmp")  # no other writes it: the lock is held
        with open(temporary, "wb") as file:
            np.savez(file, vectors=vectors)
        os.replace(temporary, self.path)
