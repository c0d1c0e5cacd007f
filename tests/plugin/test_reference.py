"""A reference holds what the runs gave, to the bit; its file is believed only where it is whole."""

import copy
import json
import math
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import only_study, planned

from pytest_ablation import Run, Study, Variant
from pytest_ablation.configuration import plain_values
from pytest_ablation.errors import AblationError
from pytest_ablation.mode import Mode
from pytest_ablation.planning import Planner
from pytest_ablation.provenance import revision
from pytest_ablation.reference import (
    Reference,
    ReferenceError,
    correct_arrays,
    problems,
    read_reference,
    reference_of,
    write_reference,
)
from pytest_ablation.reference_changes import configuration_changes, data_changes
from pytest_ablation.reference_json import SCHEMA_VERSION
from pytest_ablation.reference_types import (
    Correctness,
    ReferenceRow,
    ReferenceRun,
    ReferenceStudy,
)
from pytest_ablation.results import study_result
from pytest_ablation.store import DamagedRecord, Store
from pytest_ablation.study import CaseSpec

EXAMPLES = 21  # no multiple of eight
ROWS = ["baseline", "narrow", "also_narrow", "wide"]
MODULE = __name__


def right(width, seed):
    """Which examples a model of this width gets right with this seed."""
    return np.random.default_rng([width, seed]).random(EXAMPLES) < 0.7


def train(config, run):
    correct = right(config["width"], run.seed)
    run.use_data(train=[1, 2], evaluation=[3])
    run.save_predictions(
        top1=correct, top2=correct.astype(float), rank=np.arange(EXAMPLES), scores=np.eye(EXAMPLES)
    )
    run.save_weights({"w": np.full(3, config["width"], float)})
    return {"top1": float(correct.mean()), "loss": 1 / 3 + run.seed, "rank": 2.0}


def train_in_other_words(config, run):
    """The same results from other code."""
    result = train(config, run)
    return result


def make_study(*, width=16, fn=train, **changed):
    arguments = {
        "train": fn, "baseline": {"width": width, "rate": 0.1, "limit": math.inf},
        "variants": [Variant("narrow", width=8), Variant("also_narrow", width=8),
                     Variant("wide", against="narrow", width=32)],
        "metrics": ["top1", "loss", "rank"], "gate": ["top1", "rank"], "lower_is_better": ["loss"],
        "margin": {"loss": 0.25}, "quick": Mode(seeds=3, epochs=2),
    } | changed  # fmt: skip
    return Study("parts", **arguments)


def session(study, folder, *, rows=None, skip=(), mode="quick", seeds=None, session="session"):
    """What a session leaves: results from the records of its store, and the store."""
    store = Store(folder)
    store.prepare()
    names = rows or list(study.case_rows)
    cases = [(name, CaseSpec(study, name, mode)) for name in names]
    plan, specs = Planner(session, seeds, "cpu", None).plan(cases)
    records = {}
    for key, spec in specs.items():
        if spec.label.partition(" ")[2] in skip:
            continue
        run = Run(seed=spec.seed, mode=spec.mode, device="cpu")
        metrics = spec.train(spec.config, run)
        config = plain_values(spec.config)
        record = run.finish(metrics, key=key, mode_name=mode, config=config)
        store.write(record, run.predictions)
        records[key] = store.read(key)
    return study_result(only_study(plan), records, {}), store


def reference_in(folder, study=None, **wishes):
    result, store = session(study or make_study(), folder / "store", **wishes)
    return reference_of([result], store.predictions, folder)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return reference_in(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def text(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "quick.json"
    write_reference(path, reference)
    return path.read_text()


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


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


def test_what_comes_back_from_the_file_is_what_went_in(reference, text, tmp_path):
    path = write(tmp_path / "quick.json", text)
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


def test_in_the_file_a_run_takes_one_line_and_stands_there_once(text):
    lines = [line for line in text.splitlines() if '"outcome"' in line]
    assert len(lines) == 9  # also_narrow has the runs of narrow
    assert all('"top1"' in line and '"bits"' in line for line in lines)
    assert any(
        line.strip() == '"width": 8,' or line.strip() == '"width": 8' for line in text.splitlines()
    )
    rows = json.loads(text)["studies"]["parts"]["rows"]
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


def test_a_failed_write_leaves_the_old_file_and_nothing_else(reference, text, tmp_path):
    path = write(tmp_path / "quick.json", text)
    broken = Reference("quick", reference.studies, {"date": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        write_reference(path, broken)
    assert path.read_text() == text
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):  # noqa: PT011 (a folder stands in its place)
        write_reference(tmp_path / "folder", reference)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "quick.json"]


# --- digests -----------------------------------------------------------------------------------


def row_of(folder, study, **wishes):
    return reference_in(folder, study, **wishes).studies["parts"].rows["narrow"]


@pytest.mark.parametrize(
    "changed",
    [
        {"baseline": {"width": 16, "rate": 0.2, "limit": math.inf}},
        {"baseline": {"width": 16, "rate": 0.1, "limit": 1e9}},
        {"baseline": {"width": 16, "rate": 0.1, "limit": math.inf, "new": None}},
        {"quick": Mode(seeds=3, epochs=3)},
        {"quick": Mode(seeds=3, epochs=2, rows=(1, 2))},
        {"quick": Mode(seeds=3, epochs=2, table=np.arange(3))},
        {"quick": Mode(seeds=3, epochs=2, config={"rate": 0.7})},
    ],
    ids=["field", "infinite", "new field", "epochs", "new budget", "array", "mode's config"],
)
def test_the_configuration_digest_changes_with_configuration_and_budget(
    reference, tmp_path, changed
):
    row = row_of(tmp_path, make_study(**changed))
    assert row.configuration != reference.studies["parts"].rows["narrow"].configuration
    assert row.data == reference.studies["parts"].rows["narrow"].data


def test_an_array_in_the_budget_counts_with_its_content(tmp_path):
    digests = {
        row_of(tmp_path / name, make_study(quick=Mode(1, table=np.array(table)))).configuration
        for name, table in {"a": [1, 2], "b": [1, 2], "c": [1, 3]}.items()
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"quick": Mode(seeds=[2, 5], epochs=2)},
        {"quick": Mode(seeds=4, epochs=2)},
        {"fn": train_in_other_words},
        {"metrics": ["top1"], "gate": None, "lower_is_better": (), "margin": 0.1},
        {"variants": [Variant("narrow", width=8)]},
        {"baseline": {"limit": math.inf, "rate": 0.1, "width": 64}},
        {"baseline": {"width": 16, "rate": np.float64(0.1), "limit": math.inf}},
    ],
    ids=["seeds", "more seeds", "code", "metrics", "other rows", "a field it changes", "numpy"],
)
def test_the_configuration_digest_does_not_change_with_anything_else(reference, tmp_path, changed):
    old = reference.studies["parts"]
    new = reference_in(tmp_path, make_study(**changed)).studies["parts"]
    assert new.rows["narrow"].configuration == old.rows["narrow"].configuration
    assert configuration_changes(old, new, "narrow") == []
    assert data_changes(old.rows["narrow"], new.rows["narrow"]) == []


def test_records_of_this_process_and_of_the_store_give_the_same_digests(tmp_path):
    study = make_study(baseline={"width": 16, "rate": np.float64(0.1), "pair": (1, 2)},
                       variants=[Variant("narrow", width=8)])  # fmt: skip
    kept, store = session(study, tmp_path)
    plan, specs = planned(study)
    records = {}
    for key, spec in specs.items():
        run = Run(seed=spec.seed, mode=spec.mode, device="cpu")
        records[key] = run.finish(spec.train(spec.config, run), key=key, mode_name="quick",
                                  config=plain_values(spec.config))  # fmt: skip
    own = study_result(only_study(plan), records, {})
    first, second = (reference_of([r], store.predictions, tmp_path).studies for r in (kept, own))
    assert first == second


def test_what_came_out_has_one_digest_for_equal_bits(reference, tmp_path):
    again = row_of(tmp_path, make_study(fn=train_in_other_words))
    runs = reference.studies["parts"].rows["narrow"].runs
    assert [run.outcome for run in again.runs.values()] == [run.outcome for run in runs.values()]
    assert len({run.outcome for run in runs.values()}) == 3


def test_the_changes_of_a_configuration_are_told_field_by_field(reference, tmp_path):
    old = reference.studies["parts"]
    study = make_study(
        baseline={"width": 16, "limit": 1.5, "words": "x" * 200}, quick=Mode(seeds=3, epochs=7)
    )
    new = reference_in(tmp_path, study).studies["parts"]
    *told, words = sorted(configuration_changes(old, new, "narrow"))
    assert told == [
        'limit was "inf", is 1.5', "rate was 0.1, is not there", "the mode's epochs was 2, is 7",
    ]  # fmt: skip
    assert words.startswith('words was not there, is "xxx')
    assert len(words) < 100


@pytest.mark.parametrize("value", [1, 1.0, True, "1", None])
def test_values_of_other_types_are_other_configurations(tmp_path, value):
    study = make_study(baseline={"width": 16, "rate": 1, "limit": 2})
    other = make_study(baseline={"width": 16, "rate": value, "limit": 2})
    old, new = (
        reference_in(tmp_path / n, s).studies["parts"] for n, s in (("a", study), ("b", other))
    )
    is_same = type(value) is int
    assert (old.rows["wide"].configuration == new.rows["wide"].configuration) == is_same
    assert (configuration_changes(old, new, "wide") == []) == is_same


def data_study(told="v1", train_on=(1, 2), test_on=(3,), by_seed=False, **changed):
    def fn(config, run):
        result = train(config, run)
        shift = run.seed if by_seed else 0
        run.use_data(train=[x + shift for x in train_on], evaluation=list(test_on))
        return result

    return make_study(fn=fn, data=lambda config, data_dir: told, **changed)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"told": "v2"}, ["what the study's data function tells"]),
        ({"train_on": (1, 3)}, ["the training data (all seeds)"]),
        ({"test_on": (4,)}, ["the test data (all seeds)"]),
        ({"test_on": (4,), "quick": Mode(seeds=[8, 9], epochs=2)}, ["the test data"]),
        ({"quick": Mode(seeds=[8, 9], epochs=2)}, []),
        ({}, []),
    ],
    ids=["told", "training", "test", "test, other seeds", "other seeds", "nothing"],
)
def test_changes_of_the_data_are_told(tmp_path, changed, words):
    old = row_of(tmp_path / "a", data_study())
    new = row_of(tmp_path / "b", data_study(**changed))
    assert data_changes(old, new) == words
    assert data_changes(new, old) == words
    assert old.configuration == new.configuration


def test_data_that_hang_on_the_seed_are_compared_seed_by_seed(tmp_path):
    three = row_of(tmp_path / "a", data_study(by_seed=True))
    more = row_of(tmp_path / "b", data_study(by_seed=True, quick=Mode(seeds=5, epochs=2)))
    others = row_of(tmp_path / "c", data_study(by_seed=True, quick=Mode(seeds=[8, 9], epochs=2)))
    assert data_changes(three, more) == []
    assert data_changes(three, others) == []
    runs = {**more.runs, 1: ReferenceRun(**{**vars(more.runs[1]), "train_data": "0" * 32})}
    changed = ReferenceRow(**{**vars(more), "runs": runs})
    assert data_changes(three, changed) == ["the training data (seed 1)"]


def test_data_that_only_the_code_of_the_session_decides_keep_their_digest(tmp_path):
    """A function that carries an open file is trained anew each session, on the same data."""
    with open(os.devnull) as carried:

        def fn(config, run):
            assert carried is not None
            return train(config, run)

        rows = [
            row_of(
                tmp_path / name, make_study(fn=fn, data=lambda config, data_dir: 1), session=name
            )
            for name in "ab"
        ]
    assert data_changes(*rows) == []


# --- bits --------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_correctness_comes_back_bit_by_bit(bits):
    for kind in (bool, np.int64, np.float32):
        packed = Correctness.of(np.array(bits, kind))
        assert packed.array().tolist() == bits
        assert packed == Correctness.of(np.array(bits))
        assert len(packed.packed) == math.ceil(len(bits) / 8)
        assert packed.array().dtype == bool


@settings(max_examples=40, deadline=None)
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


# --- files that are not what they should be ----------------------------------------------------


def set_at(*place, value):
    """A change of a file's content: *value* at a place, removed where it is None."""

    def change(content):
        *way, last = place
        for name in way:
            content = content[name]
        if value is REMOVED:
            del content[last]
        else:
            content[last] = value

    return change


REMOVED = object()
STUDY = ("studies", "parts")
ROW = (*STUDY, "rows", "narrow")
RUN = (*ROW, "runs", "0")
BITS = (*RUN, "correct", "top1")
DIGEST = "0" * 32


def moved(place, old, new):
    def change(content):
        for name in place:
            content = content[name]
        content[new] = content.pop(old)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_at("mode", value="slow"), "mode: expected one of quick, full, found 'slow'"),
        (set_at("mode", value=["quick"]), "mode: expected a text"),
        (set_at("made", value=REMOVED), "it has no 'made'"),
        (set_at("made", "date", value=3), "made / date: expected a text"),
        (set_at("made", "uncommitted", value=1), "expected true, false or null"),
        (set_at("made", "machines", value=[[]]), "made / machines / 0: expected an object"),
        (set_at("made", "machines", value=[{"a": {}}]), "expected a text, a number or null"),
        (set_at("made", "libraries", value={"numpy": 2}), "libraries / numpy: expected a text"),
        (set_at("extra", value=1), "'extra' is not known here"),
        (set_at("studies", value=[]), "studies: expected an object"),
        (moved(("studies",), "parts", "../parts"), "study name '../parts' cannot be used"),
        (moved(("studies",), "parts", "a" * 81), "cannot be used"),
        (moved(("studies",), "parts", "=cmd()"), "cannot be used"),
        (set_at(*STUDY, "metrics", value=[]), "at least one metric"),
        (set_at(*STUDY, "metrics", value=["top1", "top1"]), "stands there twice"),
        (set_at(*STUDY, "metrics", value=[1]), "metric name 1 cannot be used"),
        (set_at(*STUDY, "metrics", value="top1"), "metrics: expected a list"),
        (set_at(*STUDY, "gate_metrics", value=["top9"]), "'top9' is none of the metrics"),
        (set_at(*STUDY, "lower_is_better", value=["top9"]), "'top9' is none of the metrics"),
        (set_at(*STUDY, "margins", "top1", value=REMOVED), "margins: it has no 'top1'"),
        (set_at(*STUDY, "margins", "top1", value=1), "expected a fraction from 0 to below 1"),
        (set_at(*STUDY, "margins", "top1", value=-0.1), "expected a fraction"),
        (set_at(*STUDY, "margins", "top1", value=True), "expected a number, found True"),
        (set_at(*STUDY, "budget", value=[]), "budget: expected an object"),
        (set_at(*STUDY, "not_selected", value=["a b"]), "cannot be used"),
        (moved((*STUDY, "rows"), "wide", "a/b"), "row name 'a/b' cannot be used"),
        (set_at(*STUDY, "rows", "baseline", value=REMOVED), "'baseline', which is not there"),
        (set_at(*ROW, "baseline", value="other"), "'other', which is not there"),
        (set_at(*ROW, "baseline", value=0), "baseline: expected a text"),
        (set_at(*ROW, "status", value="fine"), "expected one of ok,"),
        (set_at(*ROW, "configuration", value="abc"), "expected a digest"),
        (set_at(*ROW, "configuration", value=""), "expected a digest"),
        (set_at(*ROW, "configuration", value=DIGEST + "\n"), "expected a digest"),
        (set_at(*ROW, "data", value=None), "data: expected a text"),
        (set_at(*ROW, "config", value=[1]), "config: expected an object"),
        (set_at(*ROW, "same_as", value="wide"), "'wide' is no earlier row"),
        (set_at(*ROW, "same_as", value="narrow"), "'narrow' is no earlier row"),
        (set_at(*STUDY, "rows", "wide", "same_as", value="also_narrow"), "is no earlier row"),
        (set_at(*ROW, "same_seeds", value=[0]), "has no run of this seed"),
        (set_at(*STUDY, "rows", "also_narrow", "same_seeds", value=[0, 0]), "stands there twice"),
        (set_at(*STUDY, "rows", "also_narrow", "same_seeds", value=[5]), "no run of this seed"),
        (set_at(*STUDY, "rows", "also_narrow", "same_seeds", value=[True]), "an integer of 0"),
        (set_at(*STUDY, "rows", "also_narrow", "same_seeds", value=[0.0]), "an integer of 0"),
        (set_at(*ROW, "runs", value=[]), "runs: expected an object"),
        *((moved((*ROW, "runs"), "0", seed), "a seed is an integer of 0 or more")
          for seed in ("-1", "1.0", "01", "", "x", "\u0663", "1\n", "9" * 100)),
        (set_at(*RUN, "metrics", "loss", value=REMOVED), "metrics: it has no 'loss'"),
        (set_at(*RUN, "metrics", "top3", value=0.5), "'top3' is not known here"),
        (set_at(*RUN, "metrics", "top1", value="0.5"), "expected a number, found '0.5'"),
        (set_at(*RUN, "metrics", "top1", value=None), "expected a number, found None"),
        (set_at(*RUN, "metrics", "top1", value=False), "expected a number, found False"),
        (set_at(*RUN, "metrics", "top1", value=10**400), "one that is too large"),
        (set_at(*RUN, "outcome", value=""), "outcome: expected a digest"),
        (set_at(*RUN, "train_data", value="x"), "train_data: expected a digest"),
        (set_at(*RUN, "evaluation_data", value=7), "evaluation_data: expected a text"),
        (moved((*RUN, "correct"), "top1", "loss"), "none of the metrics that the study's gate"),
        (set_at(*BITS, value=[]), "correct / top1: expected an object"),
        (set_at(*BITS, "examples", value="21"), "an integer of 0 or more"),
        (set_at(*BITS, "examples", value=-1), "an integer of 0 or more"),
        (set_at(*BITS, "examples", value=0), "are not the bits of 0 examples"),
        (set_at(*BITS, "examples", value=25), "3 bytes are not the bits of 25 examples"),
        (set_at(*BITS, "examples", value=10**15), "are not the bits of 1e+15 examples"),
        (set_at(*BITS, "bits", value="////"), "are not the bits of 21 examples"),
        (set_at(*BITS, "bits", value="!!!!"), "it is no base64"),
        (set_at(*BITS, "bits", value="AAA"), "it is no base64"),
        (set_at(*BITS, "bits", value="\u00e4\u00e4\u00e4\u00e4"), "it is no base64"),
        (set_at(*BITS, "bits", value=7), "bits: expected a text"),
        (set_at(*RUN, "metrics", "top1", value=0.99), "its checksum is that of other content"),
        (set_at("checksum", value=DIGEST), "its checksum is that of other content"),
        (set_at("checksum", value=None), "checksum: expected a text"),
    ],
)  # fmt: skip
def test_a_file_that_was_changed_by_hand_says_where(text, tmp_path, change, words):
    content = json.loads(text)
    change(content)
    path = write(tmp_path / "quick.json", content)
    with pytest.raises(ReferenceError) as caught:
        read_reference(path)
    told = str(caught.value)
    assert words in told
    assert str(path) in told
    assert "--ablation-save-reference" in told
    assert len(told) < 600


def test_every_change_of_a_study_is_noticed(text, tmp_path):
    """Any number, word or name inside of ``studies``, changed to another of its kind."""
    content = json.loads(text)

    def places(value, way=()):
        if isinstance(value, dict):
            for name, member in value.items():
                yield from places(member, (*way, name))
        elif isinstance(value, list):
            for index, member in enumerate(value):
                yield from places(member, (*way, index))
        else:
            yield way, value

    others = {str: lambda v: v[:-1] + ("a" if v[-1:] != "a" else "b"), int: lambda v: v + 1,
              float: lambda v: math.nextafter(v, 0), type(None): lambda v: "wide"}  # fmt: skip
    found = list(places(content["studies"]))
    assert len(found) > 100
    for way, value in found:
        changed = copy.deepcopy(content)
        set_at("studies", *way, value=others[type(value)](value))(changed)
        with pytest.raises(ReferenceError):
            read_reference(write(tmp_path / "quick.json", changed))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no reference"),
        ("{", "is no reference"),
        ("hello", "is no reference"),
        ("[]", "it names no schema"),
        ("3", "it names no schema"),
        ("{}", "it names no schema"),
        ('{"schema": true}', "it names no schema"),
        ('{"schema": "1"}', "it names no schema"),
        ('{"schema": 1.0}', "it names no schema"),
        ('{"schema": 1}', "it has no 'mode'"),
        ('{"schema": 0}', "an older version of pytest-ablation: it has schema 0, expected 1"),
        ('{"schema": 99}', "a newer version of pytest-ablation: it has schema 99, expected 1"),
        ('{"schema": 1, "schema": 1}', "'schema' stands twice"),
        ('{"schema": NaN}', "NaN is no number of JSON"),
        ('{"schema": -Infinity}', "-Infinity is no number of JSON"),
        ('{"schema": 1e999}', "the number 1e999 is too large"),
        ('{"schema": ' + "9" * 5000 + "}", "is no reference"),
        ("[" * 100_000, "nested more than 40 deep"),
        ('{"a":' * 50 + "1" + "}" * 50, "nested more than 40 deep"),
        ("\ufeff{}", "is no reference"),
        ("<<<<<<< HEAD\n{}", "is no reference"),
    ],
)
def test_a_file_of_something_else_says_what_it_is(tmp_path, content, words):
    path = write(tmp_path / "quick.json", content)
    with pytest.raises(ReferenceError) as caught:
        read_reference(path)
    told = str(caught.value)
    assert words in told
    assert str(path) in told
    assert "--ablation-save-reference" in told
    assert len(told) < 500
    assert isinstance(caught.value, AblationError)


def test_two_versions_mixed_by_a_merge_are_noticed(reference, text, tmp_path):
    """A merge takes the lines of one run from theirs, and all else from ours."""
    other = reference_in(tmp_path, make_study(width=17))
    write_reference(tmp_path / "theirs.json", other)
    ours, theirs = text.splitlines(), (tmp_path / "theirs.json").read_text().splitlines()
    assert len(ours) == len(theirs)
    number = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True))
                  if a != b and '"outcome"' in a)  # fmt: skip
    mixed = [*ours[:number], theirs[number], *ours[number + 1 :]]
    with pytest.raises(ReferenceError, match="two versions of it merged"):
        read_reference(write(tmp_path / "mixed.json", "\n".join(mixed)))
    crlf = write(tmp_path / "crlf.json", text.replace("\n", "\r\n"))  # git on Windows
    assert read_reference(crlf) == reference


def test_bytes_that_are_no_text_and_places_without_a_file(tmp_path):
    path = tmp_path / "quick.json"
    with pytest.raises(ReferenceError, match=r"no reference .*quick\.json: save one with --abl"):
        read_reference(path)
    with pytest.raises(ReferenceError, match=r"no reference .*results\.json"):
        read_reference(tmp_path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ReferenceError, match="is no reference: 'utf-8' codec"):
        read_reference(path)
    with pytest.raises(ReferenceError, match="there is no reference"):
        read_reference(path / "results.json")
    (tmp_path / "odd" / "results.json").mkdir(parents=True)
    with pytest.raises(ReferenceError, match="cannot be read"):
        read_reference(tmp_path / "odd")


def test_another_mode_than_wanted_is_an_error(text, tmp_path):
    path = write(tmp_path / "full.json", text)
    with pytest.raises(ReferenceError, match=r"mode 'quick', expected 'full'.*-m full --ablation-"):
        read_reference(path, "full")


def test_the_schema_is_the_one_of_this_version(text):
    assert json.loads(text)["schema"] == SCHEMA_VERSION == 1


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
