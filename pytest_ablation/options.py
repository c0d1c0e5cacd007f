"""The command line: option names, their meaning, and their check. Imports only pytest."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPORT_OPTION = "--ablation-report"
STORE_OPTION = "--ablation-store"
FRESH_OPTION = "--ablation-fresh"
SEEDS_OPTION = "--ablation-seeds"
DEVICE_OPTION = "--ablation-device"
DATA_OPTION = "--ablation-data"
JOBS_OPTION = "--ablation-jobs"
SAVE_MODELS_OPTION = "--ablation-save-models"
METRIC_OPTION = "--ablation-metric"
MAX_SEEDS_OPTION = "--ablation-max-seeds"
INTERVAL_OPTION = "--ablation-interval"
GATE_OPTION = "--ablation-gate"
SAVE_REFERENCE_OPTION = "--ablation-save-reference"
STRICT_OPTION = "--ablation-strict"
PLAN_OPTION = "--ablation-plan"
CHECKPOINT_OPTION = "--ablation-checkpoint"
EXECUTOR_OPTION = "--ablation-executor"
RAY_ADDRESS_OPTION = "--ablation-ray-address"
GPUS_PER_RUN_OPTION = "--ablation-gpus-per-run"
CPUS_PER_RUN_OPTION = "--ablation-cpus-per-run"
DATA_VARIABLE = "ABLATION_DATA"

INTERVALS = ("seeds", "seeds+examples")
AUTO = "auto"
MAX_SEEDS = 12
CHECKPOINT_MINUTES = 2.0
NEVER = "never"
EXECUTORS = ("local", "ray")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_ADDRESS = re.compile(r"[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


@dataclass(frozen=True)
class Options:
    """The command line, checked.

    ``jobs`` 0 means: as many as there are cores. ``metric`` is the metric that is to lead in
    reports; None leaves that to each study. ``auto_seeds`` spends up to ``max_seeds`` seeds where
    verdicts are open. ``gate`` and ``save_reference`` are files; "" is the default one of each
    mode, below ``root``, the project's folder; None means that it was not asked for.
    """

    report_dir: Path
    store_dir: Path
    fresh: bool = False
    seeds: int | None = None
    device: str = "auto"
    data_dir: Path | None = None
    jobs: int = 0
    save_models: bool = False
    metric: str | None = None
    auto_seeds: bool = False
    max_seeds: int = MAX_SEEDS
    interval: str = INTERVALS[0]
    gate: str | None = None
    save_reference: str | None = None
    strict: bool = False
    root: Path = Path()
    plan: bool = False
    checkpoint_seconds: float = 60 * CHECKPOINT_MINUTES
    executor: str = EXECUTORS[0]
    ray_address: str = AUTO
    gpus_per_run: float | None = None
    cpus_per_run: float = 1.0

    def reference_path(self, given: str, mode: str) -> Path:
        """The file of ``--ablation-gate`` or ``--ablation-save-reference`` for a mode."""
        return Path(given) if given else self.root / "reports" / "reference" / f"{mode}.json"


def add_options(group: Any) -> None:
    """Add the options to pytest's option group; README.md says what they mean for training."""
    option = group.addoption
    option(REPORT_OPTION, metavar="DIR", help="where reports go [reports]")
    option(STORE_OPTION, metavar="DIR", help="where runs are kept [.ablation]")
    option(FRESH_OPTION, action="store_true", help="train all runs again, whatever is kept")
    option(
        SEEDS_OPTION,
        metavar="N|auto",
        help="seeds per variant, instead of the mode's; auto: more where a verdict is open",
    )
    option(
        MAX_SEEDS_OPTION,
        metavar="N",
        type=int,
        default=MAX_SEEDS,
        help=f"the most seeds that auto, or the gate, may give a row [{MAX_SEEDS}]",
    )
    option(
        INTERVAL_OPTION,
        choices=INTERVALS,
        default=INTERVALS[0],
        help="what intervals cover: other seeds, or other seeds and test examples [seeds]",
    )
    _add_gate(option)
    option(DEVICE_OPTION, default="auto", help="auto, cpu, cuda or cuda:N [auto]")
    option(DATA_OPTION, metavar="DIR", help=f"your own data [the variable {DATA_VARIABLE}]")
    option(
        JOBS_OPTION,
        metavar="N",
        type=int,
        help="processes that train at once [one per core, or per visible GPU]",
    )
    option(SAVE_MODELS_OPTION, action="store_true", help="keep the trained models with the runs")
    option(METRIC_OPTION, metavar="NAME", help="the metric that leads [the study's first]")
    option(PLAN_OPTION, action="store_true", help="show what would be trained, and train nothing")
    option(
        CHECKPOINT_OPTION,
        metavar="MINUTES|never",
        default=str(CHECKPOINT_MINUTES),
        help="how often a run keeps its state, to go on from; 0: after every epoch "
        f"[{CHECKPOINT_MINUTES:g}]",
    )
    _add_executor(option)


def _add_gate(option: Callable[..., None]) -> None:
    file = {"metavar": "FILE", "nargs": "?", "const": ""}
    option(
        GATE_OPTION,
        **file,
        help="fail where a metric fell against the reference [reports/reference/MODE.json]",
    )
    option(
        SAVE_REFERENCE_OPTION,
        **file,
        help="write the reference from this session [reports/reference/MODE.json]",
    )
    option(STRICT_OPTION, action="store_true", help="an inconclusive gate fails too")


def _add_executor(option: Callable[..., None]) -> None:
    option(
        EXECUTOR_OPTION,
        choices=EXECUTORS,
        default=EXECUTORS[0],
        help="where runs train: on this machine, or on a Ray cluster [local]",
    )
    option(RAY_ADDRESS_OPTION, metavar="HOST:PORT", help="the Ray cluster [auto: the running one]")
    option(GPUS_PER_RUN_OPTION, metavar="X", help="of a Ray node [1 where the cluster has any]")
    option(CPUS_PER_RUN_OPTION, metavar="X", help="of a Ray node [1]")


def checked_options(config: pytest.Config) -> Options:
    """The options as a value; ``UsageError`` says which one is wrong and what it should be."""
    get = config.getoption
    _check_each(get)
    _check_executor(get)
    start = config.invocation_params.dir
    seeds = _checked_seeds(get(SEEDS_OPTION))
    return Options(
        # As with pytest's own options: defaults lie in the root, what is typed where it is typed.
        report_dir=_folder(start, get(REPORT_OPTION)) or config.rootpath / "reports",
        store_dir=_folder(start, get(STORE_OPTION)) or config.rootpath / ".ablation",
        fresh=get(FRESH_OPTION),
        seeds=None if seeds == AUTO else seeds,
        device=get(DEVICE_OPTION),
        data_dir=_data_folder(start, get(DATA_OPTION)),
        jobs=get(JOBS_OPTION) or 0,
        save_models=get(SAVE_MODELS_OPTION),
        metric=get(METRIC_OPTION),
        auto_seeds=seeds == AUTO,
        max_seeds=get(MAX_SEEDS_OPTION),
        interval=get(INTERVAL_OPTION),
        gate=_file(start, GATE_OPTION, get(GATE_OPTION)),
        save_reference=_file(start, SAVE_REFERENCE_OPTION, get(SAVE_REFERENCE_OPTION)),
        strict=get(STRICT_OPTION),
        root=config.rootpath,
        plan=get(PLAN_OPTION),
        checkpoint_seconds=60 * _minutes(get(CHECKPOINT_OPTION)),
        executor=get(EXECUTOR_OPTION),
        ray_address=get(RAY_ADDRESS_OPTION) or AUTO,
        gpus_per_run=_number(GPUS_PER_RUN_OPTION, get(GPUS_PER_RUN_OPTION), "GPUs"),
        cpus_per_run=_number(CPUS_PER_RUN_OPTION, get(CPUS_PER_RUN_OPTION), "CPUs", above=0.0) or 1,
    )


def _check_each(get: Callable[[str], Any]) -> None:
    """Raise ``UsageError`` where an option is wrong whatever the executor is."""
    if get(MAX_SEEDS_OPTION) < 2:
        raise pytest.UsageError(
            f"{MAX_SEEDS_OPTION}={get(MAX_SEEDS_OPTION)}: expected 2 or more, a verdict needs two"
        )
    if get(STRICT_OPTION) and get(GATE_OPTION) is None:
        raise pytest.UsageError(f"{STRICT_OPTION} is about {GATE_OPTION}: give that too")
    if get(JOBS_OPTION) is not None and get(JOBS_OPTION) < 1:
        raise pytest.UsageError(f"{JOBS_OPTION}={get(JOBS_OPTION)}: expected 1 or more processes")
    if not _DEVICE.fullmatch(get(DEVICE_OPTION)):
        raise pytest.UsageError(
            f"{DEVICE_OPTION}={get(DEVICE_OPTION)}: expected auto, cpu, cuda or cuda:N"
        )
    if get(SAVE_MODELS_OPTION) and importlib.util.find_spec("safetensors") is None:
        raise pytest.UsageError(
            f"{SAVE_MODELS_OPTION} needs the package safetensors, which is not installed: "
            f"pip install safetensors"
        )
    if get(METRIC_OPTION) is not None and not get(METRIC_OPTION).strip():
        raise pytest.UsageError(f"{METRIC_OPTION}= names no metric: give the name of one")


def _check_executor(get: Callable[[str], Any]) -> None:
    """Raise ``UsageError`` where the options that say where runs train do not go together."""
    if get(EXECUTOR_OPTION) != "ray":
        for name in (RAY_ADDRESS_OPTION, GPUS_PER_RUN_OPTION, CPUS_PER_RUN_OPTION):
            if get(name) is not None:
                raise pytest.UsageError(f"{name} is about {EXECUTOR_OPTION}=ray: give that too")
        return
    if get(JOBS_OPTION) is not None:
        raise pytest.UsageError(
            f"{JOBS_OPTION} is about this machine; how many runs train at once on a Ray cluster "
            f"follows from {CPUS_PER_RUN_OPTION} and {GPUS_PER_RUN_OPTION}"
        )
    address = get(RAY_ADDRESS_OPTION)
    if address not in (None, AUTO) and not _ADDRESS.fullmatch(address):
        raise pytest.UsageError(
            f"{RAY_ADDRESS_OPTION}={address}: expected HOST:PORT, as `ray start` prints it, or auto"
        )


def _number(option: str, given: str | None, unit: str, above: float = -1.0) -> float | None:
    """A number from 0 on, or *above* a bound; None where nothing is given."""
    if given is None:
        return None
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not max(above, 0.0) <= number < math.inf or number == above:
        least = "more than 0" if above == 0 else "0 or more"
        raise pytest.UsageError(f"{option}={given}: expected a number of {unit}, {least}")
    return number


def _minutes(given: str) -> float:
    """How often checkpoints are written; inf for never."""
    if given == NEVER:
        return math.inf
    return _number(CHECKPOINT_OPTION, given, f"minutes (or {NEVER})")


def _data_folder(start: Path, given: str | None) -> Path | None:
    data = given or os.environ.get(DATA_VARIABLE) or None
    if data is not None and not (start / data).is_dir():
        source = DATA_OPTION if given else f"the variable {DATA_VARIABLE}"
        raise pytest.UsageError(f"{source} names the folder {data}, which does not exist")
    return _folder(start, data)


def _checked_seeds(given: str | None) -> int | str | None:
    if given is None or given == AUTO:
        return given
    if not re.fullmatch(r"[0-9]{1,6}", given) or int(given) < 1:
        raise pytest.UsageError(
            f"{SEEDS_OPTION}={given}: a comparison needs at least one seed, and two for a verdict; "
            f"expected a number or auto"
        )
    return int(given)


def _file(start: Path, option: str, given: str | None) -> str | None:
    """A file of JSON; pytest takes the word after an option without "=" for its value."""
    if not given:
        return given
    if not given.endswith(".json"):
        raise pytest.UsageError(
            f"{option} {given}: expected a file that ends with .json; for the default file write "
            f"{option} last, or before another option"
        )
    return os.path.abspath(start / given)


def _folder(start: Path, given: str | None) -> Path | None:
    return Path(os.path.abspath(start / given)) if given else None
