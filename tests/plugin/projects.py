"""A small project with a study in it, run by pytest inside a test."""

from __future__ import annotations

import compileall
import csv
import functools
import json
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import forked_python
import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Options of each session: it leaves out the plugins of hypothesis and of anyio (transformers
#: brings it), which import a lot.
OWN = ["-p", "no:hypothesispytest", "-p", "no:anyio"]

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


def set_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin from this checkout, and nothing of what a user or a CI service has set."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PY_COLORS", "0")
    names = "ABLATION_DATA GITHUB_ACTIONS GITHUB_STEP_SUMMARY PYTEST_ADDOPTS CI".split()
    for name in names:
        monkeypatch.delenv(name, raising=False)
    _compile_plugin()


@functools.cache
def _compile_plugin() -> None:
    """Once for all sessions: where Python may write no byte code, each would have to."""
    by_content = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(ROOT / "pytest_ablation", quiet=2, invalidation_mode=by_content)


def trained_project(path: Path, variants: str, *options: str) -> Project:
    """A project whose quick cases were run once. Tests go on with copies of its folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch)
        project = Project(path)
        project.write_study(variants)
        assert project.run("-m", "quick", *options).ret == 0
    return project


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

    def copy(self, other: Project) -> None:
        """Take over all files of another project."""
        shutil.copytree(other.path, self.path, dirs_exist_ok=True)

    def run(
        self, *args: object, jobs: int | None = 1, new_interpreter: bool = False
    ) -> pytest.RunResult:
        """Run pytest as a user would, in a process of its own."""
        jobs_option = [] if jobs is None else [f"--ablation-jobs={jobs}"]
        words = ["-m", "pytest", *OWN, *jobs_option, *args]
        return self.python(*words, new_interpreter=new_interpreter)

    def python(self, *args: object, new_interpreter: bool = False) -> pytest.RunResult:
        """Run Python in the project's folder.

        ``-m`` runs in a fork of a process that has imported what most sessions import, and all
        forks have one order of sets and one state of NumPy's own random numbers. Where that matters
        ask for a new interpreter; a conftest.py that looks into ``sys.modules`` gets one.
        """
        started = time.perf_counter()
        words = [*map(str, args)]
        new_interpreter = new_interpreter or self._looks_at_what_is_imported()
        if words[0] == "-m" and forked_python.available and not new_interpreter:
            status, output, errors = self._forked(words[1:])
        else:
            done = subprocess.run(
                [sys.executable, *words], cwd=self.path, capture_output=True, text=True
            )
            status, output, errors = done.returncode, done.stdout, done.stderr
        print(output, errors, sep="\n")  # shown where a test fails
        seconds = time.perf_counter() - started
        return pytest.RunResult(status, output.splitlines(), errors.splitlines(), seconds)

    def _looks_at_what_is_imported(self) -> bool:
        conftest = self.path / "conftest.py"
        return conftest.exists() and "sys.modules" in conftest.read_text()

    def _forked(self, words: list[str]) -> tuple[int, str, str]:
        with tempfile.TemporaryDirectory() as folder:
            output, errors = Path(folder) / "stdout", Path(folder) / "stderr"
            status = forked_python.run(words, self.path, output, errors)
            return status, output.read_text(), errors.read_text()

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
        files = (self.path / ".ablation" / "runs").glob("[!.]*/record.json")  # whole runs only
        return {file.parent.name: json.loads(file.read_text()) for file in files}
