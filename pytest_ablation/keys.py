"""A run's key: equal keys, equal results. Never made of a pytest node id or a study's name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from pytest_ablation.digests import digest
from pytest_ablation.mode import Mode
from pytest_ablation.training_code import TrainingCode

#: Raised when the same inputs begin to mean another result. Not the version of the record's schema:
#: older records that can still be read are to be found.
#: 2: the batch order has another digest, so that those of older runs cannot be compared with it.
KEY_VERSION = 2


def run_key(
    *,
    config: Mapping[str, Any],
    seed: int,
    mode: Mode,
    data: Any,
    code: TrainingCode,
    device: str,
) -> str:
    """32 hexadecimal digits over all that decides a run's result.

    Parameters
    ----------
    config : the resolved configuration as plain values
    data : digest of the data, as told by the study's ``data``
    device : the device asked for; ``cuda:1`` and ``cuda`` count as the same
    """
    return digest(
        {
            "schema": KEY_VERSION,
            "config": config,
            "seed": seed,
            "budget": dict(mode.budget),
            "data": data,
            "code": code.digest,
            "libraries": code.libraries,
            "python": list(sys.version_info[:2]),
            "device": device.partition(":")[0],
        }
    )
