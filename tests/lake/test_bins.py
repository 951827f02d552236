"""Spans in bins: few pieces, no crowd, whatever the spans; a moment finds its span and no other."""

import random
from collections import Counter
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshml_dbx.lake.bins import CROWD, PIECES_OF_A_SPAN, KeySpan, Pieces, cut_pieces
from meshml_dbx.lake.spans import LAST_MOMENT, Span, few_spans

MINUTE, DAY = 60_000_000, 86_400_000_000
YEAR = 365 * DAY
EVER = Span(start=0, end=LAST_MOMENT)


def one_after_the_other(key: str, lengths: list[int], begin: int = 0) -> list[KeySpan]:
    """Spans of a key that touch, of these lengths."""
    edges = list(accumulate(lengths, initial=begin))
    return [(key, a, b, f"{key}{n}", False) for n, (a, b) in enumerate(pairwise(edges))]


def looked_up(levels: tuple[Pieces, ...], key: str, moment: int) -> list[str]:
    """What a join by key and bin finds at that moment, level by level."""
    return [
        value
        for level in levels
        for found, bin_, start, end, value, _ in level.rows
        if (found, bin_) == (key, min(moment // level.width, level.last_bin))
        and start <= moment < end
    ]


CLUSTERED = one_after_the_other("p", [YEAR // 2, *[MINUTE] * 3000, YEAR // 2])
NESTED = one_after_the_other("p", [n % 2 * 19 * MINUTE + MINUTE for n in range(6000)])
SHAPES: dict[str, list[KeySpan]] = {
    "nightly runs of one client": NESTED,
    "a year beside 3,000 minutes, as another client": [*NESTED, ("q", 0, YEAR, "year", False)],
    "3,000 minutes in one hour of a year": CLUSTERED,
    "that of two hundred clients": [
        (f"{key}{n % 200}", start, end, value, False)
        for n, (key, start, end, value, _) in enumerate(CLUSTERED)
    ],
    "one open end": [*NESTED, ("q", MINUTE, LAST_MOMENT, "open", False)],
    "lengths of every order": one_after_the_other("p", [2 ** (n % 45) for n in range(3000)]),
    "half of them instants": one_after_the_other("p", [1, DAY] * 1500),
    "instants in a row before a year": one_after_the_other("p", [*[1] * 3000, YEAR]),
    "each run its own key": [(f"r{n}", n, n + YEAR, f"r{n}", False) for n in range(3000)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_are_few_and_no_bin_is_crowded(shape: str) -> None:
    """At most four pieces for each span on average, a handful of spans in a bin, few levels."""
    spans = SHAPES[shape]
    levels = cut_pieces(spans, EVER)
    assert sum(len(level.rows) for level in levels) <= PIECES_OF_A_SPAN * len(spans)
    bins = Counter((n, row[0], row[1]) for n, level in enumerate(levels) for row in level.rows)
    assert max(bins.values()) <= CROWD
    assert len(levels) <= (1 if shape.startswith("nightly") else 10)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_moment_finds_its_span(shape: str) -> None:
    """Begin, last moment and end of spans, and what lies around them."""
    spans = random.Random(5).sample(SHAPES[shape], 40)
    levels = cut_pieces(SHAPES[shape], EVER)
    for key, start, end, value, _ in spans:
        assert looked_up(levels, key, start) == [value]
        assert looked_up(levels, key, min(end - 1, start + YEAR)) == [value]
        assert value not in looked_up(levels, key, end)


@st.composite
def any_spans(draw: st.DrawFn) -> list[KeySpan]:
    """Spans of three keys, disjoint in each, of any length, with and without gaps between them."""
    made: list[KeySpan] = []
    for key in "pqr":
        steps = draw(st.lists(st.integers(1, 2 ** draw(st.integers(1, 50))), max_size=30))
        kept = draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)))
        spans = one_after_the_other(key, steps, draw(st.integers(0, 2**40)))
        made += [span for span, keep in zip(spans, kept, strict=True) if keep]
    return made


@given(any_spans(), st.integers(0, 2**41), st.integers(1, 2**50), st.randoms())
def test_whatever_the_spans(
    spans: list[KeySpan], begin: int, length: int, chance: random.Random
) -> None:
    """A moment of the time that is asked for finds what holds it there, once, or nothing."""
    asked = Span(start=begin, end=begin + length)
    levels = cut_pieces(spans, asked)
    assert sum(len(level.rows) for level in levels) <= PIECES_OF_A_SPAN * len(spans)
    edges = [edge for _, start, end, *_ in spans for edge in (start, end - 1, end)]
    moments = [*chance.sample(edges, min(len(edges), 20)), begin, begin + length - 1]
    for moment in moments:
        if asked.start <= moment < asked.end:
            for key in "pqr":
                expected = [v for k, a, b, v, _ in spans if k == key and a <= moment < b]
                assert looked_up(levels, key, moment) == expected


@given(st.lists(st.integers(1, 100), max_size=60), st.integers(1, 8))
def test_few_spans_hold_what_many_held(steps: list[int], most: int) -> None:
    """No moment is lost, and the gaps that are closed for it are the shortest."""
    edges = list(accumulate(steps))
    spans = [Span(start=a, end=b) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    few = few_spans(spans, most)
    assert len(few) == min(len(spans), most)
    assert all(any(f.start <= s.start and s.end <= f.end for f in few) for s in spans)
    gaps = sorted(two.start - one.end for one, two in pairwise(spans))
    closed = sum(f.end - f.start for f in few) - sum(s.end - s.start for s in spans)
    assert closed == sum(gaps[: len(spans) - len(few)])
