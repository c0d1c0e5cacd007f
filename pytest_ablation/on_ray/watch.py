"""Is there still a cluster that can train? Asked while runs are waited for.

What Ray says of its nodes goes in, the sentence about why nothing will come any more out. Ray's own
question waits for as long as the head node is silent, so that a thread asks it.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from pytest_ablation.on_ray.cluster import Share, fits

_ASK_SECONDS = 1.0
_SILENT_LOOKS = 30
_UNFIT_LOOKS = 60


class Watch:
    """Watches the cluster that this process is connected to.

    Looks are counted, not seconds: a session that was suspended knows nothing of the time between.

    Parameters
    ----------
    ray : the package
    share : what a run asks of a node
    """

    def __init__(self, ray: Any, share: Share) -> None:
        self._ray = ray
        self._share = share
        self._address = ray.get_runtime_context().gcs_address
        self._silent = self._unfit = 0  # looks in a row
        self._lost: frozenset[str] = frozenset()  # Ray's ids of nodes
        self._told: frozenset[str] = frozenset()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def trouble(self) -> str:
        """A look, to be taken once a second: why no run can be trained any more, "" if one can."""
        self._silent += 1
        self._unfit += 1
        if self._silent >= _SILENT_LOOKS:
            return (
                f"the head node of the Ray cluster, {self._address}, has not answered for "
                f"{_SILENT_LOOKS} seconds: start the cluster again"
            )
        if self._unfit >= _UNFIT_LOOKS:
            return (
                f"no node of the Ray cluster can take it any more: it asks for {self._share}, and "
                f"for {_UNFIT_LOOKS} seconds none that is alive has had that"
            )
        return ""

    def newly_lost(self) -> frozenset[str]:
        """Ray's ids of the nodes that are gone, each told once."""
        new = self._lost - self._told
        self._told |= new
        return new

    def end(self) -> None:
        """Before Ray is left: no question is to be under way then, unless the head is silent."""
        self._ended.set()
        self._thread.join(_ASK_SECONDS)

    def _ask(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(Exception):  # no answer either
                nodes = self._ray.nodes()
                self._silent = 0
                self._lost = frozenset(n["NodeID"] for n in nodes if not n["Alive"])
                if fits(self._share, nodes):
                    self._unfit = 0
            self._ended.wait(_ASK_SECONDS)
