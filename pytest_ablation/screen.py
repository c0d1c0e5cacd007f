"""Lines for a terminal: texts from files and from users go in, nothing that moves a cursor out."""

from __future__ import annotations

from typing import TextIO


def say(line: str, file: TextIO | None = None) -> None:
    """Print a line; names of files and variants may hold what moves the cursor of a terminal."""
    print("".join(c if c.isprintable() else "\ufffd" for c in line), file=file)


def short(text: str, most: int = 60) -> str:
    """The text, or its beginning and three dots where it is longer than *most* characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def short_label(text: str, most: int) -> str:
    """A text that begins with the names of a study and a row: the study's gives way first."""
    study, _, rest = text.partition(" ")
    left = most - len(rest) - 1
    if len(text) <= most or not rest:
        return text
    return f"{study[: left - 2]}.. {rest}" if left > 4 else rest
