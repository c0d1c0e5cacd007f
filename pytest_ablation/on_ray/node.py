"""What a process on a node of a Ray cluster does: train one run, and send back its files.

A run's specification as bytes goes in; the files that a store keeps it as come out, or why there
are none. It works in folders of the node's own and never sees the session's store.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import importlib.metadata
import os
import pickle
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.errors import AblationError
from pytest_ablation.on_ray.data import DataFolder, Fetch, folder_on_node
from pytest_ablation.on_ray.post import Teller
from pytest_ablation.plan import RunSpec
from pytest_ablation.share import VISIBLE, GpuShare
from pytest_ablation.store import Store
from pytest_ablation.training import Failure, Workplace, train

_ROOT = Path.cwd()  # Ray starts a process in its copy of the project
_OLD_SECONDS = 14 * 24 * 3600
_ASK_SECONDS = 0.5


@dataclass(frozen=True)
class Errand:
    """What all runs of a session have in common, as far as a node must know it.

    Attributes
    ----------
    session, fresh, device, threads, save_models, checkpoint_seconds : as in Workplace
    gpus : how many a run has; a part of one is shared
    home : the name of the node's folder for the session's store
    import_folders : folders in the project to import from, relative to its root
    environment : variables that training functions may read
    data : the user's data, None for none
    """

    session: str
    fresh: bool
    device: str
    threads: int
    save_models: bool
    checkpoint_seconds: float
    gpus: float
    home: str
    import_folders: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    data: DataFolder | None = None


@dataclass(frozen=True)
class Returned:
    """What comes back from a node: files, or a failure; and events that nobody has told yet."""

    files: Mapping[str, bytes] | None
    failure: Failure | None = None
    events: tuple[Mapping[str, Any], ...] = ()


def train_on_node(message: bytes, errand: bytes, post: Any) -> Returned:
    """Train the run in *message* here and now.

    Parameters
    ----------
    message : a RunSpec, pickled by the driver of this very session
    errand : an Errand, likewise
    post : handle of the actor :class:`Post`
    """
    node = _node()
    teller = Teller(post, node, _node_id())
    try:
        facts: Errand = pickle.loads(errand)  # from our own driver, never from disk
        _prepare_process(facts)
        spec: RunSpec = pickle.loads(message)
        check_libraries(spec, node)
        place = _workplace(facts, node, post)
        outcome = train(spec, place, teller.tell)
    except AblationError as error:
        outcome = Failure(str(error))
    except BaseException as error:  # pytest.skip() in a training function, say
        outcome = Failure.of(error)
    if isinstance(outcome, Failure):
        return Returned(None, _with_node(outcome, node), teller.last_events())
    CheckpointFolder(Store(place.store).checkpoints / spec.key).remove()
    return Returned(outcome.files, events=teller.last_events())


def _node() -> str:
    import ray

    return f"{platform.node()} ({ray.util.get_node_ip_address()})"


def _node_id() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def lacking(node: str, module: str) -> str:
    """The sentence about a module that a node cannot import."""
    return (
        f"node {node} lacks the module {module!r}: install it there, or have it in the project's "
        f"folder (what git ignores, hidden folders and large files are not sent)"
    )


def _with_node(failure: Failure, node: str) -> Failure:
    """A traceback says where it comes from, the failure of an import also what to do."""
    message, details = failure.message, failure.details
    kind, _, text = message.partition(": No module named ")
    if kind == "ModuleNotFoundError":
        message = lacking(node, text.split("'")[1] if "'" in text else text)
    return Failure(message, details and f"On node {node}:\n{details}")


def _prepare_process(errand: Errand) -> None:
    """What must stand before the training code is imported; again, where a run has changed it."""
    os.chdir(_ROOT)
    folders = [str(_ROOT / folder) for folder in errand.import_folders]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    os.environ.update(errand.environment)
    if not errand.gpus:
        os.environ[VISIBLE] = ""
    elif errand.gpus < 1 and VISIBLE in os.environ:
        GpuShare(os.environ[VISIBLE], is_shared=True).take()
    _forget_threads_of_ray()


@functools.cache  # a later run keeps what Ray sets: its threads are limited already
def _forget_threads_of_ray() -> None:
    """Ray sets it to the cores of the run, which the threads follow from; NumPy read another."""
    os.environ.pop("OMP_NUM_THREADS", None)


def check_libraries(spec: RunSpec, node: str) -> None:
    """Other versions give other results, and the run's key names those of the driver."""
    for name, expected in spec.libraries.items():
        found = _version(name)
        if found is None:
            raise AblationError(
                f"node {node} lacks {name} {expected}: pip install {name}=={expected} there"
            )
        if found != expected:
            raise AblationError(
                f"node {node} has {name} {found}, expected {expected} as where pytest runs: "
                f"pip install {name}=={expected} there"
            )


@functools.cache
def _version(name: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def _workplace(errand: Errand, node: str, post: Any) -> Workplace:
    home = _home(errand.home)
    data = None
    if errand.data is not None:
        data = folder_on_node(errand.data, node, home, lambda: _asked(post))
        os.environ["ABLATION_DATA"] = str(data)
    return Workplace(
        store=home,
        journal=home / "journal",
        session=errand.session,
        fresh=errand.fresh,
        device=errand.device if errand.gpus else "cpu",
        device_index=0,  # Ray shows a run its own GPUs alone
        data_dir=data,
        threads=errand.threads,
        save_models=errand.save_models,
        checkpoint_seconds=errand.checkpoint_seconds,
    )


def _asked(post: Any) -> tuple[str, Fetch]:
    """The digest of the data, and how to fetch them."""
    import ray

    while (parcel := ray.get(post.data.remote())) is None:
        time.sleep(_ASK_SECONDS)
    if parcel.problem:
        raise AblationError(parcel.problem)
    return parcel.digest, lambda: ray.get(parcel.reference[0])


@functools.cache
def _home(name: str) -> Path:
    """This node's folder for a store: caches, checkpoints and data, kept between sessions."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()  # not all have a name
    own = Path(tempfile.gettempdir()) / f"pytest-ablation-{user}"
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o700)
    if own.is_symlink() or (hasattr(os, "getuid") and own.stat().st_uid != os.getuid()):
        raise AblationError(
            f"the folder {own} on node {platform.node()} belongs to another user: remove it, or "
            f"set TMPDIR there"
        )
    home = own / name
    for folder in ("cache", "checkpoints", "data"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for path in (*(home / "checkpoints").iterdir(), *(home / "data").iterdir()):
        with contextlib.suppress(OSError):  # another process removes it too
            if path.is_dir() and time.time() - path.stat().st_mtime > _OLD_SECONDS:
                shutil.rmtree(path)
    return home
