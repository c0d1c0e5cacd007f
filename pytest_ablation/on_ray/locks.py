"""The locks of runs that a session has in hand: thousands at once, unlike a process that trains.

Keys go in. While a lock is held other sessions on the same store wait for that run.
"""

from __future__ import annotations

import contextlib
import errno

from filelock import FileLock

from pytest_ablation.store import Store

_OPEN_FILES_LEFT = 512  # for Ray and everything else


class RunLocks:
    """Locks by key. Where the system allows no more open files, further runs go without."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, FileLock] = {}
        self._most = 0

    def make_room(self, more: int) -> None:
        """So many locks will be asked for."""
        self._most = _allowed(len(self._held) + more)

    def take(self, key: str) -> None:
        """Take the lock of a run, if there is room.

        Raises
        ------
        filelock.Timeout
            Another session has it.
        OSError
            The store cannot be written.
        """
        if len(self._held) >= self._most:
            return
        lock = self._store.lock(key)
        try:
            lock.acquire(timeout=0)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._most = len(self._held)
        else:
            self._held[key] = lock

    def release(self, key: str) -> None:
        lock = self._held.pop(key, None)
        if lock is not None:
            lock.release()

    def release_all(self) -> None:
        for key in list(self._held):
            self.release(key)


def _allowed(wanted: int) -> int:
    """How many files may be open for locks, after asking the system for room."""
    try:
        import resource
    except ImportError:  # Windows
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    needed = wanted + _OPEN_FILES_LEFT
    if soft != unlimited and soft < needed:
        soft = needed if hard == unlimited else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if soft == unlimited else max(0, soft - _OPEN_FILES_LEFT)
