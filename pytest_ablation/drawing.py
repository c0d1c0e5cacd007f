"""Curves as a PNG: one small panel per model, drawn by matplotlib.

Panels go in, bytes come out, the same ones for the same panels. It never touches pyplot's global
state, and matplotlib is imported only when there is something to draw.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import struct
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ablation import curves
from pytest_ablation.curves import Panel, Series, remarks, seed_counts, series, splits_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches. GitHub shows an image about 900 pixels wide: with 9 inches, 9 points are 12 pixels there.
_WIDTH, _DPI = 9.0, 150
_PANEL_HEIGHT, _HEAD_HEIGHT, _FOOT_HEIGHT, _REMARK_HEIGHT = 2.2, 1.05, 0.6, 0.17
_FEW_EPOCHS = 10  # so few get a tick and a dot each
_MOST_TICKS = 6

# Okabe and Ito's colours, told apart by colour-blind eyes; the lines differ in style as well.
_STYLES: Mapping[str, tuple[str, Any]] = {
    "train": ("#0072B2", (0, (1.2, 1.2))),
    "validation": ("#D55E00", "solid"),
    "test": ("#009E73", (0, (5, 1.8))),
}
_OTHER_STYLES = (("#CC79A7", (0, (6, 1.5, 1, 1.5))), ("#56B4E9", (0, (3, 1, 1, 1, 1, 1))))
_GREY, _GRID = "#444444", "#E4E4E4"
_DIGEST = "Digest"  # the key of the PNG's text under which the digest of its source stands
# matplotlib's own font has no Chinese, Japanese or Korean; one of these often is there.
_CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei",
              "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC",
              "Hiragino Sans GB", "Droid Sans Fallback")  # fmt: skip


def write_curves(path: Path, panels: Sequence[Panel], metric: str, title: str) -> bool:
    """Write the figure to *path*, whole or not at all; returns whether it had to be drawn.

    A file that was drawn from the same panels by the same code is left as it is: drawing takes
    half a second, which is much in a session that trains nothing.

    Raises
    ------
    OSError
        The folder or the file cannot be written.
    """
    digest = _source_digest(panels, metric, title)
    if _digest_in(path) == digest:
        return False
    image = curves_png(panels, metric, title, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(image)
    os.replace(temporary, path)
    return True


def curves_png(panels: Sequence[Panel], metric: str, title: str, digest: str = "") -> bytes:
    """The figure as PNG; no date, no path and no program's name is in it.

    Parameters
    ----------
    panels : at least one; one without any value says that it has none
    metric : what is drawn upwards
    title : the line above the panels
    digest : kept in the file's text
    """
    with _own_settings(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box is drawn in its place
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
        rows = -(-len(panels) // columns)
        foot = _FOOT_HEIGHT + _REMARK_HEIGHT * len(remarks(panels))
        figure = Figure(figsize=(_WIDTH, _HEAD_HEIGHT + rows * _PANEL_HEIGHT + foot), dpi=_DPI)
        canvas = FigureCanvasAgg(figure)
        styles = _styles(splits_of(panels))
        _draw_frame(figure, panels, title, foot, styles)
        _draw_panels(figure, panels, metric, (rows, columns), styles)
        out = io.BytesIO()
        canvas.print_png(out, metadata={"Software": None, _DIGEST: digest})
    return out.getvalue()


# --- drawing --------------------------------------------------------------------------------------


@contextmanager
def _own_settings() -> Iterator[None]:
    """matplotlib's defaults in place of the user's, whose matplotlibrc would change the bytes."""
    import matplotlib

    defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    with matplotlib.rc_context(defaults):
        yield


def _draw_frame(
    figure: Figure,
    panels: Sequence[Panel],
    title: str,
    foot: float,
    styles: Mapping[str, tuple[str, Any]],
) -> None:
    """Margins, title, legend and remarks: all that is not a panel."""
    from matplotlib.lines import Line2D

    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.75 / _WIDTH, right=1 - 0.15 / _WIDTH, wspace=0.08,
        bottom=foot / height, top=1 - _HEAD_HEIGHT / height, hspace=0.45,
    )  # fmt: skip
    left = 0.1 / _WIDTH
    figure.text(left, 1 - 0.12 / height, _shortened(title, 90), size=11.5, weight="bold", va="top",
                parse_math=False)  # fmt: skip
    figure.text(left, 0.1 / height, "\n".join(remarks(panels)), size=8, color=_GREY, va="bottom")
    words = curves.split_words(list(styles))
    handles = [Line2D([], [], color=color, linestyle=style, linewidth=1.6)
               for color, style in styles.values()]  # fmt: skip
    if any(panel.reported_epoch is not None for panel in panels):
        handles.append(Line2D([], [], color=_GREY, linewidth=0.8))
        words.append("reported epoch")
    legend = figure.legend(handles, ["-"] * len(handles), loc="upper left",
                           bbox_to_anchor=(0, 1 - 0.33 / height), ncols=max(1, len(handles)),
                           frameon=False, fontsize=9, handlelength=3.2)  # fmt: skip
    for text, word in zip(legend.get_texts(), words, strict=True):
        text.set(text=word, parse_math=False)  # a split may be called anything


def _draw_panels(
    figure: Figure,
    panels: Sequence[Panel],
    metric: str,
    shape: tuple[int, int],
    styles: Mapping[str, tuple[str, Any]],
) -> None:
    columns = shape[1]
    axes = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False).ravel()
    for index, (panel, ax) in enumerate(zip(panels, axes, strict=False)):
        _set_title(ax, _shortened(panel.title, 96 // columns), f"no. {index + 1}")
        _draw_panel(ax, panel, metric, styles)
        if index % columns == 0:
            ax.set_ylabel(metric, parse_math=False)
        if index + columns >= len(panels):  # nothing below
            ax.set_xlabel("epoch")
            ax.tick_params(labelbottom=True)
    for ax in axes[len(panels) :]:
        ax.remove()
    _set_epochs(axes[0], panels)


def _draw_panel(ax: Axes, panel: Panel, metric: str, styles: Mapping[str, tuple[str, Any]]) -> None:
    ax.text(0, 1.03, seed_counts(panel), size=8, color=_GREY, transform=ax.transAxes)
    ax.grid(color=_GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8.5)
    if panel.reported_epoch is not None:
        ax.axvline(panel.reported_epoch, color=_GREY, linewidth=0.8, zorder=1.5)
    lines = {split: series(panel.values[split]) for split in styles if split in panel.values}
    for split, line in lines.items():
        _draw_line(ax, line, *styles[split])
    if not any(max(line.seeds, default=0) for line in lines.values()):
        text = f"no finite {metric}" if panel.values else f"no {metric} in this history"
        ax.text(0.5, 0.5, text, size=9, ha="center", transform=ax.transAxes, parse_math=False)


def _draw_line(ax: Axes, line: Series, color: str, style: Any) -> None:
    if max(line.seeds, default=0) > 1:
        ax.fill_between(line.epochs, line.low, line.high, color=color, alpha=0.18, linewidth=0)
    dots = "." if len(line.epochs) <= _FEW_EPOCHS else ""
    ax.plot(line.epochs, line.mean, color=color, linestyle=style, linewidth=1.6, marker=dots)
    ax.plot(*_lonely(line), color=color, linestyle="none", marker=".")


def _lonely(line: Series) -> tuple[list[int], list[float]]:
    """The points without a neighbour, which a line cannot show."""
    known = [False, *map(math.isfinite, line.mean), False]
    alone = [i for i in range(len(line.epochs)) if known[i + 1] and not known[i] | known[i + 2]]
    return [line.epochs[i] for i in alone], [line.mean[i] for i in alone]


def _set_epochs(ax: Axes, panels: Sequence[Panel]) -> None:
    epochs = [e for p in panels for seeds in p.values.values() for v in seeds.values() for e in v]
    first, last = min([1, *epochs]), max([1, *epochs])
    edge = 0.03 * (last - first) or 0.5
    ax.set_xlim(first - edge, last + edge)
    ax.set_xticks(_ticks(first, last))


def _ticks(first: int, last: int) -> list[int]:
    """Whole epochs: each where they are few, else the first and then multiples of 5, 10, 20 ..."""
    if last - first < _FEW_EPOCHS:
        return list(range(first, last + 1))
    steps = (factor * 10**power for power in range(20) for factor in (5, 10, 20))
    step = next(step for step in steps if last // step <= _MOST_TICKS)
    return [first, *(tick for tick in range(step, last + 1, step) if tick - first > step / 4)]


def _styles(splits: Sequence[str]) -> dict[str, tuple[str, Any]]:
    others = [split for split in splits if split not in _STYLES]
    extra = {s: _OTHER_STYLES[i % len(_OTHER_STYLES)] for i, s in enumerate(others)}
    return {split: _STYLES.get(split) or extra[split] for split in splits}


def _shortened(text: str, most: int) -> str:
    """*text* without its middle where it is wider than *most*; Chinese characters count twice."""
    if len(text) + sum(map(_is_wide, text)) <= most:
        return text
    most = most // 2 if any(map(_is_wide, text)) else most
    return f"{text[: most - most // 3 - 1]}…{text[-(most // 3) :]}"


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _set_title(ax: Axes, title: str, number: str) -> None:
    """Name a panel; a number stands for Chinese characters where no font for them is installed."""
    fonts = ["DejaVu Sans"]
    if any(map(_is_wide, title)):
        from matplotlib.font_manager import fontManager

        installed = {font.name for font in fontManager.ttflist}
        found = [name for name in _CJK_FONTS if name in installed][:1]
        fonts += found
        if not found:
            title = f"{number} {''.join(c for c in title if not _is_wide(c))}"
    ax.set_title(title, size=9.5, loc="left", pad=15, parse_math=False, family=fonts)


# --- has it been drawn before? --------------------------------------------------------------------


def _source_digest(panels: Sequence[Panel], metric: str, title: str) -> str:
    """A digest of all that decides the bytes: what is drawn, the code, and matplotlib."""
    from importlib.metadata import version

    what = [[asdict(panel) for panel in panels], metric, title, version("matplotlib")]
    code = b"".join(Path(file).read_bytes() for file in (__file__, curves.__file__))
    return hashlib.sha256(code + json.dumps(what, sort_keys=True).encode()).hexdigest()


def _digest_in(path: Path) -> str | None:
    """The digest in a PNG's text (PNG specification, "tEXt"); None where the file is not whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    place, digest = 8, None
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        key, _, text = data[place + 8 : place + 8 + length].partition(b"\0")
        if kind == b"tEXt" and key == _DIGEST.encode():
            digest = text.decode("latin-1")
        place += 12 + length
        if kind == b"IEND" and place == len(data):
            return digest
    return None
