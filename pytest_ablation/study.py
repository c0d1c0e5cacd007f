"""What a study is: a baseline configuration, named variants of it, metrics, and modes.

Definitions go in; checked, resolved configurations and pytest parameters come out. Everything that
can be wrong with a definition is an error here, before anything trains.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_ablation.configuration import (
    changed_fields,
    did_you_mean,
    plain_values,
    with_changes,
)
from pytest_ablation.errors import StudyError
from pytest_ablation.factorial import Factorial, find_factorial
from pytest_ablation.metric_tables import MetricTable
from pytest_ablation.mode import Mode
from pytest_ablation.probes import probe_configurations
from pytest_ablation.record import FAIRNESS
from pytest_ablation.run import Run

MODE_NAMES = ("quick", "full")
_MOST_COLUMNS = 6  # metrics in a report's main table, where nobody chose them
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@-]*")

Train = Callable[[Any, Run], Mapping[str, float]]
DataDigest = Callable[[Any, Path | None], Any]


class Variant:
    """A named change to a configuration.

    Parameters
    ----------
    name : str
        Letters, digits and ``_ . + @ -``; it stands in case ids, tables and paths.
    fields : mapping, optional
        The changes, for fields whose names collide with the parameters below.
    against : str, optional
        The row this one is a change of, and is compared with: another variant's name. Default:
        the study's baseline.
    description : str
        One sentence: what it changes, and where the idea comes from.
    allow_different : iterable of str
        What may differ from the baseline without being unfair, because the variant is about it:
        ``train_data``, ``evaluation_data``, ``batch_order``, ``steps``, ``device``.
    **changes
        Field to new value.

    Raises
    ------
    StudyError
        No changes, an unusable name, or an unknown word in *allow_different*.
    """

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Any] | None = None,
        /,
        *,
        against: str | None = None,
        description: str = "",
        allow_different: Iterable[str] = (),
        **changes: Any,
    ) -> None:
        self.name = checked_name("variant", name)
        self.against = against
        self.description = description
        self.allow_different = frozenset(allow_different)
        self.changes = {**(fields or {}), **changes}
        if not self.changes:
            raise StudyError(
                f"variant {name!r} changes nothing: name a field, as in "
                f"Variant({name!r}, dropout=0.0)"
            )
        for word in self.allow_different - set(FAIRNESS):
            raise StudyError(
                f"variant {name!r}: allow_different has {word!r}{did_you_mean(word, FAIRNESS)}"
            )

    def __repr__(self) -> str:
        changes = ", ".join(f"{field}={value!r}" for field, value in self.changes.items())
        return f"Variant({self.name!r}, {changes})"


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
        The reported metrics; higher is better. The first one leads in reports and conclusions,
        unless ``--ablation-metric`` names another.
    quick, full : Mode
        The budgets; at least one of them.
    baseline_name : str
        How the baseline is called in tables and in ``against=``.
    data : callable, optional
        ``data(config, data_dir)`` returns anything that changes when the data on disk change (a
        digest of the files, say); part of every run's key.
    margin : float
        The smallest change of a metric that matters, as a fraction: an interval inside
        ``[-margin, margin]`` means "no detectable change".
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
        margin: float = 0.005,
        description: str = "",
        also: Sequence[str] | None = None,
        tables: Sequence[MetricTable] = (),
        factors: Sequence[str] = (),
        sensitivity: str | None = None,
    ) -> None:
        self.name = checked_name("study", name)
        self.train = train
        self.data = data
        self.margin = margin
        self.description = description
        self.baseline_name = checked_name("baseline", baseline_name)
        self.modes = {n: m for n, m in zip(MODE_NAMES, (quick, full), strict=True) if m is not None}
        self.metrics = tuple(checked_name("metric", metric) for metric in metrics)
        self.variants = tuple(variants)
        self.also = None if also is None else tuple(also)
        self.tables = (tables,) if isinstance(tables, MetricTable) else tuple(tables)
        self.sensitivity = sensitivity
        with _named(self.name):
            self._check_parts()
            self._check_shown()
            self._configurations = self._resolve(baseline)
            self._check_effects()
            self.factorial = self._find_factorial(factors)
            self._probes = self._resolve_probes()

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

    def configuration(self, row: str) -> Any:
        """The resolved configuration of the baseline or of a variant."""
        return self._configurations[row]

    def baseline_of(self, row: str) -> str | None:
        """The row that *row* is compared with; None for the study's baseline."""
        if row == self.baseline_name:
            return None
        return self.variant(row).against or self.baseline_name

    def changes_of(self, row: str) -> dict[str, tuple[Any, Any]]:
        """Field to (its value in the baseline of *row*, its value in *row*)."""
        baseline = self.baseline_of(row)
        if baseline is None:
            return {}
        return changed_fields(self._configurations[baseline], self._configurations[row])

    def probes_of(self, row: str) -> dict[str, Any]:
        """Label to the configuration of *row* with a third of the field that ``sensitivity``
        names, and with three times as much; empty where it names none."""
        return self._probes[row]

    def shown_beside(self, leading: str) -> tuple[str, ...]:
        """The metrics that stand beside the leading one in the report's main table."""
        also = self.also
        if also is None:
            is_small = not self.tables and len(self.metrics) <= _MOST_COLUMNS
            also = self.metrics if is_small else ()
        return tuple(name for name in also if name != leading)

    def cases(self, function: Callable[..., None]) -> Callable[..., None]:
        """Parametrize a test function: one case per variant and mode, ids like ``no_pe-quick``."""
        parameters = [
            pytest.param(
                CaseSpec(self, variant.name, mode),
                id=f"{variant.name}-{mode}",
                marks=getattr(pytest.mark, mode),
            )
            for mode in self.modes
            for variant in self.variants
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
        if not 0 <= self.margin < 1:
            raise StudyError(f"margin is a fraction from 0 to below 1, found {self.margin!r}")

    def _check_shown(self) -> None:
        for name in self.also or ():
            if name not in self.metrics:
                raise StudyError(
                    f"also has {name!r}, which is none of the study's metrics"
                    f"{did_you_mean(str(name), self.metrics)}"
                )
        for table in self.tables:
            if not isinstance(table, MetricTable):
                raise StudyError(f"tables are a list of MetricTable, found {table!r:.80}")
            table.check(self.metrics)

    def _find_factorial(self, factors: Sequence[str]) -> Factorial | None:
        if not factors:
            return None
        plain = {row: plain_values(config) for row, config in self._configurations.items()}
        return find_factorial(factors, plain, self.baseline_name)

    def _resolve_probes(self) -> dict[str, dict[str, Any]]:
        if self.sensitivity is None:
            return {row: {} for row in self.rows}
        probes = {}
        for row in self.rows:
            with _named(f"row {row!r}"):
                probes[row] = probe_configurations(self.sensitivity, self._configurations[row])
        return probes

    def _resolve(self, baseline: Any) -> dict[str, Any]:
        """Row to configuration; a variant's changes apply to the row it is compared with."""
        plain_values(baseline)  # raises for a configuration that cannot be stored
        resolved = {self.baseline_name: baseline}
        waiting = list(self.variants)
        while waiting:
            ready = [v for v in waiting if (v.against or self.baseline_name) in resolved]
            if not ready:
                raise StudyError(_unresolved(waiting, self.rows))
            for variant in ready:
                with _named(f"variant {variant.name!r}"):
                    base = resolved[variant.against or self.baseline_name]
                    resolved[variant.name] = with_changes(base, variant.changes)
                    plain_values(resolved[variant.name])
                waiting.remove(variant)
        return resolved

    def _check_effects(self) -> None:
        for variant in self.variants:
            if not self.changes_of(variant.name):
                idle = ", ".join(f"{field}={value!r}" for field, value in variant.changes.items())
                raise StudyError(
                    f"variant {variant.name!r} resolves to the same configuration as its baseline "
                    f"{self.baseline_of(variant.name)!r}: "
                    f"{idle} is already so; an ablation that changes nothing measures nothing"
                )


@contextlib.contextmanager
def _named(prefix: str) -> Iterator[None]:
    """Put a prefix (whose fault it is) before the message of a StudyError raised inside."""
    try:
        yield
    except StudyError as error:
        raise StudyError(f"{prefix}: {error}") from error


def checked_name(kind: str, name: Any) -> str:
    """*name* if it can stand in ids, tables, spreadsheets and paths; else ``StudyError``."""
    usable = isinstance(name, str) and _NAME.fullmatch(name) and ".." not in name
    if not usable or len(name) > 80:
        raise StudyError(
            f"{kind} name {name!r:.90} cannot be used: expected 1 to 80 letters, digits and "
            f"_ . + @ - with a letter or digit first and no '..'"
        )
    return name


def _unresolved(waiting: list[Variant], rows: tuple[str, ...]) -> str:
    for variant in waiting:
        if variant.against not in rows:
            return (
                f"variant {variant.name!r} is compared against={variant.against!r}, which does "
                f"not exist{did_you_mean(str(variant.against), rows)}"
            )
    names = ", ".join(variant.name for variant in waiting)
    return f"the variants {names} are compared against each other in a circle"
