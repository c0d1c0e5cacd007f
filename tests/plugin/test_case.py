"""What a test function can ask of its case."""

VARIANT = 'Variant("no_bias", use_bias=False)'


def test_deltas_are_those_of_the_table(project):
    project.write_study(
        VARIANT,
        test="""d = ablation.delta("top1")
    print("DELTA", repr(d.value), repr(d.low), repr(d.high), d.verdict, sorted(d.by_seed))
    print("MEAN", ablation.metric("top2").mean, ablation.study, ablation.variant, ablation.mode)
    print("CONFIG", ablation.config["use_bias"])""",
    )
    result = project.run("-m", "quick", "-s")
    shown = {line.split()[0]: line.split()[1:] for line in result.outlines
             if line.startswith(("DELTA", "MEAN", "CONFIG"))}  # fmt: skip
    row = project.row("no_bias")
    for value, column in zip(shown["DELTA"], ["delta", "ci_low", "ci_high"], strict=False):
        assert format(float(value), ".10g") == row[column]
    assert shown["DELTA"][3:] == [row["verdict"], "[0,", "1,", "2]"]
    assert format(float(shown["MEAN"][0]), ".10g") == project.row("no_bias", "top2")["mean"]
    assert shown["MEAN"][1:] == ["softmax", "no_bias", "quick"]
    assert shown["CONFIG"] == ["False"]


def test_an_unknown_metric_is_an_error_with_the_nearest_names(project):
    project.write_study(VARIANT, test='ablation.delta("topp1")')
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*study 'softmax' reports no metric 'topp1'; did you mean top*"])


def test_a_failed_assertion_fails_the_case_but_not_the_row(project):
    project.write_study(VARIANT, test='assert ablation.delta("top1").low > 0.5')
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    assert project.row("no_bias")["status"] == "ok"


def test_an_interval_from_one_seed_supports_no_claim(project):
    project.write_study(VARIANT, test='assert ablation.delta("top1").low > -1')
    result = project.run("-m", "quick", "--ablation-seeds=1")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*assert -inf > -1"])


def test_a_skipped_case_is_not_an_error(project):
    project.write_study(VARIANT, test='import pytest; pytest.skip("not today")')
    result = project.run("-m", "quick")
    result.assert_outcomes(skipped=1, deselected=1)
    assert result.ret == 0
    assert project.row("no_bias")["status"] == "missing"


def test_the_fixture_outside_a_study_says_what_to_do(project):
    (project.path / "test_alone.py").write_text("def test_alone(ablation): pass")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*decorate the test with @study.cases*"])
