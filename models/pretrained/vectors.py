"""Encoder outputs, each text's computed once per machine: in memory, and in a folder on disk.

Texts go in, vectors come out. Processes that arrive together divide the work. On the CPU a vector
depends on its text alone: not on what else was asked for, nor on who computed it. Knows nothing of
training; imports no torch.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.pretrained.encoder import (
    Encoder,
    encoder_digest,
    encoder_folder,
    encoder_libraries,
)  # fmt: skip
from models.pretrained.precision import checked_precision
from models.pretrained.vector_store import VectorStore

CHUNK = 64  # texts that are kept in one transaction, and on a GPU encoded in one batch
SHARES = 64  # parts of the work that processes can hold: with 16 processes, 4 for each

EncodeTexts = Callable[[list[str]], np.ndarray]


def encode_texts(
    texts: Sequence[str],
    *,
    encoder: str,
    max_length: int,
    device: str = "cpu",
    precision: str = "auto",
    cache_dir: Path | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> np.ndarray:
    """The encoder's vectors of *texts*, float32 [n, width], in the order of *texts*; read-only.

    On the CPU the same text has the same bits whatever the other texts, their order, the number of
    processes, and what was kept before. On a GPU the last bits may depend on the batch in which a
    text was encoded first.

    Parameters
    ----------
    texts : sequence of str
    encoder : str
        See :func:`models.pretrained.encoder.encoder_folder`.
    max_length : int
        Tokens that are read of a text.
    device : str
        Where the encoder computes.
    precision : str
        ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the processor is quick at it and the
        encoder bears it. See :func:`models.pretrained.precision.checked_precision`.
    cache_dir : Path or None
        A folder shared by processes, where vectors are kept; None keeps them in memory alone.
    on_progress : callable
        Called with a text before each chunk that has to be encoded.

    Raises
    ------
    models.pretrained.encoder.EncoderError

    Warns
    -----
    UserWarning
        What was kept is damaged, or the folder cannot be used; the vectors are right all the same.
    """
    folder = encoder_folder(encoder)
    digest = encoder_digest(folder)
    precision = checked_precision(precision, folder, device=device, cache_dir=cache_dir)
    settings = _Settings(folder, digest, max_length, device, precision)
    return _vectors(tuple(texts), settings, cache_dir, _Watcher(on_progress))


@dataclass(frozen=True)
class _Settings:
    """What a text's vector depends on, beside the text."""

    folder: Path
    digest: str
    max_length: int
    device: str
    precision: str

    def load(self) -> Encoder:
        return Encoder(self.folder, self.max_length, self.device, self.precision)

    def key(self) -> str:
        kind = self.device.split(":")[0]
        description = {
            "encoder": self.digest,
            "max_length": self.max_length,
            "pooling": "mean",
            "precision": self.precision,
            "device": kind,
            "batch": "one text" if kind == "cpu" else f"up to {CHUNK}",
            "libraries": encoder_libraries(),
        }
        return hashlib.sha256(json.dumps(description).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class _Watcher:
    """Who is told of progress. All are equal: the vectors do not depend on who watches."""

    tell: Callable[[str], None] = field(compare=False)


@functools.lru_cache(maxsize=4)  # of a run: 20 MB for 13,500 texts of 384 numbers
def _vectors(
    texts: tuple[str, ...], settings: _Settings, cache_dir: Path | None, watcher: _Watcher
) -> np.ndarray:
    openings = [opening(text, settings.max_length) for text in texts]
    encode = _Lazy(settings.load)
    store = None
    if cache_dir is not None:
        store = VectorStore(Path(cache_dir) / "encodings" / f"{settings.key()}.sqlite")
    found = encode_shared(openings, encode, store, watcher.tell)
    vectors = _array([found[text] for text in openings]) if openings else encode([])
    vectors.flags.writeable = False
    return vectors


def _array(rows: list[bytes]) -> np.ndarray:
    width = len(rows[0]) // 4
    vectors = np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), width)
    return vectors.astype(np.float32, copy=False)


def opening(text: str, max_length: int) -> str:
    """The start of *text*, long enough for *max_length* tokens: tokenizing is paid by the word.

    Two words per token, because a word of nothing but odd characters may give no token.
    """
    if len(text) <= 4 * max_length:  # too short for more words, with a space between each two
        return text
    words = text.split(None, 2 * max_length)
    return text[: len(text) - len(words[-1])] if len(words) > 2 * max_length else text


class _Lazy:
    """An encoder that is loaded when the first chunk needs it, which may be never."""

    def __init__(self, load: Callable[[], EncodeTexts]) -> None:
        self._load = functools.cache(load)

    def __call__(self, texts: list[str]) -> np.ndarray:
        return self._load()(texts)


def encode_shared(
    texts: Sequence[str],
    encode: EncodeTexts,
    store: VectorStore | None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, bytes]:
    """The vector of each text (float32, little-endian), from *store*, else computed and kept.

    Any number of processes may call this at once, with the same texts or others: each text is
    encoded by one of them. What a process that died had not kept is encoded by another.

    Parameters
    ----------
    texts : sequence of str
    encode : callable
        Texts to an array, float [n, width]; called with up to 64 texts of similar length.
    store : VectorStore or None
    tell : callable
        Called with a text before each call of *encode*.
    """
    work = _Work(list(dict.fromkeys(texts)), encode, store, tell)
    held_by_others = [number for number in work.shares if not work.do(number, wait=False)]
    for number in held_by_others:
        work.do(number, wait=True)
    return work.found


class _Work:
    """Texts that have a vector, and those that need one, in shares.

    A text's share depends on the text alone, so that processes that want different texts agree on
    who encodes those that they have in common.
    """

    def __init__(
        self,
        texts: list[str],
        encode: EncodeTexts,
        store: VectorStore | None,
        tell: Callable[[str], None],
    ) -> None:
        self._encode = encode
        self._store = store
        self._tell = tell
        self.found = store.read(texts) if store is not None else {}
        self._kept_before = len(self.found)
        self._wanted = len(texts)
        self.shares: dict[int, list[str]] = {}
        for text in texts:
            if text not in self.found:
                self.shares.setdefault(_share(text), []).append(text)

    def do(self, number: int, *, wait: bool) -> bool:
        """Encode a share's texts, or read those that others did meanwhile; False: not now."""
        if wait:
            self._tell(f"{self._progress()}, the rest in other processes")
        store = self._store
        with nullcontext(True) if store is None else store.share(number, wait=wait) as held:
            if held:
                if store is not None:
                    self.found |= store.read(self.shares[number], warn=False)
                missing = [text for text in self.shares[number] if text not in self.found]
                missing.sort(key=_length)
                for start in range(0, len(missing), CHUNK):
                    self._do_chunk(missing[start : start + CHUNK])
            return held

    def _do_chunk(self, texts: list[str]) -> None:
        self._tell(self._progress())
        vectors = np.asarray(self._encode(texts), dtype="<f4")
        encoded = {text: row.tobytes() for text, row in zip(texts, vectors, strict=True)}
        if self._store is not None:
            self._store.write(encoded)
        self.found |= encoded

    def _progress(self) -> str:
        done = len(self.found) - self._kept_before
        return f"encoding {done:,}/{self._wanted - self._kept_before:,} texts"


def _share(text: str) -> int:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] % SHARES


def _length(text: str) -> tuple[int, int, str]:
    """Sorts texts by (about) their tokens, so that a batch holds little padding, and by content."""
    return len(text.split()), len(text), text
