"""Messages between a session and its runs on the nodes of a Ray cluster, through one Ray actor.

Nodes leave events there and fetch data from there; the session takes the events. It stands on the
driver's node and needs none of its cores. Knows no run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DATA_WANTED = "data wanted"
_THROTTLED = ("epoch", "doing")  # only for who watches the screen
_FOR_REPORT = ("damaged",)  # must not be lost, as an event is that comes after its run's result
_SECONDS_BETWEEN = 1.0


@dataclass(frozen=True)
class Parcel:
    """Data in Ray's object store.

    ``reference`` is in a tuple, for Ray would fetch a bare one at once; ``problem`` says why there
    is none.
    """

    digest: str = ""
    reference: tuple[Any, ...] = ()
    problem: str = ""


class Post:
    """The actor: events, where runs began, and where data are once a node has asked for them."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._nodes: dict[str, str] = {}
        self._is_asked = False
        self._parcel: Parcel | None = None

    def tell(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        if event["kind"] == "started":
            self._nodes[event["key"]] = event["node"]

    def node_of(self, key: str) -> str:
        """Where a run last began, "" where that is not known."""
        return self._nodes.get(key, "")

    def take(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def data(self) -> Parcel | None:
        """What the driver sends, who hears of the question among the events; None until then."""
        if not self._is_asked:
            self._is_asked = True
            self._events.append({"kind": DATA_WANTED})
        return self._parcel

    def provide(self, parcel: Parcel) -> None:
        self._parcel = parcel


class Teller:
    """What a run on a node tells: about one message a second of what is only to be watched.

    What the report needs goes with the result alone.

    Parameters
    ----------
    post : handle of the actor
    node, node_id : what to call this node, and its id in Ray; events of a beginning say them
    """

    def __init__(self, post: Any, node: str, node_id: str = "") -> None:
        self._post = post
        self._node = {"node": node, "node_id": node_id}
        self._last: dict[str, float] = {}
        self._with_result: list[dict[str, Any]] = []
        self._newest: dict[str, dict[str, Any]] = {}

    def tell(self, kind: str, **content: Any) -> None:
        """As :meth:`Journal.tell`; of events in quick succession only the first goes at once."""
        event = {"kind": kind, **content}
        if kind in _FOR_REPORT:
            self._with_result.append(event)
            return
        if kind in _THROTTLED:
            self._newest.pop(kind, None)  # the order is that of the newest ones
            self._newest[kind] = event
            now = time.monotonic()
            if now - self._last.get(kind, -1e9) < _SECONDS_BETWEEN:
                return
            self._last[kind] = now
        if kind == "started":
            event |= self._node
            self._with_result.append(event)
        self._post.tell.remote(event)

    def last_events(self) -> tuple[Mapping[str, Any], ...]:
        """To go with the result, which may overtake what was told just before it."""
        return (*self._with_result, *self._newest.values())
