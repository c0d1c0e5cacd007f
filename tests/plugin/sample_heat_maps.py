"""Small heat maps that the tests make, and what stands in a PNG beside its pixels."""

import struct

import numpy as np

from pytest_ablation.heat_maps import HeatMaps

VALUES = np.linspace(0, 1, 2 * 2 * 3).reshape(2, 2, 3)


def make_maps(values=VALUES, **changes):
    values = np.asarray(values)
    panels, rows, columns = values.shape
    texts = {
        "panels": [f"layer 1, head {n + 1}" for n in range(panels)],
        "rows": [f"row{n}" for n in range(rows)],
        "columns": [f"column{n}" for n in range(columns)],
        "title": "Attention",
        "caption": "How to read it.",
    }
    return HeatMaps(values=values, **{**texts, **changes})


def texts_in(png):
    """Keyword to text of a PNG (its specification, "tEXt"), and its width."""
    place, found = 8, {}
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        if kind == b"tEXt":
            key, _, text = png[place + 8 : place + 8 + length].partition(b"\0")
            found[key.decode()] = text.decode("latin-1")
        place += 12 + length
    return found, struct.unpack(">I", png[16:20])[0]
