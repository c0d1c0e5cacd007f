"""A process that dies between any two steps of writing a record leaves a whole one, or none.

Each test forks a process for every file operation that a step makes, and ends it just before that
operation: no moment is left to chance.
"""

import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from store_checks import read_run, runs_in

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

#: The events of PEP 578 that change files, or open one.
OPERATIONS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.utime"}
DIED = 9


@pytest.fixture(scope="module")
def results():
    """The record of a run as two sessions would keep it, as files; and its key."""
    import softmax
    from in_process import planned, trained

    from pytest_ablation import Mode, Study, Variant
    from pytest_ablation.record_files import files_of

    study = Study(
        "softmax", train=softmax.train, baseline=softmax.BASELINE, metrics=["top1"],
        variants=[Variant("no_bias", use_bias=False)], quick=Mode(seeds=1, epochs=2),
        full=Mode(seeds=1, epochs=2),
    )  # fmt: skip
    spec = next(iter(planned(study)[1].values()))
    first, second = (replace(trained(spec), session=name) for name in ("first", "second"))
    arrays = {"scores": [[0.0, 1.0]]}
    return spec.key, files_of(first, arrays), files_of(second, arrays)


@pytest.fixture
def store(tmp_path):
    from pytest_ablation.store import Store

    return Store(tmp_path / "store")


def crashes(folder, begin, action):
    """Let *action* die before its first, second, ... file operation, each time after *begin*.

    Yields the number of the operation after each death, with *folder* as the death left it, and
    ends when the action comes to its end.
    """
    for step in range(1, 1000):
        shutil.rmtree(folder, ignore_errors=True)
        begin()
        process = os.fork()
        if process == 0:
            die_before(step)
            try:
                action()
            finally:
                os._exit(0)
        _, status = os.waitpid(process, 0)
        if os.waitstatus_to_exitcode(status) != DIED:
            return
        yield step


def die_before(step):
    """From here on, end this process just before its operation number *step*."""
    left = step

    def see(event, arguments):
        nonlocal left
        if event in OPERATIONS:
            left -= 1
            if left == 0:
                os._exit(DIED)

    sys.addaudithook(see)


def test_a_new_record_is_there_whole_or_not_at_all(store, results):
    key, first, _ = results
    died = crashes(store.root, store.prepare, lambda: store.put(key, first))
    steps = [whole_or_none(store, key) for _ in died]
    assert len(steps) >= len(first) + 2
    assert (steps[0], steps[-1]) == (False, True), "it dies before and after the decisive step"


def whole_or_none(store, key):
    """Whether the run is there, by two readers that must agree."""
    whole, half = runs_in(store.root)
    assert half == {}
    assert (store.read(key, check_model=True) is not None) == (key in whole)
    return key in whole


def test_a_record_that_is_replaced_is_never_lost(store, results):
    from pytest_ablation.leftovers import remove_leftovers

    key, first, second = results

    def begin():
        store.prepare()
        store.put(key, first)

    sessions = []
    for step in crashes(store.root, begin, lambda: store.put(key, second)):
        whole, half = runs_in(store.root)
        assert (set(whole), half) == ({key}, {}), step
        remove_leftovers(store)  # as the next session does
        record = store.read(key, check_model=True)
        assert record is not None, f"lost by a crash before operation {step}"
        assert read_run(store.runs / key, key).files == whole[key].files
        sessions.append(record.session)
        store.put(key, second)
        assert store.read(key, check_model=True).session == "second"
    assert sessions == sorted(sessions), "from some step on it is the new one"
    assert {*sessions} == {"first", "second"}


def test_a_damaged_record_is_kept_somewhere_whatever_happens(store, results):
    key, first, second = results

    def begin():
        store.prepare()
        store.put(key, first)
        file = store.runs / key / "record.json"
        file.write_bytes(file.read_bytes()[:-9])

    for action in (lambda: store.put(key, second), lambda: store.set_aside(key)):
        for step in crashes(store.root, begin, action):
            kept = [file.read_bytes() for file in store.root.rglob("record.json")]
            assert first["record.json"][:-9] in kept, step


def test_a_crash_while_leftovers_are_put_back_loses_no_run(store, results):
    from pytest_ablation.leftovers import remove_leftovers

    key, first, _ = results

    def begin():
        store.prepare()
        store.put(key, first)
        os.rename(store.runs / key, store.runs / f".old-{key}-0badc0de")

    for _ in crashes(store.root, begin, lambda: remove_leftovers(store)):
        remove_leftovers(store)
        assert store.read(key, check_model=True) is not None


def test_a_newer_checkpoint_takes_the_place_of_the_older_one_or_does_not(tmp_path):
    pytest.importorskip("safetensors")
    from pytest_ablation.checkpoints import CheckpointFolder

    path = tmp_path / "checkpoints" / "key"

    def write(epoch):
        state = {"weights": {"w": np.full(3, float(epoch))}, "order": {"state": 2**100 + epoch}}
        folder = CheckpointFolder(path, key="key", seconds=0)
        folder.write(epoch, state, {"steps": 10 * epoch}, {"data": "same"})

    def epoch_of_what_is_kept():
        kept = CheckpointFolder(path, key="key").read({"data": "same"})
        if kept is None:
            return 0
        epoch, state = kept.checkpoint.epoch, kept.checkpoint.state
        assert (state["order"], kept.seen) == ({"state": 2**100 + epoch}, {"steps": 10 * epoch})
        assert state["weights"]["w"].tolist() == [epoch] * 3
        return epoch

    steps = [epoch_of_what_is_kept()
             for _ in crashes(path.parent, lambda: write(1), lambda: write(2))]  # fmt: skip
    assert steps == sorted(steps)
    assert {*steps} == {1, 2}, "a crash loses what came after the older one, not that one too"
    remove = CheckpointFolder(path, key="key").remove
    steps = [epoch_of_what_is_kept() for _ in crashes(path.parent, lambda: write(1), remove)]
    assert {*steps} <= {0, 1}
