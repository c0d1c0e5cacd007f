"""The run interface alone, as a training function sees it."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ablation import AblationError, Diverged, Mode, Run
from pytest_ablation.record import (
    Cost,
    EarlyStop,
    GradientNorms,
    HistoryRow,
    Limit,
    LossSpikes,
    Record,
)


def make_run(**other):
    return Run(**{"seed": 0, "mode": Mode(seeds=1, epochs=2)} | other)


@given(st.integers(0, 2**40), st.text())
def test_a_seed_for_a_purpose_is_the_first_63_bits_of_a_hash(seed, purpose):
    expected = hashlib.sha256(f"{seed}/{purpose}".encode()).hexdigest()[:16]
    assert make_run(seed=seed).seed_for(purpose) == int(expected, 16) >> 1


def test_purposes_and_seeds_do_not_share_random_numbers():
    seeds = {make_run(seed=s).seed_for(p) for s in range(50) for p in ("init", "order", "dropout")}
    assert len(seeds) == 150


def finished(*steps, weights=None, predictions=None, metrics=None, data=(1, 2)):
    run = make_run()
    run.use_data(train=data[0], evaluation=data[1])
    for indices in steps:
        run.step(indices)
    if weights is not None:
        run.save_weights(weights)
    if predictions is not None:
        run.save_predictions(scores=predictions)
    return run.finish(metrics or {"top1": 0.5})


def test_batch_order_counts_composition_and_order():
    def order(*steps):
        return finished(*steps).fingerprints["batch_order"]

    assert order([0, 1], [2, 3]) == order(np.array([0, 1]), np.array([2, 3]))
    different = [
        order([0, 1], [2, 3]),
        order([2, 3], [0, 1]),
        order([0, 1, 2, 3]),
        order([1, 0], [2, 3]),
        order([0, 1]),
    ]
    assert len(set(different)) == 5


def test_steps_and_examples_are_counted():
    record = finished([0, 1], [2, 3, 4])
    assert record.steps == record.fingerprints["steps"] == 2
    assert record.cost.examples_per_second == pytest.approx(5 / record.cost.train_seconds)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "bool"])
def test_torch_tensors_of_every_kind_have_a_digest_that_sees_one_bit(dtype):
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3, 4, dtype=getattr(torch, dtype))
    other = tensor.clone()
    other[2, 3] = 1
    digests = [finished(weights={"w": w}).outcome["weights"] for w in (tensor, tensor.T.T, other)]
    assert digests[0] == digests[1] != digests[2]


def test_data_digests_tell_splits_apart():
    texts = ["one", "two"]
    record = finished(data=(texts, np.arange(3)))
    again = finished(data=(list(texts), np.arange(3)))
    other = finished(data=(["onet", "wo"], np.arange(3)))
    assert record.fingerprints == again.fingerprints
    assert record.fingerprints["train_data"] != other.fingerprints["train_data"]
    assert record.fingerprints["evaluation_data"] == other.fingerprints["evaluation_data"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_raises_with_the_epoch_and_the_last_finite_loss(bad):
    run = make_run()
    run.log(1, "train", loss=0.25)
    with pytest.raises(
        Diverged, match=r"train loss became .* in epoch 2 .*last finite loss was 0.25"
    ):
        run.log(2, "train", loss=bad)
    run.step([0], epoch=3, loss=0.125)
    with pytest.raises(Diverged, match=r"loss became .* in epoch 3 .*\(step 2\).* was 0.125"):
        run.step([1], epoch=3, loss=bad)
    assert [row.epoch for row in run.history] == [1, 2]


def test_other_values_may_be_infinite():
    make_run().log(1, "train", loss=0.5, gradient_norm=math.inf)


@pytest.mark.parametrize("value", ["0.5", None, True, [0.5], 1j])
def test_a_metric_that_is_not_a_number_is_an_error_that_names_it(value):
    with pytest.raises(TypeError, match="metric 'top1' must be a number, found"):
        make_run().finish({"top1": value})


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan")])
def test_a_metric_that_is_not_finite_is_an_error(value):
    with pytest.raises(ValueError, match="metric 'top1' is"):
        make_run().finish({"top1": value})


def test_numpy_scalars_become_plain_floats():
    metrics = finished(metrics={"top1": np.float32(0.5), "n": np.int64(3)}).metrics
    assert {type(value) for value in metrics.values()} == {float}


def test_predictions_must_be_numbers():
    with pytest.raises(TypeError, match="predictions 'labels' must be numbers"):
        make_run().save_predictions(labels=["a", "b"])


def test_the_loss_history_digest_ignores_times():
    def history(**values):
        run = make_run()
        run.log(1, "train", **values)
        return run.finish({"top1": 1.0}).outcome["loss_history"]

    assert history(loss=0.5, seconds=1.0) == history(loss=0.5, seconds=2.0)
    assert history(loss=0.5) != history(loss=math.nextafter(0.5, 1))
    assert history(seconds=1.0) is None


def test_a_limit_keeps_the_largest_value_and_the_count():
    run = make_run()
    for norm in (0.5, 2.0, 1.0):
        run.watch_limit("grad_clip_norm", limit=1.5, observed=np.float32(norm))
    limit = run.finish({"top1": 1.0}).limits["grad_clip_norm"]
    assert limit == (1.5, 2.0, 3)


def test_only_the_marked_part_counts_as_training_time():
    import time

    run = make_run()
    time.sleep(0.05)
    before = time.perf_counter()
    with run.training():
        pass
    assert run.finish({}).cost.train_seconds <= time.perf_counter() - before


def test_the_device_is_one_that_torch_sees():
    torch = pytest.importorskip("torch")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    expected = f"cuda:{3 % count}" if count else "cpu"
    assert make_run(device="auto", device_index=3).device == expected
    assert make_run(device="cpu").device == "cpu"
    assert make_run(device="cuda:1").device == "cuda:1"
    if not count:
        with pytest.raises(AblationError, match="sees no CUDA device"):
            _ = make_run(device="cuda").device


def test_the_mode_gives_the_budget():
    assert make_run(mode=Mode(seeds=2, epochs=7)).mode.epochs == 7


# --- the record as JSON --------------------------------------------------------------------------

NUMBERS = st.floats(allow_nan=False)
COUNTS = st.integers(0, 2**40)
EPOCHS = st.none() | COUNTS
COSTS = st.builds(
    Cost,
    train_seconds=st.floats(0, 1e9),
    forward_examples_per_second=st.none() | st.floats(0, 1e9),
    peak_memory_mib=st.none() | st.floats(0, 1e9),
    peak_cuda_memory_mib=st.none() | st.floats(0, 1e9),
    epoch_seconds=st.lists(st.floats(0, 1e9)).map(tuple),
)
FIGURES = st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False))
RECORDS = st.builds(
    Record,
    key=st.text(),
    seed=COUNTS,
    mode=st.sampled_from(["quick", "full"]),
    config=st.dictionaries(st.text(), st.none() | COUNTS | st.text()),
    status=st.sampled_from(["ok", "diverged"]),
    metrics=FIGURES,
    cost=COSTS,
    fingerprints=st.just({"device": "cuda", "steps": 3}),
    limits=st.dictionaries(st.text(), st.builds(Limit, NUMBERS, NUMBERS, COUNTS)),
    history=st.lists(st.builds(HistoryRow, COUNTS, st.text(), st.text(), NUMBERS)).map(tuple),
    references=st.dictionaries(st.text(), FIGURES),
    gradients=st.none() | st.builds(GradientNorms, NUMBERS, EPOCHS, COUNTS, NUMBERS, COUNTS),
    loss_spikes=st.none() | st.builds(LossSpikes, COUNTS, NUMBERS, EPOCHS, COUNTS),
    early_stop=st.none() | st.builds(EarlyStop, COUNTS, COUNTS, COUNTS, COUNTS),
    epoch_orders=st.lists(st.text()).map(tuple),
    reported_epoch=EPOCHS,
)


@given(RECORDS)
def test_a_record_comes_back_from_strict_json_as_it_was(record):
    text = json.dumps(record.to_json(), allow_nan=False)
    again = Record.from_json(json.loads(text), record.history)
    assert again == record
    for field in dataclasses.fields(Record):
        assert type(getattr(again, field.name)) is type(getattr(record, field.name))


def test_a_norm_that_is_not_a_number_comes_back_as_that():
    run = make_run()
    run.step([0], grad_norm=math.nan)
    record = run.finish({"top1": 0.5})
    text = json.dumps(record.to_json(), allow_nan=False)
    largest = Record.from_json(json.loads(text), ()).gradients.largest
    assert isinstance(largest, float)
    assert math.isnan(largest)
