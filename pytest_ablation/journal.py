"""What the processes of one session tell each other: lines of JSON in files, one file each.

The report channel of pytest-xdist loses what a crashed worker knew; a file does not. Each process
appends to its own file; whoever shows progress or writes the report reads them all.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_RESERVE_FILE = "reserve"
_RESERVE_BYTES = 1 << 17
_DISPENSABLE = ("epoch", "doing")  # only for who watches the screen


class Journal:
    """Events of one session, such as ``{"kind": "started", "key": ...}``.

    Nothing here raises because a disk is full or gone: an event is lost then, and the session goes
    on to its report. Room is kept in reserve for the events that the report is made of.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._offsets: dict[Path, int] = {}
        self._untold: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def reserve(self) -> None:
        """Keep some room for the events that matter, for when the disk is full.

        Raises
        ------
        OSError
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), open(self.folder / _RESERVE_FILE, "xb") as file:
            file.write(bytes(_RESERVE_BYTES))

    def tell(self, kind: str, **content: Any) -> bool:
        """Append one event to this process's file; plain JSON values only.

        Returns whether it is written. If not, this object remembers it, where it matters.
        """
        event = {"kind": kind, **content}
        line = json.dumps(event) + "\n"
        with self._lock:
            try:
                self._append(line.encode())
            except OSError:
                if kind in _DISPENSABLE:
                    return False
            else:
                return True
            try:
                (self.folder / _RESERVE_FILE).unlink(missing_ok=True)
                self._append(line.encode())
            except OSError:
                self._untold.append(event)
                return False
            return True

    def _append(self, line: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{os.getpid()}.jsonl"
        with open(path, "a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and _last_byte(file, size) != b"\n":  # there was no room for all of a line
                line = b"\n" + line
            view = memoryview(line)
            while view:
                view = view[file.write(view) :]

    def new_events(self) -> list[dict[str, Any]]:
        """The whole lines that were added by any process since the last call."""
        return self._new_events(b"", b"")

    def _new_events(self, start: bytes, part: bytes) -> list[dict[str, Any]]:
        """The same, of the lines that begin with *start* and have *part* in them alone."""
        with self._lock:
            events: list[dict[str, Any]] = []
            with contextlib.suppress(OSError):
                for path in sorted(self.folder.glob("*.jsonl")):
                    events += self._read_on(path, start, part)
            return events

    def _read_on(self, path: Path, start: bytes, part: bytes) -> Iterator[dict[str, Any]]:
        with open(path, "rb") as file:
            file.seek(self._offsets.get(path, 0))
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # a killed process may leave half a line
        self._offsets[path] = self._offsets.get(path, 0) + len(whole)
        lines = (line for line in whole.splitlines() if line.startswith(start) and part in line)
        return (event for line in lines if (event := _event(line)) is not None)

    def all_events(self, kind: str, key: str = "") -> list[dict[str, Any]]:
        """All events of one kind so far, of one run or of all, whoever has read them before."""
        start = json.dumps({"kind": kind})[:-1].encode()  # most lines need not be parsed
        events = Journal(self.folder)._new_events(start, json.dumps(key)[1:-1].encode())
        return [
            event
            for event in (*events, *self._untold)
            if event["kind"] == kind and (not key or event.get("key") == key)
        ]


def _last_byte(file: Any, size: int) -> bytes:
    file.seek(size - 1)
    return file.read(1)


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line; None for half a line."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None
