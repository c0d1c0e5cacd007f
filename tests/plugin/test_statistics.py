"""Statistics against SciPy and against simulation with a known truth."""

import json
import math
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from pytest_ablation.crossed import ExampleSpread
from pytest_ablation.statistics import Delta, mean, paired_delta, verdict

fractions = st.floats(0, 1, allow_subnormal=False)
pairs = st.lists(st.tuples(fractions, fractions), min_size=2, max_size=8)


def by_seed(values):
    return dict(enumerate(values))


@given(pairs)
def test_the_interval_and_p_value_are_those_of_the_paired_t_test(values):
    variant, baseline = (list(side) for side in zip(*values, strict=True))
    differences = np.subtract(variant, baseline)
    assume(differences.std() > 1e-6)
    delta = paired_delta(by_seed(variant), by_seed(baseline), margin=0.005)
    expected = stats.ttest_rel(variant, baseline)
    interval = expected.confidence_interval(0.95)
    assert (delta.low, delta.high) == pytest.approx(tuple(interval), rel=1e-6, abs=1e-9)
    assert delta.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert (delta.p_value < 0.05) == (delta.verdict in ("worse", "better"))


@given(pairs, st.randoms())
def test_the_order_of_seeds_does_not_matter(values, random):
    variant, baseline = (by_seed(side) for side in zip(*values, strict=True))
    shuffled = list(variant)
    random.shuffle(shuffled)
    other = {seed: variant[seed] for seed in shuffled}
    assert paired_delta(variant, baseline, margin=0.01) == paired_delta(
        other, baseline, margin=0.01
    )


@given(pairs)
def test_swapping_the_sides_mirrors_the_delta(values):
    variant, baseline = (by_seed(side) for side in zip(*values, strict=True))
    there = paired_delta(variant, baseline, margin=0.01)
    back = paired_delta(baseline, variant, margin=0.01)
    assert back.value == pytest.approx(-there.value)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.p_value == pytest.approx(there.p_value)


def test_only_shared_seeds_are_paired():
    delta = paired_delta({0: 0.5, 1: 0.6, 7: 0.9}, {1: 0.4, 0: 0.4, 3: 0.1}, margin=0.005)
    assert delta.by_seed == pytest.approx({0: 0.1, 1: 0.2})
    assert delta.n_seeds == 2
    assert paired_delta({0: 0.5}, {1: 0.5}, margin=0.005) is None


def test_one_pair_gives_a_value_and_no_claim():
    delta = paired_delta({0: 0.5}, {0: 0.4}, margin=0.005)
    assert delta == Delta(pytest.approx(0.1), -math.inf, math.inf, None, None, None, delta.by_seed)


@pytest.mark.parametrize("value", [0.0, -0.25, 0.1])
def test_differences_without_any_spread_prove_nothing(value):
    """Three accuracies on a grid of 1/310 differ by the same step often enough."""
    delta = paired_delta(by_seed([0.3 + value] * 3), by_seed([0.3] * 3), margin=0.005)
    assert (delta.value, delta.low, delta.high) == pytest.approx((value, value, value))
    assert (delta.p_value, delta.smallest_detectable) == (None, None)
    assert delta.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.02, -0.01, "worse"),
        (0.001, 0.02, "better"),
        (-0.005, 0.005, "no_detectable_change"),
        (-0.0051, 0.005, "inconclusive"),
        (-0.02, 0.03, "inconclusive"),
        (-0.02, 0.0, "inconclusive"),
    ],
)
def test_the_verdict_of_an_interval(low, high, expected):
    assert verdict(low, high, margin=0.005) == expected


@pytest.mark.parametrize("examples", [None, ExampleSpread(0.001, 7.0)])
@pytest.mark.parametrize("variant", [[0.8], [0.3, 0.3], [0.8, 0.9]], ids=["one", "ties", "two"])
def test_a_delta_survives_the_way_through_json(variant, examples):
    delta = paired_delta(by_seed(variant), by_seed([0.1, 0.1]), margin=0.005)
    if delta.precision is not None:
        delta = replace(delta, precision=replace(delta.precision, examples=examples))
    assert Delta.from_json(json.loads(json.dumps(asdict(delta)))) == delta


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_the_mean_of_finite_values_is_exactly_rounded_and_never_overflows(values):
    exact = sum(map(Fraction, values)) / len(values)
    assert mean(values) == pytest.approx(float(exact), rel=1e-14, abs=1e-300)
    assert mean([1.7e308, 1.7e308, -1.7e308]) == pytest.approx(1.7e308 / 3)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_smallest_detectable_change_is_found_four_times_out_of_five(n):
    """Simulated studies with exactly that change: the t-test sees 80 % of them."""
    rng = np.random.default_rng(n)
    noise = rng.normal(0, 1.0, (20_000, n))
    scale = 1.0 / math.sqrt(n)  # the true standard error
    unit = paired_delta(by_seed(_values_with_error(n)), by_seed([0.0] * n), margin=0.005)
    change = unit.smallest_detectable * scale  # unit has a standard error of 1
    seen = (stats.ttest_1samp(noise + change, 0, axis=1).pvalue < 0.05).mean()
    assert seen == pytest.approx(0.80, abs=0.012)


def _values_with_error(n):
    """n values whose mean has a standard error of exactly 1."""
    values = np.linspace(-1, 1, n)
    return values / (values.std(ddof=1) / math.sqrt(n))
