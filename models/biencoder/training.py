"""Training of the bi-encoder: one run from a corpus to reported test accuracy.

A configuration and a run go in; metrics come out, all else is told through the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from models.biencoder.config import BiEncoderConfig
from models.biencoder.data import RetrievalData, RetrievalSplit, load_retrieval_data
from models.biencoder.losses import loss_of
from models.biencoder.model import BiEncoder, Embedded
from models.biencoder.negatives import Negatives
from models.biencoder.outputs import CANDIDATE, QUERY, Outputs, make_outputs
from models.biencoder.references import reference_figures
from models.biencoder.retrieval import (
    answer,
    distances,
    metrics_of,
    named_figures,
    ranks_of,
)
from models.budget import require_epochs
from models.epochs import Epochs, Judgement
from models.pretrained.encoder import encoder_digest, encoder_folder
from models.randomness import make_repeatable, numpy_generator

if TYPE_CHECKING:
    from pytest_ablation.run import Run


def train(config: BiEncoderConfig, run: Run) -> dict[str, float]:
    """See :func:`models.biencoder.train_biencoder`."""
    require_epochs(run)
    make_repeatable(run.device)
    data = load_retrieval_data(config, run)
    run.use_data(train=_contents(data.train), evaluation=_contents(data.validation, data.test))
    outputs = make_outputs(config, (data.train, data.validation, data.test), run)
    _describe(config, run, data, outputs)
    _tell_references(outputs, run, data)
    model = BiEncoder(config, run, outputs.width).to(run.device)
    trainer = Trainer(model, outputs, config, run, data)
    run.parameters = sum(p.numel() for p in trainer.parameters)
    with run.training():
        trainer.fit()
    run.save_weights(trainer.state())
    return trainer.report()


def _contents(*splits: RetrievalSplit) -> list:
    """All that a split's figures depend on, for a digest."""
    return [
        [split.texts, split.queries, split.candidates, split.own,
         *(np.packbits(task.allowed) for task in split.tasks)]
        for split in splits
    ]  # fmt: skip


def _describe(config: BiEncoderConfig, run: Run, data: RetrievalData, outputs: Outputs) -> None:
    run.note("data", data.description)
    files = encoder_digest(encoder_folder(config.encoder))[:12]
    run.note(
        "encoder",
        f"{config.encoder} (files {files}), {outputs.description}; the mean over the first "
        f"{config.max_length} tokens, {outputs.width} numbers per text",
    )


def _tell_references(outputs: Outputs, run: Run, data: RetrievalData) -> None:
    """Figures that stand in the report beside the variants'; to be told before training."""
    with torch.no_grad():
        untrained = outputs.of(data.test, np.arange(len(data.test.texts)), QUERY).cpu().numpy()
    found = reference_figures(
        data.test, untrained, unseen_task=data.unseen_task, cache_dir=run.cache_dir
    )
    for name, figures in found.items():
        run.reference(name, **figures)


class Trainer:
    """One model's training: batches, negatives, steps, what is best."""

    def __init__(
        self,
        model: BiEncoder,
        outputs: Outputs,
        config: BiEncoderConfig,
        run: Run,
        data: RetrievalData,
    ) -> None:
        self.model, self.outputs, self.config, self.run, self.data = (
            model, outputs, config, run, data
        )  # fmt: skip
        self._trained = nn.ModuleDict({"model": model, "encoders": outputs.modules()})
        self._optimizer = make_optimizer(model, outputs.modules(), config)
        self._order = numpy_generator(run, "order")
        self._random_negatives = numpy_generator(run, "negatives")
        self._negatives = Negatives(config, data.train, self._random_negatives)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self._trained.parameters())

    def state(self) -> dict[str, Tensor]:
        """All that was trained, by name: the model's parameters under their own names."""
        encoders = self.outputs.modules().state_dict(prefix="encoders.")
        return {**self.model.state_dict(), **encoders}

    def fit(self) -> None:
        """Train in place; the weights in the end are those of the best validation epoch.

        Best is the highest top-1 accuracy of the overall task as retrieved, and among equals the
        highest mean reciprocal rank; see :class:`models.epochs.Epochs` for early stopping, and for
        a run that was interrupted.
        """
        parts = {
            "optimizer": self._optimizer,
            "order": self._order,
            "negatives": self._random_negatives,
        }
        Epochs(self.run, self._trained, parts).train(self._train_epoch, self._judge)

    def _judge(self, epoch: int) -> Judgement:
        ranks = self._evaluate_epoch(epoch)
        return Judgement((float((ranks == 1).mean()), float((1 / ranks).mean())), {})

    def report(self) -> dict[str, float]:
        """The test split's figures; ranks and who was right go to the run, query by query."""
        test = self.data.test
        with torch.no_grad():
            answers = answer(self.model, self.config, test, *self.embed(test))
        kept = {}
        for prefix, by_task in (("", answers.retrieved), ("reranked_", answers.reranked)):
            for task, ranks in by_task.items():
                name = f"{prefix}{task}_" if task else prefix
                kept |= {f"{name}rank": ranks.astype(np.int32), f"{name}top1": ranks == 1}
        self.run.save_predictions(**kept)
        return metrics_of(answers, test, self.data.unseen_task)

    @torch.no_grad()
    def embed(self, split: RetrievalSplit) -> tuple[Embedded, Embedded]:
        """Queries and candidates of *split*, dropout off."""
        self.model.eval()
        with self.run.forward(len(split.queries) + len(split.candidates)):
            outputs = self.outputs.of(split, split.queries, QUERY)
            candidates = self.outputs.of(split, split.candidates, CANDIDATE)
            return self.model(torch.cat([outputs, candidates]), len(outputs))

    def _evaluate_epoch(self, epoch: int) -> np.ndarray:
        """Log the overall task of training sample, validation and test; validation's ranks."""
        data, overall = self.data, self.data.overall
        found = {}
        for name, split in (
            ("train", data.train_sample),
            ("validation", data.validation),
            ("test", data.test.only_task(overall)),
        ):
            queries, candidates = self.embed(split)
            scores = -distances(queries.embeddings, candidates.embeddings, split.first_of_text)
            found[name] = ranks_of(split, scores)[overall]
            self.run.log(epoch, name, **named_figures(found[name], overall))
        return found["validation"]

    def _train_epoch(self, epoch: int) -> None:
        """One pass over the pairs; logs the loss as it was during training, dropout on."""
        train = self.data.train
        queries, candidates = self.embed(train)
        negatives = self._negatives.draw(
            epoch, queries.embeddings.cpu().numpy(), candidates.embeddings.cpu().numpy()
        )
        self.model.train()
        total = torch.zeros((), device=self.run.device)
        for indices in batches(self._order.permutation(len(train)), self.config.batch_size):
            total += self._step(epoch, indices, negatives[indices].ravel()) * len(indices)
        # Not finite where the last step made a weight so: the next loss would be.
        after = sum(0.0 * parameter.detach().sum() for parameter in self.parameters)
        self.run.log(epoch, "train", loss=(total + after).item() / len(train))

    def _step(self, epoch: int, indices: np.ndarray, negatives: np.ndarray) -> Tensor:
        train, count = self.data.train, len(indices)
        answering = train.candidates[np.concatenate([train.own[indices], negatives])]
        outputs = self.outputs.of(train, train.queries[indices], QUERY)
        others = self.outputs.of(train, answering, CANDIDATE)
        queries, candidates = self.model(torch.cat([outputs, others]), count)
        loss = loss_of(self.model, self.config, queries, candidates[:count], candidates[count:])
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = self._clip()
        self._optimizer.step()
        # Reading numbers from a GPU waits for it; there the sum over the epoch is looked at.
        is_cheap = loss.device.type == "cpu"
        self.run.step(
            indices, epoch=epoch,
            loss=loss.item() if is_cheap else None, grad_norm=norm.item() if is_cheap else None,
        )  # fmt: skip
        return loss.detach()

    def _clip(self) -> Tensor:
        """The norm of all gradients before clipping, if there is any."""
        limit = self.config.grad_clip_norm
        norm = nn.utils.clip_grad_norm_(self._trained.parameters(), limit or math.inf)
        if limit is not None:
            self.run.watch_limit("grad_clip_norm", limit=limit, observed=norm.item())
        return norm


def batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """*order* in pieces of *size*; a last piece of one joins the one before it.

    In a batch of one the contrastive loss has nothing to compare with.
    """
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    ends = [*starts[1:], len(order)]
    return (order[start:end] for start, end in zip(starts, ends, strict=True))


def make_optimizer(
    model: BiEncoder, encoders: nn.ModuleList, config: BiEncoderConfig
) -> torch.optim.AdamW:
    """AdamW at a constant rate, encoders at theirs; matrices alone are decayed."""
    groups = []
    for module, rate in ((model, config.learning_rate), (encoders, config.encoder_learning_rate)):
        parameters = list(module.parameters())
        for decay, chosen in (
            (config.weight_decay, [p for p in parameters if p.ndim >= 2]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, fused=True)
