"""The connection to a Ray cluster that is there already: found, checked, and in words where not.

Options and a project go in; a connected Ray, and how much of a node a run gets, come out. Starts no
cluster and schedules nothing.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_ablation.errors import AblationError
from pytest_ablation.on_ray.project import LARGEST_FILE_MIB, ShippedProject
from pytest_ablation.options import (
    AUTO,
    CPUS_PER_RUN_OPTION,
    DEVICE_OPTION,
    EXECUTOR_OPTION,
    GPUS_PER_RUN_OPTION,
    RAY_ADDRESS_OPTION,
    Options,
)

_KNOCK_SECONDS = 5.0
_CONNECT_SECONDS = 30.0  # it takes 2, but machines may be busy
_RAY_CLIENT = "ray://"
#: Ray reads these when it is imported. After a minute without its head node it would end the
#: process, report and all: watch.py gives up earlier, and ends the session in good order.
_OF_THE_DRIVER = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
}
_LEAVE_SECONDS = 10.0
_MIB_PER_SECOND = 4  # at least, to pack and upload the project
_START = (
    "start one with `ray start --head` (and `ray start --address=HOST:PORT` on the other machines, "
    "also on this one where it is not the first)"
)


@dataclass(frozen=True)
class Share:
    """How much of a node a run gets."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU{'s' * (self.gpus > 1)}" if self.gpus else ""
        return f"{self.cpus:g} CPU{'s' * (self.cpus > 1)}{gpus}"


def check_command_line(config: pytest.Config, options: Options) -> None:
    """Raise ``UsageError`` where options do not go together with a Ray cluster."""
    given = config.option
    if getattr(given, "numprocesses", None) or getattr(given, "tx", None):
        raise pytest.UsageError(
            f"{EXECUTOR_OPTION}=ray and the workers of pytest-xdist (-n, --dist, --tx) do not go "
            f"together, for each worker would connect to the cluster and submit runs of its own: "
            f"leave out -n; the cluster trains many runs at once"
        )
    if options.device.startswith("cuda:"):
        raise pytest.UsageError(
            f"{DEVICE_OPTION}={options.device} names a GPU of this machine; on a Ray cluster Ray "
            f"chooses one: use {DEVICE_OPTION}=cuda"
        )


def imported_ray() -> Any:
    """The package ray, imported without its handler of SIGTERM.

    Raises
    ------
    AblationError
        It is not installed.
    """
    handler = signal.getsignal(signal.SIGTERM)
    for name, value in _OF_THE_DRIVER.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise AblationError(
            f"{EXECUTOR_OPTION}=ray needs the package ray, which is not installed: "
            "pip install -r requirements-ray.txt, or pip install 'pytest-ablation[ray]'"
        ) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # what ends a session is the plugin's to say
    return ray


def connect(options: Options, project: ShippedProject) -> Share:
    """Connect this process to the cluster; what a run is to get of a node.

    Raises
    ------
    AblationError
        There is none, it cannot be reached, it is of another version, or no node of it could take
        a run.
    """
    ray = imported_ray()
    if ray.is_initialized():
        raise AblationError(
            "this process is connected to a Ray cluster already (does a conftest.py call "
            f"ray.init?): leave that to {EXECUTOR_OPTION}=ray, which sends the project's code too"
        )
    _check_reachable(options.ray_address)
    _init(ray, options.ray_address, project)
    try:
        return _checked_share(ray, options)
    except AblationError:
        leave(ray)
        raise


def leave(ray: Any) -> None:
    """``ray.shutdown``, which takes minutes where the head node is silent: reports come first.

    The process waits for it at its end, where it would crash otherwise.
    """
    thread = threading.Thread(target=ray.shutdown, daemon=True)
    thread.start()
    thread.join(_LEAVE_SECONDS)
    if thread.is_alive():
        atexit.unregister(ray.shutdown)  # a second time at once
        atexit.register(thread.join)


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    named = f"{RAY_ADDRESS_OPTION}={address}"
    if address == AUTO:  # the variable, or what Ray finds on this machine
        address = os.environ.get("RAY_ADDRESS", "")
        named = f"the variable RAY_ADDRESS={address}"
        if address.startswith(_RAY_CLIENT):
            raise AblationError(
                f"{named}: Ray Client cannot do this; run pytest on a machine of the cluster (`ray "
                f"start --address=HOST:PORT` makes this one join it)"
            )
        if ":" not in address:
            return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise AblationError(f"{named}: nothing answers there ({error}); {_START}") from error


def _init(ray: Any, address: str, project: ShippedProject) -> None:
    """``ray.init`` with a limit of time: where no Ray answers, it would take minutes."""
    problems: list[BaseException] = []
    own_package = Path(__file__).resolve().parents[1]

    def init() -> None:
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={
                    "working_dir": str(project.root),
                    "py_modules": [str(own_package)],
                    "excludes": list(project.excludes),
                },
            )
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=init, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS + project.size / 2**20 / _MIB_PER_SECOND)
    where = "" if address == AUTO else f" at {address}"
    if thread.is_alive():
        raise AblationError(f"no Ray cluster answers{where}; {_START}")
    if problems:
        raise AblationError(_words(problems[0], where)) from problems[0]


def _words(problem: BaseException, where: str) -> str:
    """Ray's own words, with what they lack."""
    text = f"{type(problem).__name__}: {problem}".strip()
    if isinstance(problem, ConnectionError):
        return f"no Ray cluster{where or ' is running on this machine'} ({text}); {_START}"
    if isinstance(problem, SystemExit):
        return f"no Ray cluster answers{where}; {_START}"
    if "Package size" in text:
        text += (
            f" What git ignores, hidden folders and files of more than {LARGEST_FILE_MIB} MiB are "
            f"left out already; data belong into a folder that --ablation-data names"
        )
    if "Version mismatch" in text:
        text += "\nAll machines of a cluster need the same Ray and the same Python"
    return f"the Ray cluster{where} cannot be used: {text}"


def _checked_share(ray: Any, options: Options) -> Share:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    gpus = options.gpus_per_run
    if gpus is None:
        has_gpus = any(node["Resources"].get("GPU") for node in nodes)
        gpus = 1.0 if options.device != "cpu" and (has_gpus or options.device == "cuda") else 0.0
    if gpus > 1 and gpus != int(gpus):
        raise AblationError(
            f"{GPUS_PER_RUN_OPTION}={gpus:g}: Ray gives a part of one GPU, or whole ones"
        )
    share = Share(options.cpus_per_run, gpus)
    if not fits(share, nodes):
        raise AblationError(
            f"no node of the Ray cluster can take a run, which asks for {share}; they have "
            f"{_shown(nodes)}: change {CPUS_PER_RUN_OPTION}, {GPUS_PER_RUN_OPTION} or "
            f"{DEVICE_OPTION}, or add such a node (where nodes come on demand, one must be there)"
        )
    return share


def fits(share: Share, nodes: list[dict[str, Any]]) -> bool:
    """Whether some node that is alive could take a run, were it idle."""
    return any(
        node["Alive"]
        and node["Resources"].get("CPU", 0) >= share.cpus
        and node["Resources"].get("GPU", 0) >= share.gpus
        for node in nodes
    )


def _shown(nodes: list[dict[str, Any]]) -> str:
    """What nodes have, those alike counted."""
    counts: dict[str, int] = {}
    for node in nodes:
        text = f"{node['Resources'].get('CPU', 0):g} CPU, {node['Resources'].get('GPU', 0):g} GPU"
        counts[text] = counts.get(text, 0) + 1
    return "; ".join(f"{text} ({count} node{'s' * (count > 1)})" for text, count in counts.items())
