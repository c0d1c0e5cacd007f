"""Grids: the cells of some fields' values, what is wrong with a definition, and the best cell."""

import dataclasses
import math

import pytest
from in_process import planned, result_of
from scipy import stats
from softmax import BASELINE, train

from pytest_ablation import Mode, Study, StudyError, Variant
from pytest_ablation.grids import choose, make_grid
from pytest_ablation.plan import Plan
from pytest_ablation.planning import Planner
from pytest_ablation.study import CaseSpec

AXES = {("batch_size", "momentum"): [(10, 0.0), (20, 0.5)], "learning_rate": [0.05, 0.5, 5.0]}
START = {**BASELINE, "batch_size": 20, "momentum": 0.5, "learning_rate": 0.5}
NAMES = "b{batch_size}-lr{learning_rate}"


def make(**changes):
    arguments = {
        "train": train, "axes": AXES, "baseline": START, "select": "validation_top1",
        "cell_name": NAMES, "allow_different": ["batch_order", "steps"],
        "metrics": ["top1", "validation_top1"],
        "quick": Mode(seeds=3, epochs=2),
    } | changes  # fmt: skip
    return Study.grid(arguments.pop("name", "sizes"), **arguments)


def on_best(grid=None, *variants, **changes):
    """A study whose quick baseline is the best cell of *grid*."""
    arguments = {
        "train": train, "baseline": BASELINE, "metrics": ["top1"],
        "variants": variants or [Variant("no_bias", use_bias=False)],
        "quick": Mode(seeds=3, epochs=2, config=(grid or make()).best()),
    } | changes  # fmt: skip
    return Study("components", **arguments)


# --- cells ------------------------------------------------------------------------------------


def test_every_combination_is_a_case_in_the_order_of_the_axes():
    study = make()
    assert study.case_rows == (
        "b10-lr0.05", "b10-lr0.5", "b10-lr5", "b20-lr0.05", "b20-lr0.5", "b20-lr5",
    )  # fmt: skip
    assert study.baseline_name == "b20-lr0.5"

    @study.cases
    def test_sizes(ablation):
        """Never called here."""

    (mark,) = test_sizes.pytestmark
    assert [case.id for case in mark.args[1]] == [f"{cell}-quick" for cell in study.case_rows]


def test_a_cell_has_its_values_and_all_else_from_the_baseline():
    config = make().configuration("b10-lr5")
    assert config == {**START, "batch_size": 10, "momentum": 0.0, "learning_rate": 5.0}


def test_a_cell_without_a_given_name_is_called_by_the_first_field_of_each_axis():
    grid, own = make_grid(AXES, START)
    assert own == "batch_size_20-learning_rate_0.5"
    assert grid.changes_of(own) == {"batch_size": 20, "momentum": 0.5, "learning_rate": 0.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {}}, "a grid needs an axis"),
        ({"axes": {"learning_rte": [1, 2]}}, "no field 'learning_rte'.*learning_rate"),
        ({"axes": {"momentum": [0.5]}, "cell_name": ""}, "two or more different values"),
        ({"axes": {"momentum": [0.5, 0.5]}, "cell_name": ""}, "two or more different values"),
        ({"axes": {("momentum", "patience"): [(0.5, 1), (1,)]}}, "take 2 values at a time"),
        ({"axes": {**AXES, "momentum": [0.5, 0.9]}}, "'momentum' stands on 2 axes"),
        ({"cell_name": "b{batch_size}"}, "two cells are called 'b10'"),
        ({"cell_name": "b{size}"}, "cannot be filled in .*the fields are batch_size, momentum"),
        ({"cell_name": "b{batch_size}/{learning_rate}"}, "cannot be used"),
        ({"baseline": BASELINE}, "batch_size=20, momentum=0.0.* none of the cells"),
        ({"select": ""}, "a grid needs select="),
        ({"select": "validation_top3"}, "select='validation_top3' is none.*validation_top1"),
        ({"quick": Mode(seeds=3, epochs=2, config={"momentum": 0.1})}, "is on an axis"),
        ({"quick": Mode(seeds=3, epochs=2, config={"momentun": 0.1})}, "no field 'momentun'"),
    ],
)
def test_a_grid_that_makes_no_sense_says_why(changes, message):
    with pytest.raises(StudyError, match=rf"sizes: .*{message}|{message}"):
        make(**changes)


def test_the_baselines_cell_is_reported_without_a_delta_and_the_others_against_it():
    result = result_of(make(), rows=list(make().case_rows))
    own = result.row("b20-lr0.5")
    assert own.status == "ok"
    assert own.metrics["top1"].delta is None
    other = result.row("b10-lr5")
    assert other.metrics["top1"].delta.value == pytest.approx(
        other.metrics["top1"].mean - own.metrics["top1"].mean
    )


def test_one_cell_can_be_selected_alone():
    plan, specs = planned(make(), rows=["b20-lr0.5"])
    (study,) = plan.studies
    assert [row.name for row in study.rows] == ["b20-lr0.5"]
    assert len(study.not_selected) == 5
    assert len(specs) == 3


# --- what a mode changes ----------------------------------------------------------------------


def test_a_modes_config_changes_the_baseline_before_the_variants_do():
    study = Study(
        "modes", train=train, baseline=BASELINE, metrics=["top1"],
        variants=[Variant("slow", learning_rate=0.1)],
        quick=Mode(seeds=1, epochs=1, config={"learning_rate": 1.0, "batch_size": 10}),
        full=Mode(seeds=1, epochs=1),
    )  # fmt: skip
    quick, full = (study.resolved(mode).configurations for mode in ("quick", "full"))
    assert quick["baseline"] == {**BASELINE, "learning_rate": 1.0, "batch_size": 10}
    assert quick["slow"] == {**BASELINE, "learning_rate": 0.1, "batch_size": 10}
    assert full["slow"] == {**BASELINE, "learning_rate": 0.1}
    _, specs = planned(study)
    assert [spec.config for spec in specs.values()] == list(quick.values())


def test_two_modes_of_equal_budget_and_configuration_share_their_runs():
    study = Study(
        "modes", train=train, baseline=BASELINE, metrics=["top1"],
        variants=[Variant("slow", learning_rate=0.1)],
        quick=Mode(seeds=2, epochs=1, config={"batch_size": 20}),
        full=Mode(seeds=2, epochs=1),
    )  # fmt: skip
    assert planned(study)[0].keys == planned(study, mode="full")[0].keys


def test_a_variant_that_a_mode_leaves_without_a_change_is_an_error():
    with pytest.raises(StudyError, match=r"mode 'quick': variant 'slow' resolves to the same"):
        Study(
            "modes", train=train, baseline=BASELINE, metrics=["top1"],
            variants=[Variant("slow", learning_rate=0.1)],
            quick=Mode(seeds=1, config={"learning_rate": 0.1}), full=Mode(seeds=1),
        )  # fmt: skip


def test_a_modes_config_of_another_kind_is_an_error():
    with pytest.raises(StudyError, match=r"a mode's config is the changes .* found \[\('a', 1\)\]"):
        Mode(seeds=1, config=[("a", 1)])


def test_a_mode_keeps_its_config_with_other_seeds():
    assert Mode(seeds=1, config={"a": 1}).with_seed_count(3).config == {"a": 1}


# --- the best cell ----------------------------------------------------------------------------


def settled(study, records=None, change=lambda record: record):
    """The plan of a study after its grid has trained (as *change* has it), and its runs."""
    from in_process import trained

    planner = Planner("session", None, "cpu", None)
    cases = [(row, CaseSpec(study, row, "quick")) for row in study.case_rows]
    plan, specs = planner.plan(cases)
    (open_plan,) = plan.studies
    assert open_plan.is_open
    assert all(not row.keys for row in open_plan.rows)
    if records is None:
        records = {key: change(trained(spec)) for key, spec in specs.items()}
    return (*planner.settle(study, open_plan, records, {}), records)


def test_the_best_cell_is_the_one_of_the_highest_validation_mean():
    study = on_best()
    plan, specs, _ = settled(study)
    grid = result_of(make(), rows=list(make().case_rows))
    means = {row.name: row.metrics["validation_top1"].mean for row in grid.rows}
    best = max(means, key=means.get)
    assert (plan.choice.cell, plan.choice.mean) == (best, means[best])
    assert sorted(means.values())[-2] == means[plan.choice.second]
    on_axes = make().design.changes_of(best)
    assert {spec.config["use_bias"] for spec in specs.values()} == {True, False}
    assert all(spec.config == {**BASELINE, **on_axes, "use_bias": spec.config["use_bias"]}
               for spec in specs.values())  # fmt: skip


def test_the_grids_runs_are_those_of_the_grid_itself():
    """So that a session which selects both trains them once."""
    grid, _ = planned(make(), rows=list(make().case_rows))
    components, _ = planned(on_best())
    assert set(components.keys) == set(grid.keys)


def test_the_lead_over_the_second_is_paired_by_seed():
    grid, _ = make_grid(
        {"learning_rate": [0.1, 0.2, 0.4]}, {"learning_rate": 0.1}, "{learning_rate}"
    )
    values = {
        "0.1": {0: 0.50, 1: 0.60, 2: 0.55},
        "0.2": {0: 0.70, 1: 0.83, 2: 0.75},
        "0.4": {0: 0.72, 1: 0.79, 2: 0.73},
    }
    choice = choose("sizes", grid, "validation_top1", values)
    assert (choice.cell, choice.second) == ("0.2", "0.4")
    best, second = (list(values[cell].values()) for cell in ("0.2", "0.4"))
    expected = stats.ttest_rel(best, second).confidence_interval(0.95)
    assert (choice.lead.low, choice.lead.high) == pytest.approx((expected.low, expected.high))


def test_of_cells_that_are_equally_good_the_first_is_the_best():
    grid, _ = make_grid({"learning_rate": [0.1, 0.2]}, {"learning_rate": 0.1}, "{learning_rate}")
    choice = choose("sizes", grid, "validation_top1", {"0.2": {0: 0.5}, "0.1": {0: 0.5}})
    assert choice.cell == "0.1"


def test_a_cell_of_which_a_run_diverged_is_never_the_best():
    best = settled(on_best())[0].choice.cell

    def diverged(record):
        is_best = make().design.changes_of(best).items() <= record.config.items()
        return dataclasses.replace(record, status="diverged", metrics={}) if is_best else record

    plan, _, _ = settled(on_best(), change=diverged)
    assert plan.choice.cell != best


def test_without_all_of_the_grids_runs_there_is_no_best_cell():
    _, _, records = settled(on_best())
    records.pop(next(iter(records)))
    plan, specs, _ = settled(on_best(), records)
    assert plan.choice is None
    assert not specs
    assert plan.error == (
        "the best cell of sizes cannot be chosen: b20-lr0.5, seed 0: never trained"
    )


def test_where_every_cell_diverged_there_is_no_best_cell():
    plan, _, _ = settled(
        on_best(), change=lambda r: dataclasses.replace(r, status="diverged", metrics={})
    )
    assert "of every cell a run diverged" in plan.error


def test_a_settled_plan_survives_the_way_through_its_file(tmp_path):
    from pytest_ablation.plan import write_settled

    opened, _ = planned(on_best())
    opened.write(tmp_path)
    assert Plan.read(tmp_path) == opened
    plan, _, _ = settled(on_best())
    write_settled(tmp_path, plan)
    assert Plan.read(tmp_path) == opened.with_study(plan)


def test_with_one_seed_the_choice_is_read_back_too(tmp_path):
    from pytest_ablation.plan import write_settled

    study = on_best(make(quick=Mode(seeds=1, epochs=1)))
    plan, _, _ = settled(study)
    assert math.isinf(plan.choice.lead.low)
    assert plan.choice.seeds == 1
    opened, _ = planned(study)
    opened.write(tmp_path)
    write_settled(tmp_path, plan)
    assert Plan.read(tmp_path) == opened.with_study(plan)


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (
            lambda: on_best(make(), Variant("b", batch_size=10)),
            "mode 'quick': on the cell 'b10-lr0.05' of 'sizes': variant 'b' resolves to the same",
        ),
        (
            lambda: on_best(make(), Variant("b", momentum=0.1),
                            baseline={"momentum": 1.0, "batch_size": 1}),
            "mode 'quick': on the cell .*no field 'learning_rate'",
        ),
        (
            lambda: on_best(full=Mode(seeds=3, config=make().best())),
            "mode 'full': .*best cell of 'sizes', which has no mode 'full'",
        ),
        (
            lambda: Study("s", train=train, baseline=BASELINE, metrics=["top1"],
                          variants=[Variant("a", unused=1)], quick=Mode(seeds=1)).best(),
            "'s' is no grid",
        ),
        (
            lambda: make(name="other", quick=Mode(seeds=1, config=make().best())),
            "a grid's baseline cannot be another's best cell",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_cells_is_said_before_anything_trains(define, message):
    with pytest.raises(StudyError, match=message):
        define()
