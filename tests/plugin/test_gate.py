"""Whether a session passes the gate: compared with references made of plain numbers."""

from dataclasses import replace

import numpy as np
import pytest
from told_references import OLD, gated, lowered, outcomes, row, run, study, values

from pytest_ablation.gate_results import WHOLE


def test_the_same_bits_are_unchanged():
    gate = gated(values(OLD), values(OLD))
    assert outcomes(gate) == dict.fromkeys(OLD, "unchanged")
    assert gate.ok
    assert {(of.delta, of.low, of.high) for of in gate.rows} == {(0.0, 0.0, 0.0)}


def test_the_same_metrics_of_other_weights_are_no_bits():
    """What came out is more than the metrics: weights, predictions, losses."""
    new = values(OLD)
    runs = {s: replace(of, outcome="other") for s, of in new.rows["no_pe"].runs.items()}
    new = replace(new, rows={**new.rows, "no_pe": replace(new.rows["no_pe"], runs=runs)})
    assert outcomes(gated(values(OLD), new)) == {
        "baseline": "unchanged", "no_pe": "inconclusive", "slow": "unchanged",
    }  # fmt: skip
    tight = gated(values(OLD), new, margins=0.2)
    assert outcomes(tight)["no_pe"] == "pass"


def with_answers(answers, *, outcome):
    """A study of one row, with what each seed's run got right and wrong."""
    runs = {
        seed: run(seed, {"top1": float(np.mean(of))}, outcome=f"{outcome} {seed}", correct=of)
        for seed, of in enumerate(answers)
    }
    return study([row("no_pe", [], runs=runs)])


def test_runs_that_differ_by_rounding_alone_pass():
    """Other bits, as from another processor, and each test example right or wrong as before."""
    answers = [[1, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 1]]
    old = with_answers(answers, outcome="there")
    gate = gated(old, with_answers(answers, outcome="here"), strict=True)
    assert outcomes(gate) == {"no_pe": "pass"}
    assert gate.ok
    assert gate.rows[0].flips == (0, 0)
    others = [[1, 1, 1, 0], *answers[1:]]  # as many are right, but not the same ones
    gate = gated(old, with_answers(others, outcome="here"))
    assert outcomes(gate) == {"no_pe": "inconclusive"}


def test_a_session_of_fewer_seeds_than_the_reference_is_compared_over_its_own():
    gate = gated(values(OLD), values({name: of[:1] for name, of in OLD.items()}))
    assert outcomes(gate) == dict.fromkeys(OLD, "unchanged")
    assert {of.seeds for of in gate.rows} == {(0,)}
    assert all(of.old_mean == of.new_mean == OLD[of.row][0] for of in gate.rows)
    assert all(of.reference_seeds == (0, 1, 2) for of in gate.rows)


def test_a_large_drop_fails_and_says_its_numbers():
    gate = gated(values(OLD), values(lowered(OLD, 0.2, "no_pe")))
    assert outcomes(gate) == {"baseline": "unchanged", "no_pe": "fail", "slow": "unchanged"}
    assert not gate.ok
    (failed,) = gate.failing
    old, new = np.array(OLD["no_pe"]), np.array(OLD["no_pe"]) - 0.2
    assert (failed.old_mean, failed.new_mean) == pytest.approx((old.mean(), new.mean()))
    assert failed.delta == pytest.approx(-0.2)
    assert failed.low < failed.delta < failed.high < -failed.margin
    assert failed.margin == 0.005
    assert failed.by_seed == pytest.approx({0: -0.2, 1: -0.2, 2: -0.2})
    assert failed.seeds == failed.reference_seeds == (0, 1, 2)


def test_a_rise_passes():
    assert outcomes(gated(values(OLD), values(lowered(OLD, -0.1)))) == dict.fromkeys(
        [*OLD, WHOLE], "pass"
    )


def test_all_rows_are_compared_by_their_mean_too():
    """A drop of two points in each of many rows shows in none of them."""
    rng = np.random.default_rng(0)
    old = {f"row{k}": [*(0.8 + 0.015 * rng.standard_normal(3))] for k in range(12)}
    new = {f"row{k}": [*(0.775 + 0.015 * rng.standard_normal(3))] for k in range(12)}
    gate = gated(values(old), values(new))
    found = outcomes(gate)
    assert found.pop(WHOLE) == "fail"
    assert "fail" not in found.values()
    (whole,) = gate.failing
    means = [np.mean([*of.values()]) for of in (old, new)]
    assert (whole.old_mean, whole.new_mean) == pytest.approx(tuple(means))
    assert whole.delta == pytest.approx(means[1] - means[0])
    assert whole.flips is None


@pytest.mark.parametrize("count", [0, 1])
def test_the_mean_of_one_row_that_changed_is_that_row(count):
    new = lowered(OLD, 0.01, *["no_pe"][:count]) if count else OLD
    assert WHOLE not in outcomes(gated(values(OLD), values(new)))


def test_undecided_passes_with_what_it_could_have_missed_and_strictly_fails():
    new = lowered(OLD, 0.008, "no_pe")
    gate, strict = (gated(values(OLD), values(new), strict=way) for way in (False, True))
    assert outcomes(gate)["no_pe"] == outcomes(strict)["no_pe"] == "inconclusive"
    assert (gate.ok, strict.ok) == (True, False)
    assert [of.row for of in strict.failing] == ["no_pe"]
    (undecided,) = (of for of in gate.rows if of.row == "no_pe")
    assert undecided.missed > undecided.margin
    assert undecided.low < -undecided.margin <= undecided.high


@pytest.mark.parametrize(("lost", "outcome"), [(5, "pass"), (6, "fail")])
@pytest.mark.parametrize("right", [800, 795, 803])
def test_a_drop_of_just_the_margin_is_not_beyond_it(right, lost, outcome):
    """A training without chance: 0.8 - 0.795 is not quite 0.005 in floating point."""
    old, new = ({"baseline": [of / 1000] * 3} for of in (right, right - lost))
    assert outcomes(gated(values(old), values(new))) == {"baseline": outcome}


def test_where_less_is_better_a_rise_is_the_drop():
    flags = {"lower_is_better": ("top1",)}
    turned = {name: [-v for v in of] for name, of in OLD.items()}
    for change in (0.2, 0.008, -0.2):
        new = lowered(OLD, change, "no_pe", "slow")
        plain = gated(values(OLD), values(new)).rows
        mirrored = gated(
            values(turned, **flags),
            values({n: [-v for v in of] for n, of in new.items()}, **flags),
        ).rows
        for one, other in zip(plain, mirrored, strict=True):
            assert (one.row, one.outcome) == (other.row, other.outcome)
            assert (one.delta, one.low, one.high) == pytest.approx(
                (-other.delta, -other.high, -other.low)
            )
            assert one.missed == (None if other.missed is None else pytest.approx(other.missed))
            assert not other.higher_is_better


def test_margins_are_the_studys_own_unless_others_are_given():
    new = lowered(OLD, 0.2, "no_pe")
    assert outcomes(gated(values(OLD), values(new, margin=0.5)))["no_pe"] == "pass"
    assert outcomes(gated(values(OLD), values(new), margins=0.5))["no_pe"] == "pass"
    assert outcomes(gated(values(OLD, margin=0.5), values(new)))["no_pe"] == "fail"


def test_rows_that_did_not_change_tell_of_the_spread():
    """With two seeds a single row can hardly prove anything; other rows' runs help it."""
    old = {"a": [0.80, 0.82], **{f"row{k}": [0.8 + k / 100, 0.81 + k / 100] for k in range(5)}}
    new = {**old, "a": [0.66, 0.69]}
    assert outcomes(gated(values(old), values(new)))["a"] == "fail"
    alone = gated(values({"a": old["a"]}), values({"a": new["a"]}))
    assert outcomes(alone)["a"] == "fail"
    width = [of.high - of.low for of in (gated(values(old), values(new)).rows[0], alone.rows[0])]
    assert width[0] < width[1]


def test_rows_of_one_model_share_its_comparison():
    rows = {**OLD, "twin": OLD["no_pe"]}

    def made(numbers):
        told = [row(name, of, same_as="no_pe" if name == "twin" else "")
                for name, of in numbers.items()]  # fmt: skip
        return study(told)

    fallen = lowered(rows, 0.2, "no_pe", "twin")
    gate = gated(made(rows), made(fallen))
    assert outcomes(gate) == {
        "baseline": "unchanged", "no_pe": "fail", "slow": "unchanged", "twin": "fail",
    }  # fmt: skip
    alone = gated(values(OLD), values(lowered(OLD, 0.2, "no_pe")))
    twin, model = (next(of for of in g.rows if of.row == n)
                   for g, n in ((gate, "twin"), (alone, "no_pe")))  # fmt: skip
    assert replace(twin, row="no_pe") == model  # a row more of the same runs costs no alpha


def test_examples_that_changed_sides_are_counted_over_shared_seeds():
    right = {0: ([1, 1, 0, 0, 1], [1, 0, 1, 0, 0]), 1: ([1, 1, 1, 1, 1], [1, 1, 1, 1, 0])}
    old, new = (
        study([row("baseline", [0.5] * 2, runs={s: run(s, {"top1": 0.5 + side}, correct=of[side])
                                                for s, of in right.items()})])
        for side in (0, 1)
    )  # fmt: skip
    (compared,) = gated(old, new).rows
    assert compared.flips == (3, 1)
    (compared,) = gated(values({"baseline": [0.5] * 2}), new).rows
    assert compared.flips is None
