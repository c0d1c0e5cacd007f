"""Heat maps: checked when made, told by a run, kept with its record."""

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from records_by_hand import replace_file
from sample_heat_maps import VALUES, make_maps

from pytest_ablation import Mode, Run
from pytest_ablation.digests import digest
from pytest_ablation.heat_maps import HeatMaps
from pytest_ablation.record_files import files_of
from pytest_ablation.store import DamagedRecord, Store

# --- what is made ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool"])
def test_numbers_of_any_kind_become_read_only_floats_of_ones_own(dtype):
    given_values = (VALUES * 3).astype(dtype)
    maps = make_maps(given_values)
    before = given_values.copy()
    given_values[:] = 0
    np.testing.assert_array_equal(maps.values, before)
    assert maps.values.dtype == (np.float32 if dtype == "float32" else np.float64)
    with pytest.raises(ValueError, match="read-only"):
        maps.values[0] = 1


def test_a_tensor_is_taken_too():
    torch = pytest.importorskip("torch")
    maps = HeatMaps(
        values=torch.ones(1, 1, 1, requires_grad=True), panels=["p"], rows=["r"], columns=["c"],
        title="t", caption="",
    )  # fmt: skip
    assert maps.values.dtype == np.float32


def test_maps_are_equal_where_words_and_numbers_are():
    assert make_maps() == make_maps(VALUES.copy())
    assert make_maps() != make_maps(VALUES + 1)
    assert make_maps() != make_maps(leading=1)
    assert make_maps().texts == make_maps().texts != make_maps(VALUES + 1).texts


def with_value(value):
    values = VALUES.copy()
    values[1, 1, 2] = value
    return {"values": values}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_value(np.nan), "1 of 12 values are not finite"),
        (with_value(-np.inf), "1 of 12 values are not finite"),
        ({"values": VALUES[0]}, r"the labels are \(2, 2, 3\): found float64 of shape \(2, 3\)"),
        ({"values": VALUES[:, :, :2]}, r"found float64 of shape \(2, 2, 2\)"),
        ({"values": VALUES.astype(str)}, "values must be numbers"),
        ({"values": VALUES.astype(object)}, "values must be numbers"),
        ({"values": VALUES * 1j}, "values must be numbers"),
        ({"rows": ["only one"]}, r"the labels are \(2, 1, 3\)"),
        ({"rows": "ab"}, "rows must be a list of texts, found 'ab'"),
        ({"columns": [1, 2, 3]}, "columns must be a list of texts"),
        ({"panels": None}, "panels must be a list of texts"),
        ({"findings": "a sentence"}, "findings must be a list of texts"),
        ({"title": " "}, "title must say what the maps show"),
        ({"caption": None}, "caption must be a text, found None"),
        ({"measure": 3}, "measure must be a text, found 3"),
        ({"leading": 2}, "leading must be an integer of 0 to 1, found 2"),
        ({"leading": -1}, "leading must be an integer of 0 to 1, found -1"),
        ({"leading": True}, "leading must be an integer of 0 to 1, found True"),
        ({"across": 0}, "across must be an integer of 1 or more, found 0"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_what_was_found(changes, message):
    texts = dataclasses.asdict(make_maps().texts)
    del texts["digest"]
    with pytest.raises(ValueError, match=message):
        HeatMaps(**{"values": VALUES, **texts, **changes})


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_maps_without_a_cell_are_an_error(shape):
    with pytest.raises(ValueError, match="at least one of each"):
        make_maps(np.zeros(shape))


# --- what a run tells -----------------------------------------------------------------------------


def make_run(**options):
    return Run(seed=0, mode=Mode(seeds=1), device="cpu", **options)


@pytest.mark.parametrize(
    "name", ["", "Attention", "a b", "a_b", "a/b", "..", "-a", "a-", "x" * 41, "curves", "a-all",
             5, None, "ä", "a\n"],
)  # fmt: skip
def test_a_name_that_is_no_part_of_a_file_name_is_an_error(name):
    with pytest.raises(ValueError, match="1 to 40 lower-case letters, digits and dashes"):
        make_run().heat_maps(name, make_maps())


def test_something_else_than_heat_maps_is_an_error():
    with pytest.raises(TypeError, match=r"expects HeatMaps .*, found ndarray"):
        make_run().heat_maps("attention", VALUES)


def test_told_again_they_are_replaced():
    run = make_run()
    run.heat_maps("attention", make_maps())
    run.heat_maps("attention", make_maps(VALUES + 1))
    run.heat_maps("file", make_maps())
    record = run.finish({})
    assert record.heat_maps == {
        "attention": make_maps(VALUES + 1).texts,
        "file": make_maps().texts,
    }


# --- what is kept ---------------------------------------------------------------------------------


def keep(folder, run, **metrics):
    store = Store(folder)
    store.prepare()
    record = run.finish(metrics, key="k", config={})
    store.put(record.key, files_of(record, run.predictions, heat_maps=run.told_heat_maps))
    return store, record


@pytest.fixture
def kept(tmp_path):
    """A store with one run that told heat maps."""
    run = make_run()
    run.heat_maps("attention", make_maps(findings=["It looks."], across=2, measure="weight"))
    run.heat_maps("file", make_maps(np.float32(VALUES[:1])))
    return keep(tmp_path, run)[0]


@settings(max_examples=30)
@given(
    values=arrays.arrays(
        st.sampled_from([np.float32, np.float64]),
        arrays.array_shapes(min_dims=3, max_dims=3, max_side=3),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    word=st.text(),
    leading=st.integers(0, 10),
)
def test_maps_come_back_from_the_store_as_they_were_told(tmp_path_factory, values, word, leading):
    rows = [f"{word}{n}" for n in range(values.shape[1])]
    maps = make_maps(
        values, rows=rows, title=f"t{word}", caption=word, findings=[word],
        leading=leading % len(values),
    )  # fmt: skip
    run = make_run()
    run.heat_maps("a", maps)
    store, record = keep(tmp_path_factory.mktemp("store"), run)
    assert store.read("k").heat_maps == record.heat_maps
    back = store.heat_maps("k")
    assert back == {"a": maps}
    assert back["a"].values.dtype == maps.values.dtype
    np.testing.assert_array_equal(back["a"].values, maps.values)


def test_a_record_without_heat_maps_says_nothing_of_them(tmp_path):
    store, record = keep(tmp_path, make_run())
    assert "heat_maps" not in (store.runs / "k" / "record.json").read_text()
    assert not (store.runs / "k" / "heat_maps.npz").exists()
    assert store.read("k") == record
    assert store.heat_maps("k") == store.heat_maps("unknown") == {}


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def test_the_numbers_are_not_read_with_every_record(kept):
    flip_a_byte(kept.runs / "k" / "heat_maps.npz")
    assert kept.read("k").heat_maps.keys() == {"attention", "file"}
    with pytest.raises(DamagedRecord, match=r"heat_maps\.npz"):
        kept.heat_maps("k")
    kept.set_aside("k")
    assert kept.read("k") is None
    assert len(list((kept.root / "damaged").iterdir())) == 1


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_numbers_that_are_not_whole_damage_the_record(kept, damage):
    file = kept.runs / "k" / "heat_maps.npz"
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[:-1])
    with pytest.raises(DamagedRecord):
        kept.read("k")


def put_in_place(store, **values):
    """Other numbers under the same record, with checksums that agree."""
    archive = io.BytesIO()
    np.savez(archive, **values)
    replace_file(store.runs / "k", "heat_maps.npz", archive.getvalue())


def test_nothing_is_unpickled(kept):
    class Harmful:
        def __reduce__(self):
            return pytest.fail, ("it was unpickled",)

    pickled = np.array([[[Harmful()]]])
    put_in_place(kept, **{"maps-attention": pickled, "maps-file": pickled})
    assert kept.read("k") is not None
    with pytest.raises(DamagedRecord, match="Object arrays cannot be loaded"):
        kept.heat_maps("k")


def test_numbers_of_another_run_are_refused(kept):
    put_in_place(kept, **{"maps-attention": VALUES + 1, "maps-file": np.float32(VALUES[:1])})
    with pytest.raises(DamagedRecord, match="the values of 'Attention' are not those that"):
        kept.heat_maps("k")


def test_a_session_keeps_what_its_runs_tell_and_reuses_it(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    code = project.path / "softmax.py"
    tell = (
        "    from pytest_ablation.heat_maps import HeatMaps\n"
        "    run.heat_maps('weights', HeatMaps(values=weights[None], panels=['all'], rows=list(\n"
        "        'xyb'), columns=list('abc'), title='Weights', caption='', findings=['Seen.']))\n"
        "    run.save_weights({'weights': weights}, about={'classes': '[\"a\"]'})\n"
    )
    code.write_text(code.read_text().replace("    run.parameters", tell + "    run.parameters"))
    options = ["-m", "quick", "--ablation-save-models"]
    assert "6 runs: 6 trained, 0 reused" in project.run(*options).outlines
    store = Store(project.path / ".ablation")
    for key in project.records():
        (maps,) = store.heat_maps(key).values()
        np.testing.assert_array_equal(maps.values, kept_weights(store, key)[None])
    assert "6 runs: 0 trained, 6 reused" in project.run(*options).outlines


def kept_weights(store, key):
    from safetensors import safe_open

    with safe_open(store.model_path(key), framework="numpy") as file:
        assert file.metadata()["classes"] == '["a"]'
        return file.get_tensor("weights")


# --- what is said about weights -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config", "seed", "key", "train"])
@pytest.mark.parametrize("keep_weights", [True, False])
def test_the_harness_s_own_names_are_refused(name, keep_weights):
    with pytest.raises(ValueError, match=f"'{name}' is written by the harness"):
        make_run(keep_weights=keep_weights).save_weights({}, about={name: "x"})


@pytest.mark.parametrize("about", [{"classes": ["a"]}, {"n": 3}, {5: "x"}, {"a": None}])
def test_what_is_kept_about_weights_is_text(about):
    with pytest.raises(TypeError, match="is text"):
        make_run().save_weights({}, about=about)


def test_what_is_said_about_weights_stands_beside_them_and_not_in_their_digest(tmp_path):
    from safetensors import safe_open

    runs = [make_run(keep_weights=True) for _ in range(2)]
    runs[0].save_weights({"w": VALUES}, about={"words": "ü"})
    runs[1].save_weights({"w": VALUES})
    records = [run.finish({}, key="k", config={"a": 1}) for run in runs]
    assert records[0].outcome["weights"] == records[1].outcome["weights"] == digest({"w": VALUES})
    for number, (run, record) in enumerate(zip(runs, records, strict=True)):
        store = Store(tmp_path / str(number))
        store.prepare()
        store.put(
            record.key, files_of(record, weights=run.weights, train="here:train", about=run.about)
        )
        with safe_open(store.model_path("k"), framework="numpy") as file:
            expected = {"config": '{"a": 1}', "seed": "0", "key": "k", "train": "here:train"}
            assert file.metadata() == expected | ({} if number else {"words": "ü"})
