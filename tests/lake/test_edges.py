"""Edges are what the callers' rows of an hour add up to, worked out again when more come."""

import pytest

from tests.lake.conftest import Lab
from tests.lake.writing import NOON, SECOND

pytestmark = pytest.mark.spark

HOUR = 3600 * SECOND
FIGURES = ("client", "target", "calls", "errors", "retries", "duration_us", "p50_us", "p95_us")


def test_an_hour_of_calls(lab: Lab) -> None:
    """Calls, errors, retries, exact percentiles; the called node's own rows count for nothing."""
    writer = lab.writer()
    for number in range(1, 102):
        writer.call(NOON + number, total_us=number * 1000, code=503 if number > 99 else 200)
    writer.call(NOON, target="labels-v2", attempts=3, code=None, total_us=7)
    writer.close()
    node = lab.writer(sidecar_id="labels-v1-1", observer="ingress", process_id=None, client=None)
    node.call(NOON)
    node.close()
    lab.ingest()
    assert lab.values("edges", *FIGURES) == [
        ("churn", "labels-v1", 101, 2, 0, 5_151_000, 51_000, 96_000),
        ("churn", "labels-v2", 1, 1, 2, 7, 7, 7),
    ]


def test_only_touched_hours_change(lab: Lab) -> None:
    """More calls of one hour change that hour's edge, and no row of another hour."""
    writer = lab.writer()
    writer.call(NOON)
    writer.call(NOON + HOUR)
    writer.close()
    lab.ingest()
    writer.call(NOON + HOUR + 1)
    writer.close()
    lab.ingest()
    rows = lab.table("edges").orderBy("hour").collect()
    assert [(row["hour"].hour, row["calls"]) for row in rows] == [(12, 1), (13, 2)]
