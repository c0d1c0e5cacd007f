"""Single comparisons of runs, made with the run interface: what is identical, fair, and one key."""

import numpy as np
import pytest

from pytest_ablation import Mode, Run, guards
from pytest_ablation.keys import run_key
from pytest_ablation.plan import RowPlan
from pytest_ablation.training_code import TrainingCode

ROW = RowPlan("v", "baseline", {"w": [1, 2]}, (), (), "", {0: "a", 1: "b"}, True)


def record(seed=0, *, losses=(0.7,), weights=None, scores=None, steps=(), data=(1, 2), **metrics):
    run = Run(seed=seed, mode=Mode(seeds=2))
    run.use_data(train=data[0], evaluation=data[1])
    for epoch, loss in enumerate(losses, start=1):
        run.log(epoch, "train", loss=loss)
    for batch in steps:
        run.step(batch)
    if weights is not None:
        run.save_weights({"w": np.array(weights)})
    if scores is not None:
        run.save_predictions(scores=scores)
    return run.finish({"top1": 0.5} | metrics)


def no_effect(variant, baseline):
    by_seed = [dict(enumerate(side)) for side in (variant, baseline)]
    return guards.no_effect(ROW, *by_seed, train="train", metrics=["top1"])


@pytest.mark.parametrize("other", [{"losses": (0.8,)}, {"top1": 0.6}, {"scores": [1.0, 3.0]}])
def test_one_difference_is_an_effect(other):
    same = {"scores": [1.0, 2.0], "weights": [1.0]}
    assert no_effect([record(**same)], [record(**same)]) is not None
    assert no_effect([record(**same | other)], [record(**same)]) is None


def test_weights_decide_where_there_are_no_predictions():
    assert no_effect([record(weights=[1.0])], [record(weights=[2.0])]) is None
    assert no_effect([record(weights=[1.0])], [record(weights=[1.0])]) is not None


def test_predictions_decide_where_both_kept_them():
    one, other = record(scores=[1.0], weights=[1.0]), record(scores=[1.0], weights=[2.0])
    assert no_effect([one], [other]) is not None


def test_what_the_study_does_not_report_is_no_effect():
    assert no_effect([record(seconds=1.0)], [record(seconds=2.0)]) is not None


def test_one_seed_that_agrees_by_chance_is_not_no_effect():
    variant = [record(0), record(1, top1=0.6)]
    assert no_effect(variant, [record(0), record(1, top1=0.5)]) is None


def test_runs_that_tell_nothing_but_metrics_get_the_advice_to_tell_more():
    silent = record(losses=())
    assert "Only metrics are known of these runs" in no_effect([silent], [silent])


@pytest.mark.parametrize(
    ("mine", "theirs", "says"),
    [
        ({"data": (3, 2)}, {"data": (1, 2)}, "seed 1: training data."),
        ({"data": (1, 2)}, {"data": (1, 3)}, "seed 1: evaluation data."),
        ({"steps": [[0]]}, {"steps": [[1]]}, "seed 1: batch order."),
        ({"steps": []}, {"steps": [[1]]}, "seed 1: batch order, number of steps (none against 1)."),
    ],
)
def test_a_difference_in_a_later_seed_is_unfair_and_named(mine, theirs, says):
    found = guards.unfair(
        ROW, {0: record(), 1: record(1, **mine)}, {0: record(), 1: record(1, **theirs)}
    )
    assert says in found


KEY = {
    "config": {"w": 1},
    "seed": 0,
    "mode": Mode(seeds=1, epochs=2),
    "data": "d",
    "device": "cpu",
    "code": TrainingCode("c", {"numpy": "1"}, frozenset()),
}


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"w": 2}},
        {"seed": 1},
        {"mode": Mode(seeds=1, epochs=3)},
        {"data": "e"},
        {"device": "cuda"},
        {"code": TrainingCode("x", {"numpy": "1"}, frozenset())},
        {"code": TrainingCode("c", {"numpy": "2"}, frozenset())},
    ],
    ids=["config", "seed", "budget", "data", "device", "code", "libraries"],
)
def test_everything_that_decides_a_result_is_in_its_key(change):
    assert run_key(**KEY | change) != run_key(**KEY)


def test_the_number_of_a_gpu_and_the_other_seeds_are_not_in_the_key():
    assert run_key(**KEY | {"device": "cuda:0"}) == run_key(**KEY | {"device": "cuda:1"})
    assert run_key(**KEY | {"mode": Mode(seeds=9, epochs=2)}) == run_key(**KEY)


def test_records_of_earlier_versions_are_found_under_their_keys(monkeypatch):
    monkeypatch.setattr("sys.version_info", (3, 11))
    assert run_key(**KEY) == "e3e990a6e0b38cc21165f04bfa68b46f"  # of KEY_VERSION 2
