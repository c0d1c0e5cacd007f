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


@pytest.fixture(scope="session")
def six_runs(tmp_path_factory) -> Project:
    """Six runs, of which two diverge, with the models of the others."""
    from runs_commands import VARIANTS, train

    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch)
        project = Project(tmp_path_factory.mktemp("trained"))
        project.write_study(VARIANTS)
        train(project)
    return project


@pytest.fixture
def trained(project, six_runs, monkeypatch) -> Project:
    """A copy of that project, and its folder as the current one."""
    project.copy(six_runs)
    monkeypatch.chdir(project.path)
    return project


@pytest.fixture
def runs(trained) -> Path:
    """The folder of its kept runs."""
    return trained.path / ".ablation" / "runs"
