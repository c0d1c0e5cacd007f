"""Running out of memory: how it is told from other errors, how memory is freed, what helps.

An exception goes in; a value without any reference to it comes out, so that nothing keeps what it
had allocated. Knows no run; looks for torch only where somebody has imported it.
"""

from __future__ import annotations

import errno
import gc
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_ablation.errors import described

_GPU_CLASSES = ("OutOfMemoryError",)  # of torch and torch.cuda; both names are one class
_GPU_WORDS = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "HIP out of memory",
    "MPS backend out of memory",
    "RESOURCE_EXHAUSTED",  # JAX and TensorFlow
)
_CPU_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)
_GPU_ADVICE = (
    "use a smaller batch, or train fewer runs at once on a GPU (--ablation-jobs=1, a smaller -n, "
    "on Ray a larger --ablation-gpus-per-run); what else is on the GPU counts too"
)
_CPU_ADVICE = (
    "use less data at once, or train fewer runs at once (--ablation-jobs=1, a smaller -n, on Ray a "
    "larger --ablation-cpus-per-run)"
)


@dataclass(frozen=True)
class OutOfMemory:
    """That a run ran out of memory: where ("gpu" or "cpu"), and the error as text."""

    where: str
    message: str
    details: str

    @property
    def advice(self) -> str:
        """The error and what helps, where trying again did not."""
        helps = _GPU_ADVICE if self.where == "gpu" else _CPU_ADVICE
        return f"{self.message.rstrip('.')}. Tried twice, with memory freed between: {helps}"


def out_of_memory(error: BaseException) -> OutOfMemory | None:
    """What *error* says about memory, or None where it is another error.

    Also where another exception was raised while it was handled, or from it. Afterwards the
    exceptions hold no traceback and no variable of the code that they came from.
    """
    places = [place for link in _chain(error) if (place := _place(link))]
    if not places:
        return None
    details = "".join(traceback.format_exception(error))
    found = OutOfMemory(places[0], described(error), details)
    for link in list(_chain(error)):
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = link.__cause__ = link.__context__ = None
    return found


def free_memory() -> None:
    """Let go of what nothing refers to any more, on the GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_initialized():
        cuda.empty_cache()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that led to it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _place(error: BaseException) -> str:
    """ "gpu", "cpu", or "" for an error that is not about memory."""
    kind, text = type(error), str(error)
    if kind.__module__.partition(".")[0] == "torch" and kind.__name__ in _GPU_CLASSES:
        return "gpu"
    if isinstance(error, MemoryError):
        return "cpu"
    if isinstance(error, OSError):
        return "cpu" if error.errno == errno.ENOMEM else ""
    if isinstance(error, RuntimeError) or kind.__name__ == "ResourceExhaustedError":
        if any(words in text for words in _GPU_WORDS):
            return "gpu"
        return "cpu" if any(words in text for words in _CPU_WORDS) else ""
    return ""
