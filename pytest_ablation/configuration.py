"""Configurations: a frozen dataclass or a mapping, read and changed in one way.

A configuration and named changes go in; a new configuration, or its plain values, come out.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from pytest_ablation.digests import digest
from pytest_ablation.errors import StudyError


def field_values(config: Any) -> dict[str, Any]:
    """The fields of a dataclass instance or mapping, in their order, unconverted.

    Raises
    ------
    StudyError
        *config* is neither.
    """
    if isinstance(config, Mapping):
        return dict(config)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    raise StudyError(
        f"a configuration is a dataclass instance or a dict, found {type(config).__name__}: "
        f"{config!r:.80}"
    )


def with_changes(config: Any, changes: Mapping[str, Any]) -> Any:
    """*config* with some fields changed; an int given for a float field becomes a float.

    Raises
    ------
    StudyError
        A field that does not exist (with the nearest names), or values that the configuration's
        own validation refuses.
    """
    old = field_values(config)
    for name in changes:
        if name not in old:
            raise StudyError(f"no field {name!r} in the configuration{did_you_mean(name, old)}")
    new = {name: _as_type_of(old[name], value) for name, value in changes.items()}
    if isinstance(config, Mapping):
        return {**config, **new}
    try:
        return dataclasses.replace(config, **new)
    except (ValueError, TypeError) as error:
        raise StudyError(f"{type(config).__name__} refuses {new}: {error}") from error


def plain_values(config: Any) -> dict[str, Any]:
    """The fields as JSON-ready values: None, bool, int, float, str, lists and dicts.

    Raises
    ------
    StudyError
        A value that no key can be made of (an object, a function, a tensor).
    """
    return {name: _plain(name, value) for name, value in field_values(config).items()}


def changed_fields(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Field to (old value, new value), as plain values, for the fields that differ."""
    before, after = plain_values(old), plain_values(new)
    return {name: (before[name], after[name]) for name in after if before[name] != after[name]}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known names, or all of them."""
    known = sorted(map(str, known))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are: {', '.join(known)}"


def _as_type_of(old: Any, value: Any) -> Any:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if isinstance(old, float) and is_int else value


def _plain(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, (list, tuple)):
        return [_plain(name, member) for member in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(name, member) for key, member in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__qualname__, **plain_values(value)}
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy scalar
        return value.item()
    raise StudyError(
        f"field {name!r} holds a {type(value).__name__}, which cannot be compared or stored: "
        f"use numbers, text, None, or lists and dicts of them"
    )


def plain_budget(budget: Mapping[str, Any]) -> dict[str, Any]:
    """A mode's budget as JSON-ready values; of what has no such form, an array say, a digest."""
    plain = {}
    for name, value in budget.items():
        try:
            plain |= plain_values({name: value})
        except StudyError:
            plain[name] = f"digest {digest(value)}"
    return plain
