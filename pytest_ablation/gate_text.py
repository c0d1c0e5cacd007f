"""What a gate found, in plain words: for the terminal and for GitHub's annotations.

Gate results go in, lines and sentences come out. Knows nothing of statistics or files; in Markdown
it is told by report_gate.py.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence

from pytest_ablation.gate_results import OUTCOMES, GateResult, GateRow
from pytest_ablation.options import GATE_OPTION, SAVE_REFERENCE_OPTION, SEEDS_OPTION
from pytest_ablation.report_text import count

_MOST_ANNOTATIONS = 10  # of a kind: GitHub shows no more per step
_NAME_WIDTH = 22
_GRAVITY = ("fail", "error", "inconclusive", "pass", "unchanged")
_COUNTED = {
    "unchanged": "unchanged",
    "pass": "passed",
    "inconclusive": "inconclusive",
    "fail": "failed",
    "error": "not comparable",
}

# --- words that the terminal, annotations and the report share -----------------------------------


def gravest_first(rows: Iterable[GateRow]) -> list[GateRow]:
    """Failed ones, errors, inconclusive ones, the rest; else in the order in which they came."""
    return sorted(rows, key=lambda row: _GRAVITY.index(row.outcome))


def by_study(rows: Iterable[GateRow]) -> dict[str, list[GateRow]]:
    found: dict[str, list[GateRow]] = {}
    for row in rows:
        found.setdefault(row.study, []).append(row)
    return found


def with_outcome(rows: Iterable[GateRow], *outcomes: str) -> list[GateRow]:
    return [row for row in rows if row.outcome in outcomes]


def alike(rows: Iterable[GateRow]) -> list[list[GateRow]]:
    """Rows that can be told in one sentence: errors of a study and metric with the same reason."""
    groups: dict[object, list[GateRow]] = {}
    for number, row in enumerate(rows):
        is_error = row.outcome == "error"
        key = (row.study, row.metric, row.message) if is_error else number
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def counts(rows: Sequence[GateRow]) -> str:
    """``12 comparisons, 10 unchanged, 2 inconclusive``, or ``all unchanged``."""
    numbers = {outcome: len(with_outcome(rows, outcome)) for outcome in OUTCOMES}
    listed = [(str(n), _COUNTED[outcome]) for outcome, n in numbers.items() if n]
    if len(rows) > 1 and len(listed) == 1:
        listed = [("all", listed[0][1])]
    return ", ".join([count(len(rows), "comparison"), *map(" ".join, listed)])


def verdict(gate: GateResult) -> tuple[str, str]:
    """``passed``, ``failed`` or ``no verdict``, and why, each for a sentence."""
    rows = gate.rows
    failed, undecided = with_outcome(rows, "fail"), with_outcome(rows, "inconclusive")
    errors = len(with_outcome(rows, "error"))
    of = f"{len(undecided)} of {count(len(rows), 'comparison')} inconclusive"
    if gate.ok:
        if not rows:
            return "no verdict", "nothing was compared"
        return "passed", of if undecided else counts(rows)
    reasons = []
    if failed:
        margins = "margin" if len(failed) == 1 else "margins"
        whose = "its" if len(failed) == 1 else "their"
        reasons.append(
            f"{len(failed)} of {count(len(rows), 'comparison')} got worse by more than {whose} "
            f"{margins}"
        )
    if errors:
        reasons.append(f"{errors} could not be compared")
    if undecided and gate.strict:
        reasons.append(f"{of} (strict)")
    if gate.errors:
        reasons.append(count(len(gate.errors), "other error" if reasons else "error"))
    return "failed", "; ".join(reasons)


def how_to_accept(gate: GateResult, name: Callable[[str], str] = str) -> str:
    """What to do where the change is meant; *name* sets options and files apart."""
    seeds = max((len(row.reference_seeds) for row in gate.rows), default=0)
    own = min((len(row.seeds) for row in gate.rows if row.seeds), default=seeds)
    # A reference of fewer seeds would see less from then on.
    also = f" and {name(f'{SEEDS_OPTION}={seeds}')}" if own < seeds else ""
    return (
        f"If the change is meant, accept it: run the same command with "
        f"{name(SAVE_REFERENCE_OPTION)}{also} in place of {name(GATE_OPTION)}, and commit "
        f"{name(gate.reference)}."
    )


def extra_runs(gate: GateResult) -> str:
    """How many runs it took beyond the mode's; "" for none."""
    if not gate.extra_runs:
        return ""
    verb = "was" if gate.extra_runs == 1 else "were"
    return f"To decide, {count(gate.extra_runs, 'run')} beyond the mode's seeds {verb} asked for."


def could_have_missed(
    rows: Sequence[GateRow],
    name: Callable[[str], str] = str,
    size: Callable[[float], str] = "{:.4f}".format,
) -> str:
    """How large a change for the worse the inconclusive *rows* of a study could have hidden.

    Parameters
    ----------
    name : sets the names of rows and metrics apart
    size : an amount as text, with its unit
    """
    known: dict[str, list[GateRow]] = {}
    for row in rows:
        if row.missed is not None:
            known.setdefault(row.metric, []).append(row)
    parts = []
    for metric, of in known.items():
        worst = max(of, key=lambda row: row.missed)
        move = "drop" if worst.higher_is_better else "rise"
        elsewhere = ", and less in other rows" if len(of) > 1 else ""
        parts.append(
            f"a {move} of {name(metric)} of up to {size(worst.missed)} could have been missed in "
            f"{name(worst.row)}{elsewhere}"
        )
    if known:
        parts[-1] += " (a larger one is found at least four times out of five)"
    unknown = dict.fromkeys(name(row.row) for row in rows if row.missed is None)
    if unknown:
        parts.append(f"how large a change was missed is not known of {', '.join(unknown)}")
    return "; ".join(parts)


def has_interval(row: GateRow) -> bool:
    return math.isfinite(row.low) or math.isfinite(row.high)


def end(value: float) -> str:
    """An end of an interval, with its sign."""
    return f"{value + 0.0:+.4f}" if math.isfinite(value) else "unbounded"


def margin(row: GateRow) -> str:
    return f"{row.margin:.6g}"


def found(row: GateRow) -> str:
    """A comparison in a sentence: what happened to its metric, and how sure that is."""
    if row.outcome == "error":
        return f"{row.metric} could not be compared: {row.message or 'no reason was told'}"
    if row.delta is None or row.old_mean is None or row.new_mean is None:
        return f"{row.metric}: {row.outcome}"
    bounds = f"interval {end(row.low)} to {end(row.high)}" if has_interval(row) else "no interval"
    return (
        f"{row.metric} {row.new_mean:.4f} against {row.old_mean:.4f} in the reference, change "
        f"{row.delta + 0.0:+.4f} ({bounds}, margin {margin(row)}, {count(len(row.seeds), 'seed')} "
        f"against {len(row.reference_seeds)})"
    )


def seeds_of(row: GateRow) -> str:
    """The change at each seed, where the comparison is one of pairs; else ""."""
    if not row.paired or not row.by_seed:
        return ""
    return "by seed: " + ", ".join(f"{seed} {d:+.4f}" for seed, d in sorted(row.by_seed.items()))


def flips(row: GateRow) -> str:
    """Which test examples changed sides; "" where that is not known."""
    if row.flips is None:
        return ""
    wrong, right = row.flips
    return f"test examples over all shared seeds: {wrong} newly wrong, {right} newly right"


# --- the terminal --------------------------------------------------------------------------------


def gate_lines(gates: Sequence[GateResult], *, may_accept: bool = True) -> list[tuple[str, str]]:
    """Lines of at most 80 columns with their markup, as ``terminal.summary_lines`` has them.

    A line per study where all is well; what failed is there in full.

    Parameters
    ----------
    may_accept : whether to say how a change is accepted
    """
    lines = [("ablation gate", "title")] if gates else []
    for gate in gates:
        lines += _lines_of(gate, may_accept)
    return lines


def _lines_of(gate: GateResult, may_accept: bool) -> list[tuple[str, str]]:
    word, why = verdict(gate)
    undecided = with_outcome(gate.rows, "inconclusive")
    colour = "red" if not gate.ok else "yellow" if undecided or not gate.rows else "green"
    lines = _marked(f"{gate.mode}: {word}: {why}", colour, "", "    ")
    lines += _marked(f"compared with {gate.reference}", "", "  ", "    ")
    if not gate.ok:
        lines += [line for fact in gate.facts for line in _marked(fact, "", "  ", "    ")]
    for study, rows in by_study(gate.rows).items():
        lines += _study_lines(study, rows, gate)
    lines += [line for text in gate.errors for line in _message(f"error: {text}", "red")]
    if extra_runs(gate):
        lines += _marked(extra_runs(gate), "", "  ", "    ")
    if with_outcome(gate.rows, "fail") and may_accept:
        lines += _marked(how_to_accept(gate), "", "  ", "    ")
    return lines


def _study_lines(study: str, rows: Sequence[GateRow], gate: GateResult) -> list[tuple[str, str]]:
    failing = [row for row in rows if row in gate.failing]
    undecided = with_outcome(rows, "inconclusive")
    colour = "red" if failing else "yellow" if undecided else "green"
    lines = _marked(f"{study}: {counts(rows)}", colour, "  ", "    ")
    for group in alike(gravest_first(failing)):
        lines += _message(_told(group), "red")
        for more in filter(None, (seeds_of(group[0]), flips(group[0]))):
            lines += _marked(more, "red", "      ", "      ")
    if undecided:
        lines += _marked(could_have_missed(undecided), "yellow", "    ", "    ")
    return lines


def _told(rows: Sequence[GateRow]) -> str:
    """A sentence on rows that are alike."""
    names = ", ".join(row.row for row in rows)
    return f"{rows[0].outcome}: {rows[0].study} {names}: {found(rows[0])}"


def _message(text: str, colour: str) -> list[tuple[str, str]]:
    """A text of several lines, the first of which stands out."""
    first, *rest = text.splitlines()
    lines = _marked(first, colour, "    ", "      ")
    return lines + [line for other in rest for line in _marked(other, colour, "      ", "      ")]


def _marked(text: str, markup: str, indent: str, further: str) -> list[tuple[str, str]]:
    """Lines of at most 80 columns; what would move a terminal's cursor is replaced."""
    harmless = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
    wrapped = textwrap.wrap(
        harmless, 80, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False
    )
    return [(line, markup) for line in wrapped]


def comparison_lines(gate: GateResult) -> list[str]:
    """All comparisons with their numbers, a table per study and metric, 80 columns wide."""
    lines = []
    tables = dict.fromkeys((row.study, row.metric, row.margin) for row in gate.rows)
    for study, metric, size in tables:
        rows = [
            row for row in gate.rows if (row.study, row.metric, row.margin) == (study, metric, size)
        ]
        title = f"{study} ({gate.mode}), {metric}, margin {margin(rows[0])}"
        if not rows[0].higher_is_better:
            title += " (lower is better)"
        lines += [line for line, _ in _marked(title, "", "", "    ")]
        lines.append(
            f"  {'variant':{_NAME_WIDTH}} {'old':>6} {'new':>6}  {'change':>7}  "
            f"{'interval':15}  outcome"
        )
        lines += [_row_line(row) for row in rows]
    return lines


def _row_line(row: GateRow) -> str:
    name = row.row if len(row.row) <= _NAME_WIDTH else row.row[: _NAME_WIDTH - 2] + ".."
    name = "".join(c if c.isprintable() else "\ufffd" for c in name)
    old, new = (_number(value, ".4f") for value in (row.old_mean, row.new_mean))
    bounds = ""
    if math.isfinite(row.low) and math.isfinite(row.high):
        bounds = f"{end(row.low)} {end(row.high)}"
    outcome = row.outcome.upper() if row.outcome in ("fail", "error") else row.outcome
    return (
        f"  {name:{_NAME_WIDTH}} {old:>6} {new:>6}  {_number(row.delta, '+.4f'):>7}  {bounds:15}  "
        f"{outcome}"
    )


def _number(value: float | None, form: str) -> str:
    return format(value + 0.0, form) if value is not None else ""


# --- GitHub --------------------------------------------------------------------------------------


def annotations(gates: Sequence[GateResult]) -> list[str]:
    """Workflow commands for GitHub Actions, at most ten errors and ten warnings.

    An error for each comparison that fails the session (one for all rows that cannot be compared
    for the same reason), a warning for each study with inconclusive comparisons that do not; what
    is over is counted and named in the last one. Escaped as the toolkit of GitHub Actions does
    (``packages/core/src/command.ts``).
    """
    errors, warnings = [], []
    for gate in gates:
        title = f"ablation gate ({gate.mode})"
        for rows in alike(gravest_first(gate.failing)):
            more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
            name = f"{title}: {rows[0].study} {rows[0].row}{more}"
            errors.append((name, _error_text(gate, rows)))
        errors += [(title, text) for text in gate.errors]
        if not gate.strict:
            for study, rows in by_study(with_outcome(gate.rows, "inconclusive")).items():
                text = f"{count(len(rows), 'comparison')} inconclusive: {could_have_missed(rows)}"
                warnings.append((f"{title}: {study}", text))
    return [
        *(_command("error", *of) for of in _at_most(errors)),
        *(_command("warning", *of) for of in _at_most(warnings)),
    ]


def _error_text(gate: GateResult, rows: Sequence[GateRow]) -> str:
    text = f"gate ({gate.mode}): {_told(rows)}"
    if rows[0].outcome == "fail":
        return f"{text}. {how_to_accept(gate)}"
    if rows[0].outcome == "inconclusive":
        return f"{text}: {could_have_missed(rows)}"
    return text


def _at_most(told: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first of them, those that are over as the last one."""
    if len(told) <= _MOST_ANNOTATIONS:
        return told
    shown, over = told[: _MOST_ANNOTATIONS - 1], told[_MOST_ANNOTATIONS - 1 :]
    titles = "\n".join(title for title, _ in over)
    return [*shown, (f"ablation gate: {len(over)} more", f"{len(over)} more:\n{titles}")]


def _command(kind: str, title: str, message: str) -> str:
    escaped = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={escaped}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
