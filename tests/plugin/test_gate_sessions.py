"""Sessions that save a reference and are compared with it, from the command line to what is left.

A project of two studies: softmax regression, which is really trained, and coins, whose runs vary as
much as one wants. Its reference is saved once; each test goes on with a copy.
"""

import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from projects import Project, set_environment

from pytest_ablation.errors import AblationError
from pytest_ablation.gating import Gating
from pytest_ablation.options import Options
from pytest_ablation.reference import ReferenceError, read_reference
from pytest_ablation.reference_json import json_of, reference_from
from pytest_ablation.store import Store
from pytest_ablation.strict_json import parse

COINS = """
import numpy as np

OTHER = {}  # chance to the draw and the drop that this code has made of it

def train(config, run):
    chance = config["chance"]
    draw, drop = OTHER.get(chance, (0, 0.0))
    right = np.random.default_rng([run.seed, chance, draw]).random(400) < chance / 100 - drop
    run.use_data(train=[1], evaluation=[2])
    run.save_predictions(top1=right)
    return {"top1": float(right.mean())}
"""

STUDY = """
from pytest_ablation import Mode, Study, Variant
from coins import train

study = Study("coins", train=train, baseline={"chance": 85}, metrics=["top1"],
              variants=[Variant("half", chance=80), Variant("none", chance=70)],
              quick=Mode(seeds=3))

@study.cases
def test_coins(ablation):
    ablation.run()
"""

SAVE, GATE = "--ablation-save-reference", "--ablation-gate"
QUICK = ("-m", "quick")
ROWS = {("softmax", "baseline"), ("softmax", "no_bias"), ("coins", "baseline"), ("coins", "half"),
        ("coins", "none")}  # fmt: skip
DOUBTFUL = ("OTHER = {}", "OTHER = {80: (11, 0.05)}")  # five points, which three seeds do not prove


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The project when its reference was just saved, and what pytest said."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch)
        project = Project(tmp_path_factory.mktemp("saved"))
        project.write_study('Variant("no_bias", use_bias=False)')
        (project.path / "coins.py").write_text(COINS)
        (project.path / "test_coins.py").write_text(STUDY)
        result = project.run(*QUICK, SAVE)
    assert result.ret == 0
    return project, result


@pytest.fixture
def copy(project, saved):
    project.copy(saved[0])
    return project


def edit(project, file, old, new):
    path = project.path / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def reference(project):
    return project.path / "reports" / "reference" / "quick.json"


def gate_table(project):
    """(study, variant) to its row of gate.csv; one metric is compared."""
    rows = [row for row in project.rows("gate") if row["study"]]
    found = {(row["study"], row["variant"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def outcomes(project):
    return {key: row["outcome"] for key, row in gate_table(project).items()}


def gate_bytes(project):
    return (project.path / "reports" / "quick" / "gate.csv").read_bytes()


def section(result):
    """What the terminal says of the gate, as one text and as lines."""
    start = next(n for n, line in enumerate(result.outlines) if " ablation gate " in line)
    end = next(n for n, line in enumerate(result.outlines) if line.startswith("report: "))
    lines = result.outlines[start + 1 : end]
    return " ".join(" ".join(lines).split()), lines


# --- green ----------------------------------------------------------------------------------------


def test_saving_writes_a_file_to_commit_and_says_where(saved):
    project, result = saved
    result.stdout.fnmatch_lines(["reference: reports/reference/quick.json"])
    content = json.loads(reference(project).read_text())
    assert content["mode"] == "quick"
    assert not (project.path / "reports" / "quick" / "gate.csv").exists()
    assert "## Gate" not in project.report()


def test_the_same_code_passes_bit_by_bit(copy):
    result = copy.run(*QUICK, "--junitxml=junit.xml", GATE)
    assert result.ret == 0
    assert outcomes(copy) == dict.fromkeys(ROWS, "unchanged")
    text, _ = section(result)
    assert text.startswith("quick: passed: 5 comparisons, all unchanged")
    assert "compared with reports/reference/quick.json" in text
    result.stdout.fnmatch_lines(["15 runs: 0 trained, 15 reused"])
    report = copy.report()
    assert report.index("## Gate") < report.index("## softmax (quick)")
    assert "**passed**: 5 comparisons, all unchanged." in report
    told = {
        (p.get("name"), p.get("value")) for p in ET.parse(copy.path / "junit.xml").iter("property")
    }
    assert ("ablation.gate.top1.outcome", "unchanged") in told
    assert not any(":" in line and line.startswith("::") for line in result.outlines)


# --- worse ----------------------------------------------------------------------------------------


def test_code_that_got_worse_is_red_until_the_change_is_accepted(copy, monkeypatch):
    """A sign in the forward pass: the configuration is what it was, and nearly all is wrong."""
    before = reference(copy).read_bytes()
    edit(copy, "softmax.py", "scores = np.column_stack([x_test, bias]) @ weights",
         "scores = -np.column_stack([x_test, bias]) @ weights")  # fmt: skip
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(copy.path / "step.md"))
    result = copy.run(*QUICK, "--junitxml=junit.xml", GATE)
    assert result.ret == 1
    result.assert_outcomes(passed=3, deselected=1)  # the cases themselves ask for no accuracy
    found = gate_table(copy)
    assert {key: row["outcome"] for key, row in found.items()} == {
        ("softmax", "baseline"): "fail", ("softmax", "no_bias"): "fail",
        ("softmax", "(all rows)"): "fail", ("coins", "baseline"): "unchanged",
        ("coins", "half"): "unchanged", ("coins", "none"): "unchanged",
    }  # fmt: skip
    row = found["softmax", "no_bias"]
    numbers = {name: float(row[name]) for name in ("delta", "ci_low", "ci_high", "margin")}
    assert numbers["ci_low"] < numbers["delta"] < numbers["ci_high"] < -numbers["margin"] == -0.005
    assert numbers["delta"] == pytest.approx(float(row["mean"]) - float(row["reference_mean"]))
    assert float(copy.row("no_bias")["mean"]) == pytest.approx(float(row["mean"]))
    # What all readers are told: study, variant, metric, change, interval, margin, and what to do.
    text, lines = section(result)
    said = [f"{numbers[name]:+.4f}" for name in ("delta", "ci_low", "ci_high")]
    for part in ("softmax no_bias", "top1", "margin 0.005", *said, SAVE, "quick.json"):
        assert part in text
    assert max(map(len, lines)) <= 80
    (command,) = (line for line in result.outlines
                  if line.startswith("::error") and "softmax no_bias" in line)  # fmt: skip
    for part in ("top1", "margin 0.005", *said, SAVE):
        assert part in command
    report = copy.report()
    assert report.index("## Gate") < report.index("## softmax (quick)")
    gate = report[report.index("## Gate") : report.index("## softmax (quick)")]
    for part in ("**failed**", "`no_bias`", "`top1`", "0.005", *said, SAVE):
        assert part in gate
    assert gate in (copy.path / "step.md").read_text()
    case = next(c for c in ET.parse(copy.path / "junit.xml").iter("testcase")
                if "no_bias" in c.get("name"))  # fmt: skip
    told = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert told["ablation.gate.top1.outcome"] == "fail"
    assert float(told["ablation.gate.top1.delta"]) == pytest.approx(numbers["delta"])
    assert reference(copy).read_bytes() == before
    # Accepted: the new numbers are the ones to hold.
    assert copy.run(*QUICK, SAVE).ret == 0
    assert reference(copy).read_bytes() != before
    assert copy.run(*QUICK, GATE).ret == 0
    assert outcomes(copy) == dict.fromkeys(ROWS, "unchanged")


def test_seeds_are_trained_where_they_are_needed_and_the_result_does_not_depend_on_how(copy):
    edit(copy, "coins.py", *DOUBTFUL)
    kept = len(copy.records())
    few = copy.run(*QUICK, GATE, "--ablation-max-seeds=3")
    assert few.ret == 0
    assert outcomes(copy)["coins", "half"] == "inconclusive"
    text, _ = section(few)
    assert "1 of 5 comparisons inconclusive" in text
    assert "could have been missed in half" in text
    assert len(copy.records()) == kept + 9  # the code of the coins is another
    strict = copy.run(*QUICK, GATE, "--ablation-max-seeds=3", "--ablation-strict")
    assert strict.ret == 1
    assert section(strict)[0].startswith("quick: failed: 1 of 5 comparisons inconclusive (strict)")

    more = copy.run(*QUICK, GATE)
    assert more.ret == 1
    assert outcomes(copy)["coins", "half"] == "fail"
    row = gate_table(copy)["coins", "half"]
    assert (row["n_seeds"], row["n_reference_seeds"], row["looks"]) == ("6", "3", "2")
    assert len(copy.records()) == kept + 9 + 3
    assert "To decide, 3 runs beyond the mode's seeds were asked for." in section(more)[0]
    found, summary = gate_bytes(copy), copy.summary_bytes()
    assert {r["n_seeds"] for r in copy.rows()} == {"3"}  # the study's own table keeps to its mode

    again = copy.run(*QUICK, GATE)
    again.stdout.fnmatch_lines(["15 runs: 0 trained, 15 reused"])
    assert len(copy.records()) == kept + 12
    assert (again.ret, gate_bytes(copy)) == (1, found)

    workers = copy.run(*QUICK, "-n", "2", "--ablation-fresh", GATE)
    assert workers.ret == 1
    workers.stdout.fnmatch_lines(["15 runs: 15 trained, 0 reused"])
    assert (gate_bytes(copy), copy.summary_bytes()) == (found, summary)


def test_strictly_seeds_are_spent_on_whatever_is_undecided(copy):
    """Other runs of the same chance: no drop is seen, and none is excluded."""
    edit(copy, "coins.py", "OTHER = {}", "OTHER = {80: (1, 0.0)}")
    assert copy.run(*QUICK, GATE, "--ablation-max-seeds=6").ret == 0
    row = gate_table(copy)["coins", "half"]
    assert (row["outcome"], row["n_seeds"]) == ("inconclusive", "3")
    assert float(row["delta"]) > -0.005
    copy.run(*QUICK, GATE, "--ablation-max-seeds=6", "--ablation-strict")
    row = gate_table(copy)["coins", "half"]
    assert (row["n_seeds"], row["looks"]) == ("6", "2")


def test_an_extra_run_that_fails_is_an_error_though_an_older_session_left_later_seeds(copy):
    edit(copy, "coins.py", *DOUBTFUL)
    copy.run(*QUICK, "--ablation-seeds=8", "test_coins.py")
    for key, content in copy.records().items():
        record = content["record"]
        if (record["seed"], record["config"]) == (4, {"chance": 80}):
            shutil.rmtree(copy.path / ".ablation" / "runs" / key)
    # Not its code, which would give other keys: what it finds in its surroundings.
    copy.write_conftest("""
import numpy as np
draws = np.random.default_rng
def default_rng(seed):
    if seed == [4, 80, 11]:
        raise MemoryError("no room for seed 4")
    return draws(seed)
np.random.default_rng = default_rng
""")
    result = copy.run(*QUICK, GATE)
    assert result.ret == 1
    row = gate_table(copy)["coins", "half"]
    assert row["outcome"] == "error"
    assert "6 seeds were asked for" in row["message"]


# --- what cannot be compared ----------------------------------------------------------------------


def test_what_was_lost_or_changed_is_red_and_is_not_saved(copy):
    before = reference(copy).read_bytes()
    edit(copy, "test_softmax.py", '"no_bias", use_bias=False', '"new", momentum=0.5')
    edit(copy, "coins.py", "train=[1]", 'train=[1 if config["chance"] < 80 else 3]')
    broken = "if [run.seed, chance] == [1, 70]: raise RuntimeError('the disk is gone')"
    edit(copy, "coins.py", "    return", f"    {broken}\n    return")
    result = copy.run(*QUICK, SAVE, GATE)
    assert result.ret == 1
    found = gate_table(copy)
    messages = {key: row["message"] for key, row in found.items() if row["outcome"] == "error"}
    assert found["softmax", "baseline"]["outcome"] == "unchanged"
    assert messages.keys() == {*found} - {("softmax", "baseline")}
    assert "the reference does not have it" in messages["softmax", "new"]
    assert "it is in the reference and has no result" in messages["softmax", "no_bias"]
    assert "the training data" in messages["coins", "half"]
    assert "failed" in messages["coins", "none"]
    assert reference(copy).read_bytes() == before
    output = result.stdout.str()
    assert "quick.json was not written" in output
    assert "coins, none: its status is failed" in output


def test_seeds_that_the_reference_does_not_have_are_an_error(copy):
    result = copy.run(*QUICK, "--ablation-seeds=4", GATE)
    assert result.ret == 1
    assert outcomes(copy) == dict.fromkeys(ROWS, "error")
    text, _ = section(result)
    assert "the reference has no seed 3, only seeds 0, 1, 2" in text


def test_a_part_of_the_studies_is_neither_compared_nor_saved_as_all_of_them(copy):
    before = reference(copy).read_bytes()
    result = copy.run(*QUICK, "test_coins.py", SAVE, GATE)
    assert result.ret == 1
    assert "study softmax is in the reference and has no result" in section(result)[0]
    assert "it holds softmax, which this session did not select" in result.stdout.str()
    assert reference(copy).read_bytes() == before
    result = copy.run(*QUICK, "test_coins.py", "-k", "half", f"{SAVE}=part.json")
    assert result.ret == 1
    assert "not all of its rows were selected" in result.stdout.str()
    assert not (copy.path / "part.json").exists()


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_a_gate_that_met_no_case_is_not_green(project, workers):
    """As where the study's file was renamed: all tests that are left pass."""
    (project.path / "test_other.py").write_text("def test_nothing(): pass\n")
    result = project.run(*workers, GATE)
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"{GATE}: no ablation case was collected, select some"])
    if not workers:
        assert project.run().ret == 0


# --- references that are of no use ---------------------------------------------------------------


def test_without_a_reference_nothing_trains_and_the_file_is_named(project):
    project.write_study('Variant("no_bias", use_bias=False)')
    result = project.run(*QUICK, GATE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = result.stderr.str()
    assert str(reference(project)) in errors
    assert SAVE in errors
    assert project.records() == {}


@pytest.mark.parametrize("option", [GATE, SAVE])
def test_a_test_file_after_the_option_is_not_taken_for_a_reference(project, option):
    project.write_study('Variant("no_bias", use_bias=False)')
    result = project.run(*QUICK, option, "test_softmax.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    expected = f"*{option} test_softmax.py: expected a file that ends with .json*"
    result.stderr.fnmatch_lines([expected])
    assert (project.path / "test_softmax.py").read_text().startswith("\nfrom pytest_ablation")


def gating(folder, **options):
    store = Store(folder / "store")
    return Gating(Options(folder / "reports", store.root, root=folder, **options), store)


def as_full(text):
    """The same file as a session of the other mode would have written it."""
    return json_of(replace(reference_from(parse(text)), mode="full"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "is no reference"),
        (lambda text: "<<<<<<< HEAD\n" + text, "is no reference"),
        (lambda text: text.replace('"schema": 1', '"schema": 99'), "newer version"),
        (as_full, "mode 'full'"),
    ],
)
def test_a_reference_that_cannot_be_used_is_an_error_before_anything_trains(
    saved, tmp_path, change, words
):
    text = reference(saved[0]).read_text()
    path = tmp_path / "reference.json"
    path.write_text(change(text))
    assert path.read_text() != text
    with pytest.raises(ReferenceError, match=words) as error:
        gating(tmp_path, gate=str(path)).read(["quick"])
    assert str(path) in str(error.value)
    assert SAVE in str(error.value)


def test_a_file_of_another_mode_is_not_overwritten(saved, tmp_path):
    """As with ``-m "quick or full"`` and one file for both."""
    quick = read_reference(reference(saved[0]), "quick")
    path = tmp_path / "both.json"
    kept = gating(tmp_path, save_reference=str(path))
    assert kept.save(quick) == path
    before = path.read_bytes()
    with pytest.raises(AblationError, match="it holds results of mode quick"):
        kept.save(replace(quick, mode="full"))
    assert path.read_bytes() == before


def test_where_a_reference_cannot_be_written_nothing_trains(tmp_path):
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(AblationError, match="is a folder"):
        gating(tmp_path, save_reference=str(tmp_path / "taken.json")).read(["quick"])
    (tmp_path / "file").write_text("")
    with pytest.raises(AblationError, match="cannot be written"):
        gating(tmp_path, save_reference=str(tmp_path / "file" / "x.json")).read(["quick"])
