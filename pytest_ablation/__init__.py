"""Ablation studies as pytest cases: paired over seeds, guarded, recorded and reported.

What a study module needs is here; README.md shows how it fits together. Imports no torch.
"""

from pytest_ablation.errors import AblationError, Diverged, StudyError, UnknownName
from pytest_ablation.heat_maps import HeatMaps
from pytest_ablation.metric_tables import MetricTable
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run
from pytest_ablation.study import Study
from pytest_ablation.variant import Variant

__all__ = [
    "AblationError",
    "Diverged",
    "HeatMaps",
    "MetricTable",
    "Mode",
    "Run",
    "Study",
    "StudyError",
    "UnknownName",
    "Variant",
]
