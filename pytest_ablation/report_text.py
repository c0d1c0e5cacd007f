"""Small pieces of Markdown and of sentences, shared by the sections of the report.

Values go in, text comes out. Knows nothing of studies or results.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_ablation.statistics import Delta

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")

VERDICT_WORDS = {
    "worse": "**worse**",
    "better": "**better**",
    "no_detectable_change": "no detectable change",
    "inconclusive": "inconclusive",
}


def escape(text: str) -> str:
    """*text* so that Markdown and HTML show it and do nothing else; line breaks become spaces."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def code(name: str) -> str:
    """A name as code, in which Markdown heeds nothing but the backtick, and tables the bar."""
    plain = " ".join(name.split()).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"


def code_list(names: Sequence[str]) -> str:
    """``code`` of each, with commas between."""
    return ", ".join(map(code, names))


def short_list(names: Sequence[str], most: int = 8) -> str:
    """``code_list`` of the first names, and how many more there are."""
    if len(names) <= most + 1:
        return code_list(names)
    return f"{code_list(names[:most])} and {len(names) - most} more"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> str:
    """A Markdown table; *align* has ``l`` or ``r`` per column (default: only the first is left)."""
    align = align or "l" + "r" * (len(header) - 1)
    rule = ["---" if letter == "l" else "--:" for letter in align]
    return "\n".join(table_line(cells) for cells in (header, rule, *rows))


def table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def count(number: int, singular: str, plural: str = "") -> str:
    """``1 variant``, ``2 variants``."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def points(fraction: float) -> str:
    """A change in points, with its sign: 0.031 is ``+3.1``."""
    return f"{100 * fraction:+.1f}"


def interval(low: float, high: float) -> str:
    """``interval +1.0 to +5.2``, in points; an end near 0 still shows on which side of it it is."""
    return f"interval {_end(low)} to {_end(high)}"


def _end(fraction: float) -> str:
    text = points(fraction)
    is_near = float(text) == 0 and abs(fraction) > 1e-6
    return f"{100 * fraction:+.1g}" if is_near else text


def evidence(delta: Delta) -> str:
    """What a difference rests on: its interval and its seeds, or why there is no interval."""
    if not math.isfinite(delta.low):
        return f"{count(delta.n_seeds, 'seed')}, no interval"
    if delta.p_value is None:
        return f"the same at all {delta.n_seeds} seeds, no interval"
    return f"{interval(delta.low, delta.high)}, {delta.n_seeds} seeds"


def span(values: Sequence[float], form: str = "g") -> str:
    """The smallest to the largest value, or the one that all are."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
