"""What feeds have mangled is restored, and nothing that was plain text is taken for damage."""

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.damaged_markup import clean, line_break_in

# "<" and a word is no tag: none of the pieces is the name of one.
pieces = st.lists(st.sampled_from(["word", "7", " ", "&", "<", ">", "'", '"', "é"]), max_size=12)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (" #36;75 million and US #36;2", "$75 million and US$2"),
        ("NASA #39;s  #39;Weightless Wonder #39; flies", "NASA's 'Weightless Wonder' flies"),
        ("we #146;ll see  #151; soon", "we\N{RIGHT SINGLE QUOTATION MARK}ll see \N{EM DASH} soon"),
        ("BAGHDAD  #8212; Militants", "BAGHDAD \N{EM DASH} Militants"),
        ("#147;How are you? #148;", "\N{LEFT DOUBLE QUOTATION MARK}How are you?”"),
        ("Rock  amp; Roll, AT amp;T", "Rock & Roll, AT&T"),
        ("the  quot;superjumbo, quot; they say", 'the "superjumbo," they say'),
        ("caf eacute; and caf&eacute;", "café and café"),
        ("a nbsp;b&nbsp;c", "a b c"),
        ("Sports India: Cricket  gt; Kanpur", "Sports India: Cricket > Kanpur"),
        ("60-day &lt;b&gt;...&lt;/b&gt;", "60-day ..."),
        ("60-day <B>...</b><br/>and<br>more", "60-day ... and more"),
        ("Merck &lt;A HREF=\"http://x/?t=M target=/q/f\"&gt;M.N&lt;/A&gt; said", "Merck M.N said"),
        ('&lt;FONT size="-2"\\ color="#666666"&gt;Times&lt;/FONT&gt;', "Times"),
        ("&amp;lt;p&amp;gt;News &amp;amp; views", "News & views"),
        ("Lockheed Corp. &lt;LMT.N&gt; and &lt;A.N&gt;", "Lockheed Corp. <LMT.N> and <A.N>"),
        ("  white \t space \r\n only  ", "white space only"),
        ("&lt;p&gt;\\&lt;/p&gt; ", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_text_reads_as_it_was_written(found, expected):
    assert clean(found) == expected


@pytest.mark.parametrize(
    "plain",
    ["AT&T and R&D; more", "ranked #1; they lost", "in; or; and; not; pound; copy; Quot",
     "?a=1&para=2&copy", "&nosuchname; stays", "3 < 4 > 2; a<b", "5 #39 and 39;", "x;y;z;"],
)  # fmt: skip
def test_plain_text_stays(plain):
    assert clean(plain) == plain


@given(pieces.map("".join))
def test_escaped_text_is_restored_with_and_without_its_ampersands(text):
    escaped = html.escape(text).replace("&#x27;", "&#39;")
    expected = " ".join(text.split())
    assert clean(escaped) == expected
    assert clean(escaped.replace("&", " ")) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["wider\\network", "and\\gave", "over\\five"], ["wider network", "and gave", "over five"]),
        (["one\\nline", "two\\nlines", "three\\four"], ["one line", "two lines", "three four"]),
        (["go\\n", "up\\\\Then", "or\\nNow", "at\\all"], ["go", "up Then", "or Now", "at all"]),
        (["of \\$24 and US\\$3", "a\\nb"], ["of $24 and US$3", "a b"]),
        (['known as\\"phishing"', "\\", "\\\\"], ['known as "phishing"', "", ""]),
    ],
    ids=["lone backslashes", "backslash and n", "both, mostly lone", "dollars", "no letter"],
)  # fmt: skip
def test_line_breaks_are_those_of_the_file(texts, expected):
    line_break = line_break_in(texts)
    assert [clean(text, line_break) for text in texts] == expected
