"""The report's section on the gate: what fell against the reference, and how sure that is.

Gate results go in, Markdown comes out. The words are those of gate_text.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_ablation.gate_results import OUTCOMES, WHOLE, GateResult, GateRow
from pytest_ablation.gate_text import (
    alike,
    by_study,
    could_have_missed,
    end,
    extra_runs,
    gravest_first,
    how_to_accept,
    margin,
    seeds_of,
    verdict,
    with_outcome,
)
from pytest_ablation.report_text import bullets, code, count, escape, table

_OUTCOME_WORDS = {"fail": "**fail**", "error": "**error**"}
_TOLD = ("fail", "error", "inconclusive")  # row by row; of the others only the numbers


def gate_section(gates: Sequence[GateResult], *, may_accept: bool = True) -> list[str]:
    """The section as parts of the report, [] without a gate.

    The verdict first, then what is not as it should be, then the rest in counts.

    Parameters
    ----------
    may_accept : whether to say how a change is accepted
    """
    parts = ["## Gate"] if gates else []
    for gate in gates:
        parts += [f"### {escape(gate.mode)}"] if len(gates) > 1 else []
        parts += _gate(gate, may_accept)
    return parts


def _gate(gate: GateResult, may_accept: bool) -> list[str]:
    word, why = verdict(gate)
    told = gravest_first(with_outcome(gate.rows, *_TOLD))
    return [
        f"**{word}**: {escape(why)}.",
        f"Compared with {code(gate.reference)}. {extra_runs(gate)}".rstrip(),
        bullets([escape(fact) for fact in gate.facts]),
        _table(told),
        bullets(_remarks(gate)),
        how_to_accept(gate, code) if may_accept and with_outcome(gate.rows, "fail") else "",
        _counts(gate.rows),
        _folded(with_outcome(gate.rows, "pass")),
        _note(gate),
    ]


def _table(rows: Sequence[GateRow]) -> str:
    """A line per comparison, with a column of flips where any of them knows those."""
    if not rows:
        return ""
    with_flips = any(row.flips is not None for row in rows)
    header = ["study", "variant", "metric", "reference", "now", "change", "interval", "margin"]
    header += ["seeds (reference)", *(["newly wrong / right"] if with_flips else []), "outcome"]
    align = "lll" + "r" * (len(header) - 4) + "l"
    return table(header, [_cells(row, with_flips) for row in rows], align)


def _cells(row: GateRow, with_flips: bool) -> list[str]:
    means = [f"{v:.4f}" if v is not None else "" for v in (row.old_mean, row.new_mean)]
    change = f"{row.delta + 0.0:+.4f}" if row.delta is not None else ""
    is_bounded = math.isfinite(row.low) or math.isfinite(row.high)
    bounds = f"{end(row.low)} to {end(row.high)}" if is_bounded else ""
    seeds = f"{len(row.seeds)} ({len(row.reference_seeds)})" if row.delta is not None else ""
    changed = f"{row.flips[0]} / {row.flips[1]}" if row.flips is not None else ""
    cells = [code(row.study), _row_name(row.row), code(row.metric), *means, change, bounds]
    cells += [margin(row), seeds, *([changed] if with_flips else [])]
    return [*cells, _OUTCOME_WORDS.get(row.outcome, row.outcome)]


def _row_name(name: str) -> str:
    return WHOLE.strip("()") if name == WHOLE else code(name)


def _remarks(gate: GateResult) -> list[str]:
    """What the table has no room for: reasons, seeds, what could have been missed."""
    failed = with_outcome(gate.rows, "fail")
    lines = [f"{_name(row)}, {seeds_of(row)}." for row in failed if seeds_of(row)]
    lines += [
        f"**error** {_name(*rows)}: {escape(rows[0].message or 'no reason was told')}"
        for rows in alike(with_outcome(gate.rows, "error"))
    ]
    lines += [f"**error**: {escape(text)}" for text in gate.errors]
    for study, rows in by_study(with_outcome(gate.rows, "inconclusive")).items():
        missed = could_have_missed(rows, _row_name, _points)
        lines.append(f"{code(study)}, {len(rows)} inconclusive: {missed}.")
    return lines


def _name(*rows: GateRow) -> str:
    names = ", ".join(_row_name(row.row) for row in rows)
    return f"{code(rows[0].study)} / {names}, {code(rows[0].metric)}"


def _points(fraction: float) -> str:
    return f"{100 * fraction:.1f} points"


def _counts(rows: Sequence[GateRow]) -> str:
    """How many comparisons of each study came to what."""
    if not rows:
        return ""
    header = ["study", "comparisons", *OUTCOMES]
    lines = []
    for study, of in by_study(rows).items():
        numbers = [len(of), *(len(with_outcome(of, outcome)) for outcome in OUTCOMES)]
        lines.append([code(study), *map(str, numbers)])
    return table(header, lines)


def _folded(rows: Sequence[GateRow]) -> str:
    """The numbers of what passed and is not bit-identical, behind a line to click on."""
    if not rows:
        return ""
    verb = "differs" if len(rows) == 1 else "differ"
    summary = f"{count(len(rows), 'comparison')} that passed and {verb}"
    return f"<details><summary>{summary}</summary>\n\n{_table(rows)}\n\n</details>"


def _note(gate: GateResult) -> str:
    """What the numbers are, and of what they speak; "" where there are none."""
    rows = [row for row in gate.rows if row.delta is not None]
    if not rows:
        return ""
    confidence = min(row.confidence for row in rows)
    words = {
        "fail": "the whole interval is worse than the margin allows",
        "inconclusive": "a part of it is",
        "pass": "no part of it is",
        "unchanged": "the bits are the same",
    }
    legend = "; ".join(f"{code(name)}: {text}" for name, text in words.items())
    return (
        f"Changes are now minus reference, over the seeds that both have where runs are compared "
        f"in pairs. Each end of an interval holds with {100 * confidence:g} %, all comparisons and "
        f"all looks at the data taken together. {legend}. The gate speaks of new "
        f"trainings (other seeds) on the same test examples, not of other test examples."
    )
