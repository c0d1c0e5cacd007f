"""``python -m pytest_ablation runs remove`` and ``verify``: what goes, stays, is found."""

import os
import subprocess
import sys

import pytest
from filelock import FileLock
from runs_commands import content, told
from waiting import LIMIT

from pytest_ablation.checkpoints import CheckpointFolder


def test_nothing_is_removed_unasked(trained, runs, capsys):
    before = content(runs)
    for words in (["--all"], [next(iter(trained.records()))], ["--damaged"]):
        status, lines, _ = told(capsys, "remove", *words)
        assert (status, lines[-1].endswith("say so with --yes")) in ((1, True), (0, False))
    assert told(capsys, "remove")[0] == 2
    assert content(runs) == before


def test_a_run_that_is_trained_just_now_stays(trained, runs, capsys):
    first, second = sorted(trained.records())[:2]
    (trained.path / ".ablation" / "checkpoints" / first).mkdir(parents=True)
    lock = FileLock(trained.path / ".ablation" / "locks" / f"{first}.lock")
    with lock:
        status, _, err = told(capsys, "remove", first, second, "--checkpoints", "--yes")
        assert status == 1
        assert err.count(f"{first} is being trained just now") == 2
        assert ((runs / first).exists(), (runs / second).exists()) == (True, False)
        assert (trained.path / ".ablation" / "checkpoints" / first).exists()
    assert told(capsys, "remove", first, "--checkpoints", "--yes")[0] == 0
    assert not (runs / first).exists()
    assert list((trained.path / ".ablation" / "checkpoints").iterdir()) == []
    assert [path.name for path in runs.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_run_that_is_trained_again_before_the_answer_comes_stays(
    trained, runs, capsys, monkeypatch
):
    first, second = sorted(trained.records())[:2]
    whole = (runs / first / "record.json").read_bytes()
    for key in (first, second):
        (runs / key / "record.json").write_text("{}")

    def answer(what, yes):
        (runs / first / "record.json").write_bytes(whole)
        return True

    monkeypatch.setattr("pytest_ablation.runs_command._may_go_on", answer)
    assert told(capsys, "remove", "--damaged")[0] == 0
    assert ((runs / first).exists(), (runs / second).exists()) == (True, False)


def test_stale_checkpoints_go_with_stale_runs(trained, capsys):
    """Of a run that nobody will go on with, for its code is another now."""
    store = trained.path / ".ablation" / "checkpoints"
    key, found = next(iter(trained.records().items()))
    origin = found["record"]["origin"]
    kept = {
        key: origin,
        "a" * 32: {**origin, "code": "other", "libraries": []},
        "b" * 32: {**origin, "python": "3.4.1"},
        "c" * 32: {**origin, "train": "gone:train"},  # of a study that is not selected, perhaps
        "d" * 32: {**origin, "label": "own other"},  # of a seed that no case has now
        "e" * 32: None,
    }
    for name, of in kept.items():
        CheckpointFolder(store / name, key=name, origin=of).write(1, {}, {}, {})
    (store / f".new-{'a' * 32}-12345678").mkdir()
    with FileLock(store.parent / "locks" / f"{'a' * 32}.lock"):
        status, lines, err = told(capsys, "remove", "--stale", "--yes")
        assert (status, lines[-1][:23]) == (1, "2 checkpoints: frees 1.")
        assert f"{'a' * 32} is being trained just now" in err
        assert {path.name[0] for path in store.iterdir()} == set("acde.") | {key[0]}
        assert told(capsys, "remove", "--checkpoints", "--yes")[0] == 1
        names = sorted(path.name for path in store.iterdir())
        assert names == [f".new-{'a' * 32}-12345678", "a" * 32], "half of it is being written"
    assert told(capsys, "remove", "--stale", "--yes")[0] == 0
    assert [path.name[0] for path in store.iterdir()] == ["."]
    assert len(trained.records()) == 6


def test_all_means_what_sessions_made_and_nothing_else(trained, runs, tmp_path_factory, capsys):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_text("mine")
    store = trained.path / ".ablation"
    (runs / ("e" * 32)).symlink_to(outside)
    next(runs.glob("[0-9a-f]*/history.csv")).unlink()
    link = next(path for path in runs.iterdir() if not path.is_symlink()) / "more"
    link.symlink_to(outside)
    (runs / "notes by hand").mkdir()
    (store / "damaged").mkdir()
    (store / "damaged" / "old").symlink_to(outside)
    (store / "cache" / "vectors").write_text("kept")
    (store / "checkpoints").symlink_to(outside)
    assert told(capsys, "remove", "--all", "--yes")[0] == 0
    assert content(outside) == {"precious": b"mine"}
    assert [path.name for path in runs.iterdir()] == ["notes by hand"]
    assert (store / "cache" / "vectors").read_text() == "kept"
    assert list((store / "damaged").iterdir()) == []


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["record.json", "history.csv", "predictions.npz",
                                  "model.safetensors"])  # fmt: skip
def test_verify_finds_one_wrong_byte_in_any_file(trained, runs, capsys, name):
    assert told(capsys, "verify") == (0, ["6 runs read: 6 whole, 0 damaged, 0 left over"], "")
    file = next(runs.glob(f"*/{name}"))
    flip_a_byte(file)
    status, lines, _ = told(capsys, "verify")
    assert status == 1
    assert lines[0].startswith(f"damaged: {file.parent}")
    assert "6 runs read: 5 whole, 1 damaged, 0 left over" in lines
    assert file.exists()
    status, lines, _ = told(capsys, "verify", "--set-aside")
    assert (status, lines[1]) == (1, "  moved to damaged/")
    assert told(capsys, "verify")[0] == 0
    assert [path.name[:32] for path in (runs.parent / "damaged").iterdir()] == [file.parent.name]


def test_verify_tells_what_killed_sessions_left(trained, runs, capsys):
    key = next(iter(trained.records()))
    (runs / f".new-{key}-0123abcd").mkdir()
    (runs / "by hand.txt").write_text("")
    status, lines, _ = told(capsys, "verify")
    assert status == 1
    assert lines[0].startswith(f"left over: runs/.new-{key}-0123abcd")
    assert lines[1].startswith("no run: runs/by hand.txt")
    with FileLock(runs.parent / "locks" / f"{key}.lock"):  # it is being written just now
        assert told(capsys, "verify")[0] == 0


def test_damaged_runs_are_listed_and_removed(trained, runs, capsys):
    file = next(runs.glob("*/record.json"))
    file.write_text(file.read_text()[:50])
    (runs.parent / "damaged" / f"{'a' * 32}-12345678").mkdir(parents=True)
    _, lines, _ = told(capsys, "list", "--no-collect")
    assert [line.split()[1] for line in lines if line.startswith(file.parent.name[:12])] == [
        "damaged"
    ]
    status, lines, _ = told(capsys, "show", file.parent.name, "--no-collect")
    assert (status, any(line.startswith("damaged: ") for line in lines)) == (1, True)
    status, lines, _ = told(capsys, "remove", "--damaged", "--yes")
    assert status == 0
    assert lines[-1].startswith("1 run, 1 damaged record: frees ")
    assert not file.parent.exists()
    assert len(trained.records()) == 5


@pytest.mark.skipif(os.name != "posix", reason="a terminal of POSIX")
@pytest.mark.parametrize(
    ("typed", "status", "left"), [("\n", 1, 6), ("\x03", 1, 6), ("\x04", 1, 6), ("yes\n", 0, 5)]
)
def test_the_question_at_a_terminal_is_answered(trained, runs, typed, status, left):
    ours, its = os.openpty()
    command = [sys.executable, "-m", "pytest_ablation", "runs", "remove", min(trained.records())]
    code = "import os, sys; os.setsid(); os.close(os.open(os.ttyname(0), os.O_RDWR)); "
    code += "os.execv(sys.argv[1], sys.argv[1:])"  # the terminal is the command's own now
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command], stdin=its, stdout=its, stderr=subprocess.PIPE
    )
    os.close(its)
    screen = b""
    while b"[y/N]" not in screen:
        screen += os.read(ours, 1000)
    os.write(ours, typed.encode())
    assert process.communicate(timeout=LIMIT)[1] == b""
    assert process.returncode == status
    os.close(ours)
    assert len([path for path in runs.iterdir() if path.name[0] != "."]) == left
