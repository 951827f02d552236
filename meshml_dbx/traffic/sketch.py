"""How long calls took, as counts in buckets that can be added up: a DDSketch of 1 %.

A bucket holds the durations whose logarithm to the base ``GAMMA`` rounds up to its number, so any
quantile of any sum of buckets is within ``ALPHA`` of the exact one, p99.9 too. Goes in: whole
microseconds, or buckets. Comes out: buckets, or a quantile. The lake makes the same buckets by a
plain SQL expression, see ``BUCKET_SQL``.
"""

import math
from collections.abc import Iterable, Mapping

ALPHA = 0.01
"""How far a quantile may be off, as a share of itself."""

GAMMA = (1 + ALPHA) / (1 - ALPHA)
ZERO_BUCKET = -1
"""The bucket of what took no whole microsecond: it has no logarithm."""

BUCKET_SQL = f"if({{0}} < 1, {ZERO_BUCKET}, CAST(ceil(ln({{0}}) / {math.log(GAMMA)!r}D) AS INT))"
"""The bucket of a column of microseconds, to be formatted with the column's name."""


def bucket_of(value: int) -> int:
    """The number of the bucket that holds so many microseconds.

    >>> [bucket_of(value) for value in (0, 1, 2, 1000)]
    [-1, 0, 35, 346]
    """
    return ZERO_BUCKET if value < 1 else math.ceil(math.log(value) / math.log(GAMMA))


def value_of(bucket: int) -> float:
    """The value that stands for a bucket: within ``ALPHA`` of all that it holds."""
    return 0.0 if bucket == ZERO_BUCKET else 2 * GAMMA**bucket / (GAMMA + 1)


def merge_buckets(parts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """The buckets of several minutes, services or runs as one.

    >>> merge_buckets([{1: 2}, {1: 3, 5: 1}])
    {1: 5, 5: 1}
    """
    merged: dict[int, int] = {}
    for part in parts:
        for bucket, count in part.items():
            merged[bucket] = merged.get(bucket, 0) + count
    return merged


def quantile_of(buckets: Mapping[int, int], q: float) -> float | None:
    """The ``q`` quantile in microseconds, right to ``ALPHA``; None of no calls.

    It is the value with the rank ``q * (calls - 1)``, rounded down.

    >>> round(quantile_of({bucket_of(1000): 98, bucket_of(50_000): 2}, 0.99) or 0, -3)
    50000.0
    """
    left = math.floor(q * (sum(buckets.values()) - 1))
    for bucket in sorted(buckets):
        if left < buckets[bucket]:
            return value_of(bucket)
        left -= buckets[bucket]
    return None
