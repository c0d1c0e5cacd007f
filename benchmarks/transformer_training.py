"""What an epoch of the classifier costs, beside other ways to train one of the same size.

All ways train on the same AG News rows for the same epochs, with AdamW at the same peak rate,
warmed up and let down linearly; ways alternate within a round, because machines drift. A second
part shows that batches of similar length do not bias what is learned.

    pip install accelerate   # which transformers' Trainer needs
    python benchmarks/transformer_training.py --ablation-data DIR [--rounds 3] [--epochs 3]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.transformer.config import TransformerConfig
    from models.transformer.training import DeviceSplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PADDED_TO = 256  # words, by the way that pads every text
WIDTH, HEADS, LAYERS, HIDDEN = 128, 4, 3, 512


class Task(NamedTuple):
    """What is trained on, and how."""

    config: TransformerConfig
    train: DeviceSplit
    test: DeviceSplit
    vocabulary_size: int
    num_classes: int
    epochs: int


class Trained(NamedTuple):
    """Seconds of training alone, per epoch, and test accuracy in [0, 1]."""

    seconds: float
    accuracy: float


Way = Callable[[Task, int], Trained]  # of a task and a seed


def main() -> None:
    options = _options()
    if importlib.util.find_spec("accelerate") is None:
        raise SystemExit("transformers' Trainer needs accelerate: pip install accelerate")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from quick_session import describe_machine

    print(describe_machine())
    task = load_task(options.ablation_data.resolve(), options.epochs)
    words = int(task.train.lengths.sum())
    print(
        f"AG News: trained on {len(task.train):,} rows of {words / len(task.train):.1f} words "
        f"(train.csv without rows that repeat others), accuracy on the {len(task.test):,} rows of "
        f"test.csv; embed {WIDTH}, {HEADS} heads, {LAYERS} layers, feed-forward {HIDDEN}, batch "
        f"{task.config.batch_size}, {task.epochs} epochs",
        flush=True,
    )
    compare_ways(task, options.rounds, WAYS if options.padded else WAYS[1:])
    compare_batches(task, options.seeds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ablation-data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=3, help="of each way; padded has one [3]")
    parser.add_argument("--epochs", type=int, default=3, help="of each training [3]")
    parser.add_argument("--seeds", type=int, default=5, help="for batches of similar length [5]")
    parser.add_argument(
        "--no-padded", dest="padded", action="store_false", help=f"leave out padding to {PADDED_TO}"
    )
    return parser.parse_args()


def load_task(data_dir: Path, epochs: int) -> Task:
    """Training and validation split together to train on: nothing is chosen by validation here."""
    from models.transformer.config import config_for
    from models.transformer.data import load_data
    from models.transformer.training import DeviceSplit

    config = config_for("ag_news", embed_dim=WIDTH, num_heads=HEADS, num_layers=LAYERS)
    data = load_data(config, data_dir)
    both = [data.train, data.validation]
    widest = max(split.tokens.shape[1] for split in both)
    tokens = [np.pad(s.tokens, ((0, 0), (0, widest - s.tokens.shape[1]))) for s in both]
    joined = {
        name: np.concatenate([getattr(split, name) for split in both])
        for name in ("lengths", "labels", "full_lengths")
    }
    train = dataclasses.replace(data.train, tokens=np.concatenate(tokens), **joined)
    return Task(
        config, DeviceSplit.of(train, "cpu"), DeviceSplit.of(data.test, "cpu"),
        data.vocabulary_size, len(data.classes), epochs,
    )  # fmt: skip


# --- the ways to train ----------------------------------------------------------------------


def padded_encoder(task: Task, seed: int) -> Trained:
    """torch.nn.TransformerEncoder on texts padded to 256 words, by a DataLoader."""
    import torch
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset

    from models.transformer.training import learning_rate_factor

    torch.manual_seed(seed)
    model, config = padded_model(task), task.config
    tokens = F.pad(task.train.tokens, (0, PADDED_TO - task.train.tokens.shape[1])).long()
    loader = DataLoader(TensorDataset(tokens, task.train.labels), config.batch_size, shuffle=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = len(loader) * task.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps + 1, config.warmup_fraction)
    )
    started = time.perf_counter()
    for _ in range(task.epochs):
        for batch, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(batch), labels).backward()
            optimizer.step()
            schedule.step()
    seconds = time.perf_counter() - started
    return Trained(seconds / task.epochs, accuracy_of(task, model.eval()))


def padded_model(task: Task) -> nn.Module:
    """Our baseline's architecture of torch's own modules."""
    from torch import nn

    from models.transformer.positions import sinusoidal_positions

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(task.vocabulary_size, WIDTH, padding_idx=0)
            nn.init.normal_(self.embedding.weight, std=WIDTH**-0.5)
            self.register_buffer("positions", sinusoidal_positions(PADDED_TO, WIDTH))
            self.dropout = nn.Dropout(task.config.dropout)
            layer = nn.TransformerEncoderLayer(
                WIDTH, HEADS, HIDDEN, task.config.dropout, batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(
                layer, LAYERS, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False
            )
            self.head = nn.Linear(WIDTH, task.num_classes)

        def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
            del lengths
            is_padding = tokens == 0
            x = self.embedding(tokens) * math.sqrt(WIDTH) + self.positions[: tokens.shape[1]]
            x = self.encoder(self.dropout(x), src_key_padding_mask=is_padding)
            x = x.masked_fill(is_padding[..., None], 0).sum(dim=1)
            return self.head(x / (~is_padding).sum(dim=1, keepdim=True))

    return Model()


def trainer_as_it_comes(task: Task, seed: int) -> Trained:
    """transformers' Trainer and a BERT of the same size, each batch padded to its longest text."""
    return bert(task, seed)


def trainer_at_its_best(task: Task, seed: int) -> Trained:
    """The same with texts of similar length in a batch, and in bfloat16."""
    return bert(task, seed, train_sampling_strategy="group_by_length", bf16=True)


def bert(task: Task, seed: int, **settings: object) -> Trained:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
    from transformers.trainer_utils import set_seed

    set_seed(seed)
    shape = BertConfig(
        vocab_size=task.vocabulary_size, hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, intermediate_size=HIDDEN, num_labels=task.num_classes,
        max_position_embeddings=PADDED_TO, pad_token_id=0,
    )  # fmt: skip
    model, config = BertForSequenceClassification(shape), task.config

    def collate(rows: list[dict]) -> dict[str, Tensor]:
        texts = [torch.tensor(row["input_ids"]) for row in rows]
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
        labels = torch.tensor([row["labels"] for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=task.epochs, per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate, weight_decay=config.weight_decay,
            warmup_steps=config.warmup_fraction, seed=seed, use_cpu=True, save_strategy="no",
            logging_strategy="no", report_to="none", disable_tqdm=True, **settings,
        )  # fmt: skip
        rows = rows_of(task.train)
        trainer = Trainer(model, arguments, data_collator=collate, train_dataset=rows)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started

    def scores(tokens: Tensor, lengths: Tensor | None) -> Tensor:
        del lengths
        return model(tokens.long(), attention_mask=(tokens != 0).long()).logits

    model.eval()
    return Trained(seconds / task.epochs, accuracy_of(task, scores))


def rows_of(split: DeviceSplit) -> list[dict]:
    """What a tokenizer would give to the Trainer."""
    return [
        {"input_ids": tokens[:length].tolist(), "labels": int(label)}
        for tokens, length, label in zip(split.tokens, split.lengths, split.labels, strict=True)
    ]


def ours_float32(task: Task, seed: int) -> Trained:
    """This project's training."""
    return ours(task, seed)


def ours_bfloat16(task: Task, seed: int) -> Trained:
    """The same with precision="bfloat16"."""
    return ours(task, seed, precision="bfloat16")


WAYS: list[Way] = [
    padded_encoder, trainer_as_it_comes, trainer_at_its_best, ours_float32, ours_bfloat16,
]  # fmt: skip


def ours(task: Task, seed: int, batches: Callable | None = None, **changes: str) -> Trained:
    from models.randomness import numpy_generator
    from models.transformer.data import training_batches
    from models.transformer.model import TransformerClassifier
    from models.transformer.training import Optimizer, evaluate, train_epoch
    from pytest_ablation import Mode, Run

    config = dataclasses.replace(task.config, **changes)
    run = Run(seed=seed, mode=Mode(seeds=1, epochs=task.epochs), device="cpu")
    model = TransformerClassifier(
        config, run, vocabulary_size=task.vocabulary_size, num_classes=task.num_classes
    )
    steps = -(-len(task.train) // config.batch_size)
    optimizer = Optimizer(model, config, run, steps_per_epoch=steps)
    order = numpy_generator(run, "order")
    started = time.perf_counter()
    for epoch in range(1, task.epochs + 1):
        composed = (batches or training_batches)(task.train.full_lengths, config.batch_size, order)
        train_epoch(model, optimizer, run, epoch, task.train, composed)
    seconds = time.perf_counter() - started
    return Trained(seconds / task.epochs, evaluate(model, task.test).top1)


def accuracy_of(task: Task, model: Callable[[Tensor, Tensor | None], Tensor]) -> float:
    """Of a model in evaluation mode, on the test split."""
    import torch

    from models.transformer.data import evaluation_batches

    correct = 0
    with torch.inference_mode():
        for indices in evaluation_batches(task.test.full_lengths, 64):
            found = model(*task.test.inputs(indices)).argmax(dim=1)
            correct += int((found == task.test.labels[torch.from_numpy(indices)]).sum())
    return correct / len(task.test)


# --- comparisons ----------------------------------------------------------------------------


def compare_ways(task: Task, rounds: int, ways: list[Way]) -> None:
    done: dict[str, list[Trained]] = {way.__name__: [] for way in ways}
    for number in range(rounds):
        for way in ways:
            if number == 0 or way is not padded_encoder:
                found = way(task, number)
                done[way.__name__].append(found)
                print(f"  round {number + 1}, {way.__name__}: {found.seconds:.1f} s per epoch, "
                      f"accuracy {found.accuracy:.3f}", flush=True)  # fmt: skip
    for way in ways:
        seconds = [found.seconds for found in done[way.__name__]]
        accuracy = statistics.mean(found.accuracy for found in done[way.__name__])
        print(f"{way.__name__} ({way.__doc__.splitlines()[0].rstrip('.')}): "
              f"{statistics.median(seconds):.1f} s per epoch ({min(seconds):.1f} to "
              f"{max(seconds):.1f}), n = {len(seconds)}; mean accuracy {accuracy:.3f}")  # fmt: skip
    for ours_ in ("ours_float32", "ours_bfloat16"):
        for other in (name for name in done if not name.startswith("ours")):
            print(f"{ours_}: {ratio(done[other], done[ours_])} as fast as {other}", flush=True)


def ratio(slow: list[Trained], fast: list[Trained]) -> str:
    """Round by round, over the rounds that both have."""
    ratios = [a.seconds / b.seconds for a, b in zip(slow, fast, strict=False)]
    spread = f" ({min(ratios):.1f} to {max(ratios):.1f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.1f} times{spread}"


def compare_batches(task: Task, seeds: int) -> None:
    """Accuracy and seconds with batches of similar length against random ones, seed by seed."""
    from scipy import stats

    pairs = []
    for seed in range(seeds):
        pairs.append((ours(task, seed), ours(task, seed, random_batches)))
        similar, random = pairs[-1]
        print(f"  seed {seed}: accuracy {similar.accuracy:.3f} with batches of similar length, "
              f"{random.accuracy:.3f} with random ones; {similar.seconds:.1f} and "
              f"{random.seconds:.1f} s per epoch", flush=True)  # fmt: skip
    differences = [similar.accuracy - random.accuracy for similar, random in pairs]
    text = f"similar length minus random, accuracy: {statistics.mean(differences):+.4f}"
    if seeds > 1:
        half = stats.t.ppf(0.975, seeds - 1) * statistics.stdev(differences) / math.sqrt(seeds)
        text += f" +- {half:.4f} (95 % interval, paired, {seeds} seeds)"
    print(text)


def random_batches(
    lengths: np.ndarray, batch_size: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """One epoch: each index once, whatever the lengths."""
    order = generator.permutation(len(lengths))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


if __name__ == "__main__":
    main()
