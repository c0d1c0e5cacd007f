"""A variant: a named change to a configuration; and what a name may look like.

Names and changes go in and are checked. Knows nothing of studies, runs or pytest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_ablation.configuration import did_you_mean
from pytest_ablation.errors import StudyError
from pytest_ablation.record import FAIRNESS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@-]*")


class Variant:
    """A named change to a configuration.

    Parameters
    ----------
    name : str
        Letters, digits and ``_ . + @ -``; it stands in case ids, tables and paths.
    fields : mapping, optional
        The changes, for fields whose names collide with the parameters below.
    against : str, optional
        The row this one is a change of, and is compared with: another variant's name. Default:
        the study's baseline.
    description : str
        One sentence: what it changes, and where the idea comes from.
    allow_different : iterable of str
        What may differ from the baseline without being unfair, because the variant is about it:
        ``train_data``, ``evaluation_data``, ``batch_order``, ``steps``, ``device``.
    **changes
        Field to new value.

    Raises
    ------
    StudyError
        No changes, an unusable name, or an unknown word in *allow_different*.
    """

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Any] | None = None,
        /,
        *,
        against: str | None = None,
        description: str = "",
        allow_different: Iterable[str] = (),
        **changes: Any,
    ) -> None:
        self.name = checked_name("variant", name)
        self.against = against
        self.description = description
        self.allow_different = frozenset(allow_different)
        self.changes = {**(fields or {}), **changes}
        if not self.changes:
            raise StudyError(
                f"variant {name!r} changes nothing: name a field, as in "
                f"Variant({name!r}, dropout=0.0)"
            )
        for word in self.allow_different - set(FAIRNESS):
            raise StudyError(
                f"variant {name!r}: allow_different has {word!r}{did_you_mean(word, FAIRNESS)}"
            )

    def __repr__(self) -> str:
        changes = ", ".join(f"{field}={value!r}" for field, value in self.changes.items())
        return f"Variant({self.name!r}, {changes})"


def checked_name(kind: str, name: Any) -> str:
    """*name* if it can stand in ids, tables, spreadsheets and paths; else ``StudyError``."""
    usable = isinstance(name, str) and _NAME.fullmatch(name) and ".." not in name
    if not usable or len(name) > 80:
        raise StudyError(
            f"{kind} name {name!r:.90} cannot be used: expected 1 to 80 letters, digits and "
            f"_ . + @ - with a letter or digit first and no '..'"
        )
    return name
