"""Training of the Transformer classifier: one run from data to reported test accuracy.

A configuration and a run go in; metrics come out, all else is told through the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.budget import require_epochs
from models.metrics import top_k_correct
from models.randomness import make_repeatable, numpy_generator
from models.transformer.config import TransformerConfig
from models.transformer.data import (
    EncodedSplit,
    encode_bbc_news,
    evaluation_batches,
    training_batches,
)
from models.transformer.model import TransformerClassifier

if TYPE_CHECKING:
    from pytest_ablation.run import Run

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class DeviceSplit:
    """An encoded split whose arrays lie on the run's device."""

    tokens: Tensor  # int [n, longest]
    lengths: np.ndarray  # int [n]; stays on the CPU, where batches are composed
    labels: Tensor  # int64 [n]

    @classmethod
    def of(cls, split: EncodedSplit, device: str) -> DeviceSplit:
        return cls(
            torch.from_numpy(split.tokens).to(device),
            split.lengths,
            torch.from_numpy(split.labels).to(device),
        )

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None, Tensor]:
        """tokens [batch, longest of the batch], lengths (None: nothing is padded), labels."""
        where = torch.from_numpy(indices).to(self.tokens.device)
        lengths = self.lengths[indices]
        longest = int(lengths.max())
        is_padded = bool((lengths < longest).any())
        on_device = torch.from_numpy(lengths).to(self.tokens.device) if is_padded else None
        return self.tokens[where, :longest], on_device, self.labels[where]


@dataclass(frozen=True)
class Evaluation:
    """scores: float32 [n, classes], in the split's order; loss: mean cross-entropy."""

    scores: np.ndarray
    loss: float
    top1: float


def train(config: TransformerConfig, run: Run) -> dict[str, float]:
    """See :func:`models.transformer.train_classifier`."""
    require_epochs(run)
    make_repeatable(run.device)
    data = encode_bbc_news(run.data_dir, config.max_length, config.min_count)
    run.use_data(train=data.news.train, evaluation=(data.news.validation, data.news.test))
    run.note("data", data.news.describe())
    model = TransformerClassifier(
        config, run, vocabulary_size=data.vocabulary_size, num_classes=len(data.news.classes)
    ).to(run.device)
    run.parameters = sum(parameter.numel() for parameter in model.parameters())
    with run.training():
        fit(model, config, run, data.train, data.validation)
    run.save_weights(model.state_dict())
    return report(evaluate(model, DeviceSplit.of(data.test, run.device)), data.test.labels, run)


def fit(
    model: TransformerClassifier,
    config: TransformerConfig,
    run: Run,
    training: EncodedSplit,
    validation: EncodedSplit,
) -> None:
    """Train *model* in place; it ends with the weights of its best validation epoch.

    Best is the highest top-1 accuracy, and among equals the lowest loss.
    """
    optimizer = Optimizer(
        model, config, run, steps_per_epoch=-(-len(training) // config.batch_size)
    )
    training_split = DeviceSplit.of(training, run.device)
    validation_split = DeviceSplit.of(validation, run.device)
    order = numpy_generator(run, "order")
    best, best_weights = (-math.inf, -math.inf), {}
    for epoch in range(1, run.mode.epochs + 1):
        batches = training_batches(training.lengths, config.batch_size, order)
        train_epoch(model, optimizer, run, epoch, training_split, batches)
        seen = evaluate(model, validation_split)
        run.log(epoch, "validation", loss=seen.loss, top1=seen.top1)
        if (seen.top1, -seen.loss) > best:
            best = seen.top1, -seen.loss
            best_weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best_weights)


def train_epoch(
    model: TransformerClassifier,
    optimizer: Optimizer,
    run: Run,
    epoch: int,
    split: DeviceSplit,
    batches: Iterator[np.ndarray],
) -> None:
    """One pass over *batches*; logs loss and top-1 as they were during training, dropout on."""
    model.train()
    totals = torch.zeros(2, device=run.device)  # loss and correct, summed where they are computed
    examples = 0
    for indices in batches:
        tokens, lengths, labels = split.batch(indices)
        scores = model(tokens, lengths)
        loss = F.cross_entropy(scores, labels)
        # Reading a loss from a GPU would wait for it; there the sum below is looked at instead.
        run.step(indices, epoch=epoch, loss=loss.item() if loss.device.type == "cpu" else None)
        optimizer.step(loss)
        with torch.no_grad():
            correct = (scores.argmax(dim=1) == labels).sum()
            totals += torch.stack([loss * len(indices), correct])
        examples += len(indices)
    mean_loss, top1 = (totals / examples).tolist()
    run.log(epoch, "train", loss=mean_loss, top1=top1)


class Optimizer:
    """AdamW (I. Loshchilov and F. Hutter, ICLR 2019) with clipping, warm-up and linear decay."""

    def __init__(
        self,
        model: TransformerClassifier,
        config: TransformerConfig,
        run: Run,
        steps_per_epoch: int,
    ) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._config = config
        self._run = run
        self._steps = 0
        self._all_steps = steps_per_epoch * run.mode.epochs
        self._adamw = torch.optim.AdamW(
            _decayed_and_not(model, config.weight_decay), lr=config.learning_rate, fused=True
        )

    def step(self, loss: Tensor) -> None:
        """Change the parameters so that *loss* falls."""
        self._adamw.zero_grad(set_to_none=True)
        loss.backward()
        if self._config.grad_clip_norm is not None:
            self._clip(self._config.grad_clip_norm)
        factor = learning_rate_factor(self._steps, self._all_steps, self._config.warmup_fraction)
        for group in self._adamw.param_groups:
            group["lr"] = self._config.learning_rate * factor
        self._adamw.step()
        self._steps += 1

    def _clip(self, limit: float) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        self._run.watch_limit("grad_clip_norm", limit=limit, observed=norm.item())


def _decayed_and_not(model: TransformerClassifier, weight_decay: float) -> list[dict]:
    """Only matrices are decayed: not word vectors (rare ones would fade), norms and biases."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and name != "embedding.weight"
            (matrices if is_matrix else others).append(parameter)
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def learning_rate_factor(step: int, all_steps: int, warmup_fraction: float) -> float:
    """The fraction of the peak learning rate at *step* (from 0): linear up, then linear to zero.

    Never zero, so that every step trains.
    """
    warmup_steps = round(warmup_fraction * all_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return (all_steps - step) / (all_steps - warmup_steps)


@torch.inference_mode()
def evaluate(model: TransformerClassifier, split: DeviceSplit) -> Evaluation:
    """Score all texts of *split*, dropout off."""
    model.eval()
    order, scores = [], []
    for indices in evaluation_batches(split.lengths, EVALUATION_BATCH):
        tokens, lengths, _ = split.batch(indices)
        order.append(torch.from_numpy(indices))
        scores.append(model(tokens, lengths))
    in_order = torch.empty_like(all_scores := torch.cat(scores))
    in_order[torch.cat(order).to(in_order.device)] = all_scores
    return Evaluation(
        scores=in_order.float().cpu().numpy(),
        loss=F.cross_entropy(in_order, split.labels).item(),
        top1=(in_order.argmax(dim=1) == split.labels).float().mean().item(),
    )


def report(tested: Evaluation, labels: np.ndarray, run: Run) -> dict[str, float]:
    """Test accuracies; the scores and who was right go to the run, example by example."""
    correct = {
        f"top{k}": top_k_correct(tested.scores, labels, k)
        for k in (1, 2)
        if k < tested.scores.shape[1]  # top-2 of two classes would measure nothing
    }
    run.save_predictions(scores=tested.scores, labels=labels, **correct)
    return {name: float(right.mean()) for name, right in correct.items()}
