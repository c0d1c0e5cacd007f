"""What killed sessions left behind in a store: half-written runs, and folders of their own.

A store goes in; what nobody uses any more goes away, and a run that was just being replaced is put
back. What a living process holds a lock on stays, however old a changed clock makes it look.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.record_files import RECORD_FILE, DamagedRecord
from pytest_ablation.store import OLD, Store, key_beside, remove_tree

_LEFTOVER_SECONDS = 24 * 3600
_ALIVE = "alive-*.lock"


def mark_alive(folder: Path) -> FileLock:
    """Hold a lock in a session's folder, for as long as this process lives or until it is released.

    Raises
    ------
    OSError
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _ALIVE.replace("*", str(os.getpid())))
    lock.acquire(timeout=0)
    return lock


def remove_leftovers(store: Store, now: float | None = None) -> None:
    """Remove what no process uses and nothing has changed for a day.

    Parameters
    ----------
    store : Store
    now : seconds since the epoch, by the clock of this machine
    """
    now = time.time() if now is None else now
    for folder in _listed(store.sessions.resolve()):
        if not is_alive(folder):
            _remove_if_old(folder, now)
    for folder in (store.runs.resolve(), store.checkpoints.resolve()):
        for path in _listed(folder):
            if path.name.startswith("."):
                _settle(store, path, now)
    for path in _listed(store.checkpoints.resolve()):
        _remove_if_finished(store, path)


def is_alive(folder: Path) -> bool:
    """Whether a process of the session whose folder it is still runs."""
    for path in _listed(folder):
        if path.match(_ALIVE) and path.is_file():
            try:
                FileLock(path).acquire(timeout=0).lock.release()
            except (Timeout, OSError):
                return True
    return False


def _settle(store: Store, path: Path, now: float) -> None:
    """Remove what a killed process left of a run, unless another one has the run's lock."""
    key = key_beside(path.name)
    lock = store.lock(key) if key else contextlib.nullcontext()
    with contextlib.suppress(Timeout, OSError), lock:
        if not path.name.startswith(OLD) or not key:
            _remove_if_old(path, now)
        elif os.path.lexists(path.parent / key):
            remove_tree(path)
        else:
            os.rename(path, path.parent / key)  # its place was cleared and nothing came


def _remove_if_finished(store: Store, path: Path) -> None:
    """Remove the checkpoint of a run that has its record, unless a session would go on from it."""
    with contextlib.suppress(Timeout, OSError), store.lock(path.name):
        finished = (store.runs / path.name / RECORD_FILE).lstat().st_mtime
        if _last_change(path) <= finished or not _is_of_use(store, path):
            remove_tree(path)


def _is_of_use(store: Store, path: Path) -> bool:
    """Whether a session would go on from a checkpoint that is younger than its run's record.

    One that wants the model too, where the record has none. With ``--ablation-fresh`` a session
    goes on from its own checkpoints alone; when it is over, the others use the older record.
    """
    session = CheckpointFolder(path).session
    if session.isalnum() and is_alive(store.sessions / session):
        return True
    try:
        record = store.read(path.name)
    except DamagedRecord:
        return True
    return record is None or store.lacks_model(record)


def _remove_if_old(path: Path, now: float) -> None:
    changed = _last_change(path)
    if now - changed > _LEFTOVER_SECONDS:
        remove_tree(path)
    elif changed > now + _LEFTOVER_SECONDS:  # the clock was wrong then: count its day from now on
        for part in (path, *_parts(path)):
            with contextlib.suppress(OSError):
                os.utime(part, (now, now), follow_symlinks=False)


def _last_change(path: Path) -> float:
    """When anything in a folder was last written; now, where another session removes it."""
    try:
        return max(part.lstat().st_mtime for part in (path, *_parts(path)))
    except OSError:
        return time.time()


def _parts(path: Path) -> Iterator[Path]:
    """All that lies in a folder, links not followed."""
    if path.is_symlink():  # os.walk follows the one that it is given
        return
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where there is none, or a link to one."""
    try:
        return [] if folder.is_symlink() else sorted(folder.iterdir())
    except OSError:
        return []
