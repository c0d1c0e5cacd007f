"""A study's comparisons together: against SciPy, sums of squares by hand, and simulated truth."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_ablation import comparisons
from pytest_ablation.comparisons import compare, residuals
from pytest_ablation.crossed import example_spread
from pytest_ablation.statistics import paired_delta

few = settings(max_examples=40)
values = st.integers(0, 1000).map(lambda number: number / 1000)
NOISE = np.random.default_rng(5).normal(0, 0.01, (6, 8))


def by_seed(numbers):
    return dict(enumerate(map(float, numbers)))


def study(table, names="bvwxyz"):
    """Rows of a table [rows, seeds], the first of which is the baseline, and all pairs."""
    rows = {name: by_seed(numbers) for name, numbers in zip(names, table, strict=False)}
    return rows, [(name, names[0]) for name in list(rows)[1:]]


@st.composite
def studies(draw, rows=(2, 5)):
    """Unequal seeds; each row has two at least that the baseline has too."""
    names = "bvwxy"[: draw(st.integers(*rows))]
    found = {"b": {seed: draw(values) for seed in range(5)}}
    for name in names[1:]:
        seeds = draw(st.lists(st.integers(0, 5), min_size=3, max_size=6, unique=True))
        found[name] = {seed: draw(values) for seed in seeds}
    return found, [(name, "b") for name in names[1:]]


def ends(delta):
    return delta.low, delta.high


@given(st.lists(st.tuples(values, values), min_size=2, max_size=8))
def test_one_pair_is_the_paired_t_test(numbers):
    variant, baseline = zip(*numbers, strict=True)
    assume(np.subtract(variant, baseline).std() > 1e-6)
    rows = {"v": by_seed(variant), "b": by_seed(baseline)}
    delta = compare(rows, [("v", "b")], margin=0.005)["v", "b"]
    expected = stats.ttest_rel(variant, baseline)
    assert ends(delta) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6)
    assert delta.p_value == pytest.approx(expected.pvalue, rel=1e-5, abs=1e-12)
    assert delta.precision.borrowed == 0


def test_another_error_rate_is_another_confidence():
    rows, pairs = study(NOISE[:2])
    delta = compare(rows, pairs, margin=0.005, alpha=0.01)["v", "b"]
    expected = stats.ttest_rel(NOISE[1], NOISE[0]).confidence_interval(0.99)
    assert ends(delta) == pytest.approx(tuple(expected))


def test_one_seed_has_numbers_and_no_verdict():
    rows, pairs = study(NOISE[:3, :1])
    for (name, _), delta in compare(rows, pairs, margin=0.005).items():
        assert delta.value == rows[name][0] - rows["b"][0]
        assert ends(delta) == (-math.inf, math.inf)
        assert (delta.verdict, delta.p_value, delta.smallest_detectable) == (None, None, None)


def test_a_pair_without_a_common_seed_has_no_delta_and_no_part():
    rows, pairs = study(NOISE[:3, :3])
    rows["far"] = {7: 0.5, 8: 0.6}
    found = compare(rows, [*pairs, ("far", "b")], margin=0.005)
    assert found.pop(("far", "b")) is None
    del rows["far"]
    assert found == compare(rows, pairs, margin=0.005)


# --- what the residuals are -------------------------------------------------------------------


@few
@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 10_000))
def test_the_residuals_of_a_full_table_are_those_of_randomized_blocks(count, seeds, number):
    table = np.random.default_rng(number).normal(0, 1, (count, seeds))
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    squares, df = residuals(study(table)[0])
    assert squares == pytest.approx((left**2).sum())
    assert df == (count - 1) * (seeds - 1)


@few
@given(studies())
def test_the_residuals_of_an_unbalanced_table_are_those_of_least_squares(made):
    rows, _ = made
    cells = [(name, seed, rows[name][seed]) for name in rows for seed in rows[name]]
    names, seeds = list(rows), sorted({seed for _, seed, _ in cells})
    design = np.array(  # another coding: a constant, and what sets each but the first apart
        [
            [1.0, *(name == n for n in names[1:]), *(seed == s for s in seeds[1:])]
            for name, seed, _ in cells
        ]
    )
    numbers = np.array([value for *_, value in cells])
    fit = design @ np.linalg.pinv(design) @ numbers
    squares, df = residuals(rows)
    assert squares == pytest.approx(((numbers - fit) ** 2).sum(), abs=1e-10)
    assert df == len(cells) - np.linalg.matrix_rank(design)


def test_a_variance_is_drawn_toward_that_of_the_other_rows():
    """The other row's part is what the pair's mean leaves of it, a contrast of its own."""
    base, variant, other = NOISE[:3, :4]
    own = 3 * np.var(variant - base, ddof=1)
    rest = 2 * 3 * np.var(other - (variant + base) / 2, ddof=1) / 1.5
    precision = compare(*study(NOISE[:3, :4]), margin=0.005)["v", "b"].precision
    assert precision.variance == pytest.approx((own + rest) / 6)
    assert (precision.df, precision.borrowed) == (6, 3)


def test_the_other_rows_count_so_many_degrees_of_freedom_at_most(monkeypatch):
    monkeypatch.setattr(comparisons, "UNLIKE", 0)
    base, variant = NOISE[:2, :5]
    own = 4 * np.var(variant - base, ddof=1)
    table = NOISE[:6, :5]
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    rest = (2 * (left**2).sum() - own) / 16
    precision = compare(*study(table), margin=0.005)["v", "b"].precision
    assert precision.df == 4 + comparisons.PRIOR_DF
    assert precision.variance == pytest.approx((own + comparisons.PRIOR_DF * rest) / precision.df)


@pytest.mark.parametrize(("count", "seeds"), [(3, 3), (6, 3), (4, 8)])
def test_with_all_weight_on_the_others_it_is_dunnetts_test_in_blocks(monkeypatch, count, seeds):
    monkeypatch.setattr(comparisons, "PRIOR_DF", 1e9)
    monkeypatch.setattr(comparisons, "UNLIKE", 0)
    table = NOISE[:count, :seeds]
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    df = (count - 1) * (seeds - 1)
    error = math.sqrt(2 * (left**2).sum() / df / seeds)
    for pair, delta in compare(*study(table), margin=0.005).items():
        assert delta.value == pytest.approx(table["bvwxyz".index(pair[0])].mean() - table[0].mean())
        critical = (delta.high - delta.value) / error
        assert multivariate(critical, count - 1, df) == pytest.approx(0.95, abs=2e-3)
        p_value = 1 - multivariate(abs(delta.value) / error, count - 1, df)
        assert delta.p_value == pytest.approx(p_value, abs=2e-3)


def multivariate(statistic, count, df):
    """The chance that none of so many t statistics with one control goes beyond this one."""
    if count == 1:
        return 1 - 2 * stats.t.sf(statistic, df)
    upper = np.full(count, statistic)
    shape = np.full((count, count), 0.5) + 0.5 * np.eye(count)
    rng = np.random.default_rng(0)
    return stats.multivariate_t.cdf(
        upper, shape=shape, df=df, lower_limit=-upper, random_state=rng, maxpts=20_000
    )


def test_a_row_that_collapses_does_not_hide_what_happened_to_the_others():
    table = NOISE[:5, :3].copy()
    table[1] -= 0.2
    plain, collapsed = (
        compare(*study(np.vstack([table, row])), margin=0.005)
        for row in (NOISE[5, :3], [0.9, -0.7, 0.1])
    )
    for name in "vwxy":
        widths = [d[name, "b"].high - d[name, "b"].low for d in (plain, collapsed)]
        assert widths[1] == pytest.approx(widths[0], rel=0.5)
    assert collapsed["v", "b"].verdict == "worse"


def test_a_row_that_varies_more_than_all_others_has_its_own_spread_alone():
    table = np.vstack([NOISE[:4, :4], [[0.9, -0.7, 0.1, 0.3]]])
    found = compare(*study(table), margin=0.005)
    wide = found["y", "b"].precision
    assert (wide.borrowed, wide.df) == (0, 3)
    assert wide.variance == pytest.approx(np.var(table[4] - table[0], ddof=1))
    without = compare(*study(table[:4]), margin=0.005)
    for name in "vwx":
        assert found[name, "b"].precision.variance == without[name, "b"].precision.variance


def test_beside_one_other_row_its_spread_counts_as_far_as_chance_explains_it():
    table = np.vstack([NOISE[:2, :5], [[0.9, -0.7, 0.1, 0.3, -0.2]]])
    own = 4 * np.var(table[1] - table[0], ddof=1)
    found = compare(*study(table), margin=0.005)
    most = own / 4 * stats.f.ppf(0.99, 4, 4)
    assert found["v", "b"].precision.variance == pytest.approx((own + 4 * most) / 8)
    assert found["w", "b"].precision.borrowed == 0


@few
@given(studies(), st.randoms())
def test_the_order_of_rows_pairs_and_seeds_does_not_matter(made, random):
    rows, pairs = made
    shuffled = {
        name: dict(random.sample(list(rows[name].items()), len(rows[name])))
        for name in random.sample(list(rows), len(rows))
    }
    other = compare(shuffled, random.sample(pairs, len(pairs)), margin=0.01)
    assert other == compare(rows, pairs, margin=0.01)


@few
@given(studies(), st.sampled_from([-1.0, 0.3, 50.0]))
def test_a_constant_added_to_all_runs_changes_no_delta(made, constant):
    rows, pairs = made
    moved = {name: {s: v + constant for s, v in of.items()} for name, of in rows.items()}
    before, after = (compare(of, pairs, margin=0.01) for of in (rows, moved))
    for pair in pairs:
        assert_alike(after[pair], before[pair])


@few
@given(studies(), st.sampled_from([1e-6, 100.0, 1e9, 1e120]))
def test_the_unit_of_a_metric_is_the_unit_of_its_deltas(made, unit):
    rows, pairs = made
    scaled = {name: {s: v * unit for s, v in of.items()} for name, of in rows.items()}
    before, after = compare(rows, pairs, margin=0.01), compare(scaled, pairs, margin=0.01 * unit)
    for pair in pairs:
        assert_alike(after[pair], before[pair], unit)


@few
@given(studies())
def test_where_lower_is_better_the_verdicts_are_the_mirrored_ones(made):
    rows, pairs = made
    lower = compare(rows, pairs, margin=0.1, higher_is_better=False)
    mirrored = {name: {s: -v for s, v in of.items()} for name, of in rows.items()}
    higher = compare(mirrored, pairs, margin=0.1)
    for pair in pairs:
        assert lower[pair].verdict == higher[pair].verdict
        assert ends(lower[pair]) == pytest.approx((-higher[pair].high, -higher[pair].low))


@few
@given(studies(), st.sampled_from([0.001, 0.05, 0.3]))
def test_a_p_value_is_below_alpha_exactly_where_the_interval_excludes_zero(made, alpha):
    rows, pairs = made
    for delta in compare(rows, pairs, margin=0.01, alpha=alpha).values():
        if delta.p_value is None or delta.p_value == pytest.approx(alpha, rel=1e-4):
            continue
        assert (delta.p_value < alpha) == (delta.low > 0 or delta.high < 0)
        assert (delta.p_value < alpha) == (delta.verdict in ("worse", "better"))


@few
@given(studies(rows=(3, 5)))
def test_more_comparisons_never_make_p_values_smaller_than_one_t_test_of_the_same_spread(made):
    rows, pairs = made
    for delta in compare(rows, pairs, margin=0.01).values():
        if delta.p_value is None:
            continue
        precision = delta.precision
        error = math.sqrt(precision.variance / precision.seeds)
        alone = 2 * stats.t.sf(abs(delta.value) / error, precision.df)
        most = min(1, len(pairs) * alone)  # Bonferroni's
        assert alone * (1 - 1e-6) <= delta.p_value <= most * (1 + 1e-6) + 1e-12


def test_differences_that_tie_in_one_row_take_the_others_spread():
    table = NOISE[:4, :3].copy()
    table[1] = table[0] - 0.1
    found = compare(*study(table), margin=0.005)
    assert found["v", "b"].low < found["v", "b"].value < found["v", "b"].high
    assert found["v", "b"].verdict == "worse"


def test_differences_that_tie_in_all_rows_bound_nothing():
    base = np.array([0.3, 0.7, 0.1])
    for delta in compare(*study([base, base - 0.25, base + 0.1]), margin=0.005).values():
        assert ends(delta) == pytest.approx((delta.value, delta.value))
        assert (delta.verdict, delta.p_value) == ("inconclusive", None)


def test_ties_of_large_numbers_are_ties_too():
    base = np.random.default_rng(0).uniform(1e6, 9e6, 5)
    for delta in compare(*study([base, base - 0.3, base + 0.1]), margin=0.005).values():
        assert (delta.verdict, delta.p_value) == ("inconclusive", None)
    alone = paired_delta(by_seed(base - 0.3), by_seed(base), margin=0.005)
    assert (alone.verdict, alone.p_value) == ("inconclusive", None)


@pytest.mark.parametrize("size", [1e-8, 1e8])
def test_tiny_and_huge_effects_are_found_among_noise_of_their_size(size):
    table = NOISE[:4, :4] * size
    table[1] += size
    found = compare(*study(table), margin=0.005 * size)
    assert found["v", "b"].verdict == "better"
    assert found["v", "b"].p_value < 1e-6
    assert {found[name, "b"].verdict for name in "wx"} == {"inconclusive"}


def test_numbers_whose_squares_no_float_holds_prove_nothing():
    """A perplexity is an exponential: a run that goes astray has one of any size."""
    table = np.array([[1.0, 2, 3], [1e200, -1e200, 3e199], [1.5, 2, 3.1], [1, 2.1, 3]])
    found = compare(*study(table), margin=0.005)
    assert found["v", "b"].verdict == "inconclusive"
    assert math.isinf(found["v", "b"].high)
    assert found["w", "b"].high < 2
    assert paired_delta(by_seed(table[1]), by_seed(table[0]), margin=0.1).verdict == "inconclusive"


def assert_alike(one, other, unit=1.0):
    """Equal but for rounding; where all differences are equal, rounding can tell them apart."""
    assert one.value / unit == pytest.approx(other.value, rel=1e-6, abs=1e-9)
    if other.p_value is None:
        return
    assert [end / unit for end in ends(one)] == pytest.approx(ends(other), rel=1e-5, abs=1e-9)
    assert one.p_value == pytest.approx(other.p_value, rel=1e-3, abs=1e-9)
    near = min(abs(end - edge) for end in ends(other) for edge in (0, 0.01, -0.01)) < 1e-7
    assert near or one.verdict == other.verdict


# --- simulated studies with a known truth -----------------------------------------------------


def simulated(rng, spreads, seeds, changes=()):
    """Rows of these standard deviations around effects of seeds that all rows share."""
    table = rng.normal(0, 1, (len(spreads), seeds)) * np.array(spreads)[:, None]
    table += 2 * rng.normal(0, 1, seeds)
    table[1 : 1 + len(changes)] += np.array(changes)[:, None]
    return study(table)


@pytest.mark.parametrize(
    ("spreads", "seeds"), [([1] * 6, 3), ([1, 1, 1, 1, 1, 2], 3), ([1, 1, 1, 1, 1, 30], 3)]
)
def test_all_intervals_of_a_study_hold_together_nineteen_times_in_twenty(spreads, seeds):
    rng = np.random.default_rng(7)
    studies = [compare(*simulated(rng, spreads, seeds), margin=1).values() for _ in range(700)]
    covered = np.mean([all(d.low <= 0 <= d.high for d in found) for found in studies])
    noise = 3 * math.sqrt(0.05 * 0.95 / len(studies))
    assert covered > 0.95 - noise
    widths = np.median([next(iter(found)).precision.half_width for found in studies])
    # A t-test of each pair alone, each at a fifth of the error rate.
    alone = stats.t.ppf(1 - 0.005, seeds - 1) * math.sqrt(2 / seeds)
    assert widths < 0.7 * alone


@pytest.mark.parametrize(("count", "seeds"), [(2, 5), (6, 3)])
def test_the_smallest_detectable_change_is_found_four_times_out_of_five(count, seeds):
    """The change that studies of the true spread call so, planted in one row of others."""
    rng = np.random.default_rng(8)
    spreads = [1.0] * count
    some = compare(*simulated(rng, spreads, seeds), margin=1)["v", "b"]
    scale = math.sqrt(2 / some.precision.variance)  # the true variance of a difference is 2
    change = some.smallest_detectable * scale
    found = [
        compare(*simulated(rng, spreads, seeds, [-change]), margin=1)["v", "b"].verdict
        for _ in range(800)
    ]
    assert found.count("worse") / len(found) == pytest.approx(0.8, abs=0.05)
    assert found.count("better") == 0


@few
@given(st.integers(0, 10_000))
def test_intervals_that_cover_examples_too_are_never_the_narrower_ones(number):
    rng = np.random.default_rng(number)
    tables, rows, pairs = crossed(rng, seeds=3, examples=20, spreads=rng.uniform(0, 1, 3))
    alone = compare(rows, pairs, margin=0.01)
    both = compare(rows, pairs, margin=0.01, examples=tables)
    for pair in pairs:
        assert both[pair].low <= alone[pair].low
        assert both[pair].high >= alone[pair].high
        assert both[pair].p_value >= alone[pair].p_value
        assert both[pair].smallest_detectable >= alone[pair].smallest_detectable


def test_intervals_that_cover_examples_too_hold_for_new_examples():
    rng = np.random.default_rng(9)
    outcomes = {"seeds": [], "both": []}
    for _ in range(400):
        tables, rows, pairs = crossed(rng, seeds=3, examples=60, spreads=(0.05, 0.5, 0.5))
        for name, examples in (("seeds", None), ("both", tables)):
            found = compare(rows, pairs, margin=0.01, examples=examples).values()
            outcomes[name].append(all(d.low <= 0 <= d.high for d in found))
    assert np.mean(outcomes["seeds"]) < 0.9
    assert np.mean(outcomes["both"]) > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 400)


def crossed(rng, *, seeds, examples, spreads):
    """Three rows with results by seed and example; to each pair what its examples add."""
    of_seed, of_example, of_rest = spreads
    by_row = {
        name: rng.normal(0, of_seed, (seeds, 1))
        + rng.normal(0, of_example, (1, examples))
        + rng.normal(0, of_rest, (seeds, examples))
        for name in "bvw"
    }
    pairs = [("v", "b"), ("w", "b")]
    spread = {pair: example_spread(by_row[pair[0]] - by_row["b"]) for pair in pairs}
    return spread, {name: by_seed(table.mean(axis=1)) for name, table in by_row.items()}, pairs
