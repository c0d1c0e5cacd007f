"""A study whose sessions are disturbed and taken up again, and what its store is checked for.

Draws come in; what each disturbance did to the store comes out, and how the tables at the end
differ from an undisturbed session's. For test_torture.py and benchmarks/torture.py.
"""

from __future__ import annotations

import csv
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from disturbances import GOES_ON, Disturbance, DisturbedSession
from projects import ROOT, Project
from store_checks import KeptRun, runs_in, seconds_until_free

FORMS = {
    "pool of 2": ["--ablation-jobs=2"],
    "one process": ["--ablation-jobs=1"],
    "-n 2": ["-n", "2"],
}
FRESH, SAVE_MODELS = "--ablation-fresh", "--ablation-save-models"
#: What a disturbed session is told beside its form, and how often.
EXTRAS = {"": 14, FRESH: 3, SAVE_MODELS: 3}
#: What a store holds before the first session of a chain.
STATES = ("empty", "half", "nearly complete", "leftovers", "damaged record", "checkpoint")
#: The columns of runs.csv that are costs, or say who trained.
COSTS = ("train_seconds", "examples_per_second", "peak_memory_mib", "reused")
_CHECKPOINTS = "--ablation-checkpoint=0.0003"  # minutes: the longer runs make some
#: How long a session may take to end after what should end it, where the machine is not busy.
END_SECONDS = 10.0
_WHOLE_SESSION_SECONDS = 300.0


@dataclass(frozen=True)
class Undisturbed:
    """What a session comes to that nothing disturbs.

    Attributes
    ----------
    folder : the project, with its store and its reports
    runs, tables : see :func:`runs_in` and :func:`tables_in`
    seconds : how long it took
    checkpoints : a folder of some runs' checkpoints, None where none were made
    options : what every session is told
    patience : for how many seconds a session may take to end after what should end it
    """

    folder: Path
    runs: Mapping[str, KeptRun]
    tables: Mapping[str, object]
    seconds: float
    checkpoints: Path | None
    options: tuple[str, ...]
    patience: float


@dataclass(frozen=True)
class Told:
    """What a disturbance came in, and what it did.

    Attributes
    ----------
    state, form, extra, kind, phase : the store's, the session's, the disturbance's
    half_written : how many folders of unfinished records it left
    lost : whole runs that were there before and are gone or changed
    half : what is wrong with runs that are not whole, but stand where whole ones do
    stayed : command lines of the session's processes that lived on for too long
    wrong : whatever else must not be
    end_seconds : from the last signal (from the session's end, where it goes on after that) until
        its last process was gone
    lock_seconds : from then until every lock of the store could be had
    """

    state: str
    form: str
    extra: str
    kind: str
    phase: str
    half_written: int = 0
    lost: tuple[str, ...] = ()
    half: tuple[str, ...] = ()
    stayed: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    end_seconds: float = 0.0
    lock_seconds: float = 0.0

    @property
    def is_harmless(self) -> bool:
        return not (self.lost or self.half or self.stayed or self.wrong)


def undisturbed(
    folder: Path, *options: str, patience: float = END_SECONDS, checkpoints: bool = True
) -> Undisturbed:
    """Train the studies of ``short_runs.py`` in *folder*.

    For *checkpoints* train them a second time, until some are there.
    """
    options = (_CHECKPOINTS, *options)
    project = short_project(folder / "undisturbed")
    started = time.monotonic()
    result = project.run("-m", "quick", *options, "--ablation-jobs=1", jobs=None)
    seconds = time.monotonic() - started
    if result.ret != 0:
        raise RuntimeError("the undisturbed session failed: see above")
    runs, half = runs_in(project.path / ".ablation")
    if half:
        raise RuntimeError(f"the undisturbed session left {half}")
    some = _some_checkpoints(folder / "with checkpoints", options) if checkpoints else None
    tables = tables_in(project.path)
    return Undisturbed(project.path, runs, tables, seconds, some, options, patience)


def short_project(folder: Path) -> Project:
    """A project of the studies in ``short_runs.py``, untrained."""
    folder.mkdir(parents=True)
    project = Project(folder)
    shutil.copy(ROOT / "tests" / "studies" / "short_runs.py", folder / "test_short_runs.py")
    return project


def _some_checkpoints(folder: Path, options: tuple[str, ...]) -> Path | None:
    """Kill a session as soon as a run's checkpoint is there; its folder of checkpoints."""
    session = DisturbedSession(short_project(folder).path, list(options), folder / "log")
    checkpoints = folder / ".ablation" / "checkpoints"
    while not session.is_over and not any(checkpoints.glob("[!.]*")):
        time.sleep(0.001)
    session.disturb(Disturbance("SIGKILL, group", "clock", 0.0, 0.0, 0.0))
    session.leave_nothing(END_SECONDS)
    return checkpoints if any(checkpoints.glob("[!.]*")) else None


def tables_in(folder: Path) -> dict[str, object]:
    """The tables of a project's quick report that other sessions must come to as well."""
    report = folder / "reports" / "quick"
    with open(report / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "summary.csv": (report / "summary.csv").read_bytes(),
        "history.csv": (report / "history.csv").read_bytes(),
        "runs.csv": [{k: v for k, v in row.items() if k not in COSTS} for row in rows],
    }


@dataclass(frozen=True)
class Chain:
    """Sessions of one study, one after the other: disturbed ones, and the last, which is not.

    ``differences`` says how what the last one came to differs from an undisturbed session's.
    ``spared`` is how many sessions ended before the moment that was drawn, ``resumed`` how many
    runs went on from a checkpoint.
    """

    number: int
    folder: Path
    told: tuple[Told, ...]
    spared: int
    resumed: int
    differences: tuple[str, ...]

    @property
    def is_harmless(self) -> bool:
        return not self.differences and all(told.is_harmless for told in self.told)


def chain(number: int, intact: Undisturbed, folder: Path, *, seed: int, longest: int) -> Chain:
    """Disturb a study up to so many times, until it is complete, then finish it.

    What is drawn hangs on the seed and the number alone; what state the study is in by then also
    hangs on time.
    """
    states = [state for state in STATES if state != "checkpoint" or intact.checkpoints]
    rounds, place = divmod(number, len(states))
    state, form = states[place], list(FORMS)[(rounds + place) % len(FORMS)]
    study = DisturbedStudy(folder / f"chain-{number}", intact, state, form)
    study.prepare(Random(f"{seed}-{number}"))
    told, spared = [], 0
    for turn in range(longest):
        if not study.missing():
            break
        seen = study.disturb(Random(f"{seed}-{number}-{turn}"))
        if seen is None:
            spared += 1
        else:
            told.append(seen)
    differences = tuple(study.finish())
    return Chain(number, study.folder, tuple(told), spared, study.resumed(), differences)


@dataclass
class DisturbedStudy:
    """A project of its own in *folder*, with a store in one of ``STATES``."""

    folder: Path
    intact: Undisturbed
    state: str
    form: str
    planted: bytes = b""  # the file of a damaged record that must not be deleted
    sessions: list[str] = field(default_factory=list)  # their options; the output is in log-N

    def prepare(self, draw: Random) -> None:
        """Copy the project, and as much of the finished store as the state has."""
        leave_out = shutil.ignore_patterns(".ablation", "reports", "__pycache__", ".pytest_cache")
        shutil.copytree(self.intact.folder, self.folder, ignore=leave_out)
        keys = sorted(self.intact.runs)
        counts = {"empty": 0, "nearly complete": len(keys) - 3}
        kept = draw.sample(keys, counts.get(self.state, len(keys) // 2))
        for key in kept:
            shutil.copytree(self.intact.folder / ".ablation" / "runs" / key, self._runs / key)
        if self.state == "leftovers":
            self._leave_something(keys, draw)
        elif self.state == "damaged record":
            self._damage(kept[0], draw)
        elif self.state == "checkpoint":
            self._take_checkpoints()

    @property
    def _store(self) -> Path:
        return self.folder / ".ablation"

    @property
    def _runs(self) -> Path:
        return self._store / "runs"

    def _leave_something(self, keys: list[str], draw: Random) -> None:
        """What killed sessions leave: folders of unfinished records, notes, locks."""
        intact = self.intact.folder / ".ablation" / "runs"
        for key in keys[::5]:
            shutil.copytree(intact / key, self._runs / f".new-{key}-0badc0de")
            file = self._runs / f".new-{key}-0badc0de" / "record.json"
            file.write_bytes(file.read_bytes()[: draw.randrange(2000)])
        journal = self._store / "sessions" / "0badc0de" / "journal"
        journal.mkdir(parents=True)
        (journal / "1.jsonl").write_text('{"kind": "started", "key": "')
        (self._store / "locks").mkdir()
        for key in keys:
            (self._store / "locks" / f"{key}.lock").touch()

    def _damage(self, key: str, draw: Random) -> None:
        """Cut a file of a kept record short."""
        file = draw.choice(sorted((self._runs / key).iterdir()))
        data = file.read_bytes()
        self.planted = data[: draw.randrange(1, len(data))]
        file.write_bytes(self.planted)

    def _take_checkpoints(self) -> None:
        """Put checkpoints beside the runs, and leave out the runs that they are of."""
        shutil.copytree(self.intact.checkpoints, self._store / "checkpoints")
        for folder in self.intact.checkpoints.iterdir():
            shutil.rmtree(self._runs / folder.name, ignore_errors=True)

    def resumed(self) -> int:
        """How many of the runs in the store went on from a checkpoint."""
        return sum(run.resumed for run in runs_in(self._store)[0].values())

    # --- disturbed sessions ----------------------------------------------------------------------

    def missing(self, extra: str = "") -> int:
        """How many runs a session would train."""
        if extra == FRESH:
            return len(self.intact.runs)
        whole, _ = runs_in(self._store)
        usable = [run for run in whole.values() if extra != SAVE_MODELS or _has_its_model(run)]
        return len(self.intact.runs) - len(usable)

    def disturb(self, draw: Random) -> Told | None:
        """One session and what happens to it; None where it ended before the drawn moment."""
        extra = draw.choices(list(EXTRAS), list(EXTRAS.values()))[0]
        disturbance = Disturbance.drawn(draw, has_workers=self.form != "one process")
        before, half_before = runs_in(self._store)
        unfinished = set(self._runs.glob(".*"))
        runs = self.missing(extra)
        session = self._session(extra)
        share = 0.4 + 0.6 * runs / len(self.intact.runs)  # of the time of a whole session
        session.wait_for(disturbance, runs=runs, seconds=share * self.intact.seconds)
        if session.is_over:
            session.leave_nothing(self.intact.patience)
            return None
        phase = session.phase(runs)
        session.disturb(disturbance)
        ended = time.monotonic()
        if disturbance.kind in GOES_ON:
            status = session.wait_for_end(_WHOLE_SESSION_SECONDS)
            ended = time.monotonic()
        else:
            status = session.wait_for_end(self.intact.patience)
        stayed = session.leave_nothing(ended + self.intact.patience - time.monotonic())
        end_seconds = time.monotonic() - ended
        whole, half = runs_in(self._store)
        half = {key: text for key, text in half.items() if key not in half_before}
        return Told(
            self.state, self.form, extra, disturbance.kind, phase,
            half_written=len(set(self._runs.glob(".new-*/")) - unfinished),
            lost=tuple(_lost(before, whole, extra)),
            half=tuple(f"{key}: {text}" for key, text in half.items()),
            stayed=tuple(stayed),
            wrong=tuple(self._wrong(whole, status)),
            end_seconds=end_seconds,
            lock_seconds=seconds_until_free(self._store, self.intact.patience),
        )  # fmt: skip

    def _session(self, extra: str) -> DisturbedSession:
        options = [*self.intact.options, *FORMS[self.form], *filter(None, [extra])]
        log = self.folder / f"log-{len(self.sessions)}"
        self.sessions.append(" ".join(options))
        return DisturbedSession(self.folder, options, log)

    def _wrong(self, whole: Mapping[str, KeptRun], status: int | None) -> Iterator[str]:
        """Results that are not those of an undisturbed run; a green session that lacks some."""
        for key, run in whole.items():
            expected = self.intact.runs.get(key)
            if expected is None or run.result != expected.result:
                yield f"{key} has another result than an undisturbed run"
        if status == 0 and len(whole) < len(self.intact.runs):
            yield f"exit status 0 with {len(whole)} of {len(self.intact.runs)} runs"
        if status is None:
            yield "the main process did not end"

    # --- taken up again --------------------------------------------------------------------------

    def finish(self) -> list[str]:
        """Run the same command undisturbed; how what it comes to differs from what it must."""
        missing = self.missing()
        session = self._session("")
        status = session.wait_for_end(_WHOLE_SESSION_SECONDS)
        session.leave_nothing(self.intact.patience)
        output = (self.folder / f"log-{len(self.sessions) - 1}").read_text()
        wrong = [] if status == 0 else [f"exit status {status}"]
        total = len(self.intact.runs)
        expected = f"{total} runs: {missing} trained, {total - missing} reused"
        if expected not in output:
            wrong.append(f"not {expected!r}: {re.findall('.*trained.*', output)}")
        whole, half = runs_in(self._store)
        wrong += [f"{key}: {text}" for key, text in half.items()]
        wrong += self._wrong(whole, status)
        if whole.keys() != self.intact.runs.keys():
            wrong.append(f"{len(whole)} runs are there, not {total}")
        tables = tables_in(self.folder)
        wrong += [f"another {name}" for name in tables if tables[name] != self.intact.tables[name]]
        damaged = self._store.glob("damaged/*/*")
        if self.planted and self.planted not in [path.read_bytes() for path in damaged]:
            wrong.append("the damaged record is gone")
        return wrong


def _has_its_model(run: KeptRun) -> bool:
    """Whether the model is there, of a run that has one."""
    return run.has_model or run.result["outcome"].get("weights") is None


def _lost(before: Mapping[str, KeptRun], after: Mapping[str, KeptRun], extra: str) -> Iterator[str]:
    for key, run in before.items():
        may_replace = extra == FRESH or (extra == SAVE_MODELS and not _has_its_model(run))
        if key not in after:
            yield f"{key} is gone"
        elif after[key].files != run.files and not may_replace:
            yield f"{key} was changed"
