"""``python -m pytest_ablation runs``: what is in a store, and what of it is stale."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from records_by_hand import rewrite
from runs_commands import content, told, train

from pytest_ablation.planned_runs import OpenStudy, Planned, PlannedRun
from pytest_ablation.run_text import age, size
from pytest_ablation.staleness import state_of_origin


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
    _, lines, _ = told(capsys, "list", "--json", "--no-collect")
    listed = json.loads("\n".join(lines))
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


ORIGIN = {"train": "m:train", "code": "c" * 32, "data": "d" * 32, "libraries": {"numpy": "2.1"}}


@pytest.mark.parametrize(
    ("mode", "changes", "word"),
    [
        ("full", {}, "unknown"),
        ("alone", {}, "unknown"),  # trained outside pytest: a full case may take it
        ("quick", {}, "unused"),
        ("full", {"data": "e" * 32}, "unknown"),
        ("quick", {"data": "e" * 32}, "stale"),
        ("full", {"code": "e" * 32}, "unknown"),  # the open study's own
        ("full", {"code": "f" * 32}, "stale"),
        ("full", {"libraries": {"numpy": "1.0"}}, "stale"),
        ("full", {"train": "m:other"}, "unknown"),
        ("quick", {"train": "m:other"}, "unused"),
    ],
)
def test_only_runs_that_an_open_study_may_need_are_unknown(mode, changes, word):
    """Its baseline is the best cell of a grid that is not trained yet."""
    known = PlannedRun("m:train", "c" * 32, "d" * 32, {"numpy": "2.1"})
    why = "its rows are known when its grid is trained"
    trained_by = [("m:train", "c" * 32), ("m:train", "e" * 32), ("m:other", "c" * 32)]
    studies = [OpenStudy("parts", "full", *of, why) for of in trained_by]
    planned = Planned({"key": known}, {}, tuple(studies), "3.11")
    assert state_of_origin("key", ORIGIN, "3.11.2", planned, mode).word == "current"
    state = state_of_origin("old", ORIGIN | changes, "3.11.2", planned, mode)
    assert state.word == word
    assert word != "unknown" or state.reason == f"perhaps one of parts (full): {why}"


def test_a_run_of_a_study_that_hangs_on_a_grid_is_perhaps_one_of_it(trained, capsys):
    (trained.path / "test_open.py").write_text(OPEN)
    (trained.path / "test_softmax.py").unlink()
    found, reasons, err = states(capsys)
    assert set(found.values()) == {"unknown"}

    (reason,) = reasons
    assert reason.startswith("6 unknown: perhaps one of parts (quick): its rows are known when ")
    assert err == "not all runs are known of parts (quick): its rows are known when its grid is " \
        "trained\n"  # fmt: skip


OPEN = """
from pytest_ablation import Mode, Study, Variant
from softmax import BASELINE, train

grid = Study.grid("grid", train=train, baseline=BASELINE, axes={"momentum": [0.0, 0.2]},
                  metrics=["top1"], select="top1", quick=Mode(seeds=2, epochs=3))
parts = Study("parts", train=train, baseline=BASELINE, metrics=["top1"],
              variants=[Variant("no_bias", use_bias=False)],
              quick=Mode(seeds=2, epochs=3, config=grid.best()))

@parts.cases
def test_parts(ablation):
    ablation.run()
"""


def test_the_row_of_a_label_is_seen_in_80_columns(trained, runs, capsys):
    def rename(content):
        origin = content["record"]["origin"]
        origin["label"] = origin["label"].replace("softmax", "a-study-with-a-long-name")

    for file in runs.glob("*/record.json"):
        rewrite(file, rename)
    _, lines, _ = told(capsys, "list", "--no-collect")
    assert max(map(len, lines)) <= 80
    assert [line.split()[2] for line in lines[1:7]] == [
        "baseline", "baseline", "no_bias", "no_bias", "wild", "wild",
    ]  # fmt: skip


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


def test_who_reads_along_may_stop(trained):
    command = f"{shlex.quote(sys.executable)} -m pytest_ablation runs list --no-collect | head -1"
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
