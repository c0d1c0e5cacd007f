"""The gate's section of the report, as a Markdown reader that knows tables reads it."""

import dataclasses

import pytest
from told_gates import each_outcome, gate, gate_row

from pytest_ablation.gate_results import WHOLE
from pytest_ablation.report_gate import gate_section

markdown_it = pytest.importorskip("markdown_it")

HOSTILE = "a`b|c\nd <img src=x> [e](f) **g** &amp;"


def section(*gates, **options):
    return "\n\n".join(part for part in gate_section(gates, **options) if part) + "\n"


def rendered(*gates, **options):
    parser = markdown_it.MarkdownIt("commonmark").enable("table")
    return parser.parse(section(*gates, **options))


def shown(token):
    """What a reader sees of a line."""
    return "".join(
        " " if part.type == "softbreak" else part.content for part in token.children or ()
    )


def tables(tokens):
    """The tables as lists of lines, header first, each line the texts of its cells."""
    found = []
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            found[-1][-1].append(shown(following))
    return found


def as_dicts(table):
    header, *lines = table
    return [dict(zip(header, line, strict=True)) for line in lines]


def texts(tokens):
    return [shown(token) for token in tokens if token.type == "inline"]


def test_no_gate_has_no_section():
    assert gate_section([]) == []


def test_the_verdict_comes_first_and_says_what_it_rests_on():
    found = texts(rendered(each_outcome()))
    assert found[0] == "Gate"
    assert found[1] == (
        "failed: 1 of 5 comparisons got worse by more than its margin; 1 could not be compared."
    )
    assert found[2] == "Compared with reports/reference/quick.json."


@pytest.mark.parametrize(
    ("rows", "fields", "verdict"),
    [
        (["unchanged"] * 3, {}, "passed: 3 comparisons, all unchanged."),
        (["unchanged", "pass"], {}, "passed: 2 comparisons, 1 unchanged, 1 passed."),
        (["pass", "inconclusive"], {}, "passed: 1 of 2 comparisons inconclusive."),
        (["inconclusive"], {"strict": True},
         "failed: 1 of 1 comparison inconclusive (strict)."),
        (["fail", "fail", "pass"], {},
         "failed: 2 of 3 comparisons got worse by more than their margins."),
        (["pass"], {"errors": ("study 'x' is missing",)}, "failed: 1 error."),
        ([], {}, "no verdict: nothing was compared."),
    ],
)  # fmt: skip
def test_a_verdict_in_one_line(rows, fields, verdict):
    told = gate(*(gate_row(outcome, f"row{n}") for n, outcome in enumerate(rows)), **fields)
    assert texts(rendered(told))[1] == verdict
    assert verdict.startswith("failed") != told.ok


def test_what_is_not_as_it_should_be_stands_first_with_its_numbers():
    told, numbers, passed = map(as_dicts, tables(rendered(each_outcome())))
    assert [line["outcome"] for line in told] == ["fail", "error", "inconclusive"]
    assert told[0] == {
        "study": "parts", "variant": "row_fail", "metric": "top1", "reference": "0.8123",
        "now": "0.7830", "change": "-0.0293", "interval": "-0.0410 to -0.0170",
        "margin": "0.005", "seeds (reference)": "3 (5)", "outcome": "fail",
    }  # fmt: skip
    assert told[1]["now"] == told[1]["interval"] == told[1]["seeds (reference)"] == ""
    assert numbers == [
        {"study": "parts", "comparisons": "5", "unchanged": "1", "pass": "1", "inconclusive": "1",
         "fail": "1", "error": "1"},
    ]  # fmt: skip
    assert [line["variant"] for line in passed] == ["row_pass"]


def test_a_folded_table_is_closed_again():
    html = markdown_it.MarkdownIt("commonmark").enable("table").render(section(each_outcome()))
    before, opened, rest = html.partition("<details>")
    inside, closed, _ = rest.partition("</details>")
    assert opened
    assert closed
    assert "row_pass" in inside
    assert "row_pass" not in before
    assert inside.count("<table>") == inside.count("</table>") == 1


def test_an_unchanged_session_has_counts_alone():
    tokens = rendered(gate(gate_row("unchanged"), gate_row("unchanged", study="grid")))
    (counts,) = tables(tokens)
    assert [line[0] for line in counts] == ["study", "parts", "grid"]
    assert "details" not in section(gate(gate_row("unchanged")))


def test_flips_have_a_column_where_any_row_knows_them():
    rows = gate_row("fail", flips=(42, 11)), gate_row("inconclusive", "other")
    lines = as_dicts(tables(rendered(gate(*rows)))[0])
    assert [line["newly wrong / right"] for line in lines] == ["42 / 11", ""]


def test_seeds_of_what_fell_and_how_to_accept_it():
    told = gate(gate_row("fail"))
    assert "parts / no_pe, top1, by seed: 0 -0.0303, 1 -0.0293, 2 -0.0283." in texts(rendered(told))
    accept = (
        "run the same command with --ablation-save-reference and --ablation-seeds=5 in place of "
        "--ablation-gate, and "
        "commit reports/reference/quick.json"
    )
    assert any(accept in text for text in texts(rendered(told)))
    assert not any(accept in text for text in texts(rendered(told, may_accept=False)))
    assert not any(accept in text for text in texts(rendered(gate(gate_row("inconclusive")))))


def test_seeds_are_not_paired_where_the_comparison_is_not():
    assert "by seed" not in section(gate(gate_row("fail", paired=False)))


def test_one_sentence_per_study_says_what_could_have_been_missed():
    rows = [
        gate_row("inconclusive", "small", missed=0.011),
        gate_row("inconclusive", WHOLE, missed=0.02),
        gate_row("inconclusive", "large", missed=0.034, study="grid", higher_is_better=False,
                 metric="error"),
        gate_row("inconclusive", "open", missed=None, study="grid"),
    ]  # fmt: skip
    about = [text for text in texts(rendered(gate(*rows))) if "could have been missed" in text]
    assert about == [
        "parts, 2 inconclusive: a drop of top1 of up to 2.0 points could have been missed in all "
        "rows, and less in other rows (a larger one is found at least four times out of five).",
        "grid, 2 inconclusive: a rise of error of up to 3.4 points could have been missed in large "
        "(a larger one is found at least four times out of five); how large a change was missed is "
        "not known of open.",
    ]


def test_an_unbounded_interval_is_none_or_half_of_one():
    infinite = {"low": -float("inf"), "high": float("inf")}
    rows = [gate_row("inconclusive", "one", **infinite), gate_row("inconclusive", "two")]
    rows.append(dataclasses.replace(rows[1], row="three", low=-float("inf")))
    lines = as_dicts(tables(rendered(gate(*rows)))[0])
    assert [line["interval"] for line in lines] == [
        "", "-0.0300 to +0.0100", "unbounded to +0.0100",
    ]  # fmt: skip


def test_errors_of_one_reason_share_a_line():
    reason = {"message": "the data changed: save the reference anew"}
    rows = [gate_row("error", name, **reason) for name in ("one", "two", "three")]
    rows.append(gate_row("error", "four"))
    found = texts(rendered(gate(*rows)))
    assert "error parts / one, two, three, top1: the data changed: save the reference anew" in found
    assert "error parts / four, top1: seed 2 is missing: train it" in found


def test_facts_and_extra_runs_stand_beside_what_it_was_compared_with():
    told = gate(gate_row("pass"), facts=("Made by torch 2.1, not 2.2.",), extra_runs=6)
    assert texts(rendered(told))[2:4] == [
        "Compared with reports/reference/quick.json. To decide, 6 runs beyond the mode's seeds "
        "were asked for.",
        "Made by torch 2.1, not 2.2.",
    ]


def test_the_population_is_named_where_there_are_numbers():
    assert "new trainings (other seeds) on the same test examples" in section(each_outcome())
    assert "new trainings" not in section(gate(gate_row("error")))


def test_hostile_text_is_shown_and_does_nothing():
    told = gate(
        gate_row("fail", HOSTILE, study=HOSTILE, metric=HOSTILE, flips=(1, 2)),
        gate_row("error", HOSTILE, study=HOSTILE, metric=HOSTILE, message=HOSTILE),
        gate_row("inconclusive", HOSTILE, study=HOSTILE, metric=HOSTILE),
        gate_row("pass", HOSTILE, study=HOSTILE),
        mode=HOSTILE, reference=HOSTILE, errors=(HOSTILE,), facts=(HOSTILE,),
    )  # fmt: skip
    tokens = rendered(told, told)
    name = "a'b|c d <img src=x> [e](f) **g** &amp;"  # in code the backtick cannot stand
    bad, counts, passed = map(as_dicts, tables(tokens)[:3])
    assert [line["variant"] for line in bad] == [name] * 3
    assert [line["study"] for line in counts] == [name]
    assert passed[0]["study"] == name
    assert HOSTILE.replace("\n", " ") in texts(tokens)
    kinds = {part.type for token in tokens for part in token.children or ()}
    assert not kinds & {"html_inline", "link_open", "image", "em_open"}
    headings = [token.content for token in tokens if token.type == "html_block"]
    assert all("img" not in text for text in headings)


def test_two_modes_have_a_heading_each():
    tokens = rendered(gate(gate_row("pass")), gate(gate_row("fail"), mode="full"))
    assert [t for t in texts(tokens) if t in ("Gate", "quick", "full")] == ["Gate", "quick", "full"]
