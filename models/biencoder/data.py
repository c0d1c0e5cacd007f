"""What is asked and what may answer: a corpus as texts, queries, candidates and tasks.

A configuration and a data folder go in, three splits come out, the same for every run. Knows no
vectors and no model.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.arguana import ArguAna, Split, known_pairs, load_arguana
from models.bbc_news import Article, load_bbc_news
from models.biencoder.config import BiEncoderConfig
from models.biencoder.tasks import TASKS, TOP_K, Task, arguana_tasks, single_task
from models.errors import DataError

if TYPE_CHECKING:
    from pytest_ablation.run import Run

OVERALL_TASK = {"arguana": "epa", "bbc_news": ""}
TASK_NAMES = {"arguana": TASKS, "bbc_news": ("",)}
TRAIN_SAMPLE = 500  # training queries, evenly spread, that the training curve is made of


@dataclass(frozen=True, eq=False)
class RetrievalSplit:
    """Queries and the candidates that may answer them.

    Attributes
    ----------
    name : "train", "validation" or "test": whose texts they are
    texts : all texts; queries and candidates index them
    queries : int64 [q]
    candidates : int64 [c]
    own : int64 [q], the place in *candidates* of each query's right answer
    tasks : which candidates count, each a mask [q, c]
    unseen : bool [q], whether the pair does not stand in the training split, word for word (all of
        it, also where the run leaves such pairs out: the same queries for every variant)
    """

    name: str
    texts: tuple[str, ...]
    queries: np.ndarray
    candidates: np.ndarray
    own: np.ndarray
    tasks: tuple[Task, ...]
    unseen: np.ndarray

    def __len__(self) -> int:
        return len(self.queries)

    @functools.cached_property
    def text_codes(self) -> np.ndarray:
        """int64 [texts]: equal where two texts are equal."""
        seen: dict[str, int] = {}
        return np.array([seen.setdefault(text, len(seen)) for text in self.texts])

    @functools.cached_property
    def first_of_text(self) -> np.ndarray:
        """int64 [c]: the place in *candidates* of the first one with the same text."""
        codes = self.text_codes[self.candidates]
        _, first, back = np.unique(codes, return_index=True, return_inverse=True)
        return first[back]

    def task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    def only_task(self, name: str) -> RetrievalSplit:
        return replace(self, tasks=(self.task(name),))

    def only(self, rows: np.ndarray, task: Task) -> RetrievalSplit:
        """The same split with some of its queries and one task, made for them."""
        return replace(
            self, queries=self.queries[rows], own=self.own[rows], tasks=(task,),
            unseen=self.unseen[rows],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class RetrievalData:
    """The splits of a corpus; ``train`` has no tasks, ``train_sample`` is asked in its place.

    ``overall`` is the task whose accuracy selects the epoch; ``unseen_task`` is the one that is
    also told for the pairs that training has not seen, "" where no pair was.
    """

    train: RetrievalSplit
    train_sample: RetrievalSplit
    validation: RetrievalSplit
    test: RetrievalSplit
    overall: str
    unseen_task: str
    description: str


def load_retrieval_data(config: BiEncoderConfig, run: Run) -> RetrievalData:
    """The corpus that *config* names, or of ArguAna the share ``run.mode.debates_share`` of it.

    Raises
    ------
    DataError
        No corpus there, or nothing to ask in a split.
    ValueError
        A share outside (0, 1].
    """
    if config.corpus == "bbc_news":
        return _bbc_news(run.data_dir)
    if run.data_dir is None:
        raise DataError(
            "the ArguAna corpus is not part of this project: give the folder that contains "
            "arguana-counterargs-corpus with --ablation-data or ABLATION_DATA"
        )
    share = run.mode.budget.get("debates_share", 1.0)
    return _arguana(run.data_dir, share, config.known_pairs)


@functools.lru_cache(maxsize=2)
def _bbc_news(data_dir: Path | None) -> RetrievalData:
    news = load_bbc_news(data_dir)
    fewest = max(TOP_K) + 1
    for name in ("validation", "test"):
        if len(getattr(news, name)) < fewest:
            raise DataError(
                f"the {name} split has {len(getattr(news, name))} articles; retrieval needs "
                f"{fewest}, so that being among the first {fewest - 1} means something"
            )
    train, validation, test = (
        _of_articles(name, getattr(news, name)) for name in ("train", "validation", "test")
    )
    return RetrievalData(
        train=replace(train, tasks=()),
        train_sample=train.only(
            rows := _spread(len(train)), single_task(len(rows), len(train.candidates))
        ),
        validation=validation,
        test=test,
        overall=OVERALL_TASK["bbc_news"],
        unseen_task="",
        description=f"{news.describe()}; a headline is answered with a body of its split",
    )


def _of_articles(name: str, articles: tuple[Article, ...]) -> RetrievalSplit:
    count = len(articles)
    return RetrievalSplit(
        name=name,
        texts=(*(a.headline for a in articles), *(a.body for a in articles)),
        queries=np.arange(count),
        candidates=np.arange(count, 2 * count),
        own=np.arange(count),
        tasks=(single_task(count, count),),
        unseen=np.ones(count, dtype=bool),
    )


@functools.lru_cache(maxsize=2)
def _arguana(data_dir: Path, share: float, with_known_pairs: bool) -> RetrievalData:
    corpus = load_arguana(data_dir, share)
    overall = OVERALL_TASK["arguana"]
    train = _of_arguments(corpus, "train", (), np.zeros(len(corpus.train.queries), dtype=bool))
    description = corpus.describe()
    if not with_known_pairs:
        kept = _unknown_pairs(corpus.train, {*corpus.validation.pairs, *corpus.test.pairs})
        description += (
            f"; {len(train) - len(kept):,} training pairs that stand in another split are left out"
        )
        train = replace(
            train, queries=train.queries[kept], own=train.own[kept], unseen=train.unseen[kept]
        )
    return RetrievalData(
        train=train,
        train_sample=_sample_of(train, corpus.train, overall),
        validation=evaluated_split(corpus, "validation", (overall,)),
        test=evaluated_split(corpus, "test"),
        overall=overall,
        unseen_task=overall,
        description=f"{description}; a point is answered with an argument of its split; the curve "
        f"of training asks {len(_spread(len(train))):,} training points",
    )


def evaluated_split(corpus: ArguAna, name: str, tasks: Collection[str] = TASKS) -> RetrievalSplit:
    """The split ``train``, ``validation`` or ``test``, asked in these tasks."""
    split = getattr(corpus, name)
    unseen = ~np.array(known_pairs(split, corpus.train))
    return _of_arguments(corpus, name, arguana_tasks(split, tasks), unseen)


def _of_arguments(
    corpus: ArguAna, name: str, tasks: tuple[Task, ...], unseen: np.ndarray
) -> RetrievalSplit:
    split = getattr(corpus, name)
    return RetrievalSplit(
        name=name,
        texts=split.texts,
        queries=np.array(split.queries),
        candidates=np.arange(len(split)),
        own=np.array(split.counters),
        tasks=tasks,
        unseen=unseen,
    )


def _unknown_pairs(train: Split, others: set[tuple[str, str]]) -> np.ndarray:
    kept = np.array([row for row, pair in enumerate(train.pairs) if pair not in others])
    if not len(kept):
        raise DataError(
            "every training pair stands in validation or test too: nothing is left to train on; "
            "use known_pairs=True, or more debates"
        )
    return kept


def _sample_of(train: RetrievalSplit, split: Split, task: str) -> RetrievalSplit:
    rows = _spread(len(train))
    sample = replace(
        split, queries=tuple(train.queries[rows].tolist()), counters=tuple(train.own[rows].tolist())
    )
    return train.only(rows, arguana_tasks(sample, (task,))[0])


def _spread(count: int) -> np.ndarray:
    """At most ``TRAIN_SAMPLE`` of 0 … count - 1, evenly spread."""
    return np.linspace(0, count - 1, min(count, TRAIN_SAMPLE)).round().astype(np.int64)
