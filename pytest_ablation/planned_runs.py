"""The runs that a project would train now, found by collecting it with pytest; nothing is trained.

As a plugin of such a pytest (``-p pytest_ablation.planned_runs``) this writes what the cases need
into the file that an environment variable names; :func:`planned_runs` starts one and reads it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ablation.errors import AblationError

if TYPE_CHECKING:
    import pytest

    from pytest_ablation.study import CaseSpec

_VARIABLE = "_ABLATION_PLANNED_RUNS"
_SHOWN_LINES = 3
_OPEN_WORDS = "its rows are known when its grid is trained"


@dataclass(frozen=True)
class PlannedRun:
    """A run that a selected case needs: what it depends on, as a record's ``origin`` has it."""

    train: str
    code: str
    data: str
    libraries: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenStudy:
    """A study whose runs are not all known, and why."""

    name: str
    mode: str
    train: str
    code: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.mode}): {self.why}"


@dataclass(frozen=True)
class Planned:
    """All that the selected cases need.

    Attributes
    ----------
    runs : by key
    leading : the metric that leads, by study
    open : studies that may need more runs than these
    python : its version, such as "3.11"
    """

    runs: dict[str, PlannedRun]
    leading: dict[str, str]
    open: tuple[OpenStudy, ...]
    python: str


def planned_runs(arguments: Sequence[str] = ()) -> Planned:
    """Collect the project in the current folder, quick and full cases.

    Parameters
    ----------
    arguments : for pytest; ``-m quick`` or ``--ablation-data=DIR``, say

    Raises
    ------
    AblationError
        It cannot be collected, or has no case.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "planned.json"
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", __name__,
                   "-m", "quick or full", *arguments]  # fmt: skip
        done = subprocess.run(
            command,
            env={**os.environ, _VARIABLE: str(file)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode == 0 and file.exists():
            return _read(json.loads(file.read_text(encoding="utf-8")))
    lines = [line for line in done.stdout.splitlines() if line.strip()][-_SHOWN_LINES:]
    why = " | ".join(lines) or f"pytest ended with exit status {done.returncode}"
    raise AblationError(f"no ablation case could be collected in {Path.cwd()}: {why}")


def _read(content: Any) -> Planned:
    if "error" in content:
        raise AblationError(content["error"])
    runs = {key: PlannedRun(**run) for key, run in content.pop("runs").items()}
    studies = tuple(OpenStudy(**study) for study in content.pop("open"))
    return Planned(runs=runs, open=studies, **content)


# --- in the pytest that collects ------------------------------------------------------------------


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write what the selected cases need."""
    if _VARIABLE not in os.environ:
        return
    from pytest_ablation.study import CaseSpec

    found = [(i.nodeid, getattr(i, "callspec", None)) for i in session.items]
    cases = [(node, spec.params.get("ablation")) for node, spec in found if spec is not None]
    cases = [(node, case) for node, case in cases if isinstance(case, CaseSpec)]
    if cases:
        content = _content(session.config, cases)
        Path(os.environ[_VARIABLE]).write_text(json.dumps(content), encoding="utf-8")


def _content(config: pytest.Config, cases: list[tuple[str, CaseSpec]]) -> dict[str, Any]:
    from pytest_ablation.kept_grids import plan_with_kept_grids
    from pytest_ablation.options import checked_options
    from pytest_ablation.planning import Planner, code_of
    from pytest_ablation.store import Store
    from pytest_ablation.training import name_of

    options = checked_options(config)
    planner = Planner(
        "",
        seeds=options.seeds,
        device=options.device,
        data_dir=options.data_dir,
        metric=options.metric,
        most_seeds=options.max_seeds,
        interval=options.interval,
    )
    try:
        plan, specs = plan_with_kept_grids(planner, cases, Store(options.store_dir))
    except AblationError as error:
        return {"error": str(error)}
    runs = {
        key: PlannedRun(name_of(spec.train), spec.code, spec.data, dict(spec.libraries))
        for key, spec in specs.items()
    }
    studies = {case.study.name: case.study for _, case in cases}
    not_all = [
        OpenStudy(
            of.name,
            of.mode,
            name_of(studies[of.name].train),
            code_of(studies[of.name]).digest,
            of.error or _OPEN_WORDS,
        )
        for of in plan.studies
        if of.error or of.is_open
    ]
    return {
        "runs": {key: dataclasses.asdict(run) for key, run in runs.items()},
        "leading": {study.name: study.leading for study in plan.studies},
        "open": [dataclasses.asdict(study) for study in not_all],
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
    }
