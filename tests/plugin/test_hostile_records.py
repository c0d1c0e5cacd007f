"""Whatever stands in a record's folder: it is read as what it is, or it is called damaged."""

import copy
import csv
import hashlib
import io
import json
import math
import os
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records_by_hand import (
    KEY,
    replace_file,
    store_of,
    told_run,
    whole_files,
    write_signed,
)

from pytest_ablation.record import HistoryRow
from pytest_ablation.record_files import files_of
from pytest_ablation.store import DamagedRecord


@pytest.fixture(scope="module")
def files():
    return whole_files()


@pytest.fixture
def store(tmp_path, files):
    return store_of(tmp_path, files)


def write_record(store, content):
    write_signed(store.runs / KEY / "record.json", content)


def assert_sane_or_damaged(store):
    """Nothing but a whole record, which can be written and read again, or the word for it."""
    try:
        record = store.read(KEY)
    except DamagedRecord as problem:
        told = str(problem)
    else:
        assert_sane(record)
        return
    assert str(store.runs) in told
    assert len(told) < 1000


def assert_sane(record):
    assert record.key == KEY
    assert record.status in ("ok", "diverged")
    assert all(type(v) in (int, float) and math.isfinite(v) for v in record.metrics.values())
    again = json.loads(files_of(replace(record))["record.json"])["record"]
    assert json.dumps(again, sort_keys=True) == json.dumps(
        json.loads(json.dumps(record.to_json())), sort_keys=True
    )
    assert all(re.fullmatch("[a-z0-9-]{1,40}", name) for name in record.heat_maps), "file names"
    " ".join(map(str, [record.message, *record.notes.values(), *record.metrics])).encode()


def places(content, at=()):
    """The way to each value of a JSON document, all that hold others included."""
    yield at
    if isinstance(content, (dict, list)):
        for name in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[name], (*at, name))


def with_value(content, at, value):
    content = copy.deepcopy(content)
    place = content
    for name in at[:-1]:
        place = place[name]
    if value is MISSING:
        del place[at[-1]]
    else:
        place[at[-1]] = value
    return content


MISSING = object()
HOSTILE = [
    MISSING, None, True, False, 0, -1, 1e308, -0.0, math.nan, math.inf, 2**63, 10**400, "", "x",
    "inf", "nan", "../../x", "/etc/passwd", "\ud800", "\x1b[2J\x00", "a" * 5000, [], [[]], [None],
    {}, {"a": 1}, {"": {}}, {"__reduce__": ["os.system", ["true"]]},
]  # fmt: skip


def test_every_field_may_hold_anything_else(store, files):
    content = json.loads(files["record.json"])
    tried = 0
    for number, at in enumerate(list(places(content))[1:]):
        for value in HOSTILE[number % 2 :: 2]:
            write_record(store, with_value(content, at, value))
            assert_sane_or_damaged(store)
            tried += 1
    assert tried > 1000
    assert {p.name for p in store.runs.iterdir()} == {KEY}


@pytest.mark.parametrize(
    "name", ["../../x", "/x", "", "record", "\ud800", "x" * 5000, "\0", "cost"]
)
def test_every_field_may_have_another_name(store, files, name):
    content = json.loads(files["record.json"])
    for at in list(places(content))[1:]:
        if isinstance(at[-1], str):
            held = content
            for step in at:
                held = held[step]
            changed = with_value(content, at, MISSING)
            write_record(store, with_value(changed, (*at[:-1], name), held))
            assert_sane_or_damaged(store)


words = st.text(max_size=5)
SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, suppress_health_check=SUPPRESSED)
@given(data=st.data())
def test_any_values_in_any_fields(store, files, data):
    content = json.loads(files["record.json"])
    for _ in range(data.draw(st.integers(1, 3))):
        ways = [at for at in places(content) if at]
        content = with_value(content, data.draw(st.sampled_from(ways)), data.draw(json_values))
    write_record(store, content)
    assert_sane_or_damaged(store)


@settings(max_examples=80, suppress_health_check=SUPPRESSED)
@given(name=st.sampled_from(["record.json", "history.csv", "predictions.npz"]), data=st.data())
def test_a_file_of_other_bytes_is_never_read(store, files, name, data):
    whole = files[name]
    start = data.draw(st.integers(0, len(whole)))
    other = data.draw(st.sampled_from([whole[:start], whole[:start] + b"\x00" + whole[start + 1 :],
                                       whole + b" ", b""]) | st.binary(max_size=40))  # fmt: skip
    if other == whole:
        return
    path = store.runs / KEY / name
    path.write_bytes(other)
    try:
        if name == "record.json" and other.strip() == whole:  # a JSON text may end with a blank
            assert store.read(KEY) is not None
        else:
            with pytest.raises(DamagedRecord):
                store.read(KEY)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested"),
        ('{"a":' * 100_000, "nested"),
        ('{"schema": 3, "schema": 3}', "stands twice"),
        ('{"schema": 1e400}', "too large"),
        ('{"schema": ' + "9" * 5000 + "}", "is not whole"),
        ('{"schema": 99}', "has schema 99; this version reads 1, 2 and 3. A newer version"),
        ('{"schema": true}', "has schema True"),
        ('{"schema": 3.0}', "has schema 3.0"),
        ('{"schema": -1}', "has schema -1; this version reads 1, 2 and 3"),
        ('{"schema": "3"}', "has schema '3'"),
        ("3", "is not whole"),
        ("null", "is not whole"),
        ("", "is not whole"),
        ("\ufeff{}", "is not whole"),
        ("cos\nsystem\n(S'true'\ntR.", "is not whole"),
    ],
    ids=lambda value: value[:12],
)
def test_a_record_that_is_no_record_says_what_it_is(store, text, says):
    (store.runs / KEY / "record.json").write_text(text)
    with pytest.raises(DamagedRecord, match=f"record.json.*{says}|{says}"):
        store.read(KEY)
    assert store.set_aside(KEY)
    assert store.read(KEY) is None
    assert len(list((store.root / "damaged").iterdir())) == 1


def test_a_huge_file_is_refused_unread(store):
    for name, size in (("record.json", 500 << 20), ("history.csv", 5 << 30)):
        path = store.runs / KEY / name
        whole = path.read_bytes()
        os.truncate(path, size)  # sparse: takes no room
        with pytest.raises(DamagedRecord, match=r"(500|5120) MiB: expected at most (64|256) MiB"):
            store.read(KEY)
        path.write_bytes(whole)
    assert store.read(KEY) is not None


def test_a_history_of_gigabytes_is_refused_unread_even_where_its_size_agrees(store):
    size = 5 << 30
    os.truncate(store.runs / KEY / "history.csv", size)
    content = json.loads((store.runs / KEY / "record.json").read_text())
    for schema, sizes in ((3, {"history.csv": size}), (1, {})):
        write_record(store, content | {"schema": schema, "sizes": content["sizes"] | sizes})
        with pytest.raises(DamagedRecord, match="5120 MiB: expected at most 256 MiB"):
            store.read(KEY)


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/hostname", "sub/x", "..", ".", "", "\0", "record.json", "more.npz"]
)
def test_no_other_file_is_opened_for_a_record(store, name):
    content = json.loads((store.runs / KEY / "record.json").read_text())
    content["files"][name] = hashlib.sha256(b"").hexdigest()
    content["sizes"][name] = 0
    write_record(store, content)
    with pytest.raises(DamagedRecord, match="which no run has"):
        store.read(KEY)


NAMES = ["record.json", "history.csv", "predictions.npz", "heat_maps.npz", "model.safetensors"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "dangling link", "link to itself"])
def test_what_is_no_file_is_neither_read_nor_waited_for(store, tmp_path, name, kind):
    path = store.runs / KEY / name
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        aims = {"link": elsewhere, "dangling link": tmp_path / "nowhere", "link to itself": path}
        path.symlink_to(aims[kind])
    with pytest.raises(DamagedRecord, match="expected a file"):
        store.read(KEY, check_model=True)
    assert store.set_aside(KEY)
    assert elsewhere.exists()


def test_a_run_s_folder_that_is_a_link_is_not_followed(store, tmp_path, files):
    elsewhere = tmp_path / "elsewhere"
    (store.runs / KEY).rename(elsewhere)
    (store.runs / KEY).symlink_to(elsewhere)
    with pytest.raises(DamagedRecord, match="is a link: expected a folder"):
        store.read(KEY)
    store.put(KEY, files)
    assert store.read(KEY) is not None
    assert not (store.runs / KEY).is_symlink()
    assert {path.name for path in elsewhere.iterdir()} == files.keys()


@pytest.mark.parametrize("make", [lambda p: p.touch(), lambda p: p.symlink_to("nowhere")])
def test_what_stands_in_the_place_of_a_run_is_set_aside(store, files, make):
    other = "f" * 32
    make(store.runs / other)
    with pytest.raises(DamagedRecord, match="expected a folder"):
        store.read(other)
    assert store.set_aside(other)
    assert store.read(other) is None
    assert store.read(KEY) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "epoch,split,metric\n",
        "epoch,split,metric,value\n1,train,loss\n",
        "epoch,split,metric,value\n1,train,loss,0.5,0.5\n",
        "epoch,split,metric,value\none,train,loss,0.5\n",
        "epoch,split,metric,value\n1,train,loss,half\n",
        "epoch,split,metric,value\n" + "9" * 5000 + ",train,loss,0.5\n",
        "epoch,split,metric,value\n" + "9" * 50 + ",train,loss,0.5\n",
        "epoch,split,metric,value\n1,train," + "x" * 200_000 + ",0.5\n",
        'epoch,split,metric,value\n1,train,"loss,0.5\n',
        "epoch,split,metric,value\n1,train,lo\0ss\n",
        b"epoch,split,metric,value\n1,train,\xff,0.5\n",
    ],
    ids=range(12),
)
def test_broken_rows_of_a_history_damage_the_record(store, text):
    replace_file(
        store.runs / KEY, "history.csv", text if isinstance(text, bytes) else text.encode()
    )
    with pytest.raises(DamagedRecord):
        store.read(KEY)


def test_what_nobody_could_read_again_is_not_written(monkeypatch):
    run = told_run()
    told = {"key": KEY, "mode_name": "quick", "config": {}}
    record = run.finish({"top1": 0.5}, **told)
    rows = [HistoryRow(2**70, "train", "loss", 0.5)]
    with pytest.raises(ValueError, match="an epoch that is too large"):
        files_of(replace(record, history=tuple(rows)))
    deep = []
    for _ in range(60):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 40 deep"):
        files_of(replace(record, config={"deep": deep}))
    monkeypatch.setitem(files_of.__globals__["_MOST_BYTES"], "history.csv", 10)
    with pytest.raises(ValueError, match=r"so much that its history\.csv has"):
        files_of(record)


def test_half_a_surrogate_pair_in_a_note_does_no_harm(tmp_path):
    run = told_run()
    run.note("file", os.fsdecode(b"na\xefve"))
    record = run.finish({"top1": 0.5}, key=KEY, mode_name="quick", config={})
    read = store_of(tmp_path, files_of(record)).read(KEY)
    assert read.notes["file"] == "na?ve"


def test_the_history_is_read_as_it_was_written(files):
    rows = list(csv.DictReader(io.StringIO(files["history.csv"].decode())))
    assert [row["value"] for row in rows] == ["0.5", "0.5", "0.25", "0.5"]
