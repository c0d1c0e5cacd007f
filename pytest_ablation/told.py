"""What runs say, told once: equal messages of several seeds become one line.

Names, seeds and messages go in, text comes out. Knows nothing of results or reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def told_once(of: Iterable[tuple[str, int, str]]) -> str:
    """A line for each distinct message, after the rows and seeds that say it.

    Parameters
    ----------
    of : (name of a row, seed, message), in the order in which they are to be told
    """
    by_message: dict[str, dict[str, list[int]]] = {}
    for name, seed, message in of:
        by_message.setdefault(message, {}).setdefault(name, []).append(seed)
    return "\n".join(
        f"{'; '.join(f'{name}, {seeds(numbers)}' for name, numbers in rows.items())}: {message}"
        for message, rows in by_message.items()
    )


def seeds(numbers: Sequence[int]) -> str:
    """``seed 0``, ``seeds 0, 1 and 2``; of none ``no seed``."""
    if not numbers:
        return "no seed"
    return f"seed{'s' * (len(numbers) > 1)} {listed([*map(str, numbers)])}"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
