"""What of a project goes to the nodes of a Ray cluster: its code and small files, where to import.

A project's folder goes in; what Ray is to leave out, and the folders of ``sys.path`` in it, come
out. Data do not go this way (data.py), nor what is installed.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LARGEST_FILE_MIB = 10
_NOT_CODE = frozenset({"__pycache__", "node_modules", "site-packages"})
_SPECIAL = re.compile(r"([\\*?\[\]!#]|\s$)")


@dataclass(frozen=True)
class ShippedProject:
    """A project as the nodes are to have it.

    Attributes
    ----------
    root : its folder
    excludes : what Ray leaves out, in the syntax of gitignore; beside what git ignores
    import_folders : the folders of ``sys.path`` in it, relative to the root, in their order
    size : bytes of the files, those that git ignores among them
    """

    root: Path
    excludes: tuple[str, ...]
    import_folders: tuple[str, ...]
    size: int = 0


def shipped_project(root: Path, without: Iterable[Path] = ()) -> ShippedProject:
    """What of the folder *root* the nodes need.

    Left out are hidden folders, environments, files of more than 10 MiB, what is no regular file,
    and the folders *without* (the store, reports, data).
    """
    root = Path(os.path.realpath(root))
    left_out = {os.path.realpath(path) for path in without}
    excluded: list[str] = []
    size = 0
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        for name in list(folders):
            if str(here / name) in left_out or _is_not_code(here / name):
                folders.remove(name)
                excluded.append((here / name).relative_to(root).as_posix())
        for name in files:
            found = _size_of_small_file(here / name)
            if found is None:
                excluded.append((here / name).relative_to(root).as_posix())
            size += found or 0
    return ShippedProject(
        root,
        ("*.pyc", *(f"/{_SPECIAL.sub(_escaped, path)}" for path in sorted(excluded))),
        tuple(dict.fromkeys(_import_folders(root, excluded))),
        size,
    )


def _is_not_code(folder: Path) -> bool:
    return (
        folder.name.startswith(".")
        or folder.name in _NOT_CODE
        or (folder / "pyvenv.cfg").exists()  # a virtual environment
    )


def _size_of_small_file(path: Path) -> int | None:
    try:
        status = path.stat()
    except OSError:
        return None
    is_small = stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_FILE_MIB * 2**20
    return status.st_size if is_small else None


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


def _import_folders(root: Path, excluded: list[str]) -> Iterator[str]:
    for entry in sys.path:
        path = Path(os.path.realpath(entry or os.getcwd()))
        if path.is_dir() and path.is_relative_to(root):
            relative = path.relative_to(root)
            parents = {parent.as_posix() for parent in (relative, *relative.parents)}
            if not parents.intersection(excluded):
                yield relative.as_posix()
