"""Independent contributions: effects against SciPy and brute force, and what the report says."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from in_process import only_study, planned, report_of, result_of, section, table_in
from scipy import stats

from pytest_ablation import Mode, Study, StudyError, Variant
from pytest_ablation.factorial import BOTH, CELLS, FIRST, NONE, SECOND, effects, find_factorial
from pytest_ablation.plan import Plan

fractions = st.floats(0, 1, allow_subnormal=False)
four_by_seed = st.lists(st.tuples(*[fractions] * 4), min_size=2, max_size=7)


def by_cell(values):
    """Levels to {seed: value} from a row of four values per seed."""
    return {cell: {seed: row[n] for seed, row in enumerate(values)} for n, cell in enumerate(CELLS)}


def with_spread(values):
    """Far from the border at which differences count as having no spread."""
    array = np.array(values)
    none, first, second, both = array.T
    contrasts = [first + both - none - second, second + both - none - first,
                 both - second - first + none]  # fmt: skip
    return all(contrast.std() > 1e-6 for contrast in contrasts)


@given(four_by_seed)
def test_effects_are_means_over_cells_with_the_interval_of_a_t_test(values):
    assume(with_spread(values))
    found = effects(by_cell(values), margin=0.005)
    data = pd.DataFrame(
        [
            {"seed": seed, "a": a, "b": b, "y": row[CELLS.index((a, b))]}
            for seed, row in enumerate(values)
            for a, b in itertools.product([False, True], repeat=2)
        ]
    )
    table = data.pivot(index="seed", columns=["a", "b"], values="y")
    expected = {
        "first": table[True].mean(axis=1) - table[False].mean(axis=1),
        "second": table.T.groupby("b").mean().T[True] - table.T.groupby("b").mean().T[False],
        "interaction": (table[True, True] - table[False, True])
        - (table[True, False] - table[False, False]),
    }
    for name, by_seed in expected.items():
        delta = getattr(found, name)
        test = stats.ttest_1samp(by_seed.to_numpy(), 0)
        assert list(delta.by_seed.values()) == pytest.approx(list(by_seed), abs=1e-12)
        assert delta.value == pytest.approx(by_seed.mean(), abs=1e-12)
        interval = test.confidence_interval(0.95)
        assert (delta.low, delta.high) == pytest.approx(tuple(interval), rel=1e-6, abs=1e-9)
        assert delta.p_value == pytest.approx(test.pvalue, rel=1e-6, abs=1e-12)


def values_of(found):
    deltas = (found.first, found.second, found.interaction)
    return [number for d in deltas for number in (d.value, d.low, d.high)]


@given(four_by_seed, st.floats(-10, 10))
def test_adding_a_constant_changes_nothing(values, constant):
    assume(with_spread(values))
    shifted = [[value + constant for value in row] for row in values]
    there, back = (effects(by_cell(v), margin=0.005) for v in (values, shifted))
    assert values_of(back) == pytest.approx(values_of(there), abs=1e-9)


@given(four_by_seed)
def test_swapping_the_factors_swaps_their_effects(values):
    cells = by_cell(values)
    swapped = cells | {FIRST: cells[SECOND], SECOND: cells[FIRST]}
    there, back = (effects(c, margin=0.005) for c in (cells, swapped))
    assert back.first.value == pytest.approx(there.second.value)
    assert back.second.value == pytest.approx(there.first.value)
    assert back.interaction.value == pytest.approx(there.interaction.value, abs=1e-12)


@given(st.lists(st.tuples(fractions, fractions, fractions), min_size=2, max_size=5))
def test_what_only_adds_up_has_no_interaction(parts):
    """y = start + a + b: the effects are a and b, by construction."""
    values = [(start, start + a, start + b, start + a + b) for start, a, b in parts]
    found = effects(by_cell(values), margin=0.005)
    assert found.first.value == pytest.approx(np.mean([a for _, a, _ in parts]))
    assert found.second.value == pytest.approx(np.mean([b for _, _, b in parts]))
    assert found.interaction.value == pytest.approx(0, abs=1e-12)


def test_only_seeds_of_all_four_cells_count():
    cells = by_cell([(0.1, 0.3, 0.2, 0.9), (0.2, 0.3, 0.3, 0.7), (0.2, 0.4, 0.2, 0.6)])
    del cells[BOTH][1]
    cells[NONE][7] = 0.5
    assert list(effects(cells, margin=0.005).first.by_seed) == [0, 2]
    cells[SECOND] = {9: 0.1}
    found = effects(cells, margin=0.005)
    assert (found.first, found.second, found.interaction) == (None, None, None)


def test_one_seed_gives_numbers_and_no_verdict_and_no_spread_is_inconclusive():
    one = effects(by_cell([(0.1, 0.3, 0.2, 0.9)]), margin=0.005).interaction
    assert (one.value, one.low, one.verdict) == (pytest.approx(0.5), -math.inf, None)
    alike = effects(by_cell([(0.1, 0.3, 0.2, 0.4)] * 3), margin=0.005)
    assert (alike.first.verdict, alike.first.p_value) == ("inconclusive", None)


# --- which rows are the cells -----------------------------------------------------------------

BASE = {"a": False, "b": "off", "rate": 0.1}
FULL = {
    "plain": BASE,
    "a": BASE | {"a": True},
    "b": BASE | {"b": "on"},
    "ab": BASE | {"a": True, "b": "on"},
}


def test_rows_of_one_configuration_are_one_cell_and_other_rows_are_left_alone():
    rows = FULL | {"ab_without_b": FULL["a"], "a_slow": FULL["a"] | {"rate": 0.2}}
    design = find_factorial(["a", "b"], rows, "plain")
    assert [(f.name, f.off, f.on) for f in design.factors] == [
        ("a", False, True), ("b", "off", "on"),
    ]  # fmt: skip
    assert {cell.levels: cell.rows for cell in design.cells} == {
        NONE: ("plain",), FIRST: ("a", "ab_without_b"), SECOND: ("b",), BOTH: ("ab",),
    }  # fmt: skip


def test_on_is_what_the_baseline_is_not():
    design = find_factorial(["b", "a"], FULL, "ab")
    assert [(f.name, f.off, f.on) for f in design.factors] == [
        ("b", "on", "off"), ("a", True, False),
    ]  # fmt: skip
    assert design.cells[0].rows == ("ab",)


@pytest.mark.parametrize(
    ("factors", "change", "message"),
    [
        (["a"], {}, r"two different configuration fields, found \['a'\]"),
        ("ab", {}, "two different configuration fields, found 'ab'"),
        (["a", "a"], {}, "two different configuration fields"),
        (["a", "bb"], {}, r"no field 'bb' in the configuration; did you mean b\?"),
        (["a", "rate"], {}, "'rate' needs two values .* found 0.1$"),
        (["a", "b"], {"c": BASE | {"b": "half"}}, "'b' needs two values .* found 'off', .*'half'"),
        (["a", "b"], {"ab": BASE}, "no row has a=True, b='on' and .* baseline 'plain': add a"),
        (["a", "b"], {"ab": FULL["ab"] | {"rate": 0.3}}, "'ab' comes near, but differs in rate"),
    ],
)
def test_a_design_that_is_not_whole_is_an_error(factors, change, message):
    with pytest.raises(StudyError, match=message):
        find_factorial(factors, FULL | change, "plain")


# --- what the report says ---------------------------------------------------------------------


def study(values, *, margin=0.005, factors=("a", "b"), seeds=3):
    """A study whose runs give these values: cell to one number per seed."""

    def train(config, run):
        run.save_predictions(x=[run.seed, config["a"], config["b"]])
        return {"top1": values[config["a"], config["b"]][run.seed]}

    return Study(
        "two",
        train=train,
        baseline={"a": False, "b": False, "other": 0},
        baseline_name="plain",
        variants=[
            Variant("with_a", a=True),
            Variant("with_b", b=True),
            Variant("with_both", a=True, b=True),
            Variant("without_a", against="with_both", a=False),
        ],
        metrics=["top1"],
        margin=margin,
        factors=factors,
        quick=Mode(seeds=seeds),
    )


def flat(none, first, second, both):
    """Four levels, each with a little noise of its own."""
    noise = np.array([-0.001, 0.0, 0.001])
    levels = {NONE: none, FIRST: first, SECOND: second, BOTH: both}
    return {
        cell: [float(v) for v in level + np.roll(noise, n)]
        for n, (cell, level) in enumerate(levels.items())
    }


def contributions(study, **session):
    return section(report_of(result_of(study, **session)), "### Independent contributions")


def test_effects_that_are_settled_are_told_as_gains_and_losses():
    values = flat(0.5, 0.6, 0.45, 0.45)
    text = contributions(study(values))
    assert "`a` adds +5.0 points (interval " in text
    assert "`b` costs 10.0 points (interval -10." in text
    assert "Together they do less than the sum of both: the interaction is -10.0 points" in text
    rows = table_in(text)
    assert [row["effect"] for row in rows] == [
        "`a` (False to True)", "`b` (False to True)", "interaction",
    ]  # fmt: skip
    assert [row["points"] for row in rows] == ["+5.0", "-10.0", "-10.0"]
    assert [row["verdict"] for row in rows] == [
        "**better**", "**worse**", "**less than the sum of both**",
    ]  # fmt: skip
    by_seed = {seed: [values[cell][seed] for cell in CELLS] for seed in range(3)}
    ends = stats.ttest_1samp([(f + t - n - s) / 2 for n, f, s, t in by_seed.values()], 0)
    low, high = ends.confidence_interval(0.95)
    assert rows[0]["95 % interval"] == f"{100 * low:+.1f} to {100 * high:+.1f}"


def test_more_than_the_sum_and_no_difference_have_words_too():
    text = contributions(study(flat(0.5, 0.5, 0.5, 0.7)))
    assert "Together they do more than the sum of both" in text
    text = contributions(study(flat(0.5, 0.5, 0.5, 0.5), margin=0.05))
    assert "`a` makes no difference larger than the margin of 5 points" in text
    assert "Together they do what they do alone, added up" in text


def test_an_interval_that_is_too_wide_is_said_to_be():
    values = {cell: [0.5, 0.6, 0.4] for cell in CELLS}
    values[FIRST] = [0.3, 0.8, 0.5]
    text = contributions(study(values))
    assert text.count("is too wide to tell") == 3
    assert "What `a` adds or costs is open: +1.7 points, but the interval " in text
    assert "Whether together they do more or less than the sum of both is open" in text


def test_no_spread_and_one_seed_give_no_verdict():
    text = contributions(study({cell: [0.5 + 0.1 * cell[0]] * 3 for cell in CELLS}))
    assert "is open: +10.0 points, the same for every seed" in text
    text = contributions(study(flat(0.5, 0.6, 0.4, 0.5), seeds=1))
    assert text.count("there is no verdict from fewer than two seeds") == 3


def test_cells_that_were_not_selected_are_named():
    values = flat(0.5, 0.6, 0.4, 0.5)
    text = contributions(study(values), rows=["with_a", "with_b"])
    assert "Not computed, for lack of a=True, b=True (`with_both` not selected)." in text
    text = contributions(study(values), rows=["without_a", "with_a"])  # is with_b, against both
    assert "`a` adds" in text
    assert "`b` costs" in text


def test_a_cell_without_figures_or_with_doubtful_ones_is_named():
    plain = study(flat(0.5, 0.6, 0.4, 0.5))
    labels = [f"with_both seed {n}" for n in range(3)]
    text = contributions(plain, skip=["with_both", *labels])
    assert "for lack of a=True, b=True (`with_both` missing)" in text
    values = flat(0.5, 0.6, 0.4, 0.5)

    def train(config, run):
        run.use_data(train=[config["a"]], evaluation=[1])
        run.save_predictions(x=[config["a"], config["b"]])
        return {"top1": values[config["a"], config["b"]][run.seed]}

    unfair = study(values)
    unfair.train = train
    text = contributions(unfair)
    assert "a=True, b=False (`with_a` unfair)" in text
    assert "| effect |" not in text


def test_a_cell_that_is_only_there_as_a_baseline_must_be_comparable_too():
    values = flat(0.5, 0.6, 0.4, 0.5)

    def train(config, run):
        run.use_data(train=[config["a"]], evaluation=[1])
        run.save_predictions(x=[config["a"], config["b"]])
        return {"top1": values[config["a"], config["b"]][run.seed]}

    def chained(allow_different=()):
        return Study(
            "effects", train=train, baseline={"a": False, "b": False}, factors=["a", "b"],
            variants=[
                Variant("with_a", a=True, allow_different=allow_different),
                Variant("with_b", b=True),
                Variant("with_both", against="with_a", b=True),
            ],
            metrics=["top1"], quick=Mode(seeds=3),
        )  # fmt: skip

    result = result_of(chained(), rows=["with_b", "with_both"])  # with_a is compared with nothing
    assert {row.status for row in result.rows} == {"ok"}
    text = section(report_of(result), "### Independent contributions")
    assert "Not computed: with\\_a is not comparable with baseline: seed 0: training data" in text
    assert "| effect |" not in text
    declared = contributions(chained(["train_data"]), rows=["with_b", "with_both"])
    assert [row["points"] for row in table_in(declared)] == ["+10.0", "-10.0", "+0.0"]


def test_where_the_baseline_has_the_components_a_sentence_names_what_was_done_to_them():
    values = flat(0.5, 0.6, 0.45, 0.45)
    values = {(not a, not b): by_seed for (a, b), by_seed in values.items()}
    defined = study(values)
    defined = Study(
        "effects", train=defined.train, baseline={"a": True, "b": True}, factors=["a", "b"],
        variants=[
            Variant("no_a", a=False), Variant("no_b", b=False), Variant("bare", a=False, b=False)
        ],
        metrics=["top1"], quick=Mode(seeds=3),
    )  # fmt: skip
    text = contributions(defined)
    assert "- `a` (True to False) adds +5.0 points (interval " in text
    assert "- `b` (True to False) costs 10.0 points (interval " in text
    assert "averaged over both levels of `a`." in text


def test_a_study_without_factors_has_no_such_section():
    assert "Independent" not in report_of(result_of(study(flat(0.5, 0.6, 0.4, 0.5), factors=())))


def test_the_design_reaches_other_processes_as_it_is(tmp_path):
    plan, _ = planned(study(flat(0.5, 0.6, 0.4, 0.5)))
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan
    assert only_study(plan).factorial.factors[0].on is True


def test_a_session_reports_the_effects_of_its_own_runs(project):
    project.write_study(
        'Variant("bare", use_bias=False), Variant("heavy", momentum=0.9),'
        'Variant("bare_heavy", use_bias=False, momentum=0.9), Variant("slow", learning_rate=0.1)',
        more='factors=["use_bias", "momentum"],',
    )
    project.run("-m", "quick").assert_outcomes(passed=4, deselected=4)
    rows = [row for row in project.rows("runs") if row["metric"] == "top1"]
    y = {(row["variant"], int(row["seed"])): float(row["value"]) for row in rows}
    both = [y["bare_heavy", s] - y["heavy", s] - y["bare", s] + y["baseline", s] for s in range(3)]
    bias = [
        (y["bare_heavy", s] - y["heavy", s] + y["bare", s] - y["baseline", s]) / 2 for s in range(3)
    ]
    shown = table_in(section(project.report(), "### Independent contributions"))
    assert shown[0]["effect"] == "`use_bias` (True to False)"
    assert float(shown[0]["points"]) == pytest.approx(100 * np.mean(bias), abs=0.051)
    assert float(shown[2]["points"]) == pytest.approx(100 * np.mean(both), abs=0.051)
