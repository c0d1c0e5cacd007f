"""Trains one classifier outside pytest: ``python -m models.transformer.train --epochs 5``.

Options go in, lines go to the screen, and the run is kept as a case of a study keeps it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

from models.devices import require_device
from models.errors import DataError
from models.transformer import config_for, corpus_in, data_digest, train_classifier
from models.transformer.ablations import ABLATIONS
from models.transformer.config import CORPORA, POSITIONAL_ENCODINGS, PRECISIONS, TransformerConfig
from pytest_ablation.errors import AblationError
from pytest_ablation.mode import Mode
from pytest_ablation.single import SingleRun, train_single

DATA_VARIABLE = "ABLATION_DATA"
INTERRUPTED = 128 + 2  # as a shell has it, of SIGINT
PATIENCE = 2  # epochs without a lower validation loss
_CHOICES = {"positional_encoding": POSITIONAL_ENCODINGS, "precision": PRECISIONS, "corpus": CORPORA}
_SHORT = {"learning_rate": "--lr"}


class OptionError(ValueError):
    """Options that do not go together, or of which one would change nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; 0 where that went well, 1 where options or data cannot be used, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        config = configuration(options)
        run = _train(config, options)
    except (OptionError, DataError, AblationError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = f"the same command{' without --fresh' if options.fresh else ''}"
        print(f"\ninterrupted: {again} goes on from the last state that was kept (after an "
              f"epoch, at most every two minutes)", file=sys.stderr)  # fmt: skip
        return INTERRUPTED
    _tell_result(run)
    return 0 if run.record.ok else 1


def configuration(options: argparse.Namespace) -> TransformerConfig:
    """The corpus's defaults, then the options for fields, then the ablations.

    Raises
    ------
    OptionError
        An option that changes nothing, because of what others are.
    """
    given = {f.name: getattr(options, f.name) for f in fields(TransformerConfig)
             if hasattr(options, f.name)}  # fmt: skip
    corpus = given.pop("corpus", None) or corpus_in(options.ablation_data)
    config = config_for(corpus, **given)
    for field in sorted(config.idle_fields & set(given)):
        encoder = "with --encoder" if config.encoder is not None else "without --fine-tune"
        raise OptionError(f"{_flag(field)} changes nothing {encoder}: leave it out")
    for name in options.ablation:
        config = _without(config, name)
    return config


def _without(config: TransformerConfig, ablation: str) -> TransformerConfig:
    """*config* with an ablation; prints what it changes."""
    changes = {f: v for f, v in ABLATIONS[ablation].changes.items() if getattr(config, f) != v}
    if not changes or config.idle_fields >= changes.keys():
        raise OptionError(
            f"--ablation {ablation} changes nothing: the configuration is "
            f"{'so already' if not changes else 'that of an encoder'}"
        )
    for field, value in changes.items():
        print(f"ablation {ablation}: {field} {getattr(config, field)} -> {value}")
    return replace(config, **changes)


def _train(config: TransformerConfig, options: argparse.Namespace) -> SingleRun:
    budget = {"epochs": options.epochs, "patience": options.patience}
    if options.train_rows is not None:
        budget["train_rows"] = options.train_rows
    require_device(options.device)
    data_dir = None if options.ablation_data is None else Path(options.ablation_data).resolve()
    digest = data_digest(config, data_dir)  # says at once what data are missing
    print(", ".join(f"{f.name}={getattr(config, f.name)}" for f in fields(config)
                    if f.name not in config.idle_fields))  # fmt: skip
    shown = EpochLines(options.epochs)
    run = train_single(
        train_classifier,
        config,
        seed=options.seed,
        mode=Mode(seeds=[options.seed], **budget),
        store=Path(options.out),
        data=digest,
        device=options.device,
        data_dir=data_dir,
        threads=options.threads,
        fresh=options.fresh,
        on_log=shown.log,
    )
    if run.reused:
        for row in run.record.history:
            shown.log(row.epoch, row.split, {row.metric: row.value})
    return run


class EpochLines:
    """A line per epoch, printed when its validation figures are there.

    The lines are such that ``python -m pytest_ablation curves`` reads them.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._seen: dict[str, dict[str, float]] = {}

    def log(self, epoch: int, split: str, values: Mapping[str, float]) -> None:
        """Take what a run logs; other figures than losses and accuracies are not shown."""
        self._seen.setdefault(split, {}).update(values)
        validated = self._seen.get("validation", {})
        if {"loss", "top1"} <= validated.keys():
            parts = [_figures("Train", self._seen.get("train", {})), _figures("Val", validated)]
            print(f"Epoch {epoch}/{self._epochs} {', '.join(filter(None, parts))}", flush=True)
            self._seen = {}


def _figures(split: str, values: Mapping[str, float]) -> str:
    if not {"loss", "top1"} <= values.keys():
        return ""
    return f"{split} loss: {values['loss']:.4f}, Acc: {100 * values['top1']:.2f}%"


def _tell_result(run: SingleRun) -> None:
    record = run.record
    if run.reused:
        print("This run was kept from an earlier training; --fresh trains it again.")
    for epoch in record.cost.resumed:
        print(f"It was interrupted, and went on after epoch {epoch}.")
    for topic, text in record.notes.items():
        print(f"{topic}: {text}")
    if not record.ok:
        print(f"diverged: {record.message}", file=sys.stderr)
    elif record.early_stop is not None:
        stop = record.early_stop
        print(f"Stopped after epoch {stop.epoch}: no lower validation loss for {stop.patience}.")
    if record.ok:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in sorted(record.metrics.items()))
        print(f"Epoch {record.reported_epoch} is reported. Test split: {figures}")
    print(f"Kept in {run.folder}")


# --- options ----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.transformer.train",
        description="Train one text classifier, and keep the run as a case of a study does.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--epochs", type=_count, default=5, help="at most [%(default)s]")
    add("--patience", type=_or_none(_count), default=PATIENCE, metavar="N|none",
        help="stop after so many epochs without a lower validation loss [%(default)s]")  # fmt: skip
    add("--train-rows", type=_count, metavar="N", help="texts to train on [all]")
    add("--ablation", action="append", default=[], choices=list(ABLATIONS), metavar="NAME",
        help=f"one of {', '.join(ABLATIONS)}; may be given several times")  # fmt: skip
    add("--ablation-data", "--data", metavar="DIR", default=os.environ.get(DATA_VARIABLE),
        help=f"holds ag_news_csv/ [the variable {DATA_VARIABLE}; without: BBC News]")  # fmt: skip
    add("--seed", type=int, default=0, help="[%(default)s]")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N [%(default)s]")
    add("--threads", type=_count, metavar="N", help="of the processor [one per core]")
    add("--out", default=".ablation", metavar="DIR",
        help="the store that keeps the run, in DIR/runs/KEY/ [%(default)s]")  # fmt: skip
    add("--fresh", action="store_true", help="train also where the same run is kept")
    group = parser.add_argument_group("fields of the configuration [the corpus's defaults]")
    for field in fields(TransformerConfig):
        _add_field(group, field)
    return parser


def _add_field(group: Any, field: Field) -> None:
    flags = [_flag(field.name), *([_SHORT[field.name]] if field.name in _SHORT else [])]
    common = {"dest": field.name, "default": argparse.SUPPRESS}
    kind = str(field.type)
    if kind == "bool":
        group.add_argument(*flags, action=argparse.BooleanOptionalAction, **common)
        return
    base, _, optional = kind.partition(" | ")
    convert: Callable[[str], Any] = {"int": _integer, "float": _number, "str": str}[base]
    metavar = "|".join(_CHOICES.get(field.name, (base.upper(),))) + ("|none" if optional else "")
    if optional:
        convert = _or_none(convert)
    group.add_argument(
        *flags, type=convert, metavar=metavar, help=f"AG News: {field.default}", **common
    )


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer, found {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}") from None


def _count(text: str) -> int:
    value = _integer(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of 1 or more, found {text!r}")
    return value


def _or_none(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text.lower() == "none" else convert(text)


if __name__ == "__main__":
    sys.exit(main())
