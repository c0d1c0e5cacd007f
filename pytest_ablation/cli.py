"""Commands beside pytest: ``python -m pytest_ablation COMMAND``.

Arguments go in; files, a short text and an exit status come out: 0 for done, 1 where a file could
not be read or written, 2 for a command line that is wrong. It knows no pytest and trains nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pytest_ablation.errors import AblationError

if TYPE_CHECKING:
    from pytest_ablation.logs import Log

_UNREAD_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a log may say what a terminal's encoding cannot
        stream.reconfigure(errors="backslashreplace")
    return parsed.run(parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytest_ablation", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    curves = commands.add_parser(
        "curves",
        allow_abbrev=False,
        help="curves from older text logs and history.csv files",
        description="Reads text logs ('Val loss: 0.41, Acc: 87.50%%', '验证集top1 accuracy为0.65') "
        "and history.csv files, and writes them as one table (DIR/history.csv) and one figure "
        "(DIR/figures/curves.png). Lines that it cannot read are counted and shown.",
    )
    curves.add_argument("logs", nargs="+", type=Path, metavar="LOG")
    curves.add_argument("--out", type=Path, default=Path("reports", "curves"), metavar="DIR",
                        help="where to write [reports/curves]")  # fmt: skip
    curves.add_argument("--metric", default="top1", metavar="NAME",
                        help="what to draw; a log that has no epa_top1 shows its top1 [top1, and "
                        "the loss where no file has it]")  # fmt: skip
    curves.set_defaults(run=_curves)
    return parser


# --- curves ---------------------------------------------------------------------------------------


def _curves(parsed: argparse.Namespace) -> int:
    from pytest_ablation.log_curves import LogCurves, collect, write

    read, errors = collect(parsed.logs)
    if read:
        curves = LogCurves.of(read, parsed.metric)
        written = []
        try:  # before anything is said: who reads along may stop reading
            written = write(curves, parsed.out)
        except AblationError as error:
            errors.append(str(error))
        for line in [*curves.table(), *_told(read), *(f"wrote {path}" for path in written)]:
            _say(line)
    for error in errors:
        _say(f"error: {error}", file=sys.stderr)
    if not read:
        print("nothing was read, nothing is written", file=sys.stderr)
    return 1 if errors else 0


def _told(read: Mapping[Path, Log]) -> Iterator[str]:
    """What was read of each file, and what was not."""
    for path, log in read.items():
        yield f"{path}: {_lines(log.lines)} read, {len(log.unread)} not read"
        for line in log.unread[:_UNREAD_SHOWN]:
            yield f"  line {line.number}: {_short(line.text)}"
        if len(log.unread) > _UNREAD_SHOWN:
            yield f"  and {_lines(len(log.unread) - _UNREAD_SHOWN)} more"
        yield from (f"  {note}" for note in log.notes)


def _lines(count: int) -> str:
    return f"{count} line{'' if count == 1 else 's'}"


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _say(line: str, file: TextIO | None = None) -> None:
    """Print a line; names of files and variants may hold what moves the cursor of a terminal."""
    print("".join(c if c.isprintable() else "\ufffd" for c in line), file=file)
