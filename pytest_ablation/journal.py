"""What the processes of one session tell each other: lines of JSON in files, one file each.

The report channel of pytest-xdist loses what a crashed worker knew; a file does not. Each process
appends to its own file; whoever shows progress or writes the report reads them all.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """Events of one session, such as ``{"kind": "started", "key": ...}``."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._offsets: dict[Path, int] = {}
        self._lock = threading.Lock()

    def tell(self, kind: str, **content: Any) -> None:
        """Append one event to this process's file; plain JSON values only."""
        line = json.dumps({"kind": kind, **content}) + "\n"
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / f"{os.getpid()}.jsonl", "ab") as file:
                file.write(line.encode())

    def new_events(self) -> list[dict[str, Any]]:
        """The whole lines that were added by any process since the last call."""
        with self._lock:
            events: list[dict[str, Any]] = []
            for path in sorted(self.folder.glob("*.jsonl")):
                events += self._read_on(path)
            return events

    def _read_on(self, path: Path) -> Iterator[dict[str, Any]]:
        with open(path, "rb") as file:
            file.seek(self._offsets.get(path, 0))
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # a killed process may leave half a line
        self._offsets[path] = self._offsets.get(path, 0) + len(whole)
        return (json.loads(line) for line in whole.splitlines())

    def all_events(self, kind: str) -> list[dict[str, Any]]:
        """All events of one kind so far, whoever has read them before."""
        return [event for event in Journal(self.folder).new_events() if event["kind"] == kind]
