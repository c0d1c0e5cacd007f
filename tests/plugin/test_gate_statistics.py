"""What the gate says of numbers, against SciPy's tests and simulated runs of known truth."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_ablation.gate_statistics import Sides, change_of_means, changes

ALPHA, MARGIN = 0.05, 0.005

accuracies = st.integers(0, 1000).map(lambda right: right / 1000)


def by_seed(values, first=0):
    return dict(enumerate(values, first))


def one(new, old, *, alpha=ALPHA, margin=MARGIN):
    return changes({"row": Sides(by_seed(new), by_seed(old))}, alpha=alpha, margin=margin)["row"]


def values_of(size, sd=0.015, *, mean=0.8, seed=0):
    return mean + sd * np.random.default_rng([seed, size]).standard_normal(size)


@st.composite
def tables(draw, *, rows=(1, 4), seeds=(1, 6)):
    """Rows with values on either side, seeds as they come."""
    count = draw(st.integers(*rows))
    side = st.dictionaries(
        st.integers(0, 9), accuracies, min_size=seeds[0], max_size=seeds[1]
    )  # fmt: skip
    return {f"row{number}": Sides(draw(side), draw(side)) for number in range(count)}


def close(one, other, tolerance=1e-9):
    numbers = [(c.delta, c.low, c.high, math.nan if c.missed is None else c.missed)
               for c in (one, other)]  # fmt: skip
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-6, abs=tolerance, nan_ok=True)
    assert one.paired == other.paired


# --- one row: the textbook's tests ---------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 0.0123])
@pytest.mark.parametrize("count", [5, 8, 12])
def test_pairs_have_the_bounds_of_the_paired_t_test(count, alpha):
    old = values_of(count, seed=1)
    new = old - 0.02 + values_of(count, 0.004, mean=0.0, seed=2)
    found = one(new, old, alpha=alpha)
    high = stats.ttest_rel(new, old, alternative="less").confidence_interval(1 - alpha).high
    low = stats.ttest_rel(new, old, alternative="greater").confidence_interval(1 - alpha).low
    assert found.paired
    assert (found.delta, found.low, found.high) == pytest.approx(((new - old).mean(), low, high))


@pytest.mark.parametrize(("count", "old_count"), [(2, 2), (3, 3), (3, 5), (12, 3), (1, 3), (6, 1)])
def test_means_have_the_bounds_of_the_pooled_two_sample_t_test(count, old_count):
    new, old = values_of(count, mean=0.78, seed=3), values_of(old_count, seed=4)
    found = one(new, old)
    tests = [stats.ttest_ind(new, old, equal_var=True, alternative=way)
             for way in ("greater", "less")]  # fmt: skip
    low, high = (tests[0].confidence_interval(0.95).low, tests[1].confidence_interval(0.95).high)
    assert not found.paired
    assert (found.delta, found.low, found.high) == pytest.approx(
        (new.mean() - old.mean(), low, high)
    )


@pytest.mark.parametrize(("new", "old"), [(range(4), range(6, 10)), (range(12), range(10, 22))])
def test_seeds_that_are_not_shared_make_no_pairs(new, old):
    sides = Sides(
        dict(zip(new, values_of(len(new), seed=1), strict=True)),
        dict(zip(old, values_of(len(old), seed=2), strict=True)),
    )
    found = changes({"row": sides}, alpha=ALPHA, margin=MARGIN)["row"]
    assert not found.paired
    low = stats.ttest_ind(
        [*sides.new.values()], [*sides.old.values()], alternative="greater"
    ).confidence_interval(0.95).low  # fmt: skip
    assert found.low == pytest.approx(low)


def test_of_unequal_seeds_pairs_are_those_that_both_sides_have():
    old, new = values_of(9, seed=5), values_of(9, mean=0.7, seed=6)
    rows = {"row": Sides(by_seed(new[:8]), by_seed(old[1:], first=1))}
    found = changes(rows, alpha=ALPHA, margin=MARGIN)["row"]
    assert found.paired
    test = stats.ttest_rel(new[1:8], old[1:8], alternative="less")
    assert found.high == pytest.approx(test.confidence_interval(0.95).high)


@pytest.mark.parametrize("count", [3, 8])
def test_what_could_be_missed_is_found_four_times_out_of_five(count):
    new, old = values_of(count, seed=7), values_of(count, seed=8)
    found = one(new, old)
    df = count - 1 if found.paired else 2 * count - 2
    critical = stats.t.isf(ALPHA, df)
    error = (found.high - found.delta) / critical
    assert stats.nct.sf(critical, df, (found.missed - MARGIN) / error) == pytest.approx(0.8)


def test_one_run_on_either_side_bounds_nothing():
    found = one([0.1], [0.9])
    assert (found.delta, found.low, found.high) == (pytest.approx(-0.8), -math.inf, math.inf)
    assert found.missed is None


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_tiny_and_huge_numbers_are_the_same_picture(size):
    new, old = values_of(6, seed=9), values_of(6, mean=0.9, seed=10)
    plain, scaled = one(new, old), one(size * new, size * old, margin=size * MARGIN)
    assert [v / size for v in (scaled.delta, scaled.low, scaled.high, scaled.missed)] == (
        pytest.approx([plain.delta, plain.low, plain.high, plain.missed])
    )


# --- runs that do not vary -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_change_of_a_training_without_chance_is_known_exactly(count, rows):
    sides = Sides(by_seed([0.79] * count), by_seed([0.81] * count))
    for found in changes(dict.fromkeys("abc"[:rows], sides), alpha=ALPHA, margin=MARGIN).values():
        assert (found.delta, found.low, found.high) == pytest.approx((-0.02,) * 3, abs=1e-12)


@settings(max_examples=50)
@given(st.lists(st.integers(300, 900), min_size=5, max_size=9), st.integers(1, 100))
def test_differences_that_agree_by_chance_do_not_pass_for_certainty(right, lost):
    """Accuracies are whole numbers of examples: their differences agree but for rounding."""
    assume(len(set(right)) > 1)
    old, new = np.array(right) / 1000, (np.array(right) - lost) / 1000
    found = one(new, old)
    assert not found.paired
    low = stats.ttest_ind(new, old, alternative="greater").confidence_interval(0.95).low
    assert found.low == pytest.approx(low)


def test_rows_that_never_vary_do_not_make_another_row_look_exact():
    """A metric that is at its limit in some rows tells nothing of how the others vary."""
    noisy = Sides(by_seed([0.90, 0.94, 0.92]), by_seed([0.93, 0.95, 0.91]))
    limit = Sides(by_seed([1.0] * 3), by_seed([0.999] * 3))
    settled = {"still": by_seed([1.0] * 3)}
    alone = changes({"noisy": noisy}, alpha=ALPHA, margin=MARGIN)["noisy"]
    for rows, same in (
        ({"noisy": noisy, "limit": limit, "too": limit}, {}),
        ({"noisy": noisy}, settled),
    ):
        found = changes(rows, alpha=ALPHA, margin=MARGIN, unchanged=same)["noisy"]
        assert found.high - found.delta >= (alone.high - alone.delta) * (1 - 1e-9)


# --- invariants ----------------------------------------------------------------------------------


@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_seeds_does_not_matter(rows, random):
    def shuffled(mapping):
        items = [*mapping.items()]
        random.shuffle(items)
        return dict(items)

    other = {name: Sides(shuffled(s.new), shuffled(s.old)) for name, s in shuffled(rows).items()}
    found, again = (changes(r, alpha=ALPHA, margin=MARGIN) for r in (rows, other))
    for name in rows:
        close(found[name], again[name])
    whole, whole_again = (change_of_means(r, alpha=ALPHA, margin=MARGIN) for r in (rows, other))
    assert (whole is None) == (whole_again is None)
    if whole is not None:
        close(whole, whole_again)


@given(tables(), st.sampled_from([-0.25, 1.0, 64.0]))
def test_a_constant_added_to_all_runs_changes_nothing(rows, constant):
    def moved(side):
        return {seed: value + constant for seed, value in side.items()}

    other = {name: Sides(moved(sides.new), moved(sides.old)) for name, sides in rows.items()}
    found, again = (changes(r, alpha=ALPHA, margin=MARGIN) for r in (rows, other))
    for name in rows:
        close(found[name], again[name])


@given(tables())
def test_sides_in_each_others_place_and_metrics_turned_round_mirror_the_change(rows):
    swapped = {name: Sides(sides.old, sides.new) for name, sides in rows.items()}
    turned = {name: sides.turned() for name, sides in rows.items()}
    found = changes(rows, alpha=ALPHA, margin=MARGIN)
    for other in (swapped, turned):
        for name, change in changes(other, alpha=ALPHA, margin=MARGIN).items():
            close(change.turned(), found[name])


@given(tables(seeds=(2, 6)))
def test_more_rows_and_smaller_alphas_only_widen(rows):
    wide = changes(rows, alpha=ALPHA / 2, margin=MARGIN)
    for name, change in changes(rows, alpha=ALPHA, margin=MARGIN).items():
        assert wide[name].low <= change.low <= change.delta <= change.high <= wide[name].high


def test_each_of_many_rows_pays_for_all_of_them():
    """Between the bound of one row alone and Bonferroni's, where all know the same spread."""
    new, old = values_of(4, seed=11), values_of(4, seed=12)
    rows = {f"row{number}": Sides(by_seed(new), by_seed(old)) for number in range(6)}
    found = changes(rows, alpha=ALPHA, margin=MARGIN)["row0"]
    df = 3 + 4  # of the row's own differences, and what it takes of the other rows' at most
    in_errors = (found.high - found.delta) / ((new - old).std(ddof=1) / math.sqrt(4))
    assert found.paired
    assert stats.t.isf(ALPHA, df) < in_errors < stats.t.isf(ALPHA / 6, df)
    rng = np.random.default_rng(0)  # six independent changes in units of one estimated error
    largest = rng.standard_normal((400_000, 6)).max(axis=1) / np.sqrt(
        rng.chisquare(df, 400_000) / df
    )
    assert in_errors == pytest.approx(np.quantile(largest, 1 - ALPHA), rel=0.01)


# --- the mean over all rows ----------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 6])
def test_the_mean_of_rows_is_one_row_of_means(count):
    new, old = values_of(4 * count, seed=13), values_of(4 * count, seed=14)
    new, old = new.reshape(4, count), old.reshape(4, count)
    rows = {f"row{k}": Sides(by_seed(new[k]), by_seed(old[k])) for k in range(4)}
    found = change_of_means(rows, alpha=ALPHA, margin=MARGIN)
    kind = stats.ttest_rel if found.paired else stats.ttest_ind
    test = kind(new.mean(axis=0), old.mean(axis=0), alternative="less")
    assert found.high == pytest.approx(test.confidence_interval(0.95).high)
    assert found.delta == pytest.approx(new.mean() - old.mean())


def test_the_mean_is_over_seeds_that_all_rows_have():
    rows = {"a": Sides({0: 0.5, 1: 0.6, 2: 0.9}, {0: 0.5, 1: 0.6}),
            "b": Sides({0: 0.7, 1: 0.4}, {0: 0.7, 1: 0.8, 2: 0.1})}  # fmt: skip
    found = change_of_means(rows, alpha=ALPHA, margin=MARGIN)
    assert found.delta == pytest.approx((0.6 + 0.5) / 2 - (0.6 + 0.7) / 2)
    apart = {"a": Sides({0: 0.5}, {0: 0.5}), "b": Sides({1: 0.5}, {1: 0.5})}
    assert change_of_means(apart, alpha=ALPHA, margin=MARGIN) is None


# --- error rates, where the truth is known -------------------------------------------------------


def sessions(count, *, rows, seeds, drop, spreads=None, seed=0):
    """Runs [session, side, row, seed]: seeds have effects that rows and sides share in part."""
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((count, 2, rows, seeds))
    own *= np.ones(rows)[:, None] if spreads is None else np.array(spreads)[:, None]
    of_side = 0.5 * rng.standard_normal((count, 2, 1, seeds))
    of_seed = 0.5 * rng.standard_normal((count, 1, 1, seeds))
    runs = 0.8 + 0.01 * (own + of_side + of_seed)
    runs[:, 1] -= drop
    return runs


def alarms(runs, *, alpha=ALPHA, margin=MARGIN):
    """Of each session whether a row, or the mean of rows, is said to be beyond the margin."""
    found = []
    for old, new in runs:
        rows = {str(k): Sides(by_seed(new[k]), by_seed(old[k])) for k in range(len(new))}
        whole = change_of_means(rows, alpha=alpha / 2, margin=margin)
        by_row = changes(rows, alpha=alpha / 2, margin=margin)
        found.append([c.high < -margin for c in (whole, *by_row.values())])
    return np.array(found).any(axis=1)


def most_alarms(count, alpha=ALPHA):
    return stats.binom.ppf(0.999, count, alpha)


@pytest.mark.parametrize("count", [3, 6])
def test_one_rows_error_rate_is_exactly_what_was_asked_for(count):
    """Of runs that have nothing in common; what seeds share makes means more careful."""
    rng = np.random.default_rng(count)
    runs = 0.01 * rng.standard_normal((2000, 2, count))
    if count == 6:  # compared in pairs, which may share what they will
        runs += rng.standard_normal((2000, 1, count))
    wrong = sum(one(new - MARGIN, old).high < -MARGIN for old, new in runs)
    assert stats.binom.ppf(0.001, 2000, ALPHA) <= wrong <= most_alarms(2000)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_a_drop_of_just_the_margin_in_all_rows_is_an_alarm_one_time_in_twenty_at_most(seeds):
    runs = sessions(600, rows=5, seeds=seeds, drop=MARGIN, seed=seeds)
    assert alarms(runs).sum() <= most_alarms(600)


def test_one_row_of_twice_the_spread_keeps_the_error_rate():
    runs = sessions(600, rows=5, seeds=3, drop=MARGIN, spreads=[2, 1, 1, 1, 1])
    assert alarms(runs).sum() <= most_alarms(600)


def test_larger_drops_are_found_more_often():
    found = [alarms(sessions(150, rows=5, seeds=3, drop=drop, seed=3)).mean()
             for drop in (MARGIN, 0.015, 0.025, 0.045)]  # fmt: skip
    assert found == sorted(found)
    assert found[-1] > 0.95
    assert found[2] > found[0] + 0.2


def test_the_mean_of_rows_finds_what_no_single_row_shows():
    runs = sessions(100, rows=8, seeds=3, drop=0.02, seed=4)
    of_means, of_rows = [], []
    for old, new in runs:
        rows = {str(k): Sides(by_seed(new[k]), by_seed(old[k])) for k in range(8)}
        whole = change_of_means(rows, alpha=ALPHA / 2, margin=MARGIN)
        of_means.append(whole.high < -MARGIN)
        first = changes(rows, alpha=ALPHA / 2, margin=MARGIN)["0"]
        of_rows.append(first.high < -MARGIN)
    assert np.mean(of_means) > 2 * np.mean(of_rows)
