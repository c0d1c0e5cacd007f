"""Studies whose runs give the numbers that a test says, and the result of one on a best cell."""

from __future__ import annotations

from in_process import result_of, trained

from pytest_ablation import Study
from pytest_ablation.mode import Mode
from pytest_ablation.planning import Planner
from pytest_ablation.results import study_result
from pytest_ablation.study import CaseSpec

SIZES = {"width": [64, 128, 256], "rate": [0.0005, 0.001]}


def told_grid(values, *, axes=None, diverge=(), history=None, data=None, **study):
    """A grid whose cells give these values.

    Parameters
    ----------
    values : the first field's value of each axis to a validation value per seed
    axes : default ``SIZES``; the first cell of all is the baseline's
    diverge : the cells whose runs diverge
    history : (cell, seed) to {split: {metric: value per epoch}}
    data : cell to what it trains on
    """
    axes = axes or SIZES
    names = [name if isinstance(name, str) else name[0] for name in axes]

    def train(config, run):
        cell = tuple(config[name] for name in names)
        run.save_predictions(x=[run.seed, *(hash(value) for value in cell)])
        if data is not None:
            run.use_data(train=[data[cell]], evaluation=[1])
        if cell in diverge:
            run.step([0], epoch=1, loss=float("nan"))  # importing math would make planning slow
        log(run, history(cell, run.seed) if history is not None else {})
        value = values[cell][run.seed]
        return {"top1": value - 0.1, "validation_top1": value}

    first = {name: options[0] for name, options in axes.items()}
    baseline = {}
    for name, value in first.items():
        baseline |= {name: value} if isinstance(name, str) else dict(zip(name, value, strict=True))
    arguments = {
        "train": train, "axes": axes, "baseline": baseline, "select": "validation_top1",
        "cell_name": "-".join(f"{{{name}}}" for name in names),
        "metrics": ["top1", "validation_top1"],
        "quick": Mode(seeds=len(next(iter(values.values())))),
    } | study  # fmt: skip
    return Study.grid("sizes", **arguments)


def told_study(values, variants, *, baseline=None, history=None, diverge=(), **study):
    """A study whose rows give these values.

    Parameters
    ----------
    values : row to a value per seed
    variants : list of Variant
    baseline : configuration; default: all components are there
    history : (row, seed) to {split: {metric: value per epoch}}
    diverge : the rows whose runs diverge
    """
    by_configuration = {}

    def train(config, run):
        row = by_configuration[repr(sorted(config.items()))]
        run.save_predictions(x=[run.seed, hash(row)])
        if row in diverge:
            run.step([0], epoch=1, loss=float("nan"))
        log(run, history(row, run.seed) if history is not None else {})
        return {"top1": values[row][run.seed]}

    baseline = baseline or {
        "positions": "learned",
        "heads": 4,
        "ffn": 64,
        "tied": True,
        "rate": 0.1,
    }
    arguments = {
        "train": train, "baseline": baseline, "variants": variants, "metrics": ["top1"],
        "quick": Mode(seeds=len(next(iter(values.values())))),
    } | study  # fmt: skip
    made = Study("parts", **arguments)
    for row in reversed(made.rows):  # the first of several rows of one configuration gives it
        by_configuration[repr(sorted(made.configuration(row).items()))] = row
    return made


def log(run, history):
    for split, metrics in history.items():
        for metric, values in metrics.items():
            for epoch, value in enumerate(values, 1):
                run.log(epoch, split, **{metric: value})


def of_grid(grid, **session):
    """The result of a session that selects all cells, unless ``rows`` says which."""
    return result_of(grid, **{"rows": list(grid.case_rows)} | session)


def on_best_cell(study):
    """The result of a study on a grid's best cell, grid and study trained here."""
    planner = Planner("session", None, "cpu", None)
    plan, specs = planner.plan([(row, CaseSpec(study, row, "quick")) for row in study.case_rows])
    (opened,) = plan.studies
    records = {key: trained(spec) for key, spec in specs.items()}
    settled, more = planner.settle(study, opened, records, {})
    records |= {key: trained(spec) for key, spec in more.items() if key not in records}
    return study_result(settled, records, {})
