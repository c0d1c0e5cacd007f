"""Which wrong candidates a query is trained against: near ones, mixed with random ones.

Embeddings of the training split go in after every epoch; for every pair, indices of candidates come
out. What is drawn at random depends on the generator alone. NumPy; knows no model.
"""

from __future__ import annotations

import numpy as np

from models.biencoder.config import BiEncoderConfig
from models.biencoder.data import RetrievalSplit
from models.biencoder.neighbours import NeighbourSearch, ball_tree_search, exact_search
from models.errors import DataError


class Negatives:
    """Draws the negatives of every epoch of one run.

    A negative is never the query itself nor its answer, nor a text that reads the same as one of
    them.

    Parameters
    ----------
    config : BiEncoderConfig
    train : RetrievalSplit
    generator : numpy.random.Generator
        Its stream does not depend on the embeddings.

    Raises
    ------
    DataError
        A query for which every candidate is itself or its answer.
    """

    def __init__(
        self, config: BiEncoderConfig, train: RetrievalSplit, generator: np.random.Generator
    ) -> None:
        self._config = config
        self._generator = generator
        self._search: NeighbourSearch = exact_search if config.exact_search else ball_tree_search
        self._codes = train.text_codes[train.candidates]
        self._forbidden = np.stack(
            [train.text_codes[train.queries], self._codes[train.own]], axis=1
        )
        self._counts = np.bincount(self._codes, minlength=self._forbidden.max() + 1)
        self._check_enough()

    def random_share(self, epoch: int) -> float:
        """The share of negatives that are drawn from all candidates; *epoch* counts from 1."""
        config = self._config
        return max(0.0, config.random_negatives - (epoch - 1) * config.random_decay)

    def draw(self, epoch: int, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """The negatives of one epoch.

        Parameters
        ----------
        epoch : int
            From 1.
        queries, candidates : ndarray of float, shape (q, embed_dim) and (c, embed_dim)
            Embeddings of the training split as they are before this epoch.

        Returns
        -------
        ndarray of int64, shape (q, config.negatives)
            Indices of candidates.
        """
        shape = (len(self._forbidden), self._config.negatives)
        kinds, places, picks = (self._generator.random(shape) for _ in range(3))
        drawn = self._random(picks)
        share = self.random_share(epoch)
        if share < 1:
            drawn = np.where(kinds < share, drawn, self._hard(queries, candidates, places))
        return drawn

    def _random(self, picks: np.ndarray) -> np.ndarray:
        """The candidate at each place in [0, 1); from one that is forbidden on to the next."""
        drawn = (picks * len(self._codes)).astype(np.int64)
        while (bad := self._is_forbidden(drawn)).any():
            drawn = np.where(bad, (drawn + 1) % len(self._codes), drawn)
        return drawn

    def _hard(self, queries: np.ndarray, candidates: np.ndarray, places: np.ndarray) -> np.ndarray:
        """One of the ``hard_pool`` nearest that are allowed, by its place in [0, 1)."""
        most_forbidden = int(self._forbidden_counts().max())
        wanted = min(self._config.hard_pool + most_forbidden, len(candidates))
        nearest = self._search(queries, candidates, wanted)
        allowed = ~self._is_forbidden(nearest)
        nearest = np.take_along_axis(nearest, np.argsort(~allowed, axis=1, kind="stable"), axis=1)
        pool = np.minimum(allowed.sum(axis=1), self._config.hard_pool)[:, None]
        return np.take_along_axis(nearest, (places * pool).astype(np.int64), axis=1)

    def _is_forbidden(self, chosen: np.ndarray) -> np.ndarray:
        codes = self._codes[chosen]
        return (codes == self._forbidden[:, :1]) | (codes == self._forbidden[:, 1:])

    def _forbidden_counts(self) -> np.ndarray:
        """For each query, how many candidates read like itself or like its answer."""
        same = self._forbidden[:, 0] == self._forbidden[:, 1]
        return (
            self._counts[self._forbidden].sum(axis=1) - same * self._counts[self._forbidden[:, 0]]
        )

    def _check_enough(self) -> None:
        without = np.flatnonzero(self._forbidden_counts() >= len(self._codes))
        if len(without):
            raise DataError(
                f"the training split has {len(self._codes)} candidates, and for {len(without)} of "
                f"its {len(self._forbidden)} queries each of them is the query or its answer: "
                f"nothing can be a negative; give more data"
            )
