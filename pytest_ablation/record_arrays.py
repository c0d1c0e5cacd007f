"""What a run kept beside its record, read when it is used: arrays of numbers, heat maps, a model.

A run's folder goes in; arrays come out, or the reason why they cannot be trusted. Knows no store
and no lock. Nothing is unpickled.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pytest_ablation.heat_maps import HeatMaps
from pytest_ablation.record_files import (
    HEAT_MAPS_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    DamagedRecord,
    check_key,
    in_npz,
    listed_files,
    open_checked,
    open_regular,
    read_content,
    read_folder,
    unless_damaged,
)

if TYPE_CHECKING:
    import numpy as np

_MIB = 1 << 20
_MOST_UNPACKED = 4096 * _MIB
_ZIP = b"PK"  # how zip files begin
#: What reading an archive of arrays raises where it is none, or promises more than it has.
_NO_ARRAYS = (OSError, KeyError, ValueError, TypeError, EOFError, SyntaxError, zipfile.BadZipFile,
              zlib.error, MemoryError, NotImplementedError, RuntimeError)  # fmt: skip


def read_predictions(folder: Path, key: str) -> dict[str, np.ndarray] | None:
    """What the run *key* in *folder* kept per example, by name; None where there is no folder.

    Of its other files only what record.json says of the arrays is checked.

    Raises
    ------
    DamagedRecord
    """

    def read() -> dict[str, np.ndarray]:
        content = read_content(folder)
        check_key(folder, key, content["record"]["key"])
        files, sizes = listed_files(content)
        with open_checked(folder, PREDICTIONS_FILE, files, sizes) as file:
            return _arrays_in(file, folder / PREDICTIONS_FILE)

    return unless_damaged(folder, read)


def _arrays_in(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    """The arrays of numbers in an archive, by name.

    Raises
    ------
    DamagedRecord
        It holds something else, such as Python objects, which are never unpickled.
    """
    import numpy as np

    try:
        if file.read(len(_ZIP)) != _ZIP:  # NumPy would believe other files what they promise
            raise ValueError("it is no zip file")
        file.seek(0)
        with np.load(file, allow_pickle=False) as kept:
            unpacked = sum(member.file_size for member in kept.zip.infolist())
            if unpacked > _MOST_UNPACKED:
                raise ValueError(f"unpacked it would have {unpacked // _MIB} MiB")
            arrays = {name: kept[name] for name in kept.files}
    except _NO_ARRAYS as error:
        raise DamagedRecord(f"{path} holds no arrays of numbers: {error}") from error
    if others := [n for n, a in arrays.items() if not isinstance(a, np.ndarray)]:
        raise DamagedRecord(f"{path} holds no arrays of numbers: {others[0]!r:.60} is none")
    return arrays


def read_heat_maps(folder: Path, key: str) -> dict[str, HeatMaps] | None:
    """The heat maps that the run *key* in *folder* told, by name; None where there is no folder.

    Raises
    ------
    DamagedRecord
    """
    record = read_folder(folder, key, frozenset({MODEL_FILE}))
    if record is None or not record.heat_maps:
        return None if record is None else {}
    path = folder / HEAT_MAPS_FILE
    try:
        with open_regular(path) as file:
            kept = _arrays_in(file, path)
        told = record.heat_maps.items()
        return {name: HeatMaps.of(texts, kept[in_npz(name)]) for name, texts in told}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DamagedRecord(f"{path} is not what its record says: {error}") from error


def check_model(path: Path) -> None:
    """Raise :class:`DamagedRecord` unless *path* is a file of safetensors; reads its header."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:  # who has not installed it cannot use the model either
        return
    try:
        with safe_open(path, framework="numpy") as kept:
            kept.metadata()
    except (OSError, ValueError, SafetensorError) as error:
        raise DamagedRecord(f"{path} is no file of safetensors: {error}") from error
