"""What the tests of the plugin share."""

import sys
from pathlib import Path

import pytest
from projects import ROOT, Project

sys.path.append(str(ROOT / "tests" / "studies"))  # for tests that train without a project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of its own for this test, with the plugin from this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PY_COLORS", "0")
    for name in ("ABLATION_DATA", "GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS", "CI"):
        monkeypatch.delenv(name, raising=False)
    return Project(tmp_path)
