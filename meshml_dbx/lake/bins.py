"""Spans of time cut at the borders of equal bins, so that a join of moments with them is by key.

Goes in: spans, of which those of one key never overlap. Comes out: levels of pieces. How wide bins
are is told by how long the spans are, so that nobody has to tune it; what is much longer than the
others has a level of its own with wider bins. Whatever the spans: they have four pieces each on
average at most, and a bin holds few of one key.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from meshml_dbx.lake.spans import LAST_MOMENT, Span

KeySpan = tuple[str, int, int, str, bool]
"""Key, start, end, value, ambiguous."""
Piece = tuple[str, int, int, int, str, bool]
"""Key, bin, start, end, value, ambiguous."""

PIECES_OF_A_SPAN = 4
CROWD = 32
"""Up to so many spans of one key in a bin are looked through for each call: a further level, which
each call has to look at, too, costs about as much."""

QUANTILES = (1.0, 0.95, 0.75, 0.5, 0.25, 0.1, 0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Spans of keys, each once for every bin that it touches; later moments are in the last bin.

    >>> Pieces(width=60).last_bin
    0
    """

    width: int
    last_bin: int = 0
    rows: tuple[Piece, ...] = ()


def cut_pieces(spans: Iterable[KeySpan], span: Span) -> tuple[Pieces, ...]:
    """These spans, as far as they are inside ``span``, as levels from narrow to wide bins.

    >>> short = [("p", n * 10, n * 10 + 9, "r", False) for n in range(100)]
    >>> levels = cut_pieces([*short, ("q", 0, 10**9, "s", False)], Span(start=0, end=10**9))
    >>> [(level.width, len(level.rows)) for level in levels]
    [(10, 100), (1000000001, 1)]
    """
    inside = [
        (key, max(start, span.start), min(end, span.end), value, ambiguous)
        for key, start, end, value, ambiguous in spans
        if start < span.end and end > span.start
    ]
    if not inside:
        return ()
    # Where a span stays open, bins go no further than the last border that is known.
    last = max(edge for _, start, end, *_ in inside for edge in (start, end) if edge < LAST_MOMENT)
    rest = sorted(inside, key=lambda one: (_length(one, last), one))
    levels: list[Pieces] = []
    while rest:
        taken, level = _level(rest, last)
        levels.append(level)
        rest = rest[taken:]
    return tuple(levels)


def _level(spans: Sequence[KeySpan], last: int) -> tuple[int, Pieces]:
    """How many of the spans, shortest first, the next level takes, and the level.

    Where keys have few spans, one bin holds all; else bins are as wide as a quantile of the spans
    is long: the highest in whose bins there is no crowd. There is none in those of the shortest.
    """
    lengths = [_length(one, last) for one in spans]
    if max(Counter(key for key, *_ in spans).values()) <= CROWD:
        return len(spans), _cut(spans, last + 1, last)
    for quantile in QUANTILES:
        width = lengths[int(quantile * (len(lengths) - 1))] + 1
        level = _cut(spans[: (taken := _affordable(lengths, width))], width, last)
        if max(Counter((key, bin_) for key, bin_, *_ in level.rows).values()) <= CROWD:
            return taken, level
    width = lengths[0] + 1
    taken = _affordable(lengths, width)
    return taken, _cut(spans[:taken], width, last)


def _affordable(lengths: Sequence[int], width: int) -> int:
    """How many of the spans, shortest first, have so few pieces on average at this width."""
    pieces = accumulate(length // width + 2 for length in lengths)
    return sum(total <= PIECES_OF_A_SPAN * count for count, total in enumerate(pieces, 1))


def _cut(spans: Iterable[KeySpan], width: int, last: int) -> Pieces:
    rows = tuple(
        (key, bin_, start, end, value, ambiguous)
        for key, start, end, value, ambiguous in spans
        for bin_ in range(start // width, min(end - 1, last) // width + 1)
    )
    return Pieces(width=width, last_bin=last // width, rows=rows)


def _length(one: KeySpan, last: int) -> int:
    _, start, end, *_ = one
    return min(end, last) - start
