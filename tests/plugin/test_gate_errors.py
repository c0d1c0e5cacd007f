"""What the gate cannot compare is an error that says why and what to do, never a pass."""

from dataclasses import replace

import numpy as np
import pytest
from told_references import (
    OLD,
    gated,
    lowered,
    outcomes,
    reference,
    row,
    run,
    study,
    values,
    with_metrics,
)

from pytest_ablation.gate import Terms, compare, compare_study
from pytest_ablation.gate_results import WHOLE

ACCEPT = "--ablation-save-reference"


def the_error(old, new, name="no_pe", **wishes):
    """The message of a row that could not be compared; the session fails for it."""
    gate = gated(old, new, **wishes)
    assert not gate.ok
    errors = [of for of in gate.failing if of.row == name]
    assert {of.outcome for of in errors} == {"error"}
    assert all(of.study == "parts" for of in errors)
    (message,) = {of.message for of in errors}
    return message


def without(rows, name):
    return {other: of for other, of in rows.items() if other != name}


def test_a_row_that_is_not_in_the_reference():
    message = the_error(values(without(OLD, "no_pe")), values(OLD))
    assert "the reference does not have it" in message
    assert ACCEPT in message


def test_a_row_that_is_only_in_the_reference():
    message = the_error(values(OLD), values(without(OLD, "no_pe")))
    assert "no result" in message
    assert "select it" in message
    assert ACCEPT in message


def test_a_study_that_is_on_one_side_only():
    one, other = values(OLD), values(OLD, name="heads")
    gate = compare(reference(one, other), reference(one))
    assert not gate.ok
    assert ["heads" in text and ACCEPT in text for text in gate.errors] == [True]
    gate = compare(reference(one), reference(one, other))
    assert not gate.ok
    assert {(of.study, of.outcome) for of in gate.failing} == {("heads", "error")}
    assert all("no study heads" in of.message and ACCEPT in of.message for of in gate.failing)


def test_seeds_that_the_reference_lacks_are_named_with_those_it_has():
    short = {**OLD, "no_pe": OLD["no_pe"][:1]}
    message = the_error(values(short), values(OLD))
    assert "no seeds 1, 2, only seed 0" in message
    assert ACCEPT in message


@pytest.mark.parametrize("left", [[0, 2], [0], []])
def test_seeds_without_a_result_are_named(left):
    new = values(OLD)
    runs = {seed: of for seed, of in new.rows["no_pe"].runs.items() if seed in left}
    new = replace(new, rows={**new.rows, "no_pe": replace(new.rows["no_pe"], runs=runs)})
    planned = dict.fromkeys(OLD, (0, 1, 2))
    found = compare_study(values(OLD), new, planned, Terms())
    (error,) = (of for of in found.rows if of.outcome == "error")
    assert error.row == "no_pe"
    for seed in {0, 1, 2} - set(left):
        assert str(seed) in error.message


def test_a_row_without_any_seed_is_no_pass():
    assert "any seed" in the_error(values(OLD), values({**OLD, "no_pe": []}))


@pytest.mark.parametrize("status", ["no_effect", "unfair", "diverged", "missing", "failed"])
def test_a_result_that_is_not_ok_is_never_compared(status):
    new = values(OLD)
    new = replace(new, rows={**new.rows, "no_pe": replace(new.rows["no_pe"], status=status)})
    assert status in the_error(values(OLD), new)


def test_another_configuration_and_what_it_was():
    new = values(OLD)
    changed = row("no_pe", OLD["no_pe"], configuration="other", config={"width": 32, "rate": 0.1})
    message = the_error(values(OLD), replace(new, rows={**new.rows, "no_pe": changed}))
    assert "width was 64, is 32" in message
    assert "rate" not in message
    assert ACCEPT in message


def test_another_budget_and_what_it_was():
    rows = [row(name, of, configuration="other") for name, of in OLD.items()]
    message = the_error(values(OLD), study(rows, budget={"epochs": 3}))
    assert "the mode's epochs was 2, is 3" in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"data": "other"}, "data function"), ({"train": "x"}, "the training data"),
     ({"test": "x"}, "the test data")],
)  # fmt: skip
def test_other_data_and_which(fields, words):
    new = values(OLD)
    changed = new.rows["no_pe"]
    if "data" in fields:
        changed = replace(changed, **fields)
    else:
        runs = {s: run(s, of.metrics, **fields) for s, of in changed.runs.items()}
        changed = replace(changed, runs=runs)
    message = the_error(values(OLD), replace(new, rows={**new.rows, "no_pe": changed}))
    assert words in message
    assert ACCEPT in message


def test_a_metric_that_the_reference_lacks():
    gate = gated(values(OLD), with_metrics(OLD, ["top1", "top5"]))
    assert outcomes(gate) == dict.fromkeys(OLD, "unchanged")
    assert outcomes(gate, "top5") == dict.fromkeys(OLD, "error")
    assert all("no metric top5" in of.message and ACCEPT in of.message for of in gate.failing)


@pytest.mark.parametrize("new", [values(OLD), with_metrics(OLD, ["top1", "top5"], gate=["top1"])])
def test_a_metric_that_the_study_no_longer_compares(new):
    """Else the metric that fell could be taken out, and nobody would see it."""
    gate = gated(with_metrics(OLD, ["top1", "top5"]), new)
    assert outcomes(gate) == dict.fromkeys(OLD, "unchanged")
    assert [(of.metric, of.outcome) for of in gate.failing] == [("top5", "error")]
    assert ACCEPT in gate.failing[0].message


def test_a_metric_that_has_turned_round():
    """Else a fall would count as progress."""
    message = the_error(values(OLD), values(lowered(OLD, 0.2), lower_is_better=("top1",)))
    assert "in the reference top1 is better when higher, here it is not" in message
    assert ACCEPT in message


def test_errors_have_the_margin_of_their_metric():
    new = with_metrics(OLD, ["top1", "top5"])
    new = replace(new, margins={"top1": 0.005, "top5": 0.25}, rows={
        name: replace(of, status="failed") for name, of in new.rows.items()})  # fmt: skip
    gate = gated(with_metrics(OLD, ["top1", "top5"]), new)
    assert {(of.metric, of.margin) for of in gate.rows} == {("top1", 0.005), ("top5", 0.25)}


def test_metrics_that_were_not_asked_for_are_not_missed():
    gate = gated(with_metrics(OLD, ["top1", "top5"]), values(OLD), metrics=["top1"])
    assert outcomes(gate) == dict.fromkeys(OLD, "unchanged")
    assert gate.ok


@pytest.mark.parametrize(
    ("old", "new"),
    [(reference(), reference()), (reference(values(OLD)), reference()),
     (reference(values({})), reference(values({})))],
)  # fmt: skip
def test_nothing_to_compare_is_an_error(old, new):
    gate = compare(old, new)
    assert not gate.ok
    assert "there is nothing to compare" in gate.errors


def test_one_broken_row_hides_no_fall_of_another():
    new = lowered(without(OLD, "slow"), 0.2, "no_pe")
    found = outcomes(gated(values(OLD), values(new)))
    assert found == {"baseline": "unchanged", "no_pe": "fail", "slow": "error"}


def test_a_twin_of_a_row_that_cannot_be_compared_cannot_either():
    rows = [row("baseline", OLD["baseline"]), row("no_pe", OLD["no_pe"]),
            row("twin", OLD["no_pe"], same_as="no_pe")]  # fmt: skip
    broken = [rows[0], replace(rows[1], data="other"), rows[2]]
    message = the_error(study(rows), study(broken), "twin")
    assert "no_pe" in message


def test_rows_of_unequal_seeds_are_compared_over_those_they_have():
    """A report folder may hold rows that verdicts have given more seeds than others."""
    rng = np.random.default_rng(1)
    old = {name: [*(0.8 + 0.01 * rng.standard_normal(6))] for name in OLD}
    new = {name: [*(0.8 + 0.01 * rng.standard_normal(n))]
           for name, n in zip(OLD, (6, 3, 2), strict=True)}  # fmt: skip
    gate = gated(values(old), values(new))
    assert gate.ok
    assert {of.row: len(of.seeds) for of in gate.rows} == {
        "baseline": 6, "no_pe": 3, "slow": 2, WHOLE: 2,
    }  # fmt: skip
    fallen = gated(values(old), values(lowered(new, 0.3, "no_pe")))
    assert outcomes(fallen)["no_pe"] == "fail"
