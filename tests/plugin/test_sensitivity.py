"""Probes of the learning rate: what is trained, where it counts, and what the report says."""

import re
import shutil

import pytest
from in_process import planned, report_of, result_of, section

from pytest_ablation import Mode, Study, StudyError, Variant
from pytest_ablation.plan import Plan

TIMES = "\N{MULTIPLICATION SIGN}"
VARIANTS = (
    'Variant("no_bias", use_bias=False), Variant("bias_back", against="no_bias", use_bias=True)'
)
PROBED = 'sensitivity="learning_rate",'
SEEDS = ["-m", "full", "--ablation-seeds=2"]


def value(rate, depth, seed):
    """Best at a rate of 0.3."""
    return 0.8 - abs(rate - 0.3) + 0.05 * depth + 0.01 * seed


def train(config, run):
    rate, depth = config["rate"], config["depth"]
    if rate > 0.5:
        run.log(1, "train", loss=float("nan"))
    if rate < 0.05:
        raise RuntimeError("no progress")
    run.save_predictions(x=[rate, depth, run.seed])
    return {"top1": value(rate, depth, run.seed)}


def study(*variants, rate=0.1, **other):
    baseline = {"rate": rate, "depth": 0, "name": "x"}
    return Study(
        "probed", train=train, baseline=baseline, metrics=["top1"], sensitivity="rate",
        variants=variants or [Variant("deep", depth=1)], quick=Mode(seeds=2), full=Mode([5, 6, 7]),
        **other,
    )  # fmt: skip


def lines_of(study, **session):
    text = section(report_of(result_of(study, mode="full", **session)), "### Health")
    return [line.removeprefix("- ") for line in text.splitlines() if "`rate`" in line]


# --- what is planned --------------------------------------------------------------------------


def test_full_mode_has_two_probes_per_configuration_after_all_other_runs():
    again = Variant("again", against="deep", depth=0)  # is the baseline's configuration
    defined = study(Variant("deep", depth=1), again)
    plan, specs = planned(defined, mode="full")
    probes = list(specs.values())[6:]
    assert len(specs) == 2 * 3 + 2 * 2
    assert list(plan.keys) == list(specs)
    assert [(p.config["depth"], p.config["rate"]) for p in probes] == [
        (0, 0.1 / 3), (0, 0.1 * 3), (1, 0.1 / 3), (1, 0.1 * 3),
    ]  # fmt: skip
    assert {probe.seed for probe in probes} == {5}
    assert probes[0].label.isascii()
    assert planned(defined)[0].keys == tuple(list(planned(defined)[1])[:4])
    assert len(planned(defined)[1]) == 4, "quick mode has none"


def test_probes_reach_other_processes(tmp_path):
    plan, _ = planned(study(), mode="full")
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan


def test_a_probe_that_is_somebodys_row_is_trained_once():
    defined = study(Variant("fast", rate=0.1 * 3))
    plan, specs = planned(defined, mode="full")
    rows = plan.studies[0].rows
    assert rows[0].probes[f"{TIMES}3"] == rows[1].keys[5]
    assert len(specs) == 6 + 1 + 2


@pytest.mark.parametrize(
    ("baseline", "field", "message"),
    [
        ({"rate": 0.1}, "rat", r"row 'baseline': .* no field 'rat' .* did you mean rate\?"),
        ({"rate": "high"}, "rate", r"rate='high' has no third .* expected a positive float"),
        ({"rate": 1}, "rate", r"rate=1 has no third"),
        ({"rate": True}, "rate", r"rate=True has no third"),
        ({"rate": 0.0}, "rate", r"rate=0.0 has no third"),
        ({"rate": float("inf")}, "rate", r"rate=inf has no third"),
    ],
)
def test_a_field_that_cannot_be_varied_is_an_error(baseline, field, message):
    with pytest.raises(StudyError, match=message):
        Study(
            "bad", train=train, baseline=baseline | {"depth": 0}, metrics=["top1"],
            variants=[Variant("deep", depth=1)], full=Mode(seeds=2), sensitivity=field,
        )  # fmt: skip


def test_a_rate_that_the_configuration_refuses_names_the_row():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Config:
        rate: float = 0.1

        def __post_init__(self):
            if self.rate > 1:
                raise ValueError("rate is at most 1")

    with pytest.raises(StudyError, match=r"row 'fast': Config refuses .*rate is at most 1"):
        Study("bad", train=train, baseline=Config(), metrics=["top1"], full=Mode(seeds=2),
              variants=[Variant("fast", rate=0.5)], sensitivity="rate")  # fmt: skip


# --- what the report says ---------------------------------------------------------------------


def test_the_line_compares_with_the_same_seed():
    baseline, deep = lines_of(study(rate=0.16))
    own, third, triple = (value(0.16 * times, 0, 5) for times in (1, 1 / 3, 3))
    assert baseline.startswith(
        f"`baseline`: `rate` {TIMES}1/3 {third:.4f} ({third - own:+.4f}), "
        f"{TIMES}3 {triple:.4f} ({triple - own:+.4f}); at {TIMES}1 {own:.4f} (seed 5 alone)."
    )
    assert deep.startswith(f"`deep`: `rate` {TIMES}1/3 {third + 0.05:.4f} ")


def test_what_becomes_of_a_probe_is_a_fact_and_no_failure():
    result = result_of(study(rate=0.2), mode="full")
    assert [row.status for row in result.rows] == ["ok", "ok"]
    text = report_of(result)
    assert "## Warnings" not in text
    (line, _) = lines_of(study(rate=0.2))
    assert f"{TIMES}3 diverged; at {TIMES}1 " in line
    assert f"{TIMES}1/3 failed (no progress), " in lines_of(study(rate=0.12))[0]
    skipped = lines_of(study(), skip=["baseline rate x3 seed 5", "baseline rate x3"])[0]
    assert f"{TIMES}3 missing" in skipped


def test_a_better_rate_is_advised_beyond_the_margin_only():
    line = lines_of(study(rate=0.16))[0]
    change = value(0.48, 0, 5) - value(0.16, 0, 5)
    assert change < 0
    assert "better" not in line
    line = lines_of(study(rate=0.1))[0]
    change = value(0.1 * 3, 0, 5) - value(0.1, 0, 5)
    assert f"At 0.3 it is {100 * change:+.1f} points better: that is one seed only" in line
    assert "better" not in lines_of(study(rate=0.1, margin=0.25))[0]


def test_a_row_without_a_result_still_shows_its_probes():
    line = lines_of(study(rate=0.6))[0]  # the used rate diverges, a third of it does not
    assert f"{TIMES}1/3 0." in line
    assert f"at {TIMES}1 no result" in line
    assert "better" not in line


# --- in a session -----------------------------------------------------------------------------


def test_a_session_trains_probes_counts_them_and_keeps_them_out_of_the_tables(project):
    project.write_study(VARIANTS)
    project.run(*SEEDS).assert_outcomes(passed=2, deselected=2)
    plain = {name: project.rows(name, "full") for name in ("summary", "history")}
    assert len(project.records()) == 4
    project.write_study(VARIANTS, more=PROBED)
    result = project.run(*SEEDS)
    result.assert_outcomes(passed=2, deselected=2)
    assert {name: project.rows(name, "full") for name in plain} == plain
    assert len(project.rows("runs", "full")) == 3 * 2 * 2
    records = project.records()
    assert len(records) == 4 + 2 * 2
    assert "8 runs: 4 trained, 4 reused" in result.outlines
    assert "8 runs: 4 trained, 4 reused." in project.report("full")
    text = section(project.report("full"), "### Health")
    rates = {}
    for record in records.values():
        run = record["record"]
        config = run["config"]
        if run["seed"] == 0:
            rates[config["use_bias"], round(config["learning_rate"], 6)] = run["metrics"]["top1"]
    for bias, name in ((True, "`baseline`, `bias_back`"), (False, "`no_bias`")):
        used, third, triple = (rates[bias, round(rate, 6)] for rate in (0.5, 0.5 / 3, 1.5))
        assert (
            f"- {name}: `learning_rate` {TIMES}1/3 {third:.4f} ({third - used:+.4f}), "
            f"{TIMES}3 {triple:.4f} ({triple - used:+.4f}); at {TIMES}1 {used:.4f}"
        ) in text


def test_workers_and_pools_give_the_same_report_but_for_the_costs(project):
    project.write_study(VARIANTS, more=PROBED + 'factors=["use_bias", "momentum"],')
    text = (project.path / "test_softmax.py").read_text()
    both = 'Variant("heavy", momentum=0.9), Variant("heavy_bare", momentum=0.9, use_bias=False),'
    text = text.replace("variants=[", f"variants=[{both} ")
    (project.path / "test_softmax.py").write_text(text)
    project.run(*SEEDS).assert_outcomes(passed=4, deselected=4)
    serial, summary = project.report("full"), project.summary_bytes("full")
    shutil.rmtree(project.path / ".ablation")
    project.run(*SEEDS, "-n", "2").assert_outcomes(passed=4)
    assert project.summary_bytes("full") == summary
    assert without_costs(project.report("full")) == without_costs(serial)
    shutil.rmtree(project.path / ".ablation")
    project.run(*SEEDS, jobs=2).assert_outcomes(passed=4, deselected=4)
    assert project.summary_bytes("full") == summary
    assert without_costs(project.report("full")) == without_costs(serial)
    project.run(*SEEDS)
    again = project.report("full")
    project.run(*SEEDS)
    assert project.report("full") == again, "the same records give the same bytes"


def test_a_probe_that_fails_fails_no_case(project):
    project.write_study('Variant("no_bias", use_bias=False)', more=PROBED)
    path = project.path / "softmax.py"
    text = path.read_text()
    check = '    if config["learning_rate"] > 1:\n        raise RuntimeError("too fast")\n'
    path.write_text(re.sub(r"(def train\(config, run\):\n)", rf"\1{check}", text))
    result = project.run(*SEEDS)
    assert result.ret == 0
    result.assert_outcomes(passed=1, deselected=1)
    assert f"{TIMES}3 failed (RuntimeError: too fast); at" in project.report("full")
    assert "## Warnings" not in project.report("full")


def without_costs(text):
    return text.replace(section(text, "### Costs"), "")
