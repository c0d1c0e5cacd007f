"""Calls ``python -m pytest_ablation runs`` in the test's own process, for a project with runs."""

from pytest_ablation.cli import main

VARIANTS = 'Variant("no_bias", use_bias=False), Variant("wild", learning_rate=1e200)'


def train(project):
    """The project's quick cases with two seeds; their models are kept."""
    project.run("-m", "quick", "--ablation-seeds=2", "--ablation-save-models")


def told(capsys, *words):
    """Exit status, lines of standard output, and standard error of a command."""
    status = main(["runs", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err


def content(folder):
    """Every file below a folder, with its bytes; links and empty folders too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.is_symlink()
        for path in sorted(folder.rglob("*"))
    }
