"""A finished run as files, and back: what a record, its history and its arrays are as bytes.

Records and arrays go in, named bytes come out; a folder goes in, a record comes out, or the reason
why it cannot be trusted (its arrays: ``record_arrays.py``). Knows no store and no lock. Nothing is
unpickled; nothing is followed out of the folder, waited for or read without a limit.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pytest_ablation.errors import AblationError
from pytest_ablation.heat_maps import HeatMaps
from pytest_ablation.record import (
    MODEL_METADATA,
    READABLE_SCHEMAS,
    SCHEMA_VERSION,
    HistoryRow,
    Record,
)
from pytest_ablation.strict_json import parse

RECORD_FILE = "record.json"
HISTORY_FILE = "history.csv"
PREDICTIONS_FILE = "predictions.npz"
MODEL_FILE = "model.safetensors"
HEAT_MAPS_FILE = "heat_maps.npz"
#: Not read with every record.
ONLY_WHEN_USED = frozenset({MODEL_FILE, HEAT_MAPS_FILE})
_ALWAYS = frozenset({HISTORY_FILE, PREDICTIONS_FILE})

_HISTORY_COLUMNS = list(HistoryRow._fields)
_CHECKED_BY = {"schema", "record", "files", "sizes"}
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_BLOCK = 1 << 20
_MIB = 1 << 20
#: Far more than any run has; a file that claims more is not read into memory.
_MOST_BYTES = {RECORD_FILE: 64 * _MIB, HISTORY_FILE: 256 * _MIB}
_LARGEST_EPOCH = 2**63 - 1
_NO_LINK, _NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)  # on Windows
_Read = TypeVar("_Read")


class DamagedRecord(AblationError):
    """A record that is there but cannot be trusted: truncated, edited, or of another schema."""


# --- from a record to files -----------------------------------------------------------------------


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

    Raises
    ------
    ValueError
        The run told what no reader would believe: too much of it, or values that are none.
    """
    files = {HISTORY_FILE: _history_csv(record).encode(), PREDICTIONS_FILE: _npz(predictions or {})}
    if weights is not None:
        files[MODEL_FILE] = _safetensors(weights, record, train, about or {})
    if heat_maps:
        files[HEAT_MAPS_FILE] = _npz({in_npz(n): maps.values for n, maps in heat_maps.items()})
    content = {
        "schema": SCHEMA_VERSION,
        "record": _in_unicode(record.to_json()),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "sizes": {name: len(data) for name, data in files.items()},
    }
    content["checksum"] = _content_checksum(content)
    files[RECORD_FILE] = json.dumps(content, indent=1, sort_keys=True).encode()
    _check_readable(files)
    return files


def _check_readable(files: Mapping[str, bytes]) -> None:
    """What nobody could read again must fail now, and not be found damaged by every session."""
    for name, most in _MOST_BYTES.items():
        if len(files[name]) > most:
            raise ValueError(
                f"the run told so much that its {name} has {len(files[name]) // _MIB} MiB: expected"
                f" at most {most // _MIB} MiB; log less often, or keep it in a file of your own"
            )
    content = parse(files[RECORD_FILE].decode(), not_finite=True).content
    Record.from_json(content["record"], _parse_history(files[HISTORY_FILE]))


def _in_unicode(value: Any) -> Any:
    """Texts with half a surrogate pair, as names of files can be, cannot be written in a report."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, (list, tuple)):
        return [_in_unicode(member) for member in value]
    if isinstance(value, dict):
        return {_in_unicode(name): _in_unicode(member) for name, member in value.items()}
    return value


def _history_csv(record: Record) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HISTORY_COLUMNS)
    writer.writerows([row.epoch, row.split, row.metric, repr(row.value)] for row in record.history)
    return out.getvalue()


def in_npz(name: str) -> str:
    """What heat maps of this name are called in their archive."""
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


# --- from files to a record -----------------------------------------------------------------------


def read_folder(folder: Path, key: str, unread: frozenset[str]) -> Record | None:
    """The record of *key* that lies in *folder*, None where there is no folder.

    Parameters
    ----------
    folder : Path
    key : str
    unread : files of which only the size is looked at

    Raises
    ------
    DamagedRecord
    """

    def read() -> Record:
        content = read_content(folder)
        history = _parse_history(_check_files(folder, content, unread))
        record = Record.from_json(content["record"], history, content["schema"])
        check_key(folder, key, record.key)
        return record

    return unless_damaged(folder, read)


def unless_damaged(folder: Path, read: Callable[[], _Read]) -> _Read | None:
    """What *read* returns; None where there is no folder.

    Raises
    ------
    DamagedRecord
        *read* could not, or met what no run writes.
    """
    if os.path.islink(folder):
        raise DamagedRecord(f"{folder} is a link: expected a folder")
    try:
        return read()
    except FileNotFoundError as error:
        if not folder.exists():
            return None
        name = Path(error.filename or folder / RECORD_FILE).name
        raise DamagedRecord(f"{folder} has no {name}") from None
    except NotADirectoryError:
        raise DamagedRecord(f"{folder} is a file: expected a folder") from None
    except OSError as error:
        raise DamagedRecord(f"{folder} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
        raise DamagedRecord(f"{folder} is not whole: {error}") from error


def check_key(folder: Path, key: str, found: Any) -> None:
    """Raise :class:`DamagedRecord` where a folder holds the record of another key."""
    if found != key:
        raise DamagedRecord(f"{folder} holds the record of {found!r:.60}")


def read_content(folder: Path) -> dict[str, Any]:
    """What a run's record.json holds, checked against its own checksum; not yet as a record.

    Raises
    ------
    DamagedRecord, OSError
    """
    path = folder / RECORD_FILE
    try:
        with open_regular(path) as file:
            text = file.read(_checked_size(file, RECORD_FILE)).decode()
        content = parse(text, not_finite=True).content
        schema = content["schema"]
        if _HALF_A_PAIR.search(text):  # of surrogates: no report could be written with it
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecord(f"{path} is not whole: {error}") from error
    _check_schema(path, schema)
    checksum = content.pop("checksum", None)
    if checksum != _content_checksum(content):
        raise DamagedRecord(f"{path} was changed after it was written")
    if unknown := sorted(content.keys() - _CHECKED_BY):
        raise DamagedRecord(f"{path} holds {unknown[0]!r:.60}, which no run writes")
    return content


def _check_schema(path: Path, schema: Any) -> None:
    if type(schema) is int and schema in READABLE_SCHEMAS:  # true and 1.0 equal 1 too
        return
    *first, last = map(str, READABLE_SCHEMAS)
    found = f"{path} has schema {schema!r:.40}; this version reads {', '.join(first)} and {last}"
    if type(schema) is int and schema > SCHEMA_VERSION:
        found += (
            ". A newer version of pytest-ablation wrote it: use that one, or another store with "
            "--ablation-store=DIR"
        )
    raise DamagedRecord(found)


def _check_files(folder: Path, content: Mapping[str, Any], unread: frozenset[str]) -> bytes:
    """Compare the files with what the record says of them; returns those bytes of the history."""
    files, sizes = listed_files(content)
    for name in files:
        if name == HISTORY_FILE or (name == MODEL_FILE and not os.path.lexists(folder / name)):
            continue  # who needed the room may have removed the model
        open_checked(folder, name, files, sizes, is_read=name not in unread).close()
    with open_checked(folder, HISTORY_FILE, files, sizes) as file:
        return file.read()


def listed_files(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checksums and sizes of a run's files, as its record has them, by name.

    Raises
    ------
    ValueError
    """
    files, sizes = content["files"], content.get("sizes", {})  # schema 1 has no sizes
    if not isinstance(files, dict) or not isinstance(sizes, dict):
        raise ValueError("its list of files is none")
    if unknown := sorted(files.keys() - _ALWAYS - ONLY_WHEN_USED):
        raise ValueError(f"it names the file {unknown[0]!r:.60}, which no run has")
    if missing := sorted(_ALWAYS - files.keys()):
        raise ValueError(f"it does not name {missing[0]}")
    if content["schema"] > 1 and (missing := sorted(files.keys() - sizes.keys())):
        raise ValueError(f"it does not say how large {missing[0]} is")
    return files, sizes


def open_checked(
    folder: Path, name: str, files: dict[str, Any], sizes: dict[str, Any], *, is_read: bool = True
) -> BinaryIO:
    """A file of a run, opened, where it is what the record says; unless *is_read*, of that size.

    Raises
    ------
    DamagedRecord, ValueError, OSError
    """
    file = open_regular(folder / name)
    try:
        size = _checked_size(file, name)
        same = sizes.get(name, size) == size
        if same and (is_read or name not in sizes):
            same = _checksum_of(file, size) == files[name]
        if not same:
            raise DamagedRecord(f"{folder / name} was changed after it was written")
    except BaseException:
        file.close()
        raise
    return file


def open_regular(path: Path) -> BinaryIO:
    """*path* opened for reading, where it is a file: no link is followed, no pipe waited for.

    Raises
    ------
    OSError, ValueError
    """
    try:
        if not _NO_LINK and path.is_symlink():
            raise OSError
        descriptor = os.open(path, os.O_RDONLY | _NO_LINK | _NO_WAIT | _BINARY)
    except OSError:
        if path.is_symlink():
            raise ValueError(f"{path.name} is a link: expected a file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path.name} is a folder, a pipe or a device: expected a file")
    return open(descriptor, "rb")


def _checked_size(file: BinaryIO, name: str) -> int:
    """The bytes of a file, unless it has more than any run's has."""
    size, most = os.fstat(file.fileno()).st_size, _MOST_BYTES.get(name, sys.maxsize)
    if size > most:
        raise ValueError(f"{name} has {size // _MIB} MiB: expected at most {most // _MIB} MiB")
    return size


def _checksum_of(file: BinaryIO, size: int) -> str:
    """The digest of a file's bytes; it is at its beginning again then."""
    hasher = hashlib.sha256()
    while block := file.read(min(size + 1, _BLOCK)):
        hasher.update(block)
    file.seek(0)
    return hasher.hexdigest()


def _content_checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _parse_history(data: bytes) -> tuple[HistoryRow, ...]:
    header, *rows = csv.reader(io.StringIO(data.decode(), newline="")) or [[]]
    if header != _HISTORY_COLUMNS:
        raise ValueError(f"{HISTORY_FILE} has the columns {header!r:.200}")
    history = tuple(HistoryRow(int(e), split, metric, float(v)) for e, split, metric, v in rows)
    if any(abs(row.epoch) > _LARGEST_EPOCH for row in history):
        raise ValueError(f"{HISTORY_FILE} has an epoch that is too large")
    return history
