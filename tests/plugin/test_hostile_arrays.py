"""Whatever stands in a record's archives and model: it is numbers, or it is refused unread."""

import io
import zipfile

import numpy as np
import pytest
from records_by_hand import KEY, replace_file, store_of, whole_files

from pytest_ablation.store import DamagedRecord


@pytest.fixture(scope="module")
def files():
    return whole_files()


@pytest.fixture
def store(tmp_path, files):
    return store_of(tmp_path, files)


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def archive(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


class Harmful:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def huge_array():
    """The header of an array of 8 EiB, and none of its numbers."""
    out = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**60,)}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"PK\x03\x04 no archive",
        lambda: npz(top1=np.array([Harmful()], dtype=object)),
        lambda: archive(**{"top1.npy": b"\x93NUMPY\x01\x00\xff\xff{"}),
        lambda: archive(**{"top1.npy": huge_array()}),
        lambda: archive(**{"top1.npy": np.lib.format.MAGIC_PREFIX + b"\x09\x09"}),
        lambda: archive(**{"../../x": b"text"}),
        lambda: archive(**{"top1.npy": npz(a=np.ones(3))}),
        lambda: npz(top1=np.ones(3))[:-30],
        lambda: npz(top1=np.ones(300)).replace(b"\xf0?" * 1, b"\xf1?", 3),
    ],
    ids=range(10),
)
def test_an_archive_that_holds_no_numbers_says_so(store, make):
    replace_file(store.runs / KEY, "predictions.npz", make())
    replace_file(store.runs / KEY, "heat_maps.npz", make())
    assert store.read(KEY) is not None, "its record is whole, and the arrays are not yet asked for"
    with pytest.raises(DamagedRecord, match=r"predictions.npz holds no arrays"):
        store.predictions(KEY)
    with pytest.raises(DamagedRecord, match=r"heat_maps.npz"):
        store.heat_maps(KEY)


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(store, monkeypatch):
    monkeypatch.setattr("pytest_ablation.record_arrays._MOST_UNPACKED", 8 << 20)
    replace_file(store.runs / KEY, "predictions.npz", archive(**{"top1.npy": bytes(9 << 20)}))
    with pytest.raises(DamagedRecord, match="unpacked it would have 9 MiB"):
        store.predictions(KEY)


def test_an_archive_s_names_lead_nowhere(store, tmp_path):
    replace_file(store.runs / KEY, "predictions.npz", npz(**{"../../../x": np.ones(2)}))
    assert store.predictions(KEY).keys() == {"../../../x"}
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"maps-attention": np.zeros((2, 3, 3))},
        {"maps-attention": np.zeros((0, 3, 2))},
        {"maps-attention": np.full((2, 3, 2), np.nan)},
        {"maps-attention": np.array([["text"]])},
        {"maps-attention": np.zeros((2, 3, 2))},
    ],
)
def test_heat_maps_that_do_not_fit_their_words_are_refused(store, arrays):
    replace_file(store.runs / KEY, "heat_maps.npz", npz(**arrays))
    with pytest.raises(DamagedRecord, match="is not what its record says"):
        store.heat_maps(KEY)


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"\xff" * 8,
        (100).to_bytes(8, "little") + b"{}",
        (2**63).to_bytes(8, "little") + b"{}" * 9,
        (2).to_bytes(8, "little") + b"[]",
        (60).to_bytes(8, "little")
        + b'{"w":{"dtype":"F32","shape":[9999],"data_offsets":[0,4]}}'.ljust(60),
    ],
)
def test_a_model_with_a_hostile_header_is_refused(store, model):
    replace_file(store.runs / KEY, "model.safetensors", model)
    with pytest.raises(DamagedRecord, match=r"model\.safetensors is no file of safetensors"):
        store.model_path(KEY)


def test_a_model_may_be_removed_to_make_room(store):
    (store.runs / KEY / "model.safetensors").unlink()
    assert store.read(KEY, check_model=True) is not None
    assert store.model_path(KEY) is None
