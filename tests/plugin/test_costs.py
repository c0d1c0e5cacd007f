"""What a run costs: forward speed, time by epoch, peak memory; by bounds that always hold."""

import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ablation import Mode, Run
from pytest_ablation.record import Cost


def make_run(**other):
    return Run(**{"seed": 0, "mode": Mode(seeds=1, epochs=2)} | other)


def cost_of(run):
    return run.finish({"top1": 0.5}).cost


def test_forward_speed_is_all_examples_over_the_seconds_of_all_blocks():
    run = make_run()
    started = time.perf_counter()
    for count in (100, 50):
        with run.forward(count):
            time.sleep(0.02)
    outside = time.perf_counter() - started
    time.sleep(0.05)  # what comes after a block does not count
    seconds = 150 / cost_of(run).forward_examples_per_second
    assert 0.04 <= seconds <= outside


def test_a_forward_block_that_raises_does_not_count():
    run = make_run()
    with pytest.raises(ZeroDivisionError), run.forward(10**9):
        1 / 0  # noqa: B018
    assert cost_of(run).forward_examples_per_second is None
    with run.forward(1):
        time.sleep(0.01)
    assert cost_of(run).forward_examples_per_second <= 100


def test_without_a_forward_block_there_is_no_speed():
    run = make_run()
    assert cost_of(run).forward_examples_per_second is None
    with run.forward(0):
        pass
    assert cost_of(run).forward_examples_per_second is None


def test_a_negative_number_of_examples_is_an_error():
    with pytest.raises(ValueError, match="expects a number of examples, found -1"):
        make_run().forward(-1).__enter__()


@pytest.mark.parametrize("marked", [True, False])
def test_epoch_seconds_follow_the_training_time(marked):
    run = make_run()
    time.sleep(0.03)
    before = time.perf_counter()
    with run.training() if marked else run.forward(1):
        for epoch in (1, 2, 3):
            time.sleep(0.01)
            run.log(epoch, "train", loss=1.0)
            run.log(epoch, "validation", loss=1.0)
    outside = time.perf_counter() - before
    cost = cost_of(run)
    assert len(cost.epoch_seconds) == 3
    assert np.diff([0.0, *cost.epoch_seconds, cost.train_seconds]).min() >= 0
    assert np.diff(cost.epoch_seconds).min() >= 0.01
    if marked:
        assert cost.epoch_seconds[0] >= 0.01
        assert cost.epoch_seconds[-1] <= outside
    else:
        assert cost.epoch_seconds[0] >= 0.04, "without run.training(), the whole run counts"


def test_time_between_blocks_of_training_does_not_count():
    run = make_run()
    for epoch in (1, 2):
        with run.training():
            time.sleep(0.01)
        time.sleep(0.1)
        run.log(epoch, "train", loss=1.0)
    cost = cost_of(run)
    assert 0.01 <= cost.epoch_seconds[0] <= cost.epoch_seconds[1] == cost.train_seconds
    assert cost.epoch_seconds[1] - cost.epoch_seconds[0] >= 0.01


def test_a_test_of_the_best_epoch_after_training_does_not_move_its_time():
    run = make_run()
    run.log(1, "validation", top1=0.9)
    run.log(2, "validation", top1=0.8)
    ends = cost_of(run).epoch_seconds
    time.sleep(0.01)
    run.log(1, "test", top1=0.9)
    assert cost_of(run).epoch_seconds == ends


@given(st.lists(st.integers(-2, 12), max_size=12))
def test_each_epoch_has_a_time_up_to_the_last_one_that_logged(epochs):
    run = make_run()
    for epoch in epochs:
        run.log(epoch, "validation", top1=0.5)
    ends = cost_of(run).epoch_seconds
    assert len(ends) == max([0, *epochs])
    assert list(ends) == sorted(ends)
    in_turn = {e for i, e in enumerate(epochs) if e >= 1 and e == max(epochs[: i + 1])}
    for epoch in set(range(1, len(ends) + 1)) - in_turn:  # the time of the next one that logged
        assert ends[epoch - 1] == ends[min(e for e in in_turn if e > epoch) - 1]
    assert len(set(ends)) == len(in_turn)


def test_numbers_that_are_no_epochs_cost_no_memory():
    run = make_run()
    run.log(10**12, "train", loss=1.0)
    assert cost_of(run).epoch_seconds == ()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start a new peak")
def test_peak_memory_is_that_of_the_process_in_this_run():
    import joblib  # noqa: F401  what the plugin imports anyway is not what is measured

    def peak(mebibytes):
        run = make_run()
        block = np.ones(mebibytes * 2**17)
        del block
        return cost_of(run).peak_memory_mib

    small, large, small_again = peak(1), peak(200), peak(1)
    assert 150 < large - small < 250
    assert large - small_again > 150, "a new run starts a new peak"


@given(st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_the_peak_of_the_device_is_the_gpu_s_where_there_is_one(resident, cuda):
    cost = Cost(train_seconds=1.0, peak_memory_mib=resident, peak_cuda_memory_mib=cuda)
    assert cost.peak_of_device_mib == (resident if cuda is None else cuda)


def test_a_run_on_the_cpu_has_no_cuda_memory():
    assert cost_of(make_run(device="cpu")).peak_cuda_memory_mib is None


def test_on_cuda_both_peaks_are_kept_and_the_device_is_waited_for():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA")
    run = make_run(device="cuda")
    matrix = torch.ones(4096, 4096, device=run.device)  # 64 MiB
    with run.forward(4096):
        for _ in range(20):
            product = matrix @ matrix
    assert torch.cuda.current_stream().query(), "work is left when the block is over"
    del product
    cost = cost_of(run)
    assert cost.peak_cuda_memory_mib >= 128
    assert cost.peak_of_device_mib == cost.peak_cuda_memory_mib
    assert cost.peak_memory_mib > 10


def test_costs_reach_the_store_and_the_table(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)
    costs = {key: content["record"]["cost"] for key, content in project.records().items()}
    for cost in costs.values():
        assert cost["forward_examples_per_second"] > 0
        assert len(cost["epoch_seconds"]) == 2
        assert cost["epoch_seconds"] == sorted(cost["epoch_seconds"])
        assert cost["epoch_seconds"][-1] <= cost["train_seconds"]
        assert cost["peak_cuda_memory_mib"] is None
    for row in project.rows("runs"):
        expected = costs[row["key"]]["peak_memory_mib"]
        assert float(row["peak_memory_mib"]) == pytest.approx(expected)
