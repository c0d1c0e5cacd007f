"""Figures beside the variants, and the epoch that is reported: told, checked, kept."""

import math

import numpy as np
import pytest

from pytest_ablation import Mode, Run


def make_run():
    return Run(seed=0, mode=Mode(seeds=1, epochs=2))


def test_references_are_kept_as_plain_floats_and_add_up():
    run = make_run()
    run.reference("TF-IDF", top1=np.float32(0.25))
    run.reference("untrained encoder", top1=0.5, top5=1)
    run.reference("TF-IDF", top5=0.75)
    references = run.finish({"top1": 0.5}).references
    assert references == {
        "TF-IDF": {"top1": 0.25, "top5": 0.75},
        "untrained encoder": {"top1": 0.5, "top5": 1.0},
    }
    assert {type(value) for told in references.values() for value in told.values()} == {float}


def test_metrics_of_a_reference_may_have_any_name():
    run = make_run()
    run.reference("TF-IDF", name=0.5, self=0.25)
    assert run.finish({}).references == {"TF-IDF": {"name": 0.5, "self": 0.25}}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_a_reference_that_is_not_finite_is_an_error_that_names_it(value):
    run = make_run()
    with pytest.raises(ValueError, match=r"metric 'top5' of reference 'TF-IDF' is .* finite"):
        run.reference("TF-IDF", top1=0.5, top5=value)
    assert run.finish({}).references == {}


@pytest.mark.parametrize("value", ["0.5", None, True])
def test_a_reference_that_is_no_number_is_an_error(value):
    with pytest.raises(TypeError, match="metric 'top1' of reference 'TF-IDF' must be a number"):
        make_run().reference("TF-IDF", top1=value)


@pytest.mark.parametrize("name", ["", " ", "x" * 81, 5, None])
def test_a_name_that_does_not_fit_a_table_is_an_error(name):
    with pytest.raises(ValueError, match="a text of 1 to 80 characters, found"):
        make_run().reference(name, top1=0.5)


def test_a_name_of_80_characters_fits():
    make_run().reference("ü" * 80, top1=0.5)


def test_a_reference_without_figures_is_an_error():
    with pytest.raises(ValueError, match="'TF-IDF' has no figures"):
        make_run().reference("TF-IDF")


def test_the_reported_epoch_is_kept_and_not_negative():
    run = make_run()
    assert run.finish({}).reported_epoch is None
    run.report_epoch(np.int64(2))
    assert run.finish({}).reported_epoch == 2
    with pytest.raises(ValueError, match="found -1"):
        run.report_epoch(-1)


def test_references_are_in_the_store_and_survive_reuse(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    code = project.path / "softmax.py"
    tell = "    run.reference('chance | all', top1=1 / 3, top2=2 / 3)\n    run.report_epoch(2)\n"
    code.write_text(code.read_text().replace("    run.parameters", tell + "    run.parameters"))
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)
    first = project.records()
    assert len(first) == 6
    for content in first.values():
        assert content["record"]["references"] == {"chance | all": {"top1": 1 / 3, "top2": 2 / 3}}
        assert content["record"]["reported_epoch"] == 2
    project.run("-m", "quick").assert_outcomes(passed=1, deselected=1)
    assert project.records() == first


def test_a_bad_reference_fails_its_run_and_is_named(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    code = project.path / "softmax.py"
    tell = "    run.reference('chance', top1=float('nan'))\n"
    code.write_text(code.read_text().replace("    run.parameters", tell + "    run.parameters"))
    result = project.run("-m", "quick")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*ValueError: metric 'top1' of reference 'chance' is nan*"])
