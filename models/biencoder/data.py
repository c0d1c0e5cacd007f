"""BBC News as pairs for retrieval: each headline, and the body that belongs to it, as vectors.

A configuration and a run's folders go in, arrays on the run's device come out. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.bbc_news import Article, BBCNews, DataError, load_bbc_news
from models.biencoder.config import BiEncoderConfig
from models.biencoder.vectors import encode_texts

if TYPE_CHECKING:
    from pytest_ablation.run import Run


@dataclass(frozen=True)
class Pairs:
    """Row i of *headlines* belongs to row i of *bodies*: float32 [n, width] encoder outputs."""

    headlines: Tensor
    bodies: Tensor

    def __len__(self) -> int:
        return len(self.headlines)


@dataclass(frozen=True)
class RetrievalData:
    """The articles, and their vectors split by split; the candidates are the split's bodies."""

    news: BBCNews
    train: Pairs
    validation: Pairs
    test: Pairs

    @property
    def width(self) -> int:
        return self.train.headlines.shape[1]


def load_pairs(config: BiEncoderConfig, run: Run, fewest: int) -> RetrievalData:
    """Encode all articles, or read their vectors where they are kept, and put them on the device.

    Raises
    ------
    DataError
        No articles, or fewer than *fewest* in the validation or test split.
    models.biencoder.encoder.EncoderError
    """
    news = load_bbc_news(run.data_dir)
    for name in ("validation", "test"):
        if len(getattr(news, name)) < fewest:
            raise DataError(
                f"the {name} split has {len(getattr(news, name))} articles; retrieval needs "
                f"{fewest}, so that being among the first {fewest - 1} means something"
            )
    articles = (*news.train, *news.validation, *news.test)
    vectors = encode_texts(
        [*(article.headline for article in articles), *(article.body for article in articles)],
        encoder=config.encoder,
        max_length=config.max_length,
        device=run.device,
        cache_dir=run.cache_dir,
        on_progress=run.doing,
    )
    on_device = torch.tensor(vectors, device=run.device)
    headlines, bodies = on_device[: len(articles)], on_device[len(articles) :]
    splits = (news.train, news.validation, news.test)
    return RetrievalData(news, *_split(headlines, bodies, splits))


def _split(
    headlines: Tensor, bodies: Tensor, splits: tuple[tuple[Article, ...], ...]
) -> list[Pairs]:
    sizes = [len(split) for split in splits]
    return [
        Pairs(*sides) for sides in zip(headlines.split(sizes), bodies.split(sizes), strict=True)
    ]
