"""What the report concludes from a study of variants, and where its conclusions stand."""

import pytest
from in_process import report_of, result_of, section
from scipy import stats
from told_studies import of_grid, on_best_cell, told_grid, told_study

from pytest_ablation import Mode, Study, Variant

NO_POSITIONS = Variant("no_positions", positions=None)
ONE_HEAD = Variant("one_head", heads=1)
NO_FFN = Variant("no_ffn", ffn=0)
UNTIED = Variant("untied", tied=False)
SINUSOIDAL = Variant("sinusoidal", positions="sinusoidal")
FASTER = Variant("faster", rate=0.2)
BASE = [0.800, 0.810, 0.806]


def plus(change, noise=(0.001, -0.001, 0.0005)):
    return [value + change + extra for value, extra in zip(BASE, noise, strict=True)]


def result_with(values, variants, **study):
    return result_of(told_study({"baseline": BASE} | values, variants, **study))


def lines_of(values, variants, **study):
    return lines_about(result_with(values, variants, **study))


def lines_about(result):
    text = section(section(report_of(result), "## Conclusions"), "### parts")
    return [line for line in text.partition("What to try next:")[0].splitlines() if line]


def interval(values, base=BASE):
    """Of a variant that is alone in its study."""
    low, high = stats.ttest_rel(values, base).confidence_interval(0.95)
    return f"interval {100 * low:+.1f} to {100 * high:+.1f}, 3 seeds"


def ends(result, *names):
    """The ends of the intervals of these rows together, in points, as the report writes them."""
    deltas = [result.row(name).metrics["top1"].delta for name in names]
    low, high = min(delta.low for delta in deltas), max(delta.high for delta in deltas)
    return f"{100 * low:+.1f} to {100 * high:+.1f}, 3 seeds"


# --- verdicts ---------------------------------------------------------------------------------


def test_changes_stand_in_order_of_effect_with_their_intervals():
    values = {"no_positions": plus(-0.02), "one_head": plus(-0.09), "no_ffn": plus(0.02),
              "untied": plus(0.05)}  # fmt: skip
    result = result_with(values, [NO_POSITIONS, ONE_HEAD, NO_FFN, UNTIED])
    assert lines_about(result)[1:5] == [
        f"- `{name}` is {verdict}: top1 changes by {change} points (interval {ends(result, name)})."
        for name, verdict, change in [
            ("one_head", "worse", "-9.0"),
            ("no_positions", "worse", "-2.0"),
            ("untied", "better", "+5.0"),
            ("no_ffn", "better", "+2.0"),
        ]
    ]


def test_a_change_below_the_margin_is_said_to_be_one():
    (line, *_) = lines_of({"faster": plus(-0.02)}, [FASTER], margin=0.1)[1:]
    assert line.endswith(f"({interval(plus(-0.02))}), less than the margin of 10 points.")


def test_what_has_several_baselines_names_them():
    values = {"sinusoidal": plus(-0.02), "both": plus(-0.06, (0.001, 0.002, 0.0))}
    both = Variant("both", against="sinusoidal", heads=1)
    lines = lines_of(values, [SINUSOIDAL, both])
    assert lines[1].startswith("- `both` is worse: top1 changes by -3.9 points")
    assert lines[1].endswith("), against `sinusoidal`.")
    assert lines[2].endswith("), against `baseline`.")


def test_rows_of_the_same_runs_share_a_sentence():
    again = Variant("again", positions=None)
    lines = lines_of({"no_positions": plus(-0.02)}, [NO_POSITIONS, again])
    assert lines[1].startswith("- `no_positions` (the same model: `again`) is worse: top1 changes")
    assert sum("is worse" in line for line in lines) == 1


def test_no_detectable_change_names_the_margin_and_the_interval():
    values = {"faster": plus(0.0), "untied": plus(0.001)}
    result = result_with(values, [FASTER, UNTIED], margin=0.05)
    assert lines_about(result)[1:] == [
        f"- `faster`, `untied`: no change larger than the margin of 5 points (intervals within "
        f"{ends(result, 'faster', 'untied')})."
    ]


def test_an_interval_that_is_too_wide_is_said_to_be_and_what_could_have_been_seen():
    values = plus(-0.01, (0.01, -0.02, 0.005))
    (line,) = lines_of({"faster": values}, [FASTER])[1:]
    assert line.startswith("- `faster`: inconclusive at this number of seeds, too wide to tell "
                           f"({interval(values)}); changes smaller than ")  # fmt: skip
    # A change of that size is found in four of five studies (noncentral t distribution).
    size = float(line.partition("smaller than ")[2].split()[0]) / 100
    error = stats.sem([v - b for v, b in zip(values, BASE, strict=True)])
    power = 1 - stats.nct.cdf(stats.t.ppf(0.975, 2), 2, size / error)
    assert power == pytest.approx(0.8, abs=0.01)


def test_differences_without_spread_and_single_seeds_prove_nothing():
    lines = lines_of({"faster": plus(0.01, (0, 0, 0))}, [FASTER])
    assert lines[1].endswith("the difference is the same for every seed (3 seeds), which says "
                             "nothing about its spread.")  # fmt: skip
    single = lines_of({"baseline": [0.8], "faster": [0.9], "untied": [0.1]}, [FASTER, UNTIED])
    assert single[1:] == ["- `untied`, `faster`: no verdict from fewer than two seeds."]


def test_rows_with_a_problem_are_left_to_the_warnings():
    variants = [FASTER, UNTIED, NO_FFN]
    values = {"faster": plus(-0.02), "untied": BASE, "no_ffn": BASE}
    lines = lines_of(values, variants, diverge=["untied", "no_ffn"])
    assert lines[-1] == "- Nothing follows on `untied`, `no_ffn` (diverged): see the warnings."
    assert lines_of(values, variants, diverge=["baseline"])[1:] == [
        "- Nothing follows on `faster`, `untied`, `no_ffn` (diverged): see the warnings."
    ]


# --- what is necessary ------------------------------------------------------------------------


def test_what_is_taken_away_and_missed_is_necessary_in_order_of_the_loss():
    values = {"no_positions": plus(-0.02), "one_head": plus(-0.09), "no_ffn": plus(-0.05),
              "untied": plus(-0.03)}  # fmt: skip
    lines = lines_of(values, [NO_POSITIONS, ONE_HEAD, NO_FFN, UNTIED])
    assert lines[5:] == [
        "- Necessary, in order of the points that are lost without (3 seeds): `heads` (4 to 1), by "
        "`one_head`: -9.0; `ffn` (64 to 0), by `no_ffn`: -5.0; `tied` (True to False), by "
        "`untied`: -3.0; `positions` ('learned' to None), by `no_positions`: -2.0."
    ]


@pytest.mark.parametrize(
    ("variant", "change"),
    [
        (SINUSOIDAL, -0.05),  # exchanged for another
        (FASTER, -0.05),  # more of it
        (Variant("fewer", heads=2), -0.05),  # less of it
        (Variant("v", positions=None, rate=0.2), -0.05),  # taken away, and something else
        (Variant("added", extra="a"), -0.05),  # was not there
        (NO_POSITIONS, 0.05),  # better without
        (NO_POSITIONS, 0.0),  # not told apart
    ],
)
def test_other_losses_make_nothing_necessary(variant, change):
    baseline = {"positions": "learned", "heads": 4, "rate": 0.1, "extra": None}
    lines = lines_of({variant.name: plus(change)}, [variant], baseline=baseline)
    assert not any("Necessary" in line for line in lines)


def test_two_components_that_go_together_are_necessary_together():
    bare = Variant("bare", positions=None, heads=1)
    lines = lines_of({"bare": plus(-0.05)}, [bare])
    assert "`positions` ('learned' to None) and `heads` (4 to 1), by `bare`: -5.0." in lines[2]


# --- the section ------------------------------------------------------------------------------


def test_conclusions_close_the_report_with_a_heading_for_each_study():
    values = {"baseline": BASE, "faster": plus(-0.05)}
    parts = result_of(told_study(values, [FASTER]))
    cells = {(width, rate): BASE for width in (64, 128, 256) for rate in (0.0005, 0.001)}
    text = report_of(parts, of_grid(told_grid(cells)))
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings[-3:] == ["## Conclusions", "### parts", "### sizes"]
    assert text.count("Conclusions") == 1
    assert headings[1:3] == ["## parts (quick)", "### Costs"]


def test_a_session_without_results_has_no_such_section():
    assert "Conclusions" not in report_of()


def test_a_baseline_that_was_chosen_by_its_own_runs_is_said_to_be_favoured():
    def train(config, run):
        return {"top1": 0.5 + 0.1 * run.seed * config["rate"] + config["width"] / 1000}

    cells = {(width, rate): BASE for width in (64, 128, 256) for rate in (0.0005, 0.001)}
    defined = Study(
        "parts", train=train, baseline={"width": 64, "rate": 0.1}, metrics=["top1"],
        variants=[Variant("thin", width=1)],
        quick=Mode(seeds=3, config=told_grid(cells).best()),
    )  # fmt: skip
    text = section(report_of(on_best_cell(defined)), "## Conclusions")
    assert (
        "The baseline was chosen as the best cell of `sizes` by the same runs of it (3 seeds)"
        in text
    )


def test_what_the_shown_heat_maps_say_stands_among_the_conclusions():
    from pytest_ablation.heat_maps import HeatMaps

    def train(config, run):
        maps = HeatMaps(
            values=[[[0.1 * config["a"]]]], panels=["head 1"], rows=["a_b"], columns=["a_b"],
            title="attention", caption="c", findings=[f"*a_b* gets {run.seed} of a={config['a']}"],
        )  # fmt: skip
        run.heat_maps("attention", maps)
        run.save_predictions(x=[run.seed])
        return {"top1": config["a"] + 0.1 * run.seed}

    defined = Study("parts", train=train, baseline={"a": 1}, metrics=["top1"], select="top1",
                    variants=[Variant("more", a=2)], quick=Mode(seeds=2))  # fmt: skip
    lines = section(report_of(result_of(defined)), "## Conclusions").splitlines()
    assert r"- \*a\_b\* gets 1 of a=2" in lines
    assert any(line.startswith("- attention of more, seed 1: the best seed") for line in lines)
