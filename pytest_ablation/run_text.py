"""One kept run in words: all that its record says, line by line.

A run goes in, lines come out. Reads no more than the run's own folder.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_ablation.inventory import KeptRun
from pytest_ablation.record import Record
from pytest_ablation.record_files import DamagedRecord
from pytest_ablation.report_text import count
from pytest_ablation.screen import short
from pytest_ablation.store import Store, shown

_LONGEST = 500


def run_lines(store: Store, run: KeptRun, state: str) -> Iterator[str]:
    """Everything of one run.

    Parameters
    ----------
    store : Store
    run : KeptRun
    state : what the run is for the project as it is now; "" where that was not asked
    """
    yield f"key: {run.key}"
    if run.label:
        yield f"label: {run.label}"
    if state:
        yield f"state: {state}"
    when = datetime.datetime.fromtimestamp(run.trained).astimezone()
    yield f"trained: {when.isoformat(' ', timespec='seconds')}"
    yield f"folder: {shown(store.runs / run.key)} ({size(run.bytes)})"
    if run.problem:
        yield f"damaged: {run.problem}"
    if run.record is not None:
        yield from _record_lines(run.record, run.schema)
        yield from _history_lines(store, run.key)
    yield "files:"
    for path in sorted((store.runs / run.key).glob("*")):
        yield f"  {path.name}: {size(path.lstat().st_size)}"


def _record_lines(record: Record, schema: int) -> Iterator[str]:
    yield f"mode: {record.mode}, seed {record.seed}, schema {schema}"
    yield f"status: {record.status}{f' ({record.message})' if record.message else ''}"
    yield f"trained for: {count(record.epochs, 'epoch')}, {count(record.steps, 'step')}"
    yield f"session: {record.session}"
    parts: dict[str, Any] = {
        "metrics": record.metrics,
        "config": record.config,
        "origin": {name: value for name, value in record.origin.items() if name != "label"},
        "cost": dataclasses.asdict(record.cost),
        "fingerprints": record.fingerprints,
        "outcome": record.outcome,
        "limits": {name: limit._asdict() for name, limit in record.limits.items()},
        "references": record.references,
        "notes": record.notes,
        "environment": record.environment,
    }
    told = {"gradients": record.gradients, "loss spikes": record.loss_spikes,
            "early stop": record.early_stop}  # fmt: skip
    parts |= {name: value._asdict() for name, value in told.items() if value is not None}
    if record.heat_maps:
        parts["heat maps"] = {name: maps.title for name, maps in record.heat_maps.items()}
    for title, values in parts.items():
        if values:
            yield f"{title}:"
            yield from (f"  {name}: {_plain(value)}" for name, value in values.items())


def _history_lines(store: Store, key: str) -> Iterator[str]:
    """The last values of each logged metric."""
    try:
        record = store.read(key)
    except DamagedRecord as problem:
        yield f"damaged: {problem}"
        return
    if record is None or not record.history:
        return
    last = {(row.split, row.metric): row for row in record.history}
    yield f"history: {len(record.history)} values; the last of each:"
    for (split, metric), row in last.items():
        yield f"  {split} {metric}: {row.value:.6g} (epoch {row.epoch})"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return short(value, _LONGEST)
    if isinstance(value, Mapping) and not value:
        return "none"
    return short(json.dumps(value, ensure_ascii=False), _LONGEST)


def size(count: int) -> str:
    """Bytes in a few characters, such as ``12K`` or ``3.4M``; of 1024."""
    number, units = float(count), iter("BKMGT")
    unit = next(units)
    while number >= 999.5 and unit != "T":
        number, unit = number / 1024, next(units)
    return f"{number:.1f}{unit}" if number < 9.95 and unit != "B" else f"{number:.0f}{unit}"


def age(since: float, now: float | None = None) -> str:
    """How long ago in a few characters: ``5m``, ``3h``, ``12d``; ``0m`` for the future."""
    seconds = max(0.0, (time.time() if now is None else now) - since)
    if seconds < 3600:
        return f"{int(seconds // 60)}m"
    if seconds < 2 * 24 * 3600:
        return f"{int(seconds // 3600)}h"
    days = int(seconds // (24 * 3600))
    return f"{days}d" if days < 1000 else f"{days // 365}y"
