"""What the report says of its intervals: over how many comparisons they hold, and of whom."""

from dataclasses import replace

import pytest
from in_process import only_study, planned, report_of, result_of, trained
from told_studies import told_study

from pytest_ablation import Variant
from pytest_ablation.results import study_result

VALUES = {
    "baseline": [0.80, 0.82, 0.81],
    "one_head": [0.70, 0.73, 0.71],
    "no_ffn": [0.79, 0.82, 0.80],
}
VARIANTS = [Variant("one_head", heads=1), Variant("no_ffn", ffn=None)]
TWIN = Variant("no_ffn_again", ffn=None)  # the same model against the same baseline
BACK = Variant("heads_back", against="one_head", heads=4)  # the baseline's model against a variant


def note(*variants):
    values = {**VALUES, "no_ffn_again": VALUES["no_ffn"], "heads_back": VALUES["baseline"]}
    return report_of(result_of(told_study(values, list(variants))))


@pytest.mark.parametrize(
    ("variants", "count"),
    [
        (VARIANTS, 2),
        ([*VARIANTS, TWIN], 2),  # no further comparison
        ([*VARIANTS, BACK], 3),  # one, though no further model
    ],
)
def test_the_note_counts_the_comparisons_that_share_the_error_rate(variants, count):
    assert f"hold for all {count} comparisons together" in note(*variants)


def test_a_single_variant_shares_nothing():
    text = note(VARIANTS[0])
    assert "together" not in text
    assert "drawn toward" not in text
    assert "They speak of new trainings (other seeds), tested on the same examples." in text


def test_examples_are_only_spoken_of_where_runs_kept_them():
    plan, specs = planned(told_study(VALUES, VARIANTS))
    plan = replace(only_study(plan), interval="seeds+examples")
    records = {key: trained(spec) for key, spec in specs.items()}
    text = report_of(study_result(plan, records, {}, correctness=lambda key: {}))
    assert "They speak of new trainings alone: the runs kept no result per example" in text
