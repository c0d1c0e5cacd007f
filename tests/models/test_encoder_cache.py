"""Vectors on disk: each text's computed once, and checked when read."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_texts import NUMBERS, TEXTS, Numbering, expected
from tiny_encoder import WORDS, write_tiny_bert

from models.pretrained import vectors
from models.pretrained.vector_store import VectorStore
from models.pretrained.vectors import encode_shared, encode_texts, opening


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("encoder") / "bert")


@pytest.fixture
def encode(tiny_bert, tmp_path):
    """Encode as a process that has nothing in memory yet would."""

    def encode(texts=TEXTS, max_length=10, encoder=tiny_bert):
        vectors._vectors.cache_clear()
        return encode_texts(
            texts, encoder=str(encoder), max_length=max_length, cache_dir=tmp_path / "cache"
        )

    return encode


@pytest.fixture
def path(tmp_path):
    return tmp_path / "encodings" / "store.sqlite"


@pytest.fixture
def encoded_texts(monkeypatch):
    """The texts that encoders were given from here on."""
    given = []

    class Counting(vectors.Encoder):
        def __call__(self, texts):
            given.extend(texts)
            return super().__call__(texts)

    monkeypatch.setattr(vectors, "Encoder", Counting)
    return given


def databases(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.sqlite"))


# --- once ---------------------------------------------------------------------------------------


def test_what_is_kept_is_not_computed_again(encode, encoded_texts, tmp_path):
    first = encode()
    once = {opening(text, 10) for text in TEXTS}
    assert sorted(encoded_texts) == sorted(once)
    assert np.array_equal(encode(TEXTS[::-1]), first[::-1])
    assert np.array_equal(encode(TEXTS[5:70:3]), first[5:70:3])
    assert len(encoded_texts) == len(once)
    more = encode([*TEXTS, "queen", "king"])
    assert np.array_equal(more[:-2], first)
    assert sorted(encoded_texts[len(once) :]) == ["king", "queen"]
    assert len(databases(tmp_path)) == 1


def test_the_cache_changes_no_bit(encode, tiny_bert):
    in_memory = encode_texts(TEXTS, encoder=str(tiny_bert), max_length=10)
    for part in (slice(40, 90), slice(None, None, 7), slice(None)):
        for _ in ("computed", "read"):
            assert np.array_equal(encode(TEXTS[part]), in_memory[part])


@settings(max_examples=25)
@given(st.lists(st.lists(st.sampled_from(NUMBERS), max_size=90), min_size=1, max_size=5))
def test_each_text_is_encoded_once_whatever_is_asked_for(requests):
    encode = Numbering()
    with tempfile.TemporaryDirectory() as folder:
        for texts in requests:
            store = VectorStore(Path(folder) / "encodings" / "store.sqlite")
            assert encode_shared(texts, encode, store) == expected(set(texts))
    assert sorted(encode.given) == sorted({text for texts in requests for text in texts})


def test_a_second_call_in_a_process_reads_nothing(encode, tiny_bert, tmp_path):
    first = encode()
    shutil.rmtree(tmp_path / "cache")
    again = encode_texts(
        TEXTS, encoder=str(tiny_bert), max_length=10, cache_dir=tmp_path / "cache"
    )  # fmt: skip
    assert again is first


def test_texts_that_differ_behind_their_opening_are_encoded_once(encode, encoded_texts):
    start = " ".join(WORDS)
    one, other = encode([f"{start} sea", f"{start} rain"], max_length=8)
    assert np.array_equal(one, other)
    assert len(encoded_texts) == 1


def test_another_length_or_encoder_has_vectors_of_its_own(encode, encoded_texts, tmp_path):
    short = [text[:12] for text in TEXTS]
    encode(short)
    changes = [{"max_length": 11}, {"encoder": write_tiny_bert(tmp_path / "other", seed=1)}]
    for number, change in enumerate(changes, start=2):
        encode(short, **change)
        assert len(databases(tmp_path)) == number
    assert len(encoded_texts) == 3 * len(set(short))


def test_kept_vectors_are_read_without_torch_and_transformers(tiny_bert, encode, tmp_path):
    program = f"""
import sys
from pathlib import Path
from models.pretrained.vectors import encode_texts
vectors = encode_texts({TEXTS!r}, encoder={str(tiny_bert)!r}, max_length=10,
                       cache_dir=Path({str(tmp_path / "cache")!r}))
print("torch" in sys.modules, "transformers" in sys.modules, vectors.tobytes().hex())
"""
    first = encode()
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert there.stdout == f"False False {first.tobytes().hex()}\n", there.stderr


def test_reading_is_one_query_for_hundreds_of_texts(path, monkeypatch):
    texts = [str(number) for number in range(3000)]
    encode_shared(texts, Numbering(), VectorStore(path))
    statements = []
    connect = sqlite3.connect

    def traced(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    assert VectorStore(path).read(texts) == expected(texts)
    assert len(statements) < 12


# --- damage -------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def cut_within_a_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def no_database(path: Path) -> None:
    path.write_bytes(b"something else " * 500)


def broken_pages(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def other_columns(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE vectors (name TEXT, content TEXT)")


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "damage", [truncate, cut_within_a_page, no_database, broken_pages, other_columns]
)
def test_a_damaged_file_is_set_aside_with_a_warning(path, damage):
    encode_shared(NUMBERS, Numbering(), VectorStore(path))
    damage(path)
    damaged = path.read_bytes()
    with pytest.warns(UserWarning, match=r"store.sqlite is damaged .* moved to .*damaged-") as told:
        assert encode_shared(NUMBERS, Numbering(), VectorStore(path)) == expected(NUMBERS)
    assert len(told) == 1
    [aside] = path.parent.glob("store.sqlite.damaged-*")
    assert aside.read_bytes() == damaged
    again = Numbering()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode_shared(NUMBERS, again, VectorStore(path)) == expected(NUMBERS)
    assert again.given == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE vectors SET vector = zeroblob(12) WHERE rowid % 10 = 1",
        "UPDATE vectors SET vector = substr(vector, 1, 8) WHERE rowid % 10 = 1",
        "UPDATE vectors SET vector = substr(vector, 1, 8), width = 2 WHERE rowid % 10 = 1",
        "UPDATE vectors SET vector = CAST(x'ff00ff00ff00ff00ff00ff00' AS TEXT) "
        "WHERE rowid % 10 = 1",
        "UPDATE vectors SET width = 'wide' WHERE rowid % 10 = 1",
        "UPDATE vectors SET crc32 = crc32 + 1 WHERE rowid % 10 = 1",
        "UPDATE vectors SET vector = (SELECT vector FROM vectors WHERE rowid = 2) "
        "WHERE rowid % 10 = 1",
        "UPDATE vectors SET (vector, crc32) = (SELECT vector, crc32 FROM vectors WHERE rowid = 2) "
        "WHERE rowid % 10 = 1",
    ],
)
def test_a_damaged_row_is_computed_again_with_a_warning(path, statement):
    encode_shared(NUMBERS, Numbering(), VectorStore(path))
    change(path, statement)
    repairing, again = Numbering(), Numbering()
    with pytest.warns(UserWarning, match="store.sqlite is damaged in 30 of 300 rows") as told:
        assert encode_shared(NUMBERS, repairing, VectorStore(path)) == expected(NUMBERS)
    assert len(told) == 1
    assert len(repairing.given) == 30
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode_shared(NUMBERS, again, VectorStore(path)) == expected(NUMBERS)
    assert again.given == []


@settings(max_examples=60)
@given(st.data())
@pytest.mark.filterwarnings("ignore:.*store.sqlite")
def test_no_damage_gives_a_wrong_vector(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        VectorStore(path).write(expected(NUMBERS[:100]))
        content = bytearray(path.read_bytes())
        flips = st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255))
        for place, flipped in data.draw(st.lists(flips, min_size=1, max_size=20)):
            content[place] ^= flipped
        path.write_bytes(content)
        texts = NUMBERS[:110]
        assert encode_shared(texts, Numbering(), VectorStore(path)) == expected(texts)


# --- a folder that cannot be used ---------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_told_of_once_and_done_without(tmp_path):
    (tmp_path / "file").write_text("no folder")
    store = VectorStore(tmp_path / "file" / "store.sqlite")
    with pytest.warns(UserWarning, match=r"store.sqlite cannot be used .* not kept") as told:
        assert encode_shared(NUMBERS, Numbering(), store) == expected(NUMBERS)
    assert len(told) == 1


@pytest.mark.parametrize("kept_before", [0, 40])
def test_a_full_disk_is_told_of_once_and_done_without(path, kept_before):
    pytest.importorskip("resource")  # not on Windows
    store = VectorStore(path)
    store.write(expected(NUMBERS[:kept_before]))
    program = f"""
import resource, sys, warnings
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from numbered_texts import NUMBERS, Numbering, expected
from models.pretrained.vector_store import VectorStore
from models.pretrained.vectors import encode_shared
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # as on a disk that has no more room
encode = Numbering()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    found = encode_shared(NUMBERS, encode, VectorStore(Path({str(path)!r})))
print(found == expected(NUMBERS), len(encode.given), len(told), "not kept" in str(told[0].message))
"""
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert there.stdout == f"True {300 - kept_before} 1 True\n", there.stderr
    again = Numbering()
    assert encode_shared(NUMBERS, again, VectorStore(path)) == expected(NUMBERS)
    assert not set(again.given) & set(NUMBERS[:kept_before])
