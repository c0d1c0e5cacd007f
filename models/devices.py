"""Whether a device that a command was given can be used: asked before anything is trained.

A name goes in; nothing or an error comes out. Imports torch inside the function only.
"""

from __future__ import annotations


def require_device(device: str) -> None:
    """Make sure that torch can use *device*; ``auto`` always can be.

    Raises
    ------
    ValueError
        It cannot; the message has torch's reason.
    """
    if device == "auto":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # the first where torch has no CUDA at all
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device} cannot be used here ({reason}): try cpu") from error
