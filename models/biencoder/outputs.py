"""Where encoder outputs come from: kept vectors of a frozen encoder, or one that is being trained.

Indices of a split's texts go in, float32 outputs on the run's device come out. Knows no head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.biencoder.config import BiEncoderConfig
from models.biencoder.data import RetrievalSplit
from models.pretrained.encoder import (
    encoder_folder,
    load_pretrained,
    mean_pooling,
)
from models.pretrained.precision import checked_precision
from models.pretrained.vectors import encode_texts, opening

if TYPE_CHECKING:
    from pytest_ablation.run import Run

QUERY, CANDIDATE = 0, 1
BATCH = 64  # texts that a trained encoder reads at once where no gradient is wanted


class Outputs(Protocol):
    """Encoder outputs of a split's texts."""

    width: int
    description: str  # frozen or trained, and the precision, for the report

    def of(self, split: RetrievalSplit, texts: np.ndarray, side: int) -> Tensor:
        """Float32 [n, width], for indices into ``split.texts``; *side* is QUERY or CANDIDATE."""
        ...

    def modules(self) -> nn.ModuleList:
        """The encoders that are trained; none where they are frozen."""
        ...


def make_outputs(config: BiEncoderConfig, splits: Sequence[RetrievalSplit], run: Run) -> Outputs:
    """Encode all texts, or read their vectors where they are kept; or load what is to be trained.

    Parameters
    ----------
    splits : sequence of RetrievalSplit
        Those that will be asked for.

    Raises
    ------
    models.pretrained.encoder.EncoderError
    """
    if config.train_encoder:
        return TrainedOutputs(config, run)
    return FrozenOutputs(config, splits, run)


class FrozenOutputs:
    """Kept vectors: one forward pass of the encoder per distinct text, ever."""

    def __init__(self, config: BiEncoderConfig, splits: Sequence[RetrievalSplit], run: Run) -> None:
        vectors = encode_texts(
            [text for split in splits for text in split.texts],
            encoder=config.encoder,
            max_length=config.max_length,
            precision=config.encoder_precision,
            device=run.device,
            cache_dir=run.cache_dir,
            on_progress=run.doing,
        )
        on_device = torch.tensor(vectors, device=run.device)
        self.width = on_device.shape[1]
        precision = checked_precision(
            config.encoder_precision, encoder_folder(config.encoder),
            device=run.device, cache_dir=run.cache_dir,
        )  # fmt: skip
        self.description = f"frozen, {precision}, its outputs kept (costs are those of the head)"
        parts = on_device.split([len(split.texts) for split in splits])
        self._of = {split.name: part for split, part in zip(splits, parts, strict=True)}

    def of(self, split: RetrievalSplit, texts: np.ndarray, side: int) -> Tensor:
        vectors = self._of[split.name]
        return vectors[torch.from_numpy(texts).to(vectors.device)]

    def modules(self) -> nn.ModuleList:
        return nn.ModuleList()


class TrainedOutputs:
    """The encoder, read with gradients while training; one for each side where not shared.

    Its own dropout stays off: it would draw from torch's global stream, which is shared by all.
    """

    def __init__(self, config: BiEncoderConfig, run: Run) -> None:
        folder = encoder_folder(config.encoder)
        self._tokenizer, encoder = load_pretrained(folder, config.max_length)
        encoders = [encoder]
        if not config.shared:
            encoders.append(load_pretrained(folder, config.max_length)[1])
        self._encoders = nn.ModuleList(encoders).to(run.device)
        self._max_length = config.max_length
        self._device = run.device
        self._tokens: dict[str, list[list[int]]] = {}
        self.width = encoder.config.hidden_size
        self.description = "fine-tuned, float32"

    def modules(self) -> nn.ModuleList:
        return self._encoders

    def of(self, split: RetrievalSplit, texts: np.ndarray, side: int) -> Tensor:
        tokens = self._tokens_of(split)
        chosen = [tokens[text] for text in texts]
        if torch.is_grad_enabled():
            return self._outputs(chosen, side)
        outputs = torch.empty(len(chosen), self.width, device=self._device)
        for rows in _by_length(chosen):
            outputs[rows] = self._outputs([chosen[row] for row in rows], side)
        return outputs

    def _tokens_of(self, split: RetrievalSplit) -> list[list[int]]:
        if split.name not in self._tokens:
            openings = [opening(text, self._max_length) for text in split.texts]
            read = self._tokenizer(openings, truncation=True, max_length=self._max_length)
            self._tokens[split.name] = read["input_ids"]
        return self._tokens[split.name]

    def _outputs(self, tokens: list[list[int]], side: int) -> Tensor:
        padded = self._tokenizer.pad({"input_ids": tokens}, return_tensors="pt").to(self._device)
        encoder = self._encoders[min(side, len(self._encoders) - 1)]
        return mean_pooling(encoder(**padded).last_hidden_state, padded["attention_mask"])


def _by_length(tokens: list[list[int]]) -> Iterator[list[int]]:
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    return (order[start : start + BATCH] for start in range(0, len(order), BATCH))
