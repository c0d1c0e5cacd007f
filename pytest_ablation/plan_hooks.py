"""The pytest hooks of ``--ablation-plan``: select cases, plan, show the plan, run nothing.

They take the place of the hooks that train. Nothing is written, and pytest-xdist starts no workers,
however many were asked for: their number is part of the time that is shown.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ablation.options import Options
from pytest_ablation.selection import cases_of, leave_out_full_cases

if TYPE_CHECKING:
    from pytest_ablation.forecast import Forecast


class PlanHooks:
    """The hooks of a session that only shows its plan."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self._config = config
        self._options = options
        self._workers = _take_workers(config)
        self._forecast: Forecast | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out full cases unless they were asked for."""
        leave_out_full_cases(self._config, items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Plan the runs of the selected cases."""
        cases = cases_of(session.items)
        if not cases:
            return
        from pytest_ablation.errors import AblationError
        from pytest_ablation.forecast import forecast
        from pytest_ablation.kept_grids import plan_with_kept_grids
        from pytest_ablation.planning import Planner
        from pytest_ablation.store import Store

        planner = Planner.of(self._options, uuid.uuid4().hex)
        try:
            if self._options.fresh:
                plan, specs = planner.plan(cases)
            else:
                plan, specs = plan_with_kept_grids(planner, cases, Store(self._options.store_dir))
        except AblationError as error:
            raise pytest.UsageError(str(error)) from error
        self._forecast = forecast(plan, specs, self._options, self._workers)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run no test at all."""
        return True

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the plan."""
        from pytest_ablation.plan_text import plan_lines

        terminalreporter.write_sep("=", "ablation plan")
        for line in plan_lines(self._forecast, self._options, self._workers):
            terminalreporter.write_line(line)

    def close(self) -> None:
        """Nothing to stop: nothing was begun."""

    def release(self) -> None:
        """Nor anything to give back."""


def _take_workers(config: pytest.Config) -> int:
    """How many workers ``-n`` or ``--tx`` asks pytest-xdist for, 0 for none; it gets none."""
    if getattr(config.option, "dist", "no") == "no":
        return 0
    counts = (spec.partition("*")[0] if "*" in spec else "1" for spec in config.option.tx or ())
    config.option.dist, config.option.tx, wanted = "no", [], sum(map(int, counts))
    return wanted
