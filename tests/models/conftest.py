"""Fixtures of the model tests: small corpora in the layout that users bring their own in."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_encoder import WORDS, write_tiny_bert

from models.biencoder import BiEncoderConfig, train_biencoder
from pytest_ablation.mode import Mode
from pytest_ablation.record import Record
from pytest_ablation.run import Run


@pytest.fixture
def write_bbc_news(tmp_path: Path) -> Callable[[Mapping[str, Sequence[str | bytes]]], Path]:
    """Write ``{class: [content of a file, ...]}``; returns the data folder for ``data_dir=``."""

    def write(classes: Mapping[str, Sequence[str | bytes]]) -> Path:
        for name, contents in classes.items():
            folder = tmp_path / "bbc_news" / name
            folder.mkdir(parents=True, exist_ok=True)
            for number, content in enumerate(contents):
                data = content.encode() if isinstance(content, str) else content
                (folder / f"{number:03}.txt").write_bytes(data)
        return tmp_path

    return write


@pytest.fixture
def small_bbc_news(write_bbc_news: Callable[[Mapping[str, Sequence[str]]], Path]) -> Path:
    """Three classes of twelve articles: some words tell the class, some are noise, some rare."""
    return write_bbc_news({name: _articles(name) for name in ("art", "law", "sea")})


def _articles(class_name: str) -> list[str]:
    rng = random.Random(class_name)
    own = [f"{class_name}{number}" for number in range(6)]
    noise = [f"noise{number}" for number in range(30)]
    articles = []
    for number in range(12):
        words = rng.choices(own + noise, k=rng.randint(4, 20))
        articles.append(f"{class_name} headline {number}\n\n{' '.join(words)} rare{number}\n")
    return articles


AgNewsRow = tuple[str | int, str, str]  # class from 1, title, description


@pytest.fixture(scope="session")
def write_ag_news() -> Callable[..., Path]:
    """Write the official files below a data folder, which is returned.

    A file is given as its rows (quoted and escaped as the official ones are), or as its text or
    bytes, or as None where it shall not be there.
    """

    def write(
        folder: Path,
        train: Sequence[AgNewsRow] | str | bytes | None,
        test: Sequence[AgNewsRow] | str | bytes | None,
        classes: str | bytes | None = "World\nSports\nBusiness\nSci/Tech\n",
    ) -> Path:
        (folder / "ag_news_csv").mkdir(parents=True, exist_ok=True)
        contents = {"train.csv": train, "test.csv": test, "classes.txt": classes}
        for name, content in contents.items():
            path = folder / "ag_news_csv" / name
            if isinstance(content, str | bytes):
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            elif content is not None:
                with path.open("w", encoding="utf-8", newline="") as file:
                    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(content)
        return folder

    return write


def ag_news_rows(count: int, seed: str) -> list[AgNewsRow]:
    """*count* rows of the four classes in turn: some words tell the class, the others are noise."""
    rng = random.Random(seed)
    rows: list[AgNewsRow] = []
    for number in range(count):
        label = number % 4 + 1
        own = [f"topic{label}word{n}" for n in range(8)]
        words = rng.choices(own, k=4) + rng.choices([f"noise{n}" for n in range(40)], k=8)
        words = rng.sample(words, rng.randint(6, len(words)))
        rows.append((label, f"Title {seed} {number}", f"{' '.join(words)} rare{number} #39;s"))
    return rows


@pytest.fixture(scope="session")
def small_ag_news(
    tmp_path_factory: pytest.TempPathFactory, write_ag_news: Callable[..., Path]
) -> Path:
    """A data folder with 144 texts to train, 16 to validate, 40 to test. Not to be written to."""
    folder = tmp_path_factory.mktemp("small_ag_news")
    return write_ag_news(folder, ag_news_rows(160, "train"), ag_news_rows(40, "test"))


@pytest.fixture(scope="session")
def real_ag_news() -> Path:
    """The data folder with the real corpus, or a skip: it is not part of the project."""
    from models.ag_news import ag_news_folder

    data_dir = os.environ.get("ABLATION_DATA")
    if not data_dir or ag_news_folder(data_dir) is None:
        pytest.skip("ABLATION_DATA names no folder that contains ag_news_csv")
    return Path(data_dir)


@pytest.fixture
def write_arguana(tmp_path: Path) -> Callable[[Mapping[str, str | bytes]], Path]:
    """Write ``{"test/theme/debate/pro/pro01a-point.txt": content}``; returns the data folder."""

    def write(files: Mapping[str, str | bytes]) -> Path:
        for place, content in files.items():
            path = tmp_path / "arguana-counterargs-corpus" / "02-extracted-arguments" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path

    return write


@pytest.fixture(scope="session")
def arguana_files() -> dict[str, str]:
    """A small corpus: each split has two themes of three debates with two pairs on each side.

    In each split one point has no counter, which leaves 23 pairs of 24. A debate's texts share
    words, a pair's share two more; all texts differ.
    """
    files = {}
    for split in ("training", "validation", "test"):
        for theme in ("art", "law"):
            for debate in range(3):
                files |= _debate(split, theme, f"{theme}-debate-{debate}")
        del files[f"{split}/law/law-debate-2/con/con02b-counter.txt"]
    return files


@pytest.fixture
def small_arguana(
    write_arguana: Callable[[Mapping[str, str]], Path], arguana_files: dict[str, str]
) -> Path:
    """The data folder of the small corpus."""
    return write_arguana(arguana_files)


@pytest.fixture(scope="session")
def real_arguana() -> Path:
    """The data folder with the real corpus, or a skip: it is not part of the project."""
    from models.arguana import arguana_folder

    data_dir = os.environ.get("ABLATION_DATA")
    if not data_dir or arguana_folder(data_dir) is None:
        pytest.skip("ABLATION_DATA names no folder that contains arguana-counterargs-corpus")
    return Path(data_dir)


def _debate(split: str, theme: str, debate: str) -> dict[str, str]:
    rng = random.Random(f"{split}/{theme}/{debate}")
    shared = [f"{theme}{rng.randrange(40)}" for _ in range(4)]
    files = {}
    for side in ("pro", "con"):
        for number in ("01", "02"):
            pair = [f"pair{rng.randrange(300)}", f"pair{rng.randrange(300)}"]
            for kind in ("a-point", "b-counter"):
                own = [f"own{rng.randrange(900)}" for _ in range(rng.randint(2, 8))]
                place = f"{split}/{theme}/{debate}/{side}/{side}{number}{kind}.txt"
                words = [split, debate, side, kind, number, *shared, *pair, *own]
                files[place] = " ".join(words) + "\n"
    return files


# --- a bi-encoder that trains in a moment -------------------------------------------------------

ENCODER_WIDTH = 64  # of narrower ones without training, outputs say little of the words

#: Every component is there, so that changing its settings has an effect.
TINY_BIENCODER = {
    "corpus": "arguana", "encoder_precision": "float32", "max_length": 12, "embed_dim": 16,
    "contrastive_weight": 0.5, "negatives": 2, "hard_pool": 4, "rerank_top": 5, "batch_size": 16,
    "learning_rate": 0.01, "grad_clip_norm": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What came of one training: its metrics, its run, and the record of that."""

    metrics: Mapping[str, float]
    run: Run
    record: Record

    def history(self, split: str, metric: str) -> list[float]:
        """Epoch by epoch."""
        rows = self.record.history
        return [row.value for row in rows if (row.split, row.metric) == (split, metric)]


@pytest.fixture(scope="session")
def biencoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with both corpora in the tiny encoder's words; its encoders; a cache.

    ArguAna has 32 pairs to train, 16 to validate and 20 to test; the texts of a pair share words.
    A debate of four pairs stands twice in the test split; with one more, 12 of the test pairs stand
    in training too, and so do four of the validation pairs. BBC News has 80 articles whose headline
    repeats words of the body. The encoders are ``bert0`` and ``bert1``.
    """
    folder = tmp_path_factory.mktemp("biencoder")
    root = folder / "arguana-counterargs-corpus" / "02-extracted-arguments"
    for place, text in _arguana_of_words().items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    rng = random.Random(0)
    for name in ("art", "law"):
        (folder / "bbc_news" / name).mkdir(parents=True)
        for number in range(40):
            body = rng.choices(WORDS, k=rng.randint(6, 12))
            content = f"{' '.join(rng.sample(body, 3))}\n\n{' '.join(body)}\n"
            (folder / "bbc_news" / name / f"{number:03}.txt").write_text(content)
    for seed in (0, 1):
        write_tiny_bert(folder / f"bert{seed}", seed=seed, width=ENCODER_WIDTH)
    return folder


def _arguana_of_words() -> dict[str, str]:
    rng = random.Random("arguana")
    files = {}
    for split, debates in (("training", 5), ("validation", 4), ("test", 4)):
        for debate in range(debates):
            theme = ("art", "law")[debate % 2]
            for name in ("pro/pro01", "pro/pro02", "con/con01", "con/con02"):
                shared = rng.choices(WORDS, k=5)
                for kind in ("a-point", "b-counter"):
                    words = [*shared, *rng.choices(WORDS, k=rng.randint(1, 3))]
                    rng.shuffle(words)
                    files[f"{split}/{theme}/debate-{debate}/{name}{kind}.txt"] = " ".join(words)
    again = {
        "test/art/debate-0": ("test/law/again", "training/law/known-0"),
        "test/law/debate-1": ("training/law/known-1",),
        "validation/art/debate-0": ("training/law/known-2",),
    }
    for place, text in list(files.items()):
        debate, side, name = place.rsplit("/", 2)
        files |= {f"{copy}/{side}/{name}": text for copy in again.get(debate, ())}
    return files


@pytest.fixture(scope="session")
def train_tiny(biencoder_folder: Path) -> Callable[..., Trained]:
    """Train a tiny bi-encoder: ``TINY_BIENCODER`` with *changes*."""

    def train(
        seed: int = 0,
        *,
        data_dir: Path | None = biencoder_folder,
        keep_weights: bool = False,
        budget: Mapping[str, object] | None = None,
        of_run: Mapping[str, object] | None = None,
        **changes: object,
    ) -> Trained:
        settings = {"encoder": str(biencoder_folder / "bert0"), **TINY_BIENCODER, **changes}
        run = Run(
            seed=seed, mode=Mode(seeds=1, **{"epochs": 2, **(budget or {})}), device="cpu",
            data_dir=data_dir, cache_dir=biencoder_folder / "cache", keep_weights=keep_weights,
            **(of_run or {}),
        )  # fmt: skip
        metrics = train_biencoder(BiEncoderConfig(**settings), run)
        return Trained(metrics, run, run.finish(metrics))

    return train
