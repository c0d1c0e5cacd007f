"""Finished runs on disk: each a folder that is there whole or not at all.

Records go in, records come out, by key. A folder is written beside its place and renamed into it;
what cannot be read is never deleted, only set aside. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock, Timeout

from pytest_ablation.durable import sync_folder, write_durably
from pytest_ablation.errors import AblationError
from pytest_ablation.heat_maps import HeatMaps
from pytest_ablation.record import Record
from pytest_ablation.record_arrays import check_model, read_heat_maps, read_predictions
from pytest_ablation.record_files import (
    MODEL_FILE,
    ONLY_WHEN_USED,
    DamagedRecord,
    read_folder,
)

if TYPE_CHECKING:
    import numpy as np

#: Folders beside the runs begin with these, and then have a run's key.
FRESH, OLD, GONE = ".new-", ".old-", ".gone-"
_PROBE = f"{FRESH}probe-"
_SMALLEST_PROBE = 1 << 16
_LARGEST_PROBE = 1 << 26
_TRIES = 10
_Found = TypeVar("_Found")


class UnwritableStore(AblationError, OSError):
    """The store cannot be written: it is full, over a quota, read-only or no folder."""


class Store:
    """The folder of finished runs, with the caches and session notes beside them.

    Parameters
    ----------
    root : Path
        ``runs/<key>/`` holds ``record.json``, ``history.csv``, ``predictions.npz``, where the run
        told heat maps their numbers in ``heat_maps.npz`` and, where it was asked for,
        ``model.safetensors``; ``cache/`` is for training functions; ``sessions/``
        holds what running sessions write, ``checkpoints/<key>/`` the state that an unfinished run
        would go on from, ``damaged/`` what was set aside.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"
        self.cache = self.root / "cache"
        self.sessions = self.root / "sessions"
        self.checkpoints = self.root / "checkpoints"
        self.damaged = self.root / "damaged"
        self._locks = self.root / "locks"

    def prepare(self) -> None:
        """Make the folders, and make sure that they can be written.

        Raises
        ------
        UnwritableStore
        """
        with self.words_for_errors():
            for folder in (self.runs, self.cache, self.sessions, self._locks):
                folder.mkdir(parents=True, exist_ok=True)
        self.check_room()

    def check_room(self, size: int = 0) -> None:
        """Make sure that files of so many bytes in all could be kept now, by writing as many.

        At least 64 KiB, at most 64 MiB: who trains for hours wants to know before.

        Raises
        ------
        UnwritableStore
        """
        probe = self.runs / f"{_PROBE}{uuid.uuid4().hex[:8]}"
        with self.words_for_errors():
            try:
                size = min(max(size, _SMALLEST_PROBE), _LARGEST_PROBE)
                if size > _SMALLEST_PROBE:
                    write_durably(probe, bytes(size))
                else:  # done before every run
                    probe.write_bytes(bytes(size))
            finally:
                with contextlib.suppress(OSError):
                    probe.unlink(missing_ok=True)

    @contextlib.contextmanager
    def words_for_errors(self) -> Iterator[None]:
        """What to do about it, where the store cannot be written."""
        try:
            yield
        except UnwritableStore:
            raise
        except OSError as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> UnwritableStore:
        """The error that says what to do about *error*, and that nothing finished is lost."""
        store = shown(self.root)
        what = {
            errno.ENOSPC: f"the store {store} is full ({error.strerror}): free some space",
            errno.EDQUOT: f"the store {store} is over a quota ({error.strerror}): free some space",
        }.get(error.errno, f"the store {store} cannot be written ({error}): make it writable")
        count = self._finished()
        kept = {0: "", 1: "; the finished run in it is kept"}
        return UnwritableStore(
            f"{what}, or choose another one with --ablation-store=DIR, and run the same command "
            f"again{kept.get(count, f'; the {count} finished runs in it are kept')}"
        )

    def lock(self, key: str) -> FileLock:
        """The lock under which the run *key* is trained; freed by the system if its holder dies.

        Taking it does not wait: ``Timeout`` says that another process has it. Its file stays for
        ever: who removed it while another process is about to lock it would let two hold it.
        """
        return FileLock(self._locks / f"{key}.lock", timeout=0)

    def read(self, key: str, *, check_model: bool = False) -> Record | None:
        """The record of *key*, or None where there is none.

        Parameters
        ----------
        key : str
        check_model : bool
            Whether to read the model and heat maps too, and not only look at their sizes.

        Raises
        ------
        DamagedRecord
            It is there, but truncated, changed by hand, or written by another version.
        """
        unread = frozenset() if check_model else ONLY_WHEN_USED
        return self.as_one(key, lambda folder: read_folder(folder, key, unread))

    def as_one(self, key: str, read: Callable[[Path], _Found | None]) -> _Found | None:
        """What *read* finds in the folder of one run, though others may replace it meanwhile.

        None where there is no folder. While a run is being replaced, or where a process died in the
        middle of that, the older one lies aside: then that is read.

        Raises
        ------
        DamagedRecord
            As *read* does, of a folder that stayed as it was.
        """
        place = self.runs / key
        for left in reversed(range(_TRIES)):
            before = _identity(place)
            try:
                found = read(place)
            except DamagedRecord:
                if not left or _identity(place) == before:
                    raise
                continue
            if found is None:
                with contextlib.suppress(DamagedRecord):  # it goes away when the new one is there
                    found = read(self._aside(key))
                before = None
            if _identity(place) == before:
                return found
        return found

    def model_path(self, key: str) -> Path | None:
        """The model that was kept with the run *key*, read and checked; None where there is none.

        A file of safetensors: the arrays that the run gave to ``save_weights``, and in its metadata
        ``config`` (the resolved configuration as JSON), ``seed``, ``key`` and ``train`` (module and
        name of the training function), and what the run said ``about`` the weights.

        Raises
        ------
        DamagedRecord
        """

        def check(folder: Path) -> bool | None:
            if read_folder(folder, key, frozenset()) is None:
                return None
            has_one = (folder / MODEL_FILE).is_file()
            if has_one:
                check_model(folder / MODEL_FILE)
            return has_one

        return self.runs / key / MODEL_FILE if self.as_one(key, check) else None

    def heat_maps(self, key: str) -> dict[str, HeatMaps]:
        """The heat maps that the run *key* told, by name; {} where there are none, or no record.

        Raises
        ------
        DamagedRecord
        """
        return self.as_one(key, lambda folder: read_heat_maps(folder, key)) or {}

    def predictions(self, key: str) -> dict[str, np.ndarray]:
        """What the run *key* kept per example, by name; {} where there is nothing, or no record.

        Raises
        ------
        DamagedRecord
        """
        return self.as_one(key, lambda folder: read_predictions(folder, key)) or {}

    def has_model(self, key: str) -> bool:
        """Whether a model was kept with the run *key*."""

        def look(folder: Path) -> bool | None:
            return (folder / MODEL_FILE).is_file() or (False if folder.is_dir() else None)

        return bool(self.as_one(key, look))

    def lacks_model(self, record: Record) -> bool:
        """Whether the run told weights, and they are not kept with it."""
        return record.outcome.get("weights") is not None and not self.has_model(record.key)

    def verify(self, key: str) -> None:
        """Read all that was kept of the run *key*: its arrays, heat maps and model too.

        Raises
        ------
        DamagedRecord
        """
        self.model_path(key)
        self.predictions(key)
        self.heat_maps(key)

    def set_aside(self, key: str) -> bool:
        """Move a damaged record out of the way, into ``damaged/``; nothing is lost.

        Returns whether it did: not where the record is whole by now, or is just being trained
        again, or the store cannot be written.
        """
        try:
            with self.lock(key).acquire(timeout=0):
                try:
                    self.verify(key)
                except DamagedRecord:
                    self._move_to_damaged(key)
                    return True
        except (Timeout, OSError):
            pass
        return False

    def remove(self, key: str) -> bool:
        """Remove the run *key*; returns whether it did: not while a process trains it.

        A link is removed, not what it names.

        Raises
        ------
        UnwritableStore
        """
        with self.words_for_errors():
            try:
                with self.lock(key).acquire(timeout=0):
                    self._discard(self._aside(key), key)
                    self._discard(self.runs / key, key)
            except Timeout:
                return False
        return True

    def put(self, key: str, files: Mapping[str, bytes]) -> None:
        """Keep a run's files as :func:`files_of` made them, whole or not at all.

        A record of the same key that was there is replaced (kept if damaged).

        Raises
        ------
        UnwritableStore
            What was there is as it was.
        """
        fresh = self.runs / f"{FRESH}{key}-{uuid.uuid4().hex[:8]}"
        with self.words_for_errors():
            try:
                fresh.mkdir(parents=True)
                for name, data in files.items():
                    write_durably(fresh / name, data)
                sync_folder(fresh)
                old = self._make_room(key)
                self._rename_into_place(fresh, key, old)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
            sync_folder(self.runs)
        with contextlib.suppress(OSError):
            self._discard(self._aside(key), key)

    def _aside(self, key: str) -> Path:
        """Where a run lies while another one takes its place: readers look there too."""
        return self.runs / f"{OLD}{key}"

    def _rename_into_place(self, fresh: Path, key: str, old: Path | None) -> None:
        try:
            os.rename(fresh, self.runs / key)
        except OSError:
            if old is not None:
                os.rename(old, self.runs / key)
            raise

    def _make_room(self, key: str) -> Path | None:
        """Clear the place of *key*; returns where the older record is, a damaged one is kept."""
        try:
            if read_folder(self.runs / key, key, frozenset()) is None:
                return None
        except DamagedRecord:
            self._move_to_damaged(key)
            return None
        old = self._aside(key)
        self._discard(old, key)  # a process died before it could
        os.rename(self.runs / key, old)
        return old

    def _discard(self, folder: Path, key: str) -> None:
        """Remove a run's folder, which is renamed first so that nobody reads half of it."""
        gone = self.runs / f"{GONE}{key}-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, gone)
            remove_tree(gone)

    def _move_to_damaged(self, key: str) -> None:
        self.damaged.mkdir(exist_ok=True)
        os.rename(self.runs / key, self.damaged / f"{key}-{uuid.uuid4().hex[:8]}")

    def _finished(self) -> int:
        try:
            return sum(not name.startswith(".") for name in os.listdir(self.runs))
        except OSError:
            return 0


def key_beside(name: str) -> str:
    """The key of the run that a folder with such a name beside the runs is of; "" for none."""
    return name[1:].partition("-")[2].partition("-")[0] if name.startswith(".") else ""


def shown(path: Path) -> str:
    """A path as a message may show it: what no terminal can print is escaped."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def remove_tree(path: Path) -> None:
    """Remove a folder with all in it, a file or a link; what a link names stays.

    Nothing happens where there is none; what cannot be removed is left for the next time.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """What changes when another folder takes the place of one."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
