"""Runs in many processes: the pool, pytest-xdist, and what happens when one of them dies."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projects import OWN
from waiting import LIMIT, group_exists, wait_until

VARIANTS = 'Variant("no_bias", use_bias=False), Variant("heavy", momentum=0.5), ' \
           'Variant("slow", learning_rate=0.01)'  # fmt: skip


@pytest.fixture
def of_one_process(project):
    """A project with three variants, and the bytes of its summary where one process trained all."""
    project.write_study(VARIANTS)
    project.run("-m", "quick").assert_outcomes(passed=3, deselected=3)
    return project, project.summary_bytes()


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    workers=st.sampled_from(["-n1", "-n2", "-n3", "--ablation-jobs=2", "--ablation-jobs=3"]),
    dist=st.sampled_from(["load", "worksteal"]),
)
def test_results_do_not_depend_on_the_number_of_workers(of_one_process, workers, dist):
    project, summary = of_one_process
    options = [workers, f"--dist={dist}"] if workers.startswith("-n") else [workers]
    result = project.run("-m", "quick", "--ablation-fresh", *options, jobs=None)
    assert result.ret == 0
    assert project.summary_bytes() == summary


def count_trainings(project):
    """From here on, each training writes a line; returns a function that reads them."""
    (project.path / "counting.py").write_text("""
import softmax, time

def train(config, run):
    with open("trained.txt", "a") as file:
        file.write(f"{sorted(map(str, config.items()))} {run.seed}\\n")
    time.sleep(0.05)
    return softmax.train(config, run)
""")
    study = project.path / "test_softmax.py"
    imports = "from softmax import BASELINE\nfrom counting import train"
    study.write_text(study.read_text().replace("from softmax import BASELINE, train", imports))
    return lambda: (project.path / "trained.txt").read_text().splitlines()


@pytest.mark.parametrize(
    "options",
    [
        ["--ablation-jobs=1", "--ablation-fresh"],
        ["--ablation-jobs=3"],
        ["-n", "2", "--ablation-fresh"],
        ["-n", "2", "--ablation-jobs=2"],
    ],
)
def test_no_run_is_trained_twice(project, options):
    project.write_study(VARIANTS)
    trained = count_trainings(project)
    result = project.run("-m", "quick", *options, jobs=None)
    result.stdout.fnmatch_lines(["12 runs: 12 trained, 0 reused"])
    assert len(trained()) == len(set(trained())) == 12


def test_a_failing_run_of_a_shared_baseline_is_not_tried_by_every_worker(project):
    project.write_study(VARIANTS.replace(")", ", do_raise=False)"), more="")
    study = project.path / "test_softmax.py"
    study.write_text(study.read_text().replace(
        "baseline=BASELINE", 'baseline={**BASELINE, "do_raise": True}'))  # fmt: skip
    trained = count_trainings(project)
    project.run("-m", "quick", "-n", "2").assert_outcomes(failed=3)
    assert len(trained()) == 12


@pytest.mark.parametrize("workers", [["--ablation-jobs=1"], ["--ablation-jobs=2"], ["-n", "2"]])
def test_a_numpy_scalar_in_a_record_or_a_property_loses_nothing(project, workers):
    project.write_study(
        'Variant("numpy", do_numpy=True, use_bias=False), ' + VARIANTS,
        test="import numpy; ablation.run(); record_property('top1', numpy.float64(0.5))",
    )
    path = project.path / "test_softmax.py"
    path.write_text(path.read_text().replace("(ablation)", "(ablation, record_property)"))
    result = project.run("-m", "quick", *workers, jobs=None)
    result.assert_outcomes(passed=4)
    assert result.ret == 0
    assert project.row("numpy")["status"] == "ok"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
def test_a_worker_that_dies_leaves_a_red_session_and_the_other_rows(project):
    project.write_study(VARIANTS + ', Variant("deadly", do_die="SIGKILL")')
    result = project.run("-m", "quick", "-n", "2")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*worker 'gw*' crashed while running*deadly*"])
    statuses = {row["variant"]: row["status"] for row in project.rows()}
    assert statuses == {"baseline": "ok", "no_bias": "ok", "heavy": "ok", "slow": "ok",
                        "deadly": "missing"}  # fmt: skip
    assert "training began and never ended" in project.report()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
def test_a_pool_process_that_dies_costs_one_run_and_says_how_it_died(project):
    project.write_study(VARIANTS + ', Variant("deadly", do_die="SIGKILL")')
    result = project.run("-m", "quick", jobs=2)
    result.assert_outcomes(passed=3, failed=1, deselected=4)
    died = "*deadly, seed 1: failed: the training process died (SIGKILL: out of memory?): *"
    result.stdout.fnmatch_lines([died])
    rows = [r for r in project.rows("runs") if r["metric"] == "top1"]
    assert [r["seed"] for r in rows if r["status"] == "failed"] == ["1"]
    assert len(project.records()) == 14


@pytest.mark.parametrize("seconds", [0, 1], ids=["first", "last"])
def test_a_test_that_never_reports_turns_the_session_red_and_is_named(project, seconds):
    """A worker that swallows a report, as one does when execnet cannot carry it.

    Where that is the last thing that happens, pytest-xdist alone ends with exit status 0.
    """
    project.write_study('Variant("no_bias", use_bias=False), Variant("slow", learning_rate=0.01)')
    project.write_conftest(f"""
@pytest.hookimpl(tryfirst=True)
def pytest_report_to_serializable(config, report):
    if "slow" in getattr(report, "nodeid", "") and report.when == "call":
        import numpy, time
        time.sleep({seconds})
        report.user_properties = [("x", numpy.float64(1))]
""")
    result = project.run("-m", "quick", "-n", "2")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*collected but never reported*", "*slow-quick*"])
    assert project.row("no_bias")["status"] == "ok"


def test_a_training_function_that_cannot_travel_is_trained_in_place(project):
    project.write_study(VARIANTS)
    path = project.path / "test_softmax.py"
    path.write_text(path.read_text().replace("train=train", "train=lambda c, r: train(c, r)"))
    project.run("-m", "quick", jobs=2).assert_outcomes(passed=3, deselected=3)


@pytest.mark.parametrize("stop", [["-x"], ["--maxfail=1"]])
def test_stopping_at_the_first_failure_still_writes_the_report(project, stop):
    project.write_study('Variant("broken", do_raise=True), ' + VARIANTS)
    result = project.run("-m", "quick", *stop)
    assert result.ret != 0
    assert project.row("broken")["status"] == "failed"
    assert project.row("slow")["status"] == "missing"
    assert "run the same command again" in project.report()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_a_stopped_session_leaves_no_process_and_goes_on_where_it_was(project, stop):
    project.write_study(VARIANTS)
    code = project.path / "softmax.py"
    endless = (
        "signal.signal(signal.SIGTERM, lambda *_: None); losses = []\n"  # it handles that itself
        "        while run.seed == 2 and os.path.exists('endless'): time.sleep(0.1)"
    )
    code.write_text("import time\n" + code.read_text().replace("losses = []", endless))
    project.write_conftest(
        "import pytest_ablation.executors as e; e._GRACE_SECONDS = 0.5  # not 5\n"
    )
    (project.path / "endless").touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *OWN, "-m", "quick", "--ablation-jobs=2"],
        cwd=project.path, start_new_session=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: len(project.records()) >= 2)
    if stop == signal.SIGINT:  # a terminal sends it to the whole group
        os.killpg(process.pid, stop)
        assert process.wait(LIMIT) == pytest.ExitCode.INTERRUPTED
        assert "run the same command again" in project.report()
    else:
        process.send_signal(stop)
        process.wait(LIMIT)
    wait_until(lambda: not group_exists(process.pid))
    kept = len(project.records())
    (project.path / "endless").unlink()
    result = project.run("-m", "quick")
    result.stdout.fnmatch_lines([f"12 runs: {12 - kept} trained, {kept} reused"])


def test_training_gets_its_share_of_the_cores_and_the_users_choice_stands(project, monkeypatch):
    pytest.importorskip("torch")
    from joblib import cpu_count

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "_ABLATION_THREADS"):
        monkeypatch.delenv(name, raising=False)
    project.write_study('Variant("no_bias", use_bias=False)')
    code = project.path / "softmax.py"
    note = "    import torch; run.note('threads', torch.get_num_threads())\n    x, y = points("
    code.write_text(code.read_text().replace("    x, y = points(", note, 1))
    project.run("-m", "quick", "--ablation-seeds=1", jobs=2)
    share = max(1, cpu_count() // 2)
    assert f"- threads: {share}\n" in project.report()
    chosen = 2 if share == 1 else 1
    monkeypatch.setenv("OMP_NUM_THREADS", str(chosen))
    project.run("-m", "quick", "--ablation-seeds=1", "--ablation-fresh", jobs=1)
    assert f"- threads: {chosen}\n" in project.report()


def test_half_a_line_of_a_journal_is_read_when_it_is_whole(tmp_path):
    from pytest_ablation.journal import Journal

    file = tmp_path / "1.jsonl"
    file.write_bytes(b'{"kind": "a"}\n{"kind"')
    journal = Journal(tmp_path)
    assert journal.new_events() == [{"kind": "a"}]
    file.write_bytes(file.read_bytes() + b': "b"}\n')
    assert journal.new_events() == [{"kind": "b"}]


def test_a_training_function_that_the_pool_cannot_import_is_trained_in_place(project):
    """With importlib's import mode a test module has no name that another process could import."""
    project.write_study(VARIANTS)
    code = (project.path / "softmax.py").read_text()
    study = project.path / "test_softmax.py"
    study.write_text(study.read_text().replace("from softmax import BASELINE, train", code))
    result = project.run("-m", "quick", "--import-mode=importlib", jobs=2)
    result.assert_outcomes(passed=3, deselected=3)
