"""A checkpoint that is damaged, or cannot be written, costs time and changes no number."""

import contextlib
import hashlib
import io
import json
import math
import os
import resource
import shutil
import sys

import numpy as np
import pytest
import resumable_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from resumable_loop import (
    EPOCHS,
    FILES,
    X,
    Y,
    content,
    interrupted,
    state_of,
    trained,
    undisturbed,
)
from safetensors.numpy import save_file

from pytest_ablation.errors import RecordWarning


@pytest.fixture(scope="module")
def whole():
    return undisturbed()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with the checkpoint of epoch 4. Tests damage copies of it."""
    folder = tmp_path_factory.mktemp("kept")
    interrupted(folder, 5)
    return folder


# --- damage -----------------------------------------------------------------------------------


def sign(folder, state):
    """Write a state whose checksums are right, whatever it says."""
    state.pop("checksum", None)
    for name in state["files"]:
        if (folder / name).exists():
            state["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    text = json.dumps(state, sort_keys=True)
    state["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "state.json").write_text(json.dumps(state))


def change(**entries):
    def damage(folder):
        sign(folder, state_of(folder) | entries)

    return damage


def object_array(folder):
    with np.load(folder / "state.npz") as kept:
        content = dict(kept)
    content["a0"] = np.array([print], dtype=object)
    out = io.BytesIO()
    np.savez(out, allow_pickle=True, **content)
    (folder / "state.npz").write_bytes(out.getvalue())
    sign(folder, state_of(folder))


def outside_names(folder):
    """The files are to be found elsewhere, says the state."""
    for name in FILES[1:]:
        shutil.move(folder / name, folder.parent / name)
    state = state_of(folder)
    state["files"] = {f"../{name}": checksum for name, checksum in state["files"].items()}
    sign(folder, state)


def other_weights(folder):
    save_file({"../w": np.zeros(3)}, folder / "weights.safetensors")
    sign(folder, state_of(folder))


def endless(folder):
    (folder / "state.json").write_text("[" * 100_000)


def steps_that_are_text(folder):
    state = state_of(folder)
    state["seen"]["seen"]["steps"] = "many"
    sign(folder, state)


def no_state_of_a_run(folder):
    state = state_of(folder)
    del state["seen"]["facts"]
    sign(folder, state)


def one_more_step(folder):
    text = (folder / "state.json").read_text()
    assert text.count('"steps": 20') == 1
    (folder / "state.json").write_text(text.replace('"steps": 20', '"steps": 21'))


DAMAGES = {
    **{f"{name} truncated": lambda folder, name=name: os.truncate(folder / name, 100)
       for name in FILES},
    **{f"{name} empty": lambda folder, name=name: os.truncate(folder / name, 0) for name in FILES},
    **{f"{name} missing": lambda folder, name=name: (folder / name).unlink() for name in FILES},
    "one more step": one_more_step,
    "no json": lambda folder: (folder / "state.json").write_bytes(b"\xff\x00"),
    "json that is a list": lambda folder: (folder / "state.json").write_text("[]"),
    "json without end": endless,
    "a newer schema": change(schema=2),
    "another key": change(identity={"key": "other", "seed": 0}),
    "another seed": change(identity={"key": "key", "seed": 1}),
    "an epoch that is text": change(epoch="four"),
    "a state that is a list": change(state=[]),
    "an array that is not there": change(state={"weights": {"$array": "a99"}}),
    "a mark that is not known": change(state={"weights": {"$python": "print"}}),
    "an array of objects": object_array,
    "files elsewhere": outside_names,
    "weights of other names": other_weights,
    "steps that are text": steps_that_are_text,
    "no facts": no_state_of_a_run,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_and_the_run_begins_from_nothing(
    damage, checkpoint, whole, tmp_path
):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    DAMAGES[damage](tmp_path / "key")
    told = []
    run, record = trained(tmp_path, told=told)
    assert content(run, record) == whole
    assert record.cost.resumed == ()
    assert len(told) == 1
    assert told[0].endswith("the run begins from nothing")
    assert state_of(tmp_path / "key")["epoch"] == EPOCHS, "a new one has taken its place"


@settings(max_examples=60)
@given(
    name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255)
)
def test_no_changed_byte_changes_a_number(name, place, mask, checkpoint, whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flipped")
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    data = bytearray((folder / "key" / name).read_bytes())
    data[int(place * len(data))] ^= mask
    (folder / "key" / name).write_bytes(data)
    told = []
    run, record = trained(folder, told=told, seconds=math.inf)
    assert content(run, record) == whole
    assert len(told) == (record.cost.resumed == ())
    shutil.rmtree(folder)


def test_other_data_is_not_gone_on_with(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    other = (X, Y + 1)
    told = []
    assert content(*trained(tmp_path, data=other, told=told)) == content(*trained(None, data=other))
    assert "its train_data is" in told[0]


def test_without_someone_to_tell_damage_is_a_warning(checkpoint, whole, tmp_path):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    os.truncate(tmp_path / "key" / "state.npz", 10)
    with pytest.warns(RecordWarning, match="state.npz was changed .* begins from nothing"):
        assert content(*trained(tmp_path)) == whole


def test_a_process_that_died_between_two_renames_leaves_a_checkpoint(checkpoint, whole, tmp_path):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    shutil.copytree(tmp_path / "key", tmp_path / ".new-key-0000")
    os.rename(tmp_path / "key", tmp_path / ".old-key-0000")
    run, record = trained(tmp_path)
    assert (content(run, record), record.cost.resumed) == (whole, (4,))
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


# --- no room ----------------------------------------------------------------------------------


@contextlib.contextmanager
def files_of_at_most(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_room_on_the_disk_training_goes_on(whole, tmp_path):
    told = []
    with files_of_at_most(1000):
        run, record = trained(tmp_path, told=told)
    assert content(run, record) == whole
    assert told == [
        f"no checkpoint could be written to {tmp_path} (File too large): a run that is interrupted "
        f"begins anew, or goes on from an earlier checkpoint"
    ]
    assert not list(tmp_path.iterdir()), "nor is half a checkpoint left"


def test_an_older_checkpoint_stays_where_a_newer_one_has_no_room(checkpoint, whole, tmp_path):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    with files_of_at_most(1000):
        assert content(*trained(tmp_path, told=[])) == whole
    assert state_of(tmp_path / "key")["epoch"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert content(*trained(tmp_path)) == whole


def test_a_folder_that_cannot_be_made_changes_nothing(whole, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RecordWarning, match="no checkpoint could be written to .*file") as warned:
        assert content(*trained(tmp_path / "file")) == whole
    assert len(warned) == 1
    assert warned[0].filename == resumable_loop.__file__


def test_without_safetensors_nothing_is_kept_and_it_is_said_once(
    checkpoint, whole, tmp_path, monkeypatch
):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    monkeypatch.setitem(sys.modules, "safetensors", None)  # not to be imported: it is missing
    said, told = [], []
    run, record = trained(tmp_path, said=said, told=told)
    assert (content(run, record), record.cost.resumed) == (whole, ())
    assert said == []
    assert len(told) == 1
    assert "(the package safetensors is missing (pip install safetensors))" in told[0]
    assert state_of(tmp_path / "key")["epoch"] == 4, "the one that was there stays"
