"""``python -m pytest_ablation compare`` from outside: output, files and exit status."""

import functools
import shutil

import pytest
from in_process import result_of
from told_studies import told_study

from pytest_ablation import Variant
from pytest_ablation.cli import main
from pytest_ablation.mode import Mode
from pytest_ablation.reference import reference_of, write_reference

BASELINE = [0.80, 0.81, 0.79, 0.80, 0.82]
LOWER = [0.70, 0.72, 0.69, 0.71, 0.70]
ROOT = "/"  # of the code: no repository


@functools.cache
def reference(name):
    """Of code as it was, of such that lost ten points in one row, or became fickle in one."""
    rows = {"baseline": BASELINE, "no_pe": [0.75, 0.77, 0.74, 0.75, 0.76]}
    if name == "worse":
        rows |= {"baseline": LOWER}
    if name == "wide":
        rows |= {"no_pe": [0.85, 0.62, 0.80, 0.66, 0.82]}
    study = told_study(rows, [Variant("no_pe", positions=None)], full=Mode(seeds=5))
    mode = "full" if name == "full" else "quick"
    return reference_of([result_of(study, mode=mode)], lambda key: {}, ROOT)


@pytest.fixture
def compare(tmp_path, monkeypatch, capsys):
    """Runs the command on references by their names; returns status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(old, new, *options):
        for name in (old, new):
            if name != "missing":
                write_reference(tmp_path / f"{name}.json", reference(name))
        status = main(["compare", f"{old}.json", f"{new}.json", *options])
        output, errors = capsys.readouterr()
        return status, output.splitlines(), errors

    return run


def test_the_same_results_are_unchanged(compare):
    status, lines, errors = compare("good", "good")
    assert (status, errors) == (0, "")
    assert lines[0] == "parts (quick), top1, margin 0.005"
    assert [line.split()[-1] for line in lines[2:4]] == ["unchanged"] * 2
    assert lines[4:] == [
        "quick: passed: 2 comparisons, all unchanged",
        "  compared with good.json",
        "  parts: 2 comparisons, all unchanged",
    ]


def test_a_drop_is_told_in_full_and_is_exit_status_1(compare):
    status, lines, errors = compare("good", "worse")
    assert (status, errors) == (1, "")
    (line,) = [line.split() for line in lines if line.startswith("  baseline")]
    assert line[1:4] == ["0.8040", "0.7040", "-0.1000"]
    assert line[-1] == "FAIL"
    assert lines[4] == "quick: failed: 1 of 2 comparisons got worse by more than its margin"
    assert "    fail: parts baseline: top1 0.7040 against 0.8040 in the reference, change" in lines
    assert max(map(len, lines)) <= 80
    assert "--ablation-save-reference" not in "".join(lines)


def test_the_other_way_round_it_is_a_gain(compare):
    status, lines, _ = compare("worse", "good")
    assert status == 0
    assert any(line.split()[0] == "baseline" and line.endswith("  pass") for line in lines)


def test_a_wider_margin_lets_it_pass(compare):
    assert compare("good", "worse", "--margin", "0.3")[0] == 0


def test_what_is_inconclusive_fails_only_where_that_is_asked_for(compare):
    status, lines, _ = compare("good", "wide")
    assert status == 0
    assert any("could have been missed" in line for line in lines)
    status, lines, _ = compare("good", "wide", "--strict")
    assert status == 1
    assert any(line.endswith("inconclusive (strict)") for line in lines)


def test_folders_of_reports_are_compared(tmp_path, monkeypatch, capsys):
    for name in ("good", "worse"):
        write_reference(tmp_path / name / "results.json", reference(name))
    assert main(["compare", str(tmp_path / "good"), str(tmp_path / "worse")]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_the_tables_go_into_a_file_too(compare, tmp_path):
    status, _, _ = compare("good", "worse", "--markdown", "new/gate.md")
    text = (tmp_path / "new" / "gate.md").read_text(encoding="utf-8")
    assert status == 1
    assert text.startswith("## Gate\n\n**failed**: 1 of 2 comparisons got worse")
    assert "| `parts` | `baseline` | `top1` | 0.8040 | 0.7040 | -0.1000 |" in text
    assert "--ablation-save-reference" not in text


def test_a_file_that_cannot_be_written_is_an_error(compare, tmp_path):
    (tmp_path / "file").write_text("")
    status, lines, errors = compare("good", "good", "--markdown", "file/gate.md")
    assert (status, lines) == (1, [])
    assert errors.startswith("error: file/gate.md cannot be written (")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("missing", "good", "error: there is no reference missing.json"),
        ("good", "missing", "error: there is no reference missing.json"),
        ("full", "good", "error: full.json holds results of mode 'full', expected 'quick'"),
    ],
)
def test_what_cannot_be_read_is_an_error(compare, old, new, error):
    status, lines, errors = compare(old, new)
    assert (status, lines) == (1, [])
    assert errors.startswith(error)


def test_a_metric_that_nobody_has_is_a_wrong_command_line(compare):
    status, lines, errors = compare("good", "good", "--metric", "top2")
    assert (status, lines) == (2, [])
    assert "no study has a metric 'top2'" in errors
    assert "top1" in errors
    assert compare("good", "good", "--metric", "top1")[0] == 0


@pytest.mark.parametrize(
    "arguments", [[], ["a"], ["a", "b", "--margin", "-1"], ["a", "b", "--margin", "nan"],
                  ["a", "b", "--margin", "x"], ["a", "b", "--stric"]],
)  # fmt: skip
def test_a_wrong_command_line_is_exit_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", *arguments])
    assert stop.value.code == 2
    assert "usage: python -m pytest_ablation" in capsys.readouterr().err


def test_what_changed_in_the_configuration_is_an_error(compare, tmp_path):
    rows = {"baseline": BASELINE, "no_pe": BASELINE}
    other = told_study(rows, [Variant("no_pe", positions=None)],
                       baseline={"positions": "learned", "rate": 0.3})  # fmt: skip
    changed = reference_of([result_of(other)], lambda key: {}, ROOT)
    write_reference(tmp_path / "other.json", changed)
    shutil.copy(tmp_path / "other.json", tmp_path / "missing.json")  # not written by compare()
    status, lines, _ = compare("good", "missing")
    assert status == 1
    text = " ".join(" ".join(lines).split())
    assert "rate" in text
    assert "0.3" in text
