"""Curves as a PNG: one small panel per model, drawn by matplotlib.

Panels go in, bytes come out, the same ones for the same panels. It never touches pyplot's global
state, and matplotlib is imported only when there is something to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ablation import curves
from pytest_ablation.curves import Panel, Series, remarks, seed_counts, series, splits_of
from pytest_ablation.images import (
    BLUE,
    GREEN,
    GREY,
    PINK,
    REMARK_HEIGHT,
    SKY,
    VERMILION,
    WIDTH,
    draw_remarks,
    draw_title,
    fonts_for,
    new_figure,
    own_settings,
    plain_axes,
    png_of,
    readable,
    shortened,
    source_digest,
    write_image,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_HEIGHT, _HEAD_HEIGHT, _FOOT_HEIGHT = 2.2, 1.05, 0.6
_FEW_EPOCHS = 10  # so few get a tick and a dot each
_MOST_TICKS = 6

# The lines differ in style as well as in colour.
_STYLES: Mapping[str, tuple[str, Any]] = {
    "train": (BLUE, (0, (1.2, 1.2))),
    "validation": (VERMILION, "solid"),
    "test": (GREEN, (0, (5, 1.8))),
}
_OTHER_STYLES = ((PINK, (0, (6, 1.5, 1, 1.5))), (SKY, (0, (3, 1, 1, 1, 1, 1))))


def write_curves(path: Path, panels: Sequence[Panel], metric: str, title: str) -> bool:
    """Write the figure to *path*, whole or not at all; returns whether it had to be drawn.

    A file that was drawn from the same panels by the same code is left as it is.

    Raises
    ------
    OSError
        The folder or the file cannot be written.
    """
    digest = source_digest([panels, metric, title], __file__, curves.__file__)
    return write_image(path, digest, lambda digest: curves_png(panels, metric, title, digest))


def curves_png(panels: Sequence[Panel], metric: str, title: str, digest: str = "") -> bytes:
    """The figure as PNG; no date, no path and no program's name is in it.

    Parameters
    ----------
    panels : at least one; one without any value says that it has none
    metric : what is drawn upwards
    title : the line above the panels
    digest : kept in the file's text
    """
    with own_settings():
        columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
        rows = -(-len(panels) // columns)
        foot = _FOOT_HEIGHT + REMARK_HEIGHT * len(remarks(panels))
        figure = new_figure(_HEAD_HEIGHT + rows * _PANEL_HEIGHT + foot)
        styles = _styles(splits_of(panels))
        _draw_frame(figure, panels, title, foot, styles)
        _draw_panels(figure, panels, metric, (rows, columns), styles)
        return png_of(figure, digest)


# --- drawing --------------------------------------------------------------------------------------


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
        left=0.75 / WIDTH, right=1 - 0.15 / WIDTH, wspace=0.08,
        bottom=foot / height, top=1 - _HEAD_HEIGHT / height, hspace=0.45,
    )  # fmt: skip
    draw_title(figure, title)
    draw_remarks(figure, remarks(panels))
    words = curves.split_words(list(styles))
    handles = [Line2D([], [], color=color, linestyle=style, linewidth=1.6)
               for color, style in styles.values()]  # fmt: skip
    if any(panel.reported_epoch is not None for panel in panels):
        handles.append(Line2D([], [], color=GREY, linewidth=0.8))
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
        _set_title(ax, shortened(panel.title, 96 // columns), f"no. {index + 1}")
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
    ax.text(0, 1.03, seed_counts(panel), size=8, color=GREY, transform=ax.transAxes)
    plain_axes(ax)
    if panel.reported_epoch is not None:
        ax.axvline(panel.reported_epoch, color=GREY, linewidth=0.8, zorder=1.5)
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


def _set_title(ax: Axes, title: str, number: str) -> None:
    """Name a panel; a number stands for Chinese characters where no font for them is installed."""
    fonts = fonts_for(title)
    ax.set_title(
        readable(title, number), size=9.5, loc="left", pad=15, parse_math=False, family=fonts
    )
