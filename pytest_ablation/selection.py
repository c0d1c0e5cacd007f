"""Which of the collected tests are ablation cases, and which of these were asked for.

pytest's items and configuration go in; the selection comes out. Imports no study: where none was
imported, there is no case.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_ablation.study import CaseSpec

_MODE_WORD = re.compile(r"\b(quick|full)\b")


def asks_for_a_mode(config: pytest.Config) -> bool:
    """Whether ``-m`` or ``-k`` names a mode."""
    return bool(_MODE_WORD.search(f"{config.option.markexpr} {config.option.keyword}"))


def leave_out_full_cases(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out full cases unless they were asked for: they may cost hours."""
    if asks_for_a_mode(config) or getattr(config.option, "lf", False):
        return
    named = {_place_of(config, argument) for argument in config.args}
    unasked, left = [], []
    for item in items:
        is_named = (item.path, item.nodeid.partition("::")[2]) in named
        (unasked if _is_full_case(item) and not is_named else left).append(item)
    if unasked:
        config.hook.pytest_deselected(items=unasked)
        items[:] = left


def is_case(item: pytest.Item) -> bool:
    """Whether a test is an ablation case."""
    study = sys.modules.get("pytest_ablation.study")  # no study, no case
    spec = getattr(item, "callspec", None)
    if study is None or spec is None:
        return False
    return isinstance(spec.params.get("ablation"), study.CaseSpec)


def cases_of(items: list[pytest.Item]) -> list[tuple[str, CaseSpec]]:
    """Node id and case of those tests that are one."""
    return [(item.nodeid, item.callspec.params["ablation"]) for item in items if is_case(item)]


def _is_full_case(item: pytest.Item) -> bool:
    return is_case(item) and item.callspec.params["ablation"].mode == "full"


def _place_of(config: pytest.Config, argument: str) -> tuple[Path, str]:
    """The file, and the name in it, that an argument of the command line means."""
    file, _, name = argument.partition("::")
    return Path(os.path.abspath(config.invocation_params.dir / file)), name
