"""One run outside pytest: the same training, key and record as a case of a study has.

A training function, a configuration and a budget go in; the record comes out and is kept in a
store, where a study that needs the same run finds it. Knows nothing of pytest or of studies.
"""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ablation.configuration import plain_values
from pytest_ablation.digests import digest
from pytest_ablation.errors import AblationError, RecordWarning
from pytest_ablation.journal import Journal
from pytest_ablation.keys import run_key
from pytest_ablation.mode import Mode
from pytest_ablation.plan import RunSpec, Train
from pytest_ablation.record import Record
from pytest_ablation.store import DamagedRecord, Store
from pytest_ablation.training import (
    Failure,
    OnLog,
    Workplace,
    obtain,
    set_damaged_aside,
    usable_record,
)
from pytest_ablation.training_code import training_code


@dataclass(frozen=True)
class SingleRun:
    """A run's record, the folder that it is kept in, and whether it was there already."""

    record: Record
    folder: Path
    reused: bool


def train_single(
    train: Train,
    config: Any,
    *,
    seed: int,
    mode: Mode,
    store: Path,
    data: Any = None,
    device: str = "auto",
    data_dir: Path | None = None,
    threads: int | None = None,
    fresh: bool = False,
    checkpoint_seconds: float = 120.0,
    on_log: OnLog | None = None,
) -> SingleRun:
    """Train one configuration with one seed, or take the run that is kept already.

    Parameters
    ----------
    train, config, seed, device, data_dir
        As a study has them.
    mode : Mode
        The budget; its seeds do not count.
    store : Path
        The folder of a store, such as ``.ablation``; the weights are kept there too.
    data : anything that changes when the data do, as what ``Study(data=...)`` returns
    threads : of numerical libraries; default: one per core
    fresh : train also where the run is kept, or could go on from a checkpoint
    checkpoint_seconds : how often a run that can be resumed keeps its state; inf: never
    on_log : called with ``(epoch, split, values)`` whenever the run logs

    Raises
    ------
    AblationError
        Training failed, or another process is training the same run.
    """
    spec = _spec_of(train, config, seed, mode, data, device)
    kept = Store(store)
    kept.prepare()
    session = uuid.uuid4().hex
    place = Workplace(
        store=kept.root,
        journal=kept.sessions / session / "journal",
        session=session,
        fresh=fresh,
        device=device,
        device_index=0,
        data_dir=data_dir,
        threads=threads or os.cpu_count() or 1,
        save_models=True,
        checkpoint_seconds=checkpoint_seconds,
    )
    outcome = _obtained(spec, place, on_log)
    if outcome is None:
        raise AblationError(
            f"another process is training this run ({spec.key}) just now: wait for it"
        )
    if isinstance(outcome, Failure):
        raise AblationError(outcome.message)
    return SingleRun(outcome, kept.runs / spec.key, outcome.session != session)


def _spec_of(train: Train, config: Any, seed: int, mode: Mode, data: Any, device: str) -> RunSpec:
    """The run as a study that needs the same one plans it, but for its name."""
    code = training_code(train, type(config))
    key = run_key(
        config=plain_values(config), seed=seed, mode=mode, data=data, code=code, device=device
    )
    return RunSpec(
        key=key,
        seed=seed,
        mode_name="alone",
        mode=mode,
        config=config,
        train=train,
        label=f"{train.__name__} {key[:12]}",
        code=code.digest,
        data="" if data is None else digest(data),
        libraries=code.libraries,
    )


def _obtained(spec: RunSpec, place: Workplace, on_log: OnLog | None) -> Record | Failure | None:
    """What :func:`obtain` returns; what was damaged is warned of, and the journal goes."""
    journal = Journal(place.journal)
    try:
        usable_record(spec.key, place)
    except DamagedRecord as problem:
        set_damaged_aside(Store(place.store), journal, spec.key, problem)
    try:
        return obtain(spec, place, on_log=on_log)
    finally:
        for event in journal.all_events("damaged"):
            warnings.warn(event["message"], RecordWarning, stacklevel=3)
        shutil.rmtree(place.journal.parent, ignore_errors=True)
