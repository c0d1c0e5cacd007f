"""An interrupted run goes on from its checkpoint, and leaves the record of one that was not."""

import dataclasses
import functools
import json
import math
import os

import pytest
from resumable_loop import (
    EPOCHS,
    FILES,
    Interruption,
    content,
    folder_of,
    interrupted,
    train,
    trained,
    undisturbed,
)

from pytest_ablation import AblationError, Mode, Run
from pytest_ablation.journal import Journal
from pytest_ablation.plan import RunSpec
from pytest_ablation.record import Cost
from pytest_ablation.store import Store
from pytest_ablation.training import Failure, Workplace, obtain


@pytest.fixture(scope="module")
def whole():
    return undisturbed()


# --- a user's own loop ------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [(1,), (2,), (5,), (6,), (7,), (8,), (3, 4, 7), (6, 6)])
def test_an_interrupted_run_leaves_the_record_of_one_that_was_not(epochs, whole, tmp_path):
    for epoch in epochs:
        interrupted(tmp_path, epoch)
    said = []
    run, record = trained(tmp_path, said=said)
    assert content(run, record) == whole
    kept = dict.fromkeys(epoch - 1 for epoch in epochs if epoch > 1)
    assert record.cost.resumed == tuple(kept)
    assert said == [f"goes on after epoch {epoch}" for epoch in record.cost.resumed[-1:]]
    assert record.cost.parameters == 3
    assert len(record.cost.epoch_seconds) == EPOCHS
    assert list(record.cost.epoch_seconds) == sorted({*record.cost.epoch_seconds})
    assert record.cost.epoch_seconds[-1] <= record.cost.train_seconds


def test_keeping_checkpoints_changes_nothing(whole, tmp_path):
    assert content(*trained(tmp_path)) == whole
    assert {file.name for file in (tmp_path / "key").iterdir()} == set(FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["key"], "nothing of older ones is left"


@pytest.mark.parametrize(("seconds", "epochs"), [(math.inf, []), (1000.0, []), (0.0, [1, 2, 3])])
def test_the_state_is_asked_for_only_when_a_checkpoint_is_due(seconds, epochs, tmp_path):
    run = Run(seed=0, mode=Mode(seeds=1), checkpoints=folder_of(tmp_path, seconds=seconds))
    asked = []
    for epoch in (1, 2, 3):
        run.checkpoint(epoch, lambda epoch=epoch: asked.append(epoch) or {})
    assert asked == epochs
    Run(seed=0, mode=Mode(seeds=1)).checkpoint(1, lambda: pytest.fail("there is no folder"))


def test_resuming_twice_is_refused():
    run = Run(seed=0, mode=Mode(seeds=1))
    assert run.resume() is None
    with pytest.raises(AblationError, match=r"resume\(\) was called twice.* for that one alone"):
        run.resume()


def test_the_weights_that_an_option_asks_for_are_there_after_an_interruption(whole, tmp_path):
    interrupted(tmp_path, 7, keep_weights=False)
    told = []
    assert content(*trained(tmp_path, told=told)) == whole
    assert "lacks the weights" in told[0]
    interrupted(tmp_path / "other", 7, keep_weights=True)
    run, record = trained(tmp_path / "other", keep_weights=False)
    assert (run.weights, record.cost.resumed) == (None, (6,))


# --- in a store -------------------------------------------------------------------------------


class Sessions:
    """Sessions that train one run, one after the other, in one store."""

    def __init__(self, root):
        Store(root).prepare()
        self.root = root
        self.place = Workplace(
            store=root, journal=root / "journal", session="first", fresh=False, device="cpu",
            device_index=0, data_dir=None, threads=1, checkpoint_seconds=0.0,
        )  # fmt: skip

    def obtain(self, interrupt=None, train=train, **changes):
        """What a session gets that is interrupted in an epoch, or is not."""
        place = dataclasses.replace(self.place, **changes)
        if "session" in changes:
            place = dataclasses.replace(place, journal=self.root / changes["session"])
        mode = Mode(seeds=1, epochs=EPOCHS)
        told = functools.partial(train, interrupt=interrupt)
        spec = RunSpec("key", 0, "quick", mode, {"rate": 0.02}, told, "own baseline")
        return obtain(spec, place)

    @property
    def checkpoints(self):
        return [path.name for path in Store(self.root).checkpoints.glob("*")]


@pytest.fixture
def store(tmp_path, whole):
    return Sessions(tmp_path)


def same(record, whole):
    return dataclasses.replace(record, cost=Cost(0.0)).to_json()["outcome"] == whole[0].outcome


def test_a_checkpoint_goes_when_the_run_has_its_record(store, whole):
    with pytest.raises(Interruption):
        store.obtain(4)
    assert store.checkpoints == ["key"]
    record = store.obtain(session="second")
    assert (record.cost.resumed, record.session) == ((3,), "second")
    assert same(record, whole)
    assert store.checkpoints == []
    assert store.obtain(session="third") == record, "the kept one, with what it cost"


def test_a_checkpoint_stays_when_the_training_function_raised(store, whole):
    fails = fails_with(RuntimeError("the file server is gone"), [6])
    assert isinstance(store.obtain(train=fails), Failure)
    assert store.checkpoints == ["key"]
    record = store.obtain(session="second")
    assert record.cost.resumed == (5,)
    assert same(record, whole)


def test_a_checkpoint_goes_when_the_run_has_diverged(store):
    def diverges(config, run, interrupt):
        train(config, run)
        run.log(EPOCHS, "train", loss=math.nan)

    assert store.obtain(train=diverges).status == "diverged"
    assert store.checkpoints == []


def test_a_run_that_goes_on_and_diverges_says_what_it_would_have_said(store, tmp_path):
    def diverges(config, run, interrupt):
        if run.resume() is None:
            run.step([0], epoch=1, loss=0.25)
            run.checkpoint(1, dict)
        if interrupt:
            raise Interruption
        run.step([1], epoch=2, loss=math.inf)

    with pytest.raises(Interruption):
        store.obtain(1, diverges)
    resumed = store.obtain(train=diverges)
    other = Sessions(tmp_path / "other").obtain(train=diverges)
    assert resumed.cost.resumed == (1,)
    assert "in epoch 2 (step 2); the last finite loss was 0.25" in resumed.message
    assert (resumed.status, resumed.message) == (other.status, other.message)


def test_fresh_goes_on_with_checkpoints_of_its_own_session_alone(store, whole):
    with pytest.raises(Interruption):
        store.obtain(7)
    with pytest.raises(Interruption):
        store.obtain(3, session="second", fresh=True)
    record = store.obtain(session="second", fresh=True)
    assert record.cost.resumed == (2,), "the other session's was not taken, but replaced"
    assert same(record, whole)
    assert not Journal(store.root / "second").all_events("damaged")


def test_a_session_is_told_of_a_damaged_checkpoint(store, whole):
    with pytest.raises(Interruption):
        store.obtain(4)
    os.truncate(store.root / "checkpoints" / "key" / "state.npz", 9)
    record = store.obtain()
    [event] = Journal(store.place.journal).all_events("damaged")
    assert event["key"] == "key"
    assert "state.npz was changed after it was written" in event["message"]
    assert (record.cost.resumed, same(record, whole)) == ((), True)
    assert store.checkpoints == []


def test_a_session_says_that_a_run_goes_on(store):
    with pytest.raises(Interruption):
        store.obtain(4)
    store.obtain(session="second")
    events = Journal(store.root / "second").all_events("doing")
    assert [event["text"] for event in events] == ["goes on after epoch 3"]


def fails_with(error, interrupts):
    """The training function that raises *error* in one epoch of each try, None: in none."""

    def fails(config, run, interrupt):
        try:
            return train(config, run, interrupts.pop(0))
        except Interruption:
            raise error from None

    return fails


def test_a_run_that_ran_out_of_memory_goes_on_and_comes_to_the_same(store, whole):
    record = store.obtain(train=fails_with(MemoryError("all of it"), [5, None]))
    assert record.cost.resumed == (4,)
    assert same(record, whole)
    journal = Journal(store.place.journal)
    words = [event["text"] for event in journal.all_events("doing")]
    assert words == ["out of memory, tried again", "goes on after epoch 4"]
    epochs = [event["epoch"] for event in journal.all_events("epoch")]
    assert epochs == [0, 1, 2, 3, 4, 5, 0, 5, 6, 7, 8]
    assert len(journal.all_events("started")) == len(journal.all_events("finished")) == 1
    assert store.checkpoints == []


@pytest.mark.parametrize("error", [RuntimeError("no such file"), MemoryError("all of it")])
def test_a_run_that_would_fail_for_ever_says_how_to_begin_anew(store, error):
    first = store.obtain(train=fails_with(error, [1, 1]))
    assert "checkpoint" not in first.message, "there is none yet"
    second = store.obtain(session="second", train=fails_with(error, [4, 4]))
    assert str(error) in second.message
    assert second.message.endswith(
        " (the next try goes on from the checkpoint after epoch 3; to begin anew, remove that "
        "with `python -m pytest_ablation runs remove --checkpoints`, or use --ablation-fresh)"
    )
    assert "no such file" in second.details or "all of it" in second.details


# --- by pytest --------------------------------------------------------------------------------

STUDY = """
import os
from pathlib import Path
import numpy as np
from pytest_ablation import Mode, Study, Variant

X = np.random.default_rng(0).normal(size=(40, 3))
Y = X @ [1.0, -2.0, 0.5]

def train(config, run):
    run.use_data(train=(X, Y), evaluation=())
    rng = np.random.default_rng(run.seed_for("order"))
    w, done = np.zeros(3), 0
    if saved := run.resume():
        w, done = saved.state["weights"]["w"], saved.epoch
        rng.bit_generator.state = saved.state["rng"]
    for epoch in range(done + 1, run.mode.epochs + 1):
        for batch in np.array_split(rng.permutation(40), 4):
            run.step(batch, epoch=epoch)
            w = w - config["rate"] * X[batch].T @ (X[batch] @ w - Y[batch])
        run.log(epoch, "train", loss=((X @ w - Y) ** 2).mean())
        die(config, run, epoch)
        run.checkpoint(epoch, lambda: {"weights": {"w": w}, "rng": rng.bit_generator.state})
    return {"loss": ((X @ w - Y) ** 2).mean()}

def die(config, run, epoch):
    attempts = Path("attempts.txt")
    if attempts.exists() and config["rate"] == 0.02 and (run.seed, epoch) == (1, 4):
        with attempts.open("r+") as file:
            left = int(file.read())
            file.seek(0)
            file.write(str(max(0, left - 1)))
        if left:
            os._exit(3)

study = Study(
    "own", train=train, baseline={"rate": 0.01}, variants=[Variant("fast", rate=0.02)],
    metrics=["loss"], lower_is_better=["loss"], quick=Mode(seeds=2, epochs=6),
)

@study.cases
def test_own(ablation):
    ablation.run()
"""


def test_the_same_command_goes_on_with_a_run_whose_process_died(project, tmp_path):
    (project.path / "test_own.py").write_text(STUDY)
    command = ("-m", "quick", "--ablation-checkpoint=0")
    assert project.run(*command, "--ablation-store=undisturbed").ret == 0
    undisturbed, history = project.summary_bytes(), history_of(project)
    (project.path / "attempts.txt").write_text("1")
    assert project.run(*command).ret == 3, "the only process died"
    kept = project.path / ".ablation" / "checkpoints"
    [folder] = kept.iterdir()
    assert json.loads((folder / "state.json").read_text())["epoch"] == 3
    assert project.run(*command).ret == 0
    records = [content["record"] for content in project.records().values()]
    assert sorted(record["cost"]["resumed"] for record in records) == [[], [], [], [3]]
    assert (project.summary_bytes(), history_of(project)) == (undisturbed, history)
    assert not list(kept.iterdir())


def test_a_session_that_wants_models_of_kept_runs_goes_on_too(project):
    """Their records are there, and older than the checkpoint: it is not one that was left over."""
    (project.path / "test_own.py").write_text(
        STUDY.replace("    return {", "    run.save_weights({'w': w})\n    return {")
    )
    command = ("-m", "quick", "--ablation-checkpoint=0")
    assert project.run(*command).ret == 0
    (project.path / "attempts.txt").write_text("1")
    assert project.run(*command, "--ablation-save-models").ret == 3
    assert project.run(*command, "--ablation-save-models").ret == 0
    records = [content["record"] for content in project.records().values()]
    assert sorted(record["cost"]["resumed"] for record in records) == [[], [], [], [3]]


def test_a_checkpoint_that_nobody_would_go_on_from_is_not_promised_and_goes(project):
    """--ablation-fresh was interrupted over older records, which are reused without it."""
    study = STUDY.replace("os._exit(3)", "raise KeyboardInterrupt")
    (project.path / "test_own.py").write_text(study)
    command = ("-m", "quick", "--ablation-checkpoint=0")
    assert project.run(*command).ret == 0
    (project.path / "attempts.txt").write_text("1")
    assert project.run(*command, "--ablation-fresh").ret == 2
    assert "goes on from its checkpoint" not in project.report()
    kept = project.path / ".ablation" / "checkpoints"
    assert len(list(kept.iterdir())) == 1
    result = project.run(*command)
    assert "4 runs: 0 trained, 4 reused" in result.outlines
    assert list(kept.iterdir()) == []


def test_checkpoints_can_be_turned_off(project):
    (project.path / "test_own.py").write_text(STUDY)
    (project.path / "attempts.txt").write_text("1")
    assert project.run("-m", "quick", "--ablation-checkpoint=never").ret == 3
    assert not (project.path / ".ablation" / "checkpoints").exists()


def history_of(project):
    return (project.path / "reports" / "quick" / "history.csv").read_bytes()
