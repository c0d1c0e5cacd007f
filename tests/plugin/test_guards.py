"""Every guard, seen to fire from outside: by outcome, exit status, table and message."""

import pytest


def test_a_variant_that_has_an_effect_passes(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    result = project.run("-m", "quick")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 0
    assert project.row("no_bias")["status"] == "ok"


def test_an_ignored_field_fails_its_case_and_is_named(project):
    project.write_study('Variant("idle", unused=1), Variant("no_bias", use_bias=False)')
    result = project.run("-m", "quick")
    result.assert_outcomes(passed=1, failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*idle changed nothing: with unused=1 instead of 0*"])
    result.stdout.fnmatch_lines(["*The training code never reads 'unused'*"])
    assert project.row("idle")["status"] == "no_effect"
    assert project.row("idle")["verdict"] == ""
    assert {r["status"] for r in project.rows("runs") if r["variant"] == "idle"} == {"no_effect"}
    assert project.row("no_bias")["status"] == "ok"


def test_clipping_that_never_clipped_says_the_largest_norm_and_the_threshold(project):
    project.write_study('Variant("clip", clip_norm=1000.0)')
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    limits = [
        record["record"]["limits"]["clip_norm"]
        for record in project.records().values()
        if record["record"]["limits"]
    ]
    largest = max(limit["largest_seen"] for limit in limits)
    assert len(limits) == 3
    assert 0 < largest < 1000
    says = f"clip_norm=1000.0 was never reached: the largest value seen was {largest:.4g}"
    result.stdout.fnmatch_lines([f"*The threshold {says}*"])


def test_clipping_that_clipped_passes(project):
    project.write_study('Variant("clip", clip_norm=0.1)')
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("train_rows=180", "training data"),
        ("batch_size=40", "batch order, number of steps (10 against 20)"),
    ],
)
def test_an_undeclared_difference_is_unfair_and_named(project, change, expected):
    project.write_study(f'Variant("other", {change})')
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines([f"*other is not comparable with baseline: seed 0: {expected}*"])
    row = project.row("other")
    assert (row["status"], row["verdict"]) == ("unfair", "")


def test_a_declared_difference_is_fair(project):
    project.write_study('Variant("other", batch_size=40, allow_different=["batch_order", "steps"])')
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)


def test_a_diverging_run_stops_at_once_and_the_other_seeds_still_run(project):
    project.write_study('Variant("hot", learning_rate=1e200, momentum=1e10)')
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*hot, seed 2: diverged: loss became * in epoch 1 (step *"])
    result.stdout.fnmatch_lines(["*the last finite loss was *"])
    rows = [r for r in project.rows("runs") if r["variant"] == "hot" and r["metric"] == "top1"]
    assert [(r["seed"], r["status"], r["value"]) for r in rows] == [
        (seed, "diverged", "") for seed in "012"
    ]
    assert all(int(r["steps"]) < 20 for r in rows), "the run went on after the loss was gone"
    assert project.row("hot")["status"] == "diverged"
    assert project.row("baseline")["n_seeds"] == "3"


def test_an_exception_in_training_is_a_failed_row_and_the_rest_is_there(project):
    project.write_study('Variant("broken", do_raise=True), Variant("no_bias", use_bias=False)')
    result = project.run("-m", "quick")
    result.assert_outcomes(passed=1, failed=1, deselected=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*seed 1: failed: RuntimeError: the disk with the data is gone*"])
    result.stdout.fnmatch_lines(["*Traceback (most recent call last)*", "*in train*"])
    row = project.row("broken")
    assert (row["status"], row["n_seeds"], row["verdict"]) == ("failed", "2", "")
    assert r"gone \| \<script\>" in project.report(), "a message must not break the Markdown"
    assert "run the same command again" in project.report()


def test_a_failing_baseline_fails_the_variants_that_need_it(project):
    project.write_study('Variant("no_bias", use_bias=False)', more="")
    text = (project.path / "test_softmax.py").read_text()
    (project.path / "test_softmax.py").write_text(
        text.replace("baseline=BASELINE", 'baseline={**BASELINE, "do_raise": True}').replace(
            "use_bias=False", "use_bias=False, do_raise=False"
        )
    )
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*its baseline baseline, seed 1: failed: RuntimeError*"])
    assert project.row("no_bias")["status"] == "failed"


def test_a_case_that_never_runs_its_training_turns_the_session_red(project):
    project.write_study('Variant("no_bias", use_bias=False)', test="pass")
    result = project.run("-m", "quick")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*no_bias-quick* passed, but its result is missing*"])
    assert project.row("no_bias")["status"] == "missing"


def test_a_case_that_looks_away_from_a_kept_run_without_effect_turns_the_session_red(project):
    project.write_study('Variant("idle", unused=1)')
    project.run("-m", "quick").assert_outcomes(failed=1, deselected=1)
    project.write_study('Variant("idle", unused=1)', test="pass")
    result = project.run("-m", "quick")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*idle-quick* passed, but its result is no_effect*"])


def test_a_metric_that_training_does_not_return_fails_and_is_named(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    path = project.path / "test_softmax.py"
    path.write_text(path.read_text().replace('["top1", "top2"]', '["top1", "top7"]'))
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*train returned no metric 'top7', only top1, top2*"])


def test_a_training_function_that_exits_is_a_failed_row(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    code = project.path / "softmax.py"
    exits = "    if not config['use_bias']:\n        raise SystemExit(0)\n"
    code.write_text(code.read_text().replace("    x, y = points(", exits + "    x, y = points(", 1))
    for jobs in (1, 2):
        result = project.run("-m", "quick", jobs=jobs)
        result.assert_outcomes(failed=1, deselected=1)
        result.stdout.fnmatch_lines(["*no_bias, seeds 0, 1 and 2: failed: SystemExit: 0*"])


def test_a_case_that_swallows_its_failure_turns_the_session_red(project):
    test = "import pytest\n    with pytest.raises(pytest.fail.Exception): ablation.run()"
    project.write_study('Variant("broken", do_raise=True)', test=test)
    result = project.run("-m", "quick")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*passed, but its result is failed*"])


def test_a_divergence_that_training_swallows_is_seen_all_the_same(project):
    project.write_study('Variant("hot", learning_rate=1e200, momentum=1e10)')
    code = project.path / "softmax.py"
    step = "            run.step(batch, epoch=epoch, loss=loss)\n"
    swallowed = "            try:\n    " + step + "            except Exception:\n"
    swallowed += "                return {'top1': 0.5, 'top2': 0.5}\n"
    assert step in code.read_text()
    code.write_text(code.read_text().replace(step, swallowed))
    project.run("-m", "quick").assert_outcomes(failed=1, deselected=1)
    assert project.row("hot")["status"] == "diverged"


def test_a_baseline_whose_data_are_not_there_fails_its_variants(project):
    data = "data=lambda config, data_dir: 1 / 0 if config['use_bias'] else 1,"
    project.write_study('Variant("no_bias", use_bias=False)', more=data)
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    assert project.row("no_bias")["status"] == "failed"


def test_the_margin_of_the_study_decides_what_is_no_detectable_change(project):
    project.write_study('Variant("slow", learning_rate=0.05)', more="margin=0.9,")
    project.run("-m", "quick")
    assert project.row("slow")["verdict"] == "no_detectable_change"
    assert "no change larger than the margin of 90 points" in project.report()
