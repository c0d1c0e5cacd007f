"""What the tests of the plugin share."""

import sys
from pathlib import Path

import pytest
from projects import ROOT, Project, set_environment

sys.path.append(str(ROOT / "tests" / "studies"))  # for tests that train without a project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of its own for this test, with the plugin from this checkout."""
    set_environment(monkeypatch)
    return Project(tmp_path)
