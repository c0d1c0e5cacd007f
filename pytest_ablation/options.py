"""The command line: option names, their meaning, and their check. Imports only pytest."""

from __future__ import annotations

import importlib.util
import os
import re
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
DATA_VARIABLE = "ABLATION_DATA"

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class Options:
    """The command line, checked.

    ``jobs`` 0 means: as many as there are cores. ``metric`` is the metric that is to lead in
    reports; None leaves that to each study.
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


def add_options(group: Any) -> None:
    """Add the options to pytest's option group; README.md says what they mean for training."""
    option = group.addoption
    option(REPORT_OPTION, metavar="DIR", help="where reports go [reports]")
    option(STORE_OPTION, metavar="DIR", help="where runs are kept [.ablation]")
    option(FRESH_OPTION, action="store_true", help="train all runs again, whatever is kept")
    option(SEEDS_OPTION, metavar="N", type=int, help="seeds per variant, instead of the mode's")
    option(DEVICE_OPTION, default="auto", help="auto, cpu, cuda or cuda:N [auto]")
    option(DATA_OPTION, metavar="DIR", help=f"your own data [the variable {DATA_VARIABLE}]")
    option(JOBS_OPTION, metavar="N", type=int, help="processes that train at once [all cores]")
    option(SAVE_MODELS_OPTION, action="store_true", help="keep the trained models with the runs")
    option(METRIC_OPTION, metavar="NAME", help="the metric that leads [the study's first]")


def checked_options(config: pytest.Config) -> Options:
    """The options as a value; ``UsageError`` says which one is wrong and what it should be."""

    def get(name: str) -> Any:
        return config.getoption(name)

    if get(SEEDS_OPTION) is not None and get(SEEDS_OPTION) < 1:
        raise pytest.UsageError(
            f"{SEEDS_OPTION}={get(SEEDS_OPTION)}: a comparison needs at least one seed, and two "
            f"for a verdict"
        )
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
    data = get(DATA_OPTION) or os.environ.get(DATA_VARIABLE) or None
    source = DATA_OPTION if get(DATA_OPTION) else f"the variable {DATA_VARIABLE}"
    start = config.invocation_params.dir
    if data is not None and not (start / data).is_dir():
        raise pytest.UsageError(f"{source} names the folder {data}, which does not exist")
    return Options(
        # As with pytest's own options: defaults lie in the root, what is typed where it is typed.
        report_dir=_folder(start, get(REPORT_OPTION)) or config.rootpath / "reports",
        store_dir=_folder(start, get(STORE_OPTION)) or config.rootpath / ".ablation",
        fresh=get(FRESH_OPTION),
        seeds=get(SEEDS_OPTION),
        device=get(DEVICE_OPTION),
        data_dir=_folder(start, data),
        jobs=get(JOBS_OPTION) or 0,
        save_models=get(SAVE_MODELS_OPTION),
        metric=get(METRIC_OPTION),
    )


def _folder(start: Path, given: str | None) -> Path | None:
    return Path(os.path.abspath(start / given)) if given else None
