"""How a pytest session is disturbed, and when: real processes, real signals, Linux only.

A command starts in a session of processes of its own; a moment is waited for in what the command
writes into its store and its reports; then a signal is sent. Nothing of the plugin is imported.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from projects import OWN

#: What can happen to a session, and how often it is drawn.
KINDS = {
    "SIGKILL, group": 28,
    "SIGKILL, main": 12,
    "SIGKILL, worker": 20,
    "SIGTERM, main": 12,
    "Ctrl-C": 12,
    "Ctrl-C twice": 8,
    "SIGSTOP, SIGCONT": 8,
}
#: After these a session goes on and ends by itself.
GOES_ON = ("SIGKILL, worker", "SIGSTOP, SIGCONT")
#: When: after some seconds; while a record is written; just after; while reports are written.
TRIGGERS = {"clock": 30, "writing": 42, "kept": 16, "report": 12}
REPORT_FILES = ("runs.csv", "summary.csv", "history.csv", "results.json", "report.md")
_POLL_SECONDS = 0.0004
_TRAINERS = (b"spawn_main", b"exec(eval(sys.stdin.readline()))")  # multiprocessing's, execnet's


@dataclass(frozen=True)
class Disturbance:
    """What happens to a session, and when.

    Attributes
    ----------
    kind : one of ``KINDS``
    trigger : one of ``TRIGGERS``
    share : in [0, 1): of the session's length, of its runs, or of its report's files
    delay : seconds from what was waited for until the signal
    pause : seconds between two signals
    """

    kind: str
    trigger: str
    share: float
    delay: float
    pause: float

    @classmethod
    def drawn(cls, draw: Random, *, has_workers: bool) -> Disturbance:
        kinds = {k: w for k, w in KINDS.items() if has_workers or k != "SIGKILL, worker"}
        return cls(
            kind=_chosen(draw, kinds),
            trigger=_chosen(draw, TRIGGERS),
            share=draw.random(),
            delay=draw.choice([0.0, 0.0, draw.uniform(0, 0.003), draw.uniform(0, 0.03)]),
            pause=draw.uniform(0.02, 0.4),
        )


class DisturbedSession:
    """A pytest session that runs in a folder, until something happens to it."""

    def __init__(self, folder: Path, options: list[str], log: Path) -> None:
        self._runs = folder / ".ablation" / "runs"
        self._report = folder / "reports" / "quick"
        self._sessions = folder / ".ablation" / "sessions"
        self._before = set(self._run_folders())
        self._sessions_before = _names(self._sessions)
        self._report_before = self._report_times()
        self._output = open(log, "wb")  # noqa: SIM115
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *OWN, "-m", "quick", *options],
            cwd=folder, start_new_session=True, stdout=self._output, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    # --- when ------------------------------------------------------------------------------------

    def wait_for(self, disturbance: Disturbance, *, runs: int, seconds: float) -> None:
        """Wait for a moment, or for the session's end.

        Parameters
        ----------
        runs : how many runs it has to train
        seconds : how long such a session takes
        """
        number = int(disturbance.share * runs)  # so many are kept before
        file = REPORT_FILES[int(disturbance.share * len(REPORT_FILES))]
        deadline = self.started + disturbance.share * seconds
        while not self.is_over:
            if disturbance.trigger == "clock":
                reached = time.monotonic() >= deadline
            elif disturbance.trigger == "report":
                reached = self._report_times().get(file) != self._report_before.get(file)
            elif disturbance.trigger == "kept":
                reached = len(self._kept()) > number
            else:
                reached = bool(self._unfinished()) and len(self._kept()) >= number
            if reached:
                time.sleep(disturbance.delay)
                return
            time.sleep(_POLL_SECONDS)

    def phase(self, runs: int) -> str:
        """What the session is doing, as its files show."""
        unfinished, kept = self._unfinished(), len(self._kept())
        if any(name.startswith(".old-") for name in unfinished):
            return "replacing a record"
        if unfinished:
            return "writing a record"
        if self._report_times() != self._report_before or (runs and kept >= runs):
            return "reporting"
        if not kept:
            told = _names(self._sessions) - self._sessions_before
            is_planned = any((self._sessions / name / "plan.json").exists() for name in told)
            return "before the first record" if is_planned else "starting"
        return f"training, {25 * (4 * kept // runs)} % there"

    def _run_folders(self) -> Iterator[tuple[str, int]]:
        """Names and numbers of the folders among the runs: a replaced one has another number."""
        try:
            with os.scandir(self._runs) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):  # no file that only tries the disk
                        yield entry.name, entry.inode()
        except FileNotFoundError:
            return

    def _unfinished(self) -> list[str]:
        new = set(self._run_folders()) - self._before
        return [name for name, _ in new if name.startswith(".")]

    def _kept(self) -> list[str]:
        new = set(self._run_folders()) - self._before
        return [name for name, _ in new if not name.startswith(".")]

    def _report_times(self) -> dict[str, int]:
        times = {}
        for name in REPORT_FILES:
            try:
                times[name] = (self._report / name).stat().st_mtime_ns
            except FileNotFoundError:
                continue
        return times

    # --- what ------------------------------------------------------------------------------------

    def disturb(self, disturbance: Disturbance) -> None:
        """Send the signals; a session that has ended by itself gets none."""
        if self.is_over:
            return
        kind, main = disturbance.kind, self.process.pid
        if kind == "SIGKILL, worker":
            trainers = self.trainers()
            pid = trainers[int(disturbance.share * len(trainers))] if trainers else main
            _send(pid, signal.SIGKILL)
        elif kind == "SIGKILL, main":
            _send(main, signal.SIGKILL)
        elif kind == "SIGTERM, main":
            _send(main, signal.SIGTERM)
        elif kind == "SIGKILL, group":
            _send(-main, signal.SIGKILL)
        else:
            first, second = {
                "Ctrl-C": (signal.SIGINT, None),
                "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
                "SIGSTOP, SIGCONT": (signal.SIGSTOP, signal.SIGCONT),
            }[kind]
            _send(-main, first)
            if second is not None:
                time.sleep(disturbance.pause)
                _send(-main, second)

    def trainers(self) -> list[int]:
        """The processes that train for the main one."""
        commands = self.processes().items()
        return [pid for pid, command in commands if any(word in command for word in _TRAINERS)]

    def processes(self) -> dict[int, bytes]:
        """The living processes of this session, and their command lines."""
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit() and _session_of(int(name)) == self.process.pid:
                try:
                    found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes()
                except OSError:  # it ended just now
                    continue
        return found

    # --- the end ---------------------------------------------------------------------------------

    def wait_for_end(self, limit: float) -> int | None:
        """The exit status, None where the main process did not end by itself in time."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            return None

    def leave_nothing(self, limit: float) -> list[str]:
        """Wait until its last process is gone; those that stay are killed, and told of."""
        deadline = time.monotonic() + limit
        while self.processes() and time.monotonic() < deadline:
            self.process.poll()
            time.sleep(0.005)
        left = self.processes()
        for pid in left:
            _send(pid, signal.SIGKILL)
        self.process.wait()
        self._output.close()
        return [command.replace(b"\0", b" ").decode(errors="replace") for command in left.values()]


def _chosen(draw: Random, weights: dict[str, int]) -> str:
    return draw.choices(list(weights), list(weights.values()))[0]


def _send(pid: int, number: signal.Signals) -> None:
    try:
        if pid < 0:
            os.killpg(-pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        pass


def _session_of(pid: int) -> int:
    """The process's session (proc(5), field 6 of stat); 0 for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[3])


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
