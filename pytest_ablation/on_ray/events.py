"""What nodes tell about their runs, on its way into the session's journal.

Events come in as they arrive from the nodes, late ones too; the journal gets those that are still
true, and of what is only to be watched no more than a screen can show.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping
from typing import Any

from pytest_ablation.journal import Journal

_EPOCHS_PER_SECOND = 20.0  # of all runs together


class NodeEvents:
    """Passes events on.

    Parameters
    ----------
    journal : Journal
    ended : the keys of runs that have ended
    """

    def __init__(self, journal: Journal, ended: Container[str]) -> None:
        self._journal = journal
        self._ended = ended
        self._nodes: dict[str, str] = {}  # Ray's ids
        self._told: dict[str, float] = {}

    def take(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Events of nodes, which may come after their run's result."""
        for event in events:
            key = event.get("key")
            if key is None or key in self._ended:
                continue
            if event["kind"] == "started":
                self._nodes[key] = event["node_id"]
            if event["kind"] != "epoch" or self._is_time_for(key):
                self._journal.tell(**event)

    def take_last(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Events that came with a result, just before its run ends."""
        for event in events:
            if event["kind"] != "started" or event["key"] not in self._nodes:
                self._journal.tell(**event)

    def on_nodes(self, nodes: Container[str]) -> list[str]:
        """The keys of runs that train on one of these nodes, by Ray's ids, as far as is known."""
        return [key for key, node in self._nodes.items() if node in nodes]

    def forget(self, key: str) -> None:
        """A run has ended, or begins anew."""
        self._nodes.pop(key, None)
        self._told.pop(key, None)

    def _is_time_for(self, key: str) -> bool:
        now = time.monotonic()
        if now - self._told.get(key, -1e9) < len(self._nodes) / _EPOCHS_PER_SECOND:
            return False
        self._told[key] = now
        return True
