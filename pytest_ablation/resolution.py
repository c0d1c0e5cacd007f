"""From a baseline configuration and named changes to the configuration of every row, checked.

A baseline and variants go in; resolved configurations, their probes and what they form come out,
for one mode of a study. Everything that can be wrong with them is an error here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_ablation.configuration import (
    changed_fields,
    did_you_mean,
    plain_values,
    with_changes,
)
from pytest_ablation.errors import StudyError
from pytest_ablation.factorial import Factorial, find_factorial
from pytest_ablation.probes import probe_configurations

if TYPE_CHECKING:
    from pytest_ablation.variant import Variant


@dataclass(frozen=True)
class Rows:
    """The rows of a study as one mode has them.

    Attributes
    ----------
    baselines : row to the row that it is compared with; None for the study's baseline
    configurations : row to resolved configuration, the baseline first
    probes : row to {label: configuration} with a third and with three times one field
    factorial : the two-by-two design among the rows, where the study asks for one
    """

    baselines: Mapping[str, str | None]
    configurations: Mapping[str, Any]
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    factorial: Factorial | None = None

    def changes_of(self, row: str) -> dict[str, tuple[Any, Any]]:
        """Field to (its value in the baseline of *row*, its value in *row*)."""
        baseline = self.baselines[row]
        if baseline is None:
            return {}
        return changed_fields(self.configurations[baseline], self.configurations[row])


def resolve(
    baseline: Any,
    baseline_name: str,
    variants: Sequence[Variant],
    *,
    factors: Sequence[str] = (),
    sensitivity: str | None = None,
) -> Rows:
    """The rows of *baseline* and *variants*.

    Raises
    ------
    StudyError
        A variant that changes nothing, changes what is not there, or is compared with a row that
        does not exist; factors or a sensitivity that do not fit.
    """
    baselines = {baseline_name: None, **{v.name: v.against or baseline_name for v in variants}}
    rows = Rows(baselines, _configurations(baseline, baseline_name, variants))
    _check_effects(rows, variants)
    probes: dict[str, Mapping[str, Any]] = {name: {} for name in baselines}
    if sensitivity is not None:
        for name, config in rows.configurations.items():
            with named(f"row {name!r}"):
                probes[name] = probe_configurations(sensitivity, config)
    factorial = None
    if factors:
        plain = {name: plain_values(config) for name, config in rows.configurations.items()}
        factorial = find_factorial(factors, plain, baseline_name)
    return Rows(baselines, rows.configurations, probes, factorial)


def _configurations(
    baseline: Any, baseline_name: str, variants: Sequence[Variant]
) -> dict[str, Any]:
    """Row to configuration; a variant's changes apply to the row it is compared with."""
    plain_values(baseline)  # raises for a configuration that cannot be stored
    resolved = {baseline_name: baseline}
    waiting = list(variants)
    while waiting:
        ready = [v for v in waiting if (v.against or baseline_name) in resolved]
        if not ready:
            raise StudyError(_unresolved(waiting, [baseline_name, *(v.name for v in variants)]))
        for variant in ready:
            with named(f"variant {variant.name!r}"):
                base = resolved[variant.against or baseline_name]
                resolved[variant.name] = with_changes(base, variant.changes)
                plain_values(resolved[variant.name])
            waiting.remove(variant)
    return {name: resolved[name] for name in (baseline_name, *(v.name for v in variants))}


def _check_effects(rows: Rows, variants: Sequence[Variant]) -> None:
    for variant in variants:
        if not rows.changes_of(variant.name):
            idle = ", ".join(f"{field}={value!r}" for field, value in variant.changes.items())
            raise StudyError(
                f"variant {variant.name!r} resolves to the same configuration as its baseline "
                f"{rows.baselines[variant.name]!r}: "
                f"{idle} is already so; an ablation that changes nothing measures nothing"
            )


def _unresolved(waiting: Sequence[Variant], rows: Sequence[str]) -> str:
    for variant in waiting:
        if variant.against not in rows:
            return (
                f"variant {variant.name!r} is compared against={variant.against!r}, which does "
                f"not exist{did_you_mean(str(variant.against), rows)}"
            )
    names = ", ".join(variant.name for variant in waiting)
    return f"the variants {names} are compared against each other in a circle"


@contextlib.contextmanager
def named(prefix: str) -> Iterator[None]:
    """Put a prefix (whose fault it is) before the message of a StudyError raised inside."""
    try:
        yield
    except StudyError as error:
        raise StudyError(f"{prefix}: {error}") from error
