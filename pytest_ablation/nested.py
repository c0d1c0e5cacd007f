"""Nested values, taken apart into plain JSON values and arrays, and put together again.

What a training loop keeps of itself goes in (numbers, texts, lists, mappings, arrays, tensors) and
comes out as it was, by way of formats that need no pickle. Knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pytest_ablation.digests import as_array, is_array

Path = tuple[Any, ...]  #: the keys and indices that lead to a value

#: Arrays of these kinds need no pickle: truth values, numbers, texts, times.
_KINDS = "biufcSUMm"
_LARGEST_BITS = 1024  # of an integer that JSON carries: Python limits how many digits it reads
_TUPLE, _ITEMS, _INT, _FLOAT = "$tuple", "$items", "$int", "$float"


def taken_apart(value: Any, keep: Callable[[Any, Path], Mapping[str, str]], path: Path = ()) -> Any:
    """*value* as what JSON has, strictly: numbers that it lacks and tuples are marked mappings.

    Parameters
    ----------
    value : None, bool, int, float, str, list, tuple, mapping, NumPy array or scalar, torch tensor
        Nested at will; keys may be of any of these types.
    keep : callable
        Takes an array and its path; returns the mapping that stands in its place, of one name that
        begins with "$".

    Raises
    ------
    TypeError
        Something else; the message says where.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _LARGEST_BITS else {_INT: hex(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_FLOAT: repr(float(value))}
    if isinstance(value, Mapping):
        return _mapping(value, keep, path)
    if isinstance(value, list | tuple):
        members = [taken_apart(v, keep, (*path, i)) for i, v in enumerate(value)]
        return members if isinstance(value, list) else {_TUPLE: members}
    if is_array(value) and (array := as_array(value)).dtype.kind in _KINDS:
        return dict(keep(array, path))
    raise TypeError(
        f"{' / '.join(map(str, path)) or 'the state'} is a {type(value).__name__} "
        f"({value!r:.60}), which a checkpoint cannot hold: give numbers, texts, None, arrays or "
        f"tensors, and lists and mappings of them"
    )


def _mapping(value: Mapping[Any, Any], keep: Callable, path: Path) -> dict[str, Any]:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {str(k): taken_apart(v, keep, (*path, str(k))) for k, v in value.items()}
    return {
        _ITEMS: [[taken_apart(k, keep, path), taken_apart(v, keep, (*path, k))]
                 for k, v in value.items()]
    }  # fmt: skip


def put_together(plain: Any, find: Callable[[str, Any], Any]) -> Any:
    """The inverse of :func:`taken_apart`.

    Parameters
    ----------
    plain : what that returned
    find : callable
        Takes name and content of a mapping that stands for an array; returns the array.

    Raises
    ------
    ValueError, TypeError, or what *find* raises
        *plain* is nothing that :func:`taken_apart` returns.
    """
    if isinstance(plain, list):
        return [put_together(member, find) for member in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) != 1 or not next(iter(plain), "").startswith("$"):
        return {name: put_together(member, find) for name, member in plain.items()}
    [(mark, content)] = plain.items()
    if mark == _TUPLE:
        return tuple(put_together(member, find) for member in content)
    if mark == _ITEMS:
        return {put_together(k, find): put_together(v, find) for k, v in content}
    if mark == _INT:
        return int(content, 16)
    if mark == _FLOAT:
        return float(content)
    return find(mark, content)
