"""Sessions that are stopped, killed in part, or lose runs: what they leave, and how they go on."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from projects import OWN, Project, set_environment
from waiting import group_exists, wait_until

from pytest_ablation.stopping import Stopping, how_it_died

VARIANTS = 'Variant("no_bias", use_bias=False), Variant("heavy", momentum=0.5)'
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
ENDLESS = "losses = []\n        while run.seed == 2 and os.path.exists('endless'): time.sleep(0.05)"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The summary of a session that nothing has stopped."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch)
        project = Project(tmp_path_factory.mktemp("undisturbed"))
        endless(project)
        (project.path / "endless").unlink()
        assert project.run("-m", "quick").ret == 0
        return project.summary_bytes()


def endless(project, variants=VARIANTS):
    """A project the runs of which with seed 2 go on as long as there is a file named endless."""
    project.write_study(variants)
    code = project.path / "softmax.py"
    code.write_text("import time\n" + code.read_text().replace("losses = []", ENDLESS))
    (project.path / "endless").touch()


def started(project, *args, **how):
    """pytest in a session of its own, when it has nothing but endless runs to do."""
    command = [sys.executable, "-m", "pytest", *OWN, "-m", "quick", *args]
    with open(project.path / "out.txt", "w") as out:
        process = subprocess.Popen(
            command, cwd=project.path, start_new_session=True,
            **{"stdout": out, "stderr": out, **how},
        )  # fmt: skip
    wait_until(lambda: len(project.records()) >= 2 or process.poll() is not None)
    assert process.poll() is None, screen(project)
    return process


def screen(project):
    return (project.path / "out.txt").read_text()


def goes_on(project, summary, *args):
    """The same command, when the runs may end, gives the result of an undisturbed session."""
    (project.path / "endless").unlink()
    kept = len(project.records())
    result = project.run("-m", "quick", *args, jobs=None)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"9 runs: {9 - kept} trained, {kept} reused"])
    assert project.summary_bytes() == summary
    assert "interrupted" not in project.report().lower()


@POSIX
@pytest.mark.parametrize(
    ("workers", "name", "to_all"),
    [
        (["--ablation-jobs=1"], "SIGTERM", False),  # Docker
        (["-n", "2"], "SIGTERM", True),  # systemd, Slurm
    ],
)
def test_a_stopped_session_says_what_is_missing_and_goes_on(
    project, undisturbed, workers, name, to_all
):
    endless(project)
    process = started(project, *workers)
    number = getattr(signal, name)
    os.killpg(process.pid, number) if to_all else process.send_signal(number)
    assert process.wait(30) == 128 + number
    wait_until(lambda: not group_exists(process.pid))
    kept = len(project.records())
    assert "# Ablation report: quick (interrupted)\n" in project.report()
    counts = f"{kept} of 9 runs are there, {9 - kept} are missing"
    assert f"**Interrupted (stopped by {name})**: {counts}" in project.report()
    command = shlex.join([sys.executable, "-m", "pytest", *OWN, "-m", "quick", *workers])
    assert f"```sh\n{command}\n```" in project.report()
    assert f"  {command}\n" in screen(project)
    said = " ".join(screen(project).split())
    assert f"Interrupted (stopped by {name}): {counts}" in said
    assert "never reported" not in said
    statuses = {row["variant"]: row["status"] for row in project.rows()}
    assert "missing" in statuses.values()
    assert set(statuses.values()) <= {"missing", "ok"}
    assert not list((project.path / ".ablation" / "sessions").iterdir())
    goes_on(project, undisturbed, *workers)


@POSIX
def test_ctrl_c_twice_still_writes_the_report(project):
    endless(project)
    process = started(project, "--ablation-jobs=2")
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    assert process.wait(30) == pytest.ExitCode.INTERRUPTED
    assert "Interrupted (Ctrl-C)" in project.report()
    assert "Ctrl-C once more" in screen(project)
    assert "Traceback" not in screen(project)
    wait_until(lambda: not group_exists(process.pid))


@POSIX
def test_a_closed_terminal_ends_the_session_with_its_report(project):
    pty = pytest.importorskip("pty")
    endless(project)
    parent, child = pty.openpty()
    lead = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", lead, "-m", "pytest", *OWN, "-m", "quick", "--ablation-jobs=2"],
        cwd=project.path, start_new_session=True, stdin=child, stdout=child, stderr=child,
        env={**os.environ, "TERM": "dumb"},  # so little that the terminal holds it unread
    )  # fmt: skip
    os.close(child)
    wait_until(lambda: len(project.records()) >= 2)
    os.close(parent)  # the system sends SIGHUP, and each write fails from now on
    assert process.wait(30) == 128 + signal.SIGHUP
    assert "Interrupted (stopped by SIGHUP)" in project.report()
    wait_until(lambda: not group_exists(process.pid))


def test_a_run_that_kills_its_process_is_tried_twice_and_then_failed_with_words(project):
    """It is the shared baseline's, so that every case asks for it again."""
    project.write_study(VARIANTS + ', Variant("slow", learning_rate=0.01)')
    (project.path / "deadly.py").write_text("""
import ctypes, softmax

def train(config, run):
    if config == softmax.BASELINE and run.seed == 1:
        with open("deaths.txt", "a") as file:
            file.write("died\\n")
        ctypes.string_at(0)  # a segmentation fault
    return softmax.train(config, run)
""")
    study = project.path / "test_softmax.py"
    imports = "from softmax import BASELINE\nfrom deadly import train"
    study.write_text(study.read_text().replace("from softmax import BASELINE, train", imports))
    result = project.run("-m", "quick", "-n", "2", "-p", "no:faulthandler")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len((project.path / "deaths.txt").read_text().splitlines()) == 2
    assert {row["status"] for row in project.rows()} == {"failed"}
    assert "began 2 times in this session and never ended" in project.report()
    assert "**1 of 12 runs failed**: softmax baseline seed 1." in project.report()
    result.stdout.no_fnmatch_line("*never reported*")  # those that died have


@POSIX
def test_how_a_worker_died_is_in_the_report(project):
    project.write_study('Variant("deadly", do_die="SIGSEGV")')
    result = project.run("-m", "quick", "-n", "1", "-p", "no:faulthandler")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    died = "seed 1: its training began and never ended: its process died (SIGSEGV)"
    assert died in project.report()
    result.stdout.fnmatch_lines([
        "Incomplete: 1 of 6 runs is there, 5 are missing (of these 1 had begun).",
        "To go on, run the same command again (finished runs are reused):",
        "  python -m pytest *-m quick -n 1 -p no:faulthandler",
    ])  # fmt: skip


@pytest.mark.parametrize("workers", [["--ablation-jobs=1"], ["-n", "1"]])
def test_an_exit_with_status_0_in_the_middle_is_no_success(project, workers):
    project.write_study(VARIANTS)
    (project.path / "test_a.py").write_text(
        'import pytest\n\ndef test_exit():\n    pytest.exit("enough is enough.", returncode=0)\n'
    )
    result = project.run("-m", "quick or not full", "test_a.py", "test_softmax.py", *workers)
    assert result.ret != 0
    assert "# Ablation report: quick (interrupted)" in project.report()
    if "-n" not in workers:
        assert "**Interrupted (enough is enough)**: 0 of 9 runs" in project.report()


def test_a_gate_over_half_a_session_is_red_and_saves_no_reference(project):
    """All runs are there, from an earlier session: only the cases have not reported."""
    project.write_study(VARIANTS)
    assert project.run("-m", "quick", "--ablation-save-reference").ret == 0
    reference = project.path / "reports" / "reference" / "quick.json"
    before = reference.read_bytes()
    stop = "import pytest\n\ndef test_stop():\n    pytest.exit('no more', returncode=0)\n"
    (project.path / "test_a.py").write_text(stop)
    files = ["-m", "quick or not full", "test_a.py", "test_softmax.py"]
    result = project.run(
        *files, "--ablation-gate", "--ablation-save-reference", "--ablation-strict"
    )
    assert result.ret != 0
    assert (
        "Interrupted (no more)**: all 9 runs are there, 3 tests did not report" in project.report()
    )
    assert "the session was interrupted before it was through" in project.report()
    assert reference.read_bytes() == before
    said = " ".join(result.outlines)
    assert "quick.json was not written, for the session was interrupted" in said
    assert "gate: passed" not in said.lower()


def test_a_time_limit_that_ends_the_process_costs_only_the_report(project, undisturbed):
    """pytest-timeout's thread method leaves by os._exit, where no hook runs."""
    pytest.importorskip("pytest_timeout")
    endless(project)
    limit = ["--timeout=3", "--timeout-method=thread"]
    process = started(project, "--ablation-jobs=2", *limit)
    assert process.wait(30) == 1
    assert not (project.path / "reports" / "quick" / "report.md").exists()
    wait_until(lambda: not group_exists(process.pid))
    goes_on(project, undisturbed, "--ablation-jobs=2", "--timeout=60", "--timeout-method=thread")


def test_rows_that_wait_for_a_grids_best_cell_are_told(project):
    (project.path / "test_softmax.py").write_text("""
from pytest_ablation import Mode, Study, Variant
from softmax import BASELINE, train

modes = dict(quick=Mode(seeds=1, epochs=1), full=Mode(seeds=1, epochs=1))
grid = Study.grid("grid", train=train, baseline=BASELINE, axes={"momentum": [0.0, 0.5]},
                  metrics=["top1", "validation_top1"], select="validation_top1", **modes)
study = Study("after", train=train, baseline=BASELINE, metrics=["top1"],
              variants=[Variant("no_bias", use_bias=False)],
              quick=Mode(seeds=1, epochs=1, config=grid.best()), full=Mode(seeds=1, epochs=1))

def test_stop():
    raise KeyboardInterrupt

@study.cases
def test_after(ablation):
    ablation.run()
""")
    result = project.run("-m", "quick or not full")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    said = " ".join(result.outlines)
    assert "0 of 2 runs are there, 2 are missing" in said
    assert "The rows of after hang on a grid's best cell, not known yet." in said


def test_a_run_that_goes_on_from_its_checkpoint_is_told(project, monkeypatch):
    monkeypatch.setenv("ABLATION_DATA", f"{project.path}")
    (project.path / "test_softmax.py").write_text("""
import os
from pytest_ablation import Mode, Study, Variant

def train(config, run):
    saved = run.resume()
    total = saved.state["total"] if saved else 0.0
    for epoch in range(saved.epoch + 1 if saved else 1, run.mode.epochs + 1):
        total += config["step"] * run.seed
        run.log(epoch, "train", loss=total)
        run.checkpoint(epoch, lambda: {"total": total})
        if epoch == 2 and not saved and config["step"] == 2:
            raise KeyboardInterrupt
    return {"top1": total}

study = Study("counting", train=train, baseline={"step": 1}, metrics=["top1"],
              variants=[Variant("two", step=2)], quick=Mode(seeds=[1], epochs=4),
              full=Mode(seeds=[1], epochs=4))

@study.cases
def test_counting(ablation):
    ablation.run()
""")
    stopped = project.run("-m", "quick", "--ablation-checkpoint=0")
    assert stopped.ret == pytest.ExitCode.INTERRUPTED
    goes_on = "(of these 1 had begun), 1 test did not report. 1 of them goes on from its checkpoint"
    assert f"{goes_on}, after epoch 2.\n" in project.report()
    assert f" --ablation-data={project.path} " in project.report(), "pasted elsewhere it does too"
    assert project.run("-m", "quick", "--ablation-checkpoint=0").ret == 0
    assert float(project.row("two")["mean"]) == 8.0


# --- signals, in this process -------------------------------------------------------------------


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
