"""What a case expects of a metric, judged and put into words: the pure part of ``ablation.expect``.

Arguments are checked into an :class:`Expectation`; that and a metric's result give findings and,
where something does not hold, the text of the failure. Knows neither pytest nor sessions.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from pytest_ablation.configuration import did_you_mean
from pytest_ablation.errors import AblationError, UnknownName
from pytest_ablation.options import AUTO, SEEDS_OPTION
from pytest_ablation.statistics import VERDICTS, Delta, seeds_to_detect

_CHANGES = ("worse_than", "no_worse_than", "better_than", "no_better_than")
_MEANS = ("at_least", "at_most")
_WIDTH = 80
_LONGEST_NAME = 24  # of a column's head


@dataclass(frozen=True)
class Expectation:
    """What is expected of a metric; None where nothing is.

    Attributes
    ----------
    worse_than, no_worse_than, better_than, no_better_than : sizes of a change, 0 or more, in the
        metric's own unit and in the direction that is worse or better for it
    verdict : the allowed ones
    at_least, at_most : limits of the mean itself
    proof : whether the two ``no_`` ones must be proven, or need only not be disproven
    """

    worse_than: float | None = None
    no_worse_than: float | None = None
    better_than: float | None = None
    no_better_than: float | None = None
    verdict: tuple[str, ...] | None = None
    at_least: float | None = None
    at_most: float | None = None
    proof: bool = True

    @property
    def needs_delta(self) -> bool:
        """Whether anything is said of a change, which a baseline has not."""
        return any(getattr(self, name) is not None for name in (*_CHANGES, "verdict"))


@dataclass(frozen=True)
class Finding:
    """One part of an expectation, and what became of it.

    Attributes
    ----------
    argument : as it was written: ``worse_than=0.02``
    meaning : what that asks of the interval, the verdict or the mean
    outcome : ``holds``, ``undecided`` (more seeds may bring it) or ``wrong``
    distance : how far the mean change is from the limit, on the expected side of it; 0 or less on
        the other side, None where that says nothing
    """

    argument: str
    meaning: str
    outcome: str
    distance: float | None = None


def expectation(
    *,
    verdict: str | Iterable[str] | None = None,
    proof: bool = True,
    **limits: float | None,
) -> Expectation:
    """The arguments of ``ablation.expect``, checked.

    Raises
    ------
    AblationError
        Nothing is expected; a limit is no finite number, a size of a change is negative; two limits
        contradict each other; *proof* has nothing to do.
    UnknownName
        There is no such verdict.
    """
    given = {name: value for name, value in limits.items() if value is not None}
    if not given and verdict is None:
        listed = ", ".join((*_CHANGES, "verdict", *_MEANS))
        raise AblationError(f"ablation.expect needs one of {listed}: expect('top1', worse_than=0)")
    for name, value in given.items():
        _check_limit(name, value)
    made = Expectation(**given, verdict=_checked_verdicts(verdict), proof=proof)
    _check_together(made)
    return made


def judged(
    expected: Expectation, mean: float, delta: Delta | None, *, higher_is_better: bool
) -> list[Finding]:
    """A finding for each part of an expectation.

    A change is beyond a size where its whole interval is, and within it where its whole interval
    is, ends included. Where nothing is known of the spread (one seed, or the same difference at
    every seed) an interval bounds nothing, and nothing about a change is proven.

    Parameters
    ----------
    mean : of the metric itself
    delta : needed where something is expected of a change
    """
    found = list(_judged_changes(expected, delta, higher_is_better)) if delta is not None else []
    if expected.verdict is not None:
        found.append(_judged_verdict(expected.verdict, delta, higher_is_better))
    for name, holds, words in (
        ("at_least", lambda limit: mean >= limit, "not below"),
        ("at_most", lambda limit: mean <= limit, "not above"),
    ):
        limit = getattr(expected, name)
        if limit is not None:
            meaning = f"the mean {words} {limit:g}"
            outcome = "holds" if holds(limit) else "wrong"
            found.append(Finding(f"{name}={limit:g}", meaning, outcome))
    return found


# --- checks ----------------------------------------------------------------------------------


def _check_limit(name: str, value: float) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if name in _MEANS and not is_number:
        raise AblationError(f"{name} is a value of the metric, a finite number; found {value!r}")
    if name in _CHANGES and not (is_number and value >= 0):
        raise AblationError(
            f"{name} is the size of a change in the metric's own unit, a finite number of 0 or "
            f"more (0.02 is two points of an accuracy); found {value!r}"
        )


def _checked_verdicts(verdict: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if verdict is None:
        return None
    words = (verdict,) if isinstance(verdict, str) or not isinstance(verdict, Iterable) else verdict
    words = tuple(words)
    for word in words:
        if word not in VERDICTS:
            raise UnknownName(
                f"there is no verdict {word!r}: it is one of {', '.join(VERDICTS)}"
                f"{did_you_mean(str(word), VERDICTS)}"
            )
    if not words:
        raise AblationError(f"verdict=() allows none: name one or more of {', '.join(VERDICTS)}")
    return words


def _check_together(expected: Expectation) -> None:
    if not isinstance(expected.proof, bool):
        raise AblationError(f"proof is True or False, found {expected.proof!r}")
    is_weak = expected.no_worse_than is not None or expected.no_better_than is not None
    if not expected.proof and not is_weak:
        raise AblationError(
            "proof=False is for no_worse_than and no_better_than, which then hold where the "
            "opposite is not proven; the others hold by proof alone"
        )
    contradictions = (
        ("at_most", "at_least", lambda most, least: most < least),
        ("worse_than", "better_than", lambda *_: True),
        ("no_worse_than", "worse_than", lambda most, least: most <= least),
        ("no_better_than", "better_than", lambda most, least: most <= least),
    )
    for one, other, is_contradiction in contradictions:
        limits = getattr(expected, one), getattr(expected, other)
        if None not in limits and is_contradiction(*limits):
            raise AblationError(
                f"{one}={limits[0]!r} and {other}={limits[1]!r} cannot both hold: leave one out"
            )


# --- judgement -------------------------------------------------------------------------------


def _judged_changes(
    expected: Expectation, delta: Delta, higher_is_better: bool
) -> Iterator[Finding]:
    """In the direction of harm and in that of benefit the rules are the same."""
    benefit = 1 if higher_is_better else -1
    for sign, beyond, within in (
        (-benefit, "worse_than", "no_worse_than"),
        (benefit, "better_than", "no_better_than"),
    ):
        low, high = sorted(sign * end for end in _interval(delta))
        value = sign * delta.value
        limit = getattr(expected, beyond)
        if limit is not None:
            outcome = "holds" if low > limit else "wrong" if high <= limit else "undecided"
            meaning = f"the whole interval {_side(sign)} {_signed(sign * limit)}"
            yield Finding(f"{beyond}={limit:g}", meaning, outcome, value - limit)
        limit = getattr(expected, within)
        if limit is not None:
            holds = high <= limit if expected.proof else low <= limit
            outcome = "holds" if holds else "wrong" if low > limit else "undecided"
            side, at = _side(sign), _signed(sign * limit)
            meaning = f"no part of the interval {side} {at}"
            if not expected.proof:
                meaning = f"the interval not wholly {side} {at}"
            yield Finding(f"{within}={limit:g}", meaning, outcome, limit - value)


def _interval(delta: Delta) -> tuple[float, float]:
    """Its ends; infinite where nothing is known of the spread."""
    return (delta.low, delta.high) if delta.p_value is not None else (-math.inf, math.inf)


def _side(sign: int) -> str:
    return "above" if sign > 0 else "below"


def _signed(limit: float) -> str:
    return f"{limit:+g}" if limit else "0"


def _judged_verdict(allowed: Sequence[str], delta: Delta, higher_is_better: bool) -> Finding:
    words = " or ".join(word.replace("_", " ") for word in allowed)
    argument = f"verdict={allowed[0]!r}" if len(allowed) == 1 else f"verdict={tuple(allowed)!r}"
    if delta.verdict in allowed:
        return Finding(argument, f"the verdict {words}", "holds")
    is_open = delta.verdict in (None, "inconclusive")
    distance = None
    if "no_detectable_change" not in allowed:
        gain = delta.value if higher_is_better else -delta.value
        distance = max({"better": gain, "worse": -gain}.get(word, 0.0) for word in allowed)
    outcome = "undecided" if is_open else "wrong"
    return Finding(argument, f"the verdict {words}", outcome, distance)


# --- words -----------------------------------------------------------------------------------


def failure_text(
    title: str,
    findings: Sequence[Finding],
    *,
    mean: float,
    delta: Delta | None,
    values: Mapping[int, float],
    names: tuple[str, str],
) -> str:
    """What a failed expectation says: expected, found, the seeds, and what to do; <= 80 columns.

    Parameters
    ----------
    title : study, variant, mode and metric
    mean : of the metric itself
    values : seed to value of the variant
    names : of the variant and of its baseline
    """
    lines = [*_wrapped(title)]
    for finding in findings:
        lines += _wrapped(f"expected {finding.argument}: {finding.meaning} ({finding.outcome})", 2)
    lines += _wrapped(f"found {_found(mean, delta)}", 2)
    lines += ["", *_seed_table(values, delta, names), ""]
    return "\n".join([*lines, *_wrapped(_advice(findings, delta))])


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2) if indent else "",
        break_on_hyphens=False,
    )


def _found(mean: float, delta: Delta | None) -> str:
    if delta is None:
        return f"a mean of {mean:.4f}"
    seeds = f"{delta.n_seeds} {'seed' if delta.n_seeds == 1 else 'seeds'}"
    text = f"a change of {delta.value:+.4f} (mean {mean:.4f})"
    if delta.n_seeds < 2:
        return f"{text}, {seeds}, so no interval and no verdict"
    if delta.p_value is None:
        return f"{text}, the same at all {seeds}, which says nothing about its spread"
    verdict = f", {delta.verdict.replace('_', ' ')}" if delta.verdict else ""
    return f"{text}, 95 % interval {delta.low:+.4f} to {delta.high:+.4f}{verdict}, {seeds}"


def _seed_table(
    values: Mapping[int, float], delta: Delta | None, names: tuple[str, str]
) -> list[str]:
    """A line per seed: value of the variant, of its baseline, and their difference."""
    if delta is None:
        heads = ["seed", names[0]]
        rows = [[str(seed), f"{value:.4f}"] for seed, value in sorted(values.items())]
    else:
        heads = ["seed", *names, "difference"]
        rows = [
            [str(seed), f"{values[seed]:.4f}", f"{values[seed] - change:.4f}", f"{change:+.4f}"]
            for seed, change in sorted(delta.by_seed.items())
        ]
    heads = [_short(head) for head in heads]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (heads, *rows)
    ]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 2]}.."


def _advice(findings: Sequence[Finding], delta: Delta | None) -> str:
    wrong = [finding for finding in findings if finding.outcome == "wrong"]
    if wrong:
        listed = " and ".join(finding.argument for finding in wrong)
        if all(finding.argument.startswith(_MEANS) for finding in wrong):
            return (
                f"{listed} is wrong for the mean itself, whatever its spread: mend the code, or "
                f"change what is expected."
            )
        if all(finding.argument.startswith("verdict") for finding in wrong):
            return (
                "The verdict of these seeds is settled, and it is another one: mend the code, or "
                "change what is expected."
            )
        return (
            f"These seeds prove that {listed} does not hold, and more of them would hardly change "
            f"it: mend the code, or change what is expected."
        )
    if delta.n_seeds < 2:
        return (
            f"Undecided: one seed has no interval and proves nothing. Two are the least, three or "
            f"more are better: {SEEDS_OPTION}=3, or Mode(seeds=3)."
        )
    if delta.p_value is None:
        return (
            "Undecided: the same difference at every seed says nothing about its spread. More "
            "seeds or more test examples would tell; no_worse_than and no_better_than with "
            "proof=False need no proof."
        )
    return f"Undecided: {_more_seeds(findings, delta)}"


def _more_seeds(findings: Sequence[Finding], delta: Delta) -> str:
    """What more seeds would do for what is undecided."""
    from pytest_ablation.next_steps import MOST_SEEDS

    distances = [finding.distance for finding in findings if finding.outcome == "undecided"]
    auto = ""
    if delta.verdict == "inconclusive":
        auto = f"; {SEEDS_OPTION}={AUTO} adds seeds while the verdict is inconclusive"
    known = [distance for distance in distances if distance is not None]
    if any(distance <= 0 for distance in known):
        return (
            f"the interval reaches beyond the limit, and the mean change lies on the other side of "
            f"it, so that more seeds would rather show that it does not hold{auto}."
        )
    if not known:
        return f"the interval is too wide to tell, and more seeds make it narrower{auto}."
    number = seeds_to_detect(delta, min(known), most=MOST_SEEDS)
    if number is None:
        return (
            f"the interval reaches beyond the limit, and to settle that more than {MOST_SEEDS} "
            f"seeds are needed if the true change is the one that was seen{auto}."
        )
    return (
        f"the interval reaches beyond the limit. If the true change is the one that was seen, "
        f"about {number} seeds settle it four times out of five ({SEEDS_OPTION}={number}){auto}."
    )
