"""The figures of a session's studies: results go in, image files and words for the report come out.

It decides what is drawn and in which order; other modules have the numbers and draw the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_ablation.cost_drawing import draw_cost
from pytest_ablation.curves import (
    Panel,
    drawn_metric,
    remarks,
    split_name,
    split_words,
    splits_of,
)
from pytest_ablation.drawing import write_curves
from pytest_ablation.forest_drawing import draw_changes
from pytest_ablation.grid_drawing import draw_grid
from pytest_ablation.heat_map_figures import draw_heat_maps
from pytest_ablation.images import Picture
from pytest_ablation.results import RowResult, StudyResult
from pytest_ablation.statistics import mean

if TYPE_CHECKING:
    from pytest_ablation.heat_maps import HeatMaps

LoadHeatMaps = Callable[[str], Mapping[str, "HeatMaps"]]


@dataclass(frozen=True)
class Figures:
    """The figures of a session by study, in the report's order, and why others were not drawn."""

    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class _Kind(NamedTuple):
    """One kind of figure: what it is called, where its numbers are, and who draws it."""

    name: str
    numbers: str
    draw: Callable[[StudyResult, Path], Sequence[Picture]]


def draw_studies(
    results: Sequence[StudyResult], folder: Path, heat_maps: LoadHeatMaps | None = None
) -> Figures:
    """Draw all studies into ``folder/figures``; figures of other studies stay.

    A figure that cannot be drawn or written becomes a warning: a report must not be lost for it.

    Parameters
    ----------
    results : sequence of StudyResult
    folder : Path
        ``reports/<mode>``
    heat_maps : callable, optional
        A run's key to its heat maps by name, as ``Store.heat_maps``; without it none are drawn.
    """
    pictures: dict[str, list[Picture]] = {}
    problems = []
    for study in results:
        for kind in _kinds(heat_maps):
            try:
                drawn = kind.draw(study, folder)
            except Exception as error:  # matplotlib and fonts fail in more ways than can be listed
                problems.append(
                    f"{kind.name} of {study.plan.name} could not be drawn "
                    f"({type(error).__name__}: {error}); {kind.numbers}"
                )
            else:
                if drawn:
                    pictures.setdefault(study.plan.name, []).extend(drawn)
    return Figures(pictures, tuple(problems))


def _kinds(heat_maps: LoadHeatMaps | None) -> list[_Kind]:
    """All kinds, in the order of the report."""
    kinds = [
        _Kind("the changes", "their numbers are in summary.csv", draw_changes),
        _Kind("the grid", "its numbers are in runs.csv", draw_grid),
        _Kind("the costs", "their numbers are in runs.csv", draw_cost),
        _Kind("the curves", "their numbers are in history.csv", draw_curves),
    ]
    if heat_maps is not None:
        kinds.append(
            _Kind(
                "the heat maps",
                "their numbers are kept with the run",
                lambda study, folder: draw_heat_maps(study, heat_maps, folder),
            )
        )
    return kinds


def draw_curves(study: StudyResult, folder: Path) -> list[Picture]:
    """Draw a study's leading metric into ``folder/figures/<study>-curves.png``.

    Rows that are the same model are drawn once. Returns [] where nothing was logged that could be
    drawn.
    """
    plan = study.plan
    metric = drawn_metric(plan.leading, _logged_names(study))
    if metric is None:
        return []
    panels = study_panels(study, metric)
    file = f"figures/{plan.name}-curves.png"
    title = f"{metric} against epoch"
    write_curves(folder / file, panels, metric, f"{plan.name} ({plan.mode}): {title}")
    splits = ", ".join(split_words(splits_of(panels)))
    names = ", ".join(panel.title for panel in panels)
    explained = "; ".join([title, *remarks(panels)])
    return [
        Picture(
            heading="Curves",
            file=file,
            alt=f"{title} ({splits}) of {names}",
            caption=f"{explained}. The numbers are in history.csv.",
        )
    ]


def study_panels(study: StudyResult, metric: str) -> list[Panel]:
    """What was logged of *metric*: a panel for each row, but one for rows of the same model."""
    panels = [_panel(row, metric) for row in study.rows if not row.same_as]
    return [panel for panel in panels if panel.values]


def _logged_names(study: StudyResult) -> set[str]:
    records = (run.record for row in study.rows for run in row.runs)
    return {entry.metric for record in records if record is not None for entry in record.history}


def _panel(row: RowResult, metric: str) -> Panel:
    values: dict[str, dict[int, dict[int, float]]] = {}
    records = [run.record for run in row.runs if run.record is not None]
    for record in records:
        for entry in record.history:
            if entry.metric == metric:
                of_split = values.setdefault(split_name(entry.split), {})
                of_split.setdefault(record.seed, {})[entry.epoch] = entry.value
    reported = [record.reported_epoch for record in records if record.reported_epoch is not None]
    return Panel(row.name, values, mean(reported))
