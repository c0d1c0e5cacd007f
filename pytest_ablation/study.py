"""What a study is: a baseline configuration, named variants of it, metrics, and modes.

Definitions go in; checked, resolved configurations and pytest parameters come out. Everything that
can be wrong with a definition is an error here, before anything trains.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import pytest

from pytest_ablation.configuration import did_you_mean, with_changes
from pytest_ablation.errors import StudyError
from pytest_ablation.grids import Grid, make_grid
from pytest_ablation.metric_tables import MetricTable
from pytest_ablation.mode import Mode
from pytest_ablation.resolution import Rows, named, resolve
from pytest_ablation.run import Run
from pytest_ablation.variant import Variant, checked_name

#: The smallest change of a metric that matters, where a study does not say: half a point.
MARGIN = 0.005
MODE_NAMES = ("quick", "full")
_MOST_COLUMNS = 6  # metrics in a report's main table, where nobody chose them

Train = Callable[[Any, Run], Mapping[str, float]]
DataDigest = Callable[[Any, Path | None], Any]


@dataclass(frozen=True, eq=False)
class BestCell:
    """What ``grid.best()`` gives to a mode of another study: the cell best on validation data."""

    study: Study

    def changes_in(self, mode: str) -> dict[str, dict[str, Any]]:
        """Cell to the fields that it sets, for a grid that has the mode."""
        if mode not in self.study.modes:
            raise StudyError(
                f"config is the best cell of {self.study.name!r}, which has no mode {mode!r}"
            )
        return {cell: self.study.design.changes_of(cell) for cell in self.study.design.cells}


@dataclass(frozen=True)
class CaseSpec:
    """One pytest case: a variant of a study in a mode. The ``ablation`` fixture's parameter."""

    study: Study
    variant: str
    mode: str


class Study:
    """A baseline configuration, its variants, metrics, seeds and modes.

    Parameters
    ----------
    name : str
    train : callable
        ``train(config, run) -> {metric: value}``; see :class:`pytest_ablation.Run`.
    baseline : dataclass instance or dict
        One field per component. It is handed to *train* as it is.
    variants : sequence of Variant
    metrics : sequence of str
        The reported metrics. The first one leads in reports and conclusions, unless
        ``--ablation-metric`` names another.
    lower_is_better : sequence of str
        Those of them of which a lower value is better (a loss, an error rate).
    quick, full : Mode
        The budgets; at least one of them.
    baseline_name : str
        How the baseline is called in tables and in ``against=``.
    data : callable, optional
        ``data(config, data_dir)`` returns anything that changes when the data on disk change (a
        digest of the files, say); part of every run's key.
    margin : float, or mapping of metric to float
        The smallest change of a metric that matters, from 0 to below 1 in its own unit (0.005 is
        half a point of an accuracy): an interval inside ``[-margin, margin]`` means "no detectable
        change", and ``--ablation-gate`` fails where a metric fell by more. A mapping leaves those
        that it does not name the default.
    gate : sequence of str, optional
        The metrics that ``--ablation-gate`` compares with the reference. Default: the first one.
    description : str
        A sentence below the study's heading in the report.
    also : sequence of str, optional
        The metrics that the report's main table shows beside the leading one. Default: all others
        where there are at most six metrics and no *tables*, else none.
    tables : sequence of MetricTable, or one
        Further tables of the report.
    factors : two field names, optional
        Two components of which the rows hold all four combinations: the report says what each
        contributes alone, and what they do together.
    sensitivity : str, optional
        A field such as ``"learning_rate"``: in full mode every row is also trained at a third and
        at three times its value, with one seed, and the report says what that gave.
    select : str
        The metric of validation data that models are chosen by: a grid's best cell, and the run
        whose heat maps the report shows. "" chooses none.
    cost_figure : bool
        Whether the report shows a figure of the leading metric against the seconds of training.

    Raises
    ------
    StudyError
        Anything in the definition that cannot give a fair comparison; the text says what.

    Examples
    --------
    >>> def train(config, run):
    ...     return {"top1": 0.9}
    >>> study = Study("mine", train=train, baseline={"depth": 2},
    ...               variants=[Variant("shallow", depth=1)], metrics=["top1"],
    ...               quick=Mode(seeds=3))
    >>> study.configuration("shallow")
    {'depth': 1}
    """

    def __init__(
        self,
        name: str,
        *,
        train: Train,
        baseline: Any,
        variants: Sequence[Variant],
        metrics: Sequence[str],
        quick: Mode | None = None,
        full: Mode | None = None,
        baseline_name: str = "baseline",
        data: DataDigest | None = None,
        margin: float | Mapping[str, float] = MARGIN,
        lower_is_better: Sequence[str] = (),
        gate: Sequence[str] | None = None,
        description: str = "",
        also: Sequence[str] | None = None,
        tables: Sequence[MetricTable] = (),
        factors: Sequence[str] = (),
        sensitivity: str | None = None,
        select: str = "",
        cost_figure: bool = False,
    ) -> None:
        self.name = checked_name("study", name)
        self.train = train
        self.data = data
        self.description = description
        self.baseline_name = checked_name("baseline", baseline_name)
        self.modes = {n: m for n, m in zip(MODE_NAMES, (quick, full), strict=True) if m is not None}
        self.metrics = tuple(checked_name("metric", metric) for metric in metrics)
        self.variants = tuple(variants)
        self.lower_is_better = tuple(lower_is_better)
        self.gate_metrics = self.metrics[:1] if gate is None else tuple(gate)
        self._margin = margin
        self.also = None if also is None else tuple(also)
        self.tables = (tables,) if isinstance(tables, MetricTable) else tuple(tables)
        self.select = select
        self.cost_figure = cost_figure
        self.design: Grid | None = None  # the cells, where the study is a grid
        self._resolving = {"factors": factors, "sensitivity": sensitivity}
        self.sensitivity = sensitivity
        with named(self.name):
            self._check_parts()
            self._check_shown()
            self._baseline = baseline
            self._by_mode = {name: self._resolve_mode(name) for name in self.modes}

    @classmethod
    def grid(
        cls,
        name: str,
        *,
        axes: Mapping[str | tuple[str, ...], Sequence[Any]],
        baseline: Any,
        select: str,
        cell_name: str = "",
        allow_different: Iterable[str] = (),
        **study: Any,
    ) -> Study:
        """A study of all combinations of the values of some fields, each of them a case.

        Parameters
        ----------
        name, baseline, select
            As for a study. The cell that *baseline* is, is what the others are compared with, and
            a case too.
        axes : mapping
            Field to its values; or several fields that change together to tuples of values.
        cell_name : str
            How a cell is called, such as ``"d{embed_dim}-lr{learning_rate}"``. Default: the first
            field and its value of each axis.
        allow_different : iterable of str
            What may differ between cells, as for :class:`Variant`: a grid over the batch size has
            other steps in other cells.
        **study
            The other parameters of a study.

        Raises
        ------
        StudyError

        Examples
        --------
        >>> grid = Study.grid(
        ...     "sizes", train=lambda config, run: {"top1": 0.9, "validation_top1": 0.8},
        ...     axes={"depth": [1, 2], "rate": [0.1, 0.2]}, baseline={"depth": 1, "rate": 0.1},
        ...     metrics=["top1", "validation_top1"], select="validation_top1",
        ...     quick=Mode(seeds=3), cell_name="{depth}-{rate}")
        >>> grid.case_rows
        ('1-0.1', '1-0.2', '2-0.1', '2-0.2')
        """
        with named(checked_name("study", name)):
            grid, own_cell = make_grid(axes, baseline, cell_name)
            if not select:
                raise StudyError(
                    'a grid needs select="validation_...": the metric that its best cell is best by'
                )
            _check_modes_of_grid(grid, {mode: study.get(mode) for mode in MODE_NAMES})
            variants = [
                Variant(
                    cell,
                    grid.changes_of(cell),
                    description=f"{grid.described(cell)}.",
                    allow_different=allow_different,
                )
                for cell in grid.cells
                if cell != own_cell
            ]
        made = cls(
            name, baseline=baseline, variants=variants, baseline_name=own_cell, select=select,
            **study,
        )  # fmt: skip
        made.design = grid
        return made

    def best(self) -> BestCell:
        """The best cell of this grid, for ``Mode(config=grid.best())`` of another study.

        Raises
        ------
        StudyError
            This is no grid.
        """
        if self.design is None:
            raise StudyError(f"study {self.name!r} is no grid: define it by Study.grid(...)")
        return BestCell(self)

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the baseline and of the variants, in the order of the definition."""
        return (self.baseline_name, *(variant.name for variant in self.variants))

    def variant(self, name: str) -> Variant:
        """The variant of that name; ``StudyError`` with the nearest names if there is none."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise StudyError(f"study {self.name!r} has no variant {name!r}"
                         f"{did_you_mean(name, self.rows)}")  # fmt: skip

    @property
    def margins(self) -> dict[str, float]:
        """Metric to the smallest change of it that matters."""
        if not isinstance(self._margin, Mapping):
            return dict.fromkeys(self.metrics, self._margin)
        return {name: self._margin.get(name, MARGIN) for name in self.metrics}

    @property
    def case_rows(self) -> tuple[str, ...]:
        """The rows that are cases: the variants; in a grid all cells, in the grid's order."""
        if self.design is not None:
            return tuple(self.design.cells)
        return tuple(variant.name for variant in self.variants)

    def resolved(self, mode: str | None = None, cell: str | None = None) -> Rows:
        """The rows as a mode has them.

        Parameters
        ----------
        mode : None gives the definition without any mode's changes
        cell : the grid's cell that the baseline is, where the mode says ``config=grid.best()``
        """
        return self._resolve(self._baseline) if mode is None else self._by_mode[mode][cell]

    def best_cell(self, mode: str) -> BestCell | None:
        """Whose best cell the baseline of *mode* is, where it is one."""
        config = self.modes[mode].config
        return config if isinstance(config, BestCell) else None

    def configuration(self, row: str) -> Any:
        """The configuration of the baseline or of a variant, without any mode's changes."""
        return self.resolved().configurations[row]

    def baseline_of(self, row: str) -> str | None:
        """The row that *row* is compared with; None for the study's baseline."""
        if row == self.baseline_name:
            return None
        return self.variant(row).against or self.baseline_name

    def shown_beside(self, leading: str) -> tuple[str, ...]:
        """The metrics that stand beside the leading one in the report's main table."""
        also = self.also
        if also is None:
            is_small = not self.tables and len(self.metrics) <= _MOST_COLUMNS
            also = self.metrics if is_small else ()
        return tuple(name for name in also if name != leading)

    def cases(self, function: Callable[..., None]) -> Callable[..., None]:
        """Parametrize a test function: one case per variant and mode, ids like ``no_pe-quick``."""
        marks = {mode: getattr(pytest.mark, mode) for mode in self.modes}
        parameters = [
            pytest.param(CaseSpec(self, row, mode), id=f"{row}-{mode}", marks=marks[mode])
            for mode in self.modes
            for row in self.case_rows
        ]
        return pytest.mark.parametrize("ablation", parameters, indirect=True)(function)

    def _check_parts(self) -> None:
        if not callable(self.train):
            raise StudyError(f"train must be a function (config, run), found {self.train!r:.80}")
        if not self.modes:
            raise StudyError("no mode: give quick=Mode(seeds=3, ...) or full=Mode(...)")
        if not self.metrics:
            raise StudyError('no metrics: name what train returns, as in metrics=["top1"]')
        if not self.variants:
            raise StudyError("no variants: an ablation needs at least one")
        for kind, names in (("metric", self.metrics), ("row", self.rows)):
            for name in names:
                if names.count(name) > 1:
                    raise StudyError(f"{names.count(name)} {kind}s are called {name!r}: rename one")

    def _resolve(self, baseline: Any) -> Rows:
        return resolve(baseline, self.baseline_name, self.variants, **self._resolving)

    def _resolve_mode(self, name: str) -> dict[str | None, Rows]:
        """The rows of a mode; by cell, where its baseline is a grid's best one, whichever that is.

        All cells are resolved now, so that a variant which does not fit one of them is an error
        before the grid trains.
        """
        config = self.modes[name].config
        with named(f"mode {name!r}") if config else contextlib.nullcontext():
            if not isinstance(config, BestCell):
                return {None: self._resolve(with_changes(self._baseline, config or {}))}
            by_cell: dict[str | None, Rows] = {}
            for cell, changes in config.changes_in(name).items():
                with named(f"on the cell {cell!r} of {config.study.name!r}"):
                    by_cell[cell] = self._resolve(with_changes(self._baseline, changes))
            return by_cell

    def _check_shown(self) -> None:
        if self.select and self.select not in self.metrics:
            raise StudyError(
                f"select={self.select!r} is none of the study's metrics"
                f"{did_you_mean(self.select, self.metrics)}"
            )
        named_metrics = {
            "also": self.also or (),
            "lower_is_better": self.lower_is_better,
            "gate": self.gate_metrics,
            "margin": self._margin if isinstance(self._margin, Mapping) else (),
        }
        for parameter, names in named_metrics.items():
            for name in names:
                if name not in self.metrics:
                    raise StudyError(
                        f"{parameter} has {name!r}, which is none of the study's metrics"
                        f"{did_you_mean(str(name), self.metrics)}"
                    )
        if self.select in self.lower_is_better:
            raise StudyError(
                f"select={self.select!r} is better the lower it is: models are chosen by a metric "
                f"that is better the higher it is, such as an accuracy"
            )
        for name, margin in self.margins.items():
            if not isinstance(margin, Real) or not 0 <= margin < 1:
                raise StudyError(
                    f"margin is a fraction from 0 to below 1, found {margin!r} for {name!r}"
                )
        for table in self.tables:
            if not isinstance(table, MetricTable):
                raise StudyError(f"tables are a list of MetricTable, found {table!r:.80}")
            table.check(self.metrics)


def _check_modes_of_grid(grid: Grid, modes: Mapping[str, Mode | None]) -> None:
    on_axes = {field for axis in grid.axes for field in axis.fields}
    for name, mode in modes.items():
        config = {} if mode is None or mode.config is None else mode.config
        if isinstance(config, BestCell):
            raise StudyError(f"mode {name!r}: a grid's baseline cannot be another's best cell")
        for field in on_axes & set(config):
            raise StudyError(
                f"mode {name!r} changes {field!r}, which is on an axis of the grid: change other "
                f"fields"
            )
