"""Reads the runs of a store with nothing of the plugin: which are whole, which only look like it.

A store's folder goes in, its runs by key come out, with the digests of their files. It imports
nothing of ``pytest_ablation``, against whose own reader it stands.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: What two trainings of one run may differ in: what it cost, on which machine, for which session.
NOT_COMPARED = ("cost", "environment", "session")


@dataclass(frozen=True)
class KeptRun:
    """A whole run.

    Attributes
    ----------
    files : the digests of its files by name
    result : what in them does not hang on chance
    resumed : whether it went on from a checkpoint
    """

    files: Mapping[str, str]
    result: Mapping[str, Any]
    resumed: bool

    @property
    def has_model(self) -> bool:
        return "model.safetensors" in self.files


def runs_in(store: Path) -> tuple[dict[str, KeptRun], dict[str, str]]:
    """The whole runs by key; for each folder that is none, what is wrong with it.

    A run that was just being replaced, and whose place is empty, lies aside under another name: the
    next session puts it back.
    """
    whole, half = {}, {}
    folders = {folder.name: folder for folder in (store / "runs").glob("[!.]*")}
    aside = {folder.name.split("-")[1]: folder for folder in (store / "runs").glob(".old-*")}
    for key, folder in sorted((aside | folders).items()):
        try:
            whole[key] = read_run(folder, key)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            if key in folders:
                half[key] = f"{type(error).__name__}: {error}"
    return whole, half


def read_run(folder: Path, key: str) -> KeptRun:
    """Read and check every byte of a run's folder; ``ValueError`` and others where one is wrong."""
    data = {path.name: path.read_bytes() for path in folder.iterdir()}
    content = json.loads(data["record.json"])
    checksum = content.pop("checksum")
    _expect(checksum == _sha256(json.dumps(content, sort_keys=True).encode()), "the checksum")
    listed = dict(content["files"])
    _expect({*listed, "record.json"} == set(data), f"the files {sorted(data)}")
    for name, digest in listed.items():
        _expect(_sha256(data[name]) == digest, f"the digest of {name}")
    record = content["record"]
    _expect(record["key"] == key, "the key")
    _expect(bool(record["metrics"]) == (record["status"] == "ok"), "the metrics")
    arrays = _arrays(data["predictions.npz"])
    if "model.safetensors" in data:
        _check_model(data["model.safetensors"])
    result = {name: value for name, value in record.items() if name not in NOT_COMPARED}
    history = _history(data["history.csv"])
    return KeptRun(
        files={name: _sha256(content) for name, content in data.items()},
        result=result | {"history": history, "predictions": arrays},
        resumed=bool(record["cost"].get("resumed")),
    )


def seconds_until_free(store: Path, limit: float) -> float:
    """How long it takes until every lock of a store can be had; *limit* where it never is."""
    started = time.monotonic()
    for path in (store / "locks").glob("*.lock"):
        while not _is_free(path):
            if time.monotonic() - started > limit:
                return limit
            time.sleep(0.01)
    return time.monotonic() - started


def _is_free(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _history(data: bytes) -> list[list[str]]:
    header, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
    _expect(header == ["epoch", "split", "metric", "value"], f"the header {header}")
    for epoch, _, _, value in rows:
        _expect(int(epoch) > 0, "an epoch")
        float(value)
    return rows


def _arrays(data: bytes) -> dict[str, str]:
    """Name to a digest of type, shape and numbers: a zip file's own bytes carry times."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _expect(archive.testzip() is None, "the zip file's sums")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {
            name: _sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
            for name, array in arrays.items()
        }


def _check_model(data: bytes) -> None:
    """The layout that safetensors documents: length of the header, header, numbers."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    _expect(8 + length + max(ends) == len(data), "the model's length")


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} cannot be right")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
