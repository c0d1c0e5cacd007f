"""News texts that were HTML once: entities, tags and line breaks as feeds have mangled them.

A text goes in, the text that a person would have read comes out, on one line. Knows no file, no
class and no model. What is told of AG News here was counted in its official files.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from html.entities import html5

#: Names that stand for characters even where their ``&`` is lost. No English words (``pound;``).
_NAMES = (
    "amp|lt|gt|quot|apos|nbsp|[mn]dash|[lr][sd]quo|hellip|bull|trade"
    "|[A-Za-z](?:acute|grave|circ|uml|tilde|ring|cedil|slash)|szlig|[Aa][Ee]lig"
)
_ENTITY = re.compile(
    # Escaped more than once ("&amp;lt;b&amp;gt;") is as good as once.
    r"&(?:amp;)*(#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);"
    # Lost ampersands became spaces: "Rock  amp; Roll", "it #39;s". That space goes with them.
    rf"|(?: |^)(?:amp;)*(#[0-9]+|{_NAMES});"
)
#: By name: what stands in brackets in a text on business is more often a company ("<LMT.N>").
_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|br|center|cite|code|dd|div|dl|dt|em|font|form|h[1-6]|hr|i|img"
    r"|input|li|nobr|ol|p|pre|s|script|small|span|strike|strong|sub|sup|table|tbody|td|th|tr|tt|u"
    r"|ul)(?=[\s/>])[^<>]*>",
    re.IGNORECASE,
)
_BACKSLASH_AND_N = re.compile(r"\\n")
_BACKSLASH_AND_OTHER_LETTER = re.compile(r"\\[a-mo-zA-Z]")
#: A backslash, of a "\$" too, and an n that no small letter follows: no word begins there.
_LONE_BREAK = re.compile(r"\\(?:n(?![a-z]))?")
_BREAK = re.compile(r"\\n?")


def line_break_in(texts: Iterable[str]) -> re.Pattern[str]:
    r"""What stands for a line break in *texts*: for :func:`clean`.

    AG News is documented to have ``\n`` (two characters), and has a lone ``\`` in fact, so that
    "broader\network" is two whole words. Whichever is the more frequent in *texts* is believed;
    the other, where it is no beginning of a word, is a line break as well.
    """
    lone = with_n = 0
    for text in texts:
        lone += len(_BACKSLASH_AND_OTHER_LETTER.findall(text))
        with_n += len(_BACKSLASH_AND_N.findall(text))
    return _LONE_BREAK if lone > with_n else _BREAK


def clean(text: str, line_break: re.Pattern[str] = _BREAK) -> str:
    r"""*text* with its characters restored, without tags and line breaks, on one line.

    >>> clean(r"AT amp;T #39;s  quot;offer, quot;\worth US\$3 &lt;b&gt;...&lt;/b&gt;")
    'AT&T\'s "offer," worth US$3 ...'
    """
    if ";" in text:
        text = _ENTITY.sub(_character, text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "\\" in text:
        text = line_break.sub(" ", text.replace("\\$", "$"))
    return " ".join(text.split())


def _character(match: re.Match[str]) -> str:
    reference = match[1] or match[2]
    if not reference.startswith("#"):
        return html5.get(f"{reference};", match[0])
    # 128 to 159 are those of Windows-1252, as browsers have it (HTML standard, 13.2.5.80).
    character = html.unescape(f"&{reference};")
    return character if character >= " " else match[0]  # "we are #1; they ..." is no character
