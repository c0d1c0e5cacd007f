"""Models kept with the runs: whole, checked, of the weights that the run ended with."""

import json
import os

import numpy as np
import pytest
from in_process import planned
from projects import trained_project
from safetensors import safe_open
from safetensors.numpy import load_file

from pytest_ablation import Mode, Run, Study, Variant
from pytest_ablation.digests import digest
from pytest_ablation.errors import AblationError
from pytest_ablation.record_files import files_of
from pytest_ablation.store import Store
from pytest_ablation.training import Workplace, obtain

VARIANT = 'Variant("no_bias", use_bias=False)'
SAVE = "--ablation-save-models"


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    return trained_project(tmp_path_factory.mktemp("trained"), VARIANT, SAVE)


@pytest.fixture
def trained(project, trained_once):
    """A project of its own for this test, whose six runs are kept with their models."""
    project.copy(trained_once)
    return project


def models(project):
    return sorted((project.path / ".ablation" / "runs").glob("*/model.safetensors"))


def run_files(project):
    runs = (project.path / ".ablation" / "runs").iterdir()
    return {path.name: {file.name for file in path.iterdir()} for path in runs}


def test_a_kept_model_gives_the_predictions_of_its_run(trained):
    records = trained.records()
    assert len(models(trained)) == len(records) == 6
    rng = np.random.default_rng(2)  # the test split of softmax.py, and its model, once more
    labels = rng.integers(0, 3, 100)
    centres = np.array([[0.0, 2.0], [2.0, -1.0], [-1.5, -1.0]])
    x = centres[labels] + rng.normal(0, 1.3, (100, 2))
    for file in models(trained):
        record = records[file.parent.name]["record"]
        arrays = load_file(file)
        assert digest(arrays) == record["outcome"]["weights"]
        bias = np.full(100, float(record["config"]["use_bias"]))
        with np.load(file.parent / "predictions.npz") as kept:
            scores = np.column_stack([x, bias]) @ arrays["weights"]
            np.testing.assert_array_equal(kept["scores"], scores)


def test_a_kept_model_says_what_it_is(trained):
    store = Store(trained.path / ".ablation")
    for key, content in trained.records().items():
        with safe_open(store.model_path(key), framework="numpy") as file:
            said = file.metadata()
        record = content["record"]
        assert json.loads(said.pop("config")) == record["config"]
        assert said == {"seed": str(record["seed"]), "key": key, "train": "softmax:train"}


def test_without_the_option_no_model_is_kept(project):
    project.write_study(VARIANT)
    project.run("-m", "quick")
    plain = {"record.json", "history.csv", "predictions.npz"}
    assert set(map(frozenset, run_files(project).values())) == {frozenset(plain)}
    key = next(iter(project.records()))
    assert Store(project.path / ".ablation").model_path(key) is None
    assert Store(project.path / ".ablation").model_path("unknown") is None


def test_runs_without_a_model_are_trained_again_once_under_the_same_keys(project):
    project.write_study(VARIANT)
    assert "6 runs: 6 trained, 0 reused" in project.run("-m", "quick").outlines
    before, summary = project.records(), project.summary_bytes()
    assert "6 runs: 6 trained, 0 reused" in project.run("-m", "quick", SAVE).outlines
    assert project.summary_bytes() == summary
    assert project.records().keys() == before.keys()
    assert len(models(project)) == 6
    assert "6 runs: 0 trained, 6 reused" in project.run("-m", "quick", SAVE).outlines
    assert "6 runs: 0 trained, 6 reused" in project.run("-m", "quick").outlines
    assert len(models(project)) == 6, "a session without the option keeps what is there"


@pytest.mark.parametrize("workers", [["-n", "2"], ["--ablation-jobs=2"]])
def test_models_are_kept_by_whichever_process_trains(project, workers):
    project.write_study(VARIANT)
    result = project.run("-m", "quick", SAVE, *workers, jobs=None)
    assert "6 runs: 6 trained, 0 reused" in result.outlines
    assert len(models(project)) == 6


def test_a_run_that_told_no_weights_is_reused(project):
    project.write_study(VARIANT)
    code = project.path / "softmax.py"
    code.write_text(code.read_text().replace('    run.save_weights({"weights": weights})\n', ""))
    project.run("-m", "quick", SAVE)
    assert models(project) == []
    assert "6 runs: 0 trained, 6 reused" in project.run("-m", "quick", SAVE).outlines


def test_a_run_that_fails_while_its_model_is_wanted_is_not_reported_from_older_sessions(project):
    project.write_study(VARIANT)
    code = project.path / "softmax.py"
    fails = "    if os.path.exists('fail'):\n        raise RuntimeError('now it fails')\n"
    code.write_text(code.read_text().replace("    x, y = points(", fails + "    x, y = points(", 1))
    project.run("-m", "quick")
    (project.path / "fail").touch()
    project.run("-m", "quick", SAVE).assert_outcomes(failed=1, deselected=1)
    assert (project.row("no_bias")["status"], project.row("no_bias")["n_seeds"]) == ("failed", "0")
    assert len(project.records()) == 6
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def truncate(file):
    os.truncate(file, file.stat().st_size - 1)


@pytest.mark.parametrize(
    ("damage", "options"),
    [(flip_a_byte, [SAVE]), (truncate, [SAVE]), (truncate, [])],
)
def test_a_damaged_model_is_warned_of_set_aside_and_trained_again(trained, damage, options):
    damage(models(trained)[0])
    result = trained.run("-m", "quick", *options)
    result.assert_outcomes(passed=1, deselected=1, warnings=1)
    result.stdout.fnmatch_lines(["*RecordWarning: *trained again, the damaged record is set*"])
    assert "6 runs: 1 trained, 5 reused" in result.outlines
    assert len(models(trained)) == 5 + len(options)
    assert len(list((trained.path / ".ablation" / "damaged").iterdir())) == 1


def test_a_model_that_was_removed_to_make_room_costs_its_run_only_where_models_are_wanted(trained):
    models(trained)[0].unlink()
    result = trained.run("-m", "quick")
    result.assert_outcomes(passed=1, deselected=1)
    assert "6 runs: 0 trained, 6 reused" in result.outlines
    assert "6 runs: 1 trained, 5 reused" in trained.run("-m", "quick", SAVE).outlines
    assert len(models(trained)) == 6
    assert not (trained.path / ".ablation" / "damaged").exists()


def test_a_damaged_model_is_mended_by_the_next_session_where_warnings_are_errors(trained):
    flip_a_byte(models(trained)[0])
    strict = ["-m", "quick", SAVE, "-W", "error::pytest_ablation.errors.RecordWarning"]
    trained.run(*strict).assert_outcomes(failed=1, deselected=1)
    trained.run(*strict).assert_outcomes(passed=1, deselected=1)


def test_a_flipped_byte_is_found_at_the_latest_when_the_model_is_used(trained):
    file = models(trained)[0]
    flip_a_byte(file)
    assert "6 runs: 0 trained, 6 reused" in trained.run("-m", "quick").outlines
    with pytest.raises(AblationError, match=r"model\.safetensors was changed after it was written"):
        Store(trained.path / ".ablation").model_path(file.parent.name)


def test_the_option_without_the_package_is_a_usage_error_with_advice(project):
    project.write_study(VARIANT)
    code = (
        "import sys; sys.modules['safetensors'] = None; import pytest; "
        f"sys.exit(pytest.main(['-m', 'quick', {SAVE!r}, '--ablation-jobs=1']))"
    )
    result = project.python("-c", code)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {SAVE} needs the package safetensors*pip install*"])


# --- the run interface alone ---------------------------------------------------------------


def make_run(keep_weights=True):
    return Run(seed=0, mode=Mode(seeds=1), keep_weights=keep_weights)


def kept(tmp_path, state):
    """What is read back of a model with this state, and the digest in its record."""
    run = make_run()
    run.save_weights(state)
    record = run.finish({"top1": 0.5}, key="k", config={"b": [1, None], "a": "ü"})
    store = Store(tmp_path)
    store.prepare()
    store.put(record.key, files_of(record, run.predictions, run.weights, "here:train"))
    return load_file(store.model_path("k")), store.read("k").outcome["weights"]


def test_arrays_of_every_layout_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    state = {
        "plain": rng.normal(size=(2, 3)),
        "transposed": rng.normal(size=(3, 4)).T,
        "every other": rng.normal(size=9)[::2],
        "scalar": np.float32(3.5),
        "empty": np.zeros((0, 3), np.float16),
        "counts": np.arange(3),
        "mask": np.array([True, False]),
    }
    arrays, recorded = kept(tmp_path, state)
    assert digest(arrays) == digest(state) == recorded
    assert arrays["scalar"].shape == ()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "bool"])
def test_torch_tensors_of_every_kind_come_back_exactly(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[0.0, 1.0], [3.140625, -2.0]]).to(getattr(torch, dtype))
    arrays, recorded = kept(tmp_path, {"w": tensor})
    np.testing.assert_array_equal(arrays["w"], tensor.double().numpy())
    assert digest(arrays) == recorded


def test_a_model_is_kept_as_it_was_when_it_was_told():
    torch = pytest.importorskip("torch")
    run = make_run()
    parameter = torch.ones(3)
    run.save_weights({"w": parameter})
    parameter += 1  # training goes on, or another epoch's weights are loaded
    np.testing.assert_array_equal(run.weights["w"], [1, 1, 1])


@pytest.mark.parametrize(
    "array",
    [np.array([1j]), np.array(["a"]), np.array([None]), np.zeros(2, np.longdouble)],
    ids=["complex", "text", "object", "longdouble"],
)
def test_weights_that_cannot_be_kept_are_an_error_with_advice_only_where_they_are_kept(array):
    with pytest.raises(TypeError, match=r"weights 'odd' are .*convert them, or leave them out"):
        make_run().save_weights({"odd": array})
    run = make_run(keep_weights=False)
    run.save_weights({"odd": array})
    assert run.weights is None


def obtained(tmp_path, session, *, fresh=True, save_models=False):
    """The record of one run, and its model, as this session and the store have them then."""
    study = Study("s", train=told_weights, baseline={"scale": 1.0}, metrics=["top1"],
                  variants=[Variant("v", scale=2.0)], quick=Mode(seeds=1))  # fmt: skip
    spec = next(iter(planned(study)[1].values()))
    store = Store(tmp_path)
    store.prepare()
    place = Workplace(
        store=tmp_path, journal=tmp_path / "sessions" / session, session=session, fresh=fresh,
        device="cpu", device_index=0, data_dir=None, threads=1, save_models=save_models,
    )  # fmt: skip
    record = obtain(spec, place)
    assert record.session == session
    assert store.read(spec.key) == record
    path = store.model_path(spec.key)
    return record, None if path is None else load_file(path)["w"].tolist()


def told_weights(config, run):
    path = os.environ.get("_TEST_CHANCE")  # what a GPU's order of additions would do
    run.save_weights({"w": np.float32([config["scale"], 0.0 if path is None else float(path)])})
    return {"top1": 0.5}


def test_a_model_that_one_session_keeps_is_not_lost_to_another_that_trains_the_run_again(
    tmp_path, monkeypatch
):
    """Two sessions with --ablation-fresh at once, of which one keeps models."""
    assert obtained(tmp_path, "other")[1] is None
    first, model = obtained(tmp_path, "keeps", save_models=True)
    monkeypatch.setenv("_TEST_CHANCE", "0.5")
    again, other = obtained(tmp_path, "fresh")
    assert (model, other) == ([1.0, 0.0], [1.0, 0.5]), "each record has the model of its weights"
    assert first.outcome["weights"] != again.outcome["weights"]


def test_a_model_that_was_removed_to_make_room_is_not_kept_again_unasked(tmp_path):
    record, _ = obtained(tmp_path, "keeps", save_models=True)
    Store(tmp_path).model_path(record.key).unlink()
    assert obtained(tmp_path, "fresh")[1] is None
