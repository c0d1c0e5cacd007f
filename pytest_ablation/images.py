"""What all figures share: size, colours, fonts, and a PNG that is written whole or not at all.

A drawing function goes in, a file comes out, the same bytes for the same source. It never touches
pyplot's global state, imports matplotlib only when something is drawn, and knows no numbers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import struct
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches. GitHub shows an image about 900 pixels wide: with 9 inches, 9 points are 12 pixels there.
WIDTH, DPI = 9.0, 150
REMARK_HEIGHT = 0.17

# Okabe and Ito's colours, told apart by colour-blind eyes.
BLUE, VERMILION, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, ORANGE, YELLOW, BLACK = "#56B4E9", "#E69F00", "#F0E442", "#000000"
GREY, GRID = "#444444", "#E4E4E4"  # of words and lines that explain; of the grid behind

_DIGEST = "Digest"  # the key of the PNG's text under which the digest of its source stands
# matplotlib's own font has no Chinese, Japanese or Korean; one of these often is there.
_OWN_FONT = "DejaVu Sans"
_CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei",
              "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC",
              "Hiragino Sans GB", "Droid Sans Fallback")  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A figure as the report shows it.

    Attributes
    ----------
    heading : what it is about, in a few words
    file : where the image lies, relative to the report
    alt : what it shows, for those who cannot see it
    caption : how its marks are to be read
    """

    heading: str
    file: str
    alt: str
    caption: str


# --- files ----------------------------------------------------------------------------------------


def write_image(path: Path, digest: str, draw: Callable[[str], bytes]) -> bool:
    """Write a figure to *path*, whole or not at all; returns whether it had to be drawn.

    A file that carries the same digest is left as it is: drawing takes half a second, which is
    much in a session that trains nothing.

    Parameters
    ----------
    path : its folder is made where it is missing
    digest : of all that decides the bytes, see :func:`source_digest`
    draw : given the digest, returns the PNG that carries it (see :func:`png_of`)

    Raises
    ------
    OSError
        The folder or the file cannot be written.
    """
    if _digest_in(path) == digest:
        return False
    image = draw(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(image)
    os.replace(temporary, path)
    return True


def write_figure(path: Path, digest: str, make: Callable[[], Figure]) -> bool:
    """:func:`write_image` of the figure that *make* returns; it is made with our own settings."""

    def draw(digest: str) -> bytes:
        with own_settings():
            return png_of(make(), digest)

    return write_image(path, digest, draw)


def source_digest(parts: Any, *files: str) -> str:
    """A digest of all that decides a figure's bytes: what is drawn, the code, and matplotlib.

    Parameters
    ----------
    parts : plain values and dataclasses of them
    files : ``__file__`` of the modules that draw, beside this one
    """
    from importlib.metadata import version

    what = json.dumps([parts, version("matplotlib")], sort_keys=True, default=dataclasses.asdict)
    code = b"".join(Path(file).read_bytes() for file in (__file__, *files))
    return hashlib.sha256(code + what.encode()).hexdigest()


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


# --- figures --------------------------------------------------------------------------------------


@contextmanager
def own_settings() -> Iterator[None]:
    """matplotlib's defaults in place of the user's, whose matplotlibrc would change the bytes.

    All of a figure is made inside: from :func:`new_figure` to :func:`png_of`.
    """
    import matplotlib

    defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    with matplotlib.rc_context(defaults), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box is drawn in its place
        yield


def new_figure(height: float) -> Figure:
    """An empty figure, as wide as a report and *height* inches high; its canvas is Agg's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: Figure, digest: str) -> bytes:
    """The figure as PNG; no date, no path and no program's name is in it."""
    out = io.BytesIO()
    figure.canvas.print_png(out, metadata={"Software": None, _DIGEST: digest})
    return out.getvalue()


def draw_title(figure: Figure, title: str) -> None:
    """The line above all else."""
    place = 0.1 / WIDTH, 1 - 0.12 / figure.get_figheight()
    figure.text(*place, shortened(title, 90), size=11.5, weight="bold", va="top", parse_math=False,
                family=fonts_for(title))  # fmt: skip


def draw_remarks(figure: Figure, remarks: Sequence[str]) -> None:
    """The lines below all else, ``REMARK_HEIGHT`` each."""
    place = 0.1 / WIDTH, 0.1 / figure.get_figheight()
    figure.text(*place, "\n".join(remarks), size=8, color=GREY, va="bottom", parse_math=False)


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes whose frame is at this place, in inches from the figure's upper left corner."""
    whole = figure.get_figheight()
    return figure.add_axes(
        (left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole)
    )


def plain_axes(ax: Axes) -> None:
    """The look of all axes: a light grid behind, no frame above and to the right."""
    ax.grid(color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8.5)


# --- texts ----------------------------------------------------------------------------------------


def width_of(text: str) -> int:
    """How many characters wide *text* is; Chinese characters count twice."""
    return len(text) + sum(map(_is_wide, text))


def shortened(text: str, most: int) -> str:
    """*text* without its middle where it is wider than *most*; Chinese characters count twice."""
    if width_of(text) <= most:
        return text
    most = most // 2 if any(map(_is_wide, text)) else most
    return f"{text[: most - most // 3 - 1]}…{text[-(most // 3) :]}"


def fonts_for(text: str) -> list[str]:
    """The ``family`` of a text: our font, and one with Chinese characters where it has any."""
    if not any(map(_is_wide, text)):
        return [_OWN_FONT]
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [_OWN_FONT, *[name for name in _CJK_FONTS if name in installed][:1]]


def readable(text: str, number: str) -> str:
    """*text*; with *number* for its Chinese characters where no font for them is installed."""
    if not any(map(_is_wide, text)) or len(fonts_for(text)) > 1:
        return text
    return f"{number} {''.join(c for c in text if not _is_wide(c))}"


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"
