"""The configuration of the bi-encoder: one field per component, checked when made.

The default is the baseline ``plain`` of the studies: no LayerNorm, no ReLU. Knows nothing of torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.checked_fields import CheckedFields
from models.pretrained import DEFAULT_ENCODER

CORPORA = ("bbc_news", "arguana")
FUSIONS = ("projected", "encoder", "both")
PRECISIONS = ("auto", "float32", "bfloat16")

#: What suits a corpus better than the fields' defaults, which are those of ArguAna.
_CHOSEN_FOR = {
    "arguana": {},
    # The classifier is the weaker judge there: the more its log-odds weigh, the more is lost.
    "bbc_news": {
        "max_length": 64,
        "dropout": 0.3,
        "learning_rate": 2e-3,
        "pair_weight": 0.3,
        "rerank_weight": 0.03,
    },
}


@dataclass(frozen=True, kw_only=True)
class BiEncoderConfig(CheckedFields):
    """A sentence encoder, a trained head over its output, and a pair classifier.

    The shape is Sentence-BERT's (N. Reimers and I. Gurevych, EMNLP 2019, section 3), whose numbers
    stand beside the fields as "3"; the choice of negatives and the joint loss follow J. Shi,
    M. Cao and T. Nguyen's Bipolar-encoder (arXiv 2304.08807, 2023).

    Raises
    ------
    ValueError
        A value out of its range; the message names the field, the value and what is allowed.
    """

    # fmt: off
    corpus: str = "arguana"            # or "bbc_news": what is asked, and what may answer
    encoder: str = DEFAULT_ENCODER     # a package, a folder, or a name in the local hub cache
    encoder_precision: str = "auto"    # bfloat16 where the processor has it; or one of the two
    max_length: int = 128              # tokens that are read of a text
    known_pairs: bool = True           # train also on pairs that validation or test repeat
    train_encoder: bool = False        # fine-tuned with the head; else frozen
    shared: bool = True                # one encoder and head for both sides; else one for each
    layernorm: bool = False            # J. L. Ba et al., 2016, affine; of the encoder's output
    relu: bool = False                 # of the encoder's output, after the LayerNorm
    embed_dim: int = 128               # width of the space that is searched
    dropout: float = 0.1               # of the encoder's output; to 1/256
    fusion: str = "projected"          # the pair classifier sees the embedding, the encoder's
                                       # output (after LayerNorm and ReLU), or both; with |a - b|
    triplet_margin: float = 1.0        # 3, triplet objective; Euclidean
    triplet_weight: float = 1.0        # of the triplet loss in the loss
    contrastive_weight: float = 0.0    # of the in-batch contrastive loss in the loss
    contrastive_scale: float = 20.0    # of the cosine in it
    pair_weight: float = 1.0           # of the pair classifier's cross-entropy in the loss
    negatives: int = 1                 # per pair
    random_negatives: float = 0.5      # share of negatives drawn from all in the first epoch ...
    random_decay: float = 0.05         # ... and how much smaller it is in every next one, to 0
    hard_pool: int = 10                # the others are drawn from so many nearest neighbours
    exact_search: bool = True          # of the neighbours; False: scikit-learn's BallTree
    rerank_top: int | None = 10        # candidates re-ranked; None: none
    rerank_weight: float = 1.0         # of the classifier's log-odds beside the distance
    batch_size: int = 64               # pairs of a query and its answer
    learning_rate: float = 3e-3        # of AdamW
    encoder_learning_rate: float = 2e-5  # of the encoder, where it is trained
    weight_decay: float = 0.01         # I. Loshchilov and F. Hutter, ICLR 2019; of matrices
    grad_clip_norm: float | None = None  # R. Pascanu et al., ICML 2013; None: no clipping
    # fmt: on

    def __post_init__(self) -> None:
        self._require("encoder", isinstance(self.encoder, str) and self.encoder != "", "a name")
        self._require_choice("corpus", CORPORA)
        self._require_choice("encoder_precision", PRECISIONS)
        self._require_choice("fusion", FUSIONS)
        self._require_count("max_length", at_least=3)  # two of them mark the start and the end
        self._require_count("batch_size", at_least=2)  # the contrastive loss compares within it
        for name in ("embed_dim", "negatives", "hard_pool"):
            self._require_count(name, at_least=1)
        for name in ("layernorm", "relu", "shared", "train_encoder", "known_pairs",
                     "exact_search"):  # fmt: skip
            self._require_flag(name)
        self._check_numbers()
        self._require(
            "triplet_weight",
            self.triplet_weight + self.contrastive_weight + self.pair_weight > 0,
            "positive where contrastive_weight and pair_weight are 0",
        )
        if self.rerank_top is not None:
            self._require_count("rerank_top", at_least=2, otherwise=", or None for no re-ranking")

    def _check_numbers(self) -> None:
        for name in ("triplet_margin", "contrastive_scale", "learning_rate",
                     "encoder_learning_rate"):  # fmt: skip
            self._require_number(name, "a positive number", lambda value: value > 0)
        for name in ("triplet_weight", "contrastive_weight", "pair_weight", "rerank_weight",
                     "weight_decay", "random_decay"):  # fmt: skip
            self._require_number(name, "a number of 0 or more", lambda value: value >= 0)
        self._require_number("dropout", "a rate in [0, 1)", lambda value: 0 <= value < 1)
        self._require_number("random_negatives", "a share in [0, 1]", lambda v: 0 <= v <= 1)
        if self.grad_clip_norm is not None:
            self._require_number(
                "grad_clip_norm", "a positive number, or None for no clipping", lambda v: v > 0
            )


def config_for(corpus: str, **changes: Any) -> BiEncoderConfig:
    """The configuration that suits *corpus* ("arguana" or "bbc_news"), with *changes*.

    Chosen on the validation splits.
    """
    return BiEncoderConfig(**{"corpus": corpus, **_CHOSEN_FOR.get(corpus, {}), **changes})
