"""Where results come from: the code's revision, versions, the machines that trained.

Study results and a folder go in, facts for a reader come out. They decide nothing.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_ablation.record import Record
from pytest_ablation.results import StudyResult

_GIT_SECONDS = 20
_OF_MACHINE = ("machine", "processor", "cores")


def facts_of(results: Sequence[StudyResult], root: Path) -> dict[str, Any]:
    """What a reader may ask about the results, as plain values.

    Parameters
    ----------
    results : study results of one session
    root : the folder of the code; its git repository is asked for the revision

    Returns
    -------
    dict
        ``date`` (now, UTC, ISO 8601), ``commit`` (None outside a repository), ``uncommitted``
        (whether the working tree had other content than the commit; None likewise), ``python`` and
        ``plugin`` (versions; the plugin's is None where it is not installed as a package),
        ``libraries`` (distribution to version, of those that the training code imports) and
        ``machines`` (one mapping for each machine and kind of device that the runs were trained on,
        which need not be this one: ``machine``, ``processor``, ``cores``, ``device``; values that
        the records do not have are None).
    """
    commit, uncommitted = revision(root)
    libraries = {name: v for result in results for name, v in result.plan.libraries.items()}
    records = [run.record for result in results for run in result.runs.values() if run.record]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "uncommitted": uncommitted,
        "python": platform.python_version(),
        "plugin": _plugin_version(),
        "libraries": dict(sorted(libraries.items())),
        "machines": _machines(records),
    }


def revision(root: Path) -> tuple[str | None, bool | None]:
    """The git commit that *root* is at, and whether anything there differs from it.

    Files that git does not ignore and does not know count as a difference. (None, None) outside a
    repository, before its first commit, and where there is no git.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    status = _git(root, "status", "--porcelain") if commit is not None else None
    return (commit, None if status is None else bool(status))


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _plugin_version() -> str | None:
    try:
        return importlib.metadata.version("pytest-ablation")
    except importlib.metadata.PackageNotFoundError:
        return None


def _machines(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Each machine and kind of device once, in an order that the records' order does not change."""
    machines = {}
    for record in records:
        machine = {name: record.environment.get(name) for name in _OF_MACHINE}
        machine["device"] = record.fingerprints.get("device")
        machines[repr(sorted(machine.items()))] = machine
    return [machines[text] for text in sorted(machines)]


def differences_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Sentences about older results: of when and of which code; what was another then.

    Parameters
    ----------
    old, new : the facts of two sets of results, see :func:`facts_of`
    """
    commit = old.get("commit")
    code = f"commit {commit[:12]}" if commit else "no known commit"
    code += ", with uncommitted changes" if old.get("uncommitted") else ""
    found = [f"The reference was made on {str(old.get('date'))[:10]} from {code}."]
    versions = {"Python": (old.get("python"), new.get("python"))}
    before, after = old.get("libraries", {}), new.get("libraries", {})
    versions |= {name: (before.get(name), after.get(name)) for name in {*before, *after}}
    changed = [f"{name} {one or 'none'} then, {other or 'none'} now"
               for name, (one, other) in sorted(versions.items()) if one != other]  # fmt: skip
    if changed:
        found.append(f"Versions differ: {'; '.join(changed)}.")
    if old.get("machines") != new.get("machines"):
        found.append("It was trained on another machine, or on another kind of device.")
    return found
