"""Vectors on disk: computed once, shared by processes that arrive together, checked when read."""

import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import WORDS, write_tiny_bert

from models.biencoder import vectors
from models.biencoder.vectors import CHUNK, encode_shared, encode_texts

TEXTS = [f"{WORDS[i % 31]} {' '.join(WORDS[i % 11 : i % 23])} {i}" for i in range(2 * CHUNK + 9)]


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
def no_encoder(monkeypatch):
    """From here on, loading an encoder is an error."""

    def forbid():
        monkeypatch.setattr(vectors, "Encoder", lambda *_: pytest.fail("an encoder was loaded"))

    return forbid


def chunk_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npz"))


# --- once ---------------------------------------------------------------------------------------


def test_what_is_kept_is_not_computed_again(encode, no_encoder, tmp_path):
    first = encode()
    assert len(chunk_files(tmp_path / "cache")) == 3
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    no_encoder()
    assert np.array_equal(encode(), first)
    assert np.array_equal(encode(TEXTS[::-1]), first[::-1])


def test_the_cache_changes_no_bit(encode, tiny_bert):
    in_memory = encode_texts(TEXTS, encoder=str(tiny_bert), max_length=10)
    assert np.array_equal(encode(), in_memory)


def test_a_second_call_in_a_process_reads_nothing(encode, no_encoder, tiny_bert, tmp_path):
    first = encode()
    for path in chunk_files(tmp_path / "cache"):
        path.unlink()
    no_encoder()
    again = encode_texts(
        TEXTS, encoder=str(tiny_bert), max_length=10, cache_dir=tmp_path / "cache"
    )  # fmt: skip
    assert again is first


def test_another_length_encoder_or_text_has_vectors_of_its_own(encode, tiny_bert, tmp_path):
    short = [text[:12] for text in TEXTS]
    encode(short)
    changes = [
        {"texts": short, "max_length": 11},
        {"texts": [*short[:-1], "sea"]},
        {"texts": short, "encoder": write_tiny_bert(tmp_path / "other", seed=1)},
    ]
    for number, change in enumerate(changes, start=2):
        encode(**change)
        folders = {path.parent for path in chunk_files(tmp_path)}
        assert len(folders) == number


def test_a_run_whose_vectors_are_kept_imports_no_transformers(tiny_bert, write_bbc_news, tmp_path):
    write_bbc_news({name: [f"{name} {WORDS[number % 31]} {number}\n\n{name} {number} of forty"
                           for number in range(40)] for name in ("art", "law")})  # fmt: skip
    program = f"""
import sys
from pathlib import Path
from models.biencoder import BiEncoderConfig, train_biencoder
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

folder = Path({str(tmp_path)!r})
run = Run(seed=0, mode=Mode(1, epochs=1), device="cpu", data_dir=folder, cache_dir=folder / "cache")
train_biencoder(BiEncoderConfig(encoder={str(tiny_bert)!r}, batch_size=16), run)
outcome = run.finish({{}}).outcome
"""
    here = {}
    exec(program, here)
    program += "print('transformers' in sys.modules, outcome)"
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert there.stdout == f"False {here['outcome']}\n", there.stderr


# --- damage -------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def wrong_shape(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, vectors=np.zeros((CHUNK - 1, 16), np.float32))


class RunsWhenUnpickled:
    def __reduce__(self):
        return pytest.fail, ("a chunk was unpickled",)


def pickled(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, vectors=np.array([RunsWhenUnpickled()] * CHUNK, dtype=object))


@pytest.mark.parametrize(
    "damage", [truncate, flip_a_bit, wrong_shape, pickled, lambda path: path.write_bytes(b"")]
)
def test_a_damaged_chunk_is_computed_again_with_a_warning(encode, tmp_path, damage):
    first = encode()
    files = chunk_files(tmp_path)
    whole = files[1].read_bytes()
    damage(files[1])
    with pytest.warns(UserWarning, match=f"{files[1].name} is damaged .* computed again"):
        assert np.array_equal(encode(), first)
    assert files[1].read_bytes() == whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode()


# --- sharing ------------------------------------------------------------------------------------


def slow_encode(log: Path, seconds: float):
    """Vectors made of the text's number; notes who computed what."""

    def encode(texts):
        with open(log, "a") as file:
            file.write(f"{os.getpid()} {texts[0]}\n")
        time.sleep(seconds)
        return np.array([[float(text)] * 4 for text in texts], np.float32)

    return encode


CHUNKS = [[str(10 * chunk + row) for row in range(10)] for chunk in range(8)]


def share(folder: Path, log: Path, start, results) -> None:
    start.wait()
    results.put(np.concatenate(encode_shared(CHUNKS, slow_encode(log, 0.1), folder))[:, 0].tolist())


def test_processes_that_arrive_together_share_the_chunks(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    args = (tmp_path / "vectors", tmp_path / "log", start, results)
    processes = [context.Process(target=share, args=args) for _ in range(3)]
    for process in processes:
        process.start()
    collected = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert collected == [[float(number) for number in range(80)]] * 3
    log = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(int(text) for _, text in log) == list(range(0, 80, 10))  # each chunk once
    assert len({process for process, _ in log}) == 3  # and all of them worked


def compute_first_chunk_and_die(folder: Path, log: Path) -> None:
    def encode(texts):
        slow_encode(log, 0)(texts)
        time.sleep(0.3)
        os._exit(9)

    encode_shared(CHUNKS, encode, folder)


def test_a_chunk_whose_process_died_is_computed_by_another(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    dying = context.Process(target=compute_first_chunk_and_die, args=(tmp_path / "vectors", log))
    dying.start()
    while not log.exists():  # it holds the first chunk now
        time.sleep(0.01)
    encoded = encode_shared(CHUNKS, slow_encode(log, 0), tmp_path / "vectors")
    dying.join()
    assert dying.exitcode == 9
    assert np.concatenate(encoded)[:, 0].tolist() == [float(number) for number in range(80)]
    texts = [line.split()[1] for line in log.read_text().splitlines()]
    assert texts == ["0", *[str(number) for number in range(10, 80, 10)], "0"]


def test_two_processes_give_the_bits_of_one(tiny_bert, tmp_path, encode):
    alone = encode_texts(TEXTS, encoder=str(tiny_bert), max_length=10)
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_encoder_cache import TEXTS
from pathlib import Path
from models.biencoder.vectors import encode_texts
vectors = encode_texts(TEXTS, encoder={str(tiny_bert)!r}, max_length=10,
                       cache_dir=Path({str(tmp_path / "cache")!r}))
print(vectors.tobytes().hex())
"""
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    while not list(tmp_path.rglob("*.lock")):  # the other has taken a chunk, and loads its encoder
        time.sleep(0.01)
    assert np.array_equal(encode(), alone)
    assert other.communicate()[0].strip() == alone.tobytes().hex()


def test_encoding_tells_its_progress_and_reading_kept_vectors_does_not(tiny_bert, tmp_path):
    texts = [f"text {number}" for number in range(2 * CHUNK)]
    settings = {"encoder": str(tiny_bert), "max_length": 8, "cache_dir": tmp_path}
    told = []
    encode_texts(texts, **settings, on_progress=told.append)
    assert told == ["encoding 1/2", "encoding 2/2"]
    vectors._vectors.cache_clear()
    encode_texts(texts, **settings, on_progress=told.append)
    assert len(told) == 2
