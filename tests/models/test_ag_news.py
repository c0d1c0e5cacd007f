"""AG News is read as it was published, freed of repeats, split without a leak, or refused."""

import csv
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ag_news import (
    ag_news_digest,
    ag_news_folder,
    load_ag_news,
)
from models.errors import DataError

SPLITS = ("train", "validation", "test")
HEALTHY = [(label, f"title {label} {n}", "text") for label in (1, 2, 3, 4) for n in range(3)]
TESTED = [(label, f"tested {label}", "text") for label in (1, 2, 3, 4)]


def normal(text):
    return " ".join(text.split()).casefold()


def rows_of(split):
    return list(zip(split.texts, split.labels.tolist(), strict=True))


@pytest.fixture
def written(tmp_path, write_ag_news):
    """A data folder with these files; what is not given is in order."""

    def write(train=HEALTHY, test=TESTED, **classes):
        return write_ag_news(tmp_path, train, test, **classes)

    return write


# --- what is read -------------------------------------------------------------------------------


def test_a_text_is_title_and_description_and_the_classes_count_from_0(written):
    content = (
        '"3","Oil Near \\$50 on ""Supply"" Fears"," Prices, edged\\below  #36;49 a barrel\\on"\n'
    )
    news = load_ag_news(written(test=content + '1,unquoted, twice \n\n"2","two\nlines",""\n'))
    assert rows_of(news.test) == [
        ('Oil Near $50 on "Supply" Fears\nPrices, edged below $49 a barrel on', 2),
        ("unquoted\ntwice", 0),
        ("two lines", 1),
    ]
    assert news.classes == ("World", "Sports", "Business", "Sci/Tech")
    assert news.train.labels.dtype == np.int64


def test_splits_hold_each_text_of_the_files_once(small_ag_news):
    news = load_ag_news(small_ag_news)
    for name, splits in {"train": ("train", "validation"), "test": ("test",)}.items():
        with (small_ag_news / "ag_news_csv" / f"{name}.csv").open(newline="") as file:
            expected = [
                (f"{title}\n{text.replace(' #39;', chr(39))}", int(label) - 1)
                for label, title, text in csv.reader(file)
            ]
        found = [row for split in splits for row in rows_of(getattr(news, split))]
        assert sorted(found) == sorted(expected)
        assert name == "train" or found == expected, "the test split keeps its order"


def test_class_names_are_those_of_the_file_or_the_official_ones(written):
    assert load_ag_news(written(classes="a\r\n\n b \nc\nd")).classes == ("a", "b", "c", "d")
    load_ag_news.cache_clear()
    folder = written()
    (folder / "ag_news_csv" / "classes.txt").unlink()
    assert load_ag_news(folder).classes == ("World", "Sports", "Business", "Sci/Tech")


def test_a_byte_order_mark_and_other_line_ends_do_no_harm(written):
    train = "\ufeff" + "".join(f'"{c}","{t}","{d}"\r\n' for c, t, d in HEALTHY)
    news = load_ag_news(written(train=train))
    assert len(news.train) + len(news.validation) == len(HEALTHY)
    assert not any("\ufeff" in text or "\r" in text for text in news.train.texts)


@pytest.mark.parametrize("inside", ["", "ag_news_csv"])
def test_the_folder_is_found_from_its_parent_and_by_itself(written, inside):
    data_dir = written()
    assert ag_news_folder(data_dir / inside) == data_dir / "ag_news_csv"
    assert load_ag_news(str(data_dir / inside)).train.digest == load_ag_news(data_dir).train.digest


def test_no_folder_and_an_empty_one_are_no_ag_news(tmp_path):
    (tmp_path / "ag_news_csv").mkdir()
    assert ag_news_folder(None) is ag_news_folder(tmp_path) is None
    for data_dir in (None, tmp_path):
        for function in (load_ag_news, ag_news_digest):
            with pytest.raises(DataError, match=r"ag_news_csv/train\.csv.*--ablation-ag-news=hub"):
                function(data_dir)


# --- what is dropped, and the split -------------------------------------------------------------

#: So few texts that most repeat another; some only by case and white space, some are empty.
few_texts = st.tuples(
    st.integers(1, 4),
    st.sampled_from(["", "A", "a", "b ", "\\b", "c"]),
    st.sampled_from(["", "x", " X", "y"]),
)


@settings(max_examples=50)
@given(train=st.lists(few_texts, max_size=40), test=st.lists(few_texts, max_size=5))
def test_no_text_stands_in_two_splits(train, test, tmp_path_factory, write_ag_news):
    folder = tmp_path_factory.mktemp("repeats")
    train, test = train + HEALTHY, test + TESTED
    news = load_ag_news(write_ag_news(folder, train, test))

    def as_read(row):
        return " ".join(f"{row[1]} {row[2]}".replace("\\", " ").split())

    assert [(" ".join(t.split()), y) for t, y in rows_of(news.test)] == [
        (as_read(row), row[0] - 1) for row in test
    ]
    of_test = {normal(as_read(row)) for row in test}
    expected, counts = [], Counter()
    for number, row in enumerate(train):
        text = normal(as_read(row))
        if not text:
            counts["empty"] += 1
        elif text in of_test:
            counts["known"] += 1
        elif any(normal(as_read(earlier)) == text for earlier in train[:number]):
            counts["repeats"] += 1
        else:
            expected.append((text, row[0] - 1))
    found = rows_of(news.train) + rows_of(news.validation)
    assert sorted((normal(text), label) for text, label in found) == sorted(expected)
    assert f"{counts['repeats']} dropped because they repeat" in news.description
    assert f"{counts['known']} because they are test rows too" in news.description
    assert (f"{counts['empty']} because they are empty" in news.description) == bool(
        counts["empty"]
    )


def test_a_tenth_of_each_class_validates(small_ag_news):
    news = load_ag_news(small_ag_news)
    validating = Counter(news.validation.labels.tolist())
    for label, total in (Counter(news.train.labels.tolist()) + validating).items():
        assert validating[label] == max(1, round(total / 10))


def test_the_validation_split_is_drawn_by_a_fixed_seed(written):
    """Derived another way: the numbers of each class, shuffled by the seed and its name."""
    train = [(label, f"{label}", f"{n:02}") for n in range(20) for label in (1, 2, 3, 4)]
    news = load_ag_news(written(train=train))
    drawn = []
    for label, name in enumerate(news.classes, start=1):
        numbers = list(range(20))
        random.Random(f"2015/{name}").shuffle(numbers)
        drawn += [(f"{label}\n{number:02}", label - 1) for number in numbers[:2]]
    in_order = [(f"{label}\n{text}", label - 1) for label, _, text in train]
    assert rows_of(news.validation) == [row for row in in_order if row in drawn]
    assert rows_of(news.train) == [row for row in in_order if row not in drawn]


def test_the_sentence_for_the_report_adds_up(small_ag_news):
    news = load_ag_news(small_ag_news)
    assert news.description == (
        "AG News: 160 training rows in 4 classes, 0 dropped because they repeat an earlier one and "
        "0 because they are test rows too; 144 to train, 16 to validate, 40 to test (the official "
        "test rows, whole)"
    )


def test_the_digest_of_a_split_tells_texts_labels_and_order_apart(small_ag_news):
    split = load_ag_news(small_ag_news).test
    as_it_is = np.arange(len(split))
    reversed_ = as_it_is[::-1]
    relabelled = type(split).of(split.texts, split.labels[reversed_])
    moved = type(split).of([split.texts[0] + split.texts[1][:1], split.texts[1][1:],
                            *split.texts[2:]], split.labels)  # fmt: skip
    digests = {s.digest for s in (split, split.rows(reversed_), relabelled, moved)}
    assert len(digests) == 4
    assert split.rows(as_it_is).digest == split.digest


def test_labels_that_all_runs_share_cannot_be_changed(small_ag_news):
    with pytest.raises(ValueError, match="read-only"):
        load_ag_news(small_ag_news).train.labels[0] = 1


# --- the real corpus ----------------------------------------------------------------------------


def test_the_real_files_are_read_whole_and_clean(real_ag_news):
    import pandas

    news = load_ag_news(real_ag_news)
    folder = ag_news_folder(real_ag_news)
    train, test = (
        pandas.read_csv(folder / f"{name}.csv", header=None, keep_default_na=False)
        for name in ("train", "test")
    )
    assert news.test.labels.tolist() == (test[0] - 1).tolist()
    assert f"{len(train):,} training rows" in news.description
    texts = [text for split in SPLITS for text in getattr(news, split).texts]
    assert len(texts) >= 0.95 * (len(train) + len(test))
    assert len({normal(text) for text in texts}) >= len(texts) - (len(test) - len(set(test[2])))
    left = ("#39;", "#36;", "quot;", " amp;", "&lt;", "&gt;", "\\", "<b>", "</", "HREF", "  ")
    assert {part: n for part in left if (n := sum(part in text for text in texts))} == {}


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ('"1","t","d"\n"2","no description"\n', r"train\.csv, line 2: 2 columns, expected 3"),
        ('"1","t","two\nlines"\n"2","t","d","more"\n', r"train\.csv, line 3: 4 columns"),
        ('"Class Index","Title","Description"\n', r"line 1: class 'Class Index'.* 1 to 4"),
        ('"1","t","d"\n\n"5","t","d"\n', r"line 3: class '5'"),
        ('"0","t","d"\n', r"line 1: class '0'"),
        ('"\N{SUPERSCRIPT TWO}","t","d"\n', r"line 1: class"),
        ('"1.0","t","d"\n', r"line 1: class '1\.0'"),
        ('"","t","d"\n', r"line 1: class ''"),
        ('"1","t","d"\n"2","t","never closed\n', r"line 2: no row of quoted columns .*doubled"),
        ('"1","t","a "quoted" word"\n', r"line 1: no row of quoted columns .*doubled"),
        ('"1","t","' + "d" * 200_000 + '"\n', r"line 1: no row of quoted columns .*limit"),
        ("", r"train\.csv has no rows: expected three columns, class, title, description"),
        ("\n\n", r"train\.csv has no rows"),
        (b'"1","t","d"\n"2","caf\xe9","d"\n', r"line 2: byte 0xe9 is not UTF-8; save the file"),
        (None, r"train\.csv cannot be read.*copy the folder whole"),
        ('"1","t","d"\n"1","u","d"\n', r"train\.csv has rows of one class only \('World'\)"),
        (HEALTHY[:-2], r"class 'Sci/Tech' has 1 distinct training texts; two or more"),
        ([*HEALTHY[:-3], (4, "same", "x"), (4, "SAME", " x")], "'Sci/Tech' has 1 distinct"),
    ],
)
def test_a_bad_training_file_is_refused(written, train, message):
    with pytest.raises(DataError, match=message):
        load_ag_news(written(train=train))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (None, r"test\.csv cannot be read"),
        ("", r"test\.csv has no rows"),
        (TESTED[:1], r"test\.csv has rows of one class only \('World'\)"),
        ('"4","t"\n', r"test\.csv, line 1: 2 columns"),
    ],
)
def test_a_bad_test_file_is_refused(written, test, message):
    data_dir = written(test=test)
    with pytest.raises(DataError, match=message):
        load_ag_news(data_dir)
    if test is None:
        with pytest.raises(DataError, match=message):
            ag_news_digest(data_dir)


@pytest.mark.parametrize(
    "classes", ["", "World\nSports\nBusiness\n", "a\nb\nc\nd\ne", "a\na\nb\nc"]
)
def test_other_than_four_class_names_are_refused(written, classes):
    with pytest.raises(DataError, match=r"classes\.txt must have 4 different names"):
        load_ag_news(written(classes=classes))


def test_an_empty_text_is_kept_in_the_test_split_and_dropped_in_training(written):
    empty = (2, "", " \\ &lt;br&gt; ")
    news = load_ag_news(written(train=[*HEALTHY, empty, empty], test=[*TESTED, empty]))
    assert rows_of(news.test)[-1] == ("", 1)
    assert "" not in news.train.texts + news.validation.texts
    assert "2 because they are empty" in news.description


# --- the digest ---------------------------------------------------------------------------------


def test_the_digest_is_that_of_the_three_files(written):
    folder = written() / "ag_news_csv"

    def digest():
        ag_news_digest.cache_clear()
        return ag_news_digest(folder)

    digests = [digest()]
    assert digest() == digests[0]
    for name in ("train.csv", "test.csv", "classes.txt"):
        (folder / name).write_text((folder / name).read_text() + "\n")
        digests.append(digest())
    (folder / "classes.txt").unlink()
    digests.append(digest())
    assert len(set(digests)) == 5
