"""AG News: titles and first sentences of news in four classes, read, cleaned and split.

A folder in the official form (``ag_news_csv/{train.csv,test.csv,classes.txt}``), or the copy of
the Hugging Face hub, goes in; training, validation and test texts come out. X. Zhang, J. Zhao and
Y. LeCun, "Character-level Convolutional Networks for Text Classification", NeurIPS 2015. Imports no
torch.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.damaged_markup import clean, line_break_in
from models.errors import DataError
from models.labelled_texts import LabelledTexts, Texts, shuffled_by_class

CORPUS_FOLDER = "ag_news_csv"
TRAIN_FILE, TEST_FILE, CLASSES_FILE = "train.csv", "test.csv", "classes.txt"
CLASSES = ("World", "Sports", "Business", "Sci/Tech")
COLUMNS = ("class", "title", "description")
HUB_NAME = "fancyzhx/ag_news"
VALIDATION_SHARE = 0.1  # of the training texts of each class
SPLIT_SEED = 2015  # one split for all runs: a seed of a run varies training, never the data


@dataclass(frozen=True)
class _Rows:
    """Cleaned rows of one file, in its order; ``labels`` from 0."""

    texts: list[str]
    labels: list[int]


def ag_news_folder(data_dir: Path | str | None) -> Path | None:
    """The folder ``ag_news_csv`` in *data_dir* where one of its two CSV files is there, else None.

    *data_dir* may also be that folder itself. One file alone is found (and refused by
    :func:`load_ag_news`), so that a broken copy is not taken for none.
    """
    if data_dir is None:
        return None
    data_dir = Path(data_dir)
    folder = data_dir if data_dir.name == CORPUS_FOLDER else data_dir / CORPUS_FOLDER
    has_rows = any((folder / name).is_file() for name in (TRAIN_FILE, TEST_FILE))
    return folder if has_rows else None


@functools.lru_cache(maxsize=2)
def load_ag_news(data_dir: Path | str | None) -> LabelledTexts:
    """Read, clean, drop repeats and split; the same on every call.

    A text is the title, a line break and the description, each as :func:`models.damaged_markup`
    reads it. The test file stays whole and in order. Of the training file, rows are dropped whose
    text (ignoring case and white space) stands in the test file or earlier in the training file,
    or is empty; a tenth of the others of each class, drawn by a fixed seed, is the validation
    split. An empty text of the test file is kept, as ``""``.

    Raises
    ------
    DataError
        Naming file and line: a file that is missing, empty or not UTF-8; a row that has not three
        columns, or a class that is not 1 to 4; rows of one class only, or a class with fewer than
        two training texts; a ``classes.txt`` that has not four names (where there is none, the
        official names are used).
    """
    folder = _existing_folder(data_dir)
    classes = _class_names(folder / CLASSES_FILE)
    contents = {name: _content(folder / name) for name in (TRAIN_FILE, TEST_FILE)}
    line_break = line_break_in(contents.values())
    rows = {}
    for name, content in contents.items():
        labels, fields = _parse(folder / name, content)
        texts = ["\n".join(clean(field, line_break) for field in pair).strip() for pair in fields]
        rows[name] = _Rows(texts, labels)
        _require_two_classes(f"{folder / name}", labels, classes)
    return _split("AG News", classes, rows[TRAIN_FILE], rows[TEST_FILE])


@functools.lru_cache(maxsize=2)
def ag_news_digest(data_dir: Path | str | None) -> str:
    """A digest of the raw files (names and bytes), for a run's key.

    Raises
    ------
    DataError
        The folder, or one of the two CSV files, is missing.
    """
    folder = _existing_folder(data_dir)
    hasher = hashlib.sha256()
    for name in (TRAIN_FILE, TEST_FILE, CLASSES_FILE):
        content = _bytes(folder / name) if name != CLASSES_FILE or (folder / name).exists() else b""
        hasher.update(f"{name}:{len(content)}:".encode())
        hasher.update(content)
    return hasher.hexdigest()


@functools.lru_cache(maxsize=2)
def load_ag_news_hub(name: str = HUB_NAME) -> LabelledTexts:
    """As :func:`load_ag_news`, of a dataset that the package ``datasets`` loads.

    Parameters
    ----------
    name : str
        Of the hub (downloaded once, by ``datasets``), or a folder with parquet or CSV files called
        after the splits ``train`` and ``test``. Columns: ``text`` (title and description in one)
        and ``label``, 0 to 3.

    Raises
    ------
    DataError
        The package or the dataset is not there; or its splits, columns or labels are others.
    """
    splits = _hub_splits(name)
    line_break = line_break_in(text for rows in splits.values() for text in rows.texts)
    cleaned = {
        split: _Rows([clean(text, line_break) for text in rows.texts], rows.labels)
        for split, rows in splits.items()
    }
    for split, rows in cleaned.items():
        _require_two_classes(f"the split {split!r} of {name}", rows.labels, CLASSES)
    return _split(f"AG News by the package datasets ({name})", CLASSES, **cleaned)


@functools.lru_cache(maxsize=2)
def ag_news_hub_digest(name: str = HUB_NAME) -> str:
    """A digest of the dataset's rows, for a run's key.

    Raises
    ------
    DataError
        As :func:`load_ag_news_hub`.
    """
    splits = _hub_splits(name)
    digests = [Texts.of(rows.texts, rows.labels).digest for rows in splits.values()]
    return hashlib.sha256("/".join(digests).encode()).hexdigest()


# --- the official files ------------------------------------------------------------------------


def _existing_folder(data_dir: Path | str | None) -> Path:
    folder = ag_news_folder(data_dir)
    if folder is None:
        where = "" if data_dir is None else f" in {data_dir}"
        raise DataError(
            f"no AG News{where}, which is not part of this project: give the folder that contains "
            f"{CORPUS_FOLDER}/{TRAIN_FILE} and {CORPUS_FOLDER}/{TEST_FILE} with --ablation-data or "
            f"ABLATION_DATA, or take the copy of the Hugging Face hub with --ablation-ag-news=hub"
        )
    return folder


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): AG News is {TRAIN_FILE} and {TEST_FILE}; "
            f"copy the folder whole"
        ) from error


def _content(path: Path) -> str:
    content = _bytes(path)
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; "
            f"save the file as UTF-8"
        ) from error


def _class_names(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return CLASSES
    names = tuple(line.strip() for line in _content(path).splitlines() if line.strip())
    if len(names) != len(CLASSES) or len(set(names)) != len(names):
        raise DataError(
            f"{path} must have {len(CLASSES)} different names, one a line, found "
            f"{', '.join(map(repr, names)) or 'nothing'}: correct it, or remove it for the "
            f"official names {', '.join(CLASSES)}"
        )
    return names


def _parse(path: Path, content: str) -> tuple[list[int], list[tuple[str, str]]]:
    """Labels from 0, and (title, description), row by row; empty lines are passed over."""
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    labels, fields = [], []
    line = 1  # where the row begins: a quoted field may hold line ends
    try:
        for row in reader:
            if row:
                labels.append(_label(path, line, row))
                fields.append((row[1], row[2]))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: no row of quoted columns ({error}); a quote inside a column "
            f"must be doubled, and the last one must close it: correct or remove the row"
        ) from error
    if not labels:
        raise DataError(f"{path} has no rows: expected three columns, {', '.join(COLUMNS)}")
    return labels, fields


def _label(path: Path, line: int, row: Sequence[str]) -> int:
    """The class of a row, from 0, after a check of the row."""
    if len(row) != len(COLUMNS):
        raise DataError(
            f"{path}, line {line}: {len(row)} columns, expected {len(COLUMNS)} "
            f"({', '.join(COLUMNS)}): correct or remove the row"
        )
    number = row[0].strip()
    if number not in map(str, range(1, len(CLASSES) + 1)):
        raise DataError(
            f"{path}, line {line}: class {row[0]!r:.60}, expected a number from 1 to "
            f"{len(CLASSES)} (the file has no line of column names): correct or remove the row"
        )
    return int(number) - 1


# --- the copy of the hub -----------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _hub_splits(name: str) -> dict[str, _Rows]:
    """The rows of the splits ``train`` and ``test`` as they come, checked; None becomes ``""``."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            f"AG News of the hub needs the package datasets, which is not installed: run "
            f"pip install datasets, or give a folder that contains {CORPUS_FOLDER} with "
            f"--ablation-data"
        ) from error
    try:
        found = load_dataset(name)
    except Exception as error:  # of many libraries, and of the network
        raise DataError(
            f"the package datasets cannot load {name!r} ({type(error).__name__}: {error}): it "
            f"needs a connection once, or a folder with files called after the splits"
        ) from error
    rows = {}
    for split in ("train", "test"):
        columns = found[split].column_names if split in found else None
        if columns is None or not {"text", "label"} <= set(columns):
            raise DataError(
                f"the dataset {name!r} must have the splits train and test with the columns text "
                f"and label; found for {split}: {columns or 'no such split'}"
            )
        rows[split] = _checked(name, split, found[split]["text"], found[split]["label"])
    return rows


def _checked(name: str, split: str, texts: Iterable[object], labels: Iterable[object]) -> _Rows:
    texts, labels = list(texts), list(labels)
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        if not (text is None or isinstance(text, str)) or label not in range(len(CLASSES)):
            raise DataError(
                f"row {number} of the split {split!r} of {name!r} must be a text and a label from "
                f"0 to {len(CLASSES) - 1}, found {text!r:.60} and {label!r}"
            )
    return _Rows([text or "" for text in texts], labels)


# --- what is dropped, and the split -----------------------------------------------------------


def _require_two_classes(where: str, labels: Sequence[int], classes: Sequence[str]) -> None:
    found = sorted(set(labels))
    if len(found) < 2:
        names = ", ".join(repr(classes[label]) for label in found) or "no rows"
        raise DataError(
            f"{where} has rows of one class only ({names}): there is nothing to tell apart; "
            f"give rows of {', '.join(map(repr, classes))}"
        )


def _split(source: str, classes: tuple[str, ...], train: _Rows, test: _Rows) -> LabelledTexts:
    kept, dropped = _distinct(train, test)
    by_class = shuffled_by_class([train.labels[row] for row in kept], classes, SPLIT_SEED)
    validation = []
    for name, members in zip(classes, by_class, strict=True):
        if len(members) < 2:
            raise DataError(
                f"{source}: class {name!r} has {len(members)} distinct training texts; two or more "
                f"are needed, for one of them validates"
            )
        validation += members[: max(1, round(len(members) * VALIDATION_SHARE))]
    all_texts = Texts.of([train.texts[row] for row in kept], [train.labels[row] for row in kept])
    is_validation = np.zeros(len(kept), dtype=bool)
    is_validation[validation] = True
    splits = {
        "train": all_texts.rows(np.flatnonzero(~is_validation)),
        "validation": all_texts.rows(np.flatnonzero(is_validation)),
        "test": Texts.of(test.texts, test.labels),
    }
    sizes = {split: f"{len(texts):,}" for split, texts in splits.items()}
    description = (
        f"{source}: {len(train.texts):,} training rows in {len(classes)} classes, {dropped}; "
        f"{sizes['train']} to train, {sizes['validation']} to validate, {sizes['test']} to test "
        f"(the official test rows, whole)"
    )
    return LabelledTexts(classes=classes, description=description, **splits)


def _distinct(train: _Rows, test: _Rows) -> tuple[list[int], str]:
    """The rows of *train* to keep, and in words what is dropped."""
    of_test = {_normal(text) for text in test.texts}
    seen: set[str] = set()
    kept, repeats, known, empty = [], 0, 0, 0
    for row, text in enumerate(map(_normal, train.texts)):
        if not text:
            empty += 1
        elif text in of_test:
            known += 1
        elif text in seen:
            repeats += 1
        else:
            kept.append(row)
        seen.add(text)
    reasons = [f"{repeats:,} dropped because they repeat an earlier one",
               f"{known:,} because they are test rows too"]  # fmt: skip
    if empty:
        reasons.append(f"{empty:,} because they are empty")
    return kept, " and ".join(reasons)


def _normal(text: str) -> str:
    return " ".join(text.split()).casefold()
