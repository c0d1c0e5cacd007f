"""Heat maps that a run tells and a report draws: matrices of numbers, their labels and their words.

A training function makes them; a record carries all but the numbers, which lie beside it. Knows
nothing of drawing, of stores, or of what the numbers mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any

from pytest_ablation.digests import as_array, digest

_OTHER_FIGURES = ("changes", "cost", "curves", "facets", "grid")  # of a study, by file name
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_LABELS = ("panels", "rows", "columns")  # in the order of the axes of the values


@dataclass(frozen=True, kw_only=True)
class HeatMapTexts:
    """All of heat maps but the numbers; ``digest`` stands for these.

    Attributes
    ----------
    panels : the name of each map, such as "layer 1, head 2"
    rows, columns : the labels of the maps' rows and columns, the same for all of them
    title : what the maps show, in a few words
    caption : how they are to be read
    findings : sentences made from the numbers, for a report's conclusions
    leading : the index of the panel that tells most, which is drawn large
    row_axis, column_axis, measure : what the rows, the columns and the values are
    across : how many panels stand side by side where all are drawn
    digest : of the values
    """

    panels: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    title: str
    caption: str
    findings: tuple[str, ...] = ()
    leading: int = 0
    row_axis: str = ""
    column_axis: str = ""
    measure: str = ""
    across: int = 4
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class HeatMaps(HeatMapTexts):
    """Maps of one shape, checked when they are made; see :class:`HeatMapTexts` for the words.

    Attributes
    ----------
    values : array-like of finite numbers, [panels, rows, columns]
        Kept as a read-only array of float32 or float64; maps are equal where words and values are.

    Raises
    ------
    ValueError
        Another shape than the labels say, numbers that are not finite, labels that are not text.
    """

    values: Any = field(compare=False, repr=False)  # the digest is compared in their place

    def __post_init__(self) -> None:
        for name in (*_LABELS, "findings"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        for name in ("title", "caption", "row_axis", "column_axis", "measure"):
            _require(isinstance(getattr(self, name), str), f"{name} must be a text", self, name)
        _require(bool(self.title.strip()), "title must say what the maps show", self, "title")
        shape = tuple(len(getattr(self, name)) for name in _LABELS)
        values = _values(self.values, shape)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "digest", digest(values))
        _require_index(self, "leading", 0, len(self.panels) - 1)
        _require_index(self, "across", 1, None)

    @classmethod
    def of(cls, texts: HeatMapTexts, values: Any) -> HeatMaps:
        """The maps again, from what a record carries and the numbers that lay beside it.

        Raises
        ------
        ValueError
            The values are not those of the texts.
        """
        maps = cls(**{f.name: getattr(texts, f.name) for f in fields(texts)}, values=values)
        if maps.digest != texts.digest:
            raise ValueError(f"the values of {texts.title!r} are not those that were told")
        return maps

    @property
    def texts(self) -> HeatMapTexts:
        """All but the values."""
        return HeatMapTexts(**{f.name: getattr(self, f.name) for f in fields(HeatMapTexts)})


def checked_name(name: str) -> str:
    """*name*, which becomes part of a figure's file name.

    Raises
    ------
    ValueError
        It is not 1 to 40 lower-case letters, digits and dashes, or stands for another figure.
    """
    is_name = isinstance(name, str) and _NAME.fullmatch(name)
    if not is_name or name in _OTHER_FIGURES or name.endswith("-all"):
        raise ValueError(
            f"heat maps are called by 1 to 40 lower-case letters, digits and dashes, none of "
            f"{', '.join(_OTHER_FIGURES)} and not ending in '-all' (figures are called so), found "
            f"{name!r:.100}"
        )
    return name


def _texts(name: str, labels: Any) -> tuple[str, ...]:
    is_list = isinstance(labels, list | tuple)
    if not is_list or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"heat maps: {name} must be a list of texts, found {labels!r:.100}")
    return tuple(labels)


def _values(values: Any, shape: tuple[int, ...]) -> Any:
    """An own read-only copy of the values, whose axes have the lengths of the labels."""
    import numpy as np

    found = as_array(values)
    if found.dtype.kind not in "biuf" or found.shape != shape or 0 in shape:
        raise ValueError(
            f"heat maps: values must be numbers [panels, rows, columns], at least one of each, and "
            f"the labels are {shape}: found {found.dtype} of shape {found.shape}"
        )
    kept = np.array(found, dtype=np.float32 if found.dtype == np.float32 else np.float64, order="C")
    if not np.isfinite(kept).all():
        count = int((~np.isfinite(kept)).sum())
        raise ValueError(f"heat maps: {count} of {kept.size} values are not finite")
    kept.flags.writeable = False
    return kept


def _require_index(maps: HeatMaps, name: str, lowest: int, highest: int | None) -> None:
    value = getattr(maps, name)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    fits = is_integer and value >= lowest and (highest is None or value <= highest)
    upwards = "or more" if highest is None else f"to {highest}"
    _require(fits, f"{name} must be an integer of {lowest} {upwards}", maps, name)


def _require(holds: bool, expected: str, maps: HeatMaps, name: str) -> None:
    if not holds:
        raise ValueError(f"heat maps: {expected}, found {getattr(maps, name)!r:.100}")
