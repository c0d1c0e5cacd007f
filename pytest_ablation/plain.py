"""The border where values of NumPy and torch become plain Python numbers, or an error.

Values go in with words for what they are, Python floats come out. Knows nothing of runs.
"""

from __future__ import annotations

import math
import numbers
from typing import Any


def plain_float(name: str, value: Any) -> float:
    """*value* as a Python float: the border where NumPy and torch scalars become plain.

    execnet, JSON and CSV carry plain Python only; a ``numpy.float64`` that slips through makes a
    worker's tests vanish (see the design notes on pytest-xdist).
    """
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, found {type(value).__name__}: {value!r:.80}")
    return float(value)


def finite_float(what: str, value: Any) -> float:
    """*value* as a Python float; ``ValueError`` where it is not finite."""
    number = plain_float(what, value)
    if not math.isfinite(number):
        raise ValueError(f"{what} is {number}: expected a finite number")
    return number
