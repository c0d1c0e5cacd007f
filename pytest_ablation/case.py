"""What a test function holds as ``ablation``: it runs its case and asks for deltas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_ablation.configuration import did_you_mean
from pytest_ablation.errors import AblationError, UnknownName
from pytest_ablation.results import MetricResult, RowResult

if TYPE_CHECKING:
    from pytest_ablation.session import AblationSession
    from pytest_ablation.statistics import Delta
    from pytest_ablation.study import CaseSpec


class Ablation:
    """One case: a variant of a study in a mode, compared with its baseline.

    The ``ablation`` fixture of a test function that is decorated with ``@study.cases``.
    """

    def __init__(self, session: AblationSession, case: CaseSpec) -> None:
        self._session = session
        self._case = case
        self._result: RowResult | None = None

    @property
    def study(self) -> str:
        return self._case.study.name

    @property
    def variant(self) -> str:
        return self._case.variant

    @property
    def mode(self) -> str:
        return self._case.mode

    @property
    def config(self) -> Any:
        """The variant's resolved configuration, as this mode has it."""
        choice = self._session.plan.study(self.study, self.mode).choice
        if choice is None and self._case.study.best_cell(self.mode) is not None:
            raise AblationError(
                "the configuration is not known before the grid's best cell is: call "
                "ablation.run() first"
            )
        rows = self._case.study.resolved(self.mode, choice.cell if choice is not None else None)
        return rows.configurations[self.variant]

    def run(self) -> RowResult:
        """Train this variant's seeds, then the baseline's if they are not there yet.

        Fails the case, with the reason, when a run failed or diverged, when the comparison is
        unfair, or when the variant turns out to have changed nothing. Calling it again is free.
        """
        __tracebackhide__ = True
        if self._result is None:
            self._result = self._session.run_case(self._case)
        if self._result.status != "ok":
            pytest.fail(self._failure_text(self._result), pytrace=False)
        return self._result

    @property
    def leading(self) -> str:
        """The metric that leads: the study's first, or the one of ``--ablation-metric``."""
        return self._session.plan.study(self.study, self.mode).leading

    def metric(self, name: str | None = None) -> MetricResult:
        """Mean and spread over the seeds, for this variant and its baseline.

        Parameters
        ----------
        name : str, optional
            Default: the leading metric.

        Raises
        ------
        UnknownName
            The study reports no such metric; the message has the nearest names.
        """
        __tracebackhide__ = True
        name = self.leading if name is None else name
        if name not in self._case.study.metrics:
            raise UnknownName(
                f"study {self.study!r} reports no metric {name!r}"
                f"{did_you_mean(name, self._case.study.metrics)}"
            )
        return self.run().metrics[name]

    def delta(self, metric: str | None = None) -> Delta:
        """The change of *metric*, variant minus baseline, paired by seed.

        Without *metric* it is that of the leading one, the first of the study unless
        ``--ablation-metric`` names another.

        With one seed its interval is unbounded (``low`` is ``-inf``) and it has no verdict.

        Raises
        ------
        UnknownName
            The study reports no such metric.
        AblationError
            The case is the cell of a grid that the others are compared with.
        """
        __tracebackhide__ = True
        delta = self.metric(metric).delta
        if delta is None:
            raise AblationError(
                f"{self.variant!r} is the cell that the others of {self.study!r} are compared "
                f"with, and has no delta: ask for ablation.metric(...).mean"
            )
        return delta

    def _failure_text(self, result: RowResult) -> str:
        text = f"{self.study}, {self.variant} ({self.mode}): {result.status}\n{result.message}"
        failures = self._session.failures_of(self._case)
        details = [failure.details for failure in failures if failure.details]
        return "\n\n".join([text, *details[:1]])  # one traceback says it; the rest are alike
