"""Waiting for what other processes do, by looking again and again, never for a set time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

#: Seconds, for a process to do what it will do: a busy machine takes ten times as long as others.
LIMIT = 300.0


def wait_until(
    condition: Callable[[], object], what: str = "a condition", seconds: float = LIMIT
) -> None:
    """Return when *condition* holds; fail where it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} seconds in vain: {what}")
        time.sleep(0.05)


def group_exists(group: int) -> bool:
    """Whether any process of a process group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
