"""Studies on a Ray cluster of two nodes: the same results, and what goes wrong with machines."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from projects import OWN, Project, set_environment
from ray_nodes import OTHER_NAME, ray_nodes
from waiting import wait_until

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs requirements-ray.txt")

VARIANTS = 'Variant("no_bias", use_bias=False), Variant("heavy", momentum=0.5)'

#: A training function around that of softmax.py, which leaves a line when it begins and ends, and
#: with other seeds than 0 waits in between until the test says so.
TRAINING = """
import os, time
import ray, softmax

def mark(run, config, what):
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
    with open(os.environ["ABLATION_MARKS"], "a") as file:
        name = "-".join(map(str, [run.seed, config["momentum"], config["use_bias"]]))
        file.write(f"{what} {name} {node} {os.getpid()}\\n")

def train(config, run):
    mark(run, config, "began")
    while run.seed and not os.path.exists(os.environ["ABLATION_GO"]):
        time.sleep(0.05)
    metrics = softmax.train(config, run)
    mark(run, config, "ended")
    return metrics
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ray_nodes(1, 1, hidden=tmp_path_factory.mktemp("here")) as nodes:
        yield nodes


class RayProject:
    """A project whose sessions train on the cluster, and what its runs have marked.

    The project is on the machine of the first node, the marks are in a folder that all see.
    """

    def __init__(self, shared, cluster, monkeypatch):
        self.project = project = Project(Path(tempfile.mkdtemp(dir=cluster.hidden)))
        self.options = ["--ablation-executor=ray", f"--ablation-ray-address={cluster.address}"]
        self.started = []
        self.marks_file = shared / "marks.txt"
        monkeypatch.setenv("ABLATION_MARKS", str(self.marks_file))
        self.go = shared / "go"
        self.go.touch()
        monkeypatch.setenv("ABLATION_GO", str(self.go))
        (project.path / "marked.py").write_text(TRAINING)

    def write_study(self, variants=VARIANTS, train="marked", **more):
        self.project.write_study(variants, **more)
        study = self.project.path / "test_softmax.py"
        text = study.read_text().replace("import BASELINE, train", "import BASELINE")
        study.write_text(f"from {train} import train\n{text}")

    def run(self, *more):
        return self.project.run("-m", "quick", *self.options, *more, jobs=None)

    def start(self, *more):
        """A session that goes on while the test does something else."""
        words = ["-m", "quick", *self.options, *more]
        command = [sys.executable, "-m", "pytest", *OWN, *words]
        session = subprocess.Popen(
            command, cwd=self.project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        self.started.append(session)
        return session

    def waiting(self):
        """Node to process, of the runs that have begun and wait for the test."""
        under_way = set(self.marks("began")) - set(self.marks("ended"))
        return {node: int(process) for run, node, process in under_way if run[0] != "0"}

    def marks(self, what):
        """(run, node, process) of each line so far."""
        lines = self.marks_file.read_text().splitlines() if self.marks_file.exists() else []
        return [tuple(line.split()[1:]) for line in lines if line.startswith(what)]


@pytest.fixture
def on_ray(tmp_path, cluster, monkeypatch):
    set_environment(monkeypatch)
    found = RayProject(tmp_path, cluster, monkeypatch)
    yield found
    for session in found.started:  # where a test failed, one may go on
        session.kill()
        session.communicate()


def test_the_summary_is_that_of_one_machine_and_records_name_nodes(on_ray, cluster):
    project = on_ray.project
    (project.path / "data").mkdir()
    (project.path / "data" / "factor.txt").write_text("0.7")
    (project.path / "reading.py").write_text("""
import os
import marked

def train(config, run):
    assert os.environ["OMP_NUM_THREADS"], "a second run of a process has all cores"
    factor = float((run.data_dir / "factor.txt").read_text())
    return marked.train({**config, "learning_rate": factor * config["learning_rate"]}, run)
""")
    on_ray.write_study(train="reading")
    elsewhere = project.path / "elsewhere"
    local = ["--ablation-store=local", f"--ablation-report={elsewhere}", "--ablation-data=data"]
    assert project.run("-m", "quick", *local, jobs=2).ret == 0
    # The second path means another folder to each process.
    data = "data" if cluster.is_hidden else "/proc/self/cwd/data"
    result = on_ray.run(f"--ablation-data={data}")
    result.assert_outcomes(passed=2, deselected=2)
    result.stdout.fnmatch_lines(
        ["ablation 9/9, 0 running, 0 waiting *", "9 runs: 9 trained, 0 reused"]
    )
    assert project.summary_bytes() == (elsewhere / "quick" / "summary.csv").read_bytes()
    machines = [record["record"]["environment"] for record in project.records().values()]
    nodes = {machine["ray_node"] for machine in machines}
    assert nodes == {node for _, node, _ in on_ray.marks("ended")} - {"here"}
    assert len(nodes) == 2
    names = {platform.node(), OTHER_NAME} if cluster.is_hidden else {platform.node()}
    assert {machine["node"] for machine in machines} == names


def test_runs_that_fail_say_why_and_the_others_are_there(on_ray, tmp_path_factory, monkeypatch):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "only_here.py").write_text("VALUE = 1\n")
    paths = os.pathsep.join([os.environ["PYTHONPATH"], str(outside)])
    monkeypatch.setenv("PYTHONPATH", paths)
    path = on_ray.project.path
    (path / "lacking.py").write_text("""
import marked, only_here

def train(config, run):
    return marked.train(config, run)
""")
    variants = 'Variant("dies", do_die="SIGSEGV"), Variant("raises", do_raise=True)'
    on_ray.write_study(variants)
    text = (path / "test_softmax.py").read_text()
    (path / "test_lacking.py").write_text(
        text.replace('"softmax",', '"lacking",').replace("from marked", "from lacking")
    )
    result = on_ray.run("--ablation-seeds=2")
    result.assert_outcomes(failed=4, deselected=4)
    output = " ".join(result.stdout.str().split())
    assert "dies, seed 1: failed: the training process died 2 times, last on" in output
    assert "raises, seed 1: failed: RuntimeError: the disk with the data is gone" in output
    assert "lacks the module 'only_here': install it there" in output
    assert re.search(r"On node \S+ \(\S+\): Traceback .* the disk with the data is gone", output)
    trainings = [run for run, _, _ in on_ray.marks("began") if run.startswith("1-")]
    assert len(trainings) == 1 + 2 + 1  # the baseline, one that dies twice, one that raises
    by_variant = {(row["study"], row["variant"]): row for row in on_ray.project.rows()}
    assert by_variant["softmax", "baseline"]["status"] == "ok"
    assert by_variant["softmax", "dies"]["n_seeds"] == "1"


def test_ctrl_c_stops_the_nodes_and_another_session_goes_on_from_there(on_ray):
    on_ray.go.unlink()
    on_ray.write_study()
    stopped = on_ray.start()
    wait_until(lambda: on_ray.marks("began"), "the first session trains")
    other = on_ray.start("--ablation-report=others")
    records, sessions = on_ray.project.records, on_ray.project.path / ".ablation" / "sessions"
    wait_until(lambda: records() and len(list(sessions.iterdir())) == 2, "the second one waits")
    os.killpg(stopped.pid, signal.SIGINT)
    output, _ = stopped.communicate(timeout=60)
    assert stopped.returncode == 2, output
    kept = {key: json.dumps(record) for key, record in records().items()}
    assert 0 < len(kept) < 9
    on_ray.go.touch()
    assert other.wait(timeout=120) == 0, other.communicate()[0]
    summary = (on_ray.project.path / "others" / "quick" / "summary.csv").read_text()
    assert summary.count(",ok,") == len(summary.splitlines()) - 1
    assert len(records()) == 9
    assert {key: json.dumps(records()[key]) for key in kept} == kept
    ended = [run for run, _, _ in on_ray.marks("ended")]
    assert len(set(ended)) == len(records())
    # Trained twice is at most what was under way when Ctrl-C came: one run on each node.
    assert len(ended) <= len(set(ended)) + 2
    processes = {int(process) for _, _, process in on_ray.marks("began")}
    wait_until(lambda: not any(map(is_training, processes)), "no run goes on")


def is_training(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-n", "1"], "*leave out -n; the cluster trains many runs at once*"),
        (["--dist=load", "--tx=popen"], "*leave out -n; the cluster trains many runs at once*"),
        (
            ["--ablation-cpus-per-run=64"],
            "*no node of the Ray cluster can take a run, which asks for 64 CPUs; they have "
            "1 CPU, 0 GPU (2 nodes)*",
        ),
        (["--ablation-gpus-per-run=2"], "*asks for 1 CPU and 2 GPUs; they have 1 CPU, 0 GPU*"),
        (["--ablation-ray-address=127.0.0.1:9"], "*nothing answers there*ray start --head*"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(on_ray, options, message):
    on_ray.write_study()
    result = on_ray.run(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message.replace("[", "[[]")])
    assert not on_ray.marks("began")


def test_a_study_outlives_the_loss_of_a_node(on_ray, cluster):
    """The last test of its cluster: one node is left."""
    on_ray.go.unlink()
    on_ray.write_study()
    session = on_ray.start()
    wait_until(lambda: len(on_ray.waiting()) == 2, "both nodes train")
    processes = on_ray.waiting().values()
    cluster.lose_a_node()
    wait_until(lambda: not all(map(is_training, processes)), "a run is lost with its node")
    on_ray.go.touch()
    output, _ = session.communicate(timeout=300)
    assert session.returncode == 0, output
    assert "9 runs: 9 trained, 0 reused" in output
    began, ended = on_ray.marks("began"), on_ray.marks("ended")
    assert len(began) > len({run for run, _, _ in ended}) == 9
    assert {row["status"] for row in on_ray.project.rows()} == {"ok"}
