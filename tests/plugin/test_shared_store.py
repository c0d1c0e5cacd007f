"""Several pytest sessions at once on one store: each run is trained once, and nobody waits forever.

A session's death, or a long stop, is no other session's end.
"""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from projects import OWN
from waiting import LIMIT, wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")

#: Trains as softmax.py does, and writes down that it does. One run can be told to wait.
COUNTING = """
import os, time
import softmax

def train(config, run):
    with open("trained.txt", "a") as file:
        file.write(f"{config['momentum']} {config['use_bias']} {run.seed} {os.getpid()}\\n")
    time.sleep(0.05)
    at(config, run)
    return softmax.train(config, run)

def at(config, run):
    pass

def wait_until(name):
    while not os.path.exists(name):
        time.sleep(0.02)

def is_first(name):
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
"""
NO_BIAS, HEAVY = 'Variant("no_bias", use_bias=False)', 'Variant("heavy", momentum=0.5)'


@pytest.fixture
def counted(project):
    """A project with two studies, which share two rows: in all 9 runs, each of which is told of."""

    def write(at="", seeds=3):
        (project.path / "counting.py").write_text(COUNTING + at)
        for name, variants in (("a", f"{NO_BIAS}, {HEAVY}"), ("b", NO_BIAS)):
            project.write_study(variants, name=f"test_{name}.py")
            path = project.path / f"test_{name}.py"
            text = path.read_text().replace('"softmax"', f'"{name}"')
            text = text.replace("seeds=3", f"seeds={seeds}").replace(', "top2"', "")
            text = text.replace("import BASELINE, train", "import BASELINE")
            path.write_text("from counting import train\n" + text)
        return project

    return write


class Session:
    """A pytest session in the background, with a report folder of its own."""

    def __init__(self, project, name, *options):
        self.report = project.path / name
        self.log = project.path / f"{name}.txt"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *OWN, "-m", "quick", f"--ablation-report={name}",
                 *options],
                cwd=project.path, start_new_session=True, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def finish(self):
        """Its exit status and its output; ends what does not end by itself."""
        try:
            self.process.wait(LIMIT)
        finally:
            self.send(signal.SIGKILL)
        print(self.log.read_text())
        return self.process.returncode, self.log.read_text()

    def send(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def counts(self):
        """How many runs it trained, and how many it reused."""
        status, output = self.finish()
        assert status == 0, output
        trained, reused = re.search(r"(\d+) trained, (\d+) reused", output).groups()
        return int(trained), int(reused)

    def rows(self):
        """What its summary says: study, variant and metric to all else."""
        with open(self.report / "quick" / "summary.csv", newline="") as file:
            return {(r["study"], r["variant"], r["metric"]): r for r in csv.DictReader(file)}


@pytest.fixture
def start(request):
    """Starts sessions, none of which outlives the test."""

    def start(*arguments):
        session = Session(*arguments)
        request.addfinalizer(lambda: session.send(signal.SIGKILL))
        return session

    return start


def trained(project):
    """The trainings so far, in order: [momentum, use_bias, seed], and the process."""
    path = project.path / "trained.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[:-1], int(line.split()[-1])) for line in lines]


def test_four_sessions_of_all_forms_and_orders_train_each_run_once(counted, start):
    project = counted()
    whole = [
        start(project, "pool", "--ablation-jobs=2", "test_a.py", "test_b.py"),
        start(project, "workers", "-n", "2", "test_a.py", "test_b.py"),
    ]
    turned = start(project, "turned", "--ablation-jobs=1", "test_b.py", "test_a.py")
    part = start(project, "part", "--ablation-jobs=1", "-k", "heavy")
    counts = [session.counts() for session in (*whole, turned, part)]
    runs = [run for run, _ in trained(project)]
    assert len(runs) == 9
    assert all(runs.count(run) == 1 for run in runs)
    assert sum(own for own, _ in counts) == 9
    assert [own + reused for own, reused in counts] == [9, 9, 9, 6]
    one, two = ((s.report / "quick" / "summary.csv").read_bytes() for s in whole)
    assert one == two
    assert turned.rows() == whole[0].rows()
    mean = {name: row["mean"] for name, row in whole[0].rows().items()}
    assert {name: mean[name] for name in part.rows()} == {
        name: row["mean"] for name, row in part.rows().items()
    }


def test_fresh_sessions_beside_each_other_and_beside_another_are_complete(counted, start):
    project = counted()
    fresh = [start(project, name, "--ablation-fresh", "--ablation-jobs=1") for name in ("f", "g")]
    kept = start(project, "kept", "--ablation-jobs=2")
    assert sum(kept.counts()) == 9
    for session in fresh:
        assert session.counts() == (9, 0)
    summaries = {(s.report / "quick" / "summary.csv").read_bytes() for s in (*fresh, kept)}
    assert len(summaries) == 1


def test_each_holding_a_run_that_the_other_wants_next_is_no_deadlock(counted, start):
    """Each has begun a run, and ends it only when the other has begun the other one."""
    project = counted("""
def at(config, run):
    mine, other = ("heavy", "no_bias") if config["momentum"] else ("no_bias", "heavy")
    if run.seed == 0 and (config["momentum"] or not config["use_bias"]):
        open(mine, "w").close()
        wait_until(other)
""")
    cases = [f"test_a.py::test_softmax[{name}-quick]" for name in ("no_bias", "heavy")]
    one = start(project, "one", "--ablation-jobs=1", *cases)
    two = start(project, "two", "--ablation-jobs=1", *reversed(cases))
    assert one.counts()[0] + two.counts()[0] == 9
    assert len(trained(project)) == 9
    assert one.rows() == two.rows()


def test_who_waits_for_a_run_takes_it_over_when_its_process_is_killed(counted, start):
    project = counted("""
def at(config, run):
    if run.seed == 0 and config["momentum"] and is_first("held"):
        wait_until("never")
""")
    holder = start(project, "holder", "--ablation-jobs=1", "-k", "heavy")
    wait_until(lambda: (project.path / "held").exists())
    heirs = [start(project, "pool", "--ablation-jobs=2"), start(project, "workers", "-n", "2")]
    wait_until(lambda: len(trained(project)) == 9)  # the held one has begun once
    assert [heir.process.poll() for heir in heirs] == [None, None]
    holder.send(signal.SIGKILL)
    assert sum(heir.counts()[0] for heir in heirs) == 9
    assert len(trained(project)) == 10
    assert heirs[0].rows() == heirs[1].rows()
    assert {row["status"] for row in heirs[0].rows().values()} == {"ok"}


def test_a_stopped_session_is_waited_for_and_keeps_its_folder(counted, start):
    """Stopped for so long that all it wrote looks like a leftover to the session that begins."""
    project = counted("""
def at(config, run):
    if run.seed == 0 and config["momentum"] and is_first("held"):
        wait_until("go")
""")
    stopped = start(project, "stopped", "--ablation-jobs=1")
    wait_until(lambda: (project.path / "held").exists())
    stopped.send(signal.SIGSTOP)
    store = project.path / ".ablation"
    (folder,) = (store / "sessions").iterdir()
    long_ago = time.time() - 7 * 24 * 3600
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (long_ago, long_ago))
    held = trained(project)
    other = start(project, "other", "--ablation-jobs=1")
    wait_until(lambda: len(list((store / "runs").glob("[!.]*"))) == 8)
    time.sleep(0.5)  # it looks a few times more
    assert other.process.poll() is None
    assert folder.is_dir()
    assert trained(project)[: len(held)] == held
    (project.path / "go").touch()
    stopped.send(signal.SIGCONT)
    assert stopped.counts()[0] + other.counts()[0] == 9
    assert len(trained(project)) == 9
    assert stopped.rows() == other.rows()


def test_a_run_that_another_fresh_session_put_in_its_place_is_not_trained_again(tmp_path):
    """Workers of two sessions take turns at one run: each session trains it once."""
    from in_process import planned

    from pytest_ablation import Mode, Study, Variant
    from pytest_ablation.store import Store
    from pytest_ablation.training import Workplace, obtain

    calls = []

    def train(config, run):
        run.use_data(train=[1.0], evaluation=[2.0])
        calls.append(run.seed)
        return {"top1": 0.5}

    study = Study("s", train=train, baseline={"a": 1}, variants=[Variant("v", a=2)],
                  metrics=["top1"], quick=Mode(seeds=1), full=Mode(seeds=1))  # fmt: skip
    spec = next(iter(planned(study)[1].values()))
    places = [
        Workplace(
            store=tmp_path, journal=tmp_path / "sessions" / name, session=name, fresh=True,
            device="cpu", device_index=0, data_dir=None, threads=1,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    Store(tmp_path).prepare()
    for _ in range(3):
        for place in places:
            assert obtain(spec, place).session == place.session
    assert len(calls) == 2
