"""The pytest hooks. They delegate: what a session does is in ``session.py``.

Everything beyond the standard library and pytest is imported inside functions, so that test runs
without ablation cases pay next to nothing for the plugin being installed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ablation.options import (
    GATE_OPTION,
    SAVE_REFERENCE_OPTION,
    add_options,
    checked_options,
)

if TYPE_CHECKING:
    from pytest_ablation.case import Ablation
    from pytest_ablation.finishing import Finished
    from pytest_ablation.session import AblationSession

_MODE_WORD = re.compile(r"\b(quick|full)\b")
_HOOKS_NAME = "ablation-hooks"
_SESSION_INPUT = "ablation_session"  # how the controller tells its workers the session's id


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the ``ablation`` group."""
    add_options(parser.getgroup("ablation", "ablation studies"))


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, check the options, and hook in."""
    config.addinivalue_line("markers", "quick: an ablation case with a small budget")
    config.addinivalue_line("markers", "full: an ablation case with the whole budget")
    config.pluginmanager.register(AblationHooks(config), _HOOKS_NAME)


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

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.is_worker = hasattr(config, "workerinput")
        self.options = checked_options(config)
        self.session: AblationSession | None = None
        self.setup_error = ""
        self.finished: Finished | None = None
        self._expected: dict[str, None] = {}  # node ids that must report, in order
        self._outcomes: dict[str, str] = {}  # node id to "passed", "failed" or "skipped"
        self._progress: Any = None
        self._progress_thread: Any = None

    # --- collection ----------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out full cases unless they were asked for: they may cost hours."""
        option = self.config.option
        if _MODE_WORD.search(f"{option.markexpr} {option.keyword}") or getattr(option, "lf", False):
            return
        named = {self._place_of(argument) for argument in self.config.args}
        unasked, left = [], []
        for item in items:
            is_named = (item.path, item.nodeid.partition("::")[2]) in named
            (unasked if _is_full_case(item) and not is_named else left).append(item)
        if unasked:
            self.config.hook.pytest_deselected(items=unasked)
            items[:] = left

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Plan the runs of the selected cases."""
        cases = [(i.nodeid, i.callspec.params["ablation"]) for i in session.items if _is_case(i)]
        if not cases or self.config.option.collectonly:
            return
        from pytest_ablation.errors import AblationError

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

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Note what must report; the controller collects nothing itself."""
        self._expected.update(dict.fromkeys(ids))
        if self._progress is None and self.session.read_plan() is not None:
            from pytest_ablation.progress import ProgressThread

            self._show_progress()
            self._progress_thread = ProgressThread(self._progress, self.session.total_runs)

    # --- while tests run -------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        """Add a case's result to its properties, for JUnit XML.

        Make all of them plain: execnet carries nothing else, and loses tests.
        """
        ablation = getattr(item, "funcargs", {}).get("ablation")
        if call.when == "call" and _is_case(item) and ablation is not None:
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
        return (yield from self._without_progress(report.nodeid, reports=True))

    # --- the end ---------------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)  # but before the terminal's wrapper prints the summary
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Stop training; in the process that users see, write the reports and set the status."""
        self.close()
        if self.is_worker or self.config.option.collectonly:
            return
        if self.session is not None:
            self.finished = self.session.finish(self._outcomes)
            self._note_vanished_tests()
        if exitstatus == pytest.ExitCode.OK:
            self._note_lost_cases()
        if self.finished is None:
            return
        if self.finished.is_failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if exitstatus == pytest.ExitCode.INTERNAL_ERROR:  # pytest prints no summary then
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

    def _place_of(self, argument: str) -> tuple[Path, str]:
        """The file, and the name in it, that an argument of the command line means."""
        file, _, name = argument.partition("::")
        return Path(os.path.abspath(self.config.invocation_params.dir / file)), name

    def _new_session(self) -> AblationSession:
        from pytest_ablation.session import AblationSession
        from pytest_ablation.share import Worker

        if not self.is_worker:
            return AblationSession(self.options)
        given = self.config.workerinput
        number = re.sub(r"\D", "", given["workerid"]) or "0"  # gw3; --tx can name it otherwise
        worker = Worker(int(number), given["workercount"])
        return AblationSession(self.options, given[_SESSION_INPUT], worker)

    def _show_progress(self) -> None:
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is None:
            return
        from pytest_ablation.progress import Progress

        capture = self.config.pluginmanager.getplugin("capturemanager")
        under_xdist = self.config.pluginmanager.hasplugin("dsession")
        self._progress = Progress(self.session.journal, reporter, capture, under_xdist=under_xdist)
        session, progress = self.session, self._progress
        session.runs.tick = lambda: progress.tick(session.total_runs())
        session.runs.pause = progress.pause

    def _without_progress(self, nodeid: str, *, reports: bool) -> Iterator[Any]:
        if self._progress is None:
            return (yield)
        with self._progress.hidden(nodeid, reports=reports):
            return (yield)

    def _note_vanished_tests(self) -> None:
        """Tests that were collected and never reported must not end in a green session.

        With ``-x`` and ``--maxfail`` some never do, in a session that is red anyway.
        """
        if self._expected and self.finished.results and not self._stopped_early():
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

    def _stopped_early(self) -> bool:
        return bool(self.config.option.maxfail and "failed" in self._outcomes.values())


def _is_case(item: pytest.Item) -> bool:
    study = sys.modules.get("pytest_ablation.study")  # no study, no case
    spec = getattr(item, "callspec", None)
    if study is None or spec is None:
        return False
    return isinstance(spec.params.get("ablation"), study.CaseSpec)


def _is_full_case(item: pytest.Item) -> bool:
    return _is_case(item) and item.callspec.params["ablation"].mode == "full"


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
