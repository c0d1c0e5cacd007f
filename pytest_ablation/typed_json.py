"""Values of JSON as the types of dataclasses say: a text from a file becomes data, or an error.

A type and a plain value go in, the value as that type comes out. What is something else is a
``ValueError`` that names the place. Knows no record; nothing of it is guessed or converted, but for
lists that become tuples and objects that become dataclasses or named tuples.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

_NOT_FINITE = ("inf", "-inf", "nan")  # as JSON, which has no such numbers (RFC 8259), is given them
_LARGEST = 2**128  # seeds may be that large; nothing else comes near


def as_type(hint: Any, value: Any, place: str) -> Any:
    """*value* as the type *hint*, of those that the fields of a record have.

    Parameters
    ----------
    hint : ``Any``, str, int, float, ``X | None``, ``tuple[X, ...]``, ``Mapping[str, X]``, a
        dataclass or a named tuple of such
    value : plain values, as ``json.loads`` gives them
    place : where it stands, for the error

    Raises
    ------
    ValueError
    """
    if _is_already(hint, value):
        return value
    if isinstance(hint, types.UnionType):
        return None if value is None else _first_that_fits(hint, value, place)
    if hint is str or hint is int or hint is float:
        return _plain(hint, value, place)
    origin, arguments = _parts(hint)
    if origin is tuple:
        listed = _expect((list, tuple), "a list", value, place)
        kind = arguments[0]
        return tuple(
            member if _is_already(kind, member) else as_type(kind, member, f"{place}[{i}]")
            for i, member in enumerate(listed)
        )
    if origin is Mapping:
        found = _expect(dict, "an object", value, place)
        kind = arguments[1]
        if kind is Any:
            return dict(found)
        return {
            name: member
            if _is_already(kind, member)
            else as_type(kind, member, f"{place}.{name:.60}")
            for name, member in found.items()
        }
    return _object(hint, value, place)


def _is_already(hint: Any, value: Any) -> bool:
    """Whether there is nothing more to check, as of most of the thousand values of a record."""
    return hint is Any or (type(value) is hint and (hint is not int or abs(value) < _LARGEST))


@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(hint), typing.get_args(hint)


@functools.cache
def _arms(hint: Any) -> tuple[Any, ...]:
    return tuple(arm for arm in hint.__args__ if arm is not types.NoneType)


def _first_that_fits(hint: Any, value: Any, place: str) -> Any:
    """A union may have several arms, as in ``str | int | None``."""
    arms = _arms(hint)
    if len(arms) == 1:
        return as_type(arms[0], value, place)
    for arm in arms:
        try:
            return as_type(arm, value, place)
        except ValueError:
            continue
    raise ValueError(f"{place} is {value!r:.60}: expected one of {hint}")


def _object(kind: Any, value: Any, place: str) -> Any:
    """A dataclass or a named tuple; members that it does not know are an error."""
    found = _expect(dict, "an object", value, place)
    hints, required = _fields(kind)
    for name in found:
        if name not in hints:
            raise ValueError(f"{place}.{name:.60} is not known here")
    for name in required:
        if name not in found:
            raise ValueError(f"{place}.{name} is missing")
    is_tuple = not dataclasses.is_dataclass(kind)
    values = {}
    for name, member in found.items():
        is_word = is_tuple and isinstance(member, str) and member in _NOT_FINITE
        if is_word and hints[name] is float:
            values[name] = float(member)
        elif _is_already(hints[name], member):
            values[name] = member
        else:
            values[name] = as_type(hints[name], member, f"{place}.{name}")
    return kind(**values)


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], list[str]]:
    """The types of the fields, and the names of those without a default."""
    hints = typing.get_type_hints(kind)
    if not dataclasses.is_dataclass(kind):
        return hints, [name for name in kind._fields if name not in kind._field_defaults]
    missing = dataclasses.MISSING
    without = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is missing and f.default_factory is missing
    ]
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}, without


def _plain(kind: type, value: Any, place: str) -> Any:
    accepted = {str: str, int: int, float: (int, float)}[kind]
    words = {str: "a text", int: "an integer", float: "a number"}[kind]
    found = _expect(accepted, words, value, place)
    if isinstance(found, bool):
        raise ValueError(f"{place} is {value}: expected {words}")
    if isinstance(found, int) and abs(found) >= _LARGEST:
        raise ValueError(
            f"{place} is a number of {len(str(abs(found)))} digits, which is too large"
        )
    return found


def _expect(kind: Any, words: str, value: Any, place: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{place} is {_shown(value)}: expected {words}")
    return value


def _shown(value: Any) -> str:
    """A value in a few words; its own text may have millions of characters."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return f"{value!r:.60}"
