"""Which rows get more seeds, what their verdicts rest on, and how often looking again misleads."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from in_process import trained

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.comparisons import compare
from pytest_ablation.looks import alphas
from pytest_ablation.planning import Planner
from pytest_ablation.results import study_result
from pytest_ablation.study import CaseSpec
from pytest_ablation.verdicts import Known, decide, deltas

LOOKS = (3, 6, 12)
SPENT = dict(zip(LOOKS, alphas(LOOKS, 1 - 0.95), strict=True))


def noise(number, spread=0.01):
    return np.random.default_rng(number).normal(0, spread, 12)


#: By row: the metric of twelve seeds. One change is clear at once, two are never.
VALUES = {
    "base": 0.8 + noise(0),
    "bad": 0.4 + noise(1),
    "alike": 0.8 + noise(2),
    "other": 0.8 + noise(3),
}


def study_of(values=VALUES, variants=None, **more):
    """A study whose rows give these values; ``loss`` is one minus ``top1``."""

    def train(config, run):
        value = float(values[config["row"]][run.seed])
        run.use_data(train=[1], evaluation=[2])
        run.save_predictions(x=[value])
        return {"top1": value, "loss": 1 - value}

    rows = [name for name in values if name != "base"]
    arguments = {
        "train": train, "baseline": {"row": "base", "unused": 0}, "metrics": ["top1", "loss"],
        "variants": variants or [Variant(name, row=name) for name in rows],
        "lower_is_better": ["loss"], "quick": Mode(seeds=3), "baseline_name": "base",
    } | more  # fmt: skip
    return Study("adaptive", **arguments)


def planned(study, **planner):
    """The plan of all variants, and how to train each run, those in reserve too."""
    planner = {"auto": True, "most_seeds": 12} | planner
    cases = [(row, CaseSpec(study, row, "quick")) for row in study.case_rows]
    plan, specs = Planner("session", None, "cpu", None, **planner).plan(cases)
    return plan.studies[0], specs


class Session:
    """Trains what a result asks for until it asks for nothing.

    Parameters
    ----------
    step : how many runs at a time, in no order; None: all that are wanted
    fails, left_out : (row, seed) of runs that end without a record, or that nobody trains
    """

    def __init__(self, study, *, step=None, fails=(), left_out=(), **planner):
        self.plan, self.specs = planned(study, **planner)
        self.records, self.failures = {}, {}
        keys = {
            (row.name, seed): key for row in self.plan.rows
            for seed, key in (row.keys | row.reserve).items()
        }  # fmt: skip
        never = {keys[run] for run in left_out}
        order = random.Random(4)
        while wanted := [key for key in self.wanted() if key not in never]:
            order.shuffle(wanted)
            for key in wanted[:step]:
                if key in {keys[run] for run in fails}:
                    self.failures[key] = "the disk is full"
                else:
                    self.records[key] = trained(self.specs[key])

    @property
    def result(self):
        return study_result(self.plan, self.records, self.failures)

    def wanted(self):
        known = self.records.keys() | self.failures.keys()
        keys = [key for row in self.result.plan.rows for key in row.keys.values()]
        return [key for key in dict.fromkeys(keys) if key not in known]

    def seeds(self):
        return {row.name: len(row.runs) for row in self.result.rows}

    def delta(self, row, metric="top1"):
        return self.result.row(row).metrics[metric].delta


def cut(values, need):
    return {name: dict(enumerate(map(float, values[name][:count]))) for name, count in need.items()}


def over_all_looks(delta, alpha):
    """Its p-value beside 5 % says what its interval says: Bonferroni, weighted by the looks."""
    return replace(delta, p_value=pytest.approx(min(1.0, delta.p_value * 0.05 / alpha)))


def test_seeds_go_where_verdicts_are_open_and_to_what_these_are_compared_with():
    session = Session(study_of())
    assert session.seeds() == {"base": 12, "bad": 3, "alike": 12, "other": 12}
    assert session.delta("bad").verdict == "worse"
    assert session.delta("alike").verdict == "inconclusive"
    assert len(session.records) == 3 + 3 * 12


def test_what_is_settled_keeps_the_interval_of_its_look():
    session = Session(study_of())
    need = dict.fromkeys(VALUES, 3)
    pairs = [(name, "base") for name in VALUES if name != "base"]
    expected = compare(cut(VALUES, need), pairs, margin=0.005, alpha=SPENT[3])["bad", "base"]
    assert session.delta("bad") == over_all_looks(expected, SPENT[3])
    full = compare(cut(VALUES, need), pairs, margin=0.005)["bad", "base"]
    assert session.delta("bad").high - session.delta("bad").low > full.high - full.low
    last = {"base": 12, "bad": 3, "alike": 12, "other": 12}
    expected = compare(cut(VALUES, last), pairs, margin=0.005, alpha=SPENT[12])["alike", "base"]
    assert session.delta("alike") == over_all_looks(expected, SPENT[12])
    assert session.delta("bad").p_value < 0.05 < session.delta("alike").p_value


@pytest.mark.parametrize("number", range(8))
def test_every_study_goes_through_the_looks_as_the_procedure_says(number):
    """The procedure written down once more, for rows with one baseline."""
    rng = np.random.default_rng(number)
    values = {"base": 0.8 + rng.normal(0, 0.01, 12)}
    for name, change in (("small", -0.015), ("middle", -0.03), ("large", -0.1), ("none", 0)):
        values[name] = 0.8 + change + rng.normal(0, 0.01, 12)
    pairs = {name: (name, "base") for name in values if name != "base"}
    need, still, verdicts = dict.fromkeys(values, 3), list(pairs), {}
    for size in LOOKS:
        if still:
            need |= dict.fromkeys(["base", *still], size)
        found = compare(
            {n: {s: v for s, v in of.items() if s < size} for n, of in cut(values, need).items()},
            list(pairs.values()), margin=0.005, alpha=SPENT[size],
        )  # fmt: skip
        verdicts |= {name: found[pairs[name]].verdict for name in still}
        still = [name for name in still if verdicts[name] == "inconclusive"]
    session = Session(study_of(values))
    assert session.seeds() == need
    assert {name: session.delta(name).verdict for name in pairs} == verdicts


def test_seeds_double_up_to_the_most_that_are_allowed():
    counts = {most: Session(study_of(), most_seeds=most).seeds()["alike"] for most in (3, 5, 9)}
    assert counts == {3: 3, 5: 5, 9: 9}
    assert Session(study_of(), most_seeds=9).plan.looks == (3, 6, 9)
    assert Session(study_of(), auto=False).seeds() == dict.fromkeys(VALUES, 3)


def test_one_seed_is_never_enough():
    session = Session(study_of(quick=Mode(seeds=1)), most_seeds=4)
    assert session.plan.looks == (1, 2, 4)
    assert min(session.seeds().values()) >= 2
    assert session.delta("bad").verdict == "worse"


@pytest.mark.parametrize("step", [1, 2, 5])
def test_neither_the_order_of_runs_nor_what_a_store_has_beyond_them_decides_anything(step):
    session, at_once = Session(study_of(), step=step), Session(study_of())
    assert session.records.keys() == at_once.records.keys()
    full = {key: trained(spec) for key, spec in session.specs.items()}
    assert len(full) == 48 > len(at_once.records)
    stored = study_result(at_once.plan, full, {})
    for row in at_once.result.rows:
        assert session.result.row(row.name).metrics == row.metrics == stored.row(row.name).metrics
        assert stored.row(row.name).plan == row.plan


def test_runs_that_nobody_asked_for_change_no_verdict():
    """Each of these studies twice: run by run, and with all runs there from the start."""
    names = ["base", "one", "two", "three"]
    plan, _ = planned(study_of(dict.fromkeys(names, np.zeros(12))))
    rng = np.random.default_rng(6)
    settled = 0
    for _ in range(60):
        changes = np.array([0, -0.05, -0.02, -0.015])
        table = 0.8 + changes[:, None] + rng.normal(0, 0.01, (4, 12))
        values = dict(zip(names, table, strict=True))
        need, before = dict.fromkeys(names, 3), None
        while need != before:
            before = need
            known = Known(cut(values, need), set(names[1:]))
            there = {(name, seed) for name in names for seed in range(need[name])}
            grown, _ = decide(plan, known, lambda name, seed, there=there: (
                "finished" if (name, seed) in there else "pending"))  # fmt: skip
            need = {row.name: len(row.keys) for row in grown.rows}
        everything = Known(cut(values, dict.fromkeys(names, 12)), set(names[1:]))
        at_once, _ = decide(plan, everything, lambda name, seed: "finished")
        assert at_once == grown
        settled += min(need.values()) < 12
    assert settled > 30


def test_a_row_in_trouble_gets_no_more_seeds_and_costs_the_others_none():
    session = Session(study_of(), fails=[("alike", 1)])
    assert session.seeds() == {"base": 12, "bad": 3, "alike": 3, "other": 12}
    row = session.result.row("alike")
    assert (row.status, row.metrics["top1"].delta.verdict) == ("failed", None)


def test_an_extra_run_that_fails_ends_its_row_there():
    session = Session(study_of(), fails=[("alike", 4)])
    assert session.seeds() == {"base": 12, "bad": 3, "alike": 6, "other": 12}
    assert session.result.row("alike").status == "failed"
    assert session.delta("alike").verdict is None
    assert session.result.row("other").status == "ok"


def test_a_baseline_without_an_extra_run_leaves_what_was_settled_before():
    session = Session(study_of(), fails=[("base", 4)])
    statuses = {row.name: row.status for row in session.result.rows}
    assert statuses == {"base": "failed", "bad": "ok", "alike": "failed", "other": "failed"}
    assert session.delta("bad").verdict == "worse"


def test_an_extra_run_that_nobody_trained_is_missing_and_leaves_no_verdict():
    session = Session(study_of(), left_out=[("alike", 4)])
    row = session.result.row("alike")
    assert (row.status, row.metrics["top1"].delta.verdict) == ("missing", None)
    assert session.result.row("bad").metrics["top1"].delta.verdict == "worse"


def test_a_lost_extra_run_is_not_waited_for():
    session = Session(study_of(), left_out=[("alike", 4)])
    before = session.seeds()
    key = next(row for row in session.result.plan.rows if row.name == "alike").keys[4]
    after = study_result(session.plan, session.records, {}, lost={key})
    assert before["other"] == 6
    assert len(after.row("other").runs) == 12
    assert after.row("alike").status == "missing"


def test_rows_of_one_model_have_the_same_seeds_and_count_once():
    twins = [Variant(name, row=name) for name in ("bad", "alike")]
    session = Session(study_of(variants=[*twins, Variant("twin", row="alike")]))
    alone = Session(study_of(variants=twins))
    assert session.seeds() == {"base": 12, "bad": 3, "alike": 12, "twin": 12}
    assert session.result.row("twin").same_as == "alike"
    assert session.delta("twin") == session.delta("alike") == alone.delta("alike")
    assert session.delta("bad") == alone.delta("bad")


def test_in_a_chain_only_the_links_that_are_open_get_seeds():
    values = VALUES | {"worst": VALUES["bad"] + noise(7)}
    chain = [Variant("bad", row="bad"), Variant("worst", against="bad", row="worst")]
    session = Session(study_of(values, chain))
    assert session.seeds() == {"base": 3, "bad": 12, "worst": 12}
    assert session.delta("bad").by_seed.keys() == {0, 1, 2}
    assert session.delta("worst").by_seed.keys() == set(range(12))


def test_all_rows_of_a_model_have_the_seeds_that_one_of_them_needs_as_a_baseline():
    values = VALUES | {"worst": VALUES["bad"] + noise(7)}
    variants = [Variant("bad", row="bad"), Variant("twin", row="bad"),
                Variant("worst", against="twin", row="worst")]  # fmt: skip
    assert Session(study_of(values, variants)).seeds() == {
        "base": 3, "bad": 12, "twin": 12, "worst": 12,
    }  # fmt: skip


def test_a_row_that_changed_nothing_says_nothing_of_the_spread_of_others():
    variants = [Variant("alike", row="alike"), Variant("other", row="other")]
    null = Variant("null", unused=1)
    plain = Session(study_of(variants=variants), auto=False)
    with_null = Session(study_of(variants=[null, *variants]), auto=False)
    assert with_null.result.row("null").status == "no_effect"
    assert with_null.delta("null").verdict is None
    assert with_null.delta("alike") == plain.delta("alike")


def test_what_is_compared_with_a_row_that_changed_nothing_is_compared_like_any_other():
    variants = [Variant("null", unused=1), Variant("bad", against="null", row="bad"),
                Variant("other", row="other")]  # fmt: skip
    session = Session(study_of(variants=variants), auto=False)
    assert session.result.row("bad").status == "ok"
    assert session.delta("bad", "loss").verdict == "worse"
    assert session.delta("bad").precision.borrowed > 0


def test_where_lower_is_better_more_is_worse():
    session = Session(study_of(), auto=False)
    up, down = session.delta("bad", "loss"), session.delta("bad")
    assert (up.verdict, down.verdict) == ("worse", "worse")
    assert (up.low, up.high) == pytest.approx((-down.high, -down.low))


def test_a_margin_is_one_metrics():
    session = Session(study_of(margin={"top1": 0.1}), auto=False)
    assert session.delta("alike").verdict == "no_detectable_change"
    assert session.delta("alike", "loss").verdict == "inconclusive"
    assert session.result.plan.margins == {"top1": 0.1, "loss": 0.005}


# --- test examples ----------------------------------------------------------------------------


def with_examples(*, kept=lambda name, seed, table: table, told=True, evaluation=None):
    """Deltas of a study of three seeds and forty test examples: over seeds alone, and over both."""
    rng = np.random.default_rng(2)
    tables = {  # each row knows some examples, and every tenth answer is an accident
        name: (rng.random(40) < 0.7) ^ (rng.random((3, 40)) < 0.1)
        for name in ("base", "one", "two")
    }

    def train(config, run):
        table = tables[config["row"]][run.seed]
        run.use_data(train=[1], evaluation=[2 if evaluation is None else evaluation(run.seed)])
        run.save_predictions(top1=kept(config["row"], run.seed, table))
        return {"top1": float(table.mean()), "loss": 1 - float(table.mean())}

    study = study_of({"base": [], "one": [], "two": []}, train=train)
    plan, specs = planned(study, auto=False, most_seeds=0, interval="seeds+examples")
    records = {key: trained(spec) for key, spec in specs.items()}
    arrays = {
        key: {"top1": np.asarray(kept(s.config["row"], s.seed, tables[s.config["row"]][s.seed]))}
        for key, s in specs.items()
    }
    both = study_result(plan, records, {}, (), arrays.__getitem__ if told else None)
    alone = study_result(replace(plan, interval="seeds"), records, {})
    return alone, both


def test_intervals_over_seeds_and_examples_are_wider_where_examples_matter():
    alone, both = with_examples()
    for name in ("one", "two"):
        narrow, wide = (result.row(name).metrics["top1"].delta for result in (alone, both))
        assert (wide.value, wide.by_seed) == (narrow.value, narrow.by_seed)
        assert wide.high - wide.low > 1.01 * (narrow.high - narrow.low)
        assert both.row(name).metrics["loss"] == alone.row(name).metrics["loss"]


@pytest.mark.parametrize(
    "trouble",
    [
        {"told": False},
        {"evaluation": lambda seed: seed},
        {"kept": lambda name, seed, table: table[: 40 - seed]},
        {"kept": lambda name, seed, table: table[:1]},
        {"kept": lambda name, seed, table: np.stack([table, table])},
        {"kept": lambda name, seed, table: ~table},
    ],
    ids=["nothing kept", "other data", "other sizes", "one example", "no list", "another metric"],
)
def test_results_that_cannot_be_crossed_leave_the_interval_over_seeds(trouble):
    alone, both = with_examples(**trouble)
    assert [row.metrics for row in both.rows] == [row.metrics for row in alone.rows]


# --- error rate -------------------------------------------------------------------------------


def test_looking_again_and_again_misleads_in_one_study_of_twenty_at_most():
    """Four rows without any effect, up to three looks: a verdict of any row is one too many."""
    values = {name: np.zeros(12) for name in ("base", "one", "two", "three", "four")}
    plan, _ = planned(study_of(values, metrics=["top1"], lower_is_better=[]))
    rng = np.random.default_rng(3)
    misled, again = 0, 0
    for _ in range(400):
        table = rng.normal(0.5, 0.02, 12) + rng.normal(0, 0.02, (5, 12))
        known = Known(cut(dict(zip(values, table, strict=True)), dict.fromkeys(values, 12)),
                      {"one", "two", "three", "four"})  # fmt: skip
        grown, looked = decide(plan, known, lambda name, seed: "finished")
        found = deltas(grown, "top1", known, looked)
        misled += any(delta.verdict in ("worse", "better") for delta in found.values())
        again += any(len(look.seeds) == 12 for look in looked.values())
    assert again > 300, "hardly any study was looked at more than once"
    assert misled / 400 <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 400)
