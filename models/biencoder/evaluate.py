"""The eight retrieval tasks for any encoder, without training: ``python -m
models.biencoder.evaluate``.

An encoder (or TF-IDF, or a checkpoint that a run left) and a corpus go in, a table comes out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from models.arguana import load_arguana
from models.biencoder.config import PRECISIONS, BiEncoderConfig
from models.devices import require_device
from models.errors import DataError
from models.pretrained import DEFAULT_ENCODER
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from models.biencoder.data import RetrievalSplit

TFIDF = "tfidf"
SPLITS = {"training": "train", "validation": "validation", "test": "test"}
DATA_VARIABLE = "ABLATION_DATA"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 where it was printed, 1 where something was not there or not usable."""
    options = _parser().parse_args(arguments)
    try:
        table = evaluate(
            encoder=options.encoder,
            checkpoint=options.checkpoint,
            split=options.split,
            data_dir=options.ablation_data,
            max_length=options.max_length,
            precision=options.precision,
            device=options.device,
            cache_dir=options.cache,
            rerank=options.rerank,
        )
        print(_shown(table))
        if options.out is not None:
            _write(table, options.out)
    except (DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def evaluate(
    *,
    encoder: str | None,
    checkpoint: Path | None,
    split: str,
    data_dir: Path | str | None,
    max_length: int | None = None,
    precision: str | None = None,
    device: str = "cpu",
    cache_dir: Path | None = None,
    rerank: bool = False,
) -> pd.DataFrame:
    """The table of one encoder on one split of ArguAna.

    Parameters
    ----------
    encoder : str or None
        "tfidf", or what :func:`models.pretrained.encoder.encoder_folder` finds; compared by cosine.
        None: the checkpoint's.
    checkpoint : Path or None
        ``model.safetensors`` of a run that ``--ablation-save-models`` kept; compared by the
        Euclidean distance of its embeddings.
    split : {"training", "validation", "test"}
    data_dir : folder that contains the corpus
    max_length, precision
        None: the checkpoint's, or else the defaults of ``BiEncoderConfig``.
    rerank : bool
        Whether the checkpoint's classifier re-ranks the first candidates.

    Returns
    -------
    DataFrame
        One row per task: ``task, queries, mean_candidates, top1, top5, top10, mrr``.

    Raises
    ------
    DataError, models.pretrained.encoder.EncoderError
    ValueError
        Options that do not go together.
    """
    _check_options(encoder, checkpoint, data_dir, rerank)
    from models.biencoder.data import evaluated_split

    asked = evaluated_split(load_arguana(Path(data_dir)), SPLITS[split])
    if encoder == TFIDF:
        from models.biencoder.references import tfidf_ranks

        return _table(asked, tfidf_ranks(asked))
    require_device(device)
    changes = {"encoder": encoder, "max_length": max_length, "encoder_precision": precision}
    given = {name: value for name, value in changes.items() if value is not None}
    run = Run(
        seed=0, mode=Mode(seeds=1), device=device, cache_dir=cache_dir,
        on_doing=lambda text: print(text, file=sys.stderr),
    )  # fmt: skip
    if checkpoint is None:
        return _table(asked, _untrained_ranks(asked, BiEncoderConfig(**given), run))
    from models.biencoder.checkpoint import answers_of

    answers = answers_of(checkpoint, given, asked, run)
    return _table(asked, answers.reranked if rerank else answers.retrieved)


def _check_options(
    encoder: str | None, checkpoint: Path | None, data_dir: Path | str | None, rerank: bool
) -> None:
    if data_dir is None:
        raise DataError(
            f"no corpus: give the folder that contains arguana-counterargs-corpus with "
            f"--ablation-data or {DATA_VARIABLE}"
        )
    if checkpoint is not None and encoder == TFIDF:
        raise ValueError("a checkpoint needs an encoder: leave --encoder tfidf out")
    if checkpoint is None and encoder is None:
        raise ValueError("give --encoder tfidf, an encoder, or --checkpoint FILE")
    if rerank and checkpoint is None:
        raise ValueError("--rerank needs the classifier of a --checkpoint")


def _untrained_ranks(
    split: RetrievalSplit, config: BiEncoderConfig, run: Run
) -> dict[str, np.ndarray]:
    import numpy as np

    from models.biencoder.outputs import QUERY, make_outputs
    from models.biencoder.references import cosine_ranks

    outputs = make_outputs(config, (split,), run)
    vectors = outputs.of(split, np.arange(len(split.texts)), QUERY)
    return cosine_ranks(split, vectors.cpu().numpy())


def _table(split: RetrievalSplit, ranks: dict[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    from models.biencoder.tasks import figures

    return pd.DataFrame(
        {
            "task": task.name,
            "queries": len(split),
            "mean_candidates": task.mean_candidates,
            **figures(ranks[task.name]),
        }
        for task in split.tasks
    )


def _write(table: pd.DataFrame, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"the table cannot be written to {path} ({error.strerror}): give another file as --out"
        ) from error


def _shown(table: pd.DataFrame) -> str:
    formats = {"mean_candidates": "{:.1f}".format}
    formats |= dict.fromkeys(("top1", "top5", "top10", "mrr"), "{:.4f}".format)
    return table.to_string(index=False, formatters=formats)


def _parser() -> argparse.ArgumentParser:
    import os

    parser = argparse.ArgumentParser(
        prog="python -m models.biencoder.evaluate",
        description="The eight counter-argument retrieval tasks of ArguAna for one encoder.",
        allow_abbrev=False,
    )
    option = parser.add_argument
    option(
        "--encoder",
        metavar="tfidf|FOLDER|NAME",
        help=f"what turns texts into vectors, such as {DEFAULT_ENCODER} [the checkpoint's]",
    )
    option("--checkpoint", type=Path, metavar="FILE", help="a run's model.safetensors")
    option("--rerank", action="store_true", help="re-rank with the checkpoint's classifier")
    option("--split", choices=list(SPLITS), default="test", help="[test]")
    option(
        "--ablation-data",
        type=Path,
        metavar="DIR",
        default=os.environ.get(DATA_VARIABLE) or None,
        help=f"folder with arguana-counterargs-corpus [the variable {DATA_VARIABLE}]",
    )
    option("--max-length", type=int, metavar="N", help=f"tokens read of a text [{_length()}]")
    option("--precision", choices=PRECISIONS, help="of the encoder [auto]")
    option("--device", default="cpu", help="cpu, cuda or cuda:N [cpu]")
    option(
        "--cache",
        type=Path,
        metavar="DIR",
        default=Path(".ablation") / "cache",
        help="where encoder outputs are kept [.ablation/cache]",
    )
    option("--out", type=Path, metavar="FILE", help="write the table as CSV too")
    return parser


def _length() -> int:
    return next(f.default for f in fields(BiEncoderConfig) if f.name == "max_length")


if __name__ == "__main__":
    sys.exit(main())
