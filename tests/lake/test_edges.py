"""Edges are what the callers' rows of an hour add up to, worked out again when more come."""

import random

import pytest

from meshml_dbx.lake.views import create_functions
from meshml_dbx.traffic.sketch import ALPHA, merge_buckets, quantile_of
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


def test_any_window_of_minutes_has_its_quantiles(lab: Lab) -> None:
    """By SQL and by Python, p50 to p99.9 of merged minutes are right to 1 %; counts add up."""
    chance, writer = random.Random(2), lab.writer()
    took = [int(chance.lognormvariate(9, 2)) for _ in range(3000)]
    for number, total in enumerate(took):
        moment = NOON + number * 60_000
        writer.call(moment, total_us=total, code=503 if number % 100 == 0 else 200)
    writer.close()
    lab.ingest()
    create_functions(lab.spark, lab.names)
    minutes = lab.table("edge_minutes").orderBy("minute").collect()
    assert [row["calls"] for row in minutes] == [1000, 1000, 1000]
    assert [row["errors"] for row in minutes] == [10, 10, 10]
    window = f"{lab.names.table('edge_minutes')} WHERE minute < '2026-11-22 12:02:00'"
    merged = merge_buckets(row["buckets"] for row in minutes[:2])
    for q in (0.5, 0.95, 0.99, 0.999):
        exact = sorted(took[:2000])[int(q * 1999)]
        asked = f"{lab.names.schema}.quantile_us(collect_list(buckets), {q})"
        (found,) = lab.spark.sql(f"SELECT {asked} FROM {window}").collect()  # noqa: S608  # ours
        assert abs(found[0] - exact) <= ALPHA * exact
        assert quantile_of(merged, q) == pytest.approx(found[0])
