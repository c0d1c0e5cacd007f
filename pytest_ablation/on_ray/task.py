"""The Ray task that trains a run, and a run's specification as the bytes that it takes.

Both must get to nodes where the project's code, or this package, may be missing.
"""

from __future__ import annotations

import functools
import importlib.machinery
import pickle
import sys
from collections.abc import Iterator
from typing import Any

from pytest_ablation.errors import AblationError
from pytest_ablation.on_ray.cluster import Share
from pytest_ablation.plan import RunSpec


class UnsendableRun(AblationError):
    """The training function or configuration cannot be sent to another machine."""


def training_task(ray: Any, share: Share) -> Any:
    """The remote function: (message, errand, post) to what :func:`train_on_node` returns.

    Where a node cannot import what it needs: (the node's name, the module). Ray never tries it
    again by itself, for the executor counts deaths. With GPUs each run has a process of its own
    (Ray's default): one that has begun to use a GPU keeps it.
    """

    def train_run(message: bytes, errand: bytes, post: Any) -> Any:  # sent by value
        try:
            from pytest_ablation.on_ray.node import train_on_node
        except ModuleNotFoundError as error:
            import platform

            return platform.node(), error.name
        return train_on_node(message, errand, post)

    return ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0)(train_run)


def packed(spec: RunSpec) -> bytes:
    """The specification as bytes that a node can read.

    Code of modules that a node finds goes as their names; of others (a module that only pytest
    could import, ``__main__``) it goes along.

    Raises
    ------
    UnsendableRun
    """
    from ray import cloudpickle

    by_value = [module for module in _modules_of(spec) if not _is_findable(module)]
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(spec, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # pickle raises whatever the object's own code raises
        raise UnsendableRun(
            f"{spec.label} cannot be sent to a node ({type(error).__name__}: {error}): define its "
            f"training function and configuration at the top of a module, and let them carry "
            f"nothing that belongs to this process (locks, connections, generators)"
        ) from error
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)


def _modules_of(spec: RunSpec) -> Iterator[Any]:
    train = spec.train
    while isinstance(train, functools.partial):
        train = train.func
    owners = (train, type(train), type(spec.config))
    names = dict.fromkeys(getattr(owner, "__module__", None) for owner in owners)
    yield from (sys.modules[name] for name in names if name in sys.modules)


def _is_findable(module: Any) -> bool:
    name = module.__name__
    if name == "__main__":
        return True  # cloudpickle sends what is in there by value anyway
    top = name.partition(".")[0]
    is_builtin = top in sys.builtin_module_names
    return is_builtin or importlib.machinery.PathFinder.find_spec(top) is not None
