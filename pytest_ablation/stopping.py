"""Signals: those that ask a session to stop, Ctrl-C while reports are written, deaths by one.

Slurm, Docker and systemd send SIGTERM, a terminal that is closed SIGHUP; both end a process at
once. Here they end the session as Ctrl-C does. Knows neither pytest nor runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_WAIT = b"\nthe report is being written (Ctrl-C once more leaves at once)\n"


class Stopping:
    """The handlers of one process, from :meth:`begin` to :meth:`end`.

    A signal that somebody else handles or ignores (``nohup``) is left alone, and so are all where
    this is not the main thread, which alone may handle signals.

    Attributes
    ----------
    status : the exit status that says which signal stopped the session, 0 for none
    """

    def __init__(self) -> None:
        self.status = 0
        self._process = os.getpid()
        self._is_finishing = False
        self._old: dict[int, Any] = {}
        self._ours: dict[int, Any] = {}

    def begin(self) -> None:
        """From now on a signal interrupts the session."""
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and number not in self._old:
                self._take(number, signal.SIG_DFL, self._stop)

    def finish(self) -> None:
        """The session has ended, its reports are not written yet: let nothing interrupt that.

        The first Ctrl-C is answered with a word, the next one is heeded; other signals have been
        heeded already.
        """
        if self._is_finishing:
            return
        self._is_finishing = True
        for number in list(self._ours):
            self._take(number, self._ours[number], self._ignore)
        self._take(signal.SIGINT, signal.default_int_handler, self._wait)

    def end(self) -> None:
        """Give all signals back."""
        for number, old in self._old.items():
            if signal.getsignal(number) == self._ours[number]:
                with contextlib.suppress(ValueError):  # not in the main thread
                    signal.signal(number, old)
        self._old, self._ours = {}, {}

    def _take(self, number: int, expected: Any, handler: Any) -> bool:
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(number) != expected:
            return False
        old = signal.signal(number, handler)
        self._old.setdefault(number, old)
        self._ours[number] = handler
        return True

    def _stop(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a fork of training code: it ends as it always did
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.finish()
        self.status = 128 + number
        name = signal.Signals(number).name
        raise KeyboardInterrupt(f"stopped by {name}")  # pytest.exit's is an Exception, and caught

    def _ignore(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:
            self._stop(number, frame)

    def _wait(self, number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._ours[signal.SIGINT] = signal.default_int_handler
        with contextlib.suppress(OSError):
            os.write(2, _WAIT)


def how_it_died(status: int) -> str:
    """The words for how a process ended, by its exit status: negative where a signal ended it."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):  # a real-time signal has no name
        name = signal.Signals(-status).name
        return f"{name}: out of memory?" if name == "SIGKILL" else name
    return f"signal {-status}"


def leave_closed_terminal() -> None:
    """Let what is printed go nowhere where the terminal is gone: each write to it would fail."""
    try:
        import termios
    except ImportError:  # Windows
        return
    import errno

    for number in (1, 2):
        try:
            termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
