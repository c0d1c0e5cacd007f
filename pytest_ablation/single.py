"""One run outside pytest: the same training, key and record as a case of a study has.

A training function, a configuration and a budget go in; the record comes out and is kept in a
store, where a study that needs the same run finds it. Knows nothing of pytest or of studies.
"""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ablation.configuration import plain_values
from pytest_ablation.digests import digest
from pytest_ablation.errors import AblationError, RecordWarning
from pytest_ablation.journal import Journal
from pytest_ablation.keys import run_key
from pytest_ablation.mode import Mode
from pytest_ablation.plan import RunSpec
from pytest_ablation.record import Record
from pytest_ablation.store import Store
from pytest_ablation.training import Failure, Workplace, obtain
from pytest_ablation.training_code import training_code


@dataclass(frozen=True)
class SingleRun:
    """A run's record, the folder that it is kept in, and whether it was there already."""

    record: Record
    folder: Path
    reused: bool


def train_single(
    train: Callable[..., Mapping[str, float]],
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
    on_log: Callable[[int, str, Mapping[str, float]], None] | None = None,
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
    code = training_code(train, type(config))
    key = run_key(
        config=plain_values(config), seed=seed, mode=mode, data=data, code=code, device=device
    )
    kept = Store(store)
    kept.prepare()
    session = uuid.uuid4().hex
    journal = kept.sessions / session / "journal"
    place = Workplace(
        store=kept.root,
        journal=journal,
        session=session,
        fresh=fresh,
        device=device,
        device_index=0,
        data_dir=data_dir,
        threads=threads or os.cpu_count() or 1,
        save_models=True,
        checkpoint_seconds=checkpoint_seconds,
    )
    label = f"{train.__name__} {key[:12]}"
    spec = RunSpec(key, seed, "alone", mode, config, train, label, code.digest,
                   "" if data is None else digest(data), code.libraries)  # fmt: skip
    try:
        outcome = obtain(spec, place, on_log=on_log)
    finally:
        for event in Journal(journal).all_events("damaged"):
            warnings.warn(event["message"], RecordWarning, stacklevel=2)
        shutil.rmtree(kept.sessions / session, ignore_errors=True)
    if outcome is None:
        raise AblationError(f"another process is training this run ({key}) just now: wait for it")
    if isinstance(outcome, Failure):
        raise AblationError(outcome.message)
    return SingleRun(outcome, kept.runs / key, outcome.session != session)
