"""Seeds crossed with test examples: against least squares, and simulation with a known truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from pytest_ablation.crossed import ExampleSpread, combined, example_spread

few = settings(max_examples=50)
tables = arrays.arrays(
    float,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6),
    elements=st.integers(-8, 8).map(lambda number: number / 8),
)


@few
@given(tables)
def test_the_addition_is_that_of_the_analysis_of_variance(table):
    seeds, examples = table.shape
    of_examples, of_rest = mean_squares(table)
    expected = max(0.0, of_examples - of_rest) / (seeds * examples)
    assert example_spread(table).variance == pytest.approx(expected, rel=1e-9, abs=1e-12)


@few
@given(tables)
def test_degrees_of_freedom_are_satterthwaites_and_one_at_least(table):
    seeds, examples = table.shape
    of_examples, of_rest = mean_squares(table)
    found = example_spread(table)
    if found.variance == 0:
        assert found.df == examples - 1
        return
    noise = of_examples**2 / (examples - 1) + of_rest**2 / ((seeds - 1) * (examples - 1))
    expected = max(1.0, (of_examples - of_rest) ** 2 / noise)
    assert found.df == pytest.approx(expected, rel=1e-6)
    assert 1 <= found.df <= examples - 1 + 1e-9


def test_one_seed_has_the_variance_of_its_examples():
    differences = np.array([[0.0, 1, 0, -1, 1, 1, 0, 0]])
    found = example_spread(differences)
    assert found == pytest.approx((stats.sem(differences[0]) ** 2, 7))


@few
@given(tables, st.floats(-5, 5) | st.just(2.0**40))
def test_adding_a_constant_changes_nothing(table, constant):
    assert_close(example_spread(table + constant), example_spread(table))


@few
@given(tables, st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_what_a_seed_does_to_all_examples_alike_changes_nothing(table, effects):
    by_seed = np.array(effects)[: len(table), None]
    assert_close(example_spread(table + by_seed), example_spread(table))


@few
@given(tables, st.randoms())
def test_the_order_of_seeds_and_examples_does_not_matter(table, random):
    seeds, examples = (random.sample(range(side), side) for side in table.shape)
    assert_close(example_spread(table[seeds][:, examples]), example_spread(table))


@few
@given(tables, st.sampled_from([1e-160, 1e-3, 1e3, 1e140]))
def test_the_unit_matters_by_its_square_alone(table, unit):
    there, back = example_spread(table), example_spread(table * unit)
    few = 5e-323  # of the smallest numbers that there are
    expected = pytest.approx(there.variance * unit**2, rel=1e-9, abs=few)
    assert back.variance == expected
    assert back.df == pytest.approx(there.df)


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((3, 5)),
        np.full((3, 5), 0.1),
        np.full((1, 5), -0.7),
        np.array([[0.1], [0.7], [-0.2]]) + np.zeros((3, 7)),
        np.array([[1, -1, 0], [-1, 1, 0]]),  # examples agree on average: less spread than the rest
    ],
)
def test_examples_that_do_not_differ_add_nothing(table):
    found = example_spread(table)
    assert found.variance == 0
    assert found.df == table.shape[1] - 1
    assert combined(0.25, 3.5, found) == (0.25, 3.5)


def test_examples_that_differ_alike_under_all_seeds_are_as_good_as_one_seed():
    by_example = np.array([0.0, 1, 0, -1, 1, 1])
    found = example_spread(np.tile(by_example, (4, 1)))
    assert found == pytest.approx((stats.sem(by_example) ** 2, 5))


def test_the_sum_has_the_degrees_of_freedom_of_welchs_test():
    """Two independent variances of means, as in the unequal-variances t-test."""
    rng = np.random.default_rng(3)
    one, other = rng.normal(0, 1, 5), rng.normal(0, 3, 9)
    variance, df = combined(
        stats.sem(one) ** 2, len(one) - 1, ExampleSpread(stats.sem(other) ** 2, len(other) - 1)
    )
    welch = stats.ttest_ind(one, other, equal_var=False)
    assert df == pytest.approx(welch.df)
    assert (one.mean() - other.mean()) / math.sqrt(variance) == pytest.approx(welch.statistic)


positive = st.floats(1e-12, 10)
freedoms = st.floats(1, 1e6) | st.just(math.inf)


@few
@given(positive, freedoms, positive, freedoms)
def test_the_sums_degrees_of_freedom_lie_between_the_fewer_and_both(seeds, df, examples, more):
    variance, found = combined(seeds, df, ExampleSpread(examples, more))
    assert variance == pytest.approx(seeds + examples)
    assert min(df, more) * (1 - 1e-9) <= found <= (df + more) * (1 + 1e-9)


def test_without_any_spread_nothing_is_made_up():
    assert combined(0.0, 2.0, ExampleSpread(0.0, 5.0)) == (0.0, 2.0)
    assert combined(0.0, 2.0, ExampleSpread(0.5, 5.0)) == (0.5, 5.0)


@pytest.mark.parametrize(
    ("seeds", "examples", "spreads", "by_seeds_alone"),
    [
        (3, 40, (1.0, 0.0, 2.0), 0.95),
        (3, 40, (0.3, 0.5, 1.0), 0.94),
        (3, 150, (0.02, 0.3, 0.3), 0.85),
        (5, 30, (0.2, 2.0, 0.5), 0.49),
    ],
)
def test_intervals_cover_the_truth_for_new_seeds_and_new_examples(
    seeds, examples, spreads, by_seeds_alone
):
    """Known variance components; the coverage of the seeds' own interval stands beside it.

    The interval is, as `combined` says, never narrower than the seeds' own.
    """
    rng = np.random.default_rng(11)
    errors, own, both = [], [], []
    for _ in range(1_500):
        table = simulated(rng, seeds, examples, spreads)
        seed_variance = table.mean(axis=1).var(ddof=1) / seeds
        errors.append(abs(table.mean()))
        own.append((seed_variance, seeds - 1.0))
        both.append(combined(seed_variance, seeds - 1.0, example_spread(table)))
    narrow, wide = half_widths(own), half_widths(both)
    noise = 3 * math.sqrt(0.05 * 0.95 / len(errors))
    assert np.mean(errors <= narrow) == pytest.approx(by_seeds_alone, abs=3 * noise)
    assert np.mean(errors <= np.maximum(narrow, wide)) == pytest.approx(0.952, abs=noise)
    assert np.mean(errors <= wide) > 0.93 - noise


@pytest.mark.parametrize("shape", [(3,), (0, 5), (3, 1), (2, 3, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \[seeds, examples\]"):
        example_spread(np.zeros(shape))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_differences_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="not finite: expected finite ones"):
        example_spread([[0.0, 1.0], [bad, 1.0]])


@pytest.mark.parametrize(
    ("variance", "df", "examples"),
    [
        (-1.0, 2, ExampleSpread(0.1, 5)),
        (math.nan, 2, ExampleSpread(0.1, 5)),
        (math.inf, 2, ExampleSpread(0.1, 5)),
        (0.1, 0, ExampleSpread(0.1, 5)),
        (0.1, 2, ExampleSpread(-0.1, 5)),
        (0.1, 2, ExampleSpread(0.1, math.nan)),
    ],
)
def test_variances_that_are_none_are_refused(variance, df, examples):
    with pytest.raises(ValueError, match="expected a finite variance of 0 or more"):
        combined(variance, df, examples)


def mean_squares(table):
    """Of examples and rest, from residuals of least squares on dummy variables."""
    seeds, examples = table.shape
    at_seed, at_example = (axis.ravel() for axis in np.indices(table.shape))
    of_seeds = np.eye(seeds)[at_seed]
    both = np.hstack([of_seeds, np.eye(examples)[at_example]])

    def residual(design):
        fit = np.linalg.lstsq(design, table.ravel(), rcond=None)[0]
        return ((table.ravel() - design @ fit) ** 2).sum()

    rest = residual(both)
    explained = residual(of_seeds) - rest
    return explained / (examples - 1), rest / ((seeds - 1) * (examples - 1))


def simulated(rng, seeds, examples, spreads):
    """Differences without effect, of given standard deviations: seeds, examples, the rest."""
    of_seeds, of_examples, of_rest = spreads
    return (
        rng.normal(0, of_seeds, (seeds, 1))
        + rng.normal(0, of_examples, (1, examples))
        + rng.normal(0, of_rest, (seeds, examples))
    )


def half_widths(estimates):
    """Of 95 % t intervals, from pairs of a variance and its degrees of freedom."""
    variances, freedoms = np.transpose(estimates)
    return special.stdtrit(freedoms, 0.975) * np.sqrt(variances)


def assert_close(found, expected):
    assert found.variance == pytest.approx(expected.variance, rel=1e-6, abs=1e-12)
    if min(found.variance, expected.variance) > 1e-9:
        assert found.df == pytest.approx(expected.df, rel=1e-6)
