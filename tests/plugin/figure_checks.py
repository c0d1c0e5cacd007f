"""What must hold of every figure, checked on matplotlib's own artists and on the PNG's bytes."""

from __future__ import annotations

import itertools
import struct
import warnings

from pytest_ablation.images import own_settings


def made(figure_of, *arguments):
    """The figure as it is made for a report; every warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with own_settings():
            figure = figure_of(*arguments)
            figure.canvas.draw()
    return figure


def texts(figure):
    """All words that can be seen: a tick label only where its tick is on the axis."""
    found = list(figure.texts)
    for legend in figure.legends:
        found += legend.get_texts()
    for ax in figure.axes:
        found += [*ax.texts, ax.xaxis.label, ax.yaxis.label]
        found += [title for title in (ax.title, ax._left_title) if title.get_text()]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = (tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)
            found += [tick.label1 for tick in ticks]
    return [text for text in found if text.get_visible() and text.get_text()]


def words(figure):
    return [text.get_text() for text in texts(figure)]


def assert_readable(figure):
    """Every word is large enough, inside the figure and covers no other one."""
    assert figure.get_figwidth() == 9
    boxes = {text: text.get_window_extent() for text in texts(figure)}
    for text, box in boxes.items():
        assert text.get_size() >= 7, text
        assert not text.get_parse_math() or "$" not in text.get_text(), text
        assert min(box.x0, box.y0) >= 0, text
        assert max(box.x1 - figure.bbox.x1, box.y1 - figure.bbox.y1) <= 0, text
    for (one, box), (other, other_box) in itertools.combinations(boxes.items(), 2):
        assert not box.padded(-1).overlaps(other_box.padded(-1)), (one, other)


def lines_with(ax, marker):
    """The (x, y) of each line that is drawn with this marker."""
    return [tuple(map(list, line.get_data())) for line in ax.lines if line.get_marker() == marker]


def chunks(png):
    """The chunks of a PNG as (kind, data), by the specification."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, place = [], 8
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        found.append((kind, png[place + 8 : place + 8 + length]))
        place += length + 12
    return found


def assert_bare(path):
    """No date, no path and no program in the file: one text, which is a digest."""
    found = chunks(path.read_bytes())
    assert {kind for kind, _ in found} <= {b"IHDR", b"pHYs", b"tEXt", b"IDAT", b"IEND"}
    (text,) = (data for kind, data in found if kind == b"tEXt")
    assert len(text) == len(b"Digest\0") + 64


def drawn_bytes(draw, study, folder):
    """File name to bytes, of what *draw* makes of a study; the folder holds no other files."""
    pictures = draw(study, folder)
    files = {file.name: file.read_bytes() for file in folder.glob("figures/*")}
    assert sorted(f"figures/{name}" for name in files) == sorted(p.file for p in pictures)
    return files
