"""A run that was killed goes on from its checkpoint, and ends with the bits of one that was not."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_classifier
from safetensors.numpy import load_file
from tiny_encoder import write_tiny_bert

from models.biencoder import BiEncoderConfig, train_biencoder
from models.transformer import TransformerConfig, data_digest, train_classifier
from models.transformer import train as command
from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.mode import Mode
from pytest_ablation.single import train_single

ROOT = Path(__file__).resolve().parents[2]
#: What may differ between two runs of the same training.
OF_THE_PROCESS = ("cost", "session", "environment")


class Interruption(BaseException):
    """Ends a training at once, as Ctrl-C does."""


def content(record):
    """All of a record that must be the same, whether or not the run was interrupted."""
    plain = {name: value for name, value in record.to_json().items() if name not in OF_THE_PROCESS}
    return plain, record.history


def interrupted_at(epochs, folder, train):
    """What *train* returns that is interrupted during each of these epochs, and then is not."""
    for epoch in (*epochs, None):

        def on_log(logged, split, values, epoch=epoch):
            if logged == epoch:
                raise Interruption

        options = {"on_log": on_log, "keep_weights": True, "checkpoints": every_epoch(folder)}
        if epoch is None:
            return train(of_run=options)
        with pytest.raises(Interruption):
            train(of_run=options)
    raise AssertionError("an interruption did not happen")


def every_epoch(folder):
    return CheckpointFolder(folder / "checkpoint", key="key", seed=0, seconds=0)


def assert_same(whole, resumed, epochs):
    """Two pairs of run and record."""
    assert content(resumed[1]) == content(whole[1])
    assert resumed[1].cost.resumed == tuple(epoch - 1 for epoch in epochs)
    for name in ("weights", "predictions"):
        ours, theirs = getattr(whole[0], name), getattr(resumed[0], name)
        assert ours.keys() == theirs.keys()
        for key, array in ours.items():
            assert array.dtype == theirs[key].dtype
            assert array.tobytes() == theirs[key].tobytes()


# --- the classifier ---------------------------------------------------------------------------

CLASSIFIERS = {
    "dropout and clipping": ({"dropout": 0.3, "grad_clip_norm": 0.05, "epochs": 6}, (4,)),
    "twice": ({"dropout": 0.2, "num_layers": 2, "epochs": 6}, (3, 5)),
    "in the last epoch": ({"dropout": 0.1, "epochs": 3}, (3,)),
    "positions that are learned, in bfloat16": (
        {"positional_encoding": "learned", "precision": "bfloat16", "epochs": 4}, (3,),
    ),
    "a frozen embedding": ({"train_embeddings": False, "epochs": 4}, (2,)),
    "the best epoch long ago": ({"learning_rate": 0.3, "epochs": 7}, (5, 7)),
}  # fmt: skip


@pytest.mark.parametrize("case", CLASSIFIERS)
def test_an_interrupted_classifier_ends_as_one_that_was_not(case, small_ag_news, tmp_path):
    settings, epochs = CLASSIFIERS[case]
    train = functools.partial(tiny_classifier.train, small_ag_news, **settings)
    whole = train(of_run={"keep_weights": True})
    assert_same(whole, interrupted_at(epochs, tmp_path, train), epochs)


def test_an_interrupted_fine_tuning_ends_as_one_that_was_not(small_ag_news, tmp_path):
    encoder = str(write_tiny_bert(tmp_path / "bert"))
    train = functools.partial(
        tiny_classifier.train, small_ag_news, encoder=encoder, fine_tune=True, epochs=4, dropout=0.2
    )
    whole = train(of_run={"keep_weights": True})
    assert any(name.startswith("encoder.") for name in whole[0].weights)
    assert_same(whole, interrupted_at([3], tmp_path, train), [3])


@pytest.mark.parametrize("epoch", [2, 3, 4, 5])
def test_patience_counts_on_over_an_interruption(epoch, small_ag_news, tmp_path):
    train = functools.partial(
        tiny_classifier.train, small_ag_news, epochs=25, patience=2, learning_rate=0.3, dropout=0.1
    )
    whole = train(of_run={"keep_weights": True})
    stop = whole[1].early_stop
    assert (stop.best_epoch, stop.epoch) == (3, 5), "interrupted before, in and after the best"
    assert_same(whole, interrupted_at([epoch], tmp_path, train), [epoch])


def test_keeping_checkpoints_changes_nothing(small_ag_news, tmp_path):
    train = functools.partial(tiny_classifier.train, small_ag_news, epochs=3, dropout=0.3)
    with_them = train(of_run={"checkpoints": every_epoch(tmp_path)})
    assert content(with_them[1]) == content(train()[1])
    assert (tmp_path / "checkpoint" / "state.json").exists()


def test_a_checkpoint_is_read_by_other_tools(small_ag_news, tmp_path):
    """Weights by safetensors, the arrays by NumPy without pickle, the rest by any JSON reader."""
    train = functools.partial(tiny_classifier.train, small_ag_news, epochs=1, dropout=0.3)
    run, _ = train(of_run={"checkpoints": every_epoch(tmp_path), "keep_weights": True})
    weights = load_file(tmp_path / "checkpoint" / "weights.safetensors")
    assert weights.keys() == run.weights.keys()  # of the only epoch, and so the best
    assert all(np.array_equal(weights[name], run.weights[name]) for name in weights)
    state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
    assert state["epoch"] == 1
    parts = state["state"]["parts"]
    assert parts["order"]["bit_generator"] == "SFC64"
    with np.load(tmp_path / "checkpoint" / "state.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_tensors_of_any_type_and_layout_come_back_as_arrays(tmp_path):
    import torch

    halves = torch.linspace(-3, 3, 7).to(torch.bfloat16)
    turned = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
    folder = every_epoch(tmp_path)
    state = {"weights": {"halves": halves, "turned": turned}, "bytes": torch.get_rng_state()}
    folder.write(1, state, {}, {})
    back = folder.read({}).checkpoint.state
    assert back["weights"]["halves"].dtype == np.float32
    assert torch.equal(torch.from_numpy(back["weights"]["halves"]).to(torch.bfloat16), halves)
    assert back["weights"]["turned"].tolist() == turned.tolist()
    assert torch.equal(torch.from_numpy(back["bytes"]), torch.get_rng_state())


# --- the bi-encoder ---------------------------------------------------------------------------

BIENCODERS = {
    "mined and random negatives": (
        {"dropout": 0.3, "random_negatives": 0.6, "random_decay": 0.2, "layernorm": True},
        {"epochs": 5}, (3, 5),
    ),
    "two encoders that are trained": (
        {"train_encoder": True, "shared": False, "encoder_learning_rate": 1e-3, "dropout": 0.2},
        {"epochs": 3}, (3,),
    ),
    "early stopping": ({"learning_rate": 0.05}, {"epochs": 20, "patience": 1}, (3,)),
}  # fmt: skip


@pytest.mark.parametrize("case", BIENCODERS)
def test_an_interrupted_biencoder_ends_as_one_that_was_not(case, train_tiny, tmp_path):
    settings, budget, epochs = BIENCODERS[case]

    def train(of_run):
        keep, others = of_run.get("keep_weights", False), dict(of_run)
        others.pop("keep_weights")
        trained = train_tiny(budget=budget, keep_weights=keep, of_run=others, **settings)
        return trained.run, trained.record

    whole = train({"keep_weights": True})
    if "patience" in budget:
        assert whole[1].early_stop.epoch == epochs[-1]
    assert_same(whole, interrupted_at(epochs, tmp_path, train), epochs)


# --- by command -------------------------------------------------------------------------------


def test_the_command_goes_on_and_says_so(small_ag_news, tmp_path, capsys):
    words = (
        "--epochs 4 --train-rows 24 --device cpu --threads 1 --embed-dim 8 --num-heads 2".split()
    )
    words += "--num-layers 1 --ffn-dim 12".split()
    words += ["--data", str(small_ag_news), "--out", str(tmp_path / "store")]
    options = command._parser().parse_args(words)
    config = command.configuration(options)

    def on_log(epoch, split, values):
        if epoch == 3:
            raise Interruption

    with pytest.raises(Interruption):
        train_single(
            train_classifier, config, seed=0, store=tmp_path / "store", device="cpu", threads=1,
            mode=Mode(seeds=[0], epochs=4, patience=command.PATIENCE, train_rows=24),
            data=data_digest(config, small_ag_news), data_dir=small_ag_news, on_log=on_log,
            checkpoint_seconds=0,
        )  # fmt: skip
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "It was interrupted, and went on after epoch 2." in said
    assert "Epoch 3/4" in said
    assert "Epoch 2/4" not in said


# --- 40 epochs in a process that is killed ----------------------------------------------------

CLASSIFIER = TransformerConfig(
    corpus="ag_news", embed_dim=8, num_heads=2, num_layers=1, ffn_dim=12, max_length=14,
    batch_size=8, learning_rate=0.01, dropout=0.2, grad_clip_norm=0.5,
)  # fmt: skip
EPOCHS = 40


def train_in_store(family, store, classifier_data, biencoder_data, on_log=None):
    """40 epochs, as a command outside pytest trains them, with a checkpoint after each."""
    options = {
        "seed": 0, "store": Path(store), "device": "cpu", "threads": 1, "checkpoint_seconds": 0,
        "on_log": on_log,
    }  # fmt: skip
    if family == "classifier":
        mode = Mode(seeds=1, epochs=EPOCHS, patience=None, train_rows=40)
        data = Path(classifier_data)
        return train_single(train_classifier, CLASSIFIER, mode=mode, data_dir=data, **options)
    config = BiEncoderConfig(
        encoder=str(Path(biencoder_data) / "bert0"), encoder_precision="float32", max_length=12,
        embed_dim=16, negatives=2, hard_pool=4, batch_size=16, learning_rate=0.01, dropout=0.2,
        grad_clip_norm=0.5, rerank_top=5,
    )  # fmt: skip
    mode = Mode(seeds=1, epochs=EPOCHS, patience=None)
    data = Path(biencoder_data)
    return train_single(train_biencoder, config, mode=mode, data_dir=data, **options)


def wait_in_the_last_epoch(epoch, split, values):
    """So that a busy machine has the time to kill what trains much faster than it looks."""
    if epoch == EPOCHS:
        time.sleep(300)


TRAIN = "import sys, test_resuming as t; t.train_in_store(*sys.argv[1:], t.wait_in_the_last_epoch)"


class Training:
    """A process that trains in *store*, to be killed when it has kept an epoch."""

    def __init__(self, epoch, family, store, *data):
        path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        self._folder = store / "checkpoints"
        self._epoch = epoch
        self._process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, family, str(store), *map(str, data)],
            env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip

    def is_killed(self):
        """Kill it if it is time for that."""
        assert self._process.poll() is None, "it ended before it was killed"
        if self._kept() < self._epoch:
            return False
        os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.wait() == -signal.SIGKILL
        return True

    def _kept(self):
        try:
            [folder] = [p for p in self._folder.iterdir() if not p.name.startswith(".")]
            return json.loads((folder / "state.json").read_text())["epoch"]
        except (OSError, ValueError):  # not there yet, or being replaced just now
            return 0


def test_forty_epochs_that_are_killed_end_as_those_that_are_not(
    small_ag_news, biencoder_folder, tmp_path
):
    data = (small_ag_news, biencoder_folder)
    epochs = {family: random.randint(1, 32) for family in ("classifier", "biencoder")}
    wholes = {}
    for family in epochs:
        wholes[family] = train_in_store(family, tmp_path / f"{family} whole", *data)
        # The vectors are there then, and the process need not import what makes them.
        shutil.copytree(tmp_path / f"{family} whole" / "cache", tmp_path / f"{family} killed/cache")
    running = [Training(epochs[f], f, tmp_path / f"{f} killed", *data) for f in epochs]
    while running:
        running = [process for process in running if not process.is_killed()]
        time.sleep(0.005)
    for family, epoch in epochs.items():
        seen, whole = [], wholes[family]
        resumed = train_in_store(
            family, tmp_path / f"{family} killed", *data,
            on_log=lambda epoch, split, values, seen=seen: seen.append(epoch),
        )  # fmt: skip
        print(family, epoch, resumed.record.cost.resumed)
        assert content(resumed.record) == content(whole.record)
        [after] = resumed.record.cost.resumed
        assert epoch <= after == min(seen) - 1
        for name in ("predictions.npz", "history.csv"):
            assert (whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes()
        models = [load_file(run.folder / "model.safetensors") for run in (whole, resumed)]
        assert {n: a.tobytes() for n, a in models[0].items()} == {
            n: a.tobytes() for n, a in models[1].items()
        }
        assert not list((tmp_path / f"{family} killed" / "checkpoints").iterdir())
