"""Looks at growing data: closed forms, and simulated looks at data without any effect."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_ablation.looks import alphas, look_sizes, spent


@pytest.mark.parametrize(
    ("first", "most", "expected"),
    [
        (3, 12, (3, 6, 12)),
        (5, 12, (5, 12)),
        (3, 3, (3,)),
        (3, 4, (3, 4)),
        (2, 12, (2, 4, 8, 12)),
        (3, 8, (3, 8)),
        (3, 9, (3, 6, 9)),
        (1, 3, (1, 2, 3)),
        (3, 40, (3, 6, 12, 24, 40)),
    ],
)
def test_looks_double_and_end_at_the_most_seeds(first, most, expected):
    assert look_sizes(first, most) == expected


@given(st.integers(1, 50), st.integers(0, 500))
def test_no_step_is_smaller_than_the_one_before_it(first, more):
    sizes = look_sizes(first, first + more)
    assert (sizes[0], sizes[-1]) == (first, first + more)
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    assert steps == sorted(steps)
    assert all(after <= 3 * before for before, after in itertools.pairwise(sizes))


@pytest.mark.parametrize(("first", "most"), [(5, 3), (0, 3), (-1, 3)])
def test_looks_that_cannot_be_taken_are_refused(first, most):
    with pytest.raises(ValueError, match=f"looks from {first} to {most} seeds: expected 1 seed"):
        look_sizes(first, most)


def test_the_spending_function_is_the_one_of_pococks_type():
    assert spent(0.05, 0) == 0
    assert spent(0.05, 1) == pytest.approx(0.05, rel=1e-15)
    assert spent(0.05, 0.25) == pytest.approx(0.05 * math.log(1 + (math.e - 1) / 4), rel=1e-14)


@given(st.floats(0, 1), st.floats(1e-6, 0.99))
def test_what_is_spent_tells_how_much_data_there_were(fraction, alpha):
    """Its inverse, ``(exp(spent / alpha) - 1) / (e - 1)``."""
    inverse = (math.exp(spent(alpha, fraction) / alpha) - 1) / (math.e - 1)
    assert inverse == pytest.approx(fraction, abs=1e-12)


@given(st.integers(1, 30), st.integers(0, 200), st.floats(1e-6, 0.99))
def test_the_parts_of_alpha_are_positive_and_add_up_to_it(first, more, alpha):
    sizes = look_sizes(first, first + more)
    parts = alphas(sizes, alpha)
    assert len(parts) == len(sizes)
    assert all(part > 0 for part in parts)
    assert math.fsum(parts) == pytest.approx(alpha, rel=1e-12)
    spending = [spent(alpha, size / sizes[-1]) for size in sizes]
    assert list(itertools.accumulate(parts)) == pytest.approx(spending, rel=1e-9)


def test_one_look_may_spend_all_of_alpha():
    assert alphas([4], 0.05) == pytest.approx((0.05,))


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_data_never_spend_less(one, other):
    assert (spent(0.05, one) <= spent(0.05, other)) or one > other


@pytest.mark.parametrize("sizes", [(3, 6, 12), (2, 4, 8, 12), (5, 12)])
def test_looks_at_data_without_effect_find_one_in_alpha_of_the_time_at_most(sizes):
    """10,000 studies, a two-sided t-test at each look, and at a constant 5 % beside it."""
    rng = np.random.default_rng(20)
    differences = rng.normal(0, 1, (10_000, sizes[-1]))
    p_values = [stats.ttest_1samp(differences[:, :size], 0, axis=1).pvalue for size in sizes]
    crossed, constant = (
        np.any([p < level for p, level in zip(p_values, levels, strict=True)], axis=0).mean()
        for levels in (alphas(sizes, 0.05), [0.05] * len(sizes))
    )
    noise = 2.6 * math.sqrt(0.05 * 0.95 / 10_000)
    assert 0.03 < crossed < 0.05 + noise
    assert constant > 0.05 + noise  # what spending prevents


@pytest.mark.parametrize("sizes", [(), (0, 3), (3, 3), (6, 3), (-2, 1)])
def test_sizes_that_do_not_rise_are_refused(sizes):
    with pytest.raises(ValueError, match="each above the one before"):
        alphas(sizes, 0.05)


@pytest.mark.parametrize(("alpha", "fraction"), [(0, 0.5), (1, 0.5), (math.nan, 0.5)])
def test_an_alpha_that_is_no_error_rate_is_refused(alpha, fraction):
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        spent(alpha, fraction)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(ValueError, match="expected 0 to 1"):
        spent(0.05, fraction)
