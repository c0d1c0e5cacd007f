"""The ArguAna counterargs corpus: debates of points and their counters, as text files, read.

A folder goes in, three splits of arguments come out, each with its queries (the points that have a
counter). H. Wachsmuth, S. Syed, B. Stein, "Retrieval of the Best Counterargument without Prior
Topic Knowledge", ACL 2018. Knows no retrieval task and no model; imports neither NumPy nor torch.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models.errors import DataError

CORPUS_FOLDER = "arguana-counterargs-corpus"
ARGUMENTS_FOLDER = "02-extracted-arguments"
SPLIT_FOLDERS = {"train": "training", "validation": "validation", "test": "test"}
OPPOSITE = {"pro": "con", "con": "pro"}
SAMPLE_SEED = 2018  # one order of debates for all runs: a seed of a run varies training, never data
FILE_NAME = re.compile(r"(?P<side>pro|con)(?P<number>[0-9]+)(?:a-point|b-counter)\.txt")


@dataclass(frozen=True)
class Argument:
    """One point or counter.

    ``stance`` is "pro" or "con", the argument's own: a counter has the opposite stance of its
    point, and so the opposite of the folder that both stand in. ``place`` is its path below
    ``02-extracted-arguments``, with "/" on every system.
    """

    text: str
    theme: str
    debate: str
    stance: str
    is_counter: bool
    place: str


@dataclass(frozen=True)
class Split:
    """The arguments of one split, in the order of the parts of their paths (code points).

    ``queries`` are the indices of the points that have a counter, rising; ``counters[i]`` is the
    index of the counter of ``queries[i]``. Points without a counter are arguments, never queries.
    """

    arguments: tuple[Argument, ...]
    queries: tuple[int, ...]
    counters: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.arguments)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(argument.text for argument in self.arguments)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The texts of each query and of its counter, in the order of ``queries``."""
        texts = self.texts
        return tuple(
            (texts[query], texts[counter])
            for query, counter in zip(self.queries, self.counters, strict=True)
        )

    @property
    def debates(self) -> frozenset[tuple[str, str]]:
        """(theme, debate) of every argument: one name under two themes is two debates."""
        return frozenset((argument.theme, argument.debate) for argument in self.arguments)


@dataclass(frozen=True)
class ArguAna:
    """The corpus, or a subsample of its debates.

    Nothing is dropped, so that the candidates are those of the paper: texts repeat within a split
    (a debate can stand under two themes) and across splits (:func:`known_pairs`).
    ``debates_found`` is how many debates the folder has; ``other_files`` is how many text files
    beside those read were passed over, because they are not named as points and counters are.
    """

    train: Split
    validation: Split
    test: Split
    source: str
    debates_found: int
    other_files: int = 0

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        return self.train, self.validation, self.test

    def describe(self) -> str:
        """One sentence for the report: pairs, debates, and what is odd about the texts."""
        train, validation, test = (len(split.queries) for split in self.splits)
        used = sum(len(split.debates) for split in self.splits)
        debates = f"{used:,} debates"
        if used < self.debates_found:
            debates = (
                f"a sample of {used:,} of the {self.debates_found:,} debates "
                f"({used / self.debates_found:.0%})"
            )
        without = sum(_points_without_counter(split) for split in self.splits)
        parts = [
            f"{self.source}: {train:,} pairs of point and counter to train, {validation:,} to "
            f"validate, {test:,} to test, from {debates}; points without a counter (candidates, "
            f"never queries): {without:,}"
        ]
        if repeated := sum(_repeated_texts(split) for split in self.splits):
            parts.append(f"{repeated:,} texts repeat another one of their split and are kept")
        if known := sum(known_pairs(self.test, self.train)):
            parts.append(f"{known:,} of the test pairs stand in training too, word for word")
        if self.other_files:
            parts.append(f"{self.other_files:,} text files with other names were not read")
        return "; ".join(parts)


def arguana_folder(data_dir: Path | str | None) -> Path | None:
    """The folder ``02-extracted-arguments`` in ``data_dir/arguana-counterargs-corpus``, if any.

    *data_dir* may also be the corpus folder itself. None stands for no corpus at all; a corpus
    folder that lacks ``02-extracted-arguments`` is found (and refused by :func:`load_arguana`), so
    that a broken copy is not taken for none.
    """
    if data_dir is None:
        return None
    data_dir = Path(data_dir)
    if (data_dir / CORPUS_FOLDER).is_dir():
        return data_dir / CORPUS_FOLDER / ARGUMENTS_FOLDER
    if (data_dir / ARGUMENTS_FOLDER).is_dir() or data_dir.name == CORPUS_FOLDER:
        return data_dir / ARGUMENTS_FOLDER
    return None


def known_pairs(split: Split, training: Split) -> tuple[bool, ...]:
    """For each query of *split*, whether *training* has a pair of the same two texts.

    The published splits share debates (616 of the 1,401 test pairs are training pairs): accuracy on
    the other pairs says what a trained model does with pairs it has not seen.
    """
    known = set(training.pairs)
    return tuple(pair in known for pair in split.pairs)


@functools.lru_cache(maxsize=4)
def load_arguana(data_dir: Path | str, debates_share: float = 1.0) -> ArguAna:
    """Read the corpus, or a share of its debates; the same on every call.

    Files are read as UTF-8, a byte order mark is dropped, line ends become "\\n", white space
    around a text is cut off. In ``pro`` and ``con`` the files ``pro01a-point.txt`` and
    ``pro01b-counter.txt`` (``con…`` in ``con``, any number) are read; other ``.txt`` files are
    counted (``other_files``), everything else, and whatever begins with a dot, is passed over.

    Parameters
    ----------
    data_dir : Path or str
        See :func:`arguana_folder`.
    debates_share : float
        In (0, 1]. Below 1, whole debates are drawn, the same for every run: of each theme of each
        split that share, rounded, and at least one. A smaller share is a subset of a larger one.

    Raises
    ------
    DataError
        Naming the path: no such folder; a split that is missing, without debates or without a
        single pair; a debate with one side only (none of the 918 of the corpus is so: a folder was
        not copied whole); a counter without its point; a text that is empty, cannot be read, or
        is not UTF-8.
    ValueError
        *debates_share* outside (0, 1].
    """
    if not 0 < debates_share <= 1:
        raise ValueError(f"debates_share is a fraction above 0, at most 1, found {debates_share!r}")
    root = _existing_folder(data_dir)
    splits, found, other_files = {}, 0, 0
    for name, folder in SPLIT_FOLDERS.items():
        debates = _debate_folders(root / folder)
        found += len(debates)
        files, other = _argument_files(_sample(debates, debates_share))
        other_files += other
        splits[name] = _as_split(root, files)
        if not splits[name].queries:
            raise DataError(f"{root / folder} has no point with a counter, so nothing to retrieve")
    return ArguAna(
        **splits,
        source="ArguAna counterargs corpus",
        debates_found=found,
        other_files=other_files,
    )


@functools.lru_cache(maxsize=4)
def arguana_digest(data_dir: Path | str) -> str:
    """A digest of the files that :func:`load_arguana` reads (places and bytes), for a run's key.

    Raises
    ------
    DataError
        As :func:`load_arguana`, for what is wrong with folders or names.
    """
    root = _existing_folder(data_dir)
    hasher = hashlib.sha256()
    for folder in SPLIT_FOLDERS.values():
        files, _ = _argument_files(_debate_folders(root / folder))
        for path in files:
            content = _content(path)
            hasher.update(f"{path.relative_to(root).as_posix()}:{len(content)}:".encode())
            hasher.update(content)
    return hasher.hexdigest()


def _points_without_counter(split: Split) -> int:
    return len(split) - 2 * len(split.queries)


def _repeated_texts(split: Split) -> int:
    return len(split) - len(set(split.texts))


def _existing_folder(data_dir: Path | str) -> Path:
    root = arguana_folder(data_dir)
    if root is None or not root.is_dir():
        raise DataError(
            f"no ArguAna corpus in {data_dir}: expected the folder "
            f"{root or Path(data_dir) / CORPUS_FOLDER / ARGUMENTS_FOLDER}; give the folder that "
            f"contains {CORPUS_FOLDER} with --ablation-data or ABLATION_DATA"
        )
    return root


def _name(path: Path) -> str:
    """Sorts the entries of a folder by code points; paths themselves ignore case on Windows."""
    return path.name


def _subfolders(folder: Path) -> list[Path]:
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted((entry for entry in entries if entry.is_dir()), key=_name)


def _debate_folders(split_folder: Path) -> list[Path]:
    """All ``<split>/<theme>/<debate>``, in order; a theme without debates counts for nothing."""
    if not split_folder.is_dir():
        raise DataError(
            f"{split_folder} is missing: the corpus has the folders "
            f"{', '.join(SPLIT_FOLDERS.values())}; copy it whole"
        )
    debates = [debate for theme in _subfolders(split_folder) for debate in _subfolders(theme)]
    if not debates:
        raise DataError(
            f"{split_folder} has no debates: expected folders <theme>/<debate>/pro and "
            "<theme>/<debate>/con below it; copy the corpus whole"
        )
    return debates


def _sample(debates: list[Path], share: float) -> list[Path]:
    """The *share* of each theme's debates, at least one, in order; nested for rising shares."""
    by_theme: dict[Path, list[Path]] = {}
    for debate in debates:
        by_theme.setdefault(debate.parent, []).append(debate)
    chosen: set[Path] = set()
    for theme, members in by_theme.items():
        random.Random(f"{SAMPLE_SEED}/{theme.parent.name}/{theme.name}").shuffle(members)
        chosen.update(members[: max(1, round(share * len(members)))])
    return [debate for debate in debates if debate in chosen]


def _argument_files(debates: Iterable[Path]) -> tuple[list[Path], int]:
    """The files of points and counters, in order, and how many other text files stand there."""
    files: list[Path] = []
    other = 0
    for debate in debates:
        for side in ("con", "pro"):
            entries = (debate / side).iterdir() if (debate / side).is_dir() else ()
            entries = (e for e in entries if e.suffix == ".txt" and not e.name.startswith("."))
            texts = sorted(entries, key=_name)
            named = [path for path in texts if _is_argument_of(path, side)]
            if not named:
                raise DataError(
                    f"{debate} has one side only: there is no text of an argument in its folder "
                    f"{side!r}; copy the debate whole, or remove its folder"
                )
            files += named
            other += len(texts) - len(named)
    return files, other


def _is_argument_of(path: Path, side: str) -> bool:
    match = FILE_NAME.fullmatch(path.name)
    return match is not None and match["side"] == side


def _as_split(root: Path, files: list[Path]) -> Split:
    """The arguments of *files*, in their order, and which of them are pairs."""
    index = {path: number for number, path in enumerate(files)}
    queries, counters = [], []
    for path, number in index.items():
        partner = path.with_name(_partner_name(path.name))
        if path.stem.endswith("b-counter"):
            if partner not in index:
                raise DataError(
                    f"{path} is a counter without a point: expected {partner.name} beside it; "
                    "restore it, or remove the counter"
                )
        elif partner in index:
            queries.append(number)
            counters.append(index[partner])
    arguments = tuple(_read_argument(path, root) for path in files)
    return Split(arguments, tuple(queries), tuple(counters))


def _partner_name(name: str) -> str:
    """``pro01b-counter.txt`` for ``pro01a-point.txt``, and the reverse."""
    if name.endswith("a-point.txt"):
        return name.removesuffix("a-point.txt") + "b-counter.txt"
    return name.removesuffix("b-counter.txt") + "a-point.txt"


def _read_argument(path: Path, root: Path) -> Argument:
    side, debate, theme = path.parent.name, path.parent.parent.name, path.parents[2].name
    is_counter = path.stem.endswith("b-counter")
    return Argument(
        text=_read_text(path),
        theme=theme,
        debate=debate,
        stance=OPPOSITE[side] if is_counter else side,
        is_counter=is_counter,
        place=path.relative_to(root).as_posix(),
    )


def _read_text(path: Path) -> str:
    try:
        text = _content(path).decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}; "
            "save the file as UTF-8"
        ) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise DataError(
            f"{path} is empty: a pair without text cannot be retrieved; restore the file, or "
            "remove the point and its counter"
        )
    return text


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); restore the file") from error
