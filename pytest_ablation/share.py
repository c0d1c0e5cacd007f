"""A process's share of the machine: how many processes train at once, with how many threads.

Options and the process's place among a session's workers go in, plain numbers come out. Imports no
torch: GPUs are counted as the driver shows them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pytest_ablation.options import Options


@dataclass(frozen=True)
class Worker:
    """Which of the processes that run tests this one is (pytest-xdist); 0 of 1 without ``-n``."""

    index: int = 0
    count: int = 1


def cores_of(worker: Worker) -> int:
    """This process's share of the cores."""
    from joblib import cpu_count  # knows about affinity and container limits

    return max(1, cpu_count() // worker.count)


def jobs_of(options: Options, worker: Worker) -> int:
    """How many processes train at once: one per core, on a GPU one per GPU."""
    if options.jobs:
        return options.jobs
    gpus = visible_gpus() if options.device in ("auto", "cuda") else 0
    if gpus or options.device.startswith("cuda:"):
        return max(1, max(1, gpus) // worker.count)
    return cores_of(worker)


def visible_gpus() -> int:
    """How many NVIDIA GPUs this process may use, found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
