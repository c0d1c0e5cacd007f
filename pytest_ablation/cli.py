"""Commands beside pytest: ``python -m pytest_ablation COMMAND``.

Arguments go in; files, a short text and an exit status come out: 0 for done, 1 where a file could
not be read or written or a comparison fails, 2 for a command line that is wrong. It knows no pytest
and trains nothing.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pytest_ablation.configuration import did_you_mean
from pytest_ablation.errors import AblationError

if TYPE_CHECKING:
    from pytest_ablation.gate_results import GateResult
    from pytest_ablation.logs import Log
    from pytest_ablation.reference_types import Reference

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
    _add_compare(commands)
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


# --- compare --------------------------------------------------------------------------------------


def _add_compare(commands: argparse._SubParsersAction) -> None:
    compare = commands.add_parser(
        "compare",
        allow_abbrev=False,
        help="two references or report folders, as the gate compares them",
        description="Compares the runs of NEW with those of OLD, each a reference file or a "
        "report's folder (reports/quick), row by row, by the rules of --ablation-gate. Exit "
        "status 1: a metric got worse by more than its margin, or something could not be compared.",
    )
    compare.add_argument("old", type=Path, metavar="OLD", help="what is compared with")
    compare.add_argument("new", type=Path, metavar="NEW")
    compare.add_argument("--margin", type=_margin, metavar="X",
                         help="the drop that does not matter, 0.005 is half a point [that of each "
                         "study]")  # fmt: skip
    compare.add_argument("--metric", action="append", metavar="NAME", dest="metrics",
                         help="what to compare; may be given several times [the metrics that each "
                         "study's gate compares]")  # fmt: skip
    compare.add_argument("--strict", action="store_true",
                         help="an inconclusive comparison is a failure too")  # fmt: skip
    compare.add_argument("--markdown", type=Path, metavar="FILE",
                         help="write the tables to FILE too, for a comment, say")  # fmt: skip
    compare.set_defaults(run=_compare)


def _margin(text: str) -> float:
    try:
        margin = float(text)
    except ValueError:
        margin = math.nan
    if not 0 <= margin < math.inf:
        raise argparse.ArgumentTypeError(
            f"expected a number from 0 on, such as 0.005, found {text}"
        )
    return margin


def _compare(parsed: argparse.Namespace) -> int:
    from pytest_ablation.gate import compare
    from pytest_ablation.gate_text import comparison_lines, gate_lines
    from pytest_ablation.reference import read_reference

    try:
        new = read_reference(parsed.new)
        old = read_reference(parsed.old, new.mode)
        if unknown := _unknown_metric(new, parsed.metrics or ()):
            _say(f"error: {parsed.new}: {unknown}", file=sys.stderr)
            return 2
        found = compare(
            old,
            new,
            margins=parsed.margin,
            metrics=parsed.metrics,
            strict=parsed.strict,
            path=str(parsed.old),
        )
        if parsed.markdown is not None:  # before anything is said: who reads along may stop reading
            _write_markdown(parsed.markdown, found)
    except AblationError as error:
        _say(f"error: {error}", file=sys.stderr)
        return 1
    told = [line for line, kind in gate_lines([found], may_accept=False) if kind != "title"]
    for line in [*comparison_lines(found), *told]:
        _say(line)
    return 0 if found.ok and found.rows else 1


def _unknown_metric(reference: Reference, asked: Sequence[str]) -> str:
    """What is wrong with the metrics that are asked for; "" where nothing is."""
    known = dict.fromkeys(name for of in reference.studies.values() for name in of.metrics)
    for name in asked:
        if name not in known:
            return f"no study has a metric {name!r}{did_you_mean(name, known)}"
    return ""


def _write_markdown(path: Path, found: GateResult) -> None:
    from pytest_ablation.report_gate import gate_section

    parts = gate_section([found], may_accept=False)
    text = "\n\n".join(part for part in parts if part)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8", newline="")
    except OSError as error:
        raise AblationError(
            f"{path} cannot be written ({error.strerror}): choose another file with --markdown"
        ) from error
