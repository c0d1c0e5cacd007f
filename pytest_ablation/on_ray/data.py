"""The user's data on the nodes of a Ray cluster: by a path that they have, or sent once per node.

A folder is described by its files; a node finds the same folder, or is sent a small one through
Ray's object store and unpacks it, whole or not at all. Knows folders and bytes, and no runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pytest_ablation.errors import AblationError

LARGEST_DATA_MIB = 256

Fetch = Callable[[], Mapping[str, bytes]]


class LackingData(AblationError):
    """A node has not the data, and they are too large to be sent."""


@dataclass(frozen=True)
class DataFolder:
    """A folder of data as it is on the driver's machine.

    Attributes
    ----------
    path : of the folder
    files : (name relative to it, size in bytes) of every file below it, sorted
    changed : when each was last changed, in seconds since 1970
    """

    path: str
    files: tuple[tuple[str, int], ...]
    changed: tuple[int, ...] = ()

    @classmethod
    def of(cls, path: Path) -> DataFolder:
        """The folder at *path*; symbolic links are followed, each folder is entered once."""
        files: list[tuple[str, int, int]] = []
        entered: set[str] = set()
        for folder, folders, names in os.walk(path, followlinks=True):
            entered.add(os.path.realpath(folder))
            folders[:] = [
                name for name in folders if os.path.realpath(f"{folder}/{name}") not in entered
            ]
            for name in names:
                file = Path(folder, name)
                if file.is_file():
                    status = file.stat()
                    name = file.relative_to(path).as_posix()
                    files.append((name, status.st_size, int(status.st_mtime)))
        files.sort()
        return cls(str(path), tuple(file[:2] for file in files), tuple(file[2] for file in files))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def packed(self) -> dict[str, bytes]:
        """The content of all files, by name.

        Raises
        ------
        LackingData
            They are too large for that.
        """
        if self.size > LARGEST_DATA_MIB * 2**20:
            raise LackingData(self.path)
        return {name: Path(self.path, name).read_bytes() for name, _ in self.files}


def folder_on_node(
    data: DataFolder, node: str, home: Path, ask: Callable[[], tuple[str, Fetch]]
) -> Path:
    """Where a node has *data*: at the same path, or unpacked below *home*.

    At the same path they must have the same names, sizes and times; a folder too large to be sent
    only names and sizes, for a copy by hand may have new times.

    Parameters
    ----------
    data : DataFolder, as it is on the driver's machine
    node : what to call this node in a message
    home : the folder of this node that is kept between sessions
    ask : tells the digest of the content, and how to fetch it

    Raises
    ------
    LackingData
    """
    is_large = data.size > LARGEST_DATA_MIB * 2**20
    if os.path.isdir(data.path):
        there = DataFolder.of(Path(data.path))
        if there == data or (is_large and there.files == data.files):
            return Path(data.path)
    if is_large:
        found = "another content there" if os.path.isdir(data.path) else "no such folder"
        raise LackingData(
            f"node {node} lacks the data {data.path} ({found}; expected {len(data.files)} files of "
            f"{data.size / 2**20:,.0f} MiB in all): put the folder there under the same path, or "
            f"on a file system that all nodes share; up to {LARGEST_DATA_MIB} MiB would be sent"
        )
    folders = home / "data"
    folders.mkdir(parents=True, exist_ok=True)
    digest, fetch = ask()
    place = folders / digest
    with FileLock(folders / ".lock"):  # one process of a node unpacks, the others find it
        if not place.is_dir():
            _unpack(fetch(), place)
    os.utime(place)  # it is in use
    return place


def content_digest(content: Mapping[str, bytes]) -> str:
    """32 hexadecimal digits over names and content of files."""
    parts = [f"{name}\0{hashlib.sha256(data).hexdigest()}" for name, data in content.items()]
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:32]


def _unpack(content: Mapping[str, bytes], place: Path) -> None:
    fresh = place.with_name(f".new-{uuid.uuid4().hex[:8]}")
    try:
        for name, data in content.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        fresh.mkdir(exist_ok=True)
        os.rename(fresh, place)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(fresh)
        raise
