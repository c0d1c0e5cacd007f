"""A pretrained encoder in place of embeddings and blocks: frozen, or trained with the head.

A configuration and texts go in; a classifier and splits that give its inputs come out. The head is
the same in both, so that what differs is whether the encoder learns. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from models.dropout import SeededDropout
from models.linear import Linear
from models.pretrained.encoder import encoder_digest, encoder_folder, load_pretrained, mean_pooling
from models.pretrained.vectors import encode_texts
from models.randomness import initialise
from models.transformer.config import TransformerConfig
from models.transformer.data import EncodedNews

if TYPE_CHECKING:
    from pytest_ablation.run import Run

SPLITS = ("train", "validation", "test")


class EncoderClassifier(nn.Module):
    """LayerNorm, dropout and a linear map over an encoder's mean-pooled outputs.

    Parameters
    ----------
    width : int
        Numbers per text.
    encoder : module or None
        A Hugging Face model that is trained with the head; None where the inputs are vectors of a
        frozen one already.
    """

    def __init__(
        self,
        config: TransformerConfig,
        run: Run,
        *,
        width: int,
        num_classes: int,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.LayerNorm(width),
            SeededDropout(config.dropout, run, "pooled"),
            nn.Linear(width, num_classes),
        )
        initialise(self.head, run)
        self.encoder = encoder
        self.in_bfloat16 = config.precision == "bfloat16"

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (logits).

        Parameters
        ----------
        inputs : float [batch, width] vectors; with an encoder int [batch, tokens] token numbers
        mask : int [batch, tokens], with an encoder
            1 for a token, 0 for padding.

        Returns
        -------
        float [batch, classes]
        """
        if self.encoder is not None:
            with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.in_bfloat16):
                outputs = self.encoder(input_ids=inputs, attention_mask=mask).last_hidden_state
            inputs = mean_pooling(outputs.float(), mask)
        return self.head(inputs)

    def train(self, mode: bool = True) -> EncoderClassifier:
        """The encoder's own dropout stays off: it would draw from torch's global stream."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self


@dataclass(frozen=True)
class VectorSplit:
    """Texts as vectors of a frozen encoder; ``full_lengths`` are words, as for other models."""

    vectors: Tensor  # float32 [n, width]
    full_lengths: np.ndarray
    labels: Tensor  # int64 [n]

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, indices: np.ndarray) -> tuple[Tensor]:
        return (self.vectors[torch.from_numpy(indices).to(self.vectors.device)],)


@dataclass(frozen=True)
class TokenSplit:
    """Texts as an encoder's token numbers, padded batch by batch."""

    tokens: Sequence[np.ndarray]  # int64, one per text
    padding: int
    full_lengths: np.ndarray
    labels: Tensor  # int64 [n]

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Token numbers and mask, int64 [batch, longest of the batch]."""
        chosen = [torch.from_numpy(self.tokens[index]) for index in indices]
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad(chosen, batch_first=True, padding_value=self.padding)
        mask = pad([torch.ones_like(row) for row in chosen], batch_first=True)
        return ids.to(self.labels.device), mask.to(self.labels.device)


def pretrained_classifier(
    config: TransformerConfig, data: EncodedNews, run: Run
) -> tuple[EncoderClassifier, Mapping[str, VectorSplit | TokenSplit]]:
    """The classifier on ``run.device`` and its train, validation and test split.

    Raises
    ------
    models.pretrained.encoder.EncoderError
        The encoder is not there, or cannot be used.
    """
    files = encoder_digest(encoder_folder(config.encoder))[:12]
    how = "fine-tuned" if config.fine_tune else "frozen, its outputs kept (costs are the head's)"
    run.note(
        "encoder",
        f"{config.encoder} (files {files}), {how}; the mean over the first {config.max_length} "
        f"tokens",
    )
    return _fine_tuned(config, data, run) if config.fine_tune else _frozen(config, data, run)


def _frozen(
    config: TransformerConfig, data: EncodedNews, run: Run
) -> tuple[EncoderClassifier, dict[str, VectorSplit]]:
    texts = [getattr(data.news, name).texts for name in SPLITS]
    vectors = encode_texts(
        [text for of_split in texts for text in of_split],
        encoder=config.encoder,
        max_length=config.max_length,
        precision=config.precision,
        device=run.device,
        cache_dir=run.cache_dir,
        on_progress=run.doing,
    )
    parts = torch.tensor(vectors, device=run.device).split([len(part) for part in texts])
    splits = {
        name: VectorSplit(part, *_known(data, name, run))
        for name, part in zip(SPLITS, parts, strict=True)
    }
    model = EncoderClassifier(config, run, width=vectors.shape[1], num_classes=len(data.classes))
    return model.to(run.device), splits


def _fine_tuned(
    config: TransformerConfig, data: EncodedNews, run: Run
) -> tuple[EncoderClassifier, dict[str, TokenSplit]]:
    tokenizer, encoder = load_pretrained(encoder_folder(config.encoder), config.max_length)
    for module in encoder.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear  # the same layer, faster on some processors
    splits = {}
    for name in SPLITS:
        read = tokenizer(
            list(getattr(data.news, name).texts), truncation=True, max_length=config.max_length
        )
        tokens = [np.array(ids, dtype=np.int64) for ids in read["input_ids"]]
        splits[name] = TokenSplit(tokens, tokenizer.pad_token_id, *_known(data, name, run))
    model = EncoderClassifier(
        config, run, width=encoder.config.hidden_size, num_classes=len(data.classes),
        encoder=encoder,
    )  # fmt: skip
    return model.to(run.device), splits


def _known(data: EncodedNews, name: str, run: Run) -> tuple[np.ndarray, Tensor]:
    """Lengths in words and labels: batches are composed as for a model of its own words."""
    split = getattr(data, name)
    return split.full_lengths, torch.from_numpy(split.labels).to(run.device)
