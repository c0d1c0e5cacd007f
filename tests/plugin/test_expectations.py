"""``ablation.expect``: what holds, by the definition; what is refused; what a failure says."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from projects import Project, set_environment
from scipy import stats

from pytest_ablation import AblationError
from pytest_ablation.errors import UnknownName
from pytest_ablation.expectations import expectation, failure_text, judged
from pytest_ablation.statistics import VERDICTS, Delta, paired_delta

sizes = st.floats(0, 2).map(lambda size: round(size, 3))
seeds = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=1, max_size=6)


def delta_of(differences, *, higher_is_better=True):
    pairs = dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0)
    return paired_delta(*pairs, margin=0.005, higher_is_better=higher_is_better)


def outcomes(delta, *, mean=0.5, higher_is_better=True, **arguments):
    findings = judged(expectation(**arguments), mean, delta, higher_is_better=higher_is_better)
    return {finding.argument.partition("=")[0]: finding.outcome for finding in findings}


def between(low, high):
    """A delta with this interval."""
    return Delta((low + high) / 2, low, high, 0.5, 0.01, "inconclusive", {0: low, 1: high})


# --- by the definition ------------------------------------------------------------------------


@given(seeds, sizes)
@example([0.1, 0.1], 0.0)
@example([-0.02, -0.02, -0.02], 0.01)
@example([0.3], 0.1)
def test_what_holds_is_what_is_true_of_every_change_in_the_interval(differences, size):
    delta = delta_of(differences)
    is_known = len(differences) > 1 and delta.p_value is not None
    ends = [delta.low, delta.high] if is_known else [-math.inf, math.inf]
    drops = [-end for end in ends]  # an interval is all values between its ends
    holds = {
        "worse_than": all(drop > size for drop in drops),
        "no_worse_than": all(drop <= size for drop in drops),
        "better_than": all(end > size for end in ends),
        "no_better_than": all(end <= size for end in ends),
    }
    opposite = {"worse_than": "no_worse_than", "better_than": "no_better_than"}
    opposite |= {no: yes for yes, no in opposite.items()}
    for name in holds:
        expected = "holds" if holds[name] else "wrong" if holds[opposite[name]] else "undecided"
        assert outcomes(delta, **{name: size}) == {name: expected}
    for name in ("no_worse_than", "no_better_than"):
        expected = "wrong" if holds[opposite[name]] else "holds"
        assert outcomes(delta, **{name: size}, proof=False) == {name: expected}


@given(seeds, sizes, st.sampled_from(VERDICTS), st.booleans())
def test_a_metric_that_is_better_when_lower_is_the_mirror_image(differences, size, verdict, proof):
    risen = delta_of(differences)
    fallen = delta_of([-change for change in differences], higher_is_better=False)
    for arguments in (
        {"worse_than": size}, {"better_than": size}, {"verdict": verdict},
        {"no_worse_than": size, "no_better_than": size, "proof": proof},
    ):  # fmt: skip
        there = outcomes(risen, **arguments)
        assert outcomes(fallen, higher_is_better=False, **arguments) == there


@given(seeds, st.sets(st.sampled_from(VERDICTS), min_size=1))
def test_a_verdict_holds_where_it_is_one_of_those_that_are_named(differences, named):
    delta = delta_of(differences)
    expected = "undecided" if delta.verdict in (None, "inconclusive") else "wrong"
    expected = "holds" if delta.verdict in named else expected
    assert outcomes(delta, verdict=named) == {"verdict": expected}
    if len(named) == 1:
        assert outcomes(delta, verdict=next(iter(named))) == {"verdict": expected}


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_limits_of_the_mean_include_themselves_and_need_no_delta(mean, limit):
    found = outcomes(None, mean=mean, at_least=limit)["at_least"]
    assert (found == "holds") == (mean >= limit)
    found = outcomes(None, mean=mean, at_most=limit)["at_most"]
    assert (found == "holds") == (mean <= limit)
    assert set(outcomes(None, mean=mean, at_least=mean, at_most=mean).values()) == {"holds"}


def test_an_end_that_touches_the_limit_is_within_it_and_not_beyond():
    touching = between(-0.02, 0.01)
    assert outcomes(touching, no_worse_than=0.02, no_better_than=0.01) == {
        "no_worse_than": "holds", "no_better_than": "holds",
    }  # fmt: skip
    assert outcomes(between(-0.05, -0.02), worse_than=0.02) == {"worse_than": "undecided"}
    assert outcomes(between(-0.05, -0.0201), worse_than=0.02) == {"worse_than": "holds"}
    assert outcomes(between(0.01, 0.05), better_than=0.01) == {"better_than": "undecided"}
    assert outcomes(between(0.0, 0.05), better_than=0.0) == {"better_than": "undecided"}


def test_each_part_has_a_finding_of_its_own():
    found = outcomes(between(-0.03, -0.01), worse_than=0.0, no_worse_than=0.05, at_least=0.6)
    assert found == {"worse_than": "holds", "no_worse_than": "holds", "at_least": "wrong"}


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"needs one of worse_than, .* at_most: expect\('top1', worse_than=0\)"),
        ({"proof": False}, "needs one of worse_than"),
        ({"worse_than": -0.01}, "worse_than is the size of a change .* 0 or more .*found -0.01"),
        ({"better_than": math.nan}, "better_than is the size .* found nan"),
        ({"no_worse_than": math.inf}, "no_worse_than is the size .* found inf"),
        ({"no_better_than": True}, "no_better_than is the size .* found True"),
        ({"worse_than": "0.02"}, "worse_than is the size .* found '0.02'"),
        ({"at_least": math.nan}, "at_least is a value of the metric, a finite number; found nan"),
        ({"at_most": False}, "at_most is a value of the metric.*found False"),
        ({"verdict": ()}, "allows none: name one or more of worse, better"),
        ({"verdict": "worse", "proof": False}, "proof=False is for no_worse_than and no_better"),
        ({"worse_than": 0.1, "proof": False}, "proof=False is for no_worse_than"),
        ({"no_worse_than": 0.1, "proof": 0}, "proof is True or False, found 0"),
        ({"at_least": 0.7, "at_most": 0.6}, "at_most=0.6 and at_least=0.7 cannot both hold"),
        ({"worse_than": 0.0, "better_than": 0.0}, "worse_than=0.0 and better_than=0.0 cannot"),
        ({"worse_than": 0.1, "no_worse_than": 0.1}, "no_worse_than=0.1 and worse_than=0.1 can"),
        ({"better_than": 0.2, "no_better_than": 0.1}, "no_better_than=0.1 and better_than=0.2"),
    ],
)
def test_an_expectation_that_says_nothing_sound_is_an_error(arguments, message):
    with pytest.raises(AblationError, match=message):
        expectation(**arguments)


@pytest.mark.parametrize("verdict", ["wors", ("worse", "wors"), ["ok"], 1])
def test_an_unknown_verdict_is_named_with_those_that_there_are(verdict):
    with pytest.raises(UnknownName, match=r"there is no verdict .*no_detectable_change"):
        expectation(verdict=verdict)


# --- what a failure says ----------------------------------------------------------------------


def text_of(differences, *, mean=0.5, higher_is_better=True, names=("bare", "base"), **arguments):
    delta = delta_of(differences, higher_is_better=higher_is_better)
    findings = judged(expectation(**arguments), mean, delta, higher_is_better=higher_is_better)
    values = {seed: 0.5 + change for seed, change in enumerate(differences)}
    text = failure_text("parts, bare (quick): top1 is not as expected", findings,
                        mean=mean, delta=delta, values=values, names=names)  # fmt: skip
    assert all(len(line) <= 80 for line in text.splitlines()), text
    return " ".join(text.split())


def test_what_is_undecided_says_how_many_seeds_would_settle_it():
    changes = [-0.05, -0.01, -0.03]
    text = text_of(changes, worse_than=0.0)
    assert "expected worse_than=0: the whole interval below 0 (undecided)" in text
    number = int(re.search(r"about (\d+) seeds settle it .*--ablation-seeds=\1\)", text)[1])

    def power(count):
        """How often a t-test over so many simulated seeds finds this change."""
        rng = np.random.default_rng(0)
        drawn = rng.normal(np.mean(changes), np.std(changes, ddof=1), (20_000, count))
        found = stats.ttest_1samp(drawn, 0, axis=1).statistic
        return (found < -stats.t.ppf(0.975, count - 1)).mean()

    assert power(number) >= 0.79
    assert power(number - 1) < 0.81


def test_seeds_are_counted_from_the_limit_and_not_from_0():
    near, far = (text_of([-0.05, -0.01, -0.03], no_worse_than=size) for size in (0.05, 0.06))
    counts = [int(re.search(r"about (\d+) seeds", text)[1]) for text in (near, far)]
    assert counts[0] > counts[1] > 3
    near, far = (text_of([-0.05, -0.01, -0.03], worse_than=size) for size in (0.005, 0.01))
    counts = [int(re.search(r"about (\d+) seeds", text)[1]) for text in (near, far)]
    assert counts[1] > counts[0] > 3
    verdict = text_of([0.05, -0.01, 0.03], verdict=("better", "no_detectable_change"))
    assert "more seeds make it narrower" in verdict
    change = text_of([0.05, -0.01, 0.03], better_than=0.0)
    verdict = text_of([0.05, -0.01, 0.03], verdict="better")
    counts = [int(re.search(r"about (\d+) seeds", text)[1]) for text in (change, verdict)]
    assert counts[0] == counts[1]
    assert "more than 50 seeds" in text_of([-0.05, -0.01, -0.03], no_worse_than=0.0301)


def test_no_number_of_seeds_is_promised_where_the_mean_is_on_the_other_side():
    text = text_of([0.05, -0.01, 0.03], worse_than=0.0)
    assert "more seeds would rather show that it does not hold" in text
    assert "about" not in text
    assert "rather show that it does not hold" in text_of([0.05, -0.01, 0.03], verdict="worse")


def test_what_is_proven_wrong_asks_for_no_more_seeds():
    text = text_of([-0.051, -0.05, -0.049], no_worse_than=0.02, at_most=1)
    assert "no part of the interval below -0.02 (wrong)" in text
    assert "at_most=1: the mean not above 1 (holds)" in text
    assert "These seeds prove that no_worse_than=0.02 does not hold" in text
    assert "--ablation-seeds" not in text
    assert "verdict of these seeds is settled" in text_of([0.05, 0.051], verdict="worse")


def test_the_direction_in_words_is_that_of_the_metric():
    text = text_of([-0.051, -0.05, -0.049], worse_than=0.02, higher_is_better=False)
    assert "expected worse_than=0.02: the whole interval above +0.02 (wrong)" in text
    assert "to -0.0475, better, 3 seeds" in text


def test_one_seed_and_no_spread_say_why_nothing_is_proven():
    one = text_of([-0.3], worse_than=0.02)
    assert "1 seed, so no interval and no verdict" in one
    assert "Two are the least" in one
    alike = text_of([-0.3, -0.3], worse_than=0.02)
    assert "the same at all 2 seeds, which says nothing about its spread" in alike
    assert "proof=False need no proof" in alike


@given(seeds, st.text("abc_-", min_size=1, max_size=80), sizes)
def test_a_failure_shows_all_seeds_within_80_columns(differences, name, size):
    delta = delta_of(differences)
    assume(outcomes(delta, better_than=size) != {"better_than": "holds"})
    text = text_of(differences, better_than=size, names=(name, name))
    for seed, change in enumerate(differences):
        assert f" {seed} {0.5 + change:.4f} 0.5000 {change:+.4f} " in text


# --- in a session -----------------------------------------------------------------------------

CHECKS = """
import pytest
from pytest_ablation import AblationError

EXPECTATIONS = {
    "met": dict(verdict=["worse", "inconclusive", "no_detectable_change", "better"]),
    "of_change": dict(no_worse_than=0.0, no_better_than=0.0),
    "of_mean": dict(at_least=0.99),
}

@study.cases
@pytest.mark.parametrize("what", EXPECTATIONS)
def test_expect(ablation, what):
    assert ablation.expect(**EXPECTATIONS[what]) == ablation.delta()
    assert ablation.expect("top2", at_least=0.0) is ablation.metric("top2")
    change = ablation.delta("top1")  # a fall is good
    ablation.expect("top1", no_worse_than=max(0, change.high), no_better_than=max(0, -change.low))

grid = Study.grid(
    "sizes", train=train, baseline=BASELINE, axes={"use_bias": [True, False]},
    select="validation_top1", metrics=["top1", "validation_top1"], quick=Mode(seeds=3, epochs=2),
)

@grid.cases
def test_expect_of_cells(ablation):
    ablation.expect("top1", at_least=0.0)
    if ablation.config["use_bias"]:
        with pytest.raises(AblationError, match="has no delta: ask for"):
            ablation.expect("top1", worse_than=0.0)
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A session of the checks above, and its project."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch)
        project = Project(tmp_path_factory.mktemp("expectations"))
        project.write_study(
            'Variant("no_bias", use_bias=False)', more='lower_is_better=["top1"],', test="pass"
        )
        module = project.path / "test_softmax.py"
        module.write_text(module.read_text().partition("@study.cases")[0] + CHECKS)
        return project.run("-m", "quick"), project


def test_an_expectation_passes_where_it_holds_and_fails_where_not(checked):
    result, project = checked
    result.assert_outcomes(passed=3, failed=2, deselected=3)
    assert float(project.row("no_bias")["delta"]) != 0  # else either direction would do


def test_a_failure_has_the_numbers_of_the_table_and_its_seeds(checked):
    result, project = checked
    shown = " ".join(" ".join(result.outlines).split())
    rows = [row for row in project.rows() if row["study"] == "softmax"]
    (row,) = (row for row in rows if (row["variant"], row["metric"]) == ("no_bias", "top1"))
    assert "softmax, no_bias (quick): top1 is not as expected" in shown
    assert "expected no_worse_than=0: no part of the interval above 0 (undecided)" in shown
    ends = " to ".join(f"{float(row[name]):+.4f}" for name in ("ci_low", "ci_high"))
    assert f"found a change of {float(row['delta']):+.4f} (mean {float(row['mean']):.4f})" in shown
    assert f"95 % interval {ends}, {row['verdict'].replace('_', ' ')}, 3 seeds" in shown
    runs = [run for run in project.rows("runs") if run["study"] == "softmax"]
    for run in runs:
        if (run["variant"], run["metric"]) == ("no_bias", "top1"):
            numbers = (float(run[name]) for name in ("value", "baseline_value"))
            line = " ".join([run["seed"], *(f"{number:.4f}" for number in numbers)])
            assert f" {line} {float(run['delta']):+.4f} " in shown
    assert "expected at_least=0.99: the mean not below 0.99 (wrong)" in shown


def test_a_wrong_argument_fails_before_anything_is_trained(project):
    project.write_study(
        'Variant("no_bias", use_bias=False)', test='ablation.expect("top1", worse_than=-1)'
    )
    result = project.run("-m", "quick", "-n0")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*worse_than is the size of a change*found -1"])
    assert not project.records()
