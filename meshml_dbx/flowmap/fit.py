"""Text that fits: how wide a text is drawn, and its shortest honest form for a given width.

The server does not know the reader's font, so widths are those of DejaVu Sans, the widest of the
common ones. Goes in: any text, hostile ones too. Comes out: text that an SVG may hold.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

NARROW = frozenset("iIjlft.,:;'|!()[]{}/\\ `-")
BROAD = frozenset("mwMW@%&")
ELLIPSIS = "…"
SEAMS = ".-_ /"

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """The text with every character that XML forbids shown as a replacement mark.

    >>> clean("a\\x00b")
    'a\ufffdb'
    """
    return _NOT_IN_XML.sub("\ufffd", text)


BOLD = 1.1
"""How much wider bold letters are."""


def width_of(text: str, size: float) -> float:
    """How wide the text is at most, in the unit of the font's size."""
    return size * sum(_advance(character) for character in text)


def _advance(character: str) -> float:
    if character in NARROW:
        return 0.42
    if character in BROAD:
        return 1.0
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    return 0.7 if character.isupper() else 0.63


def shorten(text: str, *, size: float, width: float) -> str:
    """The text, or its two ends when it is wider than ``width``: names differ at either end.

    >>> shorten("labels.ml.local", size=10, width=200)
    'labels.ml.local'
    >>> shorten("feature-lookup.production.ml.local", size=10, width=100)
    'feature-…ml.local'
    """
    if _fitting(text, size, width) == len(text):
        return text
    room = width - width_of(ELLIPSIS, size)
    head = text[: _fitting(text, size, room / 2)]
    kept = _fitting(reversed(text), size, room - width_of(head, size))
    return f"{head}{ELLIPSIS}{text[len(text) - kept :]}"


def _fitting(text: Iterable[str], size: float, width: float) -> int:
    """How many characters fit, counted from the first."""
    used = 0.0
    count = 0
    for character in text:
        used += size * _advance(character)
        if used > width:
            break
        count += 1
    return count


def wrap(text: str, *, size: float, width: float, lines: int = 3) -> tuple[str, ...]:
    """The text on as many lines as it needs, the last of them shortened where it must be.

    >>> wrap("feature-lookup.production.ml.local", size=10, width=130)
    ('feature-lookup.', 'production.ml.local')
    """
    fitting = _fitting(text, size, width)
    if lines == 1 or fitting == len(text):
        return (shorten(text, size=size, width=width),)
    seam = max(text.rfind(mark, fitting // 2, fitting) for mark in SEAMS) + 1
    cut = seam or max(fitting, 1)
    return text[:cut], *wrap(text[cut:], size=size, width=width, lines=lines - 1)


def fitting_parts(parts: Sequence[str], *, size: float, width: float) -> str:
    """As many of the parts, from the first on, as fit on one line; always the first.

    >>> fitting_parts(["8.3 s in 42 calls", "p95 950 ms"], size=10, width=120)
    '8.3 s in 42 calls'
    """
    for count in range(len(parts), 1, -1):
        text = " · ".join(parts[:count])
        if width_of(text, size) <= width:
            return text
    return shorten(parts[0], size=size, width=width)
