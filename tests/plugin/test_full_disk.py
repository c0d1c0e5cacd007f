"""A disk that is full or may not be written: what is said, what is kept, and how to go on."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from in_process import planned
from projects import trained_project

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.journal import Journal
from pytest_ablation.plan import Plan
from pytest_ablation.store import Store, UnwritableStore
from pytest_ablation.training import Failure, Workplace, obtain

VARIANT = 'Variant("no_bias", use_bias=False)'
FULL = "small is full (No space left on device): free some space"

#: Put before the training of the study's module: a file of that name fills the disk in the run of
#: seed 1, and every training is noted.
FILLING = """
import os
from pathlib import Path

from softmax import train as train_well

def train(config, run):
    with open("trained", "a") as file:
        file.write(f"{run.seed}\\n")
    metrics = train_well(config, run)
    if run.seed == 1 and Path("when").exists():
        happens = Path("when").read_text()
        if happens == "full":
            with open("small/filling", "ab", buffering=0) as file:
                while True:
                    try:
                        file.write(bytes(4096))
                    except OSError:
                        break
        else:
            os.system("chattr +i store/runs")
    return metrics
"""


def mount(folder: Path, options: str) -> None:
    """A file system of its own; only root may make one."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs (root)")


@contextlib.contextmanager
def mounted(folder, options):
    mount(folder, options)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small(tmp_path):
    """A disk of one MiB."""
    with mounted(tmp_path / "small", "size=1m") as folder:
        yield folder


def fill(folder, leave=0):
    """Fill a disk, but for so many bytes."""
    with contextlib.suppress(OSError), open(folder / "filling", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with open(folder / "filling", "ab") as file:
        file.truncate(max(0, file.tell() - leave))


def make_read_only(folder):
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def is_immutable(folder, change):
    """Make a folder one that even root cannot write, or undo it; whether that went well."""
    command = ["chattr", change, str(folder)]
    found = shutil.which("chattr") is not None
    return found and subprocess.run(command, capture_output=True).returncode == 0


def filling_study(project):
    project.write_study(VARIANT)
    study = project.path / "test_softmax.py"
    text = study.read_text().replace("from softmax import BASELINE, train", "from softmax import "
                                     "BASELINE\nfrom filling import train")  # fmt: skip
    study.write_text(text)
    (project.path / "filling.py").write_text(FILLING)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The summary that the study gives where nothing happens."""
    return trained_project(tmp_path_factory.mktemp("undisturbed"), VARIANT).summary_bytes()


@pytest.mark.parametrize("jobs", [["--ablation-jobs=1"], ["--ablation-jobs=2"], ["-n", "2"]],
                         ids=" ".join)  # fmt: skip
def test_a_disk_that_fills_up_fails_what_cannot_be_kept_untrained(project, undisturbed, jobs):
    filling_study(project)
    (project.path / "when").write_text("full")
    with mounted(project.path / "small", "size=1m") as small:
        words = ["-m", "quick", "--ablation-store=small", *jobs]
        result = project.run(*words, jobs=None)
        assert result.ret == 1
        assert FULL in result.stdout.str()
        assert "another one with --ablation-store=DIR, and run the same command again" in (
            result.stdout.str().replace("\n", " ")
        )
        assert result.stderr.str() == ""
        kept = [json.loads(file.read_text()) for file in (small / "runs").glob("*/record.json")]
        trained = (project.path / "trained").read_text().split()
        # each process may have been training when the disk filled up, and none begins another one
        assert len(trained) <= len(kept) + (1 if jobs == ["--ablation-jobs=1"] else 2)
        assert len(kept) < 6
        assert [path for path in (small / "runs").iterdir() if path.name.startswith(".")] == []
        assert "failed" in {row["status"] for row in project.rows("summary")}
        if jobs != ["--ablation-jobs=1"]:
            return
        (small / "filling").unlink()
        (project.path / "when").unlink()
        again = project.run(*words, jobs=None)
        assert again.ret == 0
        assert f"6 runs: {6 - len(kept)} trained, {len(kept)} reused" in again.outlines
    assert project.summary_bytes() == undisturbed


def test_a_store_that_becomes_unwritable_fails_what_is_left(project):
    filling_study(project)
    (project.path / "when").write_text("immutable")
    store = project.path / "store"
    (store / "runs").mkdir(parents=True)
    if not is_immutable(store / "runs", "+i") or not is_immutable(store / "runs", "-i"):
        pytest.skip("needs a file system with attributes, and the right to set them (chattr)")
    try:
        result = project.run("-m", "quick", "--ablation-store=store")
    finally:
        is_immutable(store / "runs", "-i")
    assert result.ret == 1
    text = result.stdout.str()
    assert "store cannot be written ([Errno 1] Operation not permitted" in text
    assert "make it writable, or choose another one" in text
    assert "the finished run in it is kept" in text
    assert (project.path / "trained").read_text().split() == ["0", "1"]
    assert project.row("no_bias")["status"] == "failed"
    assert "Operation not permitted" in project.report()


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_store_that_cannot_be_written_is_found_before_anything_trains(project, how):
    filling_study(project)
    with mounted(project.path / "small", "size=1m") as small:
        if how == "full":
            fill(small)
        else:
            make_read_only(small)
        result = project.run("-m", "quick", "--ablation-store=small")
        assert result.ret == 4
        assert (FULL if how == "full" else "Read-only file system") in result.stderr.str()
    assert not (project.path / "trained").exists()


def train(config, run):
    run.save_predictions(noise=__import__("numpy").random.default_rng(0).random(config["size"]))
    return {"top1": 0.5}


def place_in(folder):
    store = Store(folder / "store")
    store.prepare()
    journal = store.sessions / "s" / "journal"
    where = {"device": "cpu", "device_index": 0, "data_dir": None, "threads": 1}
    return store, Workplace(store.root, journal, "s", fresh=False, **where)


def specs_of_size(*sizes):
    variants = [Variant(f"v{size}", size=size) for size in (*sizes[1:], 7)]
    settings = {"metrics": ["top1"], "quick": Mode(seeds=1)}
    study = Study("sizes", train=train, baseline={"size": sizes[0]}, variants=variants, **settings)
    by_size = {spec.config["size"]: spec for spec in planned(study)[1].values()}
    return [by_size[size] for size in sizes]


def test_after_a_record_that_did_not_fit_as_much_room_is_asked_for_before_training(small):
    store, place = place_in(small)
    # doubles, which cannot be compressed
    large, larger, largest = specs_of_size(40_000, 40_001, 40_002)
    fill(small, leave=200 << 10)
    found = obtain(large, place)
    assert isinstance(found, Failure)
    assert "is full" in found.message
    assert found.details == ""
    failed = Journal(place.journal).all_events("failed")
    assert failed[0]["bytes"] > 300_000
    assert "is full" in obtain(larger, place).message
    started = [event["key"] for event in Journal(place.journal).all_events("started")]
    assert started == [large.key], "the other one is not even begun"
    os.truncate(small / "filling", 0)
    assert obtain(largest, place).status == "ok"
    assert obtain(large, place).message == found.message, "it has failed in this session"
    assert store.read(largest.key) is not None


def test_a_record_that_does_not_fit_leaves_nothing_and_takes_nothing(small):
    store, place = place_in(small)
    (spec,) = specs_of_size(100)
    record = obtain(spec, place)
    before = {p.name: p.read_bytes() for p in (store.runs / spec.key).iterdir()}
    fill(small, leave=8192)
    with pytest.raises(UnwritableStore, match="the finished run in it is kept") as caught:
        store.put(spec.key, {"record.json": bytes(100_000)})
    assert isinstance(caught.value, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert {p.name: p.read_bytes() for p in (store.runs / spec.key).iterdir()} == before
    assert [path.name for path in store.runs.iterdir()] == [spec.key]
    assert store.read(spec.key) == record


def test_a_journal_on_a_full_disk_keeps_what_the_report_is_made_of(small):
    journal = Journal(small / "journal")
    journal.reserve()
    assert journal.tell("started", key="a")
    fill(small)
    assert not journal.tell("epoch", key="a", epoch=1, text="x" * 10_000)
    assert journal.tell("failed", key="a", message="x" * 10_000)
    assert Journal(small / "journal").all_events("failed")[0]["message"] == "x" * 10_000
    fill(small)
    while journal.tell("failed", key="b", message="y" * 1000):
        pass
    told = journal.all_events("failed")
    assert told[-1]["key"] == "b", "this process knows it all the same"
    assert all(event["message"] in ("x" * 10_000, "y" * 1000) for event in told)
    (small / "filling").unlink()
    assert journal.tell("failed", key="c", message="")
    assert Journal(small / "journal").all_events("failed")[-1]["key"] == "c"
    assert Journal(small / "journal").all_events("epoch") == []


def test_a_journal_that_may_not_be_written_is_silent(small):
    journal = Journal(small / "journal")
    make_read_only(small)
    assert not journal.tell("failed", key="a", message="no")
    assert journal.new_events() == []
    assert [event["key"] for event in journal.all_events("failed")] == ["a"]


def test_half_a_line_costs_one_event(tmp_path):
    journal = Journal(tmp_path)
    journal.tell("one")
    with open(tmp_path / f"{os.getpid()}.jsonl", "a") as file:
        file.write('{"kind": "lost", "text')  # the disk was full
    journal.tell("two")
    with open(tmp_path / "1.jsonl", "w") as file:
        file.write('3\nnull\n{"no": "kind"}\n\xff\n{"kind": "three"}\n')
    assert [event["kind"] for event in journal.new_events()] == ["three", "one", "two"]


def test_a_plan_that_does_not_fit_leaves_the_old_one(small):
    plan = Plan("s", (), {})
    plan.write(small)
    fill(small)
    with pytest.raises(OSError, match="No space left"):
        Plan("s", (), {"node": ["x" * 10_000] * 3}).write(small)
    assert Plan.read(small) == plan
    assert [path.name for path in small.iterdir() if path.name != "filling"] == ["plan.json"]


def test_other_users_store(tmp_path):
    """A store that belongs to somebody else, seen by a process without root's rights."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    store, _ = place_in(tmp_path)
    status = os.fork()
    if status == 0:  # what happens here ends with its exit status
        code = 2
        try:
            os.setuid(65534)
            store.prepare()
        except UnwritableStore as error:
            code = 0 if "Permission denied" in str(error) else 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(status, 0)[1]) == 0


PLACES = ["with spaces", "mit Umlauten äöü 库", "'quotes' \"and\" $(dollars)", "new\nline", "-dash",
          "%s{}[x]*?", "x" * 200]  # fmt: skip


@pytest.mark.parametrize("name", PLACES, ids=range(len(PLACES)))
def test_a_store_may_be_called_anything(tmp_path, name):
    store, place = place_in(tmp_path / name)
    (spec,) = specs_of_size(10)
    record = obtain(spec, place)
    assert record == store.read(spec.key)
    assert store.predictions(spec.key)["noise"].shape == (10,)
    assert Journal(place.journal).all_events("finished")[0]["key"] == spec.key
    text = str(store.unwritable(OSError(errno.ENOSPC, "No space left on device")))
    assert text.isprintable()


def test_a_session_with_a_store_of_a_strange_name(project):
    project.write_study(VARIANT)
    name = "--ablation-store=ein \"neuer\" 'Ort' ü/mit\nZeile"
    assert project.run("-m", "quick", name, "--ablation-seeds=1").ret == 0
    assert len(list(project.path.glob("ein*/mit*Zeile/runs/*/record.json"))) == 2


def a_file(path):
    path.write_text("mine")


def a_dangling_link(path):
    path.symlink_to("nowhere/at all")


def a_link_to_itself(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [a_file, a_dangling_link, a_link_to_itself, None])
def test_what_is_no_folder_is_refused_in_words(tmp_path, make):
    path = tmp_path / ("x" * 300 if make is None else "place")
    if make is not None:
        make(path)
    with pytest.raises(UnwritableStore, match=r"the store .* cannot be written \(.*make it"):
        Store(path).prepare()
    if make is a_file:
        assert path.read_text() == "mine"
