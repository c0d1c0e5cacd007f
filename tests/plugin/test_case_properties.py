"""What a case tells to JUnit XML, from results of real runs."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from in_process import result_of
from told_gates import gate_row
from told_studies import told_study

from pytest_ablation import Variant
from pytest_ablation.properties import case_properties


@pytest.fixture(scope="module")
def study():
    values = {
        "baseline": [0.8, 0.82, 0.79],
        "no_pe": [0.6, 0.65, 0.58],
        "slow": [0.8, 0.82, 0.79],
        "bad": [0.1, 0.1, 0.1],
    }
    variants = [
        Variant("no_pe", positions=None), Variant("slow", rate=0.01), Variant("bad", heads=1),
    ]  # fmt: skip
    return result_of(told_study(values, variants, diverge=("bad",)))


def properties(study, row, gate=()):
    told = case_properties(study.row(row), study.plan, gate)
    assert len(dict(told)) == len(told)
    return dict(told)


def test_a_variant_tells_its_result(study):
    delta = study.row("no_pe").metrics["top1"].delta
    told = properties(study, "no_pe")
    words = {name: told.pop(f"ablation.{name}") for name in
             ("study", "variant", "mode", "baseline", "status")}  # fmt: skip
    assert words == {
        "study": "parts", "variant": "no_pe", "mode": "quick", "baseline": "baseline",
        "status": "ok",
    }  # fmt: skip
    assert told.pop("ablation.top1.verdict") == "worse"
    assert told.pop("ablation.top1.n_seeds") == "3"
    numbers = {name.removeprefix("ablation.top1."): float(text) for name, text in told.items()}
    assert numbers == pytest.approx({
        "mean": 0.61, "std": np.std([0.6, 0.65, 0.58], ddof=1), "delta": -0.58 / 3,
        "ci_low": delta.low, "ci_high": delta.high, "p_value": delta.p_value,
    })  # fmt: skip


def test_what_is_not_known_is_left_out(study):
    baseline = properties(study, "baseline")
    assert not {name for name in baseline if "delta" in name or "verdict" in name}
    assert "ablation.baseline" not in baseline
    bad = properties(study, "bad")
    assert bad["ablation.status"] == "diverged"
    assert bad["ablation.top1.n_seeds"] == "0"
    assert "ablation.top1.mean" not in bad


def test_a_gate_tells_its_outcome_by_metric(study):
    unbounded = {"low": -float("inf"), "high": float("inf")}
    gate = [gate_row("fail"), gate_row("inconclusive", metric="loss", **unbounded),
            gate_row("error", metric="f1")]  # fmt: skip
    told = properties(study, "no_pe", gate)
    assert {name: text for name, text in told.items() if ".gate." in name} == {
        "ablation.gate.top1.outcome": "fail", "ablation.gate.top1.delta": "-0.0293",
        "ablation.gate.top1.ci_low": "-0.041", "ablation.gate.top1.ci_high": "-0.017",
        "ablation.gate.top1.margin": "0.005",
        "ablation.gate.loss.outcome": "inconclusive", "ablation.gate.loss.delta": "-0.01",
        "ablation.gate.loss.margin": "0.005",
        "ablation.gate.f1.outcome": "error", "ablation.gate.f1.margin": "0.005",
    }  # fmt: skip


def test_all_is_plain_text_whatever_went_in(study):
    odd = gate_row("fail", delta=np.float64(-0.1), low=np.float32(-0.2), margin=0,
                   high=-0.0, metric=np.str_("top1"))  # fmt: skip
    told = case_properties(study.row("no_pe"), study.plan, [odd])
    assert all(type(part) is str for pair in told for part in pair)
    assert dict(told)["ablation.gate.top1.ci_high"] == "0"
    assert json.loads(json.dumps(told)) == [list(pair) for pair in told]
    node = ET.Element("properties")
    for name, value in told:
        ET.SubElement(node, "property", name=name, value=value)
    assert [(p.get("name"), p.get("value")) for p in ET.fromstring(ET.tostring(node))] == told
