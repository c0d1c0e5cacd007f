"""A process's share of the machine: how many processes train at once, on which GPU, which threads.

Options and the process's place among a session's workers go in, plain numbers and names of GPUs
come out. Imports no torch: GPUs are counted as the driver shows them.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pytest_ablation.options import Options

VISIBLE = "CUDA_VISIBLE_DEVICES"
_GPU = re.compile(r"\d+|(GPU|MIG)-\S+")
_NOT_INITIALIZED = 3  # CUDA_ERROR_NOT_INITIALIZED, CUDA driver API

#: Where several processes have one GPU, none may claim all its memory when it begins: jax.dev, "GPU
#: memory allocation"; tensorflow.org, "Use a GPU". torch takes only what it needs as it is; its
#: expandable segments are experimental and break CUDA IPC, so that they are left to the user.
_FOR_SHARING = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def visible_gpus() -> tuple[str, ...]:
    """The NVIDIA GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    Numbers, UUIDs of GPUs or ids of MIG instances. As in CUDA, nothing counts from the first entry
    on that names no GPU (``-1``). Found without importing torch.
    """
    visible = os.environ.get(VISIBLE)
    if visible is None:
        shown = [path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal()]
        return tuple(str(index) for index in range(len(shown)))
    found: dict[str, None] = {}
    for entry in map(str.strip, visible.split(",")):
        if not _GPU.fullmatch(entry):
            break
        found[entry] = None
    return tuple(found)


@dataclass(frozen=True)
class Worker:
    """Which of the processes that run tests this one is (pytest-xdist); 0 of 1 without ``-n``.

    ``gpus`` are those that all of them share.
    """

    index: int = 0
    count: int = 1
    gpus: tuple[str, ...] = field(default_factory=visible_gpus)


@dataclass(frozen=True)
class GpuShare:
    """The one GPU of a process that trains, as ``CUDA_VISIBLE_DEVICES`` names it.

    None where the user named it (``cuda:1``): all stay visible then. ``is_shared`` where other
    processes of the session have the same one.
    """

    entry: str | None
    is_shared: bool

    def take(self) -> None:
        """Let this process, and whatever library trains in it, see that GPU alone.

        Where CUDA has begun, it has read the variable already: then all GPUs stay visible, and
        :attr:`Run.device` chooses by index.
        """
        if self.entry is not None and not cuda_has_begun():
            os.environ[VISIBLE] = self.entry
        if self.is_shared:
            for name, value in _FOR_SHARING.items():
                os.environ.setdefault(name, value)


def gpu_of(options: Options, worker: Worker, slot: int = 0) -> GpuShare | None:
    """The GPU of one process that trains: a worker's own, or of a *slot* of its pool.

    None without a GPU, and on the CPU.
    """
    gpus, device = worker.gpus, options.device
    if device == "cpu" or not gpus:
        return None
    jobs = jobs_of(options, worker)
    processes = worker.count * jobs
    if device not in ("auto", "cuda"):
        return GpuShare(None, is_shared=processes > 1)
    index = worker.index * jobs + slot
    return GpuShare(gpus[index % len(gpus)], is_shared=processes > len(gpus))


def cuda_has_begun() -> bool:
    """Whether CUDA has been started in this process, by torch or any other library."""
    if not hasattr(os, "RTLD_NOLOAD"):  # not on Windows
        cuda = getattr(sys.modules.get("torch"), "cuda", None)
        return cuda is not None and cuda.is_initialized()
    try:
        driver = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:  # nobody has loaded it
        return False
    return driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != _NOT_INITIALIZED


def cores_of(worker: Worker) -> int:
    """This process's share of the cores."""
    from joblib import cpu_count  # knows about affinity and container limits

    return max(1, cpu_count() // worker.count)


def jobs_of(options: Options, worker: Worker) -> int:
    """How many processes train at once: one per core, on a GPU one per GPU."""
    if options.jobs:
        return options.jobs
    gpus = len(worker.gpus) if options.device in ("auto", "cuda") else 0
    if gpus or options.device.startswith("cuda:"):
        return max(1, max(1, gpus) // worker.count)
    return cores_of(worker)


def threads_of(options: Options, worker: Worker) -> int:
    """How many threads each process that trains may use."""
    return max(1, cores_of(worker) // jobs_of(options, worker))
