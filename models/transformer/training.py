"""Training of the Transformer classifier: one run from data to reported test accuracy.

A configuration and a run go in; metrics come out, all else is told through the run. What fits a
model knows a split by :class:`Split` alone: any model that takes its inputs can be trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.budget import require_epochs
from models.epochs import Epochs, Judgement
from models.metrics import top_k_correct
from models.randomness import make_repeatable, numpy_generator
from models.transformer.attention_maps import tell_attention
from models.transformer.config import TransformerConfig
from models.transformer.data import (
    EncodedNews,
    EncodedSplit,
    evaluation_batches,
    load_data,
    training_batches,
)
from models.transformer.kept_words import about_words
from models.transformer.model import TransformerClassifier

if TYPE_CHECKING:
    from pytest_ablation.run import Run

EVALUATION_BATCH = 64


class Split(Protocol):
    """Examples of one split, their labels on the run's device."""

    @property
    def labels(self) -> Tensor:
        """int64 [n]"""

    @property
    def full_lengths(self) -> np.ndarray:
        """int [n]: examples of similar length are put into one batch."""

    def __len__(self) -> int: ...

    def inputs(self, indices: np.ndarray) -> tuple:
        """What the model is called with for these examples: ``model(*inputs)``."""


@dataclass(frozen=True)
class DeviceSplit:
    """An encoded split whose arrays lie on the run's device."""

    tokens: Tensor  # int [n, longest]
    lengths: np.ndarray  # int [n]; stays on the CPU, where batches are composed
    full_lengths: np.ndarray  # int [n], before texts were cut
    labels: Tensor  # int64 [n]

    @classmethod
    def of(cls, split: EncodedSplit, device: str) -> DeviceSplit:
        return cls(
            torch.from_numpy(split.tokens).to(device),
            split.lengths,
            split.full_lengths,
            torch.from_numpy(split.labels).to(device),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """tokens [batch, longest of the batch], lengths on the CPU (None: nothing is padded)."""
        where = torch.from_numpy(indices).to(self.tokens.device)
        lengths = self.lengths[indices]
        longest = int(lengths.max())
        is_padded = bool((lengths < longest).any())
        return self.tokens[where, :longest], torch.from_numpy(lengths) if is_padded else None


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
    data = load_data(config, run.data_dir, run.mode.budget.get("train_rows"))
    run.use_data(
        train=data.news.train.digest,
        evaluation=(data.news.validation.digest, data.news.test.digest),
    )
    run.note("data", data.description)
    if config.encoder is None:
        model, splits = own_classifier(config, data, run)
    else:
        from models.transformer.encoder_classifier import (
            pretrained_classifier,  # imports an encoder
        )

        model, splits = pretrained_classifier(config, data, run)
    run.parameters = sum(parameter.numel() for parameter in model.parameters())
    with run.training():
        reported = fit(model, config, run, splits["train"], splits["validation"])
    words = about_words(data.vocabulary, data.classes) if config.encoder is None else None
    run.save_weights(model.state_dict(), about=words)
    figures = report(evaluate(model, splits["test"]), data.test.labels, run)
    if config.encoder is None:
        tell_attention(model, data, run)
    return {**figures, "validation_top1": reported.top1}


def own_classifier(
    config: TransformerConfig, data: EncodedNews, run: Run
) -> tuple[TransformerClassifier, dict[str, DeviceSplit]]:
    """The classifier on ``run.device`` and its train, validation and test split."""
    model = TransformerClassifier(
        config, run, vocabulary_size=data.vocabulary_size, num_classes=len(data.classes)
    )
    splits = {n: DeviceSplit.of(getattr(data, n), run.device)
              for n in ("train", "validation", "test")}  # fmt: skip
    return model.to(run.device), splits


def fit(
    model: nn.Module, config: TransformerConfig, run: Run, training: Split, validation: Split
) -> Evaluation:
    """Train *model* in place; it ends with the weights of its best validation epoch.

    Best is the lowest loss, and among equals the first; see :class:`models.epochs.Epochs` for early
    stopping, and for a run that was interrupted.

    Returns
    -------
    Evaluation
        Of the validation split in that epoch.
    """
    optimizer = Optimizer(
        model, config, run, steps_per_epoch=-(-len(training) // config.batch_size)
    )
    order = numpy_generator(run, "order")

    def train_one(epoch: int) -> None:
        batches = training_batches(training.full_lengths, config.batch_size, order)
        train_epoch(model, optimizer, run, epoch, training, batches)

    def judge(epoch: int) -> Judgement:
        seen = evaluate(model, validation)
        run.log(epoch, "validation", loss=seen.loss, top1=seen.top1)
        return Judgement((-seen.loss,), vars(seen))

    epochs = Epochs(run, model, {"optimizer": optimizer, "order": order})
    return Evaluation(**epochs.train(train_one, judge).judgement.figures)


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    run: Run,
    epoch: int,
    split: Split,
    batches: Iterator[np.ndarray],
) -> None:
    """One pass over *batches*; logs loss and top-1 as they were during training, dropout on."""
    model.train()
    totals = torch.zeros(2, device=split.labels.device)  # loss and correct, summed on the device
    examples = 0
    for indices in batches:
        labels = split.labels[torch.from_numpy(indices).to(split.labels.device)]
        scores = model(*split.inputs(indices)).float()
        loss = F.cross_entropy(scores, labels)
        norm = optimizer.step(loss)
        # Reading a number from a GPU would wait for it; there the sum below is looked at instead.
        is_cheap = loss.device.type == "cpu"
        run.step(
            indices, epoch=epoch,
            loss=loss.item() if is_cheap else None, grad_norm=norm.item() if is_cheap else None,
        )  # fmt: skip
        with torch.no_grad():
            correct = (scores.argmax(dim=1) == labels).sum()
            totals += torch.stack([loss * len(indices), correct])
        examples += len(indices)
    optimizer.tell_norms()
    mean_loss, top1 = (totals / examples).tolist()
    run.log(epoch, "train", loss=mean_loss, top1=top1)


class Optimizer:
    """AdamW (I. Loshchilov and F. Hutter, ICLR 2019) with clipping, warm-up and linear decay."""

    def __init__(
        self, model: nn.Module, config: TransformerConfig, run: Run, steps_per_epoch: int
    ) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._config = config
        self._run = run
        self._steps = 0
        self._all_steps = steps_per_epoch * run.mode.epochs
        self._norms: list[Tensor] = []  # that were compared with the limit and not yet told
        self._adamw = torch.optim.AdamW(_groups(model, config), lr=0.0, fused=True)

    def step(self, loss: Tensor) -> Tensor:
        """Change the parameters so that *loss* falls: the norm of all gradients before clipping."""
        self._adamw.zero_grad(set_to_none=True)
        loss.backward()
        norm = self._clip()
        factor = learning_rate_factor(self._steps, self._all_steps, self._config.warmup_fraction)
        for group in self._adamw.param_groups:
            group["lr"] = group["peak"] * factor
        self._adamw.step()
        self._steps += 1
        return norm

    def _clip(self) -> Tensor:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if (limit := self._config.grad_clip_norm) is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
            self._norms.append(norm)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """All that the next epoch depends on; at its start there is no norm to be told."""
        return {"adamw": self._adamw.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._adamw.load_state_dict(state["adamw"])
        self._steps = state["steps"]

    def tell_norms(self) -> None:
        """Tell the run what clipping compared; once an epoch, for a GPU has to be waited for."""
        for norm in torch.stack(self._norms).tolist() if self._norms else ():
            self._run.watch_limit(
                "grad_clip_norm", limit=self._config.grad_clip_norm, observed=norm
            )
        self._norms.clear()


def _groups(model: nn.Module, config: TransformerConfig) -> list[dict]:
    """Parameters by their peak rate, an encoder's being its own, and by whether they are decayed.

    Only matrices are: not embeddings (rare ones would fade), norms and biases.
    """
    encoder = set(model.encoder.parameters()) if config.fine_tune else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                peak = (
                    config.encoder_learning_rate if parameter in encoder else config.learning_rate
                )
                is_matrix = parameter.ndim >= 2 and not isinstance(module, nn.Embedding)
                decay = config.weight_decay if is_matrix else 0.0
                groups.setdefault((peak, decay), []).append(parameter)
    return [
        {"params": params, "peak": peak, "weight_decay": decay}
        for (peak, decay), params in groups.items()
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
def evaluate(model: nn.Module, split: Split) -> Evaluation:
    """Score all texts of *split*, dropout off."""
    model.eval()
    order, scores = [], []
    for indices in evaluation_batches(split.full_lengths, EVALUATION_BATCH):
        order.append(torch.from_numpy(indices))
        scores.append(model(*split.inputs(indices)).float())
    in_order = torch.empty_like(all_scores := torch.cat(scores))
    in_order[torch.cat(order).to(in_order.device)] = all_scores
    return Evaluation(
        scores=in_order.cpu().numpy(),
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
