"""A reference holds what the runs gave, to the bit, and where they come from."""

import json
import math
import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from told_sessions import (
    EXAMPLES,
    ROWS,
    make_study,
    reference_in,
    right,
    session,
    write,
)

from pytest_ablation import Variant
from pytest_ablation.mode import Mode
from pytest_ablation.provenance import revision
from pytest_ablation.reference import (
    Reference,
    correct_arrays,
    problems,
    read_reference,
    reference_of,
    write_reference,
)
from pytest_ablation.reference_types import (
    Correctness,
    ReferenceRow,
    ReferenceRun,
    ReferenceStudy,
)
from pytest_ablation.store import DamagedRecord

# --- what it holds -----------------------------------------------------------------------------


def test_it_holds_what_the_runs_gave(reference):
    study = reference.studies["parts"]
    assert reference.mode == "quick"
    assert list(study.rows) == ROWS
    assert {name: row.baseline for name, row in study.rows.items()} == {
        "baseline": None, "narrow": "baseline", "also_narrow": "baseline", "wide": "narrow",
    }  # fmt: skip
    assert study.margins == {"top1": 0.005, "loss": 0.25, "rank": 0.005}
    assert [study.is_better_higher(metric) for metric in study.metrics] == [True, False, True]
    for name, width in (("baseline", 16), ("narrow", 8), ("also_narrow", 8), ("wide", 32)):
        row = study.rows[name]
        assert list(row.runs) == [0, 1, 2]
        assert row.status == "ok"
        for seed, run in row.runs.items():
            assert run.seed == seed
            assert run.metrics["top1"] == right(width, seed).mean()
            assert run.metrics["loss"] == 1 / 3 + seed
            np.testing.assert_array_equal(run.correct["top1"].array(), right(width, seed))
            assert list(run.correct) == ["top1"]  # rank: not 0 and 1; loss: no metric of the gate
    assert study.rows["also_narrow"].same_as == "narrow"


def test_what_comes_back_from_the_file_is_what_went_in(reference, reference_text, tmp_path):
    path = write(tmp_path / "quick.json", reference_text)
    assert read_reference(path) == reference
    assert read_reference(path, "quick") == reference
    assert read_reference(str(path)) == reference
    back = read_reference(path).studies["parts"]
    assert list(back.rows) == ROWS


def test_a_report_folder_is_read_by_its_results(reference, tmp_path):
    write_reference(tmp_path / "quick" / "results.json", reference)
    assert read_reference(tmp_path / "quick") == reference
    assert [path.name for path in (tmp_path / "quick").iterdir()] == ["results.json"]


def test_the_same_results_give_the_same_bytes_but_for_the_facts(tmp_path):
    texts = []
    for number, order in enumerate((None, ["wide", "also_narrow", "narrow"])):
        again = reference_in(tmp_path / str(number), rows=order)
        write_reference(tmp_path / "again.json", again)
        texts.append((tmp_path / "again.json").read_text())
    first, second = (
        [line for line in content.splitlines() if '"date"' not in line] for content in texts
    )
    assert first == second


def test_in_the_file_a_run_takes_one_line_and_stands_there_once(reference_text):
    lines = [line for line in reference_text.splitlines() if '"outcome"' in line]
    assert len(lines) == 9  # also_narrow has the runs of narrow
    assert all('"top1"' in line and '"bits"' in line for line in lines)
    assert any(
        line.strip() == '"width": 8,' or line.strip() == '"width": 8'
        for line in reference_text.splitlines()
    )
    rows = json.loads(reference_text)["studies"]["parts"]["rows"]
    assert rows["also_narrow"]["runs"] == {}
    assert rows["also_narrow"]["same_seeds"] == [0, 1, 2]


def test_rows_of_the_same_model_may_differ_in_their_number_of_seeds(reference, tmp_path):
    study = reference.studies["parts"]
    narrow = study.rows["narrow"]
    fewer = {seed: narrow.runs[seed] for seed in (1,)}
    more = {**narrow.runs, 7: study.rows["wide"].runs[0].__class__(
        **{**vars(narrow.runs[0]), "seed": 7})}  # fmt: skip
    for runs in (fewer, more):
        rows = {**study.rows}
        rows["also_narrow"] = ReferenceRow(**{**vars(rows["also_narrow"]), "runs": runs})
        changed = Reference("quick", {"parts": ReferenceStudy(**{**vars(study), "rows": rows})},
                            reference.made)  # fmt: skip
        write_reference(tmp_path / "other.json", changed)
        assert read_reference(tmp_path / "other.json") == changed


def test_forty_rows_of_twelve_seeds_stay_small(tmp_path):
    generator = np.random.default_rng(0)
    digest = "0123456789abcdef" * 2
    metrics = ("top1", "top2", "validation_top1")
    config = {f"a_longer_name_{i}": i / 7 for i in range(20)}

    def row(number):
        runs = {
            seed: ReferenceRun(
                seed, dict.fromkeys(metrics, float(generator.random())),
                {name: Correctness.of(generator.random(310) < 0.8) for name in metrics},
                digest, digest, digest,
            )
            for seed in range(12)
        }  # fmt: skip
        return ReferenceRow(f"row_{number}", None, digest, digest, runs, "ok", config=config)

    rows = {f"row_{number}": row(number) for number in range(40)}
    study = ReferenceStudy("s", metrics, metrics, (), dict.fromkeys(metrics, 0.005), rows)
    made = {"date": "", "commit": None, "uncommitted": None, "python": "", "plugin": None,
            "libraries": {}, "machines": []}  # fmt: skip
    path = tmp_path / "full.json"
    write_reference(path, Reference("full", {"s": study}, made))
    assert path.stat().st_size < 400_000
    assert read_reference(path).studies == {"s": study}


def test_what_failed_is_kept_for_a_reader_but_is_a_problem(tmp_path):
    whole = reference_in(tmp_path / "a")
    assert problems(whole) == []
    lacking = reference_in(tmp_path / "b", skip=("narrow",))
    row = lacking.studies["parts"].rows["narrow"]
    assert (row.status, row.runs, row.configuration) == ("missing", {}, "")
    found = "\n".join(problems(lacking))
    assert "parts, narrow: its status is missing" in found
    assert "parts, wide: its status is missing" in found  # its baseline's runs are
    assert "baseline" not in found
    write_reference(tmp_path / "results.json", lacking)
    assert read_reference(tmp_path) == lacking


def test_a_selection_of_rows_is_a_problem(tmp_path):
    (found,) = problems(reference_in(tmp_path, rows=["narrow"]))
    assert "also_narrow" in found
    assert "wide" in found


def test_a_variant_without_effect_is_a_problem(tmp_path):
    study = make_study(variants=[Variant("idle", rate=0.2)])
    assert problems(reference_in(tmp_path, study)) == ["parts, idle: its status is no_effect"]


def test_nothing_at_all_is_a_problem_and_two_modes_are_an_error(reference, tmp_path):
    assert problems(Reference("quick", {}, reference.made))
    result, store = session(make_study(full=Mode(seeds=1)), tmp_path)
    full, _ = session(make_study(full=Mode(seeds=1)), tmp_path, mode="full")
    for results in ([], [result, full]):
        with pytest.raises(ValueError, match="one mode"):
            reference_of(results, store.predictions, tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(reference, reference_text, tmp_path):
    path = write(tmp_path / "quick.json", reference_text)
    broken = Reference("quick", reference.studies, {"date": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        write_reference(path, broken)
    assert path.read_text() == reference_text
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):  # noqa: PT011 (a folder stands in its place)
        write_reference(tmp_path / "folder", reference)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "quick.json"]


# --- bits --------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_correctness_comes_back_bit_by_bit(bits):
    for kind in (bool, np.int64, np.float32):
        packed = Correctness.of(np.array(bits, kind))
        assert packed.array().tolist() == bits
        assert packed == Correctness.of(np.array(bits))
        assert len(packed.packed) == math.ceil(len(bits) / 8)
        assert packed.array().dtype == bool


@settings(max_examples=40)
@given(
    st.dictionaries(st.integers(0, 2**70), st.tuples(
        st.floats(allow_nan=False, allow_infinity=False),
        st.lists(st.booleans(), min_size=1, max_size=40),
    ), max_size=4),
    st.dictionaries(
        st.text(max_size=5), st.none() | st.text(max_size=5) | st.floats(0, 1), max_size=3
    ),
)  # fmt: skip
def test_any_numbers_bits_and_settings_survive_the_file(tmp_path_factory, runs, config):
    made = {"date": "d", "commit": "c", "uncommitted": True, "python": "p", "plugin": "0",
            "libraries": {"numpy": "2"}, "machines": [{"cores": 2, "device": None}]}  # fmt: skip
    by_seed = {
        seed: ReferenceRun(seed, {"m": value}, {"m": Correctness.of(np.array(bits))}, "a" * 32)
        for seed, (value, bits) in runs.items()
    }
    rows = {"r": ReferenceRow("r", None, "b" * 32, "", by_seed, "ok", config=config)}
    study = ReferenceStudy("s", ("m",), ("m",), (), {"m": 0.0}, rows, budget=config)
    reference = Reference("full", {"s": study}, made)
    path = tmp_path_factory.mktemp("any") / "r.json"
    write_reference(path, reference)
    back = read_reference(path, "full")
    assert back == reference
    assert list(back.studies["s"].rows["r"].runs) == sorted(runs)
    for seed, run in back.studies["s"].rows["r"].runs.items():  # == takes -0.0 for 0.0
        assert math.copysign(1, run.metrics["m"]) == math.copysign(1, runs[seed][0])


def test_only_zeros_and_ones_under_a_metrics_name_are_correctness():
    arrays = {
        "bool": np.array([True, False]), "float": np.array([0.0, 1.0]), "int": np.array([0, 1]),
        "other": np.array([0, 1]), "rank": np.array([1, 2]), "nan": np.array([0, np.nan]),
        "square": np.eye(2), "empty": np.array([]), "scalar": np.array(1), "half": np.array([0.5]),
    }  # fmt: skip
    found = correct_arrays(arrays, [*(set(arrays) - {"other"}), "absent"])
    assert {name: array.tolist() for name, array in found.items()} == dict.fromkeys(
        ("bool", "float", "int"), None
    ) | {"bool": [True, False], "float": [False, True], "int": [False, True]}
    assert all(array.dtype == bool for array in found.values())


def test_the_store_gives_predictions_back_and_refuses_others(tmp_path):
    result, store = session(make_study(), tmp_path)
    run = result.row("narrow").runs[1]
    kept = store.predictions(run.key)
    assert sorted(kept) == ["rank", "scores", "top1", "top2"]
    np.testing.assert_array_equal(kept["top1"], right(8, 1))
    np.testing.assert_array_equal(kept["scores"], np.eye(EXAMPLES))
    assert store.predictions("0" * 32) == {}
    file = store.runs / run.key / "predictions.npz"
    np.savez(file, top1=np.array([{}], object))
    with pytest.raises(DamagedRecord, match="changed after it was written"):
        store.predictions(run.key)
    with pytest.raises(DamagedRecord):
        reference_of([result], store.predictions, tmp_path)


# --- facts -------------------------------------------------------------------------------------


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True,
                          capture_output=True, text=True)  # fmt: skip
    return done.stdout.strip()


def test_the_facts_say_where_the_results_come_from(reference):
    made = reference.made
    assert made["python"] == platform.python_version()
    assert made["libraries"]["numpy"] == np.__version__
    (machine,) = made["machines"]
    assert machine["machine"] == platform.machine()
    assert machine["cores"] == os.cpu_count()
    assert machine["device"] == "cpu"
    assert machine["processor"] is not None
    assert made["date"].endswith("+00:00")
    assert (made["commit"], made["uncommitted"]) == (None, None)  # pytest's folder is no repository


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_revision_is_that_of_the_repository(tmp_path):
    assert revision(tmp_path) == (None, None)
    git(tmp_path, "init", "-q")
    assert revision(tmp_path) == (None, None)  # before its first commit
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "log", "-1", "--format=%H")
    assert revision(tmp_path) == (commit, False)
    (tmp_path / "sub").mkdir()
    assert revision(tmp_path / "sub") == (commit, False)
    (tmp_path / "a.py").write_text("2")
    assert revision(tmp_path) == (commit, True)
    assert revision(tmp_path / "absent") == (None, None)


def test_without_git_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision(Path.cwd()) == (None, None)


def test_what_a_record_of_before_does_not_say_of_its_machine_is_none(tmp_path):
    result, store = session(make_study(), tmp_path)
    for run in result.runs.values():
        run.record.environment.pop("processor")
        run.record.environment.pop("cores")
    made = reference_of([result], store.predictions, tmp_path).made
    assert made["machines"][0]["processor"] is None
    assert made["machines"][0]["cores"] is None
