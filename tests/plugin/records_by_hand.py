"""Records that tests make and change by hand: whole ones, and others whose checksums agree.

A run that told all there is to tell goes into a store; its files can be replaced and its record
rewritten, with digests, sizes and checksum as a writer with bad intentions would have made them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pytest_ablation import HeatMaps, Mode, Run
from pytest_ablation.record_files import files_of
from pytest_ablation.store import Store

KEY = "0123456789abcdef" * 2
MAPS = HeatMaps(
    panels=["one", "two"],
    rows=["a", "b", "c"],
    columns=["x", "y"],
    title="Attention",
    caption="Rows look at columns.",
    values=np.arange(12.0).reshape(2, 3, 2),
)


def told_run() -> Run:
    """A run that told all there is to tell."""
    run = Run(seed=3, mode=Mode(seeds=1, epochs=2), device="cpu", keep_weights=True)
    run.use_data(train=[1, 2], evaluation=[3])
    for epoch in (1, 2):
        run.step([0, 1], epoch=epoch, loss=0.5, grad_norm=math.inf if epoch == 2 else 1.0)
        run.log(epoch, "train", loss=0.5 / epoch, top1=0.5)
    run.watch_limit("clip", limit=1.0, observed=0.25)
    run.stopped_early(2, 1, 1, 2)
    run.report_epoch(1)
    run.note("data", "made up: \u00e4\u4e2d")
    run.reference("TF-IDF", top1=0.25)
    run.save_predictions(top1=np.array([True, False]), scores=np.eye(2))
    run.save_weights({"w": np.ones(3, np.float32)})
    run.heat_maps("attention", MAPS)
    run.parameters = 3
    with run.training(), run.forward(2):
        pass
    return run


def whole_files() -> dict[str, bytes]:
    """The files of its record, by name."""
    run = told_run()
    origin = {"label": "study row", "train": "m:f", "code": "c0", "data": ""}
    origin |= {"budget": {"epochs": 2}, "libraries": {"numpy": "2"}}
    config = {"width": 8, "limit": math.inf, "names": ["a", None]}
    wishes = {"key": KEY, "mode_name": "quick", "config": config, "session": "s", "origin": origin}
    record = run.finish({"top1": 0.5, "loss": 0.25}, **wishes)
    return files_of(record, run.predictions, run.weights, "m:f", heat_maps=run.told_heat_maps)


def store_of(folder: Path, files: Mapping[str, bytes]) -> Store:
    """A store that keeps these files, and nothing else."""
    store = Store(folder / "store")
    store.prepare()
    store.put(KEY, files)
    return store


def rewrite(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the content of a record.json in place; its checksum then agrees with it."""
    content = json.loads(file.read_text())
    edit(content)
    write_signed(file, content)


def write_signed(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file with the checksum of its content."""
    content = {name: value for name, value in content.items() if name != "checksum"}
    text = json.dumps(content, sort_keys=True)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(content | {"checksum": checksum}))


def replace_file(run: Path, name: str, data: bytes) -> None:
    """Another file in a run's folder, with checksum and size that agree."""
    (run / name).unlink()
    (run / name).write_bytes(data)

    def edit(content: dict[str, Any]) -> None:
        content["files"][name] = hashlib.sha256(data).hexdigest()
        content["sizes"][name] = len(data)

    rewrite(run / "record.json", edit)
