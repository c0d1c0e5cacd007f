"""Progress on the screen: a bar on a terminal, a line per finished run elsewhere.

Events of the session's journal go in, text goes to pytest's own terminal writer, so that nothing
is torn when pytest writes between. Knows how runs are counted, not how they are trained.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pytest_ablation.journal import Journal
from pytest_ablation.screen import short_label

_BAR_WIDTH = 10
_REDRAW_SECONDS = 0.2
_QUIET_SECONDS = 30.0  # without a terminal: a sign of life at least this often


@dataclass
class _Running:
    label: str  # "study row"
    seed: int
    epochs: int | None
    doing: str = ""  # until the first epoch ends
    epoch: int = 0
    loss: float | None = None

    def __str__(self) -> str:
        text = f"{self.label} seed {self.seed}"
        if not self.epoch:
            return f"{text} {self.doing}".rstrip()
        text += f" epoch {self.epoch}" + (f"/{self.epochs}" if self.epochs else "")
        return text if self.loss is None else f"{text} loss {self.loss:.4g}"

    def within(self, room: int) -> str:
        """The same in *room* characters: the study's name gives way first, then the loss."""
        text = short_label(str(self), room)
        if len(text) > room:
            text = text.partition(" loss ")[0]
        return text[: max(room, 0)]


class Progress:
    """Shows which runs are training and how many are done.

    Parameters
    ----------
    journal : Journal
    reporter : pytest's TerminalReporter
    capture : pytest's capture manager, or None
    under_xdist : whether the tests run in other processes
    on_cluster : whether runs are trained by many machines; then those running and waiting are
        counted, in lines that do not grow with their number
    """

    def __init__(
        self,
        journal: Journal,
        reporter: Any,
        capture: Any | None,
        *,
        under_xdist: bool,
        on_cluster: bool = False,
    ) -> None:
        self._journal = journal
        self._reporter = reporter
        self._capture = capture
        self._under_xdist = under_xdist
        self._on_cluster = on_cluster
        plain = os.environ.get("TERM") == "dumb" or bool(os.environ.get("CI"))
        self._interactive = bool(reporter.isatty) and not plain
        self._total = 0
        self._done: set[str] = set()
        self._running: dict[str, _Running] = {}
        self._bar_shown = False
        self._line_open = False
        self._file_unnamed = False  # pytest's line with the file's name was left behind
        self._last_drawn = self._last_line = time.monotonic()
        self.lock = threading.RLock()

    def tick(self, total: int) -> None:
        """Take in what happened, and show it if it is time to.

        Parameters
        ----------
        total : number of runs that the session needs
        """
        with self.lock:
            self._total = total
            for event in self._journal.new_events():
                self._take(event)
            now = time.monotonic()
            if not self._running:
                return
            if self._interactive and now - self._last_drawn >= _REDRAW_SECONDS:
                self._last_drawn = now
                self._draw_bar()
            elif not self._interactive and now - self._last_line >= _QUIET_SECONDS:
                self._write_line(self._running_text())

    @contextlib.contextmanager
    def hidden(self, nodeid: str, *, reports: bool) -> Iterator[None]:
        """Nothing of ours on the screen, and nobody drawing, while pytest writes about a test.

        Parameters
        ----------
        nodeid : the test that pytest is about to name
        reports : whether it writes the outcome (else it announces the test)
        """
        with self.lock:
            self._leave_screen(nodeid, reports)
            yield

    def clear(self) -> None:
        """Take the bar off the screen for good."""
        with self.lock:
            if self._bar_shown:
                self._write("\r\x1b[2K")
            self._bar_shown = False

    def pause(self) -> None:
        """Nothing more is trained for now: where output is not captured, leave it a clean line."""
        with self.lock:
            if self._captures() or not (self._bar_shown or self._line_open):
                return
            self._write("\r\x1b[2K" if self._bar_shown else "\n")
            self._bar_shown = self._line_open = False
            self._file_unnamed = True

    def _captures(self) -> bool:
        return self._capture is not None and self._capture.is_globally_capturing()

    def _leave_screen(self, nodeid: str, reports: bool) -> None:
        """Leave the cursor where pytest's next write continues in good order.

        On its own, without -q, pytest starts a new line before it names a test, but not before the
        dot of an outcome: there it is made to name the file again. Otherwise it just writes on.
        """
        if not (self._bar_shown or self._line_open or self._file_unnamed):
            return
        reporter = self._reporter
        names_tests = reporter.showfspath and not self._under_xdist
        if self._bar_shown:
            self._write("\r\x1b[2K\x1b[1A" if names_tests else "\r\x1b[2K")
        elif self._line_open and not names_tests:
            self._write("\n")
        if names_tests and reports and not reporter.showlongtestinfo:
            reporter.write_fspath_result(nodeid, "")
        self._bar_shown = self._line_open = self._file_unnamed = False

    def _take(self, event: dict[str, Any]) -> None:
        kind, key = event["kind"], event.get("key", "")
        if kind == "started":
            self._running[key] = _Running(event["label"], event["seed"], event["epochs"])
        elif kind == "epoch" and key in self._running:
            running = self._running[key]
            running.epoch = event["epoch"]
            running.loss = event["loss"] if event["loss"] is not None else running.loss
        elif kind == "doing" and key in self._running:
            self._running[key].doing = event["text"]
        elif kind == "reused":
            self._done.add(key)
        elif kind in ("finished", "failed"):
            self._done.add(key)
            running = self._running.pop(key, None)
            if running is not None and not self._interactive:
                how = f"{event['seconds']:.1f} s" if kind == "finished" else "failed"
                how = "diverged" if event.get("status") == "diverged" else how
                self._write_line(f"{self._in_line(running, len(how) + 2)}, {how}")

    def _running_text(self) -> str:
        """What trains now; of very many, the one that began first."""
        if self._on_cluster:
            return self._in_line(next(iter(self._running.values())))
        return "; ".join(map(str, self._running.values()))

    def _in_line(self, running: _Running, room_for_more: int = 0) -> str:
        if not self._on_cluster:
            return str(running)
        room = self._reporter._tw.fullwidth - 2 - len(self._head())
        return running.within(room - room_for_more)

    def _write_line(self, text: str) -> None:
        """A line that stays open: pytest begins its next one itself."""
        self._last_line = time.monotonic()
        self._write(f"{self._head()} {text}", on_new_line=True)
        self._line_open = True

    def _draw_bar(self) -> None:
        current = list(self._running.values())
        counted = len(current) < 2 or self._on_cluster
        more = "" if counted else f" (+{len(current) - 1} more)"
        done = int(_BAR_WIDTH * len(self._done) / self._total) if self._total else 0
        head = f"{self._head()} [{'#' * done}{'.' * (_BAR_WIDTH - done)}] "
        room = self._reporter._tw.fullwidth - 1 - len(head) - len(more)
        text = f"{head}{current[0].within(room)}{more}"
        self._write(f"\r\x1b[2K{text}", on_new_line=not self._bar_shown)
        self._bar_shown = True

    def _head(self) -> str:
        head = f"ablation {len(self._done)}/{self._total}"
        if not self._on_cluster:
            return head
        waiting = max(0, self._total - len(self._done) - len(self._running))
        return f"{head}, {len(self._running)} running, {waiting} waiting"

    def _write(self, text: str, *, on_new_line: bool = False) -> None:
        suspended = (
            self._capture.global_and_fixture_disabled()
            if self._capture is not None
            else contextlib.nullcontext()
        )
        reporter = self._reporter
        with suspended:
            if on_new_line and (self._line_open or reporter._tw.width_of_current_line):
                reporter.write("\n")
                reporter.currentfspath = None  # what ensure_newline does, which skips dots of -n
            # Past pytest's writer: it counts columns, and would count what the bar takes back.
            reporter._tw._file.write(text)
            reporter._tw._file.flush()


class ProgressThread:
    """Ticks from a thread, for the controller of pytest-xdist, which trains nothing itself."""

    def __init__(self, progress: Progress, total: Any) -> None:
        self._progress = progress
        self._total = total
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        with contextlib.suppress(OSError):  # nobody reads: pytest finds out when it writes next
            while not self._stop.wait(_REDRAW_SECONDS):
                self._progress.tick(self._total())
            self._progress.tick(self._total())  # the last runs' lines

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._progress.clear()
