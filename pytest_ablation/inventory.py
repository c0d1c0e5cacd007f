"""What lies in a store: its runs, read lightly, and how much room the rest of it takes.

A store goes in, plain facts come out. Reads record.json alone of each run, so that ten thousand
runs take seconds; removes nothing, and follows no link.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import Timeout

from pytest_ablation.digests import DIGEST_CHARS
from pytest_ablation.record import SCHEMA_VERSION, Record
from pytest_ablation.record_files import (
    RECORD_FILE,
    DamagedRecord,
    check_key,
    read_content,
    unless_damaged,
)
from pytest_ablation.store import OLD, Store, key_beside

_KEY = re.compile(rf"[0-9a-f]{{{DIGEST_CHARS}}}")


@dataclass(frozen=True)
class KeptRun:
    """A run in the store.

    Attributes
    ----------
    key : str
    bytes : how large its files are together
    trained : when its record was written, in seconds since the epoch
    record : without its history; None where it is damaged
    problem : why it cannot be trusted, "" where nothing is wrong with its record.json
    schema : of its record.json
    """

    key: str
    bytes: int
    trained: float
    record: Record | None = None
    problem: str = ""
    schema: int = SCHEMA_VERSION

    @property
    def label(self) -> str:
        """The study and the row that it was trained for first; "" where the record does not say."""
        return self.origin.get("label", "")

    @property
    def origin(self) -> Mapping[str, Any]:
        return {} if self.record is None else self.record.origin


@dataclass(frozen=True)
class Inventory:
    """All that lies in a store.

    Attributes
    ----------
    runs : by label, mode and seed; those of unknown label first
    others : what lies among the runs and is no run, by name
    leftovers : of killed sessions, by name
    rooms : "checkpoints", "damaged" and "cache": how many entries, how many bytes
    """

    runs: tuple[KeptRun, ...] = ()
    others: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    rooms: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of the runs alone."""
        return sum(run.bytes for run in self.runs)


def inventory(store: Store) -> Inventory:
    """Look at all of *store*; what is being written meanwhile may be missing.

    Raises
    ------
    OSError
        There is no store.
    """
    names = sorted(os.listdir(store.runs))
    replaced = {key_beside(name) for name in names if name.startswith(OLD)}
    keys = [name for name in sorted({*names, *replaced}) if is_key(name)]
    runs = [found for key in keys if (found := _look_at(store, key)) is not None]
    rooms = {"checkpoints": store.checkpoints, "damaged": store.damaged, "cache": store.cache}
    hidden = [name for name in names if name.startswith(".")]
    return Inventory(
        runs=tuple(sorted(runs, key=_order)),
        others=tuple(name for name in names if not is_key(name) and name not in hidden),
        leftovers=tuple(name for name in hidden if not is_in_use(store, name)),
        rooms={name: (len(_listed(path)), size_of(path)) for name, path in rooms.items()},
    )


def is_key(name: str) -> bool:
    """Whether a folder of that name can be a run's: nothing else in a store is ever touched."""
    return _KEY.fullmatch(name) is not None


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder; links are not followed."""
    return sum(part.stat(follow_symlinks=False).st_size for part in _files(path))


def _is_training(store: Store, key: str) -> bool:
    """Whether a process holds the run's lock just now."""
    try:
        with store.lock(key):
            return False
    except Timeout:
        return True
    except OSError:  # nobody can hold a lock in a store that cannot be written
        return False


def is_in_use(store: Store, name: str) -> bool:
    """Whether a folder of this name is a run's that is being trained, or is beside such a run's."""
    key = name if is_key(name) else key_beside(name)
    return is_key(key) and _is_training(store, key)


def _look_at(store: Store, key: str) -> KeptRun | None:
    """A run's facts, None where it was removed just now."""
    try:
        return store.as_one(key, lambda folder: _kept_run(folder, key))
    except DamagedRecord as problem:
        folder = store.runs / key
        with contextlib.suppress(OSError):
            return KeptRun(key, size_of(folder), _last_change(folder), problem=str(problem))
    return None


def _kept_run(folder: Path, key: str) -> KeptRun | None:
    def read() -> KeptRun:
        content = read_content(folder)
        record = Record.from_json(content["record"], (), content["schema"])
        check_key(folder, key, record.key)
        return KeptRun(key, size_of(folder), _last_change(folder), record, schema=content["schema"])

    return unless_damaged(folder, read)


def _last_change(folder: Path) -> float:
    """When a run's record was written; of what has none, the folder."""
    with contextlib.suppress(OSError):
        return (folder / RECORD_FILE).lstat().st_mtime
    return folder.lstat().st_mtime


def _order(run: KeptRun) -> tuple[str, str, int, str]:
    record = run.record
    return (run.label, record.mode if record else "", record.seed if record else 0, run.key)


def _listed(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _files(path: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry.path))
                else:
                    yield entry
    except OSError:  # no folder, or gone by now
        return
