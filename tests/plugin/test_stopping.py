"""Signals that stop a session: who heeds them, who gives them back, and the words for deaths."""

import os
import signal
import time

import pytest

from pytest_ablation.stopping import Stopping, how_it_died

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def signals():
    """As they are where nobody handles them; afterwards as they were."""
    numbers = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers[:2]:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def arrives(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # handled by now: a process's signal to itself comes before kill returns


@POSIX
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_interrupts_once_and_is_given_back(signals, name):
    number = getattr(signal, name)
    stopping = Stopping()
    stopping.begin()
    with pytest.raises(KeyboardInterrupt, match=f"stopped by {name}"):
        arrives(number)
    assert stopping.status == 128 + number
    arrives(number)  # the report is being written: heeded already
    arrives(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        arrives(signal.SIGINT)
    stopping.end()
    assert signal.getsignal(number) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


@POSIX
def test_signals_that_somebody_handles_or_ignores_are_left_alone(signals):
    def theirs(number, frame):
        pass

    signal.signal(signal.SIGTERM, theirs)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    stopping = Stopping()
    stopping.begin()
    stopping.finish()
    assert signal.getsignal(signal.SIGTERM) == theirs
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    stopping.end()
    assert signal.getsignal(signal.SIGTERM) == theirs
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


@POSIX
def test_a_handler_that_came_later_stays(signals):
    stopping = Stopping()
    stopping.begin()

    def later(number, frame):
        pass

    signal.signal(signal.SIGTERM, later)
    stopping.finish()
    stopping.end()
    assert signal.getsignal(signal.SIGTERM) == later
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


@POSIX
def test_a_fork_of_training_code_ends_as_it_always_did(signals):
    stopping = Stopping()
    stopping.begin()
    process = os.fork()
    if process == 0:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os._exit(7)
    _, status = os.waitpid(process, 0)
    stopping.end()
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("status", "words"),
    [(3, "exit status 3"), (-11, "SIGSEGV"), (-9, "SIGKILL: out of memory?"), (-40, "signal 40")],
)
def test_how_a_process_died_has_a_name(status, words):
    assert how_it_died(status) == words
