"""How long ``pytest -m quick`` takes: cold, warm, under -n; and that all give the same summary.

Prints the figures of README.md. Cold sessions of the different ways are interleaved round by round,
because machines drift; their ratio is what counts.

    python benchmarks/quick_session.py [--rounds 3] [--ways "no -n" "-n 2" ...]
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WAYS = {
    "no -n": [],
    "-n 2": ["-n", "2"],
    "-n 4": ["-n", "4"],
    "--ablation-jobs=1": ["--ablation-jobs=1"],
    "Transformer studies": ["-k", "transformer"],
}
PARTIAL = "Transformer studies"  # whose summary has fewer rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="cold sessions of each way [3]")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="[all]")
    options = parser.parse_args()
    data = os.environ.get("ABLATION_DATA")
    print(describe_machine() + (", ABLATION_DATA is set" if data else ", BBC News alone"))
    with tempfile.TemporaryDirectory() as folder:
        cold = {name: [] for name in options.ways}
        for number in range(options.rounds):
            for name in options.ways:
                shutil.rmtree(Path(folder) / "store", ignore_errors=True)
                report = Path(folder) / f"{name}-{number}".replace(" ", "")
                cold[name].append(session(folder, report, *WAYS[name]))
                print(f"  round {number + 1}, {name}: {cold[name][-1]:.1f} s", flush=True)
        warm = [session(folder, Path(folder) / "warm") for _ in range(5)]
        collect = [session(folder, Path(folder) / "warm", "--collect-only") for _ in range(5)]
        reports = Path(folder).glob("*/quick/summary.csv")
        whole = (path for path in reports if not path.parts[-3].startswith(PARTIAL.split()[0]))
        summaries = {path.read_bytes() for path in whole}
        print_figures(cold, warm, collect)
        print(
            f"different summary.csv among all sessions: {len(summaries)} (1 means the same bytes)"
        )
        print_accuracy(Path(folder) / "warm" / "quick" / "summary.csv")


def session(folder: str, report: Path, *options: str) -> float:
    """Seconds of one ``pytest -m quick`` with its own store in *folder*."""
    return timed_pytest(
        "-m", "quick", f"--ablation-store={folder}/store", f"--ablation-report={report}", *options
    )


def timed_pytest(*arguments: str) -> float:
    """Seconds of a pytest command in the root of the project, which must succeed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    started = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    if result.returncode:
        raise SystemExit(result.stdout)
    return seconds


def describe_machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "pytest"))
    return f"{cores} cores, {platform.machine()}, Python {platform.python_version()}, {libraries}"


def print_figures(cold: dict[str, list[float]], warm: list[float], collect: list[float]) -> None:
    plain = next(iter(cold.values()))
    for name, seconds in cold.items():
        ratios = [ours / theirs for ours, theirs in zip(seconds, plain, strict=True)]
        print(
            f"cold, {name}: {spread(seconds)}, n = {len(seconds)}; "
            f"{statistics.median(ratios):.2f} times the session with {next(iter(cold))}"
        )
    print(f"warm, everything reused: {spread(warm)}, n = {len(warm)}")
    print(f"--collect-only: {spread(collect)}, n = {len(collect)}")


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"


def print_accuracy(summary: Path) -> None:
    with open(summary, newline="") as file:
        for row in csv.DictReader(file):
            if not row["baseline"]:
                print(
                    f"{row['study']} {row['variant']} {row['metric']}: {float(row['mean']):.4f} "
                    f"(sd {float(row['std']):.4f}, {row['n_seeds']} seeds)"
                )


if __name__ == "__main__":
    main()
