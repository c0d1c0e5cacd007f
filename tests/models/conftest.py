"""Fixtures of the model tests: small corpora in the layout that users bring their own in."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest


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
