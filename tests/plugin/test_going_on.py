"""What a session lacks, in sentences, and the command that goes on."""

import re
import shlex
from dataclasses import replace

import pytest
import softmax
from hypothesis import given
from hypothesis import strategies as st
from in_process import FACTS, planned, trained

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.going_on import (
    Ending,
    Standing,
    broken_by,
    command_of,
    missing_text,
    sentences,
    standing,
)
from pytest_ablation.report import markdown
from pytest_ablation.results import study_result
from pytest_ablation.told import told_once

CTRL_C = Ending("Ctrl-C", 4, ("pytest", "-m", "quick"))


def told(**facts):
    return sentences(Standing(**{"ending": CTRL_C, **facts}))


def test_an_interrupted_session_counts_what_is_there_and_what_is_not():
    assert told(runs=30, there=12, missing=18, begun=2) == [
        "Interrupted (Ctrl-C): 12 of 30 runs are there, 18 are missing (of these 2 had begun), "
        "4 tests did not report.",
        "To go on, run the same command again (finished runs are reused)",
    ]


def test_one_is_one():
    ending = Ending("Ctrl-C", 1)
    first, _ = told(ending=ending, runs=2, there=1, missing=1, begun=1, epochs=(12,))
    assert first == (
        "Interrupted (Ctrl-C): 1 of 2 runs is there, 1 is missing (it had begun), 1 test did not "
        "report. 1 run goes on from its checkpoint, after epoch 12."
    )


def test_all_of_one_run_is_one_run_too():
    first, _ = told(ending=Ending("pytest.exit", 1), runs=1, there=1)
    assert first == "Interrupted (pytest.exit): 1 of 1 run is there, 1 test did not report."


@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        ((3, 12), "2 runs go on from their checkpoints, after epochs 3 and 12."),
        ((3, 3, 3), "3 runs go on from their checkpoints, after epoch 3."),
    ],
)
def test_runs_with_a_checkpoint_are_told_apart(epochs, words):
    first, _ = told(runs=30, there=12, missing=18, begun=5, epochs=epochs)
    assert first.endswith(words)


def test_failed_runs_have_words_of_their_own():
    none = Ending(command=("pytest",))
    assert told(ending=none, runs=15, there=14, failed=("study row seed 2",)) == [
        "1 of 15 runs failed: study row seed 2.",
        "Once the cause is gone, run the same command again: only the failed run is tried again "
        "(finished runs are reused)",
    ]
    names = tuple(f"study row seed {seed}" for seed in range(5))
    first, how = told(ending=none, runs=15, there=9, missing=1, failed=names)
    assert first == (
        "Incomplete: 9 of 15 runs are there, 1 is missing. 5 of 15 runs failed: study row seed 0, "
        "study row seed 1, study row seed 2 and 2 more."
    )
    assert how.startswith("To go on")
    assert "failed ones are tried again" in how


def test_nothing_is_said_where_nothing_is_left_to_do():
    assert told(ending=Ending(), runs=15, there=15) == []
    assert told(ending=Ending("stopping after 1 failures"), runs=15, there=15) == []  # at its end


def test_a_session_that_was_stopped_with_all_runs_there_says_so():
    now = Standing(Ending("stopping after 1 failures", 3), runs=15, there=15)
    assert now.is_interrupted
    assert sentences(now)[0] == (
        "Interrupted (stopping after 1 failures): all 15 runs are there, 3 tests did not report."
    )


def test_fresh_is_left_out_of_the_command_and_the_sentence_says_why():
    ending = Ending("Ctrl-C", 4, ("pytest", "--ablation-fresh", "-m", "quick"), fresh=True)
    now = Standing(ending, runs=2, there=1, missing=1)
    assert now.command == "pytest -m quick"
    assert "without --ablation-fresh (what is kept is reused" in sentences(now)[1]


WORDS = st.lists(st.text(st.characters(exclude_characters="\0"), max_size=8))


@given(WORDS)
def test_a_shell_gets_the_words_that_pytest_got(args):
    words = command_of(["/usr/bin/pytest", *args], ["python", "/usr/bin/pytest", *args], args)
    command = Standing(Ending(command=tuple(words))).command
    kept = [word for word in args if word != "--ablation-fresh"]
    assert shlex.split(command) == ["pytest", *kept]


@pytest.mark.parametrize(
    ("program", "original", "expected"),
    [
        ("/v/bin/pytest", ["/v/bin/python", "/v/bin/pytest", "-x"], "pytest -x"),
        ("/v/bin/py.test", ["/v/bin/python", "/v/bin/py.test", "-x"], "pytest -x"),
        ("/v/pytest/__main__.py", ["python", "-m", "pytest", "-x"], "python -m pytest -x"),
        (
            "/v/pytest/__main__.py",
            ["../v/python", "-W", "error", "-m", "pytest", "-x"],
            "../v/python -W error -m pytest -x",
        ),
        (
            "/v/pytest/__main__.py",
            ["python", "/v/bin/coverage", "run", "-m", "pytest", "-x"],
            "python /v/bin/coverage run -m pytest -x",
        ),
        ("/v/pytest/__main__.py", ["python", "-mpytest", "-x"], "python -m pytest -x"),
        ("run_tests.py", ["python", "run_tests.py"], "pytest -x"),  # it called pytest.main
    ],
)
def test_the_command_is_the_one_that_was_typed(program, original, expected):
    assert shlex.join(command_of([program], original, ["-x"])) == expected


@given(WORDS, st.sampled_from(["", "--ablation-store='a b' -q", "-m full --ablation-fresh"]))
def test_what_a_variable_gives_pytest_is_given_again(args, addopts):
    words = command_of(["pytest"], ["python", "pytest"], args, addopts)
    found = shlex.split(Standing(Ending(command=tuple(words))).command)
    if addopts:
        assert found.pop(0) == "env"
        variable, _, value = found.pop(0).partition("=")
        assert variable == "PYTEST_ADDOPTS"
        kept = [word for word in shlex.split(addopts) if word != "--ablation-fresh"]
        assert shlex.split(value) == kept
    assert found[0] == "pytest"


def test_an_exception_that_broke_the_session_is_told_in_a_line():
    assert broken_by("ValueError: what\nit says") == "an internal error: ValueError: what it says"
    assert broken_by("BrokenPipeError") == "an internal error: BrokenPipeError"
    assert len(broken_by("ValueError: " + 1000 * "x")) < 300


def test_a_reason_with_a_colon_is_marked_whole_in_the_report():
    ending = Ending("stopped: by [hand]", command=("pytest",))
    now = Standing(ending, runs=2, there=1, missing=1, failed=("study row seed 0",))
    text = markdown([], replace(FACTS, standing=now))
    assert "\n**Interrupted (stopped: by \\[hand\\])**: 1 of 2 runs is there, 1 is " in text
    failed = Standing(Ending(), runs=2, there=1, failed=("study row seed 0",))
    text = markdown([], replace(FACTS, standing=failed))
    assert "\n**1 of 2 runs failed**: study row seed 0.\n" in text


def test_equal_messages_of_several_seeds_are_told_once():
    of = [
        ("a", 0, "full"),
        ("a", 1, "full"),
        ("a", 2, "its own"),
        ("b", 0, "full"),
        ("a", 3, "full"),
    ]
    assert told_once(of).splitlines() == [
        "a, seeds 0, 1 and 3; b, seed 0: full",
        "a, seed 2: its own",
    ]
    assert told_once([]) == ""


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.sampled_from("xy")),
                unique_by=lambda one: one[:2]))  # fmt: skip
def test_every_seed_is_told_exactly_once(of):
    lines = told_once(of).splitlines()
    assert len(lines) == len({message for _, _, message in of})
    told = []
    for line in lines:
        rows, _, message = line.rpartition(": ")
        for row in rows.split("; "):
            name, _, numbers = row.partition(", seed")
            told += [(name, int(n), message) for n in re.findall(r"\d+", numbers)]
    assert sorted(told) == sorted(of)


@pytest.fixture(scope="module")
def plan_and_records():
    study = Study(
        "softmax", train=softmax.train, baseline=softmax.BASELINE, metrics=["top1"],
        variants=[Variant("heavy", momentum=0.5), Variant("no_bias", use_bias=False)],
        quick=Mode(seeds=3, epochs=1), full=Mode(seeds=3, epochs=1),
    )  # fmt: skip
    plan, specs = planned(study)
    return plan.studies[0], {key: trained(spec) for key, spec in specs.items()}


def test_every_run_is_counted_once_and_as_one_thing(plan_and_records):
    plan, records = plan_and_records
    keys = list(records)
    there = {key: records[key] for key in keys[:4]}
    failures, lost = {keys[4]: "broke"}, {keys[5]: "its process died", keys[6]: "too"}
    result = study_result(plan, there, failures, lost)
    names = {"there": there, "failed": failures, "lost": lost, "epochs": {keys[6]: 7}}
    now = standing([result, result], CTRL_C, **names)  # of two studies the same runs
    assert (now.runs, now.there, now.missing, now.begun, now.epochs) == (9, 4, 4, 2, (7,))
    assert len(now.failed) == 1
    assert now.runs == now.there + now.missing + len(now.failed)


def test_a_row_lists_its_missing_seeds_by_what_became_of_them(plan_and_records):
    plan, records = plan_and_records
    heavy, base = plan.row("heavy").keys, plan.row("baseline").keys
    gone = {*heavy.values(), base[1]}
    there = {key: record for key, record in records.items() if key not in gone}
    result = study_result(plan, there, {}, {heavy[0]: "its process died (SIGSEGV)"})
    assert missing_text(result.row("heavy"), result.row("baseline")) == (
        "seed 0: its process died (SIGSEGV); seeds 1 and 2: never trained; its baseline, "
        "seed 1: never trained"
    )
