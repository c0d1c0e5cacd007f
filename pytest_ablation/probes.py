"""Probes: how much a result hangs on a learning rate that somebody once chose.

A configuration goes in; the same with one field at a third and at three times its value comes out.
"""

from __future__ import annotations

import math
from typing import Any

from pytest_ablation.configuration import did_you_mean, field_values, with_changes
from pytest_ablation.errors import StudyError

TIMES = "\N{MULTIPLICATION SIGN}"
LABELS = (f"{TIMES}1/3", f"{TIMES}3")


def probe_configurations(field: str, config: Any) -> dict[str, Any]:
    """*config* with a third and with three times the value of *field*, by label.

    Raises
    ------
    StudyError
        The field does not exist, is not a positive float, or the configuration refuses the
        multiple.
    """
    fields = field_values(config)
    if field not in fields:
        raise StudyError(
            f"sensitivity: no field {field!r} in the configuration{did_you_mean(field, fields)}"
        )
    value = fields[field]
    if not isinstance(value, float) or not (math.isfinite(value) and value > 0):
        raise StudyError(
            f"sensitivity: {field}={value!r} has no third and no triple that could be tried: "
            f"expected a positive float, such as a learning rate (1.0, not 1)"
        )
    values = zip(LABELS, (value / 3, value * 3), strict=True)
    return {label: with_changes(config, {field: multiple}) for label, multiple in values}
