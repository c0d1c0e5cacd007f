"""A table of metrics as a study defines it: for studies with more metrics than columns fit.

Titles, rows and columns go in; the name of the metric of each cell comes out, checked. Knows
nothing of results; ``report_tables.py`` fills it with numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_ablation.configuration import did_you_mean
from pytest_ablation.errors import StudyError


@dataclass(frozen=True)
class MetricTable:
    """Metrics that belong together, as rows and columns: retrieval tasks by cutoff, say.

    In the report each column becomes a table of its own, with a line per variant and, side by
    side, one figure per row name: many variants and many tasks stay readable that way.

    Parameters
    ----------
    title : str
    rows, columns : sequence of str
        The names that make up the names of the metrics; each name once.
    metric : str
        How a metric is called: ``{row}`` and ``{column}`` stand for the names.
    caption : str
        A sentence below the title.

    Raises
    ------
    StudyError
        No title, rows or columns; a name twice; two cells that would show the same metric.

    Examples
    --------
    >>> table = MetricTable("Tasks", rows=["same_debate", "portal"], columns=["top1", "mrr"])
    >>> table.metrics
    ('same_debate_top1', 'same_debate_mrr', 'portal_top1', 'portal_mrr')
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    metric: str = "{row}_{column}"
    caption: str = ""

    def __post_init__(self) -> None:
        for field in ("rows", "columns"):
            object.__setattr__(self, field, _names(self.title, field, getattr(self, field)))
        if not isinstance(self.title, str) or not self.title.strip():
            raise StudyError(f"a MetricTable needs a title, found {self.title!r:.80}")
        for name in self.metrics:
            if self.metrics.count(name) > 1:
                raise StudyError(
                    f"MetricTable {self.title!r}: {self.metrics.count(name)} cells show the metric "
                    f"{name!r}: metric={self.metric!r} must tell rows and columns apart, as in "
                    f"'{{row}}_{{column}}'"
                )

    def metric_of(self, row: str, column: str) -> str:
        """The name of the metric of one cell."""
        return self.metric.replace("{row}", row).replace("{column}", column)

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics of the table, row by row."""
        return tuple(self.metric_of(row, column) for row in self.rows for column in self.columns)

    def check(self, known: Iterable[str]) -> None:
        """``StudyError`` with the nearest names where a cell's metric is not among *known*."""
        known = tuple(known)
        for name in self.metrics:
            if name not in known:
                raise StudyError(
                    f"MetricTable {self.title!r} shows {name!r}, which is none of the study's "
                    f"metrics{did_you_mean(name, known)}"
                )


def _names(title: str, field: str, names: Sequence[str]) -> tuple[str, ...]:
    listed = () if isinstance(names, str) else tuple(names)
    if not listed or not all(isinstance(name, str) and name for name in listed):
        raise StudyError(f"MetricTable {title!r}: {field} are a list of names, found {names!r:.80}")
    for name in listed:
        if listed.count(name) > 1:
            raise StudyError(f"MetricTable {title!r}: {field} name {name!r} more than once")
    return listed
