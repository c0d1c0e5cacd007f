"""Runs are kept whole, reused, and never believed when they are damaged."""

import json
import os
import shutil
import time

import pytest
from projects import trained_project

VARIANT = 'Variant("no_bias", use_bias=False)'


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    return trained_project(tmp_path_factory.mktemp("trained"), VARIANT)


@pytest.fixture
def trained(project, trained_once):
    """A project of its own for this test, whose six runs are kept."""
    project.copy(trained_once)
    return project


def counts(result):
    """The line that says how many runs were trained and reused."""
    return next(line for line in result.outlines if "trained," in line and "reused" in line)


def one_record_file(project, name="record.json"):
    return sorted((project.path / ".ablation" / "runs").glob(f"*/{name}"))[0]


def test_a_second_session_reuses_every_run_and_gives_the_same_summary(project):
    project.write_study(VARIANT)
    assert counts(project.run("-m", "quick")) == "6 runs: 6 trained, 0 reused"
    first = project.summary_bytes()
    again = project.run("-m", "quick", new_interpreter=True)  # another order of sets
    assert counts(again) == "6 runs: 0 trained, 6 reused"
    assert project.summary_bytes() == first
    assert {row["reused"] for row in project.rows("runs")} == {"true"}
    assert "6 runs: 0 trained, 6 reused." in project.report()


def test_fresh_trains_again_and_gives_the_same_bits(trained):
    before = trained.records()
    again = trained.run("-m", "quick", "--ablation-fresh", new_interpreter=True)
    assert counts(again) == "6 runs: 6 trained, 0 reused"
    after = trained.records()
    assert before.keys() == after.keys()
    for key in before:
        assert before[key]["record"]["outcome"] == after[key]["record"]["outcome"]
        assert before[key]["record"]["session"] != after[key]["record"]["session"]


def test_a_new_variant_reuses_the_baseline(trained):
    trained.write_study(VARIANT + ', Variant("heavy", momentum=0.5)')
    result = trained.run("-m", "quick")
    assert counts(result) == "9 runs: 3 trained, 6 reused"
    assert [line for line in result.outlines if line.startswith("ablation 9/9 softmax heavy seed")]


@pytest.mark.parametrize(
    ("old", "new", "trained"),
    [
        ("np.random.default_rng(seed)", "np.random.default_rng(seed + 1)", 6),
        ("normal(0, 0.1, (3, 3))", "normal(0, 0.2, (3, 3))", 6),
        ("# only a comment\n", "# another comment\n", 0),
    ],
    ids=["helper", "training function", "comment"],
)
def test_changed_training_code_trains_again_and_changed_comments_do_not(project, old, new, trained):
    project.write_study(VARIANT)
    code = project.path / "softmax.py"
    code.write_text("# only a comment\n" + code.read_text())
    project.run("-m", "quick")
    text = code.read_text()
    assert old in text
    code.write_text(text.replace(old, new))
    reused = 6 - trained
    assert counts(project.run("-m", "quick")) == f"6 runs: {trained} trained, {reused} reused"


def truncate(project):
    file = one_record_file(project)
    file.write_text(file.read_text()[:100])


def edit_a_metric(project):
    file = one_record_file(project)
    content = json.loads(file.read_text())
    content["record"]["metrics"]["top1"] = 0.999
    file.write_text(json.dumps(content))


def edit_the_history(project):
    file = one_record_file(project, "history.csv")
    file.write_text(file.read_text() + "3,train,loss,0.0\n")


def remove_the_record(project):
    one_record_file(project).unlink()


def claim_a_newer_schema(project):
    file = one_record_file(project)
    content = json.loads(file.read_text())
    content["schema"] = 999
    file.write_text(json.dumps(content))


def swap_two_runs(project):
    first, second = sorted((project.path / ".ablation" / "runs").iterdir())[:2]
    shutil.rmtree(first)
    shutil.copytree(second, first)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate, "is not whole"),
        (edit_a_metric, "was changed after it was written"),
        (edit_the_history, "was changed after it was written"),
        (remove_the_record, "has no record.json"),
        (claim_a_newer_schema, "has schema 999; this version reads 1, 2 and 3. A newer version "),
        (swap_two_runs, "holds the record of"),
    ],
)
def test_a_damaged_record_is_warned_of_set_aside_and_trained_again(trained, damage, says):
    summary = trained.summary_bytes()
    damage(trained)
    result = trained.run("-m", "quick")
    result.assert_outcomes(passed=1, deselected=1, warnings=1)
    result.stdout.fnmatch_lines([f"*RecordWarning: *{says}*trained again*"])
    assert counts(result) == "6 runs: 1 trained, 5 reused"
    assert trained.summary_bytes() == summary
    assert "trained again, the damaged record is set aside" in trained.report()
    assert trained.report().count("the damaged record is set aside") == 1
    assert len(list((trained.path / ".ablation" / "damaged").iterdir())) == 1


def test_a_damaged_record_is_mended_by_the_next_session_where_warnings_are_errors(trained):
    truncate(trained)
    strict = ["-m", "quick", "-W", "error::pytest_ablation.errors.RecordWarning"]
    trained.run(*strict).assert_outcomes(failed=1, deselected=1)
    trained.run(*strict).assert_outcomes(passed=1, deselected=1)


def test_a_failed_run_is_not_kept(project):
    project.write_study('Variant("broken", do_raise=True)')
    assert counts(project.run("-m", "quick")) == "6 runs: 5 trained, 0 reused"
    assert counts(project.run("-m", "quick")) == "6 runs: 0 trained, 5 reused"


def test_predictions_are_kept_per_example_and_readable_without_pickle(trained):
    import numpy as np

    for file in (trained.path / ".ablation" / "runs").glob("*/predictions.npz"):
        top1 = json.loads((file.parent / "record.json").read_text())["record"]["metrics"]["top1"]
        with np.load(file, allow_pickle=False) as arrays:
            assert arrays["top1"].mean() == pytest.approx(top1)
            assert arrays["scores"].shape == (100, 3)


def test_another_store_folder_holds_the_runs(project):
    project.write_study(VARIANT)
    project.run("-m", "quick", "--ablation-store=räume mit platz/store")
    assert not (project.path / ".ablation").exists()
    assert len(list((project.path / "räume mit platz" / "store" / "runs").iterdir())) == 6


def test_nothing_is_left_of_a_finished_session_but_runs_and_reports(trained):
    assert list((trained.path / ".ablation" / "sessions").iterdir()) == []
    assert sorted(p.name for p in (trained.path / "reports" / "quick").iterdir()) == [
        "figures", "history.csv", "report.md", "results.json", "runs.csv", "summary.csv",
    ]  # fmt: skip


def test_fresh_never_reports_what_older_sessions_kept(project):
    project.write_study(VARIANT)
    code = project.path / "softmax.py"
    fails = "    if os.path.exists('fail'):\n        raise RuntimeError('now it fails')\n"
    code.write_text(code.read_text().replace("    x, y = points(", fails + "    x, y = points(", 1))
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)
    (project.path / "fail").touch()
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)
    project.run("-m", "quick", "--ablation-fresh").assert_outcomes(failed=1, deselected=1)
    assert (project.row("no_bias")["status"], project.row("no_bias")["n_seeds"]) == ("failed", "0")
    assert len(project.records()) == 6, "a run that fails costs no record"


def test_what_killed_sessions_left_is_removed_after_a_day(project):
    project.write_study(VARIANT)
    store = project.path / ".ablation"
    long_ago = time.time() - 2 * 24 * 3600
    for folder in ("sessions/old", "runs/.new-old", "sessions/young", "runs/.new-young"):
        (store / folder / "journal").mkdir(parents=True)
        if folder.endswith("old"):
            os.utime(store / folder / "journal", (long_ago, long_ago))
            os.utime(store / folder, (long_ago, long_ago))
    (store / "sessions" / "gone").symlink_to("nowhere")
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)
    left = {path.name for path in [*(store / "sessions").iterdir(), *(store / "runs").iterdir()]}
    assert {"young", ".new-young"} <= left
    assert not {"old", ".new-old"} & left


def test_a_report_that_cannot_be_written_at_the_end_turns_the_session_red(project):
    project.write_study(VARIANT)
    (project.path / "reports" / "quick" / "report.md").mkdir(parents=True)
    result = project.run("-m", "quick")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*the reports in * could not be written: *the runs are kept in *"])
    assert len(project.records()) == 6
