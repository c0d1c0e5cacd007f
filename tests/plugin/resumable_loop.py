"""A user's own training loop that can be interrupted and resumed, and what its runs come to."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest

from pytest_ablation import HeatMaps, Mode, Run
from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.record import Cost

FILES = ("state.json", "state.npz", "weights.safetensors")
EPOCHS, BEST = 8, 4
X = np.random.default_rng(0).normal(size=(40, 3))
Y = X @ [1.0, -2.0, 0.5] + np.random.default_rng(1).normal(0, 0.1, 40)


class Interruption(BaseException):
    """Ends a training at once, as Ctrl-C does."""


def train(config, run, interrupt=None, data=(X, Y)):
    """Linear regression by SGD with momentum that tells all there is; *interrupt*: an epoch."""
    x, y = data
    run.use_data(train=(x, y), evaluation="none")
    run.note("data", "forty points")
    run.log(0, "validation", loss=100.0)
    rng = np.random.default_rng(run.seed_for("order"))
    w, velocity, best, done = np.zeros(3), np.zeros(3), math.inf, 0
    if saved := run.resume():
        w, velocity = saved.state["weights"]["w"], saved.state["velocity"]
        best, done = saved.state["best"], saved.epoch
        rng.bit_generator.state = saved.state["rng"]

    def state():
        return {"weights": {"w": w}, "velocity": velocity, "best": best,
                "rng": rng.bit_generator.state}  # fmt: skip

    with run.training():
        for epoch in range(done + 1, EPOCHS + 1):
            for step, batch in enumerate(np.array_split(rng.permutation(len(x)), 5)):
                error = x[batch] @ w - y[batch]
                gradient = x[batch].T @ error / len(batch)
                loss = (error**2).mean() * (40 if (epoch, step) == (6, 2) else 1)  # a spike
                norm = math.inf if (epoch, step) == (2, 1) else np.linalg.norm(gradient)
                run.step(batch, epoch=epoch, loss=loss, grad_norm=norm)
                run.watch_limit("clip", limit=0.5, observed=norm)
                uphill = -1 if epoch > BEST else 1
                velocity = 0.5 * velocity - uphill * config["rate"] * gradient
                w = w + velocity
            with run.forward(len(x)):
                loss = ((x @ w - y) ** 2).mean()
            if loss < best:
                best = loss
                run.report_epoch(epoch)
                run.save_weights({"w": w}, about={"epoch": str(epoch)})
                run.save_predictions(error=x @ w - y, hit=np.abs(x @ w - y) < 0.1)
            run.log(epoch, "train", loss=loss, **{"time": epoch})
            run.note(f"half {epoch // 5}", f"epoch {epoch}")
            run.reference("zero", **{f"at{epoch % 3}": 0.25})
            run.heat_maps(f"half-{epoch // 5}", maps(epoch))
            if epoch == interrupt:
                raise Interruption
            run.checkpoint(epoch, state)
    run.parameters = 3
    return {"loss": best}


def maps(epoch):
    return HeatMaps(values=np.full((1, 2, 2), float(epoch)), panels=["a"], rows=["b", "c"],
                    columns=["d", "e"],
                    title="t", caption="c", findings=[f"epoch {epoch}"])  # fmt: skip


def folder_of(path, **changes):
    return CheckpointFolder(path / "key", **{"key": "key", "seed": 0, "seconds": 0.0, **changes})


def trained(path, interrupt=None, *, data=(X, Y), keep_weights=True, said=None, told=None, **other):
    """The run and its record, without its cost; checkpoints in *path* after every epoch."""
    run = Run(
        seed=0, mode=Mode(seeds=1, epochs=EPOCHS), device="cpu", keep_weights=keep_weights,
        checkpoints=None if path is None else folder_of(path, **other),
        on_damaged=None if told is None else told.append,
        on_doing=None if said is None else said.append,
    )  # fmt: skip
    metrics = train({"rate": 0.02}, run, interrupt, data)
    return run, run.finish(metrics, key="key")


def content(run, record):
    """All that must be the same, whether or not the run was interrupted."""
    told = {name: (each, exact(each.values)) for name, each in run.told_heat_maps.items()}
    parts = (run.weights, run.predictions, run.about, told)
    return dataclasses.replace(record, cost=Cost(0.0)), *map(repr, map(exact, parts))


def interrupted(path, epoch, **other):
    with pytest.raises(Interruption):
        trained(path, epoch, **other)


@functools.cache
def undisturbed():
    """What a run comes to that was never interrupted and kept no checkpoints."""
    run, record = trained(None)
    assert record.loss_spikes.count == 1
    assert record.gradients.largest == math.inf
    assert record.reported_epoch == BEST
    assert record.cost.resumed == ()
    return content(run, record)


def exact(value):
    """A form in which equality means: the same types, the same bits."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, dict):
        return ("dict", [(exact(key), exact(member)) for key, member in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [exact(member) for member in value])
    return (type(value).__name__, hex(value) if isinstance(value, int) else repr(value))


def state_of(folder):
    return json.loads((folder / "state.json").read_text())
