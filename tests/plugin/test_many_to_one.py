"""Dunnett's distribution against SciPy, printed tables, closed forms and plain integration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from pytest_ablation.many_to_one import Family, critical_value, tail

INF = math.inf

families = st.builds(Family, st.integers(1, 12), st.sampled_from([0.0, 0.2, 0.5, 0.8]))
several = st.lists(families, min_size=1, max_size=3)
statistics = st.floats(0, 12)
freedoms = st.sampled_from([1.0, 2.0, 3.7, 12.0, 200.0, INF])
sided = st.sampled_from([1, 2])
few = settings(max_examples=30)
ROUGHLY = 1e-6  # relative: of a tail, for what must hold up to the accuracy of integration


@pytest.mark.parametrize(
    ("sides", "df", "printed"),
    [
        (2, 5, [2.57, 3.03, 3.29, 3.48, 3.62]),
        (2, 10, [2.23, 2.57, 2.76, 2.89, 2.99]),
        (2, 20, [2.09, 2.38, 2.54, 2.65, 2.73]),
        (2, INF, [1.96, 2.21, 2.35, 2.44, 2.51]),
        (1, 5, [2.02, 2.44, 2.68, 2.85, 2.98]),
        (1, 10, [1.81, 2.15, 2.34, 2.47, 2.56]),
        (1, INF, [1.64, 1.92, 2.06, 2.16, 2.23]),
    ],
)
def test_critical_values_at_five_percent_are_those_of_dunnetts_tables(sides, df, printed):
    """JASA 50, 1955, and Biometrics 20, 1964, as reprinted in Montgomery's appendix."""
    found = [critical_value(0.05, df, [Family(k, 0.5)], sides=sides) for k in range(1, 6)]
    assert found == pytest.approx(printed, abs=0.0051)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize("shift", [0.3, 0.9, 1.8])
def test_p_values_are_those_of_scipys_dunnett(alternative, shift):
    rng = np.random.default_rng(7)
    control, *samples = rng.normal(0, 1, (5, 6)) + np.array([[0], [0], [shift], [shift], [0]])
    expected = stats.dunnett(
        *samples, control=control, alternative=alternative, rng=np.random.default_rng(0)
    )
    one_sided = alternative == "greater"
    statistic = expected.statistic if one_sided else abs(expected.statistic)
    sides = 1 if one_sided else 2
    found = [tail(value, 25, [Family(4, 0.5)], sides=sides) for value in statistic]
    assert found == pytest.approx(expected.pvalue, abs=5e-4)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize(
    ("df", "count", "correlation", "statistic"),
    [(4, 3, 0.5, 2.8), (12, 5, 0.25, 2.0), (12, 5, 0.8, 2.0), (2, 2, 0.5, 1.0), (40, 8, 0.0, 3.0)],
)
def test_tails_are_those_of_the_multivariate_t_distribution(
    sides, df, count, correlation, statistic
):
    expected = multivariate_tail(statistic, df, equal_correlations(count, correlation), sides)
    found = tail(statistic, df, [Family(count, correlation)], sides=sides)
    assert found == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("sides", [1, 2])
def test_the_lowest_of_different_correlations_is_the_careful_choice(sides):
    """Variants with 3, 5 and 9 seeds against a baseline with 5."""
    shares = np.sqrt(np.array([3, 5, 9]) / (np.array([3, 5, 9]) + 5))
    correlations = np.outer(shares, shares)
    np.fill_diagonal(correlations, 1)
    exact = multivariate_tail(2.5, 18, correlations, sides)
    found = tail(2.5, 18, [Family(3, correlations.min())], sides=sides)
    assert exact < found < 1.1 * exact


@pytest.mark.parametrize("between", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("sides", [1, 2])
def test_correlated_families_make_the_p_value_too_high_and_never_too_low(between, sides):
    correlations = np.kron(np.array([[0, 1], [1, 0]]), np.full((2, 2), between))
    correlations += np.kron(np.eye(2), equal_correlations(2, 0.6))
    exact = multivariate_tail(2.2, 9, correlations, sides)
    found = tail(2.2, 9, [Family(2, 0.6), Family(2, 0.6)], sides=sides)
    assert exact - 2e-4 < found < 1.25 * exact
    if sides == 1 and between == 0:
        assert found == pytest.approx(exact, abs=2e-4)


@pytest.mark.parametrize("df", [1, 3.5, 100, INF])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9, 0.99])
def test_the_chance_that_any_estimate_is_positive_has_a_closed_form(df, correlation):
    """Sheppard's orthant probabilities, which the common denominator does not change."""
    angle = math.asin(correlation)
    two, three = (tail(0.0, df, [Family(k, correlation)], sides=1) for k in (2, 3))
    assert two == pytest.approx(1 - (1 / 4 + angle / (2 * math.pi)), rel=1e-6)
    assert three == pytest.approx(1 - (1 / 8 + 3 * angle / (4 * math.pi)), rel=1e-6)


@pytest.mark.parametrize(
    ("sides", "df", "statistic", "family"),
    [
        (2, 1, 1e6, Family(6, 0.5)),
        (2, 1, 1e11, Family(6, 0.5)),
        (2, 3, 150.0, Family(4, 0.5)),
        (1, 12.5, 8.0, Family(30, 0.3)),
        (2, 60, 6.0, Family(6, 0.9)),
        (2, 5000, 5.5, Family(3, 0.5)),
        (1, 30, -1.0, Family(5, 0.5)),
    ],
)
def test_far_tails_are_those_of_plain_integration(sides, df, statistic, family):
    expected = integrated_tail(statistic, df, family, sides)
    assert tail(statistic, df, [family], sides=sides) == pytest.approx(expected, rel=1e-4, abs=0)


@few
@given(statistics, st.floats(1, 500), sided)
def test_one_comparison_alone_is_students_t(statistic, df, sides):
    expected = sides * stats.t.sf(statistic, df)
    for family in (Family(1, 0.5), Family(1, 0.0)):
        assert tail(statistic, df, [family], sides=sides) == pytest.approx(
            expected, rel=1e-12, abs=0
        )
    value = critical_value(0.05, df, [Family(1, 0.5)], sides=sides)
    assert value == pytest.approx(stats.t.isf(0.05 / sides, df), rel=1e-9)


@few
@given(statistics, freedoms, several, sided)
def test_p_values_lie_between_the_unadjusted_and_sidaks(statistic, df, several, sides):
    alone = min(1.0, sides * stats.t.sf(statistic, df))
    sidak = -np.expm1(sum(family.count for family in several) * np.log1p(-min(alone, 1 - 1e-16)))
    found = tail(statistic, df, several, sides=sides)
    assert alone * (1 - ROUGHLY) <= found <= min(1.0, sidak * (1 + ROUGHLY))


@few
@given(statistics, st.floats(0.01, 2), freedoms, several, sided)
def test_larger_statistics_are_less_likely(statistic, more, df, several, sides):
    near = tail(statistic, df, several, sides=sides)
    far = tail(statistic + more, df, several, sides=sides)
    assert far < near or (near > 1 - ROUGHLY and far <= 1)


@few
@given(st.sampled_from([0.001, 0.05, 0.2]), freedoms, several, families, sided)
def test_more_comparisons_ask_for_larger_critical_values(alpha, df, several, another, sides):
    value = critical_value(alpha, df, several, sides=sides)
    assert critical_value(alpha, df, [*several, another], sides=sides) > value
    first, *others = several
    larger = [first._replace(count=first.count + 1), *others]
    assert critical_value(alpha, df, larger, sides=sides) > value


@few
@given(st.sampled_from([0.001, 0.05, 0.2]), several, sided)
def test_more_degrees_of_freedom_ask_for_smaller_critical_values(alpha, several, sides):
    freedoms = [1.5, 3, 10, 11, 1e7, INF]
    values = [critical_value(alpha, df, several, sides=sides) for df in freedoms]
    assert values[:-1] == sorted(values[:-1], reverse=True)
    assert values[-1] == pytest.approx(values[-2], rel=1e-5)


@few
@given(st.floats(1e-9, 0.999), freedoms, several, sided)
def test_the_tail_at_a_critical_value_is_alpha(alpha, df, several, sides):
    value = critical_value(alpha, df, several, sides=sides)
    assert tail(value, df, several, sides=sides) == pytest.approx(alpha, rel=ROUGHLY, abs=0)


@given(
    statistics,
    freedoms,
    st.lists(families, min_size=3, max_size=5, unique=True),
    sided,
    st.randoms(),
)
def test_the_order_of_families_does_not_matter(statistic, df, several, sides, random):
    shuffled = list(several)
    random.shuffle(shuffled)
    for function, value in ((tail, statistic), (critical_value, 0.05)):
        there = function(value, df, several, sides=sides)
        assert there == function(value, df, tuple(shuffled), sides=sides)


@few
@given(st.floats(allow_nan=False), freedoms, several, sided)
def test_any_statistic_has_a_probability(statistic, df, several, sides):
    assert 0 <= tail(statistic, df, several, sides=sides) <= 1


@pytest.mark.parametrize("df", [1, 7, INF])
def test_the_ends(df):
    several = [Family(6, 0.5), Family(2, 0.3)]
    assert (tail(0.0, df, several), tail(-3.0, df, several), tail(INF, df, several)) == (1, 1, 0)
    assert (tail(-INF, df, several, sides=1), tail(INF, df, several, sides=1)) == (1, 0)
    assert tail(1e-9, df, several) == pytest.approx(1)


@pytest.mark.parametrize("nearly", [0.9999, 1 - 1e-12])
def test_correlations_next_to_one_are_nearly_one_comparison(nearly):
    value = critical_value(0.05, 10, [Family(5, nearly)])
    assert critical_value(0.05, 10, [Family(1, 0.5)]) < value < 2.35


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2.0, 0.5, [Family(2, 0.5)]), "degrees of freedom are 0.5: expected 1 or more"),
        ((2.0, math.nan, [Family(2, 0.5)]), "degrees of freedom are nan"),
        ((2.0, 5, []), "there are no families"),
        ((2.0, 5, [Family(0, 0.5)]), "a family has 0 comparisons: expected 1 or more"),
        ((2.0, 5, [Family(2, 1.0)]), "a correlation is 1.0: expected at least 0, and below 1"),
        ((2.0, 5, [Family(2, -0.1)]), "a correlation is -0.1"),
        ((2.0, 5, [Family(2, math.nan)]), "a correlation is nan"),
        ((math.nan, 5, [Family(2, 0.5)]), "the statistic is not a number"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tail(*arguments)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 5, math.nan])
def test_an_alpha_that_is_no_error_rate_is_refused(alpha):
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        critical_value(alpha, 5, [Family(2, 0.5)])
    with pytest.raises(ValueError, match="sides is 3: expected 1 or 2"):
        critical_value(0.05, 5, [Family(2, 0.5)], sides=3)


def equal_correlations(count, correlation):
    return np.full((count, count), correlation) + (1 - correlation) * np.eye(count)


def multivariate_tail(statistic, df, correlations, sides):
    """One minus SciPy's multivariate t distribution function over a box."""
    upper = np.full(len(correlations), float(statistic))
    return 1 - stats.multivariate_t.cdf(
        upper,
        shape=correlations,
        df=df,
        lower_limit=-upper if sides == 2 else None,
        random_state=np.random.default_rng(0),
        maxpts=40_000,
    )


def integrated_tail(statistic, df, family, sides):
    """The double integral over the common deviation and the shared number, by `scipy.integrate`."""
    shared, own = math.sqrt(family.correlation), math.sqrt(1 - family.correlation)
    numbers = np.linspace(-12, 12, 4001)
    densities = stats.norm.pdf(numbers)

    def given_deviation(deviation):
        threshold = statistic * deviation
        beyond = special.ndtr((shared * numbers - threshold) / own)
        if sides == 2:
            beyond += special.ndtr((-shared * numbers - threshold) / own)
        any_beyond = -np.expm1(family.count * np.log1p(-np.minimum(beyond, 1 - 1e-16)))
        return integrate.simpson(densities * any_beyond, x=numbers)

    def integrand(deviation):
        return (
            stats.chi.pdf(deviation * math.sqrt(df), df)
            * math.sqrt(df)
            * (given_deviation(deviation))
        )

    spots = 1 / math.sqrt(1 + max(statistic, 0) ** 2 / df) * np.array([0.0, 0.3, 0.8, 1.2, 2, 4, 9])
    ends = sorted({*spots, *np.linspace(max(0, 1 - 9 / math.sqrt(df)), 1 + 9 / math.sqrt(df), 7)})
    pieces = itertools.pairwise(ends)
    return sum(integrate.quad(integrand, *piece, epsrel=1e-7, limit=30)[0] for piece in pieces)
