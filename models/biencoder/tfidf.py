"""TF-IDF cosine similarity: what words alone find, to stand beside every trained encoder.

Texts go in, scores of every query against all of them come out. Imports scikit-learn when called;
knows no task and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def tfidf_scores(texts: Sequence[str], queries: Sequence[int]) -> np.ndarray:
    """Cosine similarity of some of *texts* to all of them.

    scikit-learn's ``TfidfVectorizer(sublinear_tf=True, stop_words="english")``, fitted on all
    *texts*: the evaluated split's own words weigh what they weigh there, and no other split is
    seen. Its rows have length 1, so that the dot product is the cosine.

    Parameters
    ----------
    texts : sequence of str
        All arguments of a split, in its order.
    queries : sequence of int
        Indices into *texts*.

    Returns
    -------
    ndarray of float64 in [0, 1] (to rounding), shape (len(queries), len(texts))
        1 where a text equals the query's; 0 where they share no word, and for a text of stop
        words only. Equal texts have equal scores, to the bit.

    Raises
    ------
    ValueError
        No texts, no queries, an index that is no text, or texts without any word to compare.
    """
    if not len(texts) or not len(queries):
        raise ValueError(
            f"TF-IDF needs texts and queries, found {len(texts)} texts and {len(queries)} queries"
        )
    if min(queries) < 0 or max(queries) >= len(texts):
        raise ValueError(
            f"queries index the {len(texts)} texts, found {min(queries)} to {max(queries)}"
        )
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    try:
        rows = vectorizer.fit_transform(texts)
    except ValueError as error:  # scikit-learn's words for it: "empty vocabulary"
        raise ValueError(
            f"none of the {len(texts)} texts has a word of two letters that is no English stop "
            "word, so TF-IDF cannot compare them"
        ) from error
    return (rows[list(queries)] @ rows.T).toarray()
