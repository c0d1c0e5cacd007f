"""The machine that a run trains on: CUDA as its torch sees it, peak memory, versions.

Numbers and plain values come out. Imports no torch: it asks the one that the training function has
imported already, if there is one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
from pathlib import Path
from typing import Any


def torch_cuda() -> Any | None:
    """``torch.cuda`` of the torch that is already imported."""
    torch = sys.modules.get("torch")
    return getattr(torch, "cuda", None)


def wait_for(device: str) -> None:
    """Wait until *device* has done what it was given: CUDA works on while Python goes on."""
    cuda = torch_cuda()
    if device.startswith("cuda") and cuda is not None and cuda.is_initialized():
        cuda.synchronize(device)


def environment(device: str = "cpu") -> dict[str, Any]:
    """What a reader of a record may ask about the machine, and the *device* that trained there."""
    torch = sys.modules.get("torch")
    cuda = torch_cuda() if device.startswith("cuda") else None
    return {
        "node": platform.node(),
        "device": device,
        "gpu": cuda.get_device_name(device) if cuda is not None else None,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),  # which GPU "cuda:0" is
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads() if torch is not None else None,
        **_ray_node(),
    }


def _ray_node() -> dict[str, str]:
    """Which node of a Ray cluster this is, in a process that Ray started."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    node = ray.get_runtime_context().get_node_id()
    return {"ray_node": node, "address": ray.util.get_node_ip_address()}


@functools.cache
def _processor() -> str:
    """The processor's name: Linux says it in proc(5), other systems to Python."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def reset_peak_memory() -> None:
    """Start a new peak, where the system can (Linux: proc(5), ``clear_refs``)."""
    cuda = torch_cuda()
    if cuda is not None and cuda.is_available() and cuda.is_initialized():
        for index in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(index)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_cuda_memory_mib(device: str) -> float | None:
    """The peak of what torch allocated on *device* since the reset, None where it is no CUDA."""
    if not device.startswith("cuda"):
        return None
    return torch_cuda().max_memory_allocated(device) / 2**20


def peak_memory_mib() -> float | None:
    """The peak resident memory of this process since the reset, None where it cannot be known."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # getrusage(2): bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib
