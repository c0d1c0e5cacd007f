"""What a test function holds as ``ablation``: it runs its case and asks for deltas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ablation.configuration import did_you_mean
from pytest_ablation.errors import AblationError, UnknownName
from pytest_ablation.expectations import Expectation, expectation, failure_text, judged
from pytest_ablation.properties import case_properties
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
        name = self._known_metric(name)
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

    def expect(
        self,
        metric: str | None = None,
        *,
        worse_than: float | None = None,
        no_worse_than: float | None = None,
        better_than: float | None = None,
        no_better_than: float | None = None,
        verdict: str | Iterable[str] | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        proof: bool = True,
    ) -> Delta | MetricResult:
        """Fail the case unless the metric came out as expected; all that is given must hold.

        The sizes of changes are amounts of 0 or more in the metric's own unit (0.02 is two points
        of an accuracy), in the direction that is worse or better for the metric: ``worse_than`` is
        a drop of an accuracy, and a rise of a metric in ``Study(lower_is_better=...)``. They are
        held against the interval of :meth:`delta`, not against its mean.

        Parameters
        ----------
        metric : str, optional
            Default: the leading metric.
        worse_than, better_than : float, optional
            The change is proven to be larger: the whole interval lies beyond this size.
        no_worse_than, no_better_than : float, optional
            The change is proven not to be larger: no part of the interval lies beyond this size
            (non-inferiority). With *proof* false it suffices that the opposite is not proven: the
            interval does not lie beyond it as a whole.
        verdict : str, or several
            The verdict is this one, or one of these.
        at_least, at_most : float, optional
            The mean itself, whatever its spread, is not below or not above this value; for the
            baseline's cell of a grid too, which has no delta.
        proof : bool
            See ``no_worse_than``.

        Returns
        -------
        Delta
            Or the MetricResult, where only ``at_least`` or ``at_most`` is given.

        Raises
        ------
        AblationError
            Before anything trains: nothing is expected, a limit is no finite number or the size of
            a change is negative, two limits contradict each other, *proof* is false without
            ``no_worse_than`` or ``no_better_than``. Afterwards: see :meth:`delta`.
        UnknownName
            Before anything trains: no such metric, no such verdict.

        Notes
        -----
        One seed has no interval, and neither have several with the same difference each: then
        nothing about a change is proven, and only what needs no proof holds.
        """
        __tracebackhide__ = True
        expected = expectation(
            worse_than=worse_than,
            no_worse_than=no_worse_than,
            better_than=better_than,
            no_better_than=no_better_than,
            verdict=verdict,
            at_least=at_least,
            at_most=at_most,
            proof=proof,
        )
        metric = self._known_metric(metric)
        result = self.metric(metric)
        delta = self.delta(metric) if expected.needs_delta else None
        self._fail_unless(expected, metric, delta)
        return result if delta is None else delta

    def properties(self) -> list[tuple[str, str]]:
        """What :meth:`run` found, for JUnit XML; [] before it has run."""
        if self._result is None:
            return []
        plan = self._session.plan.study(self.study, self.mode)
        rows = self._session.gate_rows(self._case)
        return case_properties(self._result, plan, rows)

    def _known_metric(self, name: str | None) -> str:
        """*name*, or the leading metric for None; ``UnknownName`` where the study has none such."""
        name = self.leading if name is None else name
        if name not in self._case.study.metrics:
            raise UnknownName(
                f"study {self.study!r} reports no metric {name!r}"
                f"{did_you_mean(str(name), self._case.study.metrics)}"
            )
        return name

    def _fail_unless(self, expected: Expectation, metric: str, delta: Delta | None) -> None:
        __tracebackhide__ = True
        row = self.run()
        mean = row.metrics[metric].mean
        rises = metric not in self._case.study.lower_is_better
        findings = judged(expected, mean, delta, higher_is_better=rises)
        if any(finding.outcome != "holds" for finding in findings):
            text = failure_text(
                f"{self.study}, {self.variant} ({self.mode}): {metric} is not as expected",
                findings,
                mean=mean,
                delta=delta,
                values={seed: record.metrics[metric] for seed, record in row.records.items()},
                names=(self.variant, row.plan.baseline or ""),
            )
            pytest.fail(text, pytrace=False)

    def _failure_text(self, result: RowResult) -> str:
        text = f"{self.study}, {self.variant} ({self.mode}): {result.status}\n{result.message}"
        failures = self._session.failures_of(self._case)
        details = [failure.details for failure in failures if failure.details]
        return "\n\n".join([text, *details[:1]])  # one traceback says it; the rest are alike
