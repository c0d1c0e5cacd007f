"""Commands beside pytest: ``python -m pytest_ablation COMMAND``.

Arguments go in; files, a short text and an exit status come out: 0 for done, 1 where a file could
not be read or written or a comparison fails, 2 for a command line that is wrong. It knows no pytest
and trains nothing.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ablation.configuration import did_you_mean
from pytest_ablation.errors import AblationError
from pytest_ablation.screen import say, short

if TYPE_CHECKING:
    from pytest_ablation.gate_results import GateResult
    from pytest_ablation.logs import Log
    from pytest_ablation.reference_types import Reference

_UNREAD_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    at = words.index("--") if words[:1] == ["runs"] and "--" in words else len(words)
    parsed = _parser().parse_args(words[:at])
    parsed.for_pytest = words[at + 1 :]
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
        description="Reads text logs ('Val loss: 0.41, Acc: 87.50%', '验证集top1 accuracy为0.65') "
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
    _add_runs(commands)
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
            say(line)
    for error in errors:
        say(f"error: {error}", file=sys.stderr)
    if not read:
        print("nothing was read, nothing is written", file=sys.stderr)
    return 1 if errors else 0


def _told(read: Mapping[Path, Log]) -> Iterator[str]:
    """What was read of each file, and what was not."""
    for path, log in read.items():
        yield f"{path}: {_lines(log.lines)} read, {len(log.unread)} not read"
        for line in log.unread[:_UNREAD_SHOWN]:
            yield f"  line {line.number}: {short(line.text)}"
        if len(log.unread) > _UNREAD_SHOWN:
            yield f"  and {_lines(len(log.unread) - _UNREAD_SHOWN)} more"
        yield from (f"  {note}" for note in log.notes)


def _lines(count: int) -> str:
    return f"{count} line{'' if count == 1 else 's'}"


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
            say(f"error: {parsed.new}: {unknown}", file=sys.stderr)
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
        say(f"error: {error}", file=sys.stderr)
        return 1
    told = [line for line, kind in gate_lines([found], may_accept=False) if kind != "title"]
    for line in [*comparison_lines(found), *told]:
        say(line)
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


# --- runs -----------------------------------------------------------------------------------------

_FOR_PYTEST = "options for the pytest that collects the project, after --: -- -m quick"


def _add_runs(commands: argparse._SubParsersAction) -> None:
    runs = commands.add_parser(
        "runs",
        allow_abbrev=False,
        help="the kept runs: list, show, remove, verify",
        description="Looks into a store of finished runs. A run is stale where its code, data or "
        "libraries are no longer those that the project would train with, which is found by "
        "collecting it.",
    )
    actions = runs.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = _add_action(actions, "list", _list_runs, "one line per run, and how much there is")
    listed.add_argument("--json", action="store_true", help="all of it as JSON, with whole keys")
    listed.add_argument("--stale", action="store_true", help="only stale runs")
    shown = _add_action(actions, "show", _show_run, "all that is known of one run")
    shown.add_argument("key", metavar="KEY", help="the beginning of its key")
    for action in (listed, shown):
        action.add_argument("--no-collect", action="store_false", dest="collect",
                            help="do not collect the project: no states")  # fmt: skip
    removed = _add_action(actions, "remove", _remove_runs, "remove runs, checkpoints, damaged ones")
    removed.add_argument("keys", nargs="*", metavar="KEY", help="the beginning of a run's key")
    for word, text in (
        ("stale", "stale runs, and checkpoints of such"),
        ("damaged", "damaged runs, and those that were set aside"),
        ("checkpoints", "the states that unfinished runs would go on from"),
        ("all", "all runs, checkpoints and damaged ones; caches stay"),
    ):
        removed.add_argument(f"--{word}", action="append_const", const=word, dest="wanted",
                             help=text)  # fmt: skip
    removed.add_argument("--yes", action="store_true", help="do not ask")
    verified = _add_action(actions, "verify", _verify_runs, "read every file of every run")
    verified.add_argument("--set-aside", action="store_true",
                          help="move damaged runs to the store's folder damaged/")  # fmt: skip


def _add_action(
    actions: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    action = actions.add_parser(name, allow_abbrev=False, help=text, epilog=_FOR_PYTEST)
    action.add_argument("--store", type=Path, default=Path(".ablation"), metavar="DIR",
                        help="where runs are kept [.ablation]")  # fmt: skip
    action.set_defaults(run=lambda parsed: _with_errors(run, parsed))
    return action


def _with_errors(run: Callable[[argparse.Namespace], int], parsed: argparse.Namespace) -> int:
    try:
        return run(parsed)
    except (AblationError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # __main__ knows what to do
            raise
        say(f"error: {error}", file=sys.stderr)
        return 1


def _list_runs(parsed: argparse.Namespace) -> int:
    from pytest_ablation.runs_command import list_runs

    if parsed.stale and not parsed.collect:
        say("error: which runs are stale is found by collecting: give one of --stale and "
            "--no-collect", file=sys.stderr)  # fmt: skip
        return 2
    wishes = {"as_json": parsed.json, "stale": parsed.stale, "collect": parsed.collect}
    return list_runs(parsed.store, parsed.for_pytest, **wishes)


def _show_run(parsed: argparse.Namespace) -> int:
    from pytest_ablation.runs_command import show

    return show(parsed.store, parsed.key, parsed.for_pytest, collect=parsed.collect)


def _remove_runs(parsed: argparse.Namespace) -> int:
    from pytest_ablation.runs_command import remove

    wanted = frozenset(parsed.wanted or ())
    if not wanted and not parsed.keys:
        say("error: name runs by the beginnings of their keys, or give --stale, --damaged, "
            "--checkpoints or --all", file=sys.stderr)  # fmt: skip
        return 2
    return remove(parsed.store, parsed.keys, parsed.for_pytest, wanted, parsed.yes)


def _verify_runs(parsed: argparse.Namespace) -> int:
    from pytest_ablation.runs_command import verify

    return verify(parsed.store, set_aside=parsed.set_aside)
