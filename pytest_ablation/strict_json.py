"""JSON from outside, believed only where it is what was expected.

Text goes in; values come out that know where they stand, and that are asked for as what they should
be. What is something else is a ``ValueError`` that names the place. Knows nothing of references.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

_DEEPEST = 40  #: levels of lists and objects; far more than any configuration has


@dataclass(frozen=True)
class Value:
    """A value and its place, such as ``studies / parts / margins``.

    All methods raise ``ValueError``, with the place, for a value that is not what was asked for.
    """

    content: Any
    place: str = ""

    def members(self, *names: str) -> tuple[Value, ...]:
        """The members of an object that has exactly these names, in this order."""
        found = self._of(dict, "an object")
        for name in names:
            if name not in found:
                self.refuse(f"it has no {name!r}")
        for name in found:
            if name not in names:
                self.refuse(f"{name!r:.60} is not known here; expected {', '.join(names)}")
        return tuple(self._at(name, found[name]) for name in names)

    def items(self) -> Iterator[tuple[str, Value]]:
        """The members of an object of any names."""
        for name, member in self._of(dict, "an object").items():
            yield name, self._at(name, member)

    def elements(self) -> list[Value]:
        """The elements of a list."""
        listed = self._of(list, "a list")
        return [self._at(str(index), element) for index, element in enumerate(listed)]

    def text(self) -> str:
        return self._of(str, "a text")

    def text_or_none(self) -> str | None:
        return None if self.content is None else self.text()

    def truth_or_none(self) -> bool | None:
        if self.content is not None and not isinstance(self.content, bool):
            self.refuse(f"expected true, false or null, found {self.content!r:.60}")
        return self.content

    def one_of(self, words: Sequence[str]) -> str:
        if self.text() not in words:
            self.refuse(f"expected one of {', '.join(words)}, found {self.content!r:.60}")
        return self.content

    def whole(self) -> int:
        """An integer of 0 or more; true and false are none."""
        if not isinstance(self.content, int) or isinstance(self.content, bool) or self.content < 0:
            self.refuse(f"expected an integer of 0 or more, found {self.content!r:.60}")
        return self.content

    def number(self) -> float:
        """A finite number; true and false are none."""
        if not isinstance(self.content, (int, float)) or isinstance(self.content, bool):
            self.refuse(f"expected a number, found {self.content!r:.60}")
        try:
            number = float(self.content)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.refuse("expected a finite number, found one that is too large")
        return number

    def refuse(self, problem: str) -> NoReturn:
        raise ValueError(f"{self.place or 'the file'}: {problem}")

    def _of(self, kind: type, words: str) -> Any:
        if not isinstance(self.content, kind):
            self.refuse(f"expected {words}, found {self.content!r:.60}")
        return self.content

    def _at(self, name: str, content: Any) -> Value:
        return Value(content, f"{self.place} / {name:.80}" if self.place else f"{name:.80}")


def parse(text: str, *, not_finite: bool = False) -> Value:
    """The value of a JSON text (RFC 8259).

    Parameters
    ----------
    text : str
    not_finite : whether NaN and Infinity, as Python writes them, are let through

    Raises
    ------
    ValueError
        It is none; or what JSON readers disagree about: a name that stands twice in an object, NaN
        or Infinity, a number that is too large for a float, lists in lists without end.
    """
    try:
        content = json.loads(
            text,
            object_pairs_hook=_without_repetition,
            parse_constant=None if not_finite else _no_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError(f"its lists and objects are nested more than {_DEEPEST} deep") from None
    most = text.count("[") + text.count("{")  # a bound that is quick to have
    if most > _DEEPEST and _depth_exceeds(content, _DEEPEST):
        raise ValueError(f"its lists and objects are nested more than {_DEEPEST} deep")
    return Value(content)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r:.60} stands twice in one object")
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits:.40} is too large")
    return number


def _depth_exceeds(content: Any, most: int) -> bool:
    if isinstance(content, dict):
        content = list(content.values())
    if not isinstance(content, list):
        return False
    return most == 0 or any(_depth_exceeds(member, most - 1) for member in content)
