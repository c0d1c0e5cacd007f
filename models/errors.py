"""What goes wrong with the data of the models: one error for all corpora.

Nothing flows in or out; every module that reads a data folder raises it. Knows no corpus.
"""

from __future__ import annotations


class DataError(ValueError):
    """A data folder does not hold what was expected."""
