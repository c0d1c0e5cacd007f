"""How long a run will take, from records of runs like it."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import planned, trained
from softmax import BASELINE, train

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.estimates import Estimates, seconds_by_key
from pytest_ablation.record_files import files_of
from pytest_ablation.store import Store
from pytest_ablation.training import name_of


def specs_of(*variants, name="softmax", function=train, seeds=2, epochs=2, mode="quick"):
    study = Study(
        name, train=function, baseline=BASELINE, variants=variants, metrics=["top1"],
        quick=Mode(seeds=seeds, epochs=epochs), full=Mode(seeds=seeds, epochs=epochs),
    )  # fmt: skip
    return list(planned(study, mode=mode)[1].values())


def of_row(specs, row):
    return {spec.seed: spec for spec in specs if spec.label.split(" ")[1] == row}


class Kept:
    """A store with records of real runs that are said to have taken some seconds."""

    def __init__(self, folder):
        self.store = Store(folder)
        self.store.prepare()

    def add(self, spec, seconds, **changes):
        record = trained(spec)
        cost = dataclasses.replace(record.cost, train_seconds=seconds)
        origin = {
            "label": spec.label, "train": name_of(spec.train), "code": spec.code,
            "data": spec.data, "libraries": {}, "budget": dict(spec.mode.budget),
        }  # fmt: skip
        record = dataclasses.replace(record, cost=cost, origin=origin)
        record = dataclasses.replace(record, **changes)
        self.store.put(record.key, files_of(record))
        return self.store.runs / spec.key / "record.json"

    def seconds(self, *specs):
        found = seconds_by_key(specs, self.store)
        assert list(found) == [spec.key for spec in specs if spec.key in found]
        return [found.get(spec.key) for spec in specs]


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path)


HEAVY = Variant("heavy", momentum=0.5)
BOTH = Variant("both", momentum=0.5, use_bias=False)


def test_another_seed_of_the_same_run_counts_with_its_mean(kept):
    heavy = of_row(specs_of(HEAVY, seeds=3), "heavy")
    kept.add(heavy[0], 4.0)
    kept.add(heavy[1], 8.0)
    assert kept.seconds(heavy[2], heavy[0]) == [6.0, 6.0]


def test_without_one_the_configuration_of_fewest_changes_counts(kept):
    specs = specs_of(HEAVY, BOTH)
    baseline, heavy, both = (of_row(specs, name)[0] for name in ("baseline", "heavy", "both"))
    kept.add(baseline, 4.0)
    assert kept.seconds(both) == [4.0]
    kept.add(heavy, 10.0)
    assert kept.seconds(both, baseline) == [10.0, 4.0]


def test_another_budget_is_scaled_by_its_epochs(kept):
    short, long = specs_of(HEAVY, epochs=2), specs_of(HEAVY, epochs=6)
    kept.add(of_row(short, "heavy")[0], 4.0)
    kept.add(of_row(short, "baseline")[0], 1.0)
    assert kept.seconds(*of_row(long, "heavy").values()) == [12.0, 12.0]
    kept.add(of_row(long, "heavy")[0], 7.0)  # what took as many epochs is nearer
    assert kept.seconds(of_row(long, "heavy")[1]) == [7.0]


def other(config, run):
    return train(config, run)


def test_another_function_counts_only_in_the_same_study_and_where_there_is_nothing_else(kept):
    before, now = specs_of(HEAVY, function=other), specs_of(HEAVY)
    kept.add(of_row(before, "heavy")[0], 4.0)
    elsewhere = of_row(specs_of(HEAVY, name="another"), "heavy")[0]
    assert kept.seconds(of_row(now, "heavy")[0]) == [4.0]
    assert kept.seconds(elsewhere) == [None]
    kept.add(of_row(now, "baseline")[0], 9.0)
    assert kept.seconds(of_row(now, "heavy")[0]) == kept.seconds(elsewhere) == [9.0]


def test_the_same_code_is_preferred(kept):
    heavy = of_row(specs_of(HEAVY, seeds=3), "heavy")
    kept.add(heavy[0], 4.0)
    kept.add(dataclasses.replace(heavy[1], code="older"), 100.0)
    assert kept.seconds(heavy[2]) == [4.0]
    assert kept.seconds(dataclasses.replace(heavy[2], code="newest")) == [52.0]


def test_what_a_partial_was_given_does_not_make_it_another_function(kept):
    specs = specs_of(HEAVY, function=partial(train))
    kept.add(of_row(specs, "heavy")[0], 4.0)
    assert kept.seconds(of_row(specs_of(HEAVY), "heavy")[1]) == [4.0]


def test_older_records_count_where_configuration_and_mode_agree(kept):
    specs = specs_of(HEAVY)
    path = kept.add(of_row(specs, "heavy")[0], 4.0)
    content = json.loads(path.read_text())
    content["schema"] = 2
    del content["record"]["origin"]
    path.write_text(json.dumps(content))
    heavy, baseline = (of_row(specs, name)[1] for name in ("heavy", "baseline"))
    full = of_row(specs_of(HEAVY, mode="full", epochs=9), "heavy")[1]
    assert kept.seconds(heavy, baseline, full) == [4.0, None, None]


def test_where_nothing_was_ever_trained_nothing_is_expected(tmp_path):
    assert seconds_by_key(specs_of(HEAVY), Store(tmp_path / "no store")) == {}
    assert not (tmp_path / "no store").exists()


def test_a_record_that_comes_later_is_seen_and_a_diverged_run_is_not(kept):
    specs = specs_of(HEAVY)
    estimates = Estimates(kept.store)
    wanted = of_row(specs, "heavy")[1]
    kept.add(of_row(specs, "baseline")[0], 0.1, status="diverged", metrics={})
    assert estimates.seconds([wanted]) == {}
    kept.add(of_row(specs, "heavy")[0], 4.0)
    assert estimates.seconds([wanted]) == {wanted.key: 4.0}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"train_seconds": 4.0', '"train_seconds": 1e400'),
        lambda text: text.replace('"train_seconds": 4.0', '"train_seconds": NaN'),
        lambda text: text.replace('"train_seconds": 4.0', '"train_seconds": -4.0'),
        lambda text: text.replace('"train_seconds": 4.0', '"train_seconds": true'),
        lambda text: text.replace('"train_seconds": 4.0', '"train_seconds": "4"'),
        lambda text: text.replace('"train_seconds": 4.0', f'"train_seconds": {"9" * 400}'),
        lambda text: text.replace('"train_seconds": 4.0', f'"train_seconds": {"9" * 9000}'),
        lambda text: text.replace('"config": {', '"config": 7, "configuration": {'),
        lambda text: text.replace('"origin": {', '"origin": 7, "provenance": {'),
        lambda text: text.replace('"budget": {', '"budget": [2], "budgets": {'),
        lambda text: '{"record": []}',
    ],
)
def test_a_damaged_record_is_passed_over(kept, damage):
    specs = specs_of(HEAVY)
    path = kept.add(of_row(specs, "heavy")[0], 4.0)
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    kept.add(of_row(specs, "baseline")[0], 9.0)
    assert kept.seconds(of_row(specs, "heavy")[1]) == [9.0]


def test_a_record_that_is_no_file_is_passed_over(kept):
    specs = specs_of(HEAVY)
    path = kept.add(of_row(specs, "heavy")[0], 4.0)
    path.unlink()
    path.mkdir()
    (kept.store.runs / "no folder").write_text("")
    assert kept.seconds(of_row(specs, "heavy")[1]) == [None]


CONFIGS = st.fixed_dictionaries({name: st.integers(0, 2) for name in "abcd"})


@given(
    records=st.lists(st.tuples(CONFIGS, st.integers(1, 99), st.integers(1, 3)), max_size=8),
    config=CONFIGS, epochs=st.integers(1, 3),
)  # fmt: skip
def test_the_estimate_is_the_mean_over_the_nearest(tmp_path_factory, records, config, epochs):
    store = Store(tmp_path_factory.mktemp("store"))
    spec = dataclasses.replace(specs_of(HEAVY)[0], config=config, mode=Mode(seeds=1, epochs=epochs))
    for number, (kept_config, seconds, kept_epochs) in enumerate(records):
        write_record(store, f"{number:032x}", spec, kept_config, seconds, kept_epochs)
    scaled = [
        ((sum(kept[name] != config[name] for name in "abcd"), kept_epochs != epochs),
         seconds * epochs / kept_epochs)
        for kept, seconds, kept_epochs in records
    ]  # fmt: skip
    nearest = [seconds for distance, seconds in scaled if distance == min(scaled)[0]]
    expected = {spec.key: pytest.approx(sum(nearest) / len(nearest))} if nearest else {}
    assert seconds_by_key([spec], store) == expected


def write_record(store, key, spec, config, seconds, epochs):
    """All that an estimate reads."""
    origin = {"label": "softmax row", "train": name_of(spec.train), "code": spec.code,
              "budget": {"epochs": epochs}}  # fmt: skip
    record = {"config": config, "cost": {"train_seconds": seconds}, "status": "ok",
              "mode": "quick", "origin": origin}  # fmt: skip
    folder = Path(store.runs / key)
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps({"record": record}))
