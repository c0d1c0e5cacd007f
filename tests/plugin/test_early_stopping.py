"""Runs that stop early: what they tell, and what of them is compared with what."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ablation import Mode, Run, guards
from pytest_ablation.plan import RowPlan

BUDGET = 4


def make_run(epochs=BUDGET):
    return Run(seed=0, mode=Mode(seeds=1, epochs=epochs))


# --- what a run tells --------------------------------------------------------------------------


def test_what_stopping_did_is_kept_with_the_budget_of_the_mode():
    run = make_run(epochs=9)
    run.stopped_early(5, 3, 2)
    assert run.finish({}).early_stop == (5, 3, 2, 9)
    run = Run(seed=0, mode=Mode(seeds=1, rounds=7))
    run.stopped_early(5, best_epoch=3, patience=2, budget=7)
    assert run.finish({}).early_stop._asdict() == {
        "epoch": 5, "best_epoch": 3, "patience": 2, "budget": 7,
    }  # fmt: skip
    assert make_run().finish({}).early_stop is None


def test_without_a_budget_the_error_says_how_to_give_one():
    with pytest.raises(ValueError, match=r"its mode has no epochs: call stopped_early\(.*budget=N"):
        Run(seed=0, mode=Mode(seeds=1)).stopped_early(5, 3, 2)


@pytest.mark.parametrize("told", [(5, 3, 2), (3, 4, 1), (2, -1, 1), (2, 1, -1)])
def test_epochs_that_cannot_be_are_an_error(told):
    with pytest.raises(ValueError, match=r"expects 0 <= best_epoch <= epoch <= budget"):
        make_run(epochs=4).stopped_early(*told)


def run_of(epochs, *, named=True):
    """A run that trained these epochs, each a list of batches."""
    run = make_run()
    for number, batches in enumerate(epochs, start=1):
        for batch in batches:
            run.step(batch, epoch=number if named else None)
    return run


BATCHES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=2), min_size=1, max_size=2)


@given(st.lists(BATCHES, min_size=1, max_size=4), st.lists(BATCHES, min_size=1, max_size=4))
def test_epoch_orders_agree_exactly_where_all_batches_so_far_do(one, other):
    orders, others = (run_of(epochs).finish({}).epoch_orders for epochs in (one, other))
    assert len(orders) == len(one)
    for end in range(1, min(len(one), len(other)) + 1):
        flat = [[batch for epoch in run[:end] for batch in epoch] for run in (one, other)]
        assert (orders[end - 1] == others[end - 1]) == (flat[0] == flat[1])


@given(st.lists(BATCHES, min_size=1, max_size=4))
def test_the_order_to_the_end_of_the_last_epoch_is_the_whole_batch_order(epochs):
    record = run_of(epochs).finish({})
    assert record.epoch_orders[-1] == record.fingerprints["batch_order"]


@pytest.mark.parametrize("epochs", [[None], [1, None, 2], [0, 1], [2], [1, 3], [1, 2, 1], [-1]])
def test_epochs_that_do_not_go_one_by_one_have_no_orders(epochs):
    run = make_run()
    for epoch in epochs:
        run.step([0], epoch=epoch)
    assert run.finish({}).epoch_orders == ()


# --- what is compared --------------------------------------------------------------------------

ROW = RowPlan(
    name="other", baseline="baseline", changes={}, unread=(), allow_different=(), description="",
    keys={0: "k"}, selected=True,
)  # fmt: skip


def record_of(epochs, patience=None, best=None, *, named=True):
    """The record of a run over these epochs; with a patience, it told that it stopped."""
    run = run_of(epochs, named=named)
    run.use_data(train=[1], evaluation=[2])
    if patience is not None:
        run.stopped_early(len(epochs), len(epochs) - patience if best is None else best, patience)
    return run.finish({"top1": 0.5})


FULL = [[[1, 2], [3, 0]], [[0, 1], [2, 3]], [[3, 1], [0, 2]], [[2, 1], [0, 3]]]


def chosen_epochs(changed, length):
    """The first epochs of FULL, of which one may have other batches."""
    epochs = [list(epoch) for epoch in FULL]
    if changed is not None:
        epochs[changed] = [[9, 9]]
    return epochs[:length]


#: The epoch with other batches, how many epochs, the patience, and how long none was better.
RUNS = st.tuples(
    st.none() | st.integers(0, BUDGET - 1),
    st.integers(1, BUDGET),
    st.none() | st.integers(1, 2),
    st.integers(0, BUDGET),
)


def is_due(epochs, patience, best):
    """Whether a rule of that patience ends a run there."""
    return patience is None or len(epochs) == BUDGET or best + patience <= len(epochs)


def differing_by_brute_force(one, other):
    """What the README says of fair comparisons and early stopping, on lists of batches."""
    (epochs, patience, _), (others, other_patience, _) = one, other
    same_rule = patience == other_patience is not None
    whole = (patience is None) != (other_patience is None) and (
        len(epochs if patience is None else others) == BUDGET
    )
    if (same_rule or whole) and is_due(*one) and is_due(*other):
        shared = min(len(epochs), len(others))
        return ["batch_order"] if epochs[:shared] != others[:shared] else []
    flat, other_flat = ([b for epoch in run for b in epoch] for run in (epochs, others))
    steps = ["steps"] if len(flat) != len(other_flat) else []
    return (["batch_order"] if flat != other_flat else []) + steps


@given(RUNS, RUNS)
def test_what_differs_is_what_brute_force_finds(one, other):
    runs = [
        (chosen_epochs(changed, length), patience, max(0, length - waited))
        for changed, length, patience, waited in (one, other)
    ]
    records = [record_of(*run) for run in runs]
    assert guards.differing(ROW, *records) == differing_by_brute_force(*runs)
    assert guards.differing(ROW, *records[::-1]) == differing_by_brute_force(*runs[::-1])


def test_a_run_that_told_no_epochs_is_compared_as_a_whole():
    stopped = record_of(FULL[:2], patience=1)
    whole = record_of(FULL, named=False)
    assert guards.differing(ROW, stopped, whole) == ["batch_order", "steps"]
    assert guards.differing(ROW, whole, stopped) == ["batch_order", "steps"]
    assert (
        "only where all steps tell their epochs, which those of baseline did not: call "
        "run.step(..., epoch=epoch), counted 1, 2, 3 ... Make them equal"
        in guards.unfair(ROW, {0: stopped}, {0: whole})
    )


def test_a_run_that_was_cut_short_is_not_excused_by_a_rule_that_was_not_due():
    short = record_of(FULL[:2], patience=3, best=1)
    for whole in (record_of(FULL), record_of(FULL, patience=3, best=4)):
        assert guards.differing(ROW, short, whole) == ["batch_order", "steps"]
        says = guards.unfair(ROW, {0: short}, {0: whole})
        assert (
            "Early stopping does not account for it: other, seed 0, trained 2 epochs and told that "
            "it stopped in epoch 2 of 4, with epoch 1 its best and a patience of 3." in says
        )
    row = replace(ROW, allow_different=("batch_order", "steps"))
    assert guards.unfair(row, {0: short}, {0: record_of(FULL)}) is None


def test_a_run_that_went_on_after_it_told_of_its_stop_is_compared_as_a_whole():
    run = run_of(FULL)
    run.use_data(train=[1], evaluation=[2])
    run.stopped_early(2, 1, 1)
    went_on, stopped = run.finish({"top1": 0.5}), record_of(FULL[:2], patience=1)
    assert guards.differing(ROW, went_on, stopped) == ["batch_order", "steps"]
    assert "trained 4 epochs and told" in guards.unfair(ROW, {0: went_on}, {0: stopped})
    assert "Early stopping" not in guards.unfair(ROW, {0: stopped}, {0: record_of(FULL[:3])})


def test_other_data_are_unfair_all_the_same():
    run = run_of(FULL[:2])
    run.use_data(train=[5], evaluation=[2])
    run.stopped_early(2, 1, 1)
    stopped = run.finish({"top1": 0.5})
    assert guards.differing(ROW, stopped, record_of(FULL)) == ["train_data"]


@pytest.mark.parametrize(
    ("length", "words"),
    [(1, "over the first epoch, the only one that"), (2, "over the first 2 epochs that")],
)
def test_the_message_says_over_what_the_batch_order_differs(length, words):
    stopped = record_of(chosen_epochs(0, length), patience=1)
    says = guards.unfair(ROW, {0: stopped}, {0: record_of(FULL)})
    assert f"seed 0: batch order {words} both trained. Make them equal" in says


# --- in a study --------------------------------------------------------------------------------

EARLY = "baseline={**BASELINE, 'patience': 1, 'learning_rate': 8.0}"


def early_study(project, variant):
    project.write_study(variant)
    path = project.path / "test_softmax.py"
    text = path.read_text().replace("baseline=BASELINE", EARLY)
    path.write_text(text.replace("quick=Mode(seeds=3, epochs=2)", "quick=Mode(seeds=3, epochs=25)"))


def ends(project):
    """Variant to the epochs that its seeds trained, from the table."""
    rows = [row for row in project.rows("runs") if row["metric"] == "top1"]
    by_name = {}
    for row in rows:
        assert int(row["steps"]) == 10 * int(row["epochs"])
        by_name.setdefault(row["variant"], []).append(int(row["epochs"]))
    return by_name


def test_runs_of_one_rule_that_stop_at_different_epochs_are_fair(project):
    early_study(project, 'Variant("slow", learning_rate=0.01)')
    result = project.run("-m", "quick")
    result.assert_outcomes(passed=1, deselected=1)
    epochs = ends(project)
    assert max(epochs["baseline"]) < 25
    assert epochs["slow"] == [25] * 3, "the rule never stopped it: it used its budget"
    assert project.row("slow")["status"] == "ok"
    assert project.row("slow")["verdict"] != ""
    stops = [c["record"]["early_stop"] for c in project.records().values()]
    told = [stop for stop in stops if stop is not None]
    assert sorted(stop["epoch"] for stop in told) == sorted(epochs["baseline"])
    assert all(stop["epoch"] - stop["best_epoch"] == stop["patience"] == 1 for stop in told)
    assert {stop["budget"] for stop in told} == {25}


def test_another_patience_is_another_rule_and_is_declared_as_before(project):
    early_study(project, 'Variant("patient", patience=3)')
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*patient is not comparable*: seed *: *number of steps (*"])
    early_study(project, 'Variant("patient", patience=3, allow_different=["batch_order", "steps"])')
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)


def test_a_field_that_cuts_training_short_is_no_early_stopping(project):
    early_study(project, 'Variant("short", clip_norm=1e9)')
    code = project.path / "softmax.py"
    always_told = """        if config["clip_norm"] is not None and epoch == 2:
            run.stopped_early(epoch, 1 + int(np.argmin(losses_seen)), 9)
            break
        if config["patience"] is not None and epoch == run.mode.epochs:
            run.stopped_early(epoch, 1 + int(np.argmin(losses_seen)), 9)
"""
    text = code.read_text().replace('if epoch - best >= config["patience"]:', "if False:")
    code.write_text(text.replace("    bias = np.full(len(x_test)", always_told + "    bias = "
                                 "np.full(len(x_test)", 1))  # fmt: skip
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    assert ends(project) == {"baseline": [25] * 3, "short": [2] * 3}
    result.stdout.fnmatch_lines(["*number of steps (20 against 250)*"])
    assert "Early stopping does not account for it: short, seed 0" in project.report()


def test_another_batch_order_over_the_shared_epochs_is_unfair(project):
    early_study(project, 'Variant("big", batch_size=40)')
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*seed 0: batch order over the first * that both trained*"])
    assert "number of steps (" not in project.report()
