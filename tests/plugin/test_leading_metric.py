"""--ablation-metric: which metric leads in reports, on the screen and in ``ablation.delta()``."""

import pytest
from in_process import planned, report_of, result_of, section, table_in

from pytest_ablation import Mode, Study, StudyError, Variant

VARIANTS = 'Variant("no_bias", use_bias=False), Variant("slow", learning_rate=0.005)'


def train(config, run):
    """Two metrics that order the variants in opposite ways."""
    good, noise = config["good"], 0.001 * run.seed * config["good"]
    run.save_predictions(x=[good, run.seed])
    return {"up": 0.5 + 0.1 * good + noise, "down": 0.5 - 0.1 * good - noise}


def study():
    return Study(
        "opposite", train=train, baseline={"good": 0.0}, metrics=["up", "down"],
        variants=[Variant("one", good=1.0), Variant("two", good=2.0)], quick=Mode(seeds=3),
    )  # fmt: skip


def test_the_leading_metric_orders_the_table_and_is_what_conclusions_are_about():
    up, down = (report_of(result_of(study(), metric=metric)) for metric in (None, "down"))
    assert "Ordered by the change of `up`, the leading metric." in up
    assert "Ordered by the change of `down`, the leading metric." in down
    assert [row["variant"] for row in table_in(up)] == ["`baseline`", "`one`", "`two`"]
    assert [row["variant"] for row in table_in(down)] == ["`baseline`", "`two`", "`one`"]
    assert "down (delta)" in table_in(up)[0]
    assert "up (delta)" in table_in(down)[0]
    assert "`one` is better: up changes by +10.1 points" in section(up, "## Conclusions")
    assert "`one` is worse: down changes by -10.1 points" in section(down, "## Conclusions")
    assert "2 better" in up.splitlines()[2]
    assert "2 worse" in down.splitlines()[2]


def test_the_option_leads_in_the_session_and_leaves_the_table_files_alone(project):
    test = 'print("DELTA", ablation.delta().value, ablation.delta("top2").value, ablation.leading)'
    project.write_study(VARIANTS, test=f"{test}; assert ablation.metric().mean > 0")
    first = project.run("-m", "quick", "-s")
    assert any(line.startswith("softmax (quick), top1") for line in first.outlines)
    before = project.summary_bytes()
    result = project.run("-m", "quick", "-s", "--ablation-metric=top2")
    assert result.ret == 0
    assert project.summary_bytes() == before
    assert any(line.startswith("softmax (quick), top2") for line in result.outlines)
    assert not any(line.startswith("softmax (quick), top1") for line in result.outlines)
    assert "the leading metric" in project.report()
    assert table_in(project.report())[0]["top2"].startswith("0.")
    assert any(line.startswith("9 runs: 0 trained, 9 reused") for line in result.outlines)
    told = [line.partition("DELTA")[2].split() for line in result.outlines if "DELTA" in line]
    assert len(told) == 2
    for leading, named, name in told:
        assert (leading, name) == (named, "top2")


def test_a_metric_that_no_selected_study_has_is_a_usage_error(project):
    project.write_study(VARIANTS)
    result = project.run("-m", "quick", "--ablation-metric=tpo2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --ablation-metric=tpo2: no selected study reports it; did you mean top2*"]
    )
    assert project.records() == {}


def test_it_leads_in_every_study_that_has_it():
    from pytest_ablation.planning import Planner
    from pytest_ablation.study import CaseSpec

    other = Study("other", train=train, baseline={"good": 0.0}, metrics=["top1"],
                  variants=[Variant("one", good=1.0)], quick=Mode(seeds=2))  # fmt: skip
    cases = [("a", CaseSpec(study(), "one", "quick")), ("b", CaseSpec(other, "one", "quick"))]
    plan, _ = Planner("s", None, "cpu", None, "down").plan(cases)
    assert {planned.name: planned.leading for planned in plan.studies} == {
        "opposite": "down", "other": "top1",
    }  # fmt: skip


def test_keys_do_not_depend_on_what_leads():
    one, other = (planned(study(), metric=metric)[0].keys for metric in (None, "down"))
    assert one == other
    with pytest.raises(StudyError, match=r"--ablation-metric=upp: .* did you mean up\?"):
        planned(study(), metric="upp")


def test_long_names_stay_within_80_columns():
    from pytest_ablation.terminal import study_lines

    name, metric = "s" * 80, "m" * 80
    long = Study(
        name, train=lambda config, run: {metric: 0.1 * run.seed * config["a"]}, baseline={"a": 1},
        variants=[Variant("v" * 80, a=2), Variant("w" * 80, against="v" * 80, a=1)],
        metrics=[metric], quick=Mode(seeds=2),
    )  # fmt: skip
    lines = study_lines(result_of(long))
    assert max(map(len, lines)) <= 80
    text = "".join("".join(lines).split())
    assert text.startswith(f"{name}(quick),{metric}variant")
    assert text.endswith(f"{'w' * 80}isthesamemodelas{long.baseline_name}")
