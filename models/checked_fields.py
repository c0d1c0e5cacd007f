"""Checks that a configuration makes of its own fields, each an error that names field and value.

A frozen dataclass takes these from here and calls them when it is made. Knows nothing of torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


class CheckedFields:
    """The base of a configuration: every check raises ``ValueError`` with what is allowed."""

    def _require_choice(
        self, field: str, choices: Sequence[str], *, optional: bool = False
    ) -> None:
        """One of *choices*, or None where that is allowed too."""
        value = getattr(self, field)
        is_choice = isinstance(value, str) and value in choices
        expected = f"one of {', '.join(map(repr, choices))}{' or None' if optional else ''}"
        self._require(field, is_choice or (optional and value is None), expected)

    def _require_count(self, field: str, at_least: int = 1, otherwise: str = "") -> None:
        value = getattr(self, field)
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        self._require(
            field, is_integer and value >= at_least, f"an integer of {at_least} or more{otherwise}"
        )

    def _require_flag(self, field: str) -> None:
        self._require(field, isinstance(getattr(self, field), bool), "True or False")

    def _require_number(
        self, field: str, expected: str, is_allowed: Callable[[float], bool]
    ) -> None:
        value = getattr(self, field)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        self._require(field, is_number and math.isfinite(value) and is_allowed(value), expected)

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(
                f"{type(self).__name__}: {field} must be {expected}, found {getattr(self, field)!r}"
            )
