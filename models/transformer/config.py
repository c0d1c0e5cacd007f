"""The configuration of the Transformer classifier: one field per component, checked when made.

Knows nothing of torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.checked_fields import CheckedFields

CORPORA = ("ag_news", "ag_news_hub", "bbc_news")
POSITIONAL_ENCODINGS = ("sinusoidal", "learned", "rotary", "alibi")
PRECISIONS = ("float32", "bfloat16")
FFN_RATIO = 4  # feed-forward width over embed_dim, where nobody chose it (3.3)

#: What suits a corpus better than the fields' defaults, which are those of AG News.
_CHOSEN_FOR = {
    "bbc_news": {
        "embed_dim": 64,
        "num_layers": 1,
        "ffn_dim": 128,
        "dropout": 0.2,
        "max_length": 96,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
    },
}
#: What stands in for these fields where a pretrained encoder is used.
_OF_THE_ENCODER = (
    "embed_dim", "num_heads", "num_layers", "ffn_dim", "positional_encoding", "train_embeddings",
    "min_count",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(CheckedFields):
    """A text classifier after "Attention Is All You Need" (A. Vaswani et al., NeurIPS 2017).

    The section numbers beside the fields are that paper's, where no other is named.

    Raises
    ------
    ValueError
        A value out of its range; the message names the field, the value and what is allowed.
    """

    # fmt: off
    corpus: str = "ag_news"            # or "ag_news_hub", by the package datasets; or "bbc_news"
    embed_dim: int = 128               # width of the residual stream
    num_heads: int = 4                 # 3.2.2; divides embed_dim
    num_layers: int = 3                # 3.1
    ffn_dim: int | None = 512          # 3.3; None: blocks without the feed-forward sub-layer
    positional_encoding: str | None = "sinusoidal"  # 3.5; or "learned", "rotary" (J. Su et al.,
                                       # arXiv 2104.09864), "alibi" (O. Press et al., ICLR 2022),
                                       # None: a bag of words
    dropout: float = 0.1               # 5.4, on embeddings and sub-layer outputs; to 1/256
    train_embeddings: bool = True      # False: word vectors stay as initialised
    encoder: str | None = None         # a pretrained encoder in place of embeddings and blocks: a
                                       # package, a folder, or a name in the local hub cache
    fine_tune: bool = False            # the encoder is trained with the head; else it is frozen
    encoder_learning_rate: float = 5e-5  # of the encoder, where it is trained
    grad_clip_norm: float | None = None  # R. Pascanu et al., ICML 2013, algorithm 1
    max_length: int = 256              # words (with an encoder: tokens) of a text that are read
    min_count: int = 2                 # rarer words of the training split are unknown
    batch_size: int = 64               # texts
    learning_rate: float = 5e-4        # peak, of AdamW
    warmup_fraction: float = 0.1       # 5.3: of all steps; linear up, then linear down to zero
    weight_decay: float = 1e-5         # I. Loshchilov and F. Hutter, ICLR 2019; of matrices
    precision: str = "float32"         # or "bfloat16": what matrices are multiplied in
    # fmt: on

    def __post_init__(self) -> None:
        self._require_choice("corpus", CORPORA)
        for name in ("embed_dim", "num_heads", "num_layers", "max_length", "min_count",
                     "batch_size"):  # fmt: skip
            self._require_count(name)
        if self.ffn_dim is not None:
            self._require_count("ffn_dim", otherwise=", or None for no feed-forward sub-layer")
        self._require("embed_dim", self.embed_dim % 2 == 0, "even (sines and cosines in pairs)")
        self._require(
            "num_heads", self.embed_dim % self.num_heads == 0,
            f"a divisor of embed_dim={self.embed_dim}",
        )  # fmt: skip
        self._require_choice("positional_encoding", POSITIONAL_ENCODINGS, optional=True)
        self._require(
            "positional_encoding",
            self.positional_encoding != "rotary" or self.embed_dim // self.num_heads % 2 == 0,
            f"another one than 'rotary', which turns pairs of numbers, where a head has "
            f"{self.embed_dim // self.num_heads} (embed_dim / num_heads)",
        )
        self._require_choice("precision", PRECISIONS)
        self._check_encoder()
        self._check_numbers()

    def _check_encoder(self) -> None:
        for name in ("train_embeddings", "fine_tune"):
            self._require_flag(name)
        self._require(
            "encoder", self.encoder is None or (isinstance(self.encoder, str) and self.encoder),
            "a name, or None for embeddings and blocks of its own",
        )  # fmt: skip
        self._require(
            "fine_tune", not self.fine_tune or self.encoder is not None,
            "False where there is no encoder (give encoder=...)",
        )  # fmt: skip
        # Two tokens mark the start and the end for an encoder.
        if self.encoder is not None:
            self._require_count("max_length", at_least=3)

    def _check_numbers(self) -> None:
        for name in ("learning_rate", "encoder_learning_rate"):
            self._require_number(name, "a positive number", lambda value: value > 0)
        self._require_number("weight_decay", "a number of 0 or more", lambda value: value >= 0)
        self._require_number("dropout", "a rate in [0, 1)", lambda value: 0 <= value < 1)
        self._require_number("warmup_fraction", "in [0, 1)", lambda value: 0 <= value < 1)
        if self.grad_clip_norm is not None:
            self._require_number(
                "grad_clip_norm", "a positive number, or None for no clipping", lambda v: v > 0
            )

    @property
    def idle_fields(self) -> frozenset[str]:
        """The fields that change nothing here, because of the values of others."""
        if self.encoder is None:
            return frozenset({"encoder_learning_rate"})
        of_training = () if self.fine_tune else ("encoder_learning_rate",)
        return frozenset({*_OF_THE_ENCODER, *of_training})


def config_for(corpus: str, **changes: Any) -> TransformerConfig:
    """The configuration that suits *corpus*, with *changes*.

    Where they change ``embed_dim`` and not ``ffn_dim``, that is four times as wide.
    """
    if "embed_dim" in changes and "ffn_dim" not in changes:
        changes["ffn_dim"] = FFN_RATIO * changes["embed_dim"]
    return TransformerConfig(**{"corpus": corpus, **_CHOSEN_FOR.get(corpus, {}), **changes})
