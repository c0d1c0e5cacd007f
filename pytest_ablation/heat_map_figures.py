"""The heat maps of a study's best run, as pictures and as findings for its report.

A study's result goes in; image files, words about them and the run's own findings come out. It
decides which run is shown; heat_map_drawing.py draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_ablation.heat_map_drawing import write_all, write_one
from pytest_ablation.heat_maps import HeatMaps, HeatMapTexts
from pytest_ablation.images import Picture
from pytest_ablation.record import Record
from pytest_ablation.results import RowResult, StudyResult


@dataclass(frozen=True)
class ShownRun:
    """The run whose heat maps a report shows: a row's name, a seed, its record."""

    row: str
    record: Record

    @property
    def words(self) -> str:
        return f"{self.row}, seed {self.record.seed}"


def shown_run(study: StudyResult) -> ShownRun | None:
    """The best run among those that told heat maps, by the metric that the study selects by.

    Of the rows whose status is ok the one with the highest mean of the metric, and of its seeds the
    one with the highest value; among equals the first. None where the study selects by no metric,
    or no such run told any.
    """
    metric = study.plan.select
    rows = [row for row in study.rows if row.status == "ok" and _told(row, metric)]
    if not metric or not rows:
        return None
    best = max(rows, key=lambda row: row.metrics[metric].mean)  # the first of those that are equal
    return ShownRun(best.name, max(_told(best, metric), key=lambda r: r.metrics[metric]))


def _told(row: RowResult, metric: str) -> list[Record]:
    records = [record for _, record in sorted(row.records.items())]
    return [record for record in records if record.heat_maps and metric in record.metrics]


def findings_of(study: StudyResult) -> tuple[str, ...]:
    """What the heat maps of the shown run say, in plain sentences; () where none is shown.

    The first sentence says which run it is.
    """
    shown = shown_run(study)
    if shown is None:
        return ()
    metric = study.plan.select
    findings = [finding for texts in shown.record.heat_maps.values() for finding in texts.findings]
    if not findings:
        return ()
    titles = " and ".join(texts.title for texts in shown.record.heat_maps.values())
    return (
        f"{titles} of {shown.words}: the best seed ({metric} {shown.record.metrics[metric]:.4f}) "
        f"of the row with the highest mean.",
        *findings,
    )


def draw_heat_maps(
    study: StudyResult, load: Callable[[str], Mapping[str, HeatMaps]], folder: Path
) -> list[Picture]:
    """Draw the heat maps of the shown run into ``folder/figures``; [] where none is shown.

    ``<study>-<name>.png`` has the leading panel large; ``<study>-<name>-all.png`` has all panels,
    where there are several.

    Parameters
    ----------
    study : StudyResult
    load : callable
        A run's key to its heat maps by name, as ``Store.heat_maps``; called for what is drawn anew.
    folder : Path
        ``reports/<mode>``

    Raises
    ------
    OSError
        A file cannot be written.
    pytest_ablation.store.DamagedRecord
        The numbers of a run cannot be read.
    """
    shown = shown_run(study)
    if shown is None:
        return []
    pictures = []
    for name, texts in shown.record.heat_maps.items():

        def maps(name: str = name) -> HeatMaps:
            return load(shown.record.key)[name]

        pictures += _pictures(study, shown, name, texts, maps, folder)
    return pictures


def _pictures(
    study: StudyResult,
    shown: ShownRun,
    name: str,
    texts: HeatMapTexts,
    maps: Callable[[], HeatMaps],
    folder: Path,
) -> list[Picture]:
    """Draw the maps of one name."""
    plan = study.plan
    title = f"{plan.name} ({plan.mode}): {texts.title} of {shown.words}"
    leading = texts.panels[texts.leading]
    of = f"of {shown.words} (the best by {plan.select})"
    one = Picture(
        file=f"figures/{plan.name}-{name}.png",
        alt=f"{texts.title} {of}: heat map of {leading}",
        caption=f"{leading[:1].upper()}{leading[1:]}, {of}. {texts.caption}",
        heading=texts.title,
    )
    write_one(folder / one.file, texts, maps, title)
    if len(texts.panels) == 1:
        return [one]
    every = Picture(
        file=f"figures/{plan.name}-{name}-all.png",
        alt=f"{texts.title} {of}: {len(texts.panels)} heat maps, {texts.panels[0]} to "
        f"{texts.panels[-1]}",
        caption=f"All {len(texts.panels)} maps of the same run on one scale of colours; the one "
        f"above has its name in bold.",
        heading=f"{texts.title}: all {len(texts.panels)} maps",
    )
    write_all(folder / every.file, texts, maps, title)
    return [one, every]
