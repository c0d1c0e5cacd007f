"""The plan of a session as far as kept runs can tell it, without any training.

Where the grid that a study's baseline is the best cell of has been trained, that cell is known. A
planner and the store go in, the plan and how to train each run come out.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_ablation.plan import Plan, RunSpec, StudyPlan
from pytest_ablation.planning import Planner
from pytest_ablation.record import Record
from pytest_ablation.store import DamagedRecord, Store
from pytest_ablation.study import CaseSpec


def plan_with_kept_grids(
    planner: Planner, cases: Iterable[tuple[str, CaseSpec]], store: Store
) -> tuple[Plan, dict[str, RunSpec]]:
    """As :meth:`Planner.plan`, but studies are open only where runs of their grid are missing.

    Raises
    ------
    StudyError
        See :meth:`Planner.plan`.
    """
    cases = list(cases)
    plan, specs = planner.plan(cases)
    for study in {id(case.study): case.study for _, case in cases}.values():
        for mode in [p.mode for p in plan.studies if p.name == study.name and p.is_open]:
            open_plan = plan.study(study.name, mode)
            records = _records(open_plan, store)
            if records is not None:
                settled, more = planner.settle(study, open_plan, records, {})
                plan, specs = plan.with_study(settled), specs | more
    return plan, specs


def _records(plan: StudyPlan, store: Store) -> dict[str, Record] | None:
    """The records of a grid's runs, None where one is missing."""
    records = {}
    for key in plan.candidate_keys:
        try:
            record = store.read(key)
        except DamagedRecord:
            return None
        if record is None:
            return None
        records[key] = record
    return records
