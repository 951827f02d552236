"""Spans of time that have to be worked out again, and the conditions that pick their rows.

Goes in: hours that were touched, or intervals. Comes out: disjoint spans in order, and SQL.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshml_dbx.traffic.access_log import time_text

HOUR_US = 3_600_000_000
LAST_MOMENT = 253_402_300_799_999_999
"""The end of the year 9999: later than any time stamp that SQL can write."""

MOST_SPANS = 16
"""To work out a span again has its price, however short it is: a write, and a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time from ``start`` up to, not including, ``end``, in UTC microseconds.

    >>> Span(start=0, end=HOUR_US).condition("hour")
    "`hour` >= TIMESTAMP '1970-01-01T00:00:00.000000Z' AND `hour` < TIMESTAMP '1970-01-01T01:00:00.000000Z'"
    """  # noqa: E501  # a doctest's answer cannot be broken

    start: int
    end: int

    def condition(self, column: str) -> str:
        """The SQL that holds for the rows whose time is in the span."""
        return (
            f"`{column}` >= TIMESTAMP '{time_text(self.start)}' "
            f"AND `{column}` < TIMESTAMP '{time_text(min(self.end, LAST_MOMENT))}'"
        )


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans in order, those that overlap or touch made one.

    >>> merge_spans([Span(start=5, end=9), Span(start=0, end=5)])
    (Span(start=0, end=9),)
    """
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(start=merged[-1].start, end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)


def few_spans(spans: Sequence[Span], most: int = MOST_SPANS) -> tuple[Span, ...]:
    """These spans, which are disjoint and in order, at most so many: the nearest are made one.

    >>> few_spans([Span(start=0, end=1), Span(start=2, end=3), Span(start=9, end=10)], 2)
    (Span(start=0, end=3), Span(start=9, end=10))
    """
    gaps = sorted(range(1, len(spans)), key=lambda n: spans[n].start - spans[n - 1].end)
    kept = sorted(gaps[max(len(spans) - most, 0) :])
    begins = [0, *kept] if spans else []
    ends = [*(n - 1 for n in kept), len(spans) - 1]
    return tuple(
        Span(start=spans[begin].start, end=spans[end].end)
        for begin, end in zip(begins, ends, strict=False)
    )


def spans_of_hours(hours: Iterable[int]) -> tuple[Span, ...]:
    """The spans that cover these hours, counted since 1970.

    >>> spans_of_hours([1, 0])
    (Span(start=0, end=7200000000),)
    """
    return merge_spans(Span(start=hour * HOUR_US, end=(hour + 1) * HOUR_US) for hour in hours)
