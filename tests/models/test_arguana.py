"""ArguAna is read completely and paired rightly; a corpus that is not whole is refused by name."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.arguana import (
    arguana_digest,
    arguana_folder,
    known_pairs,
    load_arguana,
)
from models.errors import DataError

CORPUS = Path("arguana-counterargs-corpus") / "02-extracted-arguments"
DEBATE = "test/law/law-debate-0"
SPLITS = (("training", "train"), ("validation", "validation"), ("test", "test"))


def debate(place, pro=1, con=1):
    """The files of a debate with that many pairs on each side."""
    return {
        f"{place}/{side}/{side}{number:02}{kind}.txt": f"{place} {side} {number} {kind}"
        for side, pairs in (("pro", pro), ("con", con))
        for number in range(1, pairs + 1)
        for kind in ("a-point", "b-counter")
    }


@pytest.fixture(scope="module")
def themes_of_four_and_ten(tmp_path_factory):
    """The data folder of a corpus with a theme of one, of four and of ten debates per split."""
    data_dir = tmp_path_factory.mktemp("themes")
    for split, _ in SPLITS:
        for theme, debates in (("few", 1), ("some", 4), ("many", 10)):
            for number in range(debates):
                for place, text in debate(f"{split}/{theme}/debate-{number:02}").items():
                    path = data_dir / CORPUS / place
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
    return data_dir


def test_every_file_is_an_argument_in_the_order_of_its_path(small_arguana, arguana_files):
    corpus = load_arguana(small_arguana)
    for folder, name in SPLITS:
        split = getattr(corpus, name)
        places = sorted(
            (p for p in arguana_files if p.startswith(folder)), key=lambda p: p.split("/")
        )
        assert [argument.place for argument in split.arguments] == places
        assert list(split.texts) == [arguana_files[place].strip() for place in places]
        assert len(split) == len(places) == 47
        for argument in split.arguments:
            assert argument.place.split("/")[1:3] == [argument.theme, argument.debate]


def test_order_is_that_of_the_parts_of_the_path(write_arguana, arguana_files):
    """ "-" sorts before "/", so that whole paths would put law-2 before law."""
    extra = debate("test/law-2/a") | debate("test/law/b")
    corpus = load_arguana(write_arguana(arguana_files | extra))
    themes = [argument.theme for argument in corpus.test.arguments]
    assert themes == sorted(themes)


def test_a_counter_has_the_opposite_stance_of_its_point(small_arguana):
    split = load_arguana(small_arguana).train
    assert len(split.queries) == len(split.counters) == 23
    for query, counter in zip(split.queries, split.counters, strict=True):
        point, answer = split.arguments[query], split.arguments[counter]
        assert (point.is_counter, answer.is_counter) == (False, True)
        assert answer.place == point.place.replace("a-point", "b-counter")
        folder = point.place.split("/")[3]
        assert (point.stance, answer.stance) == (folder, {"pro": "con", "con": "pro"}[folder])


def test_a_point_without_a_counter_is_an_argument_and_no_query(small_arguana):
    split = load_arguana(small_arguana).test
    alone = [i for i, a in enumerate(split.arguments) if "law-debate-2/con/con02" in a.place]
    assert len(alone) == 1
    assert not {*split.queries, *split.counters} & set(alone)
    assert list(split.queries) == sorted(split.queries)


def test_numbers_of_any_length_pair_by_number(write_arguana, arguana_files):
    side = f"{DEBATE}/pro/pro"
    extra = {
        f"{side}{n}{k}.txt": f"{n} {k}" for n in (1, 10, 100) for k in ("a-point", "b-counter")
    }
    split = load_arguana(write_arguana(arguana_files | extra)).test
    pairs = {(point.split()[0], answer.split()[0]) for point, answer in split.pairs}
    assert {("1", "1"), ("10", "10"), ("100", "100")} <= pairs


def test_the_data_folder_may_be_the_corpus_folder(small_arguana):
    inner = small_arguana / "arguana-counterargs-corpus"
    assert arguana_folder(inner) == arguana_folder(small_arguana) == small_arguana / CORPUS
    assert load_arguana(inner) == load_arguana(small_arguana)


def test_no_corpus_is_none_but_a_broken_copy_is_not(tmp_path):
    assert arguana_folder(None) is None
    assert arguana_folder(tmp_path) is None
    (tmp_path / "arguana-counterargs-corpus").mkdir()
    assert arguana_folder(tmp_path) == tmp_path / CORPUS
    assert arguana_folder(tmp_path / "arguana-counterargs-corpus") == tmp_path / CORPUS
    with pytest.raises(DataError, match=r"02-extracted-arguments.*--ablation-data"):
        load_arguana(tmp_path)


@pytest.mark.parametrize("read", [load_arguana, arguana_digest])
def test_a_folder_without_the_corpus_is_refused(read, tmp_path):
    with pytest.raises(DataError, match=re.escape(f"no ArguAna corpus in {tmp_path}")):
        read(tmp_path)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("validation/", "validation is missing: the corpus has the folders training"),
        (f"{DEBATE}/pro/", "law-debate-0 has one side only.*'pro'"),
        (f"{DEBATE}/con/", "law-debate-0 has one side only.*'con'"),
        (f"{DEBATE}/pro/pro02a", r"pro02b-counter\.txt is a counter without a point.*pro02a-point"),
        (r"b-counter.txt", "training has no point with a counter"),
    ],
)
def test_a_corpus_that_is_not_whole_is_refused(write_arguana, arguana_files, gone, message):
    data_dir = write_arguana({p: text for p, text in arguana_files.items() if gone not in p})
    with pytest.raises(DataError, match=message):
        load_arguana(data_dir)


@pytest.mark.parametrize("left", [[], ["notes.txt", "pro01a-point.txt"]])
def test_a_side_without_arguments_is_a_side_that_is_not_there(small_arguana, left):
    side = small_arguana / CORPUS / DEBATE / "con"
    for file in side.iterdir():
        file.unlink()
    for name in left:
        (side / name).write_text("not an argument of this side")
    with pytest.raises(DataError, match=r"law-debate-0 has one side only.*'con'"):
        load_arguana(small_arguana)


def test_a_split_without_debates_is_refused(write_arguana, arguana_files):
    data_dir = write_arguana({p: t for p, t in arguana_files.items() if p[:4] != "test"})
    (data_dir / CORPUS / "test" / "law").mkdir(parents=True)
    with pytest.raises(DataError, match=r"test has no debates: expected folders <theme>/<debate>"):
        load_arguana(data_dir)


@pytest.mark.parametrize(
    "content", [b"", b" \r\n\t", b"\xef\xbb\xbf", "\N{NO-BREAK SPACE}".encode()]
)
def test_a_pair_without_text_is_refused(write_arguana, arguana_files, content):
    place = f"{DEBATE}/pro/pro01b-counter.txt"
    data_dir = write_arguana(arguana_files | {place: content})
    with pytest.raises(DataError, match=f"{place} is empty: a pair without text"):
        load_arguana(data_dir)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", "é".encode()])
def test_a_file_that_is_not_utf8_is_named_with_the_byte(write_arguana, arguana_files, start):
    place = f"{DEBATE}/pro/pro01a-point.txt"
    data_dir = write_arguana(arguana_files | {place: start + b"caf\xe9 ok"})
    with pytest.raises(DataError, match=f"{place} is not UTF-8: byte {len(start) + 3} is 0xe9"):
        load_arguana(data_dir)


def test_a_file_that_cannot_be_read_is_named(small_arguana):
    place = small_arguana / CORPUS / DEBATE / "pro" / "pro01a-point.txt"
    place.unlink()
    place.mkdir()
    with pytest.raises(DataError, match=r"pro01a-point\.txt cannot be read"):
        load_arguana(small_arguana)


def test_byte_order_mark_line_ends_and_outer_white_space_are_no_text(write_arguana, arguana_files):
    place = f"{DEBATE}/pro/pro01a-point.txt"
    content = "\ufeff\r\n A café.\r\n\r\nSecond\rthird \r\n".encode()
    split = load_arguana(write_arguana(arguana_files | {place: content})).test
    (text,) = (argument.text for argument in split.arguments if argument.place == place)
    assert text == "A café.\n\nSecond\nthird"


def test_other_text_files_are_counted_and_what_is_hidden_is_passed_over(
    write_arguana, arguana_files
):
    misnamed = {f"{DEBATE}/pro/{name}.txt": "x" for name in
                ("notes", "con01a-point", "pro01a-counter", "pro01a-point.old")}  # fmt: skip
    misnamed["training/art/art-debate-0/con/con1.txt"] = "x"
    hidden = (f"{DEBATE}/pro/._pro01a-point.txt", f"{DEBATE}/.git/x", "test/.cache/a/pro/x.txt")
    elsewhere = ("test/.DS_Store", "test/README.txt", f"{DEBATE}/pro/pro01a-point.xml")
    plain = load_arguana(write_arguana(arguana_files))
    digest = arguana_digest(write_arguana({}))
    load_arguana.cache_clear()
    arguana_digest.cache_clear()
    data_dir = write_arguana(misnamed | dict.fromkeys((*hidden, *elsewhere), b"\xff"))
    corpus = load_arguana(data_dir)
    assert corpus.other_files == 5
    assert "5 text files with other names were not read" in corpus.describe()
    assert corpus.splits == plain.splits
    assert arguana_digest(data_dir) == digest


def test_repeated_texts_are_kept_and_counted(write_arguana, arguana_files):
    """A debate under two themes, and in two splits: both stay, so that candidates are all there."""
    twice = {place: text for place, text in arguana_files.items() if "art-debate-0" in place}
    in_law = {p.replace("/art/", "/law/"): t for p, t in twice.items() if p.startswith("test")}
    in_training = {
        p.replace("test/art", "training/old"): t for p, t in twice.items() if p[:4] == "test"
    }
    corpus = load_arguana(write_arguana(arguana_files | in_law | in_training))
    assert len(corpus.test) == 47 + 8
    assert len(corpus.test.debates) == 7
    assert "8 texts repeat another one of their split and are kept" in corpus.describe()
    assert "8 of the test pairs stand in training too" in corpus.describe()
    known = known_pairs(corpus.test, corpus.train)
    themes = [corpus.test.arguments[query].debate for query in corpus.test.queries]
    assert known == tuple(debate == "art-debate-0" for debate in themes)


def test_the_sentence_for_the_report_adds_up(small_arguana):
    assert load_arguana(small_arguana).describe() == (
        "ArguAna counterargs corpus: 23 pairs of point and counter to train, 23 to validate, "
        "23 to test, from 18 debates; points without a counter (candidates, never queries): 3"
    )


def test_a_share_draws_whole_debates_of_every_theme(themes_of_four_and_ten):
    whole = load_arguana(themes_of_four_and_ten)
    part = load_arguana(themes_of_four_and_ten, 0.5)
    for all_of, some_of in zip(whole.splits, part.splits, strict=True):
        drawn = some_of.debates
        assert {theme: sum(t == theme for t, _ in drawn) for theme in ("few", "some", "many")} == {
            "few": 1, "some": 2, "many": 5}  # fmt: skip
        assert some_of.texts == tuple(
            a.text for a in all_of.arguments if (a.theme, a.debate) in drawn
        )
    assert "from a sample of 24 of the 45 debates (53%)" in part.describe()


def test_a_smaller_share_is_a_subset_of_a_larger_one(themes_of_four_and_ten):
    shares = (0.001, 0.1, 0.25, 1 / 3, 0.5, 0.66, 0.9, 1)
    corpora = [load_arguana(themes_of_four_and_ten, share) for share in shares]
    for position in range(3):
        debates = [corpus.splits[position].debates for corpus in corpora]
        assert len(debates[0]) == 3
        assert len(debates[-1]) == 15
        assert sorted(debates, key=len) == debates
        assert all(small <= large for small, large in itertools.pairwise(debates))


def test_a_share_draws_the_same_debates_on_every_call(themes_of_four_and_ten):
    first = load_arguana(themes_of_four_and_ten, 0.4)
    load_arguana.cache_clear()
    assert load_arguana(themes_of_four_and_ten, 0.4) == first


def test_splits_are_drawn_apart(themes_of_four_and_ten):
    """One order for all splits would draw the same names, and so the debates that they share."""
    part = load_arguana(themes_of_four_and_ten, 0.3)
    assert len({split.debates for split in part.splits}) > 1


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_no_fraction_is_refused(themes_of_four_and_ten, share):
    with pytest.raises(ValueError, match="debates_share is a fraction above 0"):
        load_arguana(themes_of_four_and_ten, share)


def test_digest_changes_with_content_place_and_split(write_arguana, arguana_files):
    data_dir = write_arguana(arguana_files)
    theme = data_dir / CORPUS / "test" / "law"
    file = theme / "law-debate-2" / "pro" / "pro01a-point.txt"

    def digest():
        arguana_digest.cache_clear()
        return arguana_digest(data_dir)

    digests = [digest()]
    file.write_text(file.read_text().swapcase())  # as long as before
    digests.append(digest())
    (theme / "law-debate-2").rename(theme / "law-debate-3")  # as many files before it as before
    digests.append(digest())
    (theme / "law-debate-3").rename(data_dir / CORPUS / "training" / "law" / "law-debate-3")
    digests.append(digest())
    assert len(set(digests)) == 4
    (data_dir / CORPUS / "training" / "law" / "law-debate-3").rename(theme / "law-debate-2")
    write_arguana(arguana_files)
    assert digest() == digests[0]


def test_reading_imports_neither_numpy_nor_torch():
    code = "import sys, models.arguana; print({'numpy', 'torch', 'sklearn'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, text=True, capture_output=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_the_real_corpus_is_read_whole(real_arguana):
    corpus = load_arguana(real_arguana)
    assert [len(split.queries) for split in corpus.splits] == [4065, 1287, 1401]
    assert sum(len(split) - 2 * len(split.queries) for split in corpus.splits) == 26
    assert corpus.other_files == 0
    for (folder, _), split in zip(SPLITS, corpus.splits, strict=True):
        files = list((arguana_folder(real_arguana) / folder).rglob("*.txt"))
        assert len(split) == len(files)
        by_place = {argument.place: argument.text for argument in split.arguments}
        for path in files:
            place = path.relative_to(arguana_folder(real_arguana)).as_posix()
            assert by_place[place] == path.read_text(encoding="utf-8").strip()


def test_the_real_splits_share_pairs(real_arguana):
    """What the docstrings say about it: brute force over the pairs of texts."""
    corpus = load_arguana(real_arguana)
    training = list(corpus.train.pairs)
    lengths = {(len(point), len(counter)) for point, counter in training}
    candidates = [p for p in corpus.test.pairs if (len(p[0]), len(p[1])) in lengths]
    assert sum(pair in training for pair in candidates) == 616
    assert sum(known_pairs(corpus.test, corpus.train)) == 616
