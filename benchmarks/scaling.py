"""What a Ray cluster brings, and what one driver can take: measured here, computed for more GPUs.

Prints the figures of README.md. (1) The time of a study with one and with two nodes of one CPU
each, interleaved round by round, because machines drift; their ratio is what counts. (2) Many
trivial runs through the executor: seconds, the driver's memory, writes, bytes. (3) From these, what
8, 64 and 512 GPUs would be limited by.

    python benchmarks/scaling.py [--rounds 5] [--runs 10000] [--parts nodes driver]
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quick_session import ROOT, describe_machine, spread

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "plugin")]

RUNS, EPOCHS = 12, 150
STUDY = """
import warnings
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from pytest_ablation import Mode, Study, Variant

pytest_plugins = ["pytest_ablation.plugin"]

def train(config, run):
    x, y = load_digits(return_X_y=True)
    model = MLPClassifier(**config, max_iter=run.mode.epochs, random_state=run.seed, tol=0)
    with run.training(), warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        model.fit(x[:1200], y[:1200])
    run.save_predictions(scores=model.predict_proba(x[1200:]))
    return {"top1": model.score(x[1200:], y[1200:])}

study = Study(
    "digits", train=train, baseline={"hidden_layer_sizes": 64, "alpha": 1e-4, "batch_size": 32},
    variants=[Variant(f"alpha_{a:g}", alpha=a) for a in (1e-3, 1e-2, 1e-1)],
    metrics=["top1"], quick=Mode(seeds=3, epochs=%d),
)

@study.cases
def test_digits(ablation):
    ablation.run()
"""
GPUS = (8, 64, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="sessions of each size [5]")
    parser.add_argument("--runs", type=int, default=10_000, help="trivial runs [10000]")
    parser.add_argument("--parts", nargs="+", choices=("nodes", "driver"),
                        default=["nodes", "driver"], help="[both]")  # fmt: skip
    options = parser.parse_args()
    import ray

    print(f"{describe_machine()}, ray {ray.__version__}")
    if "nodes" in options.parts:
        compare_nodes(options.rounds)
    if "driver" in options.parts:
        print_limits(measure_driver(options.runs))


# --- one node and two ------------------------------------------------------------------------


def compare_nodes(rounds: int) -> None:
    """Sessions of one study on clusters of one and of two nodes."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with cluster_of(1) as one, cluster_of(2) as two, project() as folder:
        for number in range(rounds):
            for nodes, address in ((1, one), (2, two)):
                seconds[nodes].append(session(folder, address))
                shown = f"{seconds[nodes][-1]:.1f} s"
                print(f"  round {number + 1}, {nodes} node{'s' * (nodes > 1)}: {shown}", flush=True)
    ratios = [first / second for first, second in zip(seconds[1], seconds[2], strict=True)]
    for nodes, found in seconds.items():
        print(f"{RUNS} runs, {nodes} nodes: {spread(found)}, n = {len(found)}")
    print(f"two nodes are {statistics.median(ratios):.2f} times as fast "
          f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


@contextmanager
def cluster_of(nodes: int, cpus: int = 1) -> Iterator[str]:
    """The address of a cluster whose nodes have *cpus* CPUs each."""
    from ray_nodes import ray_nodes

    with ray_nodes(*[cpus] * nodes) as cluster:
        yield cluster.address


@contextmanager
def project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_digits.py").write_text(STUDY % EPOCHS)
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")
        yield Path(folder)


def session(folder: Path, address: str) -> float:
    """Seconds of one session with an empty store, which must succeed."""
    shutil.rmtree(folder / ".ablation", ignore_errors=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_ablation.plugin", "-m", "quick",
               "--ablation-executor=ray", f"--ablation-ray-address={address}"]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout)
    return time.perf_counter() - started


# --- one driver ------------------------------------------------------------------------------


def trivial(config: dict[str, Any], run: Any) -> dict[str, float]:
    """Least squares on a thousand points: next to no training, and all that a run leaves."""
    import numpy as np

    generator = np.random.default_rng(run.seed)
    x = generator.normal(size=(2000, 4))
    y = x @ [1.0, -1.0, 0.5, 0.0] + generator.normal(size=2000) > 0
    for epoch in range(1, run.mode.epochs + 1):
        seen = 1000 * epoch // run.mode.epochs
        weights = np.linalg.lstsq(x[:seen], 2.0 * y[:seen] - 1, rcond=None)[0]
        right = (x[1000:] @ weights > 0) == y[1000:]
        run.log(epoch, "test", top1=right.mean())
    run.save_predictions(top1=right)
    return {"top1": right.mean()}


@dataclass(frozen=True)
class Figures:
    """Submitted tasks a second, seconds of the driver's processor a run and to write a record."""

    tasks: float
    processor: float
    writing: float
    bytes: int

    @property
    def runs_per_second(self) -> float:
        """What one driver takes at least, were nothing it does at the same time as another."""
        return 1 / (self.processor + self.writing)


def measure_driver(runs: int) -> Figures:
    """So many runs by the real executor, store and journal, in this process."""
    from pytest_ablation import Mode
    from pytest_ablation.on_ray.executor import RayExecutor
    from pytest_ablation.options import Options
    from pytest_ablation.plan import RunSpec
    from pytest_ablation.record import Record
    from pytest_ablation.store import Store
    from pytest_ablation.training import Workplace

    mode = Mode(seeds=1, epochs=10)
    specs = [
        RunSpec(f"{n:032x}", n, "quick", mode, {"x": n}, trivial, "scaling row")
        for n in range(runs)
    ]
    with cluster_of(1, cpus=max(1, (os.cpu_count() or 2) - 1)) as address, project() as folder:
        place = Workplace(store=folder / ".ablation", journal=folder / ".ablation" / "journal",
                          session="s", fresh=False, device="cpu", device_index=0, data_dir=None,
                          threads=1)  # fmt: skip
        store = Store(place.store)
        store.prepare()
        options = Options(folder / "reports", place.store, device="cpu", root=folder,
                          executor="ray", ray_address=address)  # fmt: skip
        before = memory_mib()
        executor = RayExecutor(place, options, specs)
        connected = memory_mib()
        started, worked = time.perf_counter(), time.process_time()
        executor.collect([], lambda: None)  # submits all, waits for none
        submitted = time.perf_counter() - started
        outcomes = executor.collect(specs, lambda: None)
        seconds = time.perf_counter() - started
        own = (time.process_time() - worked) / runs
        peak = memory_mib()
        executor.close()
        records = [outcome for outcome in outcomes.values() if isinstance(outcome, Record)]
        assert len(records) == runs, next(iter(outcomes.values()))
        sizes = [path.stat().st_size for path in (store.runs / records[0].key).iterdir()]
        files = {p.name: p.read_bytes() for p in (store.runs / records[0].key).iterdir()}
        writing = seconds_to_write(Store(folder / "other"), files)
    figures = Figures(runs / submitted, own, writing, sum(sizes))
    print(f"{runs:,} trivial runs: {seconds:.1f} s; submitted in {submitted:.1f} s, "
          f"{figures.tasks:.0f} a second")  # fmt: skip
    print(f"the driver's processor: {1000 * own:.2f} ms a run; its memory: {before:.0f} MiB, "
          f"connected {connected:.0f} MiB, at its peak {peak:.0f} MiB")  # fmt: skip
    print(f"a record: {sum(sizes):,} bytes in {len(sizes)} files; to write it: "
          f"{1000 * writing:.2f} ms, {1 / writing:.0f} a second")  # fmt: skip
    return figures


def seconds_to_write(store: Any, files: dict[str, bytes], count: int = 200) -> float:
    """To put a record into a store, as the median of many."""
    store.prepare()
    found = []
    for number in range(count):
        started = time.perf_counter()
        store.put(f"{number:032x}", files)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def memory_mib() -> float:
    """The peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_limits(figures: Figures) -> None:
    """What follows for more GPUs than are here: computed, not measured."""
    print(f"computed from this, not measured: one driver takes {figures.runs_per_second:.0f} runs "
          f"a second, so that runs must last on average")  # fmt: skip
    for gpus in GPUS:
        for share in (1.0, 0.25):
            least = gpus / share / figures.runs_per_second
            print(f"  {gpus:>4} GPUs, {share:g} a run: {least:.1f} s or more to keep all busy")
    print("computed: hours of a study of R runs of T seconds, and what the driver needs for it")
    for count, seconds in ((1_000, 60), (1_000, 1800), (10_000, 60), (10_000, 1800)):
        driver = count / figures.runs_per_second / 3600
        stored = count * figures.bytes / 2**20
        times = [f"{gpus} GPUs {math.ceil(count / gpus) * seconds / 3600:.2f}" for gpus in GPUS]
        print(f"  R = {count:>6,}, T = {seconds:>5,}: {', '.join(times)}; "
              f"driver {driver:.3f}, store {stored:,.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
