"""What killed sessions left goes away, whatever the clock says, and nothing that is in use does."""

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from in_process import planned

from pytest_ablation import Mode, Study, Variant
from pytest_ablation import inventory as inventory_module
from pytest_ablation import store as store_module
from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.inventory import inventory
from pytest_ablation.leftovers import is_alive, mark_alive, remove_leftovers
from pytest_ablation.record_files import files_of, read_content
from pytest_ablation.store import Store
from pytest_ablation.training import Workplace, obtain

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    store.prepare()
    return store


def train(config, run):
    run.log(1, "train", loss=config["width"])
    return {"top1": 0.5}


def trained(store, session="s"):
    """Two finished runs."""
    study = Study("s", train=train, baseline={"width": 1}, variants=[Variant("wide", width=2)],
                  metrics=["top1"], quick=Mode(seeds=1))  # fmt: skip
    where = {"device": "cpu", "device_index": 0, "data_dir": None, "threads": 1}
    place = Workplace(store.root, store.sessions / session / "journal", session, True, **where)
    return [obtain(spec, place) for spec in planned(study)[1].values()]


def left(path, age):
    """A session's folder, last written so many seconds ago."""
    (path / "journal").mkdir(parents=True)
    (path / "journal" / "1.jsonl").write_text("{}\n")
    then = time.time() - age
    for part in (path / "journal" / "1.jsonl", path / "journal", path):
        os.utime(part, (then, then))
    return path


@pytest.mark.parametrize(
    ("age", "stays"),
    [(0, True), (23 * HOUR, True), (25 * HOUR, False), (1000 * DAY, False), (-HOUR, True),
     (-30 * DAY, True), (-100 * 365 * DAY, True)],
)  # fmt: skip
def test_a_folder_goes_when_it_is_a_day_old(store, age, stays):
    folders = [left(store.sessions / "old", age), left(store.runs / ".new-old", age)]
    remove_leftovers(store)
    assert [folder.exists() for folder in folders] == [stays, stays]


def test_a_folder_from_the_future_ages_from_now_on(store):
    folder = left(store.sessions / "old", -1000 * DAY)
    remove_leftovers(store)
    remove_leftovers(store, time.time() + 23 * HOUR)
    assert folder.exists()
    remove_leftovers(store, time.time() + 25 * HOUR)
    assert not folder.exists()


def test_the_youngest_file_decides(store):
    folder = left(store.sessions / "old", 100 * DAY)
    (folder / "journal" / "1.jsonl").write_text("now")
    remove_leftovers(store)
    assert folder.exists()


def test_a_living_session_keeps_its_folder_however_old_it_looks(store):
    folder = left(store.sessions / "long", 0)
    code = (
        "import sys, time; from pathlib import Path; "
        "from pytest_ablation.leftovers import mark_alive; "
        "lock = mark_alive(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert is_alive(folder)
        remove_leftovers(store, time.time() + 100 * DAY)  # its clock was set
        assert folder.exists()
    finally:
        holder.kill()
        holder.wait()
    assert not is_alive(folder)
    remove_leftovers(store, time.time() + 100 * DAY)
    assert not folder.exists()


def test_an_own_mark_can_be_released(store):
    folder = store.sessions / "own"
    lock = mark_alive(folder)
    assert is_alive(folder)
    lock.release()
    assert not is_alive(folder)


def test_a_run_that_is_being_written_stays(store):
    key = "a" * 32
    half = left(store.runs / f".new-{key}-12345678", 100 * DAY)
    with store.lock(key):
        remove_leftovers(store)
        assert half.exists()
    remove_leftovers(store)
    assert not half.exists()


def test_a_run_whose_replacement_never_came_is_put_back(store):
    first, second = trained(store)
    for record in (first, second):
        old = store.runs / f".old-{record.key}-12345678"
        os.rename(store.runs / record.key, old)
        os.utime(old, (0, 0))
    again = replace(first, session="later")
    store.put(again.key, files_of(again))
    remove_leftovers(store)
    assert store.read(second.key) == second, "nothing took its place"
    assert store.read(first.key) == again, "another one did"
    assert sorted(path.name for path in store.runs.iterdir()) == sorted([first.key, second.key])


def test_links_and_files_go_and_what_they_name_stays(store, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    os.utime(precious, (0, 0))
    for link in (store.sessions / "link", store.runs / ".new-link"):
        link.symlink_to(precious)
        os.utime(link, (0, 0), follow_symlinks=False)
    probe = store.runs / ".new-probe-12345678"
    probe.write_text("left by a killed probe")
    os.utime(probe, (0, 0))
    inside = left(store.sessions / "old", 100 * DAY)
    (inside / "link").symlink_to(precious)
    os.utime(inside / "link", (0, 0), follow_symlinks=False)
    os.utime(inside, (0, 0))
    remove_leftovers(store)
    assert list(store.sessions.iterdir()) == list(store.runs.iterdir()) == []
    assert (precious / "file").read_text() == "mine"


def test_finished_runs_are_no_leftovers(store):
    records = trained(store)
    for record in records:
        for path in [*(store.runs / record.key).iterdir(), store.runs / record.key]:
            os.utime(path, (0, 0))
    remove_leftovers(store)
    assert [store.read(record.key) for record in records] == records


def checkpoint(store, key, age=60, session=""):
    """The checkpoint of a run, so many seconds older than now."""
    folder = CheckpointFolder(store.checkpoints / key, key=key, session=session)
    folder.write(1, {"weights": {"w": np.zeros(3)}}, {}, {})
    then = time.time() - age
    for part in [*folder.path.iterdir(), folder.path]:
        os.utime(part, (then, then))
    return folder.path


def test_the_checkpoint_of_a_finished_run_goes_and_others_stay(store):
    """Its process was killed after its record was there, and before the checkpoint was away."""
    finished, gone = (record.key for record in trained(store))
    store.remove(gone)
    kept = [checkpoint(store, finished), checkpoint(store, gone), checkpoint(store, "b" * 32)]
    with store.lock(finished):  # --ablation-fresh trains it again just now
        remove_leftovers(store, time.time() + 100 * DAY)
        assert all(path.exists() for path in kept)
    remove_leftovers(store)
    assert [path.exists() for path in kept] == [False, True, True]
    assert store.read(finished) is not None


@pytest.mark.parametrize("age", [-60, 60])
def test_a_younger_checkpoint_stays_where_a_session_that_keeps_models_goes_on_from_it(store, age):
    record = replace(trained(store)[0], outcome={"weights": "w" * 32})
    store.put(record.key, files_of(record))
    path = checkpoint(store, record.key, age=age)
    remove_leftovers(store)
    assert path.exists() == (age < 0)
    if age < 0:  # with its model the record lacks nothing
        store.put(record.key, files_of(record, weights={"w": np.zeros(2, np.float32)}))
        checkpoint(store, record.key, age=age)
        remove_leftovers(store)
        assert not path.exists()


def test_the_checkpoint_of_a_fresh_session_goes_when_that_is_over(store):
    """Trained again for the wish of it: other sessions use the older record, fresh ones none."""
    record = trained(store)[0]
    path = checkpoint(store, record.key, age=-60, session="fresh")
    alive = mark_alive(store.sessions / "fresh")
    remove_leftovers(store)  # its process died, another one of its session may go on
    assert path.exists()
    alive.release()
    remove_leftovers(store)
    assert not path.exists()


def test_a_younger_checkpoint_of_a_damaged_record_stays(store):
    record = trained(store)[0]
    path = checkpoint(store, record.key, age=-60)
    (store.runs / record.key / "history.csv").unlink()
    remove_leftovers(store)
    assert path.exists()


def test_halves_of_checkpoints_go_or_are_put_back(store):
    keys = ["a" * 32, "b" * 32, "c" * 32]
    half = store.checkpoints / f".new-{keys[0]}-12345678"
    young = store.checkpoints / f".new-{keys[1]}-12345678"
    for path, age in ((half, 25 * HOUR), (young, HOUR)):
        left(path, age)
    old = store.checkpoints / f".old-{keys[2]}-12345678"
    os.rename(checkpoint(store, keys[2]), old)
    remove_leftovers(store)
    assert not half.exists()
    assert young.exists()
    assert not old.exists(), "its process died between two renames: it is in its place again"
    assert CheckpointFolder(store.checkpoints / keys[2]).epoch == 1


def test_a_reader_finds_a_run_at_every_moment_of_its_replacement(store):
    """One process puts a run again and again, as --ablation-fresh does, while another reads it."""
    record = trained(store)[0]
    arrays = {"top1": [1.0, 0.0]}
    store.put(record.key, files_of(record, arrays))
    stop = threading.Event()

    def put():
        while not stop.is_set():
            store.put(record.key, files_of(record, arrays))

    writer = threading.Thread(target=put)
    writer.start()
    try:
        for _ in range(300):
            assert store.read(record.key) == record
            assert store.predictions(record.key)["top1"].tolist() == [1.0, 0.0]
    finally:
        stop.set()
        writer.join()


def test_a_run_is_there_between_the_two_renames_of_its_replacement(store, monkeypatch):
    """Also where the process that replaces it is stopped, or dies, just there."""
    record = replace(trained(store)[0], outcome={"weights": "w" * 32})
    arrays, weights = {"top1": [1.0, 0.0]}, {"w": np.zeros(2, np.float32)}
    store.put(record.key, files_of(record, arrays, weights))
    rename, seen = os.rename, []

    def look(source, target):
        rename(source, target)
        if (store.runs / record.key).exists() or seen:
            return
        seen.append(store.read(record.key))
        assert store.has_model(record.key)
        assert store.predictions(record.key)["top1"].tolist() == [1.0, 0.0]
        store.verify(record.key)

    monkeypatch.setattr(os, "rename", look)
    store.put(record.key, files_of(replace(record, session="later")))
    assert seen == [record]
    assert store.read(record.key).session == "later"
    assert not store.has_model(record.key)
    assert [path.name for path in store.runs.iterdir() if path.name.startswith(".")] == []


def test_who_looked_between_the_renames_and_then_aside_too_late_looks_again(store, monkeypatch):
    record = trained(store)[0]
    place, hidden = store.runs / record.key, store.runs / ".gone-hidden"
    os.rename(place, hidden)
    read_folder = store_module.read_folder

    def replaced_meanwhile(folder, *arguments):
        found = read_folder(folder, *arguments)
        if folder.name.startswith(".old-"):
            monkeypatch.undo()
            os.rename(hidden, place)
        return found

    monkeypatch.setattr(store_module, "read_folder", replaced_meanwhile)
    assert store.read(record.key) == record


def test_a_list_shows_a_run_at_every_moment_of_its_replacement(store, monkeypatch):
    """What it took for damaged, ``runs remove --damaged`` would remove."""
    first, second = trained(store)
    rename, listed = os.rename, []

    def look(source, target):
        rename(source, target)
        listed.append(inventory(store).runs)

    monkeypatch.setattr(os, "rename", look)
    store.put(first.key, files_of(replace(first, session="later")))
    assert len(listed) >= 2
    for runs in listed:
        assert {run.key for run in runs} == {first.key, second.key}
        assert [run.problem for run in runs] == ["", ""]


def test_a_run_that_is_replaced_while_it_is_listed_is_not_damaged(store, monkeypatch):
    record = trained(store)[0]

    def replaced_meanwhile(folder):
        monkeypatch.undo()
        (folder / "record.json").unlink()  # the old one goes away, file by file
        try:
            return read_content(folder)
        finally:
            store.put(record.key, files_of(record))

    monkeypatch.setattr(inventory_module, "read_content", replaced_meanwhile)
    assert [run.problem for run in inventory(store).runs] == ["", ""]


def test_a_run_that_is_removed_does_not_come_back_from_a_killed_replacement(store):
    record = trained(store)[0]
    shutil.copytree(store.runs / record.key, store.runs / f".old-{record.key}")
    assert store.remove(record.key)
    assert store.read(record.key) is None
    remove_leftovers(store)
    assert store.read(record.key) is None


def test_what_a_killed_replacement_left_is_in_nobodys_way(store):
    record = trained(store)[0]
    shutil.copytree(store.runs / record.key, store.runs / f".old-{record.key}")
    again = replace(record, session="later")
    store.put(record.key, files_of(again))
    assert store.read(record.key) == again
    assert not (store.runs / f".old-{record.key}").exists()


def test_a_run_that_is_replaced_while_it_is_read_is_read_again(store, monkeypatch):
    record = trained(store)[0]
    read_folder = store_module.read_folder

    def replaced_meanwhile(folder, *arguments):
        monkeypatch.undo()
        (folder / "history.csv").unlink()  # the old one goes away, file by file
        try:
            return read_folder(folder, *arguments)
        finally:
            store.put(record.key, files_of(record))

    monkeypatch.setattr(store_module, "read_folder", replaced_meanwhile)
    assert store.read(record.key) == record
