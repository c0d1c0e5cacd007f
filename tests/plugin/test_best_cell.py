"""A study on a grid's best cell, run by pytest: who trains what, and what the user sees."""

import csv
import io

import pytest

STUDIES = """
import os

from pytest_ablation import Mode, Study, Variant
from softmax import BASELINE, train

grid = Study.grid(
    "sizes",
    train=train,
    axes={{"batch_size": [10, 20], "learning_rate": [0.05, 0.5]}},
    cell_name="b{{batch_size}}-lr{{learning_rate}}",
    baseline={{**BASELINE, {changes}}},
    select="validation_top1",
    allow_different=["batch_order", "steps"],
    metrics=["top1", "validation_top1"],
    quick=Mode(seeds=3, epochs=2),
)
components = Study(
    "components",
    train=train,
    baseline=BASELINE,
    variants=[Variant("heavy", momentum=0.5), Variant("no_bias", use_bias=False)],
    metrics=["top1", "validation_top1"],
    quick=Mode(seeds=3, epochs=2, config=grid.best()),
)


@components.cases
def test_components(ablation):
    ablation.run()
    assert ablation.config["batch_size"] == {batch_size}


@grid.cases
def test_grid(ablation):
    assert ablation.metric("top1").mean > 0.5
"""


@pytest.fixture
def studies(project):
    def write(changes="", batch_size="ablation.config['batch_size']"):
        text = STUDIES.format(changes=changes, batch_size=batch_size)
        (project.path / "test_studies.py").write_text(text)
        return project

    return write


def best_of(project):
    """The cell of the highest validation mean, from the grid's own rows."""
    rows = [row for row in project.rows() if row["study"] == "sizes"]
    rows = [row for row in rows if row["metric"] == "validation_top1"]
    return max(rows, key=lambda row: float(row["mean"]))["variant"]


def rows_of(project, study, report="reports"):
    text = (project.path / report / "quick" / "summary.csv").read_text()
    return [row for row in csv.DictReader(io.StringIO(text)) if row["study"] == study]


def test_a_study_on_the_best_cell_trains_the_grid_once_and_stands_on_it(studies):
    project = studies()
    result = project.run("-m", "quick")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*6 passed*"])
    best = best_of(project)
    batch_size, rate = best.removeprefix("b").split("-lr")
    configs = {key: record["record"]["config"] for key, record in project.records().items()}
    heavy = {run["key"] for run in project.rows("runs") if run["variant"] == "heavy"}
    assert {configs[key]["batch_size"] for key in heavy} == {int(batch_size)}
    assert {configs[key]["learning_rate"] for key in heavy} == {float(rate)}
    # Its baseline is the cell itself: trained once, reported in both studies.
    baseline = {r["key"] for r in project.rows("runs")
                if (r["study"], r["variant"]) == ("components", "baseline")}  # fmt: skip
    assert baseline == {run["key"] for run in project.rows("runs") if run["variant"] == best}
    assert len(project.records()) == 4 * 3 + 2 * 3


@pytest.mark.parametrize("workers", [["-n0"], ["-n2"], ["--ablation-jobs=2"]])
def test_the_grid_is_trained_also_where_it_is_not_selected(studies, workers):
    project = studies()
    assert project.run("-m", "quick", "--ablation-report=all").ret == 0
    jobs = None if "--ablation-jobs=2" in workers else 1
    result = project.run(
        "-m", "quick", "-k", "test_components", *workers, "--ablation-store=other", jobs=jobs
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"{4 * 3 + 2 * 3} runs: {4 * 3 + 2 * 3} trained, 0 reused"])
    assert rows_of(project, "components") == rows_of(project, "components", "all")
    assert rows_of(project, "sizes") == []


def test_a_grid_whose_run_fails_leaves_no_best_cell_and_says_why(studies):
    project = studies(changes='"do_raise": True')
    result = project.run("-m", "quick", "-k", "test_components")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*the best cell of sizes cannot be chosen: *seed 1: RuntimeError: the disk*"]
    )
    assert {row["status"] for row in rows_of(project, "components")} == {"failed"}


def test_the_delta_of_the_baselines_cell_is_asked_for_in_vain(studies):
    project = studies()
    text = (project.path / "test_studies.py").read_text()
    (project.path / "test_studies.py").write_text(text.replace(
        'ablation.metric("top1").mean > 0.5', 'ablation.delta("top1").value > -1'))  # fmt: skip
    result = project.run("-m", "quick", "-k", "test_grid")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*'b20-lr0.5' is the cell that the others *has no delta*"])


def test_the_configuration_is_not_known_before_the_grid_has_trained(studies):
    project = studies()
    text = (project.path / "test_studies.py").read_text()
    (project.path / "test_studies.py").write_text(
        text.replace("    ablation.run()\n", "    ablation.config\n    ablation.run()\n", 1)
    )
    result = project.run("-m", "quick", "-k", "test_components")
    result.stdout.fnmatch_lines(["*not known before the grid's best cell is: call ablation.run*"])
