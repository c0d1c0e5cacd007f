"""What a session lacks at its end, and how to go on: counts and sentences.

Results, and how pytest ended, go in; plain text comes out, for the terminal and the report. Pure;
reads no file and knows no store.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_ablation.options import FRESH_OPTION
from pytest_ablation.results import RowResult, RunResult, StudyResult
from pytest_ablation.told import listed, seeds

ADDOPTS_VARIABLE = "PYTEST_ADDOPTS"
_NAMED = 3  # failed runs by name
_LONGEST_REASON = 200


@dataclass(frozen=True)
class Ending:
    """How a session ended, as far as pytest knows.

    Attributes
    ----------
    reason : what stopped it, "" where it ran to its end
    unreported : how many tests were collected and did not report
    command : the words of the command line, the program's first
    fresh : whether the session ignored what older ones kept
    """

    reason: str = ""
    unreported: int = 0
    command: tuple[str, ...] = ()
    fresh: bool = False


@dataclass(frozen=True)
class Standing:
    """How far a session came.

    Attributes
    ----------
    runs, there, missing : how many are needed, have a record, and were not trained or not to the
        end; what is neither has failed
    begun : how many of the missing were begun
    epochs : the epochs after which missing runs go on, those that kept their state
    failed : "study row seed N" of the failed runs
    open : names of the studies the rows of which are not known yet
    """

    ending: Ending
    runs: int = 0
    there: int = 0
    missing: int = 0
    begun: int = 0
    epochs: tuple[int, ...] = ()
    failed: tuple[str, ...] = ()
    open: tuple[str, ...] = field(default=())

    @property
    def is_complete(self) -> bool:
        """Whether all runs are there and nothing is left to go on with."""
        return not (self.missing or self.failed or self.open or self.is_interrupted)

    @property
    def is_interrupted(self) -> bool:
        """Whether the session ended before it was through."""
        lacks = self.missing or self.open or self.ending.unreported
        return bool(self.ending.reason and lacks)

    @property
    def command(self) -> str:
        """The command that goes on, as a shell takes it; "" where it is not known."""
        return shlex.join(word for word in self.ending.command if word != FRESH_OPTION)


def standing(
    results: Sequence[StudyResult],
    ending: Ending,
    *,
    there: Collection[str] = (),
    failed: Collection[str] = (),
    lost: Collection[str] = (),
    epochs: Mapping[str, int] | None = None,
) -> Standing:
    """How far the studies came.

    Parameters
    ----------
    results : of the studies that are to be counted
    ending : Ending
    there, failed : keys of the runs that have a record, and of those that failed
    lost : keys of the runs that began and never ended
    epochs : of runs that kept their state, key to the last epoch in it
    """
    needed = dict.fromkeys(key for study in results for key in _keys(study))
    missing = [key for key in needed if key not in there and key not in failed]
    return Standing(
        ending,
        runs=len(needed),
        there=sum(key in there for key in needed),
        missing=len(missing),
        begun=sum(key in lost for key in missing),
        epochs=tuple(sorted(epochs[key] for key in missing if key in (epochs or {}))),
        failed=tuple(_failed(results, failed)),
        open=tuple(study.plan.name for study in results if study.plan.is_open),
    )


def _keys(study: StudyResult) -> list[str]:
    """The keys of all runs that a study hangs on."""
    return [*study.runs, *study.plan.candidate_keys]


def _failed(results: Iterable[StudyResult], failed: Collection[str]) -> list[str]:
    """The names of failed runs, each once, by the first row that has it; no probes."""
    names: dict[str, str] = {}
    for study in results:
        rows = {row.name: row.plan.keys for row in study.rows} | dict(study.plan.candidates)
        for row, keys in rows.items():
            for seed, key in keys.items():
                if key in failed:
                    names.setdefault(key, f"{study.plan.name} {row} seed {seed}")
    return list(names.values())


def sentences(now: Standing) -> list[str]:
    """What is there and what is not, and how to go on; [] where nothing is left to do.

    The last one introduces :attr:`Standing.command`, where that is known.
    """
    if now.is_complete:
        return []
    return [" ".join(filter(None, [_counts(now), _kept(now), _failures(now)])), _how(now)]


def heading(now: Standing) -> str:
    """What the first sentence says before its colon; the reason in it may have a colon too."""
    if now.is_interrupted:
        return f"Interrupted ({now.ending.reason})"
    return "Incomplete" if now.missing or now.open else _number_failed(now)


def _counts(now: Standing) -> str:
    if not (now.is_interrupted or now.missing or now.open):
        return ""
    parts = [f"{now.there} of {_count(now.runs, 'run')} {_are(now.there)} there"]
    if now.there == now.runs > 1:
        parts = [f"all {now.runs} runs are there"]
    if now.missing:
        parts.append(f"{now.missing} {_are(now.missing)} missing")
    if now.begun:
        which = "it" if now.missing == 1 else f"of these {now.begun}"
        parts[-1] += f" ({which} had begun)"
    if now.ending.unreported:
        parts.append(f"{_count(now.ending.unreported, 'test')} did not report")
    text = f"{heading(now)}: {', '.join(parts)}."
    if now.open:
        text += f" The rows of {listed(now.open)} hang on a grid's best cell, not known yet."
    return text


def _kept(now: Standing) -> str:
    """Which of the missing runs go on inside themselves."""
    if not now.epochs:
        return ""
    after = [str(epoch) for epoch in dict.fromkeys(now.epochs)]
    what = f"after {'epoch' if len(after) == 1 else 'epochs'} {listed(after)}"
    if len(now.epochs) == 1:
        return f"1 run goes on from its checkpoint, {what}."
    return f"{len(now.epochs)} runs go on from their checkpoints, {what}."


def _failures(now: Standing) -> str:
    if not now.failed:
        return ""
    names = [*now.failed[:_NAMED]]
    if len(now.failed) > _NAMED:
        names.append(f"{len(now.failed) - _NAMED} more")
    return f"{_number_failed(now)}: {listed(names)}."


def _number_failed(now: Standing) -> str:
    return f"{len(now.failed)} of {_count(now.runs, 'run')} failed"


def _how(now: Standing) -> str:
    """How to go on."""
    again = "run the same command again"
    reused = "finished runs are reused"
    if now.ending.fresh:
        again += f" without {FRESH_OPTION}"
        reused = "what is kept is reused; with it, all is trained anew"
    if now.failed and not now.missing and not now.open:
        which = "the failed run is" if len(now.failed) == 1 else "failed runs are"
        return f"Once the cause is gone, {again}: only {which} tried again ({reused})"
    tried = ", failed ones are tried again" if now.failed else ""
    return f"To go on, {again} ({reused}{tried})"


def missing_text(row: RowResult, baseline: RowResult | None) -> str:
    """Which runs a row with status "missing" lacks, in one line, own ones first."""
    parts = [_lacking("", row.runs)]
    if baseline is not None:
        seeds = {run.seed for run in row.runs}
        runs = [run for run in baseline.runs if run.seed in seeds]
        parts.append(_lacking("its baseline, ", runs))
    return "; ".join(filter(None, parts)) or row.message


def _lacking(of: str, runs: Sequence[RunResult]) -> str:
    by_message: dict[str, list[int]] = {}
    for run in runs:
        if run.status == "missing":
            by_message.setdefault(run.message, []).append(run.seed)
    return "; ".join(f"{of}{seeds(numbers)}: {message}" for message, numbers in by_message.items())


def broken_by(error: str) -> str:
    """The reason of a session that an exception broke, from all that the exception says."""
    return f"an internal error: {' '.join(error.split())[:_LONGEST_REASON]}"


def command_of(
    argv: Sequence[str], original: Sequence[str], args: Sequence[str], addopts: str = ""
) -> list[str]:
    """The words of the command line that started pytest.

    Parameters
    ----------
    argv : ``sys.argv``, for the program
    original : ``sys.orig_argv``, for how Python was called
    args : what pytest was given
    addopts : the variable PYTEST_ADDOPTS, which pytest puts before *args*
    """
    words = [*_program(argv, original), *args]
    if not addopts:
        return words
    kept = shlex.join(word for word in shlex.split(addopts) if word != FRESH_OPTION)
    return ["env", f"{ADDOPTS_VARIABLE}={kept}", *words]


def _program(argv: Sequence[str], original: Sequence[str]) -> list[str]:
    """How pytest was called, up to its own options."""
    program = argv[0].replace(os.sep, "/") if argv else ""
    if program.endswith("pytest/__main__.py"):
        words = list(original)
        for place, word in enumerate(words[1:], 1):
            if words[place - 1] == "-m" and word == "pytest":
                return words[: place + 1]
        return ["python", "-m", "pytest"]
    return ["pytest"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
