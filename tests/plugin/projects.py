"""A small project with a study in it, run by pytest inside a test."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STUDY = """
from pytest_ablation import Mode, Study, Variant
from softmax import BASELINE, train

study = Study(
    "softmax",
    train=train,
    baseline=BASELINE,
    variants=[{variants}],
    metrics=["top1", "top2"],
    quick=Mode(seeds=3, epochs=2),
    full=Mode(seeds=4, epochs=4),
    {more}
)

@study.cases
def test_softmax(ablation):
    {test}
"""


class Project:
    """A folder with a study over ``tests/studies/softmax.py``, and pytest to run it.

    Not ``pytester``: it forgets what was imported while it was there, and torch, imported a second
    time by a later test, crashes the process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copy(ROOT / "tests" / "studies" / "softmax.py", path)
        (path / "pytest.ini").write_text("[pytest]\nstrict_markers = true\n")
        self.write_conftest()

    def write_conftest(self, more: str = "") -> None:
        """A conftest.py that loads the plugin, and whatever source text comes after that."""
        lines = 'import pytest\n\npytest_plugins = ["pytest_ablation.plugin"]\n'
        (self.path / "conftest.py").write_text(lines + more)

    def write_study(
        self,
        variants: str,
        *,
        more: str = "",
        test: str = "ablation.run()",
        name: str = "test_softmax.py",
    ) -> None:
        """Write a study module with these variants (source text)."""
        (self.path / name).write_text(STUDY.format(variants=variants, more=more, test=test))

    def run(self, *args: object, jobs: int | None = 1) -> pytest.RunResult:
        """Run pytest as a user would, in a process of its own."""
        jobs_option = [] if jobs is None else [f"--ablation-jobs={jobs}"]
        # hypothesis's own plugin is left out: its summary imports all of it, a second each time.
        own = ["-p", "no:hypothesispytest", *jobs_option]
        return self.python("-m", "pytest", *own, *args)

    def python(self, *args: object) -> pytest.RunResult:
        """Run Python in the project's folder."""
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *map(str, args)], cwd=self.path, capture_output=True, text=True
        )
        print(done.stdout, done.stderr, sep="\n")  # shown where a test fails
        lines = done.stdout.splitlines(), done.stderr.splitlines()
        return pytest.RunResult(done.returncode, *lines, time.perf_counter() - started)

    def rows(self, table: str = "summary", mode: str = "quick") -> list[dict[str, str]]:
        """The rows of a report table."""
        with open(self.path / "reports" / mode / f"{table}.csv", newline="") as file:
            return list(csv.DictReader(file))

    def row(self, variant: str, metric: str = "top1") -> dict[str, str]:
        """A row of the summary."""
        found = [r for r in self.rows() if (r["variant"], r["metric"]) == (variant, metric)]
        assert len(found) == 1, f"{len(found)} rows for {variant} {metric}"
        return found[0]

    def report(self, mode: str = "quick") -> str:
        return (self.path / "reports" / mode / "report.md").read_text()

    def summary_bytes(self, mode: str = "quick") -> bytes:
        return (self.path / "reports" / mode / "summary.csv").read_bytes()

    def records(self) -> dict[str, dict]:
        """Key to content of every ``record.json`` in the store."""
        files = (self.path / ".ablation" / "runs").glob("*/record.json")
        return {file.parent.name: json.loads(file.read_text()) for file in files}
