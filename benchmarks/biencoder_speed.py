"""What the bi-encoder's expensive parts cost: quick sessions, encoding, search, re-ranking.

Ratios are of interleaved rounds in one run, because machines drift. Needs the ArguAna corpus.

    python benchmarks/biencoder_speed.py --ablation-data DIR [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from models.biencoder.config import BiEncoderConfig
    from models.biencoder.data import RetrievalSplit
    from models.biencoder.model import BiEncoder, Embedded

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

STUDY = "ablation_tests/test_biencoder_normalization.py"
CONFIGURATION = {"layernorm": True, "relu": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ablation-data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement [3]")
    options = parser.parse_args()
    data_dir, rounds = options.ablation_data.resolve(), options.rounds
    from quick_session import describe_machine

    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        quick_sessions(Path(folder), data_dir, rounds)
        os.environ["OMP_NUM_THREADS"] = "1"
        measure_parts(Path(folder), data_dir, rounds)


def quick_sessions(folder: Path, data_dir: Path, rounds: int) -> None:
    """The study's quick mode: nothing kept; encoder outputs kept; every run kept."""
    seconds: dict[str, list[float]] = {"cold": [], "encoder outputs kept": [], "all kept": []}
    for _ in range(rounds):
        shutil.rmtree(folder / "store", ignore_errors=True)
        seconds["cold"].append(session(folder, data_dir))
        seconds["encoder outputs kept"].append(session(folder, data_dir, "--ablation-fresh"))
        seconds["all kept"].append(session(folder, data_dir))
    for name, times in seconds.items():
        print(f"quick mode on ArguAna, {name}: {spread(times)}", flush=True)


def session(folder: Path, data_dir: Path, *options: str) -> float:
    from quick_session import timed_pytest

    return timed_pytest(
        "-m", "quick", STUDY, f"--ablation-data={data_dir}", f"--ablation-store={folder}/store",
        f"--ablation-report={folder}/reports", *options,
    )  # fmt: skip


def measure_parts(folder: Path, data_dir: Path, rounds: int) -> None:
    import torch

    torch.set_num_threads(1)
    print("the following on one core:")
    encoding(data_dir, rounds)
    searching(rounds)
    evaluating(folder, data_dir, rounds)


def encoding(data_dir: Path, rounds: int) -> None:
    """Texts per second of the frozen encoder, float32 and bfloat16, one text per call."""
    import numpy as np

    from models.arguana import load_arguana
    from models.biencoder.config import BiEncoderConfig
    from models.pretrained.encoder import Encoder, encoder_folder

    config = BiEncoderConfig()
    texts = list(load_arguana(data_dir).test.texts[::14])
    encoders = {
        precision: Encoder(encoder_folder(config.encoder), config.max_length, "cpu", precision)
        for precision in ("float32", "bfloat16")
    }
    vectors = {name: encoder(texts) for name, encoder in encoders.items()}
    units = {n: v / np.linalg.norm(v, axis=1, keepdims=True) for n, v in vectors.items()}
    cosines = (units["float32"] * units["bfloat16"]).sum(axis=1)
    seconds = interleaved(
        {name: lambda encoder=encoder: encoder(texts) for name, encoder in encoders.items()}, rounds
    )
    for name, times in seconds.items():
        print(f"encoding {len(texts)} texts, {name}: {len(texts) / statistics.median(times):.0f}/s")
    print(f"bfloat16 against float32: {ratio(seconds, 'float32', 'bfloat16')}; "
          f"smallest cosine {cosines.min():.5f}")  # fmt: skip


def searching(rounds: int) -> None:
    """The two searchers on points of the size that training searches."""
    import numpy as np

    from models.biencoder.neighbours import ball_tree_search, exact_search

    rng = np.random.default_rng(0)
    for count in (2_000, 8_000, 20_000):
        queries, points = rng.normal(size=(200, 128)), rng.normal(size=(count, 128))
        found = {
            "exact": lambda q=queries, p=points: exact_search(q, p, 12),
            "ball tree": lambda q=queries, p=points: ball_tree_search(q, p, 12),
        }
        assert (found["exact"]() == found["ball tree"]()).all()
        seconds = interleaved(found, rounds)
        print(
            f"12 nearest of {count:,} points (128 numbers, 200 queries): exact search "
            f"{ratio(seconds, 'ball tree', 'exact')} as fast as the ball tree"
        )


def evaluating(folder: Path, data_dir: Path, rounds: int) -> None:
    """Eight tasks of the test split from embeddings; re-ranking in one call and pair by pair."""
    import torch

    from models.biencoder.config import config_for
    from models.biencoder.data import load_retrieval_data
    from models.biencoder.model import BiEncoder
    from models.biencoder.outputs import CANDIDATE, QUERY, make_outputs
    from pytest_ablation import Mode, Run

    config = config_for("arguana", **CONFIGURATION)
    run = Run(seed=0, mode=Mode(seeds=1), device="cpu", data_dir=data_dir,
              cache_dir=folder / "store" / "cache")  # fmt: skip
    test = load_retrieval_data(config, run).test
    outputs = make_outputs(config, (test,), run)
    model = BiEncoder(config, run, outputs.width).eval()
    with torch.no_grad():
        both = torch.cat([outputs.of(test, test.queries, QUERY),
                          outputs.of(test, test.candidates, CANDIDATE)])  # fmt: skip
        queries, candidates = model(both, len(test))
        eight_tasks(model, config, test, queries, candidates, rounds)
        reranking(model, test, queries, candidates, rounds)


def eight_tasks(
    model: BiEncoder,
    config: BiEncoderConfig,
    test: RetrievalSplit,
    queries: Embedded,
    candidates: Embedded,
    rounds: int,
) -> None:
    """From embeddings to ranks; to metrics after re-ranking; and TF-IDF from texts."""
    from models.biencoder.references import tfidf_ranks
    from models.biencoder.retrieval import answer, distances, metrics_of, ranks_of

    ways = {
        "retrieval": lambda: ranks_of(
            test, -distances(queries.embeddings, candidates.embeddings, test.first_of_text)
        ),
        "with re-ranking": lambda: metrics_of(
            answer(model, config, test, queries, candidates), test, "epa"
        ),
        "TF-IDF": lambda: tfidf_ranks(test),
    }
    for name, times in interleaved(ways, rounds).items():
        print(f"eight tasks, {len(test):,} queries, {name}: {spread(times)}")


def reranking(
    model: BiEncoder, test: RetrievalSplit, queries: Embedded, candidates: Embedded, rounds: int
) -> None:
    """The ten nearest candidates of 400 queries: one call for all pairs, and one for each."""
    import numpy as np

    from models.biencoder.retrieval import distances, pair_log_odds
    from models.biencoder.tasks import top_allowed

    scores = -distances(queries.embeddings, candidates.embeddings, test.first_of_text)
    few, top = queries[:400], top_allowed(scores, test.task("epa").allowed, 10)[:400]

    def one_call_per_pair() -> np.ndarray:
        found = [
            [model.pair_log_odds(few.features[q], candidates.features[c]).item() for c in row]
            for q, row in enumerate(top)
        ]
        return np.array(found)

    def batched() -> np.ndarray:
        return pair_log_odds(model, few, candidates, top)

    plain = np.take_along_axis(scores[:400], top, axis=1)
    choices = [(plain + way()).argmax(axis=1) for way in (one_call_per_pair, batched)]
    same = int((choices[0] == choices[1]).sum())
    seconds = interleaved({"pairs": one_call_per_pair, "batched": batched}, max(rounds, 5))
    print(
        f"re-ranking 400 x 10: batched {ratio(seconds, 'pairs', 'batched')} as fast as one "
        f"call per pair; same choices: {same} of 400"
    )


def interleaved(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, round by round; a first round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> str:
    ratios = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
    return f"{statistics.median(ratios):.1f} times ({min(ratios):.1f} to {max(ratios):.1f})"


def spread(seconds: list[float]) -> str:
    middle, digits = statistics.median(seconds), 1 if max(seconds) >= 2 else 3
    return (f"{middle:.{digits}f} s ({min(seconds):.{digits}f} to {max(seconds):.{digits}f}), "
            f"n = {len(seconds)}")  # fmt: skip


if __name__ == "__main__":
    main()
