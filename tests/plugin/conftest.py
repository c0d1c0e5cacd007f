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


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """What a session of the study in told_sessions.py leaves, as a reference."""
    from told_sessions import reference_in

    return reference_in(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="session")
def reference_text(reference, tmp_path_factory) -> str:
    """The file that it makes."""
    from pytest_ablation.reference import write_reference

    path = tmp_path_factory.mktemp("text") / "quick.json"
    write_reference(path, reference)
    return path.read_text()
