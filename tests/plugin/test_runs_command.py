"""``python -m pytest_ablation runs``: what is in a store, what is stale, and how it goes away."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from projects import Project, set_environment

from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.cli import main
from pytest_ablation.run_text import age, size

VARIANTS = 'Variant("no_bias", use_bias=False), Variant("wild", learning_rate=1e200)'


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """Six runs, of which two diverge, with the models of the others."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch)
        project = Project(tmp_path_factory.mktemp("trained"))
        project.write_study(VARIANTS)
        train(project)
    return project


def train(project):
    project.run("-m", "quick", "--ablation-seeds=2", "--ablation-save-models")


@pytest.fixture
def trained(project, trained_once, monkeypatch):
    project.copy(trained_once)
    monkeypatch.chdir(project.path)
    return project


@pytest.fixture
def runs(trained):
    """The folder of the kept runs."""
    return trained.path / ".ablation" / "runs"


def told(capsys, *words):
    """Exit status, lines of standard output, and standard error of a command."""
    status = main(["runs", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err


def content(folder):
    """Every file below a folder, with its bytes; links and empty folders too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.is_symlink()
        for path in sorted(folder.rglob("*"))
    }


def test_each_run_has_a_line_of_80_columns(trained, runs, capsys):
    status, (header, *lines), err = told(capsys, "list")
    assert (status, err) == (0, "")
    assert header.split() == "key label seed mode result size age state".split()
    rows, totals = lines[:6], lines[6:]
    assert {row.split()[0] for row in rows} == {path.name[:12] for path in runs.iterdir()}
    assert [row.split()[1:5] for row in rows] == [
        ["softmax", name, str(seed), "quick"] for name in ("baseline", "no_bias", "wild")
        for seed in (0, 1)
    ]  # fmt: skip
    by_label = {row.split()[2]: row.split()[5] for row in rows}
    assert by_label == {"baseline": "top1", "no_bias": "top1", "wild": "diverged"}
    assert all(row.endswith(" current") for row in rows)
    assert max(map(len, lines)) <= 80
    total = sum(path.stat().st_size for path in runs.glob("*/*"))
    assert totals == [f"6 runs, {size(total)}; checkpoints/ 0 (0B), damaged/ 0 (0B), cache/ 0 (0B)"]


def test_json_has_whole_keys_and_all_metrics(trained, runs, capsys):
    main(["runs", "list", "--json", "--no-collect"])
    listed = json.loads(capsys.readouterr().out)
    records = trained.records()
    assert {run["key"] for run in listed["runs"]} == records.keys()
    for run in listed["runs"]:
        record = records[run["key"]]["record"]
        assert run["metrics"] == record["metrics"]
        assert (run["seed"], run["status"]) == (record["seed"], record["status"])
        files = (runs / run["key"]).iterdir()
        assert run["bytes"] == sum(path.stat().st_size for path in files)
    assert listed["count"] == 6
    assert listed["store"] == str(trained.path / ".ablation")


CODE = ("normal(0, 0.1, (3, 3))", "normal(0, 0.2, (3, 3))")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rewrite(file, edit):
    """Change a record.json, as another time or another version would have written it."""
    import hashlib

    found = json.loads(file.read_text())
    del found["checksum"]
    edit(found)
    checksum = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(found | {"checksum": checksum}))


def states(capsys, *options):
    """The states in the list, and the reasons under it."""
    status, lines, err = told(capsys, "list", *options)
    assert status == 0
    rows = [line.split() for line in lines[1:] if line.split()[-1] in WORDS]
    reasons = [line for line in lines if line[:1].isdigit() and line.split()[1][:-1] in WORDS]
    return {(row[2], row[3]): row[-1] for row in rows}, reasons, err


WORDS = ("current", "stale", "unused", "unknown", "damaged")


def test_runs_of_other_code_are_stale_and_can_be_removed_alone(trained, runs, capsys):
    change(trained.path / "softmax.py", *CODE)
    found, reasons, _ = states(capsys)
    assert set(found.values()) == {"stale"}
    assert reasons == ["6 stale: code changed"]
    train(trained)  # six more, of the code as it is now
    kept = {path.name for path in runs.iterdir()}
    assert len(kept) == 12
    status, lines, _ = told(capsys, "remove", "--stale", "--yes")
    assert status == 0
    assert lines[-1].startswith("6 runs: frees ")
    assert set(states(capsys)[0].values()) == {"current"}
    assert len(list(runs.iterdir())) == 6


def test_other_libraries_data_and_cases_are_told_apart(trained, runs, capsys):
    named = {}
    for path in runs.glob("*/record.json"):
        record = json.loads(path.read_text())["record"]
        named[record["origin"]["label"].split()[1], record["seed"]] = path

    def now(name):
        return json.loads(named["baseline", 0].read_text())["record"]["origin"]["libraries"][name]

    def move(path, edit):
        """To another key, for this one is what the project would train."""
        key = path.parent.name[::-1]
        rewrite(path, lambda of: (edit(of), of["record"].update(key=key)))
        path.parent.rename(path.parent.with_name(key))

    move(named["no_bias", 0], lambda of: of["record"]["origin"]["libraries"].update(numpy="1.0"))
    move(named["no_bias", 1], lambda of: of["record"]["origin"].update(data="d" * 32))
    move(named["wild", 0], lambda of: of["record"]["origin"].update(train="gone:train"))
    move(named["wild", 1], lambda of: (of["record"].pop("origin"), of.update(schema=2)))
    move(named["baseline", 1], lambda of: of["record"]["environment"].update(python="3.4.1"))
    (runs / ("f" * 32)).mkdir()
    found, reasons, _ = states(capsys)
    assert found["baseline", "0"] == "current"
    assert sorted(reasons) == [
        f"1 damaged: {runs}/{'f' * 32} has no record.json",
        f"1 stale: Python 3.4 -> {sys.version_info[0]}.{sys.version_info[1]}",
        "1 stale: data changed",
        f"1 stale: numpy 1.0 -> {now('numpy')}",
        "1 unknown: it does not say what it is of, as those of older versions",
        "1 unused: no selected study trains with gone:train",
    ]


def test_a_case_that_is_gone_leaves_unused_runs(trained, capsys):
    change(trained.path / "test_softmax.py", 'Variant("no_bias", use_bias=False),', "")
    found, reasons, _ = states(capsys)
    assert {name: state for (name, _), state in found.items()} == {
        "baseline": "current", "no_bias": "unused", "wild": "current",
    }  # fmt: skip
    assert reasons == ["2 unused: no selected case needs it"]


def test_a_project_that_cannot_be_collected_says_so_once(trained, capsys):
    (trained.path / "test_softmax.py").write_text("import nowhere\n")
    found, reasons, err = states(capsys)
    assert set(found.values()) == {"unknown"}
    assert reasons == ["6 unknown: the project could not be collected"]
    assert err.count("states are unknown: ") == 1
    before = content(trained.path / ".ablation")
    status, _, err = told(capsys, "remove", "--stale", "--yes")
    assert status == 1
    assert "could be collected" in err
    assert content(trained.path / ".ablation") == before


def test_options_after_two_dashes_reach_pytest(trained, capsys):
    status, lines, _ = told(capsys, "list", "--", "--ablation-device=cpu")
    assert status == 0
    assert lines[-1] == "6 unused: no selected case needs it"  # keys are of the device asked for


def test_listing_trains_and_changes_nothing(trained, capsys):
    before = content(trained.path / ".ablation")
    told(capsys, "list")
    told(capsys, "show", next(iter(trained.records())), "--no-collect")
    told(capsys, "verify")
    locks = {name for name in content(trained.path / ".ablation") if name.startswith("locks/")}
    after = content(trained.path / ".ablation")
    assert {n: c for n, c in after.items() if n not in locks} == {
        n: c for n, c in before.items() if n not in locks
    }


def test_show_tells_all_of_one_record(trained, capsys):
    key, found = next((k, c) for k, c in trained.records().items() if c["record"]["metrics"])
    status, lines, _ = told(capsys, "show", key[:10])
    assert status == 0
    assert lines[:3] == [f"key: {key}", f"label: {found['record']['origin']['label']}",
                         "state: current"]  # fmt: skip
    record = found["record"]
    for name, value in record["metrics"].items():
        assert f"  {name}: {value}" in lines
    for name in (*record["config"], *record["environment"], *record["cost"], *found["files"]):
        assert any(line.startswith(f"  {name}: ") for line in lines), name
    assert any(line.startswith("history: ") for line in lines)


def test_the_beginning_of_a_key_must_mean_one_run(trained, runs, capsys):
    for tail in ("0", "1"):
        shutil.copytree(next(iter(runs.iterdir())), runs / ("abcd" * 7 + "abc" + tail))
    status, _, err = told(capsys, "show", "abcd", "--no-collect")
    assert status == 1
    assert "2 keys begin with 'abcd': " + "abcd" * 7 + "abc0" in err
    for prefix, says in (("ffff0000", "no run has a key"), ("", "is short"), ("a*", "is short"),
                         ("../../", "no run has a key")):  # fmt: skip
        status, _, err = told(capsys, "remove", prefix, "--yes")
        assert (status, says in err) == (1, True)
    assert len(list(runs.iterdir())) == 8


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


def test_no_text_from_a_record_moves_the_cursor(trained, runs, capsys):
    file = next(runs.glob("*/record.json"))
    evil = "\x1b[2J\r\n\u202eevil"
    rewrite(file, lambda of: of["record"]["origin"].update(label=evil, train=evil))
    rewrite(file, lambda of: of["record"]["notes"].update({evil: evil}))
    (runs / evil).mkdir()
    for words in (["list", "--no-collect"], ["show", file.parent.name, "--no-collect"], ["verify"]):
        _, lines, err = told(capsys, *words)
        assert "evil" in "".join(lines)
        assert all(line.isprintable() for line in [*lines, *err.splitlines()])


def test_a_store_that_is_none_says_so(project, capsys):
    for words in (["list"], ["show", "abcd"], ["remove", "--all"], ["verify"]):
        for place in ("nowhere", "pytest.ini", "a\nb"):
            status, _, err = told(capsys, *words, "--store", project.path / place)
            assert (status, "there is no store in " in err) == (1, True)
    assert not (project.path / "nowhere").exists()


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
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == status
    os.close(ours)
    assert len([path for path in runs.iterdir() if path.name[0] != "."]) == left


def test_who_reads_along_may_stop(trained):
    command = f"{sys.executable} -m pytest_ablation runs list --no-collect | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("key ")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1.0K"), (1024, "1.0K"), (10_240, "10K"), (1023_000, "999K"),
     (1 << 20, "1.0M"), (1 << 40, "1.0T"), (1 << 52, "4096T")],
)  # fmt: skip
def test_sizes_are_short(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-9e9, "0m"), (59, "0m"), (61, "1m"), (7200, "2h"), (86400 * 3, "3d"), (86400 * 2000, "5y")],
)
def test_ages_are_short(seconds, text):
    assert age(0.0, seconds) == text


def test_paths_are_looked_up_where_the_user_stands(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained.path / ".ablation")
    assert told(capsys, "list", "--store", ".", "--no-collect")[0] == 0
    assert Path.cwd() == trained.path / ".ablation"
    assert os.listdir("runs")
