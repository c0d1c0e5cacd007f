"""What a study needs on other machines, without any: what of a project is sent, data, messages."""

import functools
import importlib
import os
import pickle
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import planned
from projects import ROOT
from softmax import BASELINE, train
from waiting import wait_until

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.errors import AblationError
from pytest_ablation.journal import Journal
from pytest_ablation.on_ray.cluster import Share
from pytest_ablation.on_ray.data import DataFolder, LackingData, content_digest, folder_on_node
from pytest_ablation.on_ray.events import NodeEvents
from pytest_ablation.on_ray.node import check_libraries
from pytest_ablation.on_ray.post import Teller
from pytest_ablation.on_ray.project import shipped_project
from pytest_ablation.on_ray.watch import Watch

# --- the project ---------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_code_is_sent_and_stores_environments_and_large_files_are_not(tmp_path):
    sent = ["model.py", "conf.ini", "pkg/part.py", "odd [name]#.py"]
    for name in [*sent, ".git/HEAD", ".ablation/runs/a/record.json", "env/pyvenv.cfg",
                 "env/lib/x.py", "pkg/__pycache__/part.pyc", "out/report.md", "corpus/a.txt",
                 "corpus [old]/b.txt"]:  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with open(tmp_path / "weights !.bin", "wb") as file:
        file.truncate(11 * 2**20)
    os.mkfifo(tmp_path / "pipe")
    without = [tmp_path / "out", tmp_path / "corpus", tmp_path / "corpus [old]"]
    project = shipped_project(tmp_path, without)
    assert sent_files(tmp_path, project.excludes) == sorted(sent)
    assert project.size == len(sent)


def sent_files(folder, excludes):
    """What git, whose rules Ray goes by, would not ignore with these patterns."""
    shutil.rmtree(folder / ".git")
    subprocess.run(["git", "init", "-q", folder], check=True)
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "exclude").write_text("\n".join(excludes))
    command = ["git", "-C", folder, "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sorted(filter(None, listed.split("\0")))


def test_folders_to_import_from_are_those_of_the_project(tmp_path, monkeypatch):
    for name in ("src", "env/lib", "tests/unit"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    inside = [str(tmp_path / name) for name in ("tests/unit", "env/lib", "src", "gone")]
    monkeypatch.setattr(sys, "path", [inside[0], "", str(ROOT), *inside[1:]])
    monkeypatch.chdir(tmp_path)
    assert shipped_project(tmp_path).import_folders == ("tests/unit", ".", "src")


# --- data ----------------------------------------------------------------------------------------

CONTENTS = st.dictionaries(
    st.from_regex(r"[a-c]{1,2}(/[d-f]{1,2}){0,2}", fullmatch=True), st.binary(max_size=20)
).filter(lambda files: not any(f"{a}/" == b[: len(a) + 1] for a in files for b in files))


@given(content=CONTENTS)
def test_data_that_a_node_lacks_are_unpacked_there_once(tmp_path_factory, content):
    path, home = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("home")
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    folder = DataFolder.of(path)
    packed = folder.packed()
    assert packed == content
    assert folder_on_node(folder, "here", home, lambda: pytest.fail("is there")) == path
    path.rename(f"{path}-elsewhere")
    fetched = []

    def ask():
        return content_digest(packed), lambda: fetched.append(1) or packed

    places = {folder_on_node(folder, "here", home, ask) for _ in range(2)}
    (place,) = places
    assert DataFolder.of(place).files == folder.files
    assert DataFolder.of(place).packed() == content
    assert len(fetched) == 1


def test_an_unpacking_that_breaks_off_leaves_nothing(tmp_path):
    folder = DataFolder("/nowhere/at/all", (("a", 1),))
    broken = {"a": b"1", "a/b": b"2"}
    with pytest.raises(OSError, match="a"):
        folder_on_node(folder, "here", tmp_path, lambda: ("digest", lambda: broken))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".lock"]
    good = folder_on_node(folder, "here", tmp_path, lambda: ("digest", lambda: {"a": b"1"}))
    assert (good / "a").read_bytes() == b"1"


def test_large_data_are_not_sent_and_the_node_that_lacks_them_is_named(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with open(data / "corpus.bin", "wb") as file:
        file.truncate(257 * 2**20)
    folder = DataFolder.of(data)
    (data / "corpus.bin").unlink()
    with pytest.raises(LackingData, match=r"node gpu7 lacks the data .*another content there.*257"):
        folder_on_node(folder, "gpu7", tmp_path / "home", lambda: pytest.fail("not to be sent"))


def test_older_data_of_the_same_size_on_a_node_are_not_taken_for_those_of_the_driver(tmp_path):
    file = tmp_path / "data" / "labels.txt"
    file.parent.mkdir()
    file.write_text("cats")
    folder = DataFolder.of(file.parent)
    packed = folder.packed()
    file.write_text("dogs")
    os.utime(file, (1e9, 1e9))
    place = folder_on_node(folder, "here", tmp_path / "home", lambda: ("digest", lambda: packed))
    assert (place / "labels.txt").read_text() == "cats"


def test_large_data_on_a_node_are_known_by_names_and_sizes_alone(tmp_path):
    with open(tmp_path / "corpus.bin", "wb") as file:
        file.truncate(257 * 2**20)
    folder = DataFolder.of(tmp_path)
    os.utime(tmp_path / "corpus.bin", (1e9, 1e9))
    home = tmp_path / "home"
    assert folder_on_node(folder, "here", home, lambda: pytest.fail("is there")) == tmp_path


def test_a_folder_of_data_may_hold_a_link_to_itself(tmp_path):
    (tmp_path / "a.txt").write_text("1")
    (tmp_path / "again").symlink_to(tmp_path)
    assert DataFolder.of(tmp_path).files == (("a.txt", 1),)


# --- runs ----------------------------------------------------------------------------------------


def spec_of(train=train, config=BASELINE):
    variants = [Variant("fast", learning_rate=0.9)]
    study = Study("s", train=train, baseline=config, variants=variants, metrics=["top1"],
                  quick=Mode(seeds=2, epochs=1))  # fmt: skip
    return next(iter(planned(study)[1].values()))


def test_a_node_with_another_version_of_a_library_is_refused():
    spec = spec_of()
    check_libraries(spec, "gpu7")
    with pytest.raises(AblationError, match=r"gpu7 has numpy .*expected 0\.1 .*numpy==0\.1"):
        check_libraries(replace(spec, libraries={"numpy": "0.1"}), "gpu7")
    with pytest.raises(AblationError, match="node gpu7 lacks no-such-package 2"):
        check_libraries(replace(spec, libraries={"no-such-package": "2"}), "gpu7")


def test_a_training_function_that_no_import_finds_goes_along(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from pytest_ablation.on_ray.task import packed

    path = tmp_path / "only_by_path.py"
    path.write_text("F = 3\n\ndef train(config, run):\n    return {'top1': F * config['x']}\n")
    loader = importlib.machinery.SourceFileLoader("only_by_path", str(path))
    spec = importlib.util.spec_from_loader("only_by_path", loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "only_by_path", module)
    loader.exec_module(module)
    messages = [
        packed(spec_of(function, {"x": 1, "learning_rate": 0.1}))
        for function in (module.train, functools.partial(module.train))
    ]
    monkeypatch.delitem(sys.modules, "only_by_path")
    for message in messages:
        assert pickle.loads(message).train({"x": 2}, None) == {"top1": 6}


def test_what_cannot_be_sent_says_so():
    pytest.importorskip("ray")
    from pytest_ablation.on_ray.task import UnsendableRun, packed

    with pytest.raises(UnsendableRun, match="define its training"):
        packed(spec_of(functools.partial(train, lock=threading.Lock())))


# --- events --------------------------------------------------------------------------------------

BEGAN = {"kind": "started", "key": "a", "node": "n", "node_id": "1f", "label": "s r", "seed": 0,
         "epochs": 2}  # fmt: skip


def test_events_that_come_after_the_end_of_their_run_are_dropped(tmp_path):
    ended, journal = set(), Journal(tmp_path)
    events = NodeEvents(journal, ended)
    events.take([BEGAN, {"kind": "epoch", "key": "a", "epoch": 1, "loss": None}])
    assert events.on_nodes({"1f", "2e"}) == ["a"]
    assert events.on_nodes({"2e"}) == []
    ended.add("a")
    events.forget("a")
    assert events.on_nodes({"1f"}) == []
    events.take([BEGAN, {"kind": "doing", "key": "a", "text": "late"}, {"kind": "data wanted"}])
    assert [event["kind"] for event in journal.new_events()] == ["started", "epoch"]


def test_a_result_that_overtakes_its_beginning_brings_it_along_once(tmp_path):
    journal = Journal(tmp_path)
    events = NodeEvents(journal, set())
    last = {"kind": "epoch", "key": "a", "epoch": 2, "loss": 0.5}
    events.take_last([BEGAN, last])
    assert [event["kind"] for event in journal.new_events()] == ["started", "epoch"]
    events.take([{**BEGAN, "key": "b"}])
    events.take_last([{**BEGAN, "key": "b"}])
    assert [event["key"] for event in journal.new_events()] == ["b"]


class Ear:
    """In place of the handle of Ray's actor: hears what is told before the result."""

    def __init__(self):
        self.heard = []
        self.tell = self

    def remote(self, event):
        self.heard.append(event)


def test_the_result_brings_the_last_epoch_and_what_the_report_needs():
    ear = Ear()
    teller = Teller(ear, "gpu7")
    teller.tell("started", key="a", label="s r", seed=0, epochs=9)
    teller.tell("damaged", key="a", message="the checkpoint is cut short")
    for epoch in range(1, 10):
        teller.tell("epoch", key="a", epoch=epoch, loss=None)
    assert [event["kind"] for event in ear.heard] == ["started", "epoch"]
    assert {event["node"] for event in ear.heard if event["kind"] == "started"} == {"gpu7"}
    last = teller.last_events()
    assert [event["kind"] for event in last] == ["started", "damaged", "epoch"]
    assert last[-1]["epoch"] == 9


def test_many_runs_together_do_not_flood_the_journal(tmp_path):
    journal = Journal(tmp_path)
    events = NodeEvents(journal, set())
    keys = [f"run{number}" for number in range(400)]
    events.take({"kind": "started", "key": key, "node": "n", "node_id": "1f"} for key in keys)
    for epoch in range(3):
        events.take({"kind": "epoch", "key": key, "epoch": epoch, "loss": None} for key in keys)
    assert len(journal.all_events("epoch")) == len(keys)


# --- the cluster ---------------------------------------------------------------------------------


class LostHead:
    """In place of the package ray: a question about its nodes waits until the head node is back."""

    def __init__(self):
        self.is_back = threading.Event()
        self.gcs_address = "10.0.0.1:6379"

    def get_runtime_context(self):
        return self

    def nodes(self):
        self.is_back.wait()
        gone = {"Alive": False, "NodeID": "1f", "Resources": {}}
        return [gone, {"Alive": True, "NodeID": "2e", "Resources": {"CPU": 1}}]


def test_a_head_node_is_lost_after_thirty_looks_in_silence_and_may_come_back():
    ray = LostHead()
    watch = Watch(ray, Share(1.0, 0.0))
    try:
        *before, last = [watch.trouble() for _ in range(30)]
        assert not any(before)
        assert "head node of the Ray cluster, 10.0.0.1:6379, has not answered for 30 sec" in last
        assert watch.trouble() == last
        ray.is_back.set()
        wait_until(lambda: not watch.trouble(), "the answer is heard")
        wait_until(watch.newly_lost, "the node that is gone is told")
        assert not watch.newly_lost()
    finally:
        ray.is_back.set()
        watch.end()


def test_no_run_comes_any_more_where_no_node_has_had_what_it_asks_for(monkeypatch):
    monkeypatch.setattr("pytest_ablation.on_ray.watch._ASK_SECONDS", 0.001)
    monkeypatch.setattr("pytest_ablation.on_ray.watch._UNFIT_LOOKS", 6)
    ray = LostHead()
    ray.is_back.set()
    watch = Watch(ray, Share(2.0, 0.0))
    looks = []

    def is_given_up():
        looks.append(watch.trouble())
        return "no node of the Ray cluster can take it any more: it asks for 2 CPUs" in looks[-1]

    try:
        wait_until(is_given_up, "no node has two CPUs")
        assert len(looks) >= 6
    finally:
        watch.end()
