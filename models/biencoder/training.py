"""Training of the bi-encoder: one run from articles to reported test accuracy.

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

from models.biencoder.config import BiEncoderConfig
from models.biencoder.data import Pairs, RetrievalData, load_pairs
from models.biencoder.encoder import encoder_digest, encoder_folder
from models.biencoder.model import BiEncoder
from models.biencoder.retrieval import Answers, answer
from models.budget import require_epochs
from models.randomness import make_repeatable, numpy_generator

if TYPE_CHECKING:
    from pytest_ablation.run import Run

TOP_K = (1, 5, 10)


@dataclass(frozen=True)
class Batch:
    """Indices of training pairs, and how the negative of each is to be chosen.

    Parameters
    ----------
    indices : ndarray of int64, shape (batch,)
    drawn : ndarray of int64, shape (batch,)
        For each pair the position in the batch of a random other pair.
    is_hard : ndarray of bool, shape (batch,)
        Whether the nearest other body is taken in place of the drawn one.
    """

    indices: np.ndarray
    drawn: np.ndarray
    is_hard: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """The answers to a split's headlines, and its loss against the hardest negatives."""

    answers: Answers
    loss: float

    def accuracy(self, k: int) -> float:
        return float(self.answers.reranked.correct(k).mean())

    def retrieval_accuracy(self, k: int) -> float:
        return float(self.answers.retrieved.correct(k).mean())


def train(config: BiEncoderConfig, run: Run) -> dict[str, float]:
    """See :func:`models.biencoder.train_biencoder`."""
    require_epochs(run)
    make_repeatable(run.device)
    data = load_pairs(config, run, fewest=max(TOP_K) + 1)
    _describe(config, run, data)
    model = BiEncoder(config, run, data.width).to(run.device)
    run.parameters = sum(parameter.numel() for parameter in model.parameters())
    with run.training():
        fit(model, config, run, data)
    run.save_weights(model.state_dict())
    return report(evaluate(model, config, data.test), run)


def _describe(config: BiEncoderConfig, run: Run, data: RetrievalData) -> None:
    news = data.news
    run.use_data(train=news.train, evaluation=(news.validation, news.test))
    run.note("data", f"{news.describe()}; a headline is answered with a body of its split")
    files = encoder_digest(encoder_folder(config.encoder))[:12]
    run.note(
        "encoder",
        f"{config.encoder} (files {files}), frozen; the mean over the first {config.max_length} "
        f"tokens, float32, {data.width} numbers per text",
    )


def fit(model: BiEncoder, config: BiEncoderConfig, run: Run, data: RetrievalData) -> None:
    """Train *model* in place; it ends with the weights of its best validation epoch.

    Best is the highest top-1 accuracy after re-ranking, and among equals the lowest loss.
    """
    optimizer = Optimizer(
        model, config, all_steps=_steps(config, len(data.train)) * run.mode.epochs
    )
    order, negatives = numpy_generator(run, "order"), numpy_generator(run, "negatives")
    best, best_weights = (-math.inf, -math.inf), {}
    for epoch in range(1, run.mode.epochs + 1):
        batches = draw_batches(config, len(data.train), order, negatives)
        train_epoch(model, optimizer, config, run, epoch, data.train, batches)
        seen = evaluate(model, config, data.validation)
        top1 = seen.accuracy(1)
        run.log(
            epoch, "validation",
            loss=seen.loss, top1=top1, retrieval_top1=seen.retrieval_accuracy(1),
        )  # fmt: skip
        if (top1, -seen.loss) > best:
            best = top1, -seen.loss
            best_weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best_weights)


def _steps(config: BiEncoderConfig, pairs: int) -> int:
    """Steps of an epoch: a last batch of one pair is left out, for it has no negative."""
    return pairs // config.batch_size + (pairs % config.batch_size >= 2)


def draw_batches(
    config: BiEncoderConfig, pairs: int, order: np.random.Generator, negatives: np.random.Generator
) -> Iterator[Batch]:
    """An epoch's batches; what is drawn depends on the generators and the batch size alone."""
    shuffled = order.permutation(pairs)
    places, shares = negatives.random(pairs), negatives.random(pairs)
    for step in range(_steps(config, pairs)):
        rows = slice(step * config.batch_size, (step + 1) * config.batch_size)
        size = len(shuffled[rows])
        distance = 1 + (places[rows] * (size - 1)).astype(np.int64)  # to another place, 1..size-1
        yield Batch(
            indices=shuffled[rows],
            drawn=(np.arange(size) + distance) % size,
            is_hard=shares[rows] < config.hard_negative,
        )


def train_epoch(
    model: BiEncoder,
    optimizer: Optimizer,
    config: BiEncoderConfig,
    run: Run,
    epoch: int,
    pairs: Pairs,
    batches: Iterator[Batch],
) -> None:
    """One pass over *batches*; logs the loss as it was during training, dropout on."""
    model.train()
    total, examples = torch.zeros((), device=run.device), 0
    for batch in batches:
        indices, drawn, is_hard = (
            torch.from_numpy(array).to(run.device)
            for array in (batch.indices, batch.drawn, batch.is_hard)
        )
        size = len(batch.indices)
        both = torch.cat([pairs.headlines[indices], pairs.bodies[indices]])
        headlines, bodies = model(both).split(size)
        negatives = torch.where(is_hard, nearest_others(headlines, bodies), drawn)
        loss = loss_of(model, config, headlines, bodies, negatives)
        # Reading a loss from a GPU would wait for it; there the sum below is looked at instead.
        run.step(
            batch.indices, epoch=epoch, loss=loss.item() if loss.device.type == "cpu" else None
        )
        optimizer.step(loss)
        total += loss.detach() * size
        examples += size
    run.log(epoch, "train", loss=total.item() / examples)


@torch.no_grad()
def nearest_others(headlines: Tensor, bodies: Tensor) -> Tensor:
    """For each headline the index of the nearest body that is not its own, int64 [n]."""
    return torch.cdist(headlines, bodies).fill_diagonal_(math.inf).argmin(dim=1)


def loss_of(
    model: BiEncoder, config: BiEncoderConfig, headlines: Tensor, bodies: Tensor, negatives: Tensor
) -> Tensor:
    """The weighted sum of triplet loss and pair classification loss, a scalar.

    Triplets are (headline, its body, the negative's body): max(0, d(h, b) - d(h, n) + margin). The
    classifier learns from the same triplets, as one pair and one that is none.
    """
    others = bodies[negatives]
    triplet = F.triplet_margin_loss(headlines, bodies, others, margin=config.triplet_margin)
    logits = model.pair_logits(headlines.repeat(2, 1), torch.cat([bodies, others]))
    is_pair = torch.arange(2, device=logits.device).flip(0).repeat_interleave(len(headlines))
    pair = F.cross_entropy(logits, is_pair)
    return config.triplet_weight * triplet + config.pair_weight * pair


class Optimizer:
    """AdamW whose learning rate falls linearly to zero; matrices alone are decayed."""

    def __init__(self, model: BiEncoder, config: BiEncoderConfig, all_steps: int) -> None:
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        others = [p for p in model.parameters() if p.ndim < 2]
        self._adamw = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay},
             {"params": others, "weight_decay": 0.0}],
            lr=config.learning_rate,
            fused=True,
        )  # fmt: skip
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._adamw, lambda step: 1 - step / all_steps
        )

    def step(self, loss: Tensor) -> None:
        """Change the parameters so that *loss* falls."""
        self._adamw.zero_grad(set_to_none=True)
        loss.backward()
        self._adamw.step()
        self._schedule.step()


@torch.inference_mode()
def evaluate(model: BiEncoder, config: BiEncoderConfig, pairs: Pairs) -> Evaluation:
    """Answer all headlines of *pairs* with its bodies, dropout off."""
    model.eval()
    headlines, bodies = model(pairs.headlines), model(pairs.bodies)
    negatives = nearest_others(headlines, bodies)
    return Evaluation(
        answers=answer(model, config, headlines, bodies),
        loss=loss_of(model, config, headlines, bodies, negatives).item(),
    )


def report(tested: Evaluation, run: Run) -> dict[str, float]:
    """Test accuracies; ranks and who was right go to the run, example by example."""
    answers = tested.answers
    correct = {f"top{k}": answers.reranked.correct(k) for k in TOP_K}
    run.save_predictions(
        ranks=answers.reranked.ranks(),
        answers=answers.reranked.candidates[:, : max(TOP_K)],
        distances=answers.distances.diagonal(),
        **correct,
    )
    after = {name: float(right.mean()) for name, right in correct.items()}
    return after | {f"retrieval_top{k}": tested.retrieval_accuracy(k) for k in TOP_K}
