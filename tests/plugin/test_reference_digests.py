"""What a reference tells apart: configuration, budget and data, and nothing else."""

import math
import os

import numpy as np
import pytest
from in_process import only_study, planned
from told_sessions import (
    make_study,
    reference_in,
    session,
    train,
    train_in_other_words,
)

from pytest_ablation import Run, Variant
from pytest_ablation.configuration import plain_values
from pytest_ablation.mode import Mode
from pytest_ablation.reference import (
    reference_of,
)
from pytest_ablation.reference_changes import configuration_changes, data_changes
from pytest_ablation.reference_types import (
    ReferenceRow,
    ReferenceRun,
)
from pytest_ablation.results import study_result


def row_of(folder, study, **wishes):
    return reference_in(folder, study, **wishes).studies["parts"].rows["narrow"]


@pytest.mark.parametrize(
    "changed",
    [
        {"baseline": {"width": 16, "rate": 0.2, "limit": math.inf}},
        {"baseline": {"width": 16, "rate": 0.1, "limit": 1e9}},
        {"baseline": {"width": 16, "rate": 0.1, "limit": math.inf, "new": None}},
        {"quick": Mode(seeds=3, epochs=3)},
        {"quick": Mode(seeds=3, epochs=2, rows=(1, 2))},
        {"quick": Mode(seeds=3, epochs=2, table=np.arange(3))},
        {"quick": Mode(seeds=3, epochs=2, config={"rate": 0.7})},
    ],
    ids=["field", "infinite", "new field", "epochs", "new budget", "array", "mode's config"],
)
def test_the_configuration_digest_changes_with_configuration_and_budget(
    reference, tmp_path, changed
):
    row = row_of(tmp_path, make_study(**changed))
    assert row.configuration != reference.studies["parts"].rows["narrow"].configuration
    assert row.data == reference.studies["parts"].rows["narrow"].data


def test_an_array_in_the_budget_counts_with_its_content(tmp_path):
    digests = {
        row_of(tmp_path / name, make_study(quick=Mode(1, table=np.array(table)))).configuration
        for name, table in {"a": [1, 2], "b": [1, 2], "c": [1, 3]}.items()
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"quick": Mode(seeds=[2, 5], epochs=2)},
        {"quick": Mode(seeds=4, epochs=2)},
        {"fn": train_in_other_words},
        {"metrics": ["top1"], "gate": None, "lower_is_better": (), "margin": 0.1},
        {"variants": [Variant("narrow", width=8)]},
        {"baseline": {"limit": math.inf, "rate": 0.1, "width": 64}},
        {"baseline": {"width": 16, "rate": np.float64(0.1), "limit": math.inf}},
    ],
    ids=["seeds", "more seeds", "code", "metrics", "other rows", "a field it changes", "numpy"],
)
def test_the_configuration_digest_does_not_change_with_anything_else(reference, tmp_path, changed):
    old = reference.studies["parts"]
    new = reference_in(tmp_path, make_study(**changed)).studies["parts"]
    assert new.rows["narrow"].configuration == old.rows["narrow"].configuration
    assert configuration_changes(old, new, "narrow") == []
    assert data_changes(old.rows["narrow"], new.rows["narrow"]) == []


def test_records_of_this_process_and_of_the_store_give_the_same_digests(tmp_path):
    study = make_study(baseline={"width": 16, "rate": np.float64(0.1), "pair": (1, 2)},
                       variants=[Variant("narrow", width=8)])  # fmt: skip
    kept, store = session(study, tmp_path)
    plan, specs = planned(study)
    records = {}
    for key, spec in specs.items():
        run = Run(seed=spec.seed, mode=spec.mode, device="cpu")
        records[key] = run.finish(spec.train(spec.config, run), key=key, mode_name="quick",
                                  config=plain_values(spec.config))  # fmt: skip
    own = study_result(only_study(plan), records, {})
    first, second = (reference_of([r], store.predictions, tmp_path).studies for r in (kept, own))
    assert first == second


def test_what_came_out_has_one_digest_for_equal_bits(reference, tmp_path):
    again = row_of(tmp_path, make_study(fn=train_in_other_words))
    runs = reference.studies["parts"].rows["narrow"].runs
    assert [run.outcome for run in again.runs.values()] == [run.outcome for run in runs.values()]
    assert len({run.outcome for run in runs.values()}) == 3


def test_the_changes_of_a_configuration_are_told_field_by_field(reference, tmp_path):
    old = reference.studies["parts"]
    study = make_study(
        baseline={"width": 16, "limit": 1.5, "words": "x" * 200}, quick=Mode(seeds=3, epochs=7)
    )
    new = reference_in(tmp_path, study).studies["parts"]
    *told, words = sorted(configuration_changes(old, new, "narrow"))
    assert told == [
        'limit was "inf", is 1.5', "rate was 0.1, is not there", "the mode's epochs was 2, is 7",
    ]  # fmt: skip
    assert words.startswith('words was not there, is "xxx')
    assert len(words) < 100


@pytest.mark.parametrize("value", [1, 1.0, True, "1", None])
def test_values_of_other_types_are_other_configurations(tmp_path, value):
    study = make_study(baseline={"width": 16, "rate": 1, "limit": 2})
    other = make_study(baseline={"width": 16, "rate": value, "limit": 2})
    old, new = (
        reference_in(tmp_path / n, s).studies["parts"] for n, s in (("a", study), ("b", other))
    )
    is_same = type(value) is int
    assert (old.rows["wide"].configuration == new.rows["wide"].configuration) == is_same
    assert (configuration_changes(old, new, "wide") == []) == is_same


def data_study(told="v1", train_on=(1, 2), test_on=(3,), by_seed=False, **changed):
    def fn(config, run):
        result = train(config, run)
        shift = run.seed if by_seed else 0
        run.use_data(train=[x + shift for x in train_on], evaluation=list(test_on))
        return result

    return make_study(fn=fn, data=lambda config, data_dir: told, **changed)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"told": "v2"}, ["what the study's data function tells"]),
        ({"train_on": (1, 3)}, ["the training data (all seeds)"]),
        ({"test_on": (4,)}, ["the test data (all seeds)"]),
        ({"test_on": (4,), "quick": Mode(seeds=[8, 9], epochs=2)}, ["the test data"]),
        ({"quick": Mode(seeds=[8, 9], epochs=2)}, []),
        ({}, []),
    ],
    ids=["told", "training", "test", "test, other seeds", "other seeds", "nothing"],
)
def test_changes_of_the_data_are_told(tmp_path, changed, words):
    old = row_of(tmp_path / "a", data_study())
    new = row_of(tmp_path / "b", data_study(**changed))
    assert data_changes(old, new) == words
    assert data_changes(new, old) == words
    assert old.configuration == new.configuration


def test_data_that_hang_on_the_seed_are_compared_seed_by_seed(tmp_path):
    three = row_of(tmp_path / "a", data_study(by_seed=True))
    more = row_of(tmp_path / "b", data_study(by_seed=True, quick=Mode(seeds=5, epochs=2)))
    others = row_of(tmp_path / "c", data_study(by_seed=True, quick=Mode(seeds=[8, 9], epochs=2)))
    assert data_changes(three, more) == []
    assert data_changes(three, others) == []
    runs = {**more.runs, 1: ReferenceRun(**{**vars(more.runs[1]), "train_data": "0" * 32})}
    changed = ReferenceRow(**{**vars(more), "runs": runs})
    assert data_changes(three, changed) == ["the training data (seed 1)"]


def test_data_that_only_the_code_of_the_session_decides_keep_their_digest(tmp_path):
    """A function that carries an open file is trained anew each session, on the same data."""
    with open(os.devnull) as carried:

        def fn(config, run):
            assert carried is not None
            return train(config, run)

        rows = [
            row_of(
                tmp_path / name, make_study(fn=fn, data=lambda config, data_dir: 1), session=name
            )
            for name in "ab"
        ]
    assert data_changes(*rows) == []
