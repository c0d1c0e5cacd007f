"""A Ray cluster on this machine, in processes of its own.

As a module: starts this file as a program and talks to it. As a program: ``ray_nodes.py FOLDER
HIDDEN CPUS...`` starts a node with so many CPUs for each number, prints the cluster's address and
whether it could hide a folder, loses the last node for a line on its standard input, and ends with
that. The nodes know nothing of this checkout. All but the first are machines of another name
(``OTHER_NAME``) that lack what is in the folder HIDDEN, where the system lets this user do that.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import wait_until

OTHER_NAME = "other-machine"
_OBJECT_STORE_BYTES = 100_000_000
_NEW_MOUNTS, _NEW_NAME = 0x20000, 0x4000000  # CLONE_NEWNS and CLONE_NEWUTS of unshare(2)


class RayNodes:
    """The handle of a cluster.

    ``address`` is what ``--ablation-ray-address`` takes. What is in the folder ``hidden`` all nodes
    but the first lack, where ``is_hidden``.
    """

    def __init__(self, process: subprocess.Popen[str], hidden: Path) -> None:
        self._process = process
        self.hidden = hidden
        self.address, can_hide = self._answer().split()
        self.is_hidden = can_hide == "True"

    def lose_a_node(self) -> None:
        """Kill the last node, as a power cut would."""
        self._process.stdin.write("lose\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"{__file__} ended with status {self._process.wait()}")
        return line.strip()


@contextmanager
def ray_nodes(*cpus: int, hidden: Path | None = None) -> Iterator[RayNodes]:
    """A cluster that is gone, with its folders, at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: names of sockets have 107 characters
    hidden = hidden or Path(tempfile.mkdtemp(dir=folder))
    driver_only = ("PYTHONPATH", "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in driver_only}
    environment |= {"TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, __file__, folder, hidden, *map(str, cpus)], cwd=folder, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield RayNodes(process, hidden)
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


def _become_another_machine(hidden: str) -> bool:
    """Whether processes that start from now on lack the content of the folder, under a new name."""
    try:
        if ctypes.CDLL(None).unshare(_NEW_MOUNTS | _NEW_NAME):
            return False
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", hidden], check=True)
        socket.sethostname(OTHER_NAME)
    except (AttributeError, OSError, subprocess.CalledProcessError):
        return False
    return True


def _serve(folder: str, hidden: str, *cpus: int) -> None:
    from ray.cluster_utils import Cluster

    own = {"object_store_memory": _OBJECT_STORE_BYTES}
    temporary = Path(folder) / "ray"  # where Ray notes its address too, by TMPDIR
    temporary.mkdir()
    head = own | {"num_cpus": cpus[0], "temp_dir": str(temporary), "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    can_hide = _become_another_machine(hidden)
    nodes = [cluster.add_node(num_cpus=count, **own) for count in cpus[1:]]
    print(cluster.address, can_hide, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _serve(*sys.argv[1:3], *map(int, sys.argv[3:]))
