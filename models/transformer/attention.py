"""What a kept classifier looks at in a text: ``python -m models.transformer.attention``.

A text and a checkpoint that a run left go in; the prediction, sentences about the attention and
pictures of it come out. Trains nothing; the weights come from attention_maps.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.transformer.data import words_of

if TYPE_CHECKING:
    from torch import Tensor

    from models.transformer.checkpoint import KeptClassifier
    from pytest_ablation.heat_maps import HeatMaps

DEFAULT_OUT = Path("reports") / "attention"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and draw; 0 where that was done, 1 where something was not there or not usable."""
    options = _parser().parse_args(arguments)
    try:
        _look(options)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _look(options: argparse.Namespace) -> None:
    """Read the checkpoint, pass the text through once, and say and draw what was seen."""
    from models.transformer.attention_maps import attention_on, maps_of
    from models.transformer.checkpoint import load_classifier

    kept = load_classifier(options.checkpoint)
    panel = _panel(kept, options.layer, options.head)
    words = _known_words(options.text, kept)
    seen = attention_on(kept.model, kept.vocabulary, words)
    maps = maps_of(seen.weights, kept.vocabulary, words)
    for line in _said(options.text, words, kept, seen.scores[0], maps):
        print(line)
    try:
        for file in _drawn(options.out, maps, panel):
            print(f"written: {file}")
    except OSError as error:
        raise ValueError(
            f"pictures cannot be written to {options.out} ({error.strerror}): give another folder "
            f"as --out"
        ) from error


def _panel(kept: KeptClassifier, layer: int | None, head: int | None) -> int | None:
    """The index of the panel that was asked for; None where all are wanted."""
    if layer is None and head is None:
        return None
    if layer is None or head is None:
        raise ValueError("one head is named by both: give --layer and --head, or neither")
    layers, heads = kept.config.num_layers, kept.config.num_heads
    if not (1 <= layer <= layers and 1 <= head <= heads):
        raise ValueError(
            f"there is no layer {layer}, head {head}: this model has layers 1 to {layers} and "
            f"heads 1 to {heads} in each"
        )
    return (layer - 1) * heads + head - 1


def _known_words(text: str, kept: KeptClassifier) -> list[str]:
    """The words that the model reads, of which it knows at least one."""
    words = words_of(text, kept.config.max_length)
    if not words:
        raise ValueError(f"the text has no words: give --text some, found {text!r:.80}")
    if not any(word in kept.vocabulary for word in words):
        raise ValueError(
            f"none of the {len(words)} words that are read of the text is among the "
            f"{len(kept.vocabulary):,} words that the model knows: give a text like those that it "
            f"was trained on"
        )
    return words


def _said(
    text: str, words: Sequence[str], kept: KeptClassifier, scores: Tensor, maps: HeatMaps
) -> Iterator[str]:
    """What is printed, line by line."""
    in_text = len(words_of(text, len(text)))
    if in_text > len(words):
        yield f"The text has {in_text} words; the model reads the first {len(words)} (max_length)."
    unknown = sum(word not in kept.vocabulary for word in words)
    if unknown:
        known = f"{len(kept.vocabulary):,}"
        yield f"Unknown words: {unknown} of {len(words)} (the model knows {known})."
    probabilities = scores.float().softmax(dim=-1).tolist()
    ordered = sorted(zip(probabilities, kept.classes, strict=True), key=lambda pair: -pair[0])
    yield f"prediction: {ordered[0][1]}"
    width = max(map(len, kept.classes))
    yield from (f"  {name:<{width}}  {probability:.4f}" for probability, name in ordered)
    yield from maps.findings


def _drawn(folder: Path, maps: HeatMaps, panel: int | None) -> Iterator[Path]:
    """Draw the one panel, or else the leading one and all of them; yields the files."""
    from pytest_ablation.heat_map_drawing import write_all, write_one

    shown = maps.leading if panel is None else panel
    slug = maps.panels[shown].replace(", ", "-").replace(" ", "-")
    one = folder / f"attention-{slug}.png"
    write_one(one, maps.texts, lambda: maps, title=maps.title, panel=shown)
    yield one
    if panel is None:
        every = folder / "attention-all.png"
        write_all(every, maps.texts, lambda: maps, title=maps.title)
        yield every


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.transformer.attention",
        description="What a kept classifier predicts for a text, and what it looks at in it.",
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("--text", required=True, help="the text, in quotes")
    option(
        "--checkpoint", type=Path, required=True, metavar="FILE",
        help="a run's model.safetensors (see --ablation-save-models), or its folder",
    )  # fmt: skip
    option("--layer", type=int, metavar="N", help="counted from 1 [all]")
    option("--head", type=int, metavar="N", help="counted from 1 [all]")
    option(
        "--out", type=Path, metavar="DIR", default=DEFAULT_OUT,
        help=f"where the pictures go [{DEFAULT_OUT.as_posix()}]",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
