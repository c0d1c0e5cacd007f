"""The pytest hooks. They delegate: what a session does is in ``session.py``.

Everything beyond the standard library and pytest is imported inside functions, so that test runs
without ablation cases pay next to nothing for the plugin being installed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ablation.options import (
    DATA_OPTION,
    DATA_VARIABLE,
    GATE_OPTION,
    SAVE_REFERENCE_OPTION,
    Options,
    add_options,
    checked_options,
)
from pytest_ablation.selection import asks_for_a_mode, cases_of, is_case, leave_out_full_cases

if TYPE_CHECKING:
    from pytest_ablation.case import Ablation
    from pytest_ablation.finishing import Finished
    from pytest_ablation.going_on import Ending
    from pytest_ablation.session import AblationSession
    from pytest_ablation.share import Worker

_HOOKS_NAME = "ablation-hooks"
_SUMMARISED = (0, 1, 2, 4, 5, 6)  # exit statuses with which pytest prints a summary itself
_DYING_SECONDS = 2.0  # for a worker that has closed its end, and may still be ending
_SESSION_INPUT = "ablation_session"  # how the controller tells its workers the session's id
_INDEX_INPUT = "ablation_index"  # and which of them each one is


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the ``ablation`` group."""
    add_options(parser.getgroup("ablation", "ablation studies"))


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, check the options, and hook in."""
    config.addinivalue_line("markers", "quick: an ablation case with a small budget")
    config.addinivalue_line("markers", "full: an ablation case with the whole budget")
    from pytest_ablation.plan_hooks import PlanHooks

    options = checked_options(config)
    if options.executor == "ray":
        from pytest_ablation.on_ray.cluster import check_command_line

        check_command_line(config, options)
    hooks = PlanHooks(config, options) if options.plan else AblationHooks(config, options)
    config.pluginmanager.register(hooks, _HOOKS_NAME)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing registered or running behind."""
    hooks = config.pluginmanager.unregister(name=_HOOKS_NAME)
    if hooks is not None:
        hooks.close()


@pytest.fixture
def ablation(request: pytest.FixtureRequest) -> Ablation:
    """This case: ``ablation.run()`` trains it, ``ablation.delta(metric)`` compares it."""
    return request.config.pluginmanager.getplugin(_HOOKS_NAME).case(request)


class AblationHooks:
    """The hooks of one process: of pytest itself, of an xdist worker, or of its controller."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self.config = config
        self.is_worker = hasattr(config, "workerinput")
        self.options = options
        self.session: AblationSession | None = None
        self.setup_error = ""
        self.finished: Finished | None = None
        self._expected: dict[str, None] = {}  # node ids that must report, in order
        self._outcomes: dict[str, str] = {}  # node id to "passed", "failed" or "skipped"
        self._reported: set[str] = set()
        self._reason = ""  # what stopped the session, "" as long as nothing has
        self._broken = ""  # the last internal error, "" where there was none
        self._stopping: Any = None
        self._progress: Any = None
        self._progress_thread: Any = None
        self._indices: dict[str, int] = {}  # of the workers that live, by their names
        self._worker = self._place_among_workers() if self.is_worker else None
        if self.is_worker and asks_for_a_mode(config):
            self._take_gpu()  # as early as can be: before test modules, which may start CUDA

    # --- collection ----------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out full cases unless they were asked for: they may cost hours."""
        leave_out_full_cases(self.config, items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Plan the runs of the selected cases; under ``-n``, put long cases first."""
        cases = cases_of(session.items)
        if not cases or self.config.option.collectonly:
            return
        from pytest_ablation.errors import AblationError

        self._take_gpu()
        self._expected = dict.fromkeys(item.nodeid for item in session.items)
        self.session = self._new_session()
        try:
            self.session.collected(cases)
        except AblationError as error:
            if not self.is_worker:
                self.session = None
                raise pytest.UsageError(str(error)) from error
            self.setup_error = str(error)  # a worker's usage error would be lost; its cases say it
        if not self.is_worker:
            self._show_progress()
            self._heed_signals()
        elif not self.setup_error:
            self._put_long_cases_first(session.items)

    def case(self, request: pytest.FixtureRequest) -> Ablation:
        """What the ``ablation`` fixture gives to a test."""
        from pytest_ablation.case import Ablation

        case = getattr(request, "param", None)
        if case is None:
            pytest.fail("the ablation fixture needs a case: decorate the test with @study.cases")
        if self.setup_error:
            pytest.fail(self.setup_error, pytrace=False)
        return Ablation(self.session, case)

    # --- pytest-xdist, on the controller ---------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker which session it belongs to."""
        self.session = self.session or self._new_session()
        node.workerinput[_SESSION_INPUT] = self.session.uid
        free = set(range(len(self._indices) + 1)) - set(self._indices.values())
        self._indices[node.gateway.id] = node.workerinput[_INDEX_INPUT] = min(free)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Note what must report; the controller collects nothing itself."""
        self._expected.update((node_id, None) for node_id in ids if node_id not in self._reported)
        if self._stopping is None and self.session.read_plan() is not None:
            self._heed_signals()
            self._show_progress()
        if self._progress is not None and self._progress_thread is None:
            from pytest_ablation.progress import ProgressThread

            self._progress_thread = ProgressThread(self._progress, self.session.total_runs)

    @pytest.hookimpl(optionalhook=True, wrapper=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> Iterator[None]:
        """Note how a worker died, for the runs that it was training; xdist tells it on a line."""
        self._note_death(node, error)
        return (yield from self._without_progress("", reports=False))

    def _note_death(self, node: Any, error: object | None) -> None:
        self._indices.pop(node.gateway.id, None)  # its GPU is for the worker that comes instead
        process = getattr(getattr(node.gateway, "_io", None), "popen", None)  # none over SSH
        if error is None or process is None or self.session is None:
            return
        from pytest_ablation.stopping import how_it_died

        with contextlib.suppress(subprocess.TimeoutExpired):
            how = how_it_died(process.wait(timeout=_DYING_SECONDS))
            self.session.journal.tell("died", pid=process.pid, how=how)

    # --- while tests run -------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        """Add a case's result to its properties, for JUnit XML.

        Make all of them plain: execnet carries nothing else, and loses tests.
        """
        ablation = getattr(item, "funcargs", {}).get("ablation")
        if call.when == "call" and is_case(item) and ablation is not None:
            item.user_properties += ablation.properties()
        report = yield
        if self.is_worker and self.session is not None:
            report.user_properties = [(str(k), _plain(v)) for k, v in report.user_properties]
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Iterator[None]:
        """Keep progress off the screen while pytest writes."""
        return (yield from self._without_progress(nodeid, reports=False))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Iterator[None]:
        """Note what has reported."""
        if report.when == "call" or report.outcome != "passed":
            self._outcomes[report.nodeid] = report.outcome
        if report.when in ("teardown", "???"):  # its last phase, or xdist's word for a crash
            self._expected.pop(report.nodeid, None)
            self._reported.add(report.nodeid)
        return (yield from self._without_progress(report.nodeid, reports=True))

    # --- the end ---------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)  # pytest's own takes a while, with Ctrl-C pressed again in it
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note what stopped the session: Ctrl-C, a signal, ``-x`` or ``pytest.exit``."""
        self._reason = str(excinfo.value) or "Ctrl-C"
        self._hold_signals()

    @pytest.hookimpl(tryfirst=True)  # the terminal's raises again where nobody reads any more
    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note what broke this process, or a worker: a plugin, a conftest.py, a closed pipe."""
        self._broken = excinfo.exconly()

    @pytest.hookimpl(trylast=True)  # but before the terminal's wrapper prints the summary
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Stop training; in the process that users see, write the reports and set the status."""
        self._hold_signals()
        self.close()
        if self.is_worker or self.config.option.collectonly:
            return
        if self._stopping is not None and self._stopping.status:
            session.exitstatus = self._stopping.status
        if self.session is not None:
            ending = self._ending(session)
            self.finished = self.session.finish(self._outcomes, ending)
            if not ending.reason or exitstatus == pytest.ExitCode.INTERNAL_ERROR:
                self._note_vanished_tests()
        if exitstatus == pytest.ExitCode.OK:
            self._note_lost_cases()
        if self.finished is None:
            return
        if self.finished.is_failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if exitstatus not in _SUMMARISED:
            self.pytest_terminal_summary(self.config.pluginmanager.getplugin("terminalreporter"))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print a table per study and say where the files are."""
        if self.finished is not None and terminalreporter is not None:
            from pytest_ablation.terminal import summary_lines

            for text, markup in summary_lines(self.finished):
                if markup == "title":
                    terminalreporter.write_sep("=", text)
                else:
                    terminalreporter.write_line(text, **({markup: True} if markup else {}))
            if os.environ.get("GITHUB_ACTIONS"):
                from pytest_ablation.gate_text import annotations

                for command in annotations(self.finished.gates):
                    terminalreporter.write_line(command)

    def _heed_signals(self) -> None:
        from pytest_ablation.stopping import Stopping

        self._stopping = Stopping()
        self._stopping.begin()
        self.config.add_cleanup(self._stopping.end)

    def _hold_signals(self) -> None:
        """From here on the reports are written, whatever arrives."""
        if self._stopping is not None:
            from pytest_ablation.stopping import leave_closed_terminal

            self._stopping.finish()
            leave_closed_terminal()

    def _ending(self, session: pytest.Session) -> Ending:
        from pytest_ablation.going_on import ADDOPTS_VARIABLE, Ending, broken_by, command_of

        reason = self._reason or str(session.shouldfail or session.shouldstop or "")
        if not reason and session.exitstatus == pytest.ExitCode.INTERNAL_ERROR:  # not a worker's
            reason = broken_by(self._broken)
        addopts = os.environ.get(ADDOPTS_VARIABLE, "")
        return Ending(
            " ".join(reason.split()).rstrip("."),
            unreported=len(self._expected),
            command=command_of(sys.argv, sys.orig_argv, self._words(), addopts),
            fresh=self.options.fresh,
        )

    def _words(self) -> list[str]:
        """What pytest was given, and as an option what a variable said for this session."""
        data = None if self.config.getoption(DATA_OPTION) else os.environ.get(DATA_VARIABLE)
        return [*([f"{DATA_OPTION}={data}"] if data else []), *self.config.invocation_params.args]

    def close(self) -> None:
        """Stop showing progress and training."""
        if self._progress_thread is not None:
            self._progress_thread.stop()
            self._progress_thread = None
        if self._progress is not None:
            self._progress.clear()
            self._progress = None
        if self.session is not None:
            self.session.close()

    # --- inside ----------------------------------------------------------------------------------

    def _new_session(self) -> AblationSession:
        from pytest_ablation.session import AblationSession

        if not self.is_worker:
            return AblationSession(self.options)
        return AblationSession(self.options, self.config.workerinput[_SESSION_INPUT], self._worker)

    def _place_among_workers(self) -> Worker:
        from pytest_ablation.share import Worker

        given = self.config.workerinput
        return Worker(given[_INDEX_INPUT], given["workercount"])

    def _take_gpu(self) -> None:
        """A worker trains on one GPU, and so does what its training functions call."""
        if self._worker is None:
            return
        from pytest_ablation.share import gpu_of

        gpu = gpu_of(self.options, self._worker)
        if gpu is not None:
            gpu.take()

    def _put_long_cases_first(self, items: list[pytest.Item]) -> None:
        """In the places that cases hold, so that no worker is left with a long one at the end."""
        seconds = self.session.seconds_of_cases()
        places = [place for place, item in enumerate(items) if is_case(item)]
        cases = [items[place] for place in places]
        cases.sort(key=lambda item: -seconds.get(item.nodeid, 0.0))
        for place, item in zip(places, cases, strict=True):
            items[place] = item

    def _show_progress(self) -> None:
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is None:
            return
        from pytest_ablation.progress import Progress

        capture = self.config.pluginmanager.getplugin("capturemanager")
        under_xdist = self.config.pluginmanager.hasplugin("dsession")
        self._progress = Progress(
            self.session.journal, reporter, capture,
            under_xdist=under_xdist, on_cluster=self.options.executor == "ray",
        )  # fmt: skip
        session, progress = self.session, self._progress
        session.runs.tick = lambda: progress.tick(session.total_runs())
        session.runs.pause = progress.pause

    def _without_progress(self, nodeid: str, *, reports: bool) -> Iterator[Any]:
        if self._progress is None:
            return (yield)
        with self._progress.hidden(nodeid, reports=reports):
            return (yield)

    def _note_vanished_tests(self) -> None:
        """Tests that were collected and never reported must not end in a green session."""
        if self._expected and self.finished.results:
            names = "\n".join(f"  {node}" for node in self._expected)
            self.finished.errors.append(
                f"collected but never reported (did a worker die?):\n{names}"
            )

    def _note_lost_cases(self) -> None:
        """A gate that met no case at all, as where the study's file is gone, is no green one."""
        if self.finished is not None and self.finished.results:
            return
        asked = {GATE_OPTION: self.options.gate, SAVE_REFERENCE_OPTION: self.options.save_reference}
        for option in [name for name, value in asked.items() if value is not None]:
            from pytest_ablation.finishing import Finished

            self.finished = self.finished or Finished()
            self.finished.errors.append(f"{option}: no ablation case was collected, select some")


def _plain(value: Any) -> Any:
    """NumPy and torch scalars as Python numbers, anything else that is not plain as text."""
    if value is None or (
        isinstance(value, (bool, int, float, str, bytes)) and (type(value).__module__ == "builtins")
    ):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    if isinstance(value, dict):
        return {str(key): _plain(member) for key, member in value.items()}
    item = getattr(value, "item", None)
    try:
        return _plain(item()) if callable(item) else str(value)
    except (TypeError, ValueError, RecursionError):
        return str(value)
