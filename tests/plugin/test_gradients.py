"""Gradient norms and loss spikes: what a record says of them, against brute force."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from pytest_ablation import Diverged, Mode, Run

GRAD_NORM = ("run.step(batch, epoch=epoch, loss=loss)",
             "run.step(batch, epoch=epoch, loss=loss, grad_norm={norm})")  # fmt: skip


def make_run():
    return Run(seed=0, mode=Mode(seeds=1, epochs=9))


def told(*, norms=(), losses=(), steps_per_epoch=7):
    """The record of a run that was told these, one a step."""
    run = make_run()
    for index in range(max(len(norms), len(losses))):
        run.step(
            [index],
            epoch=1 + index // steps_per_epoch,
            grad_norm=norms[index] if norms else None,
            loss=losses[index] if losses else None,
        )
    return run.finish({"top1": 0.5})


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=80))
def test_finite_gradient_norms_are_summed_up_as_numpy_does(norms):
    seen = told(norms=norms).gradients
    first = int(np.argmax(norms))
    assert (seen.largest, seen.step, seen.epoch) == (norms[first], first + 1, 1 + first // 7)
    assert (seen.median, seen.steps) == (np.median(norms), len(norms))


@given(st.lists(st.sampled_from([1.0, 2.0, 5.0, math.inf, math.nan]), min_size=1, max_size=12))
def test_the_first_norm_that_is_not_finite_is_the_largest_and_no_error(norms):
    seen = told(norms=norms).gradients
    finite = [norm for norm in norms if math.isfinite(norm)]
    bad = [index for index, norm in enumerate(norms) if not math.isfinite(norm)]
    where = bad[0] if bad else norms.index(max(norms))
    assert repr(seen.largest) == repr(norms[where])
    assert seen.step == where + 1
    assert seen.steps == len(norms)
    assert seen.median == (np.median(finite) if finite else math.inf)


def test_a_run_that_told_no_norm_and_no_loss_has_neither_summary():
    record = told(norms=[None] * 3, losses=[None] * 3)
    assert (record.gradients, record.loss_spikes) == (None, None)
    assert record.steps == 3


def test_the_norm_of_the_step_that_diverged_is_kept():
    run = make_run()
    run.step([0], epoch=1, loss=1.0, grad_norm=1.0)
    with pytest.raises(Diverged):
        run.step([1], epoch=1, loss=math.nan, grad_norm=1e30)
    record = run.finish({})
    assert record.gradients[:3] == (1e30, 1, 2)
    assert record.status == "diverged"


def test_a_norm_without_an_epoch_has_a_step_all_the_same():
    run = make_run()
    run.step([0], grad_norm=np.float32(2.0))
    assert run.finish({}).gradients == (2.0, None, 1, 2.0, 1)


@pytest.mark.parametrize("norm", ["1.0", True, [1.0]])
def test_a_norm_that_is_no_number_is_an_error(norm):
    with pytest.raises(TypeError, match="grad_norm must be a number, found"):
        make_run().step([0], grad_norm=norm)


def spikes_by_brute_force(losses):
    """(count, largest ratio, step of the largest), as the README and LossWatch state the rule."""
    found = []
    for index in range(19, len(losses)):
        before = losses[max(0, index - 50) : index]
        median = np.median(before)
        limit = median + 5 * 1.4826 * median_abs_deviation(before)
        if median > 0 and losses[index] > limit and losses[index] >= 1.5 * median:
            found.append((losses[index] / median, index + 1))
    largest = max(found, key=lambda spike: (spike[0], -spike[1]), default=(0.0, 0))
    return len(found), *largest


# In sixteenths: sums and halves of them are exact, so brute force has the same last bits.
LOSSES = st.integers(-40, 400).map(lambda value: value / 16)
QUIET = st.integers(14, 18).map(lambda value: value / 16)


@given(st.lists(st.one_of(QUIET, QUIET, QUIET, LOSSES), min_size=1, max_size=140))
def test_loss_spikes_are_those_of_the_stated_rule(losses):
    seen = told(losses=losses).loss_spikes
    count, ratio, step = spikes_by_brute_force(losses)
    assert (seen.count, seen.largest_ratio, seen.step) == (count, ratio, step)
    assert seen.epoch == (1 + (step - 1) // 7 if count else None)


@pytest.mark.parametrize(
    ("losses", "count"),
    [
        ([1.0] * 18 + [9.0], 0),  # the 19th step is not judged
        ([1.0] * 19 + [9.0], 1),  # the 20th is
        ([1.0] * 30 + [1.5], 1),
        ([1.0] * 30 + [math.nextafter(1.5, 0)], 0),
        ([1.0, 2.0, 3.0] * 10 + [9.0], 0),  # median 2, MAD 1: a spike begins above 2 + 5 * 1.4826
        ([1.0, 2.0, 3.0] * 10 + [9.5], 1),
        ([0.0] * 30 + [9.0], 0),  # no ratio to zero
        ([10.0, *[1.0, 2.0] * 25, 6.0], 1),  # only the last 50 count (above 5.2, with the ten 9.4),
        ([10.0] * 30 + [1.0] * 25 + [2.0], 0),  # and all of them: 25 tens and 25 ones
        (list(np.geomspace(9, 0.01, 200)), 0),  # a loss that falls has none
    ],
)
def test_where_a_loss_becomes_a_spike(losses, count):
    assert told(losses=losses).loss_spikes.count == count


def gradients_of(project):
    records = [content["record"] for content in project.records().values()]
    assert len(records) == 6
    return [(record, record["gradients"]) for record in records]


def test_a_study_keeps_the_largest_norm_that_clipping_saw_too(project):
    old, new = GRAD_NORM
    code = project.path / "softmax.py"
    code.write_text(code.read_text().replace(old, new.format(norm="np.linalg.norm(gradient)")))
    project.write_study('Variant("clip", clip_norm=0.1)')
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)
    clipped = 0
    for record, gradients in gradients_of(project):
        assert 0 < gradients["median"] < gradients["largest"]
        assert gradients["steps"] == record["steps"] == 20
        assert gradients["epoch"] == 1 + (gradients["step"] - 1) // 10
        if record["limits"]:
            clipped += 1
            assert record["limits"]["clip_norm"]["largest_seen"] == gradients["largest"]
    assert clipped == 3


@pytest.mark.parametrize("bad", ["inf", "nan"])
def test_an_infinite_norm_is_kept_in_strict_json_and_the_run_is_reused(project, bad):
    old, new = GRAD_NORM
    code = project.path / "softmax.py"
    code.write_text(code.read_text().replace(old, new.format(norm=f"float({bad!r})")))
    project.write_study('Variant("no_bias", use_bias=False)')
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)
    for file in (project.path / ".ablation" / "runs").glob("*/record.json"):
        json.loads(file.read_text(), parse_constant=pytest.fail)
    for _, gradients in gradients_of(project):
        assert gradients == {"largest": bad, "epoch": 1, "step": 1, "median": "inf", "steps": 20}
    again = project.run("-m", "quick")
    again.assert_outcomes(passed=1, deselected=1)
    assert "6 runs: 0 trained, 6 reused" in again.outlines
