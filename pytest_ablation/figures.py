"""The figures of a session's studies: results go in, image files and words for the report come out.

It decides what is drawn; curves.py has the numbers and drawing.py the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_ablation.curves import (
    Panel,
    drawn_metric,
    remarks,
    split_name,
    split_words,
    splits_of,
)
from pytest_ablation.drawing import write_curves
from pytest_ablation.results import RowResult, StudyResult
from pytest_ablation.statistics import mean


@dataclass(frozen=True)
class Curves:
    """A study's curves as the report shows them.

    Attributes
    ----------
    file : where the image lies, relative to the report
    alt : what it shows, for those who cannot see it
    caption : how its lines and bands are to be read
    """

    file: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Figures:
    """The figures of a session by study, and why others could not be drawn."""

    curves: Mapping[str, Curves] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def draw_studies(results: Sequence[StudyResult], folder: Path) -> Figures:
    """Draw the curves of all studies into ``folder/figures``; figures of other studies stay.

    A figure that cannot be drawn or written becomes a warning: a report must not be lost for it.
    """
    curves, problems = {}, []
    for study in results:
        try:
            drawn = draw_study(study, folder)
        except Exception as error:  # matplotlib and its fonts fail in more ways than can be listed
            problems.append(
                f"the curves of {study.plan.name} could not be drawn ({type(error).__name__}: "
                f"{error}); their numbers are in history.csv"
            )
        else:
            if drawn is not None:
                curves[study.plan.name] = drawn
    return Figures(curves, tuple(problems))


def draw_study(study: StudyResult, folder: Path) -> Curves | None:
    """Draw a study's leading metric into ``folder/figures/<study>-curves.png``.

    Rows that are the same model are drawn once. Returns None where nothing was logged that could
    be drawn.
    """
    plan = study.plan
    metric = drawn_metric(plan.leading, _logged_names(study))
    if metric is None:
        return None
    panels = study_panels(study, metric)
    file = f"figures/{plan.name}-curves.png"
    title = f"{metric} against epoch"
    write_curves(folder / file, panels, metric, f"{plan.name} ({plan.mode}): {title}")
    splits = ", ".join(split_words(splits_of(panels)))
    names = ", ".join(panel.title for panel in panels)
    explained = "; ".join([title, *remarks(panels)])
    return Curves(
        file=file,
        alt=f"{title} ({splits}) of {names}",
        caption=f"{explained}. The numbers are in history.csv.",
    )


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
