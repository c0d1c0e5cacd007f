"""Vectors on disk: one SQLite file per encoder and setting, with a row for each text.

Vectors by text go in and come out as bytes, checked; locks let processes divide work. What is
damaged is never given out; a folder that cannot be used is told of, and done without. Knows no
encoder and imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import uuid
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

BUSY_SECONDS = 120  # a transaction takes milliseconds; many processes may queue for theirs
ROWS_PER_QUERY = 500  # older SQLite takes 999 parameters
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # ERROR: no column

TABLE = (
    "CREATE TABLE IF NOT EXISTS vectors "
    "(text BLOB PRIMARY KEY, width INTEGER NOT NULL, vector BLOB NOT NULL, crc32 INTEGER NOT NULL)"
)
COLUMNS = "text, width, vector, crc32"

T = TypeVar("T")


class VectorStore:
    """The vectors of one encoder and setting in *path*, for any number of processes at once.

    A row holds the SHA-256 of a text, the width of its vector, the vector (float32, little-endian)
    and a CRC-32 of the three.

    The journal is SQLite's default, one that is rolled back: a write-ahead log needs memory that
    all processes share, which the machines of a network file system do not.

    Parameters
    ----------
    path : Path
        Made, with its folders, where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._usable = True

    def read(self, texts: Collection[str], *, warn: bool = True) -> dict[str, bytes]:
        """The vectors of those *texts* that have one; with *warn*, damaged rows are told of."""
        text_of = {_digest(text): text for text in texts}
        rows = self._use(lambda connection: list(_select(connection, list(text_of))), [])
        sound = {text_of[row[0]]: row[2] for row in rows if _is_sound(row) and row[0] in text_of}
        if warn and len(sound) < len(rows):
            self._warn(
                f"{self.path} is damaged in {len(rows) - len(sound)} of {len(rows)} rows that were "
                f"read: the vectors of their texts are computed again"
            )
        return sound

    def write(self, vectors: Mapping[str, bytes]) -> None:
        """Keep *vectors*, all or none of them; returns also where that cannot be done."""
        rows = [_row(text, vector) for text, vector in vectors.items()]

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")  # waits in turn; a lock that grows would not
            # Only a damaged row is replaced: who writes has looked, under a lock, what is missing.
            connection.executemany(f"INSERT OR REPLACE INTO vectors ({COLUMNS}) VALUES (?,?,?,?)",
                                   rows)  # fmt: skip
            connection.execute("COMMIT")

        self._use(insert, None)

    @contextlib.contextmanager
    def share(self, number: int, *, wait: bool) -> Iterator[bool]:
        """Hold share *number* of the work; gives False where another holds it and not *wait*.

        The system frees what a process held that died.
        """
        lock = self._lock(f"{number:02d}")
        try:
            if self._usable:
                lock.acquire(blocking=wait)
        except Timeout:
            yield False
            return
        except (OSError, NotImplementedError) as error:  # work that nobody can share
            self._give_up(error)
        try:
            yield True
        finally:
            lock.release()

    def _lock(self, name: str) -> FileLock:
        folder = self.path.parent / "locks"
        with contextlib.suppress(OSError):  # taking the lock tells what is wrong
            folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{self.path.stem}-{name}.lock")

    # --- what can go wrong -------------------------------------------------------------------

    def _use(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What *action* returns; *otherwise* where the file cannot be used."""
        for attempt in ("first", "second"):
            if not self._usable:
                break
            try:
                with self._connection() as connection:
                    return action(connection)
            except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
                if attempt == "first" and _tells_damage(error):
                    self._set_aside(error)
                else:
                    self._give_up(error)
        return otherwise

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One for each use: a connection must not be carried into a process that is forked."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.text_factory = bytes  # a damaged row may hold text that is no UTF-8
            # A killed process does no harm; what a power cut damages is seen and computed again.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(TABLE)
            yield connection
        finally:
            connection.close()  # rolls back what was not committed

    def _set_aside(self, error: Exception) -> None:
        """Move a damaged file out of the way, unless another process has done so by now."""
        try:
            with self._lock("damaged"):
                if self._is_whole():
                    return
                aside = self.path.with_name(f"{self.path.name}.damaged-{uuid.uuid4().hex[:8]}")
                journal = self.path.with_name(f"{self.path.name}-journal")
                with contextlib.suppress(FileNotFoundError):  # first: it must not meet a new file
                    os.replace(journal, f"{aside}-journal")
                os.replace(self.path, aside)
        except (OSError, NotImplementedError) as problem:
            self._give_up(problem)
        else:
            self._warn(
                f"{self.path} is damaged ({error}) and was moved to {aside.name}: its vectors are "
                f"computed again"
            )

    def _is_whole(self) -> bool:
        try:
            with self._connection() as connection:
                connection.execute(f"SELECT {COLUMNS} FROM vectors LIMIT 1")
                return connection.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
        except (sqlite3.Error, UnicodeDecodeError) as error:
            return not _tells_damage(error)

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        self._warn(
            f"{self.path} cannot be used ({error}): vectors are computed and not kept; make room "
            f"there, or see that the folder can be written"
        )

    @staticmethod
    def _warn(text: str) -> None:
        warnings.warn(text, stacklevel=2)


def _select(connection: sqlite3.Connection, digests: list[bytes]) -> Iterator[tuple]:
    for start in range(0, len(digests), ROWS_PER_QUERY):
        part = digests[start : start + ROWS_PER_QUERY]
        places = ",".join("?" * len(part))
        yield from connection.execute(
            f"SELECT {COLUMNS} FROM vectors WHERE text IN ({places})", part
        )


def _tells_damage(error: Exception) -> bool:
    if isinstance(error, UnicodeDecodeError):  # of a message that quotes a damaged name
        return True
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED  # the low byte is the kind


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _row(text: str, vector: bytes) -> tuple[bytes, int, bytes, int]:
    digest, width = _digest(text), len(vector) // 4
    return digest, width, vector, _checksum(digest, width, vector)


def _is_sound(row: tuple) -> bool:
    digest, width, vector, checksum = row
    return (
        isinstance(digest, bytes)
        and isinstance(vector, bytes)
        and isinstance(width, int)
        and len(vector) == 4 * width
        and checksum == _checksum(digest, width, vector)
    )


def _checksum(digest: bytes, width: int, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(b"%d" % width, zlib.crc32(digest)))
