"""A process's share of the machine: one GPU of those that are visible, its threads.

No GPU is needed: what a process is to see is in its environment, and CUDA's driver library has a
stand-in where the question is whether it was started.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import ROOT

from pytest_ablation.options import Options
from pytest_ablation.share import VISIBLE, GpuShare, Worker, gpu_of, jobs_of, threads_of
from pytest_ablation.share import visible_gpus as gpus_of_environment

GPUS = ("5", "GPU-abc", "2")
SHARING = ("XLA_PYTHON_CLIENT_PREALLOCATE", "TF_FORCE_GPU_ALLOW_GROWTH")


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("5,GPU-abc,2", GPUS),
        (" 0 , 1 ", ("0", "1")),
        ("MIG-8f5a/1/0,MIG-77", ("MIG-8f5a/1/0", "MIG-77")),
        ("0,-1,1", ("0",)),  # as CUDA reads it: what stands after an entry of no GPU is hidden too
        ("1,1", ("1",)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
    ],
)
def test_gpus_are_the_entries_of_the_variable(monkeypatch, variable, expected):
    monkeypatch.setenv(VISIBLE, variable)
    assert gpus_of_environment() == expected


def options(**given):
    return Options(Path("reports"), Path(".ablation"), **given)


@given(
    gpus=st.integers(1, 9), workers=st.integers(1, 9), jobs=st.integers(0, 5),
    device=st.sampled_from(["auto", "cuda"]),
)  # fmt: skip
def test_processes_spread_evenly_over_the_gpus(gpus, workers, jobs, device):
    names = tuple(f"GPU-{index}" for index in range(gpus))
    asked = options(jobs=jobs, device=device)
    shares = []
    for index in range(workers):
        worker = Worker(index, workers, names)
        slots = jobs_of(asked, worker)
        shares += [gpu_of(asked, worker, slot) for slot in range(slots)]
    users = Counter(share.entry for share in shares)
    assert set(users) <= set(names)
    assert max(users.values()) - min(users[name] for name in names) <= 1
    assert {share.is_shared for share in shares} == {max(users.values()) > 1}


def test_a_device_that_was_named_stays_as_it_is(monkeypatch):
    assert gpu_of(options(device="cpu"), Worker(1, 2, GPUS)) is None
    assert gpu_of(options(device="cuda:1"), Worker(0, 1, GPUS)) == GpuShare(None, False)
    share = gpu_of(options(device="cuda:1", jobs=2), Worker(1, 2, GPUS))
    assert share == GpuShare(None, True)
    monkeypatch.setenv(VISIBLE, "5,2")
    for name in SHARING:
        monkeypatch.setenv(name, "")  # so that it is taken back
        monkeypatch.delenv(name)
    share.take()
    assert os.environ[VISIBLE] == "5,2"
    assert [os.environ[name] for name in SHARING] == ["false", "true"]


def test_without_a_gpu_there_is_none_to_take():
    assert gpu_of(options(), Worker(1, 2, ())) is None


@given(workers=st.integers(1, 9), jobs=st.integers(0, 9))
def test_no_more_threads_than_cores_unless_each_process_has_one(workers, jobs):
    from joblib import cpu_count

    asked, worker = options(jobs=jobs, device="cpu"), Worker(0, workers, ())
    threads, processes = threads_of(asked, worker), workers * jobs_of(asked, worker)
    assert threads == 1 or threads * processes <= cpu_count()
    assert (threads + 1) * processes > cpu_count() // workers * workers


@pytest.mark.parametrize("is_shared", [False, True])
def test_who_shares_a_gpu_claims_only_the_memory_that_it_needs(monkeypatch, is_shared):
    monkeypatch.setenv(VISIBLE, "0,1")
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "the user's")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "")
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE")
    GpuShare("1", is_shared).take()
    assert os.environ[VISIBLE] == "1"
    assert os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") == ("false" if is_shared else None)
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "the user's"


DRIVER = """
static int begun = 0;
int cuInit(unsigned flags) { begun = 1; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return begun ? 0 : 3; }
"""


@pytest.mark.skipif(
    not shutil.which("cc") or not hasattr(os, "RTLD_NOLOAD"), reason="needs a C compiler, and Linux"
)
def test_a_process_in_which_cuda_was_started_keeps_all_gpus(tmp_path):
    """The variable is read once, by ``cuInit``; indices mean what they meant then."""
    library = tmp_path / "libcuda.so.1"
    (tmp_path / "driver.c").write_text(DRIVER)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library,
         tmp_path / "driver.c"], check=True,
    )  # fmt: skip
    code = f"""
import ctypes, os
from pytest_ablation.share import GpuShare, cuda_has_begun
assert not cuda_has_begun()  # nobody has loaded it
driver = ctypes.CDLL({str(library)!r})
assert not cuda_has_begun()
GpuShare("1", False).take()
assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
driver.cuInit(0)
assert cuda_has_begun()
GpuShare("0", True).take()
assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


NAMES = "CUDA_VISIBLE_DEVICES XLA_PYTHON_CLIENT_PREALLOCATE OMP_NUM_THREADS".split()


@pytest.fixture
def telling(project, monkeypatch):
    """A project whose training tells the environment of its process; a function that reads it."""
    monkeypatch.setenv(VISIBLE, ",".join(GPUS))
    monkeypatch.setenv("ALL_PROCESSES", "1")
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    project.write_study('Variant("a", use_bias=False), Variant("b", momentum=0.5)')
    code = project.path / "softmax.py"
    code.write_text("import time\n" + code.read_text().replace("    x, y = points(", f"""
    told = [os.environ.get(name, "") for name in {NAMES!r}]
    with open("told.txt", "a") as file:
        file.write(" ".join([str(os.getpid()), *told]) + chr(10))
    for _ in range(6000):  # a minute, for the other processes to begin
        processes = dict(line.split(" ", 1) for line in open("told.txt"))
        if len(processes) >= int(os.environ["ALL_PROCESSES"]):
            break
        time.sleep(0.01)
    x, y = points(""", 1))  # fmt: skip

    def told():
        lines = (project.path / "told.txt").read_text().splitlines()
        assert len(lines) == 9
        by_process = dict(line.split(" ", 1) for line in lines)
        assert len(set(lines)) == len(by_process)  # none sees one GPU now and another one later
        return [tuple(line.split(" ")) for line in by_process.values()]

    return project, told


def test_each_process_of_the_pool_sees_a_gpu_of_its_own(telling, monkeypatch):
    project, told = telling
    monkeypatch.setenv("ALL_PROCESSES", "3")
    project.run("-m", "quick", jobs=None).assert_outcomes(passed=2, deselected=2)
    assert sorted(gpu for gpu, _, _ in told()) == sorted(GPUS)
    assert {preallocate for _, preallocate, _ in told()} == {""}
    visible = {record["record"]["environment"]["visible"] for record in project.records().values()}
    assert visible == set(GPUS)


def test_a_worker_sees_one_gpu_and_its_replacement_the_same(telling):
    project, _ = telling
    project.write_conftest("""
def pytest_collectstart(collector):  # before any test module is imported
    import os
    if hasattr(collector.config, "workerinput"):
        name = collector.config.workerinput["workerid"]
        with open("seen.txt", "a") as file:
            print(name, os.environ["CUDA_VISIBLE_DEVICES"], file=file)
""")
    code = project.path / "softmax.py"
    dies = "    if config['momentum'] and not os.path.exists('died'):\n" \
           "        open('died', 'w'); os._exit(3)\n    x, y = points("  # fmt: skip
    code.write_text(code.read_text().replace("    x, y = points(", dies, 1))
    result = project.run("-m", "quick", "-n", "2", jobs=None)
    result.stdout.fnmatch_lines(["*'gw?' crashed while running*b-quick*"])
    seen = {line.split()[0]: line.split()[1] for line in
            (project.path / "seen.txt").read_text().splitlines()}  # fmt: skip
    text = str(result.stdout)
    (dead,) = [name for name in ("gw0", "gw1") if f"replacing crashed worker {name}" in text]
    assert seen == {"gw0": "5", "gw1": "GPU-abc", "gw2": seen[dead]}


def test_pools_of_workers_share_gpus_and_cores(telling, monkeypatch):
    from joblib import cpu_count

    project, told = telling
    monkeypatch.setenv("ALL_PROCESSES", "4")
    project.run("-m", "quick", "-n", "2", "--ablation-jobs=2", jobs=None)
    gpus, preallocate, threads = zip(*told(), strict=True)
    assert sorted(gpus) == sorted([*GPUS, GPUS[0]])  # a worker's pool goes beyond what it sees
    assert set(preallocate) == {"false"}
    assert set(threads) == {str(max(1, cpu_count() // 4))}
