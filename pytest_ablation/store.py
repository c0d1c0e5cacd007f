"""Finished runs on disk: each a folder that is there whole or not at all.

Records go in, records come out, by key. A folder is written beside its place and renamed into it;
what cannot be read is never deleted, only set aside. Nothing is unpickled.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pytest_ablation.errors import AblationError
from pytest_ablation.heat_maps import HeatMaps
from pytest_ablation.record import (
    MODEL_METADATA,
    READABLE_SCHEMAS,
    SCHEMA_VERSION,
    HistoryRow,
    Record,
)

if TYPE_CHECKING:
    import numpy as np

MODEL_FILE = "model.safetensors"
HEAT_MAPS_FILE = "heat_maps.npz"
_ONLY_WHEN_USED = frozenset({MODEL_FILE, HEAT_MAPS_FILE})  # not read with every record
_HISTORY_COLUMNS = list(HistoryRow._fields)


class DamagedRecord(AblationError):
    """A record that is there but cannot be trusted: truncated, edited, or of another schema."""


class Store:
    """The folder of finished runs, with the caches and session notes beside them.

    Parameters
    ----------
    root : Path
        ``runs/<key>/`` holds ``record.json``, ``history.csv``, ``predictions.npz``, where the run
        told heat maps their numbers in ``heat_maps.npz`` and, where it was asked for,
        ``model.safetensors``; ``cache/`` is for training functions; ``sessions/``
        holds what running sessions write.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"
        self.cache = self.root / "cache"
        self.sessions = self.root / "sessions"
        self._locks = self.root / "locks"

    def prepare(self) -> None:
        """Make the folders; ``OSError`` where that is not allowed."""
        for folder in (self.runs, self.cache, self.sessions, self._locks):
            folder.mkdir(parents=True, exist_ok=True)

    def lock(self, key: str) -> FileLock:
        """The lock under which the run *key* is trained; freed by the system if its holder dies."""
        return FileLock(self._locks / f"{key}.lock")

    def read(self, key: str, *, check_model: bool = False) -> Record | None:
        """The record of *key*, or None where there is none.

        Parameters
        ----------
        key : str
        check_model : bool
            Whether to read the model and heat maps too, and not only look at their sizes.

        Raises
        ------
        DamagedRecord
            It is there, but truncated, changed by hand, or written by another version.
        """
        return self._read(key, unread=frozenset() if check_model else _ONLY_WHEN_USED)

    def _read(self, key: str, unread: frozenset[str]) -> Record | None:
        """The record of *key*; of the files that are *unread*, only the size is looked at."""
        folder = self.runs / key
        try:
            text = (folder / "record.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            if folder.is_dir():
                raise DamagedRecord(f"{folder} has no record.json") from None
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise DamagedRecord(f"{folder}/record.json cannot be read: {error}") from error
        return _parse(folder, key, text, unread)

    def model_path(self, key: str) -> Path | None:
        """The model that was kept with the run *key*, read and checked; None where there is none.

        A file of safetensors: the arrays that the run gave to ``save_weights``, and in its metadata
        ``config`` (the resolved configuration as JSON), ``seed``, ``key`` and ``train`` (module and
        name of the training function), and what the run said ``about`` the weights.

        Raises
        ------
        DamagedRecord
        """
        record = self.read(key, check_model=True)
        return self.runs / key / MODEL_FILE if record is not None and self.has_model(key) else None

    def heat_maps(self, key: str) -> dict[str, HeatMaps]:
        """The heat maps that the run *key* told, by name; {} where there are none, or no record.

        Raises
        ------
        DamagedRecord
        """
        record = self._read(key, unread=frozenset({MODEL_FILE}))
        if record is None or not record.heat_maps:
            return {}
        import numpy as np

        path = self.runs / key / HEAT_MAPS_FILE
        try:
            with np.load(path, allow_pickle=False) as kept:
                told = record.heat_maps.items()
                return {name: HeatMaps.of(texts, kept[_in_npz(name)]) for name, texts in told}
        except (OSError, KeyError, ValueError) as error:
            raise DamagedRecord(f"{path} is not what its record says: {error}") from error

    def predictions(self, key: str) -> dict[str, np.ndarray]:
        """What the run *key* kept per example, by name; {} where there is nothing, or no record.

        Raises
        ------
        DamagedRecord
        """
        if self._read(key, unread=_ONLY_WHEN_USED) is None:
            return {}
        import numpy as np

        path = self.runs / key / "predictions.npz"
        try:
            with np.load(path, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DamagedRecord(f"{path} holds no arrays of numbers: {error}") from error

    def has_model(self, key: str) -> bool:
        """Whether a model was kept with the run *key*."""
        return (self.runs / key / MODEL_FILE).is_file()

    def set_aside(self, key: str) -> None:
        """Move a damaged record out of the way, into ``damaged/``; nothing is lost.

        Does nothing where the record is whole by now, or is just being trained again.
        """
        lock = self.lock(key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return
        try:
            self.read(key, check_model=True)
        except DamagedRecord:
            self._move_to_damaged(key)
        finally:
            lock.release()

    def write(
        self,
        record: Record,
        predictions: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
        train: str = "",
        *,
        about: Mapping[str, str] | None = None,
        heat_maps: Mapping[str, HeatMaps] | None = None,
    ) -> None:
        """Keep *record*, with what :func:`files_of` takes beside it; see :meth:`put`."""
        kept = files_of(record, predictions, weights, train, about=about, heat_maps=heat_maps)
        self.put(record.key, kept)

    def put(self, key: str, files: Mapping[str, bytes]) -> None:
        """Keep a run's files as :func:`files_of` made them, whole or not at all.

        A record of the same key that was there is replaced (kept if damaged).
        """
        target = self.runs / key
        unique = uuid.uuid4().hex[:8]
        fresh = self.runs / f".new-{key}-{unique}"
        fresh.mkdir(parents=True)
        try:
            for name, data in files.items():
                _write_durably(fresh / name, data)
            old = self._make_room(key, unique)
            os.rename(fresh, target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        _sync_folder(self.runs)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)

    def _make_room(self, key: str, unique: str) -> Path | None:
        """Clear the place of *key*; the returned folder may go, a damaged record is kept."""
        try:
            if self.read(key, check_model=True) is None:
                return None
        except DamagedRecord:
            self._move_to_damaged(key)
            return None
        old = self.runs / f".old-{key}-{unique}"
        os.rename(self.runs / key, old)
        return old

    def _move_to_damaged(self, key: str) -> None:
        (self.root / "damaged").mkdir(exist_ok=True)
        os.rename(self.runs / key, self.root / "damaged" / f"{key}-{uuid.uuid4().hex[:8]}")


def files_of(
    record: Record,
    predictions: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    train: str = "",
    *,
    about: Mapping[str, str] | None = None,
    heat_maps: Mapping[str, HeatMaps] | None = None,
) -> dict[str, bytes]:
    """The files that a run is kept as, by name; they may be put into a store on another machine.

    Parameters
    ----------
    record : Record
    predictions : name to array of numbers, one per example
    weights : name to array; None keeps no model
    train : module and name of the training function, for the model's metadata
    about : name to text, for the model's metadata
    heat_maps : name to the maps whose words *record* carries
    """
    files = {
        "history.csv": _history_csv(record).encode(),
        "predictions.npz": _npz(predictions or {}),
    }
    if weights is not None:
        files[MODEL_FILE] = _safetensors(weights, record, train, about or {})
    if heat_maps:
        files[HEAT_MAPS_FILE] = _npz({_in_npz(n): maps.values for n, maps in heat_maps.items()})
    content = {
        "schema": SCHEMA_VERSION,
        "record": record.to_json(),
        "files": {name: _checksum(data) for name, data in files.items()},
        "sizes": {name: len(data) for name, data in files.items()},
    }
    content["checksum"] = _content_checksum(content)
    files["record.json"] = json.dumps(content, indent=1, sort_keys=True).encode()
    return files


def _parse(folder: Path, key: str, text: str, unread: frozenset[str]) -> Record:
    try:
        content = json.loads(text)
        schema = content["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecord(f"{folder}/record.json is not whole: {error}") from error
    if schema not in READABLE_SCHEMAS:
        readable = " and ".join(map(str, READABLE_SCHEMAS))
        raise DamagedRecord(
            f"{folder}/record.json has schema {schema!r}; this version reads {readable}"
        )
    checksum = content.pop("checksum", None)
    if checksum != _content_checksum(content):
        raise DamagedRecord(f"{folder}/record.json was changed after it was written")
    try:
        has_model = (folder / MODEL_FILE).exists()  # who needed the room may have removed it
        files = {n: c for n, c in content["files"].items() if n != MODEL_FILE or has_model}
        data = {name: (folder / name).read_bytes() for name in files.keys() - unread}
        for name, expected in files.items():
            if name in data:
                same = _checksum(data[name]) == expected
            else:
                same = (folder / name).stat().st_size == content["sizes"][name]
            if not same:
                raise DamagedRecord(f"{folder}/{name} was changed after it was written")
        history = _parse_history(data["history.csv"])
        record = Record.from_json(content["record"], history, schema)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedRecord(f"{folder} is not whole: {error}") from error
    if record.key != key:
        raise DamagedRecord(f"{folder} holds the record of {record.key!r}")
    return record


def _content_checksum(content: Mapping[str, Any]) -> str:
    return _checksum(json.dumps(content, sort_keys=True).encode())


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _history_csv(record: Record) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HISTORY_COLUMNS)
    writer.writerows([row.epoch, row.split, row.metric, repr(row.value)] for row in record.history)
    return out.getvalue()


def _parse_history(data: bytes) -> tuple[HistoryRow, ...]:
    header, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
    if header != _HISTORY_COLUMNS:
        raise ValueError(f"history.csv has the columns {header}")
    return tuple(HistoryRow(int(e), split, metric, float(v)) for e, split, metric, v in rows)


def _in_npz(name: str) -> str:
    return f"maps-{name}"  # "file" alone is a parameter of numpy.savez


def _npz(arrays: Mapping[str, Any]) -> bytes:
    import numpy as np

    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # numbers only, see Run.save_predictions
    return out.getvalue()


def _safetensors(
    weights: Mapping[str, Any], record: Record, train: str, about: Mapping[str, str]
) -> bytes:
    from safetensors.numpy import save

    config = json.dumps(record.config, sort_keys=True)
    own = dict(zip(MODEL_METADATA, (config, str(record.seed), record.key, train), strict=True))
    return save(dict(weights), {**about, **own})


def _write_durably(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be synced (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
