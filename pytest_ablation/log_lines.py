"""One line of a training log: which epoch, which split, which metrics, as far as it is understood.

Text goes in, a small value or None comes out. It knows English and Chinese words and nothing of
files, runs or the lines around it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

_LONGEST = 1000  # characters; longer lines are progress bars and dumps

_NUMBER = r"[-+]?(?:(?:\d++(?:\.\d*+)?+|\.\d++)(?:e[-+]?\d++)?+|nan|inf(?:inity)?+)(?![A-Za-z\d_])"
_IS = r"(?:(?:\s*+(?:为|是|等于|:|=|\bis\b))++\s*+|\s++)"
_START = r"(?<![A-Za-z\d])"  # an English word may stand after "_", Chinese, or a sign

_PREFIX = re.compile(
    r"""(?:
        \[? (?:\d{4}[-/]\d\d?[-/]\d\d?[ T])? \d\d?:\d\d:\d\d (?:[.,]\d+)? (?:Z|[+-]\d\d:?\d\d)? \]?
      | (?:[\w.]+\ -\ )? \[?(?:INFO|DEBUG|WARNING)\b\]? (?::[\w.]+:)?
      | [\s|:,\[\]-]+
    )+""",
    re.VERBOSE,
)
_EPOCH = re.compile(
    rf"""{_START}epoch(?:\s*(?:id|no\.?|number))?+ [\s:=\#_\[(]*+
           (?P<english>\d{{1,7}}+) (?:\s*(?:/|of)\s*\d++)?+
       | 第\s*(?P<chinese>\d{{1,7}}+)\s*(?:/\s*\d++)?+\s*个?\s*(?:轮|epoch|代|周期)(?:次|训练|的)?
       | 轮次\s*[:=]?\s*(?P<turn>\d{{1,7}}+)\s*/\s*\d++""",
    re.VERBOSE | re.IGNORECASE,
)
_SPLIT = re.compile(
    rf"""(?: {_START}(?: (?P<train>train(?:ing)?) | (?P<validation>val(?:id(?:ation)?)?|dev)
                       | (?P<test>test(?:ing)?) ) (?![A-Za-z]) (?:[\s_-]*(?:set|split)\b)?
           | (?: (?P<train_>训练) | (?P<validation_>验证|校验|开发) | (?P<test_>测试) )
             (?:数据)?集? [上中]?的? )""",
    re.VERBOSE | re.IGNORECASE,
)
_ACCURACY = r"(?:acc(?:uracy)?(?![A-Za-z])|准确率|正确率)"
_METRIC = re.compile(
    rf"""(?: {_START}top[\s_-]*(?P<top>[1-9]\d{{0,5}}+)(?:[\s_-]*{_ACCURACY})?
           | {_START}(?:acc(?:uracy)?|prec)@(?P<at>[1-9]\d{{0,5}}+)
           | {_START}(?P<plain>{_ACCURACY})
           | (?P<loss>{_START}loss(?![A-Za-z_])|损失(?:函数)?值?) )
         {_IS} (?P<number>{_NUMBER}) (?P<percent>\s*%)?""",
    re.VERBOSE | re.IGNORECASE,
)
_OTHER = re.compile(
    r"""(?: (?P<name>[A-Za-z\u4e00-\u9fff][\w@./-]*?) \s*[:=为]\s* | (?P<known>lr|time|eta)\s+ )
        [-+]?(?:\.?\d|nan|inf)[^\s,;|()\[\]]*""",
    re.VERBOSE | re.IGNORECASE,
)
# Names whose figures change what the line says (the best so far, one batch), or that are metrics
# which were not understood: a line with them is not read.
_MEANINGFUL = re.compile(
    r"loss|acc|top|epoch|best|max|min|avg|mean|final|batch|step|iter|train|val|test|dev"
    r"|损失|准确|正确|最|平均|轮|批|步|第|训练|验证|测试",
    re.IGNORECASE,
)
_SIGNS = re.compile(r"[\s,;|:.()\[\]{}*#/_=<>~\u2013\u2014\u3001\u3002\u00b7&+-]+")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Figure:
    """A value as a line gives it.

    Attributes
    ----------
    split : "train", "validation" or "test"
    metric : "loss" or "top<k>"; an accuracy without k is top1
    text : the number as it is written
    has_percent_sign : whether a percent sign follows
    """

    split: str
    metric: str
    text: str
    has_percent_sign: bool = False

    @property
    def what(self) -> tuple[str, str]:
        return self.split, self.metric

    @property
    def is_accuracy(self) -> bool:
        return self.metric != "loss"

    @property
    def number(self) -> float:
        return float(self.text)

    def value_as(self, *, percent: bool) -> float:
        """The value; a hundredth of the number where it is percent (exactly rounded)."""
        if percent or self.has_percent_sign:
            return float(Decimal(self.text) / 100)
        return self.number


@dataclass(frozen=True)
class Line:
    """A line that was understood; ``others`` are names of figures that no curve is made of."""

    epoch: int | None
    figures: tuple[Figure, ...]
    others: tuple[str, ...] = ()


def clean(raw: str) -> str:
    """The line as it can be read and shown: half-width signs, no colours or control characters."""
    text = unicodedata.normalize("NFKC", _COLOUR.sub("", raw).replace("\t", " "))
    return "".join(c if c.isprintable() else "\ufffd" for c in text).strip()


def is_rule(text: str) -> bool:
    """Whether a cleaned line is empty or only drawn (``-----``)."""
    return not any(character.isalnum() for character in text)


def read_line(text: str) -> Line | None:
    """What a cleaned line says, or None where any of it is not understood.

    Examples
    --------
    >>> read_line("Epoch 3/200 Val loss: 0.41, Acc: 87.50%").figures[1]
    Figure(split='validation', metric='top1', text='87.50', has_percent_sign=True)
    >>> read_line("Best Val Acc: 87.50%") is None
    True
    """
    if len(text) > _LONGEST:
        return None
    prefix = _PREFIX.match(text)
    place = prefix.end() if prefix else 0
    epoch, split, figures, others = None, None, [], []
    while place < len(text):
        if match := _EPOCH.match(text, place):
            if epoch is not None:
                return None
            epoch = int(match["english"] or match["chinese"] or match["turn"])
        elif match := _SPLIT.match(text, place):
            split = match.lastgroup.rstrip("_")
        elif match := _METRIC.match(text, place):
            figure = _figure(split, match)
            if figure is None:
                return None
            figures.append(figure)
        elif (match := _OTHER.match(text, place)) and not _MEANINGFUL.search(match["name"] or ""):
            others.append(match["name"] or match["known"])
        elif not (match := _SIGNS.match(text, place)):
            return None
        place = match.end()
    if len({figure.what for figure in figures}) < len(figures):
        return None  # the same metric twice in one line: which of them is it?
    if epoch is None and not figures:
        return None
    return Line(epoch, tuple(figures), tuple(others))


def _figure(split: str | None, match: re.Match[str]) -> Figure | None:
    """The figure, or None where nobody could say of what, or an accuracy is out of its range."""
    if split is None:
        return None
    percent = match["percent"] is not None
    if match["loss"] is not None:
        return None if percent else Figure(split, "loss", match["number"])
    figure = Figure(split, f"top{match['top'] or match['at'] or 1}", match["number"], percent)
    return None if figure.number < 0 or figure.number > 100 else figure
