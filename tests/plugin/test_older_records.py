"""Records of the schema before this one are read, with defaults for what they do not hold."""

import json

import pytest
from records_by_hand import rewrite

from pytest_ablation.store import Store

NEW_FIELDS = "references gradients loss_spikes early_stop epoch_orders reported_epoch".split()
NEW_COSTS = "forward_examples_per_second peak_cuda_memory_mib epoch_seconds".split()


def make_older(content):
    """As version 1 of the schema had it."""
    del content["sizes"]
    content["schema"] = 1
    for name in NEW_FIELDS:
        del content["record"][name]
    for name in NEW_COSTS:
        del content["record"]["cost"][name]


def move_to_cuda(content):
    content["record"]["fingerprints"]["device"] = "cuda"


@pytest.fixture
def older_store(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)
    files = sorted((project.path / ".ablation" / "runs").glob("*/record.json"))
    assert len(files) == 6
    for file in files:
        rewrite(file, make_older)
    return files


def test_older_records_are_reused_and_give_the_same_summary(project, older_store):
    summary = project.summary_bytes()
    runs = project.rows("runs")
    result = project.run("-m", "quick")
    result.assert_outcomes(passed=1, deselected=1)
    assert "6 runs: 0 trained, 6 reused" in result.outlines
    assert project.summary_bytes() == summary
    assert [r | {"reused": ""} for r in project.rows("runs")] == [r | {"reused": ""} for r in runs]


def test_what_older_records_do_not_hold_has_its_default(project, older_store):
    record = Store(project.path / ".ablation").read(older_store[0].parent.name)
    assert [getattr(record, name) for name in NEW_FIELDS] == [{}, None, None, None, (), None]
    assert [getattr(record.cost, name) for name in NEW_COSTS] == [None, None, ()]
    assert record.cost.peak_memory_mib > 0


def test_the_one_peak_of_an_older_run_on_cuda_was_the_gpu_s(project, older_store):
    file = older_store[0]
    peak = json.loads(file.read_text())["record"]["cost"]["peak_memory_mib"]
    rewrite(file, move_to_cuda)
    cost = Store(project.path / ".ablation").read(file.parent.name).cost
    assert cost.peak_memory_mib is None
    assert cost.peak_cuda_memory_mib == cost.peak_of_device_mib == peak > 0
