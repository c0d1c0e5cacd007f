"""What a session would do: which runs it would train and reuse, and how long that may take.

A plan, specifications and options go in, counts and seconds come out. Reads the store and writes
nothing, not even into a store that is not there yet.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from pytest_ablation.estimates import seconds_by_key
from pytest_ablation.options import Options
from pytest_ablation.plan import Plan, RunSpec, StudyPlan
from pytest_ablation.probes import LABELS
from pytest_ablation.share import Worker, jobs_of
from pytest_ablation.store import DamagedRecord, Store
from pytest_ablation.training import may_use


@dataclass(frozen=True)
class Runs:
    """Some runs, counted.

    Attributes
    ----------
    kept : how many are reused
    to_train : how many are not
    checkpoints : how many of these go on from a checkpoint
    seconds : how long the training of those takes of which that is known, one after the other
    unknown : how many of these nothing is known of
    """

    kept: int
    to_train: int
    checkpoints: int
    seconds: float
    unknown: int

    @property
    def count(self) -> int:
        return self.kept + self.to_train


@dataclass(frozen=True)
class StudyForecast:
    """What a session would do for one study in one mode.

    Attributes
    ----------
    name, mode : str
    rows, seeds : how many it has; several rows may be the same model, and share their runs
    cells : of the grid whose best one is the study's baseline, 0 where it is not one
    is_open : whether that cell is not known, and the runs of its rows neither
    own : the runs of its cells and of its rows
    probes : those beside them with another learning rate, say
    open_probes : how many probes there may be once that cell is known
    reserve : how many more runs verdicts or a gate may ask for
    sensitivity : what the probes vary
    error : why the study cannot run, "" where it can
    """

    name: str
    mode: str
    rows: int
    seeds: int
    cells: int
    is_open: bool
    own: Runs
    probes: Runs
    open_probes: int
    reserve: int
    sensitivity: str = ""
    error: str = ""


@dataclass(frozen=True)
class Forecast:
    """What a session would do.

    Attributes
    ----------
    studies : tuple of StudyForecast
    all : the runs of all studies, each counted once, without those in reserve
    processes : how many train at once
    seconds_at_once : how long they then take for the runs of which that is known
    """

    studies: tuple[StudyForecast, ...]
    all: Runs
    processes: int
    seconds_at_once: float


def forecast(
    plan: Plan, specs: Mapping[str, RunSpec], options: Options, workers: int = 0
) -> Forecast:
    """What the session of this plan would do.

    Parameters
    ----------
    plan : Plan
    specs : how to train each run, by key
    options : Options
    workers : number of processes that ``-n`` starts, 0 without it
    """
    store = Store(options.store_dir)
    kept = {key for key in plan.all_keys if _is_kept(key, store, plan.session, options)}
    seconds = seconds_by_key([specs[key] for key in plan.keys if key not in kept], store)
    look = _Look(store, kept, seconds)
    worker = Worker(0, max(1, workers))
    processes = worker.count * jobs_of(options, worker)
    return Forecast(
        studies=tuple(_of_study(study, look) for study in plan.studies),
        all=look.runs(plan.keys),
        processes=processes,
        seconds_at_once=makespan([seconds[k] for k in plan.keys if k in seconds], processes),
    )


def makespan(seconds: Iterable[float], processes: int) -> float:
    """How long *processes* take for runs of these lengths, where each takes the longest one left.

    At most 4/3 of the shortest time that is possible (Graham 1969, "Bounds on multiprocessing
    timing anomalies").
    """
    ends = [0.0] * processes
    for length in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


@dataclass(frozen=True)
class _Look:
    """What a look into the store has shown: the keys that are kept, the seconds of others."""

    store: Store
    kept: Set[str]
    seconds: Mapping[str, float]

    def runs(self, keys: Sequence[str]) -> Runs:
        to_train = [key for key in keys if key not in self.kept]
        known = [self.seconds[key] for key in to_train if key in self.seconds]
        checkpoints = self.store.checkpoints
        return Runs(
            kept=len(keys) - len(to_train),
            to_train=len(to_train),
            checkpoints=sum((checkpoints / key).is_dir() for key in to_train),
            seconds=sum(known),
            unknown=len(to_train) - len(known),
        )


def _of_study(study: StudyPlan, look: _Look) -> StudyForecast:
    of_rows = [key for row in study.rows for key in row.keys.values()]
    own = list(dict.fromkeys([*study.candidate_keys, *of_rows]))
    probes = dict.fromkeys(key for row in study.rows for key in row.probes.values())
    reserve = {key for row in study.rows for key in row.reserve.values()}
    unknown_rows = len(study.rows) if study.is_open else 0
    has_probes = study.mode == "full" and study.sensitivity
    return StudyForecast(
        name=study.name,
        mode=study.mode,
        rows=len(study.rows),
        seeds=study.first_seeds,
        cells=len(study.candidates),
        is_open=study.is_open,
        own=look.runs(own),
        probes=look.runs([key for key in probes if key not in own]),
        open_probes=unknown_rows * len(LABELS) if has_probes else 0,
        reserve=len(reserve.difference(own, look.kept))
        + unknown_rows * (study.most_seeds - study.first_seeds),
        sensitivity=study.sensitivity,
        error=study.error,
    )


def _is_kept(key: str, store: Store, session: str, options: Options) -> bool:
    try:
        record = store.read(key, check_model=options.save_models)
    except DamagedRecord:  # the session will set it aside, and train the run again
        return False
    wishes = {"fresh": options.fresh, "save_models": options.save_models}
    return record is not None and may_use(record, store, session, **wishes)
