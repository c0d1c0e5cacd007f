"""``python -m pytest_ablation runs``: what is in a store, one run in full, remove, verify.

A store and what is wanted go in; lines, JSON and an exit status come out. Trains nothing; what it
removes is a run, a checkpoint or a damaged record of the store, and nothing that a link leads to.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pytest_ablation.checkpoints import CheckpointFolder
from pytest_ablation.errors import AblationError
from pytest_ablation.inventory import (
    Inventory,
    KeptRun,
    inventory,
    is_in_use,
    size_of,
)
from pytest_ablation.planned_runs import Planned, planned_runs
from pytest_ablation.run_text import age, run_lines, size
from pytest_ablation.screen import say, short, short_label
from pytest_ablation.staleness import DAMAGED, STALE, State, state_of, state_of_origin
from pytest_ablation.store import DamagedRecord, Store, UnwritableStore, remove_tree, shown

_NARROW, _WIDE = 80, 160
_KEY_SHOWN = 12
_FIXED = 55  # columns of a line but for the label
_SHORTEST_PREFIX = 4


def open_store(path: Path) -> Store:
    """The store at *path*.

    Raises
    ------
    AblationError
        There is none.
    """
    store = Store(Path(os.path.abspath(path)))
    if not store.runs.is_dir():
        raise AblationError(
            f"there is no store in {shown(store.root)} (it has no folder 'runs'): name one with "
            f"--store DIR, or train something first"
        )
    return store


def list_runs(
    path: Path, arguments: Sequence[str], *, as_json: bool, stale: bool, collect: bool
) -> int:
    """One line per run, then how much there is of everything."""
    store = open_store(path)
    found = inventory(store)
    planned = _planned(store, arguments) if collect and found.runs else None
    states = {run.key: state_of(run, planned) for run in found.runs}
    runs = [run for run in found.runs if not stale or states[run.key].word == STALE]
    if as_json:
        print(json.dumps(_as_json(store, found, runs, states), indent=1))
        return 0
    room = min(max(shutil.get_terminal_size().columns, _NARROW), _WIDE) - _FIXED
    leading = planned.leading if planned is not None else {}
    if runs:
        words = f"{'label':<{room}} seed mode  result        size age"
        say(f"{'key':<{_KEY_SHOWN}} {words}{' state' if collect else ''}")
    for run in runs:
        say(_line(run, states[run.key].word if collect else "", leading, room))
    for line in _totals(store, found, [states[run.key] for run in runs] if collect else []):
        say(line)
    return 0


def show(path: Path, prefix: str, arguments: Sequence[str], *, collect: bool) -> int:
    """Everything of one run."""
    store = open_store(path)
    (run,) = _chosen(inventory(store), [prefix])
    state = str(state_of(run, _planned(store, arguments))) if collect else ""
    for line in run_lines(store, run, state):
        say(line)
    return 1 if run.problem else 0


def verify(path: Path, *, set_aside: bool) -> int:
    """Read every file of every run; 1 where something is damaged or left over."""
    store = open_store(path)
    found = inventory(store)
    damaged = {run.key: text for run in found.runs if (text := _problem_of(store, run.key))}
    for key, text in damaged.items():
        say(f"damaged: {text}")
        if set_aside:
            moved = store.set_aside(key)
            say(f"  {'moved to damaged/' if moved else 'could not be moved: is it in use?'}")
    for name in found.leftovers:
        say(f"left over: runs/{name} (half a run of a killed session; removed by a session when it "
            f"is a day old)")  # fmt: skip
    for name in found.others:
        say(f"no run: runs/{name} (it is not touched)")
    whole = len(found.runs) - len(damaged)
    counts = f"{whole} whole, {len(damaged)} damaged, {len(found.leftovers)} left over"
    say(f"{_count(len(found.runs), 'run')} read: {counts}")
    if damaged and not set_aside:
        say("--set-aside moves damaged ones to damaged/; sessions do so too, and train them again")
    return 1 if damaged or found.leftovers else 0


def remove(
    path: Path, prefixes: Sequence[str], arguments: Sequence[str], wanted: frozenset[str], yes: bool
) -> int:
    """Remove runs by the beginnings of their keys, and what *wanted* names.

    Parameters
    ----------
    wanted : of "stale", "damaged", "checkpoints" and "all"
    yes : whether nobody is to be asked
    """
    store = open_store(path)
    found = inventory(store)
    runs = {run.key: run for run in (_chosen(found, prefixes) if prefixes else ())}
    folders = list(_folders(store, wanted))
    if "stale" in wanted:
        planned = planned_runs([f"--ablation-store={store.root}", *arguments])
        folders += [f for f in _stale_checkpoints(store, planned) if f not in folders]
        runs |= {r.key: r for r in found.runs if state_of(r, planned).word == STALE}
    if "damaged" in wanted:
        runs |= {run.key: run for run in found.runs if run.problem}
    if "all" in wanted:
        runs = {run.key: run for run in found.runs}
    freed = sum(run.bytes for run in runs.values()) + sum(map(size_of, folders))
    for run in runs.values():
        say(_line(run, DAMAGED if run.problem else "", {}, _NARROW - _FIXED))
    for folder in folders:
        say(f"{folder.parent.name}/{folder.name}")
    if not runs and not folders:
        say("there is nothing to remove")
        return 0
    if not _may_go_on(f"{_parts(len(runs), folders)}: frees {size(freed)}", yes):
        return 1
    if "all" not in wanted:  # meanwhile a session may have trained a damaged one again
        runs = {key: run for key, run in runs.items() if not run.problem or _problem_of(store, key)}
    return _remove(store, runs, folders)


def _remove(store: Store, runs: Iterable[str], folders: Iterable[Path]) -> int:
    """Remove them; 1 where one is in use or cannot be removed."""
    status = 0
    for key in runs:
        try:
            is_removed = store.remove(key)
        except UnwritableStore as error:
            raise AblationError(f"{key} could not be removed: {error.__cause__}") from error
        if not is_removed:
            status = 1
            say(f"error: {key} is being trained just now: it stays", file=sys.stderr)
    for folder in folders:
        if is_in_use(store, folder.name):
            status = 1
            say(f"error: {folder.name} is being trained just now: its checkpoint stays",
                file=sys.stderr)  # fmt: skip
            continue
        remove_tree(folder)
        if os.path.lexists(folder):
            raise AblationError(f"{shown(folder)} could not be removed: is it writable?")
    return status


# --- inside ---------------------------------------------------------------------------------------


def _planned(store: Store, arguments: Sequence[str]) -> Planned | None:
    """What the project would train; where that cannot be known, the reason is said."""
    try:
        planned = planned_runs([f"--ablation-store={store.root}", *arguments])
    except AblationError as error:
        say(f"states are unknown: {error}", file=sys.stderr)
        return None
    for study in planned.open:
        say(f"not all runs are known of {study}", file=sys.stderr)
    return planned


def _chosen(found: Inventory, prefixes: Iterable[str]) -> list[KeptRun]:
    """The runs whose keys begin so, one for each prefix.

    Raises
    ------
    AblationError
        None does, or several do.
    """
    chosen = []
    for prefix in prefixes:
        fits = [run for run in found.runs if run.key.startswith(prefix)]
        if len(prefix) < _SHORTEST_PREFIX:
            raise AblationError(
                f"{prefix!r:.60} is short: give {_SHORTEST_PREFIX} digits of a key or more"
            )
        if not fits:
            raise AblationError(f"no run has a key that begins with {prefix!r:.60}: see runs list")
        if len(fits) > 1:
            names = ", ".join(f"{run.key} ({run.label or 'unknown'})" for run in fits[:5])
            more = f" and {len(fits) - 5} more" if len(fits) > 5 else ""
            raise AblationError(f"{len(fits)} keys begin with {prefix!r}: {names}{more}")
        chosen += fits
    return chosen


def _folders(store: Store, wanted: frozenset[str]) -> Iterator[Path]:
    """The checkpoints and damaged records that are to go; they are never links to elsewhere."""
    rooms = {"damaged": store.damaged, "checkpoints": store.checkpoints}
    for word, room in rooms.items():
        if {word, "all"} & wanted and room.is_dir() and not room.is_symlink():
            yield from sorted(room.iterdir())


def _stale_checkpoints(store: Store, planned: Planned) -> Iterator[Path]:
    """The checkpoints of runs that nobody would go on with: of other code, say."""
    for folder in _folders(store, frozenset({"checkpoints"})):
        origin = CheckpointFolder(folder).origin
        python = str(origin.get("python", ""))
        if state_of_origin(folder.name, origin, python, planned).word == STALE:
            yield folder


def _may_go_on(what: str, yes: bool) -> bool:
    if yes:
        say(what)
        return True
    if not sys.stdin.isatty():
        say(f"{what}; nothing was removed: say so with --yes")
        return False
    try:
        say(f"{what}. Remove them? [y/N]")
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        answer = ""
    if answer not in ("y", "yes"):
        say("nothing was removed")
    return answer in ("y", "yes")


def _parts(runs: int, folders: Sequence[Path]) -> str:
    rooms = Counter(folder.parent.name for folder in folders)
    words = {"damaged": "damaged record", "checkpoints": "checkpoint"}
    parts = [_count(runs, "run")] if runs else []
    return ", ".join([*parts, *(_count(n, words[name]) for name, n in rooms.items())])


def _problem_of(store: Store, key: str) -> str:
    try:
        store.verify(key)
    except DamagedRecord as problem:
        return str(problem)
    return ""


def _line(run: KeptRun, state: str, leading: dict[str, str], room: int) -> str:
    """Key, label, seed, mode, result, size, age and state in columns."""
    record = run.record
    seed, mode = (str(record.seed), record.mode) if record is not None else ("", "")
    label = run.label or ("" if record is None else "(older record)")
    label = short(short_label(label, room), room)
    cells = f"{label:<{room}} {short(seed, 6):>4} {short(mode, 5):<5} {_result(run, leading):<13}"
    line = f"{run.key[:_KEY_SHOWN]} {cells} {size(run.bytes):>4} {age(run.trained):>3} {state}"
    return line.rstrip()


def _result(run: KeptRun, leading: dict[str, str]) -> str:
    """The main metric, or the word for why there is none."""
    record = run.record
    if record is None or not record.ok:
        return DAMAGED if record is None else record.status
    study = max((s for s in leading if run.label.startswith(f"{s} ")), key=len, default="")
    names = [leading.get(study), "top1", *sorted(record.metrics)]
    name = next((name for name in names if name in record.metrics), None)
    return record.status if name is None else f"{short(name, 6)} {record.metrics[name]:.4g}"[:13]


def _totals(store: Store, found: Inventory, states: Sequence[State]) -> Iterator[str]:
    rooms = [f"{name}/ {count} ({size(total)})" for name, (count, total) in found.rooms.items()]
    yield f"{_count(len(found.runs), 'run')}, {size(found.bytes)}; {', '.join(rooms)}"
    for text, count in sorted(Counter(map(str, states)).items()):
        if ": " in text:
            yield f"{count} {short(text, 200)}"
    if found.leftovers:
        yield f"{len(found.leftovers)} left over by killed sessions: see runs verify"
    if found.others:
        names = ", ".join(short(name, 40) for name in found.others[:3])
        yield f"in {shown(store.runs)} lies what is no run: {names}"


def _as_json(
    store: Store, found: Inventory, runs: Iterable[KeptRun], states: dict[str, State]
) -> dict[str, object]:
    rooms = {name: {"count": n, "bytes": b} for name, (n, b) in found.rooms.items()}
    return {
        "store": str(store.root),
        "runs": [_run_as_json(run, states[run.key]) for run in runs],
        "count": len(found.runs),
        "bytes": found.bytes,
        **rooms,
        "leftovers": list(found.leftovers),
        "others": list(found.others),
    }


def _run_as_json(run: KeptRun, state: State) -> dict[str, object]:
    record = run.record
    trained = datetime.datetime.fromtimestamp(run.trained, datetime.UTC)
    facts = {} if record is None else {
        "seed": record.seed,
        "mode": record.mode,
        "status": record.status,
        "metrics": dict(record.metrics),
    }  # fmt: skip
    return {
        "key": run.key,
        "label": run.label,
        **facts,
        "bytes": run.bytes,
        "trained": trained.isoformat(timespec="seconds"),
        "state": state.word,
        "reason": state.reason,
    }


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
