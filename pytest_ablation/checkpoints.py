"""The state of an unfinished run on disk, from which a later process goes on.

Nested values and arrays go into a folder that is there whole or not at all, and come out again, or
a :class:`DamagedCheckpoint` says why not. Nothing is unpickled. Knows nothing of what is trained.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ablation.durable import sync_folder, write_durably
from pytest_ablation.errors import AblationError
from pytest_ablation.nested import put_together, taken_apart

SCHEMA = 1
STATE_FILE, ARRAYS_FILE, WEIGHTS_FILE = "state.json", "state.npz", "weights.safetensors"
_ARRAY, _WEIGHT = "$array", "$weight"
_WEIGHTS = "weights"  # the entry of the state that is kept as safetensors


class DamagedCheckpoint(AblationError):
    """A checkpoint that is there but cannot be used: truncated, edited, or of something else."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a run was when its state was kept.

    Attributes
    ----------
    epoch : the last epoch that it had finished
    state : what the training function gave to :meth:`pytest_ablation.Run.checkpoint`; tensors are
        NumPy arrays now, and so are NumPy's scalars, all else is as it was
    """

    epoch: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """A checkpoint, and what the run itself had ``seen`` up to then."""

    checkpoint: Checkpoint
    seen: dict[str, Any]


class CheckpointFolder:
    """The newest checkpoint of one run.

    To be used by one process at a time. A newer checkpoint is written beside the older one and then
    takes its place, so that a kill at any moment leaves one of them.

    Parameters
    ----------
    path : Path
        The folder; its siblings whose names begin with ``.new-``, ``.old-`` and its name are its
        own too.
    key, seed
        Of the run: a checkpoint of another one is refused.
    session : str
        The session that trains now.
    only_of_session : bool
        Whether checkpoints of other sessions do not count.
    seconds : float
        A checkpoint is due so long after the one before; 0: always, inf: never.
    origin : mapping of plain values
        Where the run comes from, for whoever looks through checkpoints.
    """

    def __init__(
        self,
        path: Path,
        *,
        key: str = "",
        seed: int = 0,
        session: str = "",
        only_of_session: bool = False,
        seconds: float = 120.0,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._origin = dict(origin or {})
        self._identity = {"key": key, "seed": seed}
        self._session = session
        self._only_of_session = only_of_session
        self._seconds = seconds
        self.wait()

    @property
    def is_due(self) -> bool:
        return time.perf_counter() - self._since >= self._seconds

    @property
    def epoch(self) -> int | None:
        """The last epoch that is kept, as far as a glance tells; None where none is."""
        epoch = self._glance().get("epoch")
        return epoch if type(epoch) is int else None

    @property
    def origin(self) -> dict[str, Any]:
        """What the run says of where it comes from, as far as a glance tells; {} for nothing."""
        origin = self._glance().get("origin")
        return origin if isinstance(origin, dict) else {}

    @property
    def session(self) -> str:
        """The session that kept it, as far as a glance tells; "" for none."""
        session = self._glance().get("session")
        return session if isinstance(session, str) else ""

    def _glance(self) -> dict[str, Any]:
        """What is kept beside the arrays, unchecked: the run itself warns of what is damaged."""
        try:
            content = json.loads((self.path / STATE_FILE).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def wait(self) -> None:
        """Count the time to the next checkpoint from now."""
        self._since = time.perf_counter()

    def read(self, circumstances: Mapping[str, Any]) -> Kept | None:
        """What was kept, or None where nothing is, or nothing that counts.

        Parameters
        ----------
        circumstances : mapping of texts
            What must be as it was when the checkpoint was written (digests of the data, say).

        Raises
        ------
        DamagedCheckpoint
        """
        if not _has_safetensors():
            return None
        self._put_back()
        if not self.path.is_dir():
            return None
        try:
            content, arrays = _content_of(self.path)
            if self._only_of_session and content["session"] != self._session:
                return None
            self._require_same(content, dict(circumstances))
            state, seen = (put_together(content[n], arrays.find) for n in ("state", "seen"))
            if not isinstance(state, dict) or not isinstance(seen, dict):
                raise ValueError("its state is no mapping")
            return Kept(Checkpoint(int(content["epoch"]), state), seen)
        except DamagedCheckpoint:
            raise
        except Exception as error:  # whatever content that nobody wrote makes a reader raise
            raise DamagedCheckpoint(
                f"the checkpoint {self.path} is not whole: {type(error).__name__}: {error}"
            ) from error

    def _require_same(self, content: Mapping[str, Any], circumstances: Mapping[str, Any]) -> None:
        expected = {**self._identity, **circumstances}
        found = {**content["identity"], **content["circumstances"]}
        for name in [*expected, *(found.keys() - expected.keys())]:
            if expected.get(name) != found.get(name):
                raise DamagedCheckpoint(
                    f"the checkpoint {self.path} is of something else: its {name} is "
                    f"{found.get(name)!r:.80}, and this run's is {expected.get(name)!r:.80}"
                )

    def write(
        self,
        epoch: int,
        state: Mapping[str, Any],
        seen: Mapping[str, Any],
        circumstances: Mapping[str, Any],
    ) -> None:
        """Keep a state in place of the one before.

        Raises
        ------
        OSError
            There is no room, or no right to write: the checkpoint before stays.
        ImportError
            The package safetensors is missing.
        TypeError
            Something in the state cannot be kept; the message says what.
        """
        if not _has_safetensors():
            raise ImportError("the package safetensors is missing (pip install safetensors)")
        header = {
            "epoch": int(epoch), "identity": self._identity, "session": self._session,
            "circumstances": dict(circumstances), "origin": self._origin,
        }  # fmt: skip
        files = _files_of(header, state, seen)
        fresh = self._sibling("new")
        try:
            fresh.mkdir(parents=True)
            for name, data in files.items():
                write_durably(fresh / name, data)
            sync_folder(fresh)
            if self.path.exists():
                os.rename(self.path, self._sibling("old"))
            os.rename(fresh, self.path)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            self._put_back()
            raise
        sync_folder(self.path.parent)
        self._tidy()
        self.wait()

    def remove(self) -> None:
        """Remove the checkpoint, where there is one; what cannot be removed stays."""
        with contextlib.suppress(OSError):
            os.rename(self.path, self._sibling("new"))  # never to be seen as half a checkpoint
        self._tidy()

    def _sibling(self, kind: str) -> Path:
        return self.path.with_name(f".{kind}-{self.path.name}-{uuid.uuid4().hex[:8]}")

    def _siblings(self, kind: str) -> list[Path]:
        start = f".{kind}-{self.path.name}-"
        with contextlib.suppress(OSError):
            return [p for p in self.path.parent.iterdir() if p.name.startswith(start)]
        return []

    def _put_back(self) -> None:
        """Where a process died between two renames, the older checkpoint is still beside."""
        for old in self._siblings("old"):
            if not self.path.exists():
                with contextlib.suppress(OSError):
                    os.rename(old, self.path)

    def _tidy(self) -> None:
        for left in [*self._siblings("old"), *self._siblings("new")]:
            shutil.rmtree(left, ignore_errors=True)


# --- nested state <-> files -------------------------------------------------------------------


class _Arrays:
    """The arrays of a checkpoint, by the file that they are in and their name there."""

    def __init__(self, weights: dict[str, Any], others: dict[str, Any]) -> None:
        self.weights, self.others = weights, others

    def keep(self, array: Any, path: tuple) -> dict[str, str]:
        import numpy as np

        kept = np.asarray(array, order="C")  # safetensors would write a transposed one as it lies
        if len(path) == 3 and path[:2] == ("state", _WEIGHTS) and _fits(path[2], array):
            self.weights[path[2]] = kept
            return {_WEIGHT: path[2]}
        name = f"a{len(self.others)}"
        self.others[name] = kept
        return {_ARRAY: name}

    def find(self, mark: str, name: Any) -> Any:
        return {_ARRAY: self.others, _WEIGHT: self.weights}[mark][name]


def _fits(name: Any, array: Any) -> bool:
    """Whether a safetensors file can hold an array under this name."""
    is_name = isinstance(name, str) and name != "__metadata__" and name.isprintable()
    return is_name and array.dtype.kind in "biuf" and array.itemsize <= 8 and array.dtype.isnative


def _files_of(
    header: Mapping[str, Any], state: Mapping[str, Any], seen: Mapping[str, Any]
) -> dict[str, bytes]:
    import numpy as np
    from safetensors.numpy import save

    arrays = _Arrays({}, {})
    content = {
        "schema": SCHEMA,
        **header,
        "state": taken_apart(state, arrays.keep, ("state",)),
        "seen": taken_apart(seen, arrays.keep, ("seen",)),
    }
    others = io.BytesIO()
    np.savez(others, **arrays.others)  # of kinds that need no pickle, see taken_apart
    files = {WEIGHTS_FILE: save(arrays.weights), ARRAYS_FILE: others.getvalue()}
    content["files"] = {name: _checksum(data) for name, data in files.items()}
    content["checksum"] = _checksum(_text(content))
    # The names of a state keep their order; a sorted text is what the checksum is of.
    return {**files, STATE_FILE: json.dumps(content, allow_nan=False).encode()}


def _content_of(folder: Path) -> tuple[dict[str, Any], _Arrays]:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = json.loads((folder / STATE_FILE).read_bytes())
    if content["schema"] != SCHEMA:
        raise ValueError(f"it has schema {content['schema']!r:.40}; this version reads {SCHEMA}")
    if content.pop("checksum") != _checksum(_text(content)):
        raise ValueError(f"{STATE_FILE} was changed after it was written")
    data = {name: (folder / name).read_bytes() for name in (WEIGHTS_FILE, ARRAYS_FILE)}
    for name, read in data.items():
        if content["files"][name] != _checksum(read):
            raise ValueError(f"{name} was changed after it was written")
    with np.load(io.BytesIO(data[ARRAYS_FILE]), allow_pickle=False) as kept:
        others = {name: kept[name] for name in kept.files}
    try:
        weights = {name: array.copy() for name, array in load(data[WEIGHTS_FILE]).items()}
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS_FILE}: {error}") from error
    return content, _Arrays(weights, others)


def _text(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, allow_nan=False).encode()


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _has_safetensors() -> bool:
    return importlib.util.find_spec("safetensors") is not None
