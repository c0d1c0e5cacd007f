"""A reference as JSON, and back without trust: each value is what was expected, or an error.

Laid out so that a diff of the committed file can be read: a line for each run, one for each field
of a configuration. Knows nothing of files.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_ablation.digests import DIGEST_CHARS, digest
from pytest_ablation.errors import StudyError
from pytest_ablation.reference_types import (
    Correctness,
    Reference,
    ReferenceRow,
    ReferenceRun,
    ReferenceStudy,
)
from pytest_ablation.results import STATUSES
from pytest_ablation.strict_json import Value
from pytest_ablation.study import MODE_NAMES
from pytest_ablation.variant import checked_name

SCHEMA_VERSION = 1

_DIGEST = re.compile(rf"[0-9a-f]{{{DIGEST_CHARS}}}")
_SEED = re.compile(r"0|[1-9][0-9]{0,39}")


# --- to JSON -----------------------------------------------------------------------------------


def json_of(reference: Reference) -> str:
    """The text of a reference's file. The same results give the same text, but for ``made``."""
    studies = {name: _study_to_json(s) for name, s in sorted(reference.studies.items())}
    content = {
        "schema": SCHEMA_VERSION,
        "mode": reference.mode,
        "made": dict(reference.made),
        "studies": studies,
        "checksum": _checksum(reference.mode, studies),
    }
    return _laid_out(content) + "\n"


class _OneLine(dict):
    """An object that takes one line of the file."""


def _laid_out(content: Any, indent: str = "") -> str:
    """Objects over several lines; lists, and what is ``_OneLine``, on one."""
    if not isinstance(content, dict) or isinstance(content, _OneLine) or not content:
        return json.dumps(content, allow_nan=False)
    inner = indent + " "
    members = (f"{inner}{json.dumps(n)}: {_laid_out(c, inner)}" for n, c in content.items())
    return "{\n" + ",\n".join(members) + f"\n{indent}}}"


def _study_to_json(study: ReferenceStudy) -> dict[str, Any]:
    return {
        "metrics": list(study.metrics),
        "gate_metrics": list(study.gate_metrics),
        "lower_is_better": list(study.lower_is_better),
        "margins": _OneLine((name, study.margins[name]) for name in study.metrics),
        "not_selected": list(study.not_selected),
        "budget": dict(sorted(study.budget.items())),
        "rows": {name: _row_to_json(study, row) for name, row in study.rows.items()},
    }


def _row_to_json(study: ReferenceStudy, row: ReferenceRow) -> dict[str, Any]:
    """Runs that the first row of the same model has too are told by their seeds alone."""
    first = study.rows[row.same_as].runs if row.same_as else {}
    shared = sorted(seed for seed, run in row.runs.items() if first.get(seed) == run)
    own = sorted(row.runs.keys() - set(shared))
    return {
        "baseline": row.baseline,
        "status": row.status,
        "configuration": row.configuration,
        "config": dict(sorted(row.config.items())),
        "data": row.data,
        "same_as": row.same_as,
        "same_seeds": shared,
        "runs": {str(seed): _run_to_json(study, row.runs[seed]) for seed in own},
    }


def _run_to_json(study: ReferenceStudy, run: ReferenceRun) -> _OneLine:
    correct = {
        name: {"examples": c.examples, "bits": base64.b64encode(c.packed).decode("ascii")}
        for name, c in sorted(run.correct.items())
    }
    return _OneLine(
        metrics={name: run.metrics[name] for name in study.metrics},
        outcome=run.outcome,
        train_data=run.train_data,
        evaluation_data=run.evaluation_data,
        correct=correct,
    )


def _checksum(mode: str, studies: Mapping[str, Any]) -> str:
    """Notices what git makes of two changed files: lines of the one beside lines of the other."""
    return digest([mode, studies])


# --- from JSON ---------------------------------------------------------------------------------


def reference_from(content: Value) -> Reference:
    """The inverse of :func:`json_of`, for what :func:`strict_json.parse` made of the text.

    Raises
    ------
    ValueError
        Other content, with its place.
    """
    _, mode, made, studies, checksum = content.members(
        "schema", "mode", "made", "studies", "checksum"
    )
    reference = Reference(
        mode=mode.one_of(MODE_NAMES),
        studies={_named("study", name, value): _study(name, value)
                 for name, value in studies.items()},
        made=_made(made),
    )  # fmt: skip
    if checksum.text() != _checksum(reference.mode, studies.content):
        content.refuse("its checksum is that of other content (were two versions of it merged?)")
    return reference


def _made(value: Value) -> dict[str, Any]:
    date, commit, uncommitted, python, plugin, libraries, machines = value.members(
        "date", "commit", "uncommitted", "python", "plugin", "libraries", "machines"
    )
    versions = [version for _, version in libraries.items()]
    for told in (date, python, *versions):
        told.text()
    for told in (commit, plugin):
        told.text_or_none()
    uncommitted.truth_or_none()
    for machine in machines.elements():
        _check_plain(machine)
    return value.content


def _study(name: str, value: Value) -> ReferenceStudy:
    metrics, gate, lower, margins, not_selected, budget, rows = value.members(
        "metrics", "gate_metrics", "lower_is_better", "margins", "not_selected", "budget", "rows"
    )
    metric_names = _names("metric", metrics)
    if not metric_names:
        metrics.refuse("expected at least one metric")
    study = ReferenceStudy(
        name=name,
        metrics=metric_names,
        gate_metrics=_names("metric", gate, among=metric_names),
        lower_is_better=_names("metric", lower, among=metric_names),
        margins={metric: _margin(m) for metric, m in
                 zip(metric_names, margins.members(*metric_names), strict=True)},
        rows={},
        not_selected=_names("row", not_selected),
        budget=_plain_object(budget),
    )  # fmt: skip
    for row, content in rows.items():
        study.rows[_named("row", row, content)] = _row(study, row, content)
    for row in study.rows.values():
        if row.baseline is not None and row.baseline not in study.rows:
            rows.refuse(f"the baseline of {row.name} is {row.baseline!r:.90}, which is not there")
    return study


def _margin(value: Value) -> float:
    margin = value.number()
    if not 0 <= margin < 1:
        value.refuse(f"expected a fraction from 0 to below 1, found {margin}")
    return margin


def _row(study: ReferenceStudy, name: str, value: Value) -> ReferenceRow:
    """The row *name* of a study whose earlier rows are there already."""
    baseline, status, configuration, config, data, same_as, same_seeds, runs = value.members(
        "baseline", "status", "configuration", "config", "data", "same_as", "same_seeds", "runs"
    )
    found = {_seed(seed, run): _run(study, int(seed), run) for seed, run in runs.items()}
    found |= _shared_runs(study, same_as, same_seeds, found)
    return ReferenceRow(
        name=name,
        baseline=baseline.text_or_none(),
        configuration=_digest(configuration, optional=not found),
        data=_digest(data, optional=True),
        runs={seed: found[seed] for seed in sorted(found)},
        status=status.one_of(STATUSES),
        same_as=same_as.text(),
        config=_plain_object(config),
    )


def _shared_runs(
    study: ReferenceStudy, same_as: Value, seeds: Value, own: Mapping[int, ReferenceRun]
) -> dict[int, ReferenceRun]:
    """The runs that a row has in common with the first row of the same model."""
    first = study.rows.get(same_as.text())
    if same_as.text() and (first is None or first.same_as):
        same_as.refuse(f"{same_as.text()!r:.90} is no earlier row with runs of its own")
    shared = {}
    for seed in seeds.elements():
        if first is None or seed.whole() not in first.runs:
            seed.refuse(f"{same_as.text() or 'no other row'!r:.90} has no run of this seed")
        if seed.whole() in own or seed.whole() in shared:
            seed.refuse("the run of this seed stands there twice")
        shared[seed.whole()] = first.runs[seed.whole()]
    return shared


def _run(study: ReferenceStudy, seed: int, value: Value) -> ReferenceRun:
    metrics, outcome, train_data, evaluation_data, correct = value.members(
        "metrics", "outcome", "train_data", "evaluation_data", "correct"
    )
    numbers = metrics.members(*study.metrics)
    for name, of_metric in correct.items():
        if name not in study.gate_metrics:
            of_metric.refuse("it is none of the metrics that the study's gate compares")
    return ReferenceRun(
        seed=seed,
        metrics={n: m.number() for n, m in zip(study.metrics, numbers, strict=True)},
        correct={name: _correctness(of_metric) for name, of_metric in correct.items()},
        outcome=_digest(outcome),
        train_data=_digest(train_data, optional=True),
        evaluation_data=_digest(evaluation_data, optional=True),
    )


def _correctness(value: Value) -> Correctness:
    examples, bits = value.members("examples", "bits")
    count = examples.whole()
    try:
        packed = base64.b64decode(bits.text(), validate=True)
    except (binascii.Error, ValueError) as error:
        bits.refuse(f"it is no base64: {error}")
    padding = -count % 8
    if not count or len(packed) != (count + padding) // 8 or packed[-1] & (1 << padding) - 1:
        bits.refuse(f"{len(packed)} bytes are not the bits of {count:.6g} examples")
    return Correctness(count, packed)


def _named(kind: str, name: str, value: Value) -> str:
    try:
        return checked_name(kind, name)
    except StudyError as error:
        value.refuse(str(error))


def _names(kind: str, value: Value, among: Sequence[str] | None = None) -> tuple[str, ...]:
    names = tuple(_named(kind, element.content, element) for element in value.elements())
    if len(set(names)) < len(names):
        value.refuse("a name stands there twice")
    for name in names:
        if among is not None and name not in among:
            value.refuse(f"{name!r} is none of the metrics {', '.join(among)}")
    return names


def _seed(text: str, value: Value) -> int:
    if not _SEED.fullmatch(text):
        value.refuse("a seed is an integer of 0 or more")
    return int(text)


def _digest(value: Value, *, optional: bool = False) -> str:
    if not (optional and value.text() == "") and not _DIGEST.fullmatch(value.text()):
        value.refuse(
            f"expected a digest of {DIGEST_CHARS} hexadecimal digits, found {value.text()!r:.60}"
        )
    return value.text()


def _plain_object(value: Value) -> dict[str, Any]:
    return {name: member.content for name, member in value.items()}


def _check_plain(value: Value) -> None:
    """An object of texts, numbers and null."""
    for _, member in value.items():
        if isinstance(member.content, (dict, list)):
            member.refuse("expected a text, a number or null")
