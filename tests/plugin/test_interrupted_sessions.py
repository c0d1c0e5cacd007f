"""Sessions that are stopped, killed in part, or lose runs: what they leave, and how they go on."""

import os
import shlex
import signal
import subprocess
import sys

import pytest
from projects import OWN, Project, set_environment
from waiting import LIMIT, group_exists, wait_until

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


def begun(project, *args):
    """pytest in a session of its own; see :func:`screen` for what it prints."""
    command = [sys.executable, "-m", "pytest", *OWN, "-m", "quick", *args]
    with open(project.path / "out.txt", "w") as out:
        return subprocess.Popen(
            command, cwd=project.path, start_new_session=True, stdout=out, stderr=out
        )


def started(project, *args):
    """The same, when it has nothing but endless runs to do."""
    process = begun(project, *args)
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
    assert process.wait(LIMIT) == 128 + number
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


#: The session is through with the first Ctrl-C when it has written a file named "interrupted", and
#: writes its report when there is one named "again".
BETWEEN = """
import os, time

def pytest_keyboard_interrupt(excinfo):
    open("interrupted", "w").close()
    while not os.path.exists("again"):
        time.sleep(0.01)
"""
#: A process of the pool gets no further than this.
STARTING = """
import sys, time

if "--multiprocessing-fork" in sys.orig_argv:
    open("starting", "w").close()
    time.sleep(300)
"""


@POSIX
def test_ctrl_c_twice_still_writes_the_report_and_shows_no_traceback(project, monkeypatch):
    endless(project)
    project.write_conftest(BETWEEN)
    (project.path / "sitecustomize.py").write_text(STARTING)
    monkeypatch.setenv("PYTHONPATH", str(project.path), prepend=os.pathsep)
    process = begun(project, "--ablation-jobs=2")
    wait_until((project.path / "starting").exists)
    os.killpg(process.pid, signal.SIGINT)
    wait_until((project.path / "interrupted").exists)
    os.killpg(process.pid, signal.SIGINT)
    (project.path / "again").touch()
    assert process.wait(LIMIT) == pytest.ExitCode.INTERRUPTED
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
    assert process.wait(LIMIT) == 128 + signal.SIGHUP
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
    code = project.path / "softmax.py"
    wait = "time.sleep(0.5)  # the line of seed 0 is on the screen"
    dies = "        os.kill("
    text = code.read_text().replace(dies, f"        {wait}\n{dies}")
    code.write_text(f"import time\n{text}")
    result = project.run("-m", "quick", "-n", "1", "-p", "no:faulthandler")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    died = "seed 1: training began and never ended: the process died (SIGSEGV)"
    assert died in project.report()
    assert "[gw0] node down: Not properly terminated" in result.outlines
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


def test_a_plugin_that_breaks_the_session_is_named(project):
    project.write_study(VARIANTS)
    project.write_conftest("""
def pytest_runtest_logreport(report):
    if report.when == "call":
        raise ValueError("not: this [one]")
""")
    result = project.run("-m", "quick")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    reason = "an internal error: ValueError: not: this \\[one\\]"
    assert f"**Interrupted ({reason})**: all 9 runs are there, " in project.report()
    assert "  python" in "".join(result.outlines).rpartition("To go on, run the same command")[2]


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
    process = begun(project, "--ablation-jobs=2", "--timeout=2", "--timeout-method=thread")
    assert process.wait(LIMIT) == 1
    assert not (project.path / "reports" / "quick" / "report.md").exists()
    wait_until(lambda: not group_exists(process.pid))
    goes_on(project, undisturbed, "--ablation-jobs=2", "--timeout=600", "--timeout-method=thread")


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


COUNTING = """
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
"""


def test_a_run_that_goes_on_from_its_checkpoint_is_told(project, monkeypatch):
    monkeypatch.setenv("ABLATION_DATA", f"{project.path}")
    (project.path / "test_softmax.py").write_text(COUNTING)
    stopped = project.run("-m", "quick", "--ablation-checkpoint=0")
    assert stopped.ret == pytest.ExitCode.INTERRUPTED
    goes_on = "(of these 1 had begun), 1 test did not report. 1 run goes on from its checkpoint"
    assert f"{goes_on}, after epoch 2.\n" in project.report()
    data = shlex.quote(f"--ablation-data={project.path}")
    assert f" {data} " in project.report(), "pasted elsewhere it does too"
    assert project.run("-m", "quick", "--ablation-checkpoint=0").ret == 0
    assert float(project.row("two")["mean"]) == 8.0


def test_a_checkpoint_that_cannot_be_written_is_told_once(project):
    (project.path / "test_softmax.py").write_text(COUNTING)
    folder = project.path / ".ablation" / "checkpoints"
    folder.parent.mkdir()
    folder.write_text("in the way")
    result = project.run("-m", "quick", "--ablation-checkpoint=0")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    told = f"warning: no checkpoint could be written to {folder} (Not a directory): "
    assert sum(line.startswith(told) for line in result.outlines) == 1
    assert project.report().count("no checkpoint could be written to") == 1
    assert "goes on from its checkpoint" not in project.report()
