"""Digests of plain values, arrays and tensors: what two runs are compared by, and keyed by.

Values go in, hexadecimal text comes out. Tensors are recognised by what they can do, so that
neither torch nor numpy is imported for a value that does not need it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Set
from enum import Enum
from pathlib import PurePath
from typing import Any

DIGEST_CHARS = 32  # 128 bits: no two different runs will ever share it by chance


def digest(value: Any) -> str:
    """A digest of *value*: equal for equal values, in every process and on every machine.

    Handles None, bool, int, float, str, bytes, paths (by their text), enumerations, mappings (in
    any order of keys), sequences, sets, dataclasses, numpy arrays and scalars, and torch tensors.

    Raises
    ------
    TypeError
        The value, or something inside it, has no stable content to digest (a function, say).
    """
    hasher = hashlib.sha256()
    _feed(hasher, value)
    return hasher.hexdigest()[:DIGEST_CHARS]


class RunningDigest:
    """A digest that grows with every value fed to it, for things too long to keep (batch order).

    A chain: the next state is the hash of the state and the value. So a state is 32 bytes that can
    be kept, and from which another process goes on; a hash function's own cannot be had.
    """

    def __init__(self, state: str = "") -> None:
        self._state = bytes.fromhex(state)

    @property
    def state(self) -> str:
        """Hexadecimal text; ``RunningDigest(state)`` goes on from here."""
        return self._state.hex()

    def update(self, value: Any) -> None:
        hasher = hashlib.sha256(self._state)
        _feed(hasher, value)
        self._state = hasher.digest()

    def hexdigest(self) -> str:
        return self.state[:DIGEST_CHARS]


def as_array(value: Any) -> Any:
    """*value*, a torch tensor of any device and dtype or anything array-like, as a numpy array."""
    import numpy as np

    if _is_tensor(value):
        value = value.detach().cpu()
        try:
            return value.numpy()
        except TypeError:  # numpy has no bfloat16; float32 holds it exactly
            return value.float().numpy()
    return np.asarray(value)


def is_array(value: Any) -> bool:
    """Whether *value* is a NumPy array or scalar, a torch tensor, or what makes itself an array."""
    return hasattr(value, "__array__") or _is_tensor(value)


def _is_tensor(value: Any) -> bool:
    """Whether *value* is a torch tensor; ``detach`` alone is also what breaks an open file."""
    return all(hasattr(value, name) for name in ("detach", "cpu", "numpy"))


def _feed(hasher: Any, value: Any) -> None:
    """Feed *value* with its type and length, so that ["ab"] and ["a", "b"] differ."""
    if value is None or isinstance(value, (bool, int, float)):
        _feed_bytes(hasher, type(value).__name__, repr(value).encode())
    elif isinstance(value, str):
        _feed_bytes(hasher, "str", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        _feed_bytes(hasher, "bytes", bytes(value))
    elif isinstance(value, PurePath):
        _feed_bytes(hasher, "path", value.as_posix().encode("utf-8", "surrogateescape"))
    elif isinstance(value, Enum):
        _feed_bytes(hasher, type(value).__name__, value.name.encode())
    elif isinstance(value, Mapping):
        _feed_items(hasher, "dict", sorted(value.items(), key=lambda item: str(item[0])))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        _feed_items(hasher, type(value).__name__, fields)
    elif isinstance(value, (list, tuple)):
        _feed_items(hasher, "list", value)
    elif isinstance(value, Set):
        _feed_items(hasher, "set", sorted(digest(member) for member in value))
    elif is_array(value):
        _feed_array(hasher, as_array(value))
    else:
        raise TypeError(
            f"cannot digest a {type(value).__name__}: give numbers, text, arrays or "
            f"lists and dicts of them (found {value!r:.80})"
        )


def _feed_items(hasher: Any, kind: str, items: Any) -> None:
    hasher.update(f"{kind}:{len(items)}:".encode())
    for item in items:
        _feed(hasher, item)


def _feed_array(hasher: Any, array: Any) -> None:
    import numpy as np

    if array.dtype.hasobject:
        _feed_items(hasher, "list", array.tolist())
        return
    hasher.update(f"array:{array.dtype.str}:{array.shape}:".encode())
    hasher.update(np.ascontiguousarray(array).tobytes())


def _feed_bytes(hasher: Any, kind: str, content: bytes) -> None:
    hasher.update(f"{kind}:{len(content)}:".encode())
    hasher.update(content)
