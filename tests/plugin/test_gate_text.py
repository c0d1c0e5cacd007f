"""What the gate says on the terminal, in the error list and to GitHub."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_gates import each_outcome, gate, gate_row

from pytest_ablation.gate_results import OUTCOMES, WHOLE
from pytest_ablation.gate_text import annotations, comparison_lines, gate_lines

LONG = "n" * 80


def lines_of(*gates, **options):
    return [line for line, _ in gate_lines(gates, **options)]


def joined(lines):
    """The text of wrapped lines."""
    return " ".join(" ".join(lines).split())


# --- the terminal --------------------------------------------------------------------------------


def test_without_a_gate_nothing_is_said():
    assert gate_lines([]) == annotations([]) == []


def test_a_line_per_study_where_all_is_well():
    rows = [gate_row("unchanged", f"row{n}") for n in range(12)]
    rows += [gate_row("pass", study="grid"), gate_row("unchanged", WHOLE, study="grid")]
    assert gate_lines([gate(*rows)]) == [
        ("ablation gate", "title"),
        ("quick: passed: 14 comparisons, 13 unchanged, 1 passed", "green"),
        ("  compared with reports/reference/quick.json", ""),
        ("  parts: 12 comparisons, all unchanged", "green"),
        ("  grid: 2 comparisons, 1 unchanged, 1 passed", "green"),
    ]


def test_what_failed_is_there_in_full():
    told = gate(
        gate_row("fail", flips=(42, 11)), gate_row("pass", "other"), facts=("Made in May.",)
    )
    lines = gate_lines([told])
    text = joined(line for line, _ in lines)
    for part in (
        "fail: parts no_pe: top1 0.7830 against 0.8123 in the reference, change -0.0293 (interval "
        "-0.0410 to -0.0170, margin 0.005, 3 seeds against 5)",
        "by seed: 0 -0.0303, 1 -0.0293, 2 -0.0283",
        "test examples over all shared seeds: 42 newly wrong, 11 newly right",
        "If the change is meant, accept it: run the same command with --ablation-save-reference "
        "and --ablation-seeds=5 in place of --ablation-gate, and commit "
        "reports/reference/quick.json.",
        "Made in May.",
    ):
        assert part in text
    assert ("quick: failed: 1 of 2 comparisons got worse by more than its margin", "red") in lines
    assert "--ablation-save-reference" not in joined(lines_of(told, may_accept=False))


def test_a_reference_of_no_more_seeds_is_accepted_by_the_same_command_alone():
    told = gate(gate_row("fail", reference_seeds=(0, 1, 2)))
    assert "--ablation-seeds" not in joined(line for line, _ in gate_lines([told]))


def test_an_error_keeps_the_lines_of_its_message():
    told = gate(gate_row("error", message="found 2 seeds\n  expected 3\ntrain seed 2"))
    lines = gate_lines([told])
    assert [line.strip() for line, colour in lines if colour == "red"][2:] == [
        "error: parts no_pe: top1 could not be compared: found 2 seeds", "expected 3",
        "train seed 2",
    ]  # fmt: skip


def test_inconclusive_rows_are_one_sentence_per_study_and_yellow():
    rows = [gate_row("inconclusive", f"row{n}", missed=0.01 + n / 1000) for n in range(4)]
    lines = gate_lines([gate(*rows, gate_row("pass", study="grid"))])
    assert lines[1] == ("quick: passed: 4 of 5 comparisons inconclusive", "yellow")
    text = joined(line for line, _ in lines)
    assert "a drop of top1 of up to 0.0130 could have been missed in row3, and less" in text
    assert text.count("could have been missed") == 1
    assert {colour for _, colour in lines} == {"title", "yellow", "green", ""}


def test_strictly_an_inconclusive_comparison_fails():
    told = gate(gate_row("inconclusive"), strict=True)
    lines = gate_lines([told])
    assert lines[1] == ("quick: failed: 1 of 1 comparison inconclusive (strict)", "red")
    assert any(line.startswith("    inconclusive: parts no_pe: top1 0.8023 ") for line, _ in lines)
    ((kind, _, text),) = read(annotations([told]))
    assert kind == "error"
    assert "could have been missed" in text


def test_a_gate_that_compared_nothing_is_not_green():
    assert gate_lines([gate()])[1] == ("quick: no verdict: nothing was compared", "yellow")


def test_errors_beyond_rows_and_extra_runs_are_told():
    told = gate(gate_row("pass"), errors=("study 'grid' is missing",), extra_runs=1)
    lines = gate_lines([told])
    assert lines[1] == ("quick: failed: 1 error", "red")
    assert ("    error: study 'grid' is missing", "red") in lines
    assert ("  To decide, 1 run beyond the mode's seeds was asked for.", "") in lines


number = st.floats(-1, 1)
name = st.text(st.characters(codec="utf-8"), min_size=1, max_size=90)


@given(
    outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=5), study=name, row=name, metric=name,
    message=name, change=number, low=number, high=number, strict=st.booleans(),
    missed=st.none() | st.floats(0, 1),
)  # fmt: skip
def test_lines_fit_and_cannot_move_the_cursor(
    outcomes, study, row, metric, message, change, low, high, strict, missed
):
    names = {"study": study, "metric": metric, "delta": change, "low": low, "high": high}
    rows = [gate_row(o, row, **names | {"message": message, "missed": missed}) for o in outcomes]
    told = gate(*rows, mode=message, reference=row, errors=(message,), facts=(message,),
                strict=strict)  # fmt: skip
    for line in [*lines_of(told), *comparison_lines(told)]:
        assert len(line) <= 80
        assert line.isprintable()


def test_all_names_of_80_letters_are_there_in_full():
    told = gate(gate_row("fail", LONG, study="s" * 80, metric="m" * 80))
    text = "".join(line.strip() for line in lines_of(told))
    assert all(letter * 80 in text for letter in "nsm")


def test_the_table_of_a_comparison_has_every_row():
    told = gate(*each_outcome().rows, gate_row("pass", LONG, metric="loss", higher_is_better=False))
    lines = comparison_lines(told)
    assert lines[0] == "parts (quick), top1, margin 0.005"
    cells = [line.split() for line in lines]
    assert ["row_fail", "0.8123", "0.7830", "-0.0293", "-0.0410", "-0.0170", "FAIL"] in cells
    assert ["row_unchanged", "0.8123", "0.8123", *["+0.0000"] * 3, "unchanged"] in cells
    assert ["row_error", "ERROR"] in cells
    assert "parts (quick), loss, margin 0.005 (lower is better)" in lines
    assert lines[-1].startswith("  " + "n" * 20 + ".. 0.8123")


def test_zero_has_no_minus():
    told = gate(gate_row("pass", delta=-0.0, low=-0.0, high=0.0), gate_row("fail", delta=-0.0))
    everything = [*lines_of(told), *comparison_lines(told), *annotations([told])]
    assert "-0.0000" not in joined(everything)


# --- GitHub --------------------------------------------------------------------------------------

COMMAND = re.compile(r"::(error|warning) title=([^:,\r\n]*)::([^\r\n]*)")


def unescaped(text):
    """As GitHub's runner reads it: ActionCommand.cs, the percent sign last."""
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, char)
    return text


def read(commands):
    parts = [COMMAND.fullmatch(command).groups() for command in commands]
    return [(kind, unescaped(title), unescaped(message)) for kind, title, message in parts]


def test_a_sentence_per_failing_comparison_the_gravest_first():
    told = gate(*each_outcome().rows, errors=("study 'grid' is missing",))
    errors = [of for of in read(annotations([told])) if of[0] == "error"]
    (_, _, fail), (_, _, error), beyond = errors
    assert fail == (
        "gate (quick): fail: parts row_fail: top1 0.7830 against 0.8123 in the reference, change "
        "-0.0293 (interval -0.0410 to -0.0170, margin 0.005, 3 seeds against 5). If the change is "
        "meant, accept it: run the same command with --ablation-save-reference and "
        "--ablation-seeds=5 in place of --ablation-gate, and commit reports/reference/quick.json."
    )
    assert error == (
        "gate (quick): error: parts row_error: top1 could not be compared: seed 2 is missing: "
        "train it"
    )
    assert beyond == ("error", "ablation gate (quick)", "study 'grid' is missing")


@given(st.lists(st.sampled_from(OUTCOMES), max_size=8), st.booleans(), st.booleans())
def test_there_is_an_error_exactly_where_the_gate_is_not_ok(outcomes, strict, is_beyond):
    rows = [gate_row(outcome, f"row{n}") for n, outcome in enumerate(outcomes)]
    told = gate(*rows, strict=strict, errors=("study 'x' is missing",) if is_beyond else ())
    errors = [message for kind, _, message in read(annotations([told])) if kind == "error"]
    assert bool(errors) != told.ok
    assert any(colour == "red" for _, colour in gate_lines([told])) != told.ok
    assert all(row.row in " ".join(errors) for row in told.failing)


def test_an_annotation_per_failing_row_and_one_warning_per_study():
    rows = [
        *each_outcome().rows,
        gate_row("inconclusive", "more"),
        gate_row("inconclusive", study="grid"),
    ]
    told = read(annotations([gate(*rows)]))
    assert [(kind, title) for kind, title, _ in told] == [
        ("error", "ablation gate (quick): parts row_fail"),
        ("error", "ablation gate (quick): parts row_error"),
        ("warning", "ablation gate (quick): parts"),
        ("warning", "ablation gate (quick): grid"),
    ]
    assert told[2][2].startswith("2 comparisons inconclusive: a drop of top1 of up to 0.0231 ")


@pytest.mark.parametrize("text", ["100 %, a:b\r\nc::error::d", "%0A", "%25%3A"])
def test_annotations_unescape_to_their_texts(text):
    told = gate(gate_row("error", text, study=text, message=text), mode=text)
    ((kind, title, message),) = read(annotations([told]))
    assert kind == "error"
    assert title == f"ablation gate ({text}): {text} {text}"
    name = f"{text} {text}"
    assert message == f"gate ({text}): error: {name}: top1 could not be compared: {text}"


@pytest.mark.parametrize(("count", "shown"), [(10, 10), (11, 9), (40, 9)])
def test_what_is_over_ten_is_counted_and_named_in_the_last(count, shown):
    failing = [gate_row("fail", f"row{n}") for n in range(count)]
    open_studies = [gate_row("inconclusive", study=f"study{n}") for n in range(count)]
    told = read(annotations([gate(*failing, *open_studies)]))
    for kind in ("error", "warning"):
        of = [(title, message) for k, title, message in told if k == kind]
        assert len(of) == 10
        if count > 10:
            title, message = of[-1]
            assert title == f"ablation gate: {count - shown} more"
            name = "row" if kind == "error" else "study"
            assert re.findall(rf"{name}\d+", message) == [f"{name}{n}" for n in range(9, count)]


def test_rows_of_one_reason_share_an_annotation():
    rows = [gate_row("error", f"row{n}", message="the data changed") for n in range(30)]
    ((_, title, message),) = read(annotations([gate(*rows)]))
    assert title == "ablation gate (quick): parts row0 and 29 more"
    assert "row29" in message
