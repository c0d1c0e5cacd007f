"""A Ray cluster on this machine, in processes of its own.

As a module: starts this file as a program and talks to it. As a program: ``ray_nodes.py FOLDER
CPUS...`` starts a node with so many CPUs for each number, prints the cluster's address, takes
``lose`` and ``add`` on its standard input, which are about the last node, and ends with it. The
nodes know nothing of this checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import wait_until

_OBJECT_STORE_BYTES = 100_000_000
_NOTICED_SECONDS = 120  # Ray takes a node for lost after some missed health checks


class RayNodes:
    """The handle of a cluster. ``address`` is what ``--ablation-ray-address`` takes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._answer()

    def lose_a_node(self) -> None:
        """Kill the last node, as a power cut would."""
        self._order("lose")

    def add_a_node(self) -> None:
        """Start one more; come back when Ray counts those that are there, and no lost one."""
        self._order("add")

    def _order(self, word: str) -> None:
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"{__file__} ended with status {self._process.wait()}")
        return line.strip()


@contextmanager
def ray_nodes(*cpus: int) -> Iterator[RayNodes]:
    """A cluster that is gone, with its folders, at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: names of sockets have 107 characters
    hidden = ("PYTHONPATH", "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder), *map(str, cpus)], cwd=folder, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield RayNodes(process)
    finally:
        process.communicate()
        wait_until(lambda: not processes_of(folder), "Ray's processes end")
        shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: Path) -> list[str]:
    """The command lines of processes that name *folder*."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


def _serve(folder: str, *cpus: int) -> None:
    from ray.cluster_utils import Cluster

    own = {"object_store_memory": _OBJECT_STORE_BYTES}
    temporary = Path(folder) / "ray"  # where Ray notes its address too, by TMPDIR
    temporary.mkdir()
    head = own | {"num_cpus": cpus[0], "temp_dir": str(temporary), "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=count, **own) for count in cpus[1:]]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "lose":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        else:
            nodes.append(cluster.add_node(num_cpus=cpus[-1], **own))
            cluster.wait_for_nodes(timeout=_NOTICED_SECONDS)
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _serve(sys.argv[1], *map(int, sys.argv[2:]))
