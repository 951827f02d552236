"""Buckets of durations: any quantile of any sum of them is right to one per cent."""

import math
from random import Random

import pytest

from meshml_dbx.traffic.sketch import (
    ALPHA,
    ZERO_BUCKET,
    bucket_of,
    merge_buckets,
    quantile_of,
    value_of,
)

QUANTILES = (0.0, 0.5, 0.95, 0.99, 0.999, 1.0)


def exact_quantile(values: list[int], q: float) -> int:
    """The value of the same rank, of all of them."""
    return sorted(values)[math.floor(q * (len(values) - 1))]


@pytest.mark.parametrize("seed", range(40))
def test_a_quantile_of_merged_minutes_is_right_to_one_per_cent(seed: int) -> None:
    """Whatever the durations are and however they are spread over minutes."""
    random = Random(seed)
    shape = random.choice((1.0, 10.0, 1e3))
    minutes = [
        [
            int(random.lognormvariate(shape**0.25, 3) * shape)
            for _ in range(random.randrange(1, 300))
        ]
        for _ in range(random.randrange(1, 20))
    ]
    merged = merge_buckets(
        merge_buckets({bucket_of(value): 1} for value in minute) for minute in minutes
    )
    together = [value for minute in minutes for value in minute]
    for q in QUANTILES:
        found, exact = quantile_of(merged, q), exact_quantile(together, q)
        assert found is not None
        assert abs(found - exact) <= ALPHA * exact * (1 + 1e-9)


@pytest.mark.parametrize("value", [1, 2, 3, 999, 1_000_000, 2**40, 2**62])
def test_a_bucket_stands_for_its_values(value: int) -> None:
    """The value of a bucket is within one per cent of all that falls into it."""
    assert abs(value_of(bucket_of(value)) - value) <= ALPHA * value * (1 + 1e-9)


def test_nothing_and_no_time() -> None:
    """No calls have no quantile; a call of no length counts, as one of no length."""
    assert quantile_of({}, 0.5) is None
    assert quantile_of({ZERO_BUCKET: 3, bucket_of(100): 1}, 0.5) == 0.0
