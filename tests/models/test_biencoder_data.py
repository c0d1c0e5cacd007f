"""The splits of both corpora: what is asked, what may answer, and which pairs are known."""

import shutil
from collections import Counter

import numpy as np
import pytest

from models.arguana import load_arguana
from models.bbc_news import load_bbc_news
from models.biencoder import BiEncoderConfig
from models.biencoder.data import TRAIN_SAMPLE, evaluated_split, load_retrieval_data
from models.biencoder.tasks import TASKS, arguana_tasks
from models.errors import DataError
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

CORPUS = "arguana-counterargs-corpus/02-extracted-arguments"
SPLITS = (("train", "training"), ("validation", "validation"), ("test", "test"))


def load(data_dir, corpus="arguana", known_pairs=True, **budget):
    run = Run(seed=0, mode=Mode(seeds=1, **budget), data_dir=data_dir)
    return load_retrieval_data(BiEncoderConfig(corpus=corpus, known_pairs=known_pairs), run)


def texts_of(split):
    """(query, answer) of every pair."""
    answers = split.candidates[split.own]
    pairs = zip(split.queries, answers, strict=True)
    return [(split.texts[query], split.texts[answer]) for query, answer in pairs]


def files_of(data_dir, folder):
    """The pairs of a split, read without the loader."""
    points = sorted((data_dir / CORPUS / folder).rglob("*a-point.txt"))
    pairs = ((p, p.with_name(p.name.replace("a-point", "b-counter"))) for p in points)
    return [(p.read_text().strip(), c.read_text().strip()) for p, c in pairs if c.is_file()]


# --- ArguAna ----------------------------------------------------------------------------------


def test_a_point_is_answered_with_its_counter_among_all_arguments(small_arguana):
    data = load(small_arguana)
    for name, folder in SPLITS:
        split = getattr(data, name)
        assert split.name == name
        assert len(split) == 23
        assert Counter(texts_of(split)) == Counter(files_of(small_arguana, folder))
        arguments = (small_arguana / CORPUS / folder).rglob("*.txt")
        in_files = [path.read_text().strip() for path in arguments]
        assert sorted(split.texts[place] for place in split.candidates) == sorted(in_files)
    assert (data.overall, data.unseen_task) == ("epa", "epa")
    assert "23 pairs of point and counter to train" in data.description


def test_each_split_has_the_tasks_it_is_asked_in(small_arguana):
    data, corpus = load(small_arguana), load_arguana(small_arguana)
    assert data.train.tasks == ()
    assert [task.name for task in data.train_sample.tasks] == ["epa"]
    assert [task.name for task in data.validation.tasks] == ["epa"]
    assert [task.name for task in data.test.tasks] == list(TASKS)
    for task, expected in zip(data.test.tasks, arguana_tasks(corpus.test), strict=True):
        assert (task.allowed == expected.allowed).all()
    only = data.test.only_task("sdc")
    assert [task.name for task in only.tasks] == ["sdc"]
    assert (only.task("sdc").allowed == data.test.task("sdc").allowed).all()


def test_a_split_can_be_evaluated_alone(small_arguana):
    split = evaluated_split(load_arguana(small_arguana), "train")
    assert [task.name for task in split.tasks] == list(TASKS)
    assert not split.unseen.any(), "every training pair stands in training"


def test_unseen_pairs_are_those_that_training_does_not_have(biencoder_folder):
    data = load(biencoder_folder)
    training = files_of(biencoder_folder, "training")
    for split, known in ((data.test, 12), (data.validation, 4)):
        expected = [pair not in training for pair in texts_of(split)]
        assert split.unseen.tolist() == expected
        assert expected.count(False) == known


def test_without_known_pairs_training_lacks_exactly_those(biencoder_folder):
    whole, part = load(biencoder_folder), load(biencoder_folder, known_pairs=False)
    elsewhere = files_of(biencoder_folder, "validation") + files_of(biencoder_folder, "test")
    assert texts_of(part.train) == [p for p in texts_of(whole.train) if p not in elsewhere]
    assert (len(whole.train), len(part.train)) == (32, 20)
    assert "12 training pairs that stand in another split are left out" in part.description
    assert part.train.texts == whole.train.texts, "they stay what may be a negative"
    assert len(part.train.candidates) == len(whole.train.candidates)
    for name in ("validation", "test"):
        one, other = getattr(whole, name), getattr(part, name)
        assert texts_of(one) == texts_of(other)
        assert (one.unseen == other.unseen).all(), "measured on the same pairs"


def test_the_training_sample_is_asked_as_the_split_it_is_of(biencoder_folder):
    for known_pairs in (True, False):
        data = load(biencoder_folder, known_pairs=known_pairs)
        train, sample = data.train, data.train_sample
        assert sample.name == train.name, "its texts have the same vectors"
        assert texts_of(sample) == texts_of(train), "all of them, where they are few"
        allowed = sample.tasks[0].allowed
        others = train.candidates[None, :] != sample.queries[:, None]
        assert (allowed == others).all()


def test_many_training_queries_are_sampled_evenly(write_bbc_news):
    classes = {
        name: [f"{name} {i}\n\nbody {name} {i}" for i in range(600)] for name in ("art", "law")
    }
    data = load(write_bbc_news(classes), "bbc_news")
    sample = data.train_sample
    assert (len(data.train), len(sample)) == (840, TRAIN_SAMPLE)
    assert sample.tasks[0].allowed.shape == (TRAIN_SAMPLE, 840)
    assert set(np.diff(sample.queries)) == {1, 2}
    assert (sample.queries[0], sample.queries[-1]) == (0, 839)
    assert set(texts_of(sample)) <= set(texts_of(data.train))


def test_a_share_of_the_debates_is_the_modes_to_choose(biencoder_folder):
    whole, part = load(biencoder_folder), load(biencoder_folder, debates_share=0.5)
    assert len(load(biencoder_folder, debates_share=1.0).train) == len(whole.train)
    for name, _ in SPLITS:
        pairs, all_pairs = texts_of(getattr(part, name)), texts_of(getattr(whole, name))
        assert 0 < len(pairs) < len(all_pairs)
        assert set(pairs) < set(all_pairs)
    assert "a sample of" in part.description
    with pytest.raises(ValueError, match="debates_share is a fraction above 0"):
        load(biencoder_folder, debates_share=0)


def test_equal_texts_have_equal_codes_and_the_place_of_the_first(biencoder_folder):
    test = load(biencoder_folder).test
    codes, first = test.text_codes, test.first_of_text
    texts = [test.texts[place] for place in test.candidates]
    assert len(set(texts)) < len(texts)
    assert [texts.index(text) for text in texts] == first.tolist()
    assert len(set(codes)) == len(set(test.texts))
    assert len({*zip(codes, test.texts, strict=True)}) == len(set(test.texts))


def test_the_corpus_has_to_be_given(tmp_path):
    with pytest.raises(DataError, match=r"not part of this project: .* --ablation-data"):
        load(None)
    with pytest.raises(DataError, match="no ArguAna corpus in"):
        load(tmp_path)


def test_nothing_is_left_to_train_on_where_all_pairs_are_known(small_arguana):
    root = small_arguana / CORPUS
    shutil.rmtree(root / "training")
    shutil.copytree(root / "test", root / "training")
    assert not load(small_arguana).test.unseen.any()
    with pytest.raises(DataError, match="every training pair stands in validation or test too"):
        load(small_arguana, known_pairs=False)


# --- BBC News ---------------------------------------------------------------------------------


def test_a_headline_is_answered_with_a_body_of_its_split(biencoder_folder):
    data, news = load(biencoder_folder, "bbc_news"), load_bbc_news(biencoder_folder)
    for name, _ in SPLITS:
        split, articles = getattr(data, name), getattr(news, name)
        assert split.name == name
        assert texts_of(split) == [(article.headline, article.body) for article in articles]
        bodies = [split.texts[place] for place in split.candidates]
        assert bodies == [article.body for article in articles]
        assert split.unseen.all()
    assert data.train.tasks == ()
    for split in (data.train_sample, data.validation, data.test):
        (task,) = split.tasks
        assert task.name == data.overall == data.unseen_task == ""
        assert task.allowed.all()
        assert task.allowed.shape == (len(split), len(split.candidates))


def test_too_few_articles_for_top_10_are_refused(small_bbc_news):
    with pytest.raises(DataError, match="validation split has 6 articles; retrieval needs 11"):
        load(small_bbc_news, "bbc_news")
