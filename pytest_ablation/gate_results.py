"""What a gate found: plain values, for whoever prints, writes or counts them.

Made by gate.py from a session's results and a reference. Knows nothing of statistics or pytest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

#: From the best to the gravest.
OUTCOMES = ("unchanged", "pass", "inconclusive", "fail", "error")
#: The name of the comparison of a study's mean over all its rows.
WHOLE = "(all rows)"


@dataclass(frozen=True)
class GateRow:
    """One comparison of a session with a reference: a row of a study in one metric.

    Attributes
    ----------
    row : the row's name, or ``WHOLE`` for the mean over all rows of the study
    outcome : ``unchanged`` (bit-identical), ``pass`` (the interval excludes a drop larger than the
        margin, or every test example is as right or wrong as before for every seed), ``fail`` (the
        whole interval is beyond the margin), ``inconclusive`` (neither) or
        ``error`` (could not be compared)
    message : for ``error``: what was found, what was expected, what to do
    margin : a drop that does not matter, a fraction
    higher_is_better : the metric's direction; where false a drop is a rise
    old_mean, new_mean : over the seeds that were compared, the reference's in pairs or all of them;
        None for errors
    delta : new minus reference; None for errors and where no seed was there
    low, high : the interval of *delta*; infinite where two few seeds bound nothing
    confidence : that of the interval, one-sided: the chance that it does not miss a true change
        upwards, after all looks and all comparisons (0.95 in all)
    seeds, reference_seeds : those of the session and of the reference
    paired : whether seeds were compared in pairs
    missed : the drop that these seeds would have found four times out of five; None where unknown
    by_seed : seed to new minus reference, for seeds that both have
    flips : how many test examples became wrong and right, over all shared seeds; None where the
        runs told no correctness
    looks : after how many looks at the data it was decided
    """

    study: str
    row: str
    metric: str
    outcome: str
    margin: float
    message: str = ""
    higher_is_better: bool = True
    old_mean: float | None = None
    new_mean: float | None = None
    delta: float | None = None
    low: float = -math.inf
    high: float = math.inf
    confidence: float = 0.95
    seeds: tuple[int, ...] = ()
    reference_seeds: tuple[int, ...] = ()
    paired: bool = True
    missed: float | None = None
    by_seed: Mapping[int, float] = field(default_factory=dict)
    flips: tuple[int, int] | None = None
    looks: int = 1


@dataclass(frozen=True)
class GateResult:
    """The gate of one mode.

    Attributes
    ----------
    mode : str
    reference : where the reference was read, as a path to show
    rows : in the order of the session's studies and rows
    errors : what is wrong beyond single rows: a study that the session does not have, say
    strict : whether an inconclusive comparison fails too
    facts : sentences about the reference: of which code, made when, other library versions
    extra_runs : how many runs beyond the mode's seeds were asked for to decide
    """

    mode: str
    reference: str
    rows: tuple[GateRow, ...]
    errors: tuple[str, ...] = ()
    strict: bool = False
    facts: tuple[str, ...] = ()
    extra_runs: int = 0

    @property
    def failing(self) -> tuple[GateRow, ...]:
        """The comparisons for which the session fails."""
        grave = ("fail", "error", "inconclusive") if self.strict else ("fail", "error")
        return tuple(row for row in self.rows if row.outcome in grave)

    @property
    def ok(self) -> bool:
        return not self.failing and not self.errors
