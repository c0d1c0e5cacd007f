"""The text of ``--ablation-plan``: what a session would train and reuse, in 80 columns.

A forecast goes in, lines come out. Counts nothing itself.
"""

from __future__ import annotations

import textwrap

from pytest_ablation.forecast import Forecast, Runs, StudyForecast
from pytest_ablation.options import Options
from pytest_ablation.report_text import count

_WIDTH = 80
_NOTHING_KNOWN = "no earlier records to estimate from"


def plan_lines(found: Forecast | None, options: Options, workers: int = 0) -> list[str]:
    """The lines that a user reads.

    Parameters
    ----------
    found : Forecast, or None where no ablation case was selected
    options : Options
    workers : number of processes that ``-n`` starts, 0 without it
    """
    if found is None:
        return _wrapped("No ablation case was selected: nothing would be trained.", "")
    lines = [line for study in found.studies for line in [*_study_lines(study), ""]]
    return [*lines, *_lines_in_all(found, options, workers)]


def duration(seconds: float) -> str:
    """A time as people say it: ``4.2 s``, ``3 min 20 s``, ``2 h 05 min``, ``3 d 4 h``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def _study_lines(study: StudyForecast) -> list[str]:
    lines = _wrapped(f"{study.name} ({study.mode})", "")
    rows = f"{count(study.rows, 'row')} x {count(study.seeds, 'seed')}"
    if study.error:
        return [*lines, *_wrapped(f"cannot run: {study.error}")]
    cells = f"{count(study.cells, 'cell')} x {count(study.seeds, 'seed')} of its grid"
    if study.is_open:
        lines += _wrapped(f"{cells}: {_counts(study.own)}")
        probes = f" and {count(study.open_probes, 'probe')}" if study.open_probes else ""
        most = study.rows * study.seeds + study.open_probes
        lines += _wrapped(
            f"then {rows}{probes}, not known before the best cell is: up to {most} more"
        )
    elif study.cells:
        lines += _wrapped(f"{cells}, then {rows}: {_counts(study.own)}")
    else:
        shared = study.own.count < study.rows * study.seeds
        lines += _wrapped(
            f"{rows}: {_counts(study.own)}{'; rows of one model share its runs' if shared else ''}"
        )
    if study.probes.count:
        of = f" of {study.sensitivity}" if study.sensitivity else ""
        lines += _wrapped(f"probes{of}: {_counts(study.probes)}")
    if study.reserve:
        lines += _wrapped(
            f"where a verdict or the gate needs more seeds: up to {study.reserve} more"
        )
    return lines + _wrapped(_time(study.own, study.probes))


def _lines_in_all(found: Forecast, options: Options, workers: int) -> list[str]:
    runs = found.all
    lines = _wrapped(f"In all {_counts(runs)}.", "")
    if sum(study.own.count + study.probes.count for study in found.studies) > runs.count:
        lines += _wrapped("Runs that several studies need count once here.", "")
    if not runs.to_train:
        return lines
    time = _time(runs)
    if runs.seconds and options.executor == "local" and found.processes > 1:
        at_once = duration(found.seconds_at_once)
        time += f", {at_once} in {found.processes} processes{_asked_for(options, workers)}"
    lines += _wrapped(f"{time[0].upper()}{time[1:]}.", "")
    if options.executor != "local":
        lines += _wrapped(f"How long a cluster takes (--ablation-executor={options.executor}) "
                          f"hangs on how many runs it trains at once.", "")  # fmt: skip
    return lines


def _counts(runs: Runs) -> str:
    kept = f", {runs.kept} kept" if runs.kept else ""
    of_these = f" ({runs.checkpoints} from a checkpoint)" if runs.checkpoints else ""
    return f"{count(runs.count, 'run')}, {runs.to_train} to train{of_these}{kept}"


def _time(*parts: Runs) -> str:
    """How long some runs take in one process; of each no more is said than earlier runs tell."""
    to_train = sum(runs.to_train for runs in parts)
    seconds = sum(runs.seconds for runs in parts)
    unknown = sum(runs.unknown for runs in parts)
    if not to_train:
        return "nothing to train"
    if not seconds:
        return f"time: {_NOTHING_KNOWN}"
    if unknown:
        return (f"at least {duration(seconds)} in one process, and {count(unknown, 'run')} with "
                f"{_NOTHING_KNOWN}")  # fmt: skip
    return f"about {duration(seconds)} in one process"


def _asked_for(options: Options, workers: int) -> str:
    parts = [f"-n {workers}"] if workers else []
    parts += [f"--ablation-jobs={options.jobs}"] if options.jobs else []
    return f" ({' '.join(parts)})" if parts else ""


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )  # fmt: skip
