"""Older logs beside new results: several files in, one table and one figure out.

It knows rows of a history, not how a line of a log is written, nor the command line.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_ablation.curves import (
    Panel,
    drawn_metric,
    logged_metric,
    series,
    split_name,
    split_words,
    splits_of,
)
from pytest_ablation.drawing import write_curves
from pytest_ablation.errors import AblationError
from pytest_ablation.logs import Log, LogError, LogRow, read_log
from pytest_ablation.tables import HISTORY_COLUMNS, to_csv

_NAME_WIDTH = 26


def collect(paths: Iterable[Path]) -> tuple[dict[Path, Log], list[str]]:
    """The logs by path, their variants told apart by name, and why others could not be read.

    Of two text logs of the same name the second gets its folder's name in front; where names still
    agree, and for the variants of two ``history.csv``, a number stands behind.
    """
    read: dict[Path, Log] = {}
    errors: list[str] = []
    taken: set[tuple[str, str, str]] = set()
    for path in dict.fromkeys(paths):
        try:
            log = read_log(path)
        except LogError as error:
            errors.append(str(error))
            continue
        read[path] = _renamed(log, taken, path.resolve().parent.name)
    return read, errors


def _renamed(log: Log, taken: set[tuple[str, str, str]], folder: str) -> Log:
    """*log* under names that are not in *taken*, to which they are added."""
    names: dict[tuple[str, str, str], str] = {}
    for study, variant, mode in dict.fromkeys((r.study, r.variant, r.mode) for r in log.rows):
        options = [variant, f"{folder}/{variant}"] if study == "log" else [variant]
        options += [f"{variant} ({number})" for number in range(2, len(taken) + 3)]
        names[study, variant, mode] = next(o for o in options if (study, o, mode) not in taken)
    taken |= {(study, name, mode) for (study, _, mode), name in names.items()}
    rows = [row._replace(variant=names[row.study, row.variant, row.mode]) for row in log.rows]
    notes = [f"{variant} is called {name} here, for another file has that name"
             for (_, variant, _), name in names.items() if name != variant]  # fmt: skip
    return Log(tuple(rows), log.lines, log.unread, (*log.notes, *notes))


@dataclass(frozen=True)
class LogCurves:
    """All rows that were read, the metric that is drawn, and a panel per variant."""

    rows: tuple[LogRow, ...]
    metric: str
    panels: tuple[Panel, ...]

    @classmethod
    def of(cls, logs: Mapping[Path, Log], leading: str) -> LogCurves:
        """The curves of *leading*, or of what stands for it (see :func:`curves.drawn_metric`)."""
        rows = tuple(row for log in logs.values() for row in log.rows)
        all_names = {row.metric for row in rows}
        found = any(logged_metric(leading, [name]) for name in all_names)
        metric = leading if found else drawn_metric(leading, all_names) or leading
        groups: dict[tuple[str, str, str], list[LogRow]] = {}
        for row in rows:
            groups.setdefault((row.study, row.variant, row.mode), []).append(row)
        titles = _titles(list(groups))
        panels = [_panel(titles[name], group, metric) for name, group in groups.items()]
        return cls(rows, metric, tuple(panels))

    def table(self) -> list[str]:
        """A line per variant and split: the best mean (of a loss the lowest) and the last one."""
        lines = [
            f"{self.metric}, mean over the seeds",
            f"{'variant':{_NAME_WIDTH}} seeds  epochs  {'split':10}  {'best (epoch)':13}  last",
        ]
        for panel in self.panels:
            lines += self._panel_lines(panel)
        return lines

    def _panel_lines(self, panel: Panel) -> list[str]:
        name = _in_width(panel.title, _NAME_WIDTH)
        if not panel.values:
            return [f"{name} has no {self.metric}"]
        lines = []
        for split in splits_of([panel]):
            by_seed = panel.values[split]
            line = series(by_seed)
            known = [(m, e) for m, e in zip(line.mean, line.epochs, strict=True)
                     if math.isfinite(m)]  # fmt: skip
            value, epoch = self._best(known)
            (word,) = split_words([split])
            best = f"{value:.4f} ({epoch})"
            lines.append(
                f"{name} {len(by_seed):5}  {len(line.epochs):6}  {word:10}  {best:13}  "
                f"{line.mean[-1]:.4f}"
            )
            name = " " * _NAME_WIDTH
        return lines

    def _best(self, known: Sequence[tuple[float, int]]) -> tuple[float, int]:
        """The best value and its first epoch."""
        sign = 1 if "loss" in self.metric else -1
        return min(known, key=lambda pair: (sign * pair[0], pair[1]), default=(math.nan, 0))


def write(curves: LogCurves, folder: Path) -> list[Path]:
    """Write ``history.csv`` and ``figures/curves.png`` into *folder*; returns their paths.

    Raises
    ------
    AblationError
        One of them cannot be written, or the figure not be drawn.
    """
    table, figure = folder / "history.csv", folder / "figures" / "curves.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".history.csv.{os.getpid()}"
        temporary.write_text(_csv(curves.rows), encoding="utf-8", newline="")
        os.replace(temporary, table)
        write_curves(figure, curves.panels, curves.metric, f"{curves.metric} against epoch")
    except OSError as error:
        raise AblationError(
            f"{folder} cannot be written ({error}): choose another folder with --out DIR"
        ) from error
    except Exception as error:  # matplotlib and its fonts fail in more ways than can be listed
        raise AblationError(
            f"the curves could not be drawn ({type(error).__name__}: {error}); their numbers are "
            f"in {table}"
        ) from error
    return [table, figure]


def _csv(rows: Sequence[LogRow]) -> str:
    """The rows as our reports write a history; what is not finite stays visible, as text."""
    import pandas as pd

    readable = [row if math.isfinite(row.value) else row._replace(value=str(row.value))
                for row in rows]  # fmt: skip
    return to_csv(pd.DataFrame(readable, columns=HISTORY_COLUMNS, dtype=object))


def _panel(title: str, rows: Sequence[LogRow], leading: str) -> Panel:
    metric = logged_metric(leading, {row.metric for row in rows})
    values: dict[str, dict[int, dict[int, float]]] = {}
    for row in rows:
        if row.metric == metric:
            of_split = values.setdefault(split_name(row.split), {})
            of_split.setdefault(row.seed, {})[row.epoch] = row.value
    return Panel(title, values)


def _in_width(text: str, width: int) -> str:
    """*text* cut or filled to *width* columns of a terminal; Chinese characters take two."""

    def columns(part: str) -> int:
        return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in part)

    if columns(text) > width:
        while columns(text) > width - 2:
            text = text[:-1]
        text += ".."
    return text + " " * (width - columns(text))


def _titles(names: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """The variant where that tells all apart, else with its study, else with its mode too."""
    for form in ("{1}", "{0} {1}", "{0} {1} ({2})"):
        titles = {name: form.format(*name) for name in names}
        if len(set(titles.values())) == len(names):
            break
    return titles
