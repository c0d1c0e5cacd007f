"""The result of a study, planned and trained in the test's own process, without pytest between."""

from __future__ import annotations

from pytest_ablation import Diverged, Run
from pytest_ablation.configuration import plain_values
from pytest_ablation.plan import Plan
from pytest_ablation.planning import Planner
from pytest_ablation.report import SessionFacts, markdown
from pytest_ablation.results import StudyResult, study_result
from pytest_ablation.study import CaseSpec, Study

FACTS = SessionFacts(mode="quick", runs=0, trained=0, reused=0, warnings=())


def planned(study: Study, *, mode="quick", rows=None, metric=None):
    """The plan and the specifications of a session that selects these variants (default: all)."""
    names = rows or [variant.name for variant in study.variants]
    cases = [(f"test.py::test[{name}]", CaseSpec(study, name, mode)) for name in names]
    return Planner("session", None, "cpu", None, metric).plan(cases)


def result_of(
    study: Study, *, mode="quick", rows=None, metric=None, skip=(), change=lambda record: record
) -> StudyResult:
    """Train all runs that a session would, but for the labels in *skip*, and compare them.

    A training function's exception is a failed run, as everywhere. *change* is what a machine that
    this is not (one with a GPU) would have recorded.
    """
    plan, specs = planned(study, mode=mode, rows=rows, metric=metric)
    records, failures = {}, {}
    for key, spec in specs.items():
        if spec.label.partition(" ")[2] in skip:
            continue
        try:
            records[key] = change(trained(spec))
        except RuntimeError as error:
            failures[key] = str(error)
    return study_result(only_study(plan), records, failures)


def trained(spec):
    """The record of one run."""
    run = Run(seed=spec.seed, mode=spec.mode, device="cpu")
    try:
        metrics = spec.train(spec.config, run)
    except Diverged:
        metrics = {}
    config = plain_values(spec.config)
    return run.finish(metrics, key=spec.key, mode_name=spec.mode_name, config=config)


def only_study(plan: Plan):
    (study,) = plan.studies
    return study


def report_of(*results: StudyResult) -> str:
    return markdown(results, FACTS)


def section(text: str, title: str) -> str:
    """A section of a report, from its heading to the next one of its level or above."""
    lines = text.splitlines()
    start = lines.index(title)
    level = len(title) - len(title.lstrip("#"))
    ends = [
        number
        for number, line in enumerate(lines[start + 1 :], start + 1)
        if line.startswith("#") and len(line) - len(line.lstrip("#")) <= level
    ]
    return "\n".join(lines[start : ends[0] if ends else None])


def table_in(text: str, number: int = 0) -> list[dict[str, str]]:
    """A Markdown table in *text*: a dict per line, header to cell."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in blocks[number])
    return [dict(zip(header, row, strict=True)) for row in rows]
