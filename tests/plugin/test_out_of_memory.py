"""Running out of memory: which errors it is, what is let go, and one try more from scratch."""

import dataclasses
import errno
import gc
import traceback
import weakref

import numpy as np
import pytest
import softmax
from in_process import planned

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.journal import Journal
from pytest_ablation.out_of_memory import out_of_memory
from pytest_ablation.training import Failure, Trained, Workplace, train


def cuda_error():
    torch = pytest.importorskip("torch")
    return torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of "
        "which 1.00 GiB is free. Process 4711 has 3.00 GiB memory in use."
    )


def memory_error():
    """NumPy's own, from a real allocation that no machine can make."""
    try:
        np.empty(2**57, dtype=np.uint8)
    except MemoryError as error:
        return error.with_traceback(None)
    pytest.skip("this machine gave 128 PiB")


def torch_cpu_error():
    torch = pytest.importorskip("torch")
    try:
        torch.empty(2**57, dtype=torch.uint8)
    except RuntimeError as error:
        return error.with_traceback(None)
    pytest.skip("this machine gave 128 PiB")


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (cuda_error, "gpu"),
        (lambda: RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"), "gpu"),
        (lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `c`"), "gpu"),
        (lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "gpu"),
        (lambda: MemoryError(), "cpu"),
        (memory_error, "cpu"),
        (torch_cpu_error, "cpu"),
        (lambda: OSError(errno.ENOMEM, "Cannot allocate memory"), "cpu"),
    ],
)
def test_every_librarys_way_of_saying_it_is_known(make, where):
    assert out_of_memory(make()).where == where


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("CUDA out of memory"),  # not how any library says it
        OSError(errno.ENOSPC, "No space left on device"),
        type("OutOfMemoryError", (Exception,), {})("of the user's own budget"),
    ],
)
def test_other_errors_are_not_taken_for_it(error):
    assert out_of_memory(error) is None


def test_it_is_found_behind_the_error_that_a_library_makes_of_it():
    try:
        try:
            raise memory_error()
        except MemoryError as cause:
            raise RuntimeError("the batch could not be built") from cause
    except RuntimeError as error:
        found = out_of_memory(error)
    assert found.message == "RuntimeError: the batch could not be built"
    assert "Unable to allocate" in found.details
    suppressed = RuntimeError("another matter")
    suppressed.__context__, suppressed.__suppress_context__ = MemoryError(), True
    assert out_of_memory(suppressed) is None


class Hungry:
    """A training function that runs out of memory so many times, after an epoch of training."""

    __qualname__ = "hungry"

    def __init__(self, times, make, tell=lambda: None):
        self.times, self.make, self.tell = times, make, tell
        self.alive = []

    def __call__(self, config, run):
        self.tell()
        activations = np.zeros(1000)
        self.alive.append((weakref.ref(run), weakref.ref(activations)))
        if len(self.alive) <= self.times:
            run.step(np.arange(3), epoch=1, loss=1.0)
            run.log(1, "train", loss=1.0)
            run.note("half", "done")
            error = self.make()
            error.kept = activations  # as a traceback keeps it, and a cycle on top
            error.itself = error
            raise error
        return softmax.train(config, run)


def trained_by(function, tmp_path):
    study = Study(
        "memory", train=function, baseline=softmax.BASELINE,
        variants=[Variant("heavy", momentum=0.5)], metrics=["top1"],
        quick=Mode(seeds=1, epochs=2), full=Mode(seeds=1, epochs=2),
    )  # fmt: skip
    _, specs = planned(study)
    place = Workplace(
        store=tmp_path, journal=tmp_path / "journal", session="s", fresh=False, device="cpu",
        device_index=0, data_dir=None, threads=1,
    )  # fmt: skip
    journal = Journal(place.journal)
    return train(next(iter(specs.values())), place, journal.tell), journal


@pytest.mark.parametrize("make", [cuda_error, memory_error])
def test_a_run_that_is_tried_again_ends_as_one_that_was_never_disturbed(make, tmp_path):
    hungry = Hungry(1, make)
    again, journal = trained_by(hungry, tmp_path / "again")
    alone, _ = trained_by(Hungry(0, make), tmp_path / "alone")
    assert isinstance(again, Trained)
    assert len(hungry.alive) == 2
    assert comparable(again.record) == comparable(alone.record)
    assert again.files["predictions.npz"] == alone.files["predictions.npz"]
    assert again.files["history.csv"] == alone.files["history.csv"]
    assert [e["text"] for e in journal.all_events("doing")] == ["out of memory, tried again"]
    assert len(journal.all_events("started")) == 1


def comparable(record):
    """All but what may differ: costs, and the key, of which the function's own state is a part."""
    content = dataclasses.asdict(record)
    return {name: content[name] for name in content.keys() - {"cost", "key", "origin"}}


def test_nothing_of_the_first_try_is_alive_when_the_second_begins(tmp_path):
    def look():
        if hungry.alive:
            seen.extend(reference() for reference in hungry.alive[0])

    seen = []
    hungry = Hungry(1, memory_error, look)
    trained_by(hungry, tmp_path)
    assert seen == [None, None]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (cuda_error, ["GPU 0 has a total capacity of 8.00 GiB", "a smaller batch", "on a GPU"]),
        (memory_error, ["128. PiB", "less data at once", "--ablation-jobs=1"]),
    ],
)
def test_a_run_that_never_fits_fails_with_what_helps(make, words, tmp_path):
    hungry = Hungry(9, make)
    failure, _ = trained_by(hungry, tmp_path)
    assert isinstance(failure, Failure)
    assert len(hungry.alive) == 2
    assert all(word in failure.message for word in [*words, "Tried twice"])
    assert "in __call__" in failure.details
    gc.collect()
    assert not any(reference() for references in hungry.alive for reference in references)


def test_another_error_is_not_tried_again(tmp_path):
    hungry = Hungry(9, lambda: RuntimeError("no such file"))
    failure, _ = trained_by(hungry, tmp_path)
    assert failure.message == "RuntimeError: no such file"
    assert len(hungry.alive) == 1


def test_an_error_that_says_nothing_is_named(tmp_path):
    failure, _ = trained_by(Hungry(9, MemoryError), tmp_path / "memory")
    assert failure.message.startswith("MemoryError. Tried twice, ")
    failure, _ = trained_by(Hungry(9, AssertionError), tmp_path / "other")
    assert failure.message == "AssertionError"
    assert failure.details.startswith("Traceback (most recent call last):\n")


def test_the_traceback_is_kept_as_text():
    with pytest.raises(MemoryError) as caught:
        raise MemoryError("all of it")
    expected = "".join(traceback.format_exception(caught.value))
    assert out_of_memory(caught.value).details == expected
    assert caught.value.__traceback__ is None
