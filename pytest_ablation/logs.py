"""Reader of older text logs: lines in, the rows of a history out, and every line it cannot read.

Pure but for :func:`read_log`, which opens the file. A line is read only when all of it is
understood; what is not is handed back, because half a line can say something else than the whole.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pytest_ablation.errors import AblationError
from pytest_ablation.log_lines import Figure, Line, clean, is_rule, read_line
from pytest_ablation.tables import HISTORY_COLUMNS

STUDY = "log"  # in the column "study" of what comes from a text log
EXPECTED = (
    "lines such as 'Val loss: 0.41, Acc: 87.50%' or '验证集top1 accuracy为0.65', or a history.csv "
    "with the columns " + ",".join(HISTORY_COLUMNS)
)


class LogError(AblationError):
    """A file from which no curve can be made; says what was found and expected."""


class LogRow(NamedTuple):
    """A row of ``history.csv``. ``value`` is a fraction for accuracies, and may be not finite."""

    study: str
    variant: str
    seed: int
    mode: str
    epoch: int
    split: str
    metric: str
    value: float


class Unread(NamedTuple):
    """A line that was not read, and its number from 1."""

    number: int
    text: str


@dataclass(frozen=True)
class Log:
    """What a file held.

    Attributes
    ----------
    rows : in the order of runs and epochs
    lines : how many lines were read
    unread : the lines that were not; empty ones and rules (``-----``) count as neither
    notes : what was assumed, replaced or left out, in words
    """

    rows: tuple[LogRow, ...]
    lines: int
    unread: tuple[Unread, ...]
    notes: tuple[str, ...] = ()


def read_log(path: Path) -> Log:
    """The rows of a text log, or of a ``history.csv`` of ours.

    UTF-8 (with or without byte order mark), UTF-16 with one, else GB18030, which a note then says.
    The rows of a text log get the study ``log`` and the file's stem as variant.

    Raises
    ------
    LogError
        There is no such file, it is not text, or it has no line that can be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror}); expected {EXPECTED}") from error
    text, notes = _decode(path, data)
    if text.lstrip().partition("\n")[0].strip() == ",".join(HISTORY_COLUMNS):
        log = parse_history(text)
    else:
        log = parse_log(text, variant=path.stem)
    if not log.rows:
        found = f"{len(log.unread)} lines" if log.unread else "nothing"
        first = f", the first is {log.unread[0].text[:60]!r}" if log.unread else ""
        raise LogError(f"{path}: found {found}{first}; expected {EXPECTED}")
    return replace(log, notes=(*notes, *log.notes))


def parse_history(text: str) -> Log:
    """The rows of a ``history.csv`` as the reports have it; rows of another form are not read."""
    rows, unread = [], []
    for number, cells in enumerate(csv.reader(io.StringIO(text.lstrip(), newline="")), start=1):
        if number == 1 or not cells:
            continue
        try:
            study, variant, seed, mode, epoch, split, metric, value = cells
            number_ = float(value.removeprefix("'"))  # -inf is kept with an apostrophe in front
            rows.append(LogRow(study, variant, int(seed), mode, int(epoch), split, metric, number_))
        except ValueError:
            unread.append(Unread(number, ",".join(cells)))
    return Log(tuple(rows), len(rows), tuple(unread))


def parse_log(text: str, variant: str) -> Log:
    """The rows of a text log.

    - A marker (``Epoch 3/200``, ``第3轮``) holds for the lines after it; for those before it where
      the log begins with figures and ends with a marker. Without markers an epoch ends when a
      metric of a split comes again.
    - Within an epoch the last value of a metric holds; epochs counted from 0 are counted from 1.
    - A log whose epochs begin anew holds several runs: they become the seeds 0, 1, 2 ...
    - Accuracies become fractions: those with a percent sign, and those of a split and metric that
      go above 1 somewhere in the file.
    """
    lines, unread = _read_lines(text)
    placed, homeless = _with_epochs(lines)
    unread = sorted([*unread, *homeless])
    numbers = {unread_line.number for unread_line in homeless}
    read = [numbered for numbered in lines if numbered.number not in numbers]
    in_percent = _in_percent(figure for _, figure in placed)
    kept, replaced = _by_run(placed)
    first = min((epoch for _, epoch, _, _ in kept), default=1)
    rows = [
        LogRow(STUDY, variant, run, "", epoch + (first == 0), split, metric,
               figure.value_as(percent=(split, metric) in in_percent))
        for (run, epoch, split, metric), figure in kept.items()
    ]  # fmt: skip
    notes = _notes(read, rows, in_percent, replaced, from_zero=first == 0)
    return Log(tuple(rows), len(read), tuple(unread), tuple(notes))


# --- from lines to rows ---------------------------------------------------------------------------


class _Numbered(NamedTuple):
    number: int
    text: str
    line: Line


def _read_lines(text: str) -> tuple[list[_Numbered], list[Unread]]:
    lines, unread = [], []
    for number, raw in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        shown = clean(raw)
        if is_rule(shown):
            continue
        line = read_line(shown)
        if line is None:
            unread.append(Unread(number, shown))
        else:
            lines.append(_Numbered(number, shown, line))
    return lines, unread


def _with_epochs(lines: Sequence[_Numbered]) -> tuple[list[tuple[int, Figure]], list[Unread]]:
    """Each figure with its epoch; and the lines with figures that belong to no epoch."""
    if not any(entry.line.epoch is not None for entry in lines):
        return _counted(lines), []
    first, last = lines[0].line, lines[-1].line
    trailing = first.epoch is None and last.epoch is not None and not last.figures
    epoch, placed, homeless = None, [], []
    for entry in reversed(lines) if trailing else lines:
        epoch = epoch if entry.line.epoch is None else entry.line.epoch
        if epoch is None:
            homeless.append(Unread(entry.number, entry.text))
        else:
            placed.append([(epoch, figure) for figure in entry.line.figures])
    in_order = reversed(placed) if trailing else placed
    return [pair for of_line in in_order for pair in of_line], homeless


def _counted(lines: Sequence[_Numbered]) -> list[tuple[int, Figure]]:
    """Figures with epochs that are counted: one ends when a metric of a split comes again."""
    epoch, seen, placed = 1, set(), []
    for entry in lines:
        for figure in entry.line.figures:
            if figure.what in seen:
                epoch, seen = epoch + 1, set()
            seen.add(figure.what)
            placed.append((epoch, figure))
    return placed


def _by_run(
    placed: Sequence[tuple[int, Figure]],
) -> tuple[dict[tuple[int, int, str, str], Figure], int]:
    """(run, epoch, split, metric) to figure, and how many figures a later one replaced.

    A run begins where the epochs go back to the first one or before it; where they go back to a
    later one, a run was resumed.
    """
    kept: dict[tuple[int, int, str, str], Figure] = {}
    run, first, last, replaced = 0, None, None, 0
    for epoch, figure in placed:
        if first is not None and epoch < last and epoch <= first:
            run, first = run + 1, epoch
        first = epoch if first is None else first
        last = epoch
        key = (run, epoch, *figure.what)
        replaced += key in kept
        kept[key] = figure
    order = sorted(kept, key=lambda key: key[:2])  # stable: a resumed run goes into its place
    return {key: kept[key] for key in order}, replaced


def _in_percent(figures: Iterable[Figure]) -> set[tuple[str, str]]:
    """The (split, metric) of accuracies without a percent sign that go above 1."""
    return {f.what for f in figures if f.is_accuracy and not f.has_percent_sign and f.number > 1}


def _notes(
    lines: Sequence[_Numbered],
    rows: Sequence[LogRow],
    in_percent: set[tuple[str, str]],
    replaced: int,
    *,
    from_zero: bool,
) -> list[str]:
    notes = []
    runs = len({row.seed for row in rows})
    if runs > 1:
        notes.append(f"the epochs begin anew: taken as {runs} runs, seeds 0 to {runs - 1}")
    if from_zero:
        notes.append("its epochs are counted from 0, here from 1")
    if rows and not any(entry.line.epoch is not None for entry in lines):
        notes.append("no epoch is named: a new one begins when a metric of a split comes again")
    if in_percent:
        names = ", ".join(f"{split} {metric}" for split, metric in sorted(in_percent))
        notes.append(f"goes above 1 without a percent sign, taken as percent: {names}")
    if replaced:
        notes.append(f"{replaced} values were replaced by later ones of the same epoch")
    others = dict.fromkeys(name for entry in lines for name in entry.line.others)
    if others:
        notes.append(f"left out: {', '.join(others)}")
    return notes


def _decode(path: Path, data: bytes) -> tuple[str, list[str]]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "gb18030"]
    problem = None
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            problem = problem or error
            continue
        if "\0" in text:
            break
        return text, [] if encoding == "utf-8-sig" else [f"not UTF-8, read as {encoding.upper()}"]
    where = f" (byte {problem.start})" if problem is not None else ""
    raise LogError(f"{path}: is not text in UTF-8 or GB18030{where}; expected {EXPECTED}")
