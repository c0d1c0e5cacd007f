"""The gate: this session's runs against a reference, study by study.

Two references go in (a session's results are one too), comparisons with their outcomes come out,
and which rows need more seeds before they can be decided. Pure: never trains, reads no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_ablation import looks
from pytest_ablation.gate_errors import ACCEPT, error_row, lost, trouble
from pytest_ablation.gate_results import WHOLE, GateResult, GateRow
from pytest_ablation.gate_statistics import Change, Sides, change_of_means, changes
from pytest_ablation.provenance import differences_of
from pytest_ablation.reference_types import Reference, ReferenceRow, ReferenceRun, ReferenceStudy
from pytest_ablation.statistics import CONFIDENCE, differences, mean

_ROUNDING = 1e-9  # a drop of exactly the margin is not beyond it, however 0.8 - 0.795 is rounded


@dataclass(frozen=True)
class Terms:
    """How a gate decides.

    Attributes
    ----------
    alpha : the chance that it fails although nothing fell by more than its margin
    most_seeds : up to how many seeds of a row it may ask for
    strict : whether what stays undecided fails, so that seeds are spent on it too
    """

    alpha: float = 1 - CONFIDENCE
    most_seeds: int = 0
    strict: bool = False

    def shared_by(self, studies: int) -> Terms:
        """The terms of each of so many studies (Bonferroni)."""
        return replace(self, alpha=self.alpha / max(1, studies))


@dataclass(frozen=True)
class StudyGate:
    """The comparisons of one study.

    Attributes
    ----------
    rows : the comparisons
    wanted : row to the number of seeds that it lacks for a decision
    asked : row to the number of seeds that were asked for in all, where it is above the planned
    """

    rows: tuple[GateRow, ...]
    wanted: Mapping[str, int] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)


def compare(
    old: Reference,
    new: Reference,
    *,
    margins: float | None = None,
    metrics: Sequence[str] | None = None,
    strict: bool = False,
    path: str = "",
) -> GateResult:
    """All seeds of *new* against *old*, at one look.

    Parameters
    ----------
    margins, metrics : in place of those that the studies of *new* have
    path : where *old* was read, to show
    """
    before, after = (
        {name: _with(study, margins=margins, metrics=metrics) for name, study in of.studies.items()}
        for of in (old, new)
    )
    terms = Terms(strict=strict).shared_by(len(before))
    rows = [
        row
        for name, study in after.items()
        for row in compare_study(before.get(name), study, _seeds(study), terms).rows
    ]
    return gate_result(old, new, rows, path=path, strict=strict)


def gate_result(
    old: Reference,
    new: Reference,
    rows: Iterable[GateRow],
    *,
    path: str,
    strict: bool,
    extra_runs: int = 0,
) -> GateResult:
    """The comparisons with what is to be said about the two sides as a whole."""
    absent = [
        f"study {name} is in the reference and has no result: select it, or {ACCEPT}"
        for name in old.studies
        if name not in new.studies
    ]
    rows = tuple(rows)
    return GateResult(
        mode=new.mode,
        reference=path,
        rows=rows,
        errors=tuple(absent) if rows else (*absent, "there is nothing to compare"),
        strict=strict,
        facts=tuple(differences_of(old.made, new.made)),
        extra_runs=extra_runs,
    )


def compare_study(
    old: ReferenceStudy | None,
    new: ReferenceStudy,
    planned: Mapping[str, Sequence[int]],
    terms: Terms,
) -> StudyGate:
    """One study of the session against the same one of the reference.

    A row is looked at with its planned seeds first. Where it fell by more than its margin and that
    is not proven, it gets twice as many, and so on up to ``terms.most_seeds``; each look spends a
    part of alpha (looks.py). Half of alpha is for single rows, half for the mean over all of them.

    Parameters
    ----------
    planned : row to the seeds of the first look; further runs of *new* are those of later looks,
        in the order that they have there
    """
    if old is None:
        text = f"the reference has no study {new.name}: {ACCEPT}"
        return StudyGate(tuple(error_row(new, row, text) for row in new.rows.values()))
    alpha = terms.alpha / max(1, len(new.gate_metrics))
    found = [
        _Metric(old, new, metric, planned, replace(terms, alpha=alpha)).go()
        for metric in new.gate_metrics
    ]
    rows = [row for of in found for row in of.rows]
    wanted, asked = _most(of.wanted for of in found), _most(of.asked for of in found)
    return StudyGate((*rows, *lost(old, new)), wanted, asked)


def _most(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The largest count of each row."""
    found: dict[str, int] = {}
    for of in counts:
        for name, count in of.items():
            found[name] = max(count, found.get(name, 0))
    return found


class _Metric:
    """The comparisons of a study in one metric."""

    def __init__(
        self,
        old: ReferenceStudy,
        new: ReferenceStudy,
        metric: str,
        planned: Mapping[str, Sequence[int]],
        terms: Terms,
    ) -> None:
        self.old, self.new, self.metric, self.planned = old, new, metric, planned
        self.margin = new.margins[metric]
        self.higher = new.is_better_higher(metric)
        first = max((len(seeds) for seeds in planned.values()), default=0)
        self.strict = terms.strict
        self.sizes = looks.look_sizes(max(1, first), max(1, first, terms.most_seeds))
        self.alphas = looks.alphas(self.sizes, terms.alpha)

    def go(self) -> StudyGate:
        errors = {name: trouble(self.old, self.new, name, self.metric, self.planned.get(name, ()))
                  for name in self.new.rows}  # fmt: skip
        models = [n for n, row in self.new.rows.items() if not row.same_as and not errors[n]]
        outcomes = {name: self._outcome_of_same(name) for name in models}
        same = [name for name in models if outcomes[name]]
        changed = [name for name in models if name not in same]
        found = {
            name: self._row(name, [name], outcomes[name], None, 1, self._seeds(name, 1))
            for name in same
        }
        decided, wanted, asked = self._looks(changed, same)
        found |= decided
        rows = []
        for name, row in self.new.rows.items():
            if (row.same_as or name) in wanted:
                errors[name] = (
                    f"{wanted[row.same_as or name]} seeds were asked for to decide, and not all "
                    f"have a result: run the same command again"
                )
            twin = found.get(row.same_as or name)
            if errors[name]:
                rows.append(self._error(row, errors[name]))
            elif twin is None:
                text = f"its model is that of {row.same_as}, which could not be compared"
                rows.append(self._error(row, text))
            else:
                rows.append(replace(twin, row=name))
        rows += [found[WHOLE]] if WHOLE in found else []
        asked = {name: n for name, n in asked.items() if n > len(self.planned[name])}
        return StudyGate(tuple(rows), wanted, asked)

    def _looks(
        self, changed: list[str], same: list[str]
    ) -> tuple[dict[str, GateRow], dict[str, int], dict[str, int]]:
        """The rows that changed, and their mean: decided at the first look that can.

        Returns
        -------
        comparisons by row, and row to the number of seeds that it lacks, and that it was asked for
        """
        found: dict[str, GateRow] = {}
        count = {name: len(self.planned[name]) for name in changed}  # need not be equal
        undecided = [*changed, *([WHOLE] if len(changed) > 1 else [])]
        for number, (size, alpha) in enumerate(zip(self.sizes, self.alphas, strict=True), 1):
            if number > 1:
                count |= dict.fromkeys(changed if WHOLE in undecided else undecided, size)
            missing = {n: c for n, c in count.items() if not self._has(n, c)}
            if missing:
                return found, missing, count
            seen = self._changes(changed, same, count, alpha)
            for name in [name for name in undecided if name in seen]:
                rows = changed if name == WHOLE else [name]
                seeds = self._shared_seeds(rows, count)
                outcome = self._outcome(seen[name])
                found[name] = self._row(name, rows, outcome, seen[name], number, seeds)
            if any(row.outcome == "fail" for row in found.values()):
                break  # it is red: further seeds would not make it redder
            undecided = [n for n in undecided if n in found and self._needs_more(found[n])]
            if not undecided:
                break
        return found, {}, count

    def _changes(
        self, changed: list[str], same: list[str], count: Mapping[str, int], alpha: float
    ) -> dict[str, Change]:
        """Of single rows and of their mean, in the metric's own sign."""
        sides = {name: self._sides(name, count[name]) for name in changed}
        if not self.higher:
            sides = {name: side.turned() for name, side in sides.items()}
        share = alpha / 2 if len(changed) > 1 else alpha
        spread = {name: self._sides(name, self.sizes[0]).new for name in same}
        seen = changes(sides, alpha=share, margin=self.margin, unchanged=spread)
        if len(changed) > 1:
            whole = change_of_means(sides, alpha=share, margin=self.margin)
            seen |= {} if whole is None else {WHOLE: whole}
        return seen if self.higher else {name: change.turned() for name, change in seen.items()}

    def _outcome(self, change: Change) -> str:
        worst, best = self._as_gain(change)
        beyond = -self.margin - _ROUNDING
        if best < beyond:
            return "fail"
        return "pass" if worst >= beyond else "inconclusive"

    def _needs_more(self, row: GateRow) -> bool:
        """Whether further seeds may show a drop: one beyond the margin was seen and not proven."""
        if row.outcome != "inconclusive":
            return False
        drop = -row.delta if self.higher else row.delta
        return self.strict or drop > self.margin + _ROUNDING

    def _as_gain(self, change: Change) -> tuple[float, float]:
        return (change.low, change.high) if self.higher else (-change.high, -change.low)

    # --- values --------------------------------------------------------------------------------

    def _seeds(self, name: str, look: int) -> tuple[int, ...]:
        """The first seeds of a row: the planned ones, then those that were added."""
        planned = tuple(self.planned.get(name, ()))
        added = (seed for seed in self.new.rows[name].runs if seed not in planned)
        return (*planned, *added)[: max(look, len(planned))]

    def _has(self, name: str, count: int) -> bool:
        return len(self._seeds(name, count)) >= count

    def _shared_seeds(self, rows: Sequence[str], count: Mapping[str, int]) -> tuple[int, ...]:
        shared = set.intersection(*(set(self._seeds(name, count[name])) for name in rows))
        return tuple(sorted(shared))

    def _sides(self, name: str, count: int) -> Sides:
        new, old = self.new.rows[name].runs, self.old.rows[name].runs
        return Sides(
            {seed: new[seed].metrics[self.metric] for seed in self._seeds(name, count)},
            {seed: run.metrics[self.metric] for seed, run in old.items()},
        )

    def _outcome_of_same(self, name: str) -> str:
        """Of a row that came out the same for every seed; "" where it did not.

        Runs that differ by rounding alone, of another processor say, and get each test example as
        right or wrong as before need no statistics: they pass.
        """
        new, old = self.new.rows[name].runs, self.old.rows[name].runs
        pairs = [(new[seed], old[seed]) for seed in self._seeds(name, 1)]
        if all(_identical(*pair) for pair in pairs):
            return "unchanged"
        return "pass" if all(_equally_right(self.metric, *pair) for pair in pairs) else ""

    def _row(
        self,
        name: str,
        rows: Sequence[str],
        outcome: str,
        change: Change | None,
        look: int,
        seeds: tuple[int, ...],
    ) -> GateRow:
        """One comparison, of the mean over *rows*."""
        sides = [self._sides(n, len(seeds)) for n in rows]
        new = _mean_by_seed([side.new for side in sides], seeds)
        is_paired = change is None or change.paired
        known = [side.old for side in sides]
        old = _mean_by_seed(known, seeds if is_paired else None)
        return GateRow(
            study=self.new.name,
            row=name,
            metric=self.metric,
            outcome=outcome,
            margin=self.margin,
            higher_is_better=self.higher,
            old_mean=mean(list(old.values())),
            new_mean=mean(list(new.values())),
            delta=0.0 if change is None else change.delta,
            low=0.0 if change is None else change.low,
            high=0.0 if change is None else change.high,
            seeds=seeds,
            reference_seeds=tuple(_mean_by_seed(known, None)),
            paired=is_paired,
            missed=None if change is None else change.missed,
            by_seed=differences(new, old),
            flips=self._flips(rows[0], seeds) if name != WHOLE else None,
            looks=look,
        )

    def _error(self, row: ReferenceRow, message: str) -> GateRow:
        return replace(error_row(self.new, row, message), metric=self.metric, margin=self.margin)

    def _flips(self, name: str, seeds: Iterable[int]) -> tuple[int, int] | None:
        """How many test examples became wrong, and right, over all seeds that both have."""
        new, old = self.new.rows[name].runs, self.old.rows[name].runs
        wrong = right = 0
        for seed in set(seeds) & set(old):
            before, now = (side[seed].correct.get(self.metric) for side in (old, new))
            if before is None or now is None or before.examples != now.examples:
                return None
            wrong += int((before.array() & ~now.array()).sum())
            right += int((~before.array() & now.array()).sum())
        return wrong, right


def _identical(one: ReferenceRun, other: ReferenceRun) -> bool:
    shared = one.metrics.keys() & other.metrics.keys()  # a study may report one more than it did
    same = all(one.metrics[name] == other.metrics[name] for name in shared)
    return same and one.outcome == other.outcome


def _equally_right(metric: str, one: ReferenceRun, other: ReferenceRun) -> bool:
    """Whether two runs told the same of every test example, and have the same metric."""
    told = one.correct.get(metric)
    is_same = told is not None and told == other.correct.get(metric)
    return is_same and one.metrics[metric] == other.metrics[metric]


def _mean_by_seed(
    rows: Sequence[Mapping[int, float]], seeds: Iterable[int] | None
) -> dict[int, float]:
    shared = set.intersection(*(set(row) for row in rows))
    shared &= shared if seeds is None else set(seeds)
    return {seed: mean([row[seed] for row in rows]) for seed in sorted(shared)}


def _with(
    study: ReferenceStudy, *, margins: float | None, metrics: Sequence[str] | None
) -> ReferenceStudy:
    if metrics is not None:
        study = replace(study, gate_metrics=tuple(m for m in metrics if m in study.metrics))
    if margins is not None:
        study = replace(study, margins=dict.fromkeys(study.metrics, margins))
    return study


def _seeds(study: ReferenceStudy) -> dict[str, tuple[int, ...]]:
    return {name: tuple(row.runs) for name, row in study.rows.items()}
