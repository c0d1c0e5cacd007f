"""The command line, option by option, as a user meets it."""

import os
import tomllib

import pytest
from projects import ROOT

VARIANT = 'Variant("no_bias", use_bias=False)'


def test_quick_and_full_select_by_marker(project):
    project.write_study(VARIANT)
    project.run("-m", "full").assert_outcomes(passed=1, deselected=1)
    assert {row["seed"] for row in project.rows("runs", mode="full")} == set("0123")
    assert not (project.path / "reports" / "quick").exists()


def test_both_modes_in_one_session_give_two_reports(project):
    project.write_study(VARIANT)
    project.run("-m", "quick or full").assert_outcomes(passed=2)
    assert project.row("no_bias")["n_seeds"] == "3"
    assert {row["n_seeds"] for row in project.rows(mode="full")} == {"4"}


def test_without_a_marker_full_cases_are_left_out_unless_named(project):
    project.write_study(VARIANT)
    project.run().assert_outcomes(passed=1, deselected=1)
    named = "test_softmax.py::test_softmax[no_bias-full]"
    for spelling in (named, f"./{named}", project.path / named):
        project.run(spelling).assert_outcomes(passed=1)
    project.run("-k", "no_bias-full").assert_outcomes(passed=1, deselected=1)


def test_a_marker_expression_that_names_no_mode_does_not_ask_for_full_cases(project):
    project.write_study(VARIANT)
    (project.path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    project.run("-m", "not slow").assert_outcomes(passed=1, deselected=1)


def test_a_typo_in_the_marker_is_an_error(project):
    project.write_study(VARIANT)
    result = project.run("-m", "qiuck")
    assert result.ret != 0


def test_collection_lists_readable_ids_and_imports_and_writes_nothing_heavy(project):
    project.write_study(VARIANT)
    project.write_conftest("""
import sys
def pytest_unconfigure():
    heavy = {"torch", "transformers", "sklearn", "pandas", "scipy"}
    print("HEAVY", sorted(heavy & set(sys.modules)))
""")
    result = project.run("--collect-only", "-q", "-m", "quick")
    result.stdout.fnmatch_lines(["test_softmax.py::test_softmax[[]no_bias-quick]", "HEAVY [[]]"])
    assert not (project.path / ".ablation").exists()
    assert not (project.path / "reports").exists()


def test_seeds_overrides_the_mode(project):
    project.write_study(VARIANT)
    project.run("-m", "quick", "--ablation-seeds=2")
    assert project.row("no_bias")["n_seeds"] == "2"
    assert project.row("no_bias")["verdict"] != ""


def test_one_seed_gives_numbers_and_no_verdict(project):
    project.write_study(VARIANT)
    project.run("-m", "quick", "--ablation-seeds=1").assert_outcomes(passed=1, deselected=1)
    row = project.row("no_bias")
    assert float(row["delta"]) == pytest.approx(float(row["mean"]) - float(row["baseline_mean"]))
    assert [row[name] for name in ("std", "ci_low", "ci_high", "p_value", "verdict")] == [""] * 5
    assert "no verdict from fewer than two seeds" in project.report()


def test_a_report_of_a_selection_says_what_was_left_out(project):
    project.write_study(VARIANT + ', Variant("heavy", momentum=0.5)')
    project.run("-m", "quick", "-k", "heavy").assert_outcomes(passed=1, deselected=3)
    assert {row["variant"] for row in project.rows()} == {"baseline", "heavy"}
    assert "Not selected in this session: `no_bias`" in project.report()


def test_a_needed_baseline_that_is_a_variant_is_trained_and_shown(project):
    project.write_study(
        VARIANT + ', Variant("heavy", against="no_bias", momentum=0.5)',
    )
    project.run("-m", "quick", "-k", "heavy").assert_outcomes(passed=1, deselected=3)
    assert [row["variant"] for row in project.rows() if row["metric"] == "top1"] == [
        "no_bias", "heavy",
    ]  # fmt: skip
    assert project.row("heavy")["baseline"] == "no_bias"
    assert project.row("no_bias")["delta"] == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ablation-seeds=0"], "--ablation-seeds=0: a comparison needs at least one seed"),
        (["--ablation-seeds=-3"], "--ablation-seeds=-3: a comparison needs at least one seed"),
        (["--ablation-jobs=-1"], "--ablation-jobs=-1: expected 1 or more processes"),
        (["--ablation-device=gpu"], "--ablation-device=gpu: expected auto, cpu, cuda or cuda:N"),
        (
            ["--ablation-checkpoint=sometimes"],
            "--ablation-checkpoint=sometimes: expected a number of minutes (or never), 0",
        ),
        (["--ablation-metric= "], "--ablation-metric= names no metric: give the name of one"),
        (["--ablation-data=nowhere"], "--ablation-data names the folder nowhere, which does not"),
        (["--ablation-report=file.txt/sub"], "the report folder *file.txt/sub/quick cannot be"),
        (["--ablation-store=file.txt/sub"], "the store *file.txt/sub cannot be written"),
    ],
)
def test_a_bad_option_is_a_usage_error_before_anything_trains(project, arguments, says):
    project.write_study(VARIANT)
    (project.path / "file.txt").write_text("in the way")
    result = project.run("-m", "quick", *arguments, jobs=None)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {says}*"])
    assert project.records() == {}


def test_an_unwritable_report_folder_is_said_under_n_too(project):
    project.write_study(VARIANT)
    (project.path / "file.txt").write_text("in the way")
    result = project.run("-m", "quick", "-n", "2", "--ablation-report=file.txt/sub")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*the report folder *file.txt/sub/quick cannot be written*"])


def test_the_data_folder_of_the_variable_must_exist(project, monkeypatch):
    monkeypatch.setenv("ABLATION_DATA", "nowhere")
    project.write_study(VARIANT)
    result = project.run("-m", "quick")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the variable ABLATION_DATA names the folder nowhere*"])


@pytest.mark.parametrize("source", ["option", "variable"])
def test_the_data_folder_reaches_the_training_function_and_the_key(project, monkeypatch, source):
    for name in ("one", "two"):
        (project.path / name).mkdir()
        (project.path / name / "rows.txt").write_text(name)
    (project.path / "test_softmax.py").write_text("""
import softmax
from pytest_ablation import Mode, Study, Variant

def train(config, run):
    run.note("rows", (run.data_dir / "rows.txt").read_text())
    return softmax.train(config, run)

study = Study("mine", train=train, baseline=softmax.BASELINE, metrics=["top1"],
              data=lambda config, data_dir: (data_dir / "rows.txt").read_bytes(),
              variants=[Variant("no_bias", use_bias=False)], quick=Mode(seeds=2, epochs=2))

@study.cases
def test_mine(ablation):
    ablation.run()
""")
    for name in ("one", "two"):
        if source == "variable":
            monkeypatch.setenv("ABLATION_DATA", name)
        option = [f"--ablation-data={name}"] if source == "option" else []
        project.run("-m", "quick", *option).assert_outcomes(passed=1)
        assert f"- rows: {name}" in project.report()
    assert len(project.records()) == 8


def test_a_study_whose_data_are_not_there_fails_and_the_others_do_not(project):
    project.write_study(VARIANT)
    project.write_study(VARIANT, name="test_other.py", more="data=lambda c, d: 1 / 0,")
    path = project.path / "test_other.py"
    path.write_text(path.read_text().replace('"softmax",', '"other",'))
    result = project.run("-m", "quick")
    result.assert_outcomes(passed=1, failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*other, no_bias (quick): failed*", "*ZeroDivisionError*"])
    statuses = {(row["study"], row["status"]) for row in project.rows()}
    assert statuses == {("softmax", "ok"), ("other", "failed")}


def test_two_studies_of_one_name_are_an_error(project):
    project.write_study(VARIANT)
    project.write_study(VARIANT, name="test_other.py")
    result = project.run("-m", "quick")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: two studies are called 'softmax'*rename one*"])


def test_cuda_where_there_is_none_says_so(project):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    project.write_study(VARIANT)
    result = project.run("-m", "quick", "--ablation-device=cuda")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*--ablation-device=cuda was asked for, but*"])


def test_entry_point_and_conftest_together_register_once(project, tmp_path_factory, monkeypatch):
    """Installed for others by its entry point, and named in a conftest.py as here."""
    site = tmp_path_factory.mktemp("site")
    info = site / "pytest_ablation-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-ablation\nVersion: 0\n")
    (info / "entry_points.txt").write_text(entry_points_of_this_project())
    project.write_study(VARIANT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))
    for with_conftest in (True, False):
        if not with_conftest:
            (project.path / "conftest.py").unlink()
        result = project.run("-m", "quick")
        assert result.ret == 0
        result.assert_outcomes(passed=1, deselected=1)


def entry_points_of_this_project():
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    lines = [f"{name} = {value}" for name, value in project["entry-points"]["pytest11"].items()]
    return "\n".join(["[pytest11]", *lines, ""])


def test_a_session_without_cases_imports_none_of_the_logic(project):
    (project.path / "test_plain.py").write_text("def test_plain(): pass")
    code = (
        "import pytest, sys; code = pytest.main(['-q', '-p', 'no:hypothesispytest']); "
        "print([m for m in sys.modules if m.startswith('pytest_ablation.') and "
        "m.split('.')[1] in ('session', 'store', 'report', 'executors')]); sys.exit(code)"
    )
    assert project.python("-c", code).outlines[-1] == "[]"
    assert not (project.path / ".ablation").exists()
