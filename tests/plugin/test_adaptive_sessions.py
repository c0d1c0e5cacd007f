"""Sessions that spend seeds where verdicts are open: what trains, what is reused, what is said."""

import os

import pytest
from projects import Project, set_environment

VARIANTS = 'Variant("no_bias", use_bias=False), Variant("uphill", learning_rate=-0.05)'
AUTO = ["-m", "quick", "--ablation-seeds=auto"]


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory):
    """A project after one session; its output, and the seeds of each row."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch)
        project = Project(tmp_path_factory.mktemp("adaptive"))
        project.write_study(VARIANTS)
        result = project.run(*AUTO)
        result.assert_outcomes(passed=2, deselected=2)
    return project, result, {row["variant"]: int(row["n_seeds"]) for row in project.rows()}


def test_only_rows_whose_verdict_is_open_get_more_seeds(adaptive):
    project, result, seeds = adaptive
    assert seeds == {"baseline": 12, "no_bias": 12, "uphill": 3}
    assert project.row("uphill")["verdict"] == "worse"
    assert len(project.records()) == 27
    result.stdout.fnmatch_lines(["*uphill *worse (3)", "*no_bias *(12)", "27 runs: 27 trained*"])


def test_the_report_says_what_was_spent_and_what_was_saved(adaptive):
    text = " ".join(adaptive[0].report().split())
    assert "after 3, 6, 12 seeds: 27 runs, 9 fewer than with 12 seeds for every row" in text
    assert "Lan and DeMets" in text
    assert "| `uphill` | `baseline` | 3 |" in text
    assert "| `no_bias` | `baseline` | 12 |" in text


def test_a_second_session_reuses_all_and_two_workers_find_the_same(adaptive, project):
    project.copy(adaptive[0])
    summary = project.summary_bytes()
    project.run(*AUTO).stdout.fnmatch_lines(["27 runs: 0 trained, 27 reused"])
    assert project.summary_bytes() == summary
    result = project.run(*AUTO, "-n", "2", "--ablation-fresh", jobs=None)
    result.stdout.fnmatch_lines(["27 runs: 27 trained, 0 reused"])
    assert project.summary_bytes() == summary


def test_intervals_can_cover_test_examples_too(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    seeds = {}
    for interval in ("seeds", "seeds+examples"):
        project.run("-m", "quick", f"--ablation-interval={interval}")
        seeds[interval] = project.row("no_bias")
        assert ("seeds+examples" in project.report()) == (interval == "seeds+examples")
    low, high = (
        [float(seeds[interval][end]) for interval in ("seeds", "seeds+examples")]
        for end in ("ci_low", "ci_high")
    )
    assert low[1] < low[0] < high[0] < high[1]
    assert {row["n_seeds"] for row in seeds.values()} == {"3"}
    assert seeds["seeds"]["delta"] == seeds["seeds+examples"]["delta"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ablation-max-seeds=1"], "*--ablation-max-seeds=1: expected 2 or more*"),
        (["--ablation-max-seeds=many"], "*argument --ablation-max-seeds: invalid int value*"),
        (["--ablation-seeds=some"], "*--ablation-seeds=some: *expected a number or auto*"),
        (["--ablation-interval=examples"], "*--ablation-interval: invalid choice: 'examples'*"),
    ],
    ids=["one", "no number", "no seeds", "no interval"],
)
def test_options_that_cannot_be_meant_end_the_session_before_it_trains(project, options, message):
    project.write_study(VARIANTS)
    result = project.run("-m", "quick", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert not (project.path / ".ablation").exists()


def test_one_variant_alone_gets_its_seeds_up_to_the_most(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    result = project.run(*AUTO, "--ablation-max-seeds=5")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["10 runs: 10 trained, 0 reused"])
    assert {row["n_seeds"] for row in project.rows()} == {"5"}


def test_a_case_whose_own_run_fails_does_not_wait_for_the_other_rows(project):
    project.write_study('Variant("broken", do_raise=True), ' + VARIANTS)
    result = project.run("-m", "quick", "-x")
    result.assert_outcomes(failed=1, deselected=3)
    result.stdout.fnmatch_lines(["*the disk with the data is gone*"])
    assert len(project.records()) == 5  # three of the baseline, two of its own
    assert project.row("uphill")["status"] == "missing"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="dies by a signal of POSIX")
def test_a_run_that_kills_its_worker_does_not_kill_those_that_wait_for_its_row(project):
    """Two more cases need the deadly row's spread: each would lose a worker to it."""
    project.write_study('Variant("deadly", do_die="SIGKILL"), ' + VARIANTS)
    code = project.path / "softmax.py"
    told = 'open("deaths.txt", "a").write("died\\n")\n        os.kill(os.getpid()'
    code.write_text(code.read_text().replace("os.kill(os.getpid()", told))
    result = project.run("-m", "quick", "-n", "2", jobs=None)
    assert result.ret != 0
    statuses = {row["variant"]: row["status"] for row in project.rows()}
    assert statuses == {"baseline": "ok", "deadly": "missing", "no_bias": "ok", "uphill": "ok"}
    assert project.row("uphill")["verdict"] == "worse"
    assert (project.path / "deaths.txt").read_text().count("died") <= 2
