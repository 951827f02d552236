"""What one run waited for, row by row: the columns of the table ``waits``, and figures made of it.

Goes in: rows of one run. Comes out: the few numbers that are shown with the run in MLflow.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from meshml_dbx.traffic.sketch import merge_buckets, quantile_of

PART_NAMES = (
    "earlier_attempts",
    "connect",
    "tls",
    "pool_wait",
    "send",
    "first_byte",
    "transfer",
    "other",
)
"""The parts of a call's time, in the order in which they claim it, as the diagnosis has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a run waited for one place that it called from one stage.

    ``wait_us`` is the place's share of the time in which any call was in flight, split evenly over
    those in flight, so a run's rows add up to its wait. The parts, ``connect_us`` and the others,
    add up to ``duration_us``, the time of the calls one by one, which may overlap. ``service`` is
    the virtual service, or the host where the call left the mesh. ``buckets`` are those of
    ``sketch``.
    """

    run_id: str
    event_date: date
    stage: str | None
    service: str
    virtual_service: str | None
    route: str | None
    target: str | None
    pattern: str | None
    calls: int
    unfinished: int
    errors: int
    retries: int
    wait_us: int
    duration_us: int
    earlier_attempts_us: int
    connect_us: int
    tls_us: int
    pool_wait_us: int
    send_us: int
    first_byte_us: int
    transfer_us: int
    other_us: int
    bytes_in: int
    bytes_out: int
    buckets: dict[int, int]


METRIC_ROOT = "mesh"
LONGEST_NAME = 200
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_. -]")


def run_metrics(waits: Iterable[Wait]) -> dict[str, float]:
    """What MLflow shows of a run's waits: in all, and for each service that it called.

    >>> run_metrics([])
    {}
    """
    rows = tuple(waits)
    if not rows:
        return {}
    by_service: dict[str, list[Wait]] = {}
    for row in sorted(rows, key=lambda row: row.service):
        by_service.setdefault(row.service, []).append(row)
    metrics = _figures(METRIC_ROOT, rows)
    for service, listed in by_service.items():
        metrics |= _figures(_free(f"{METRIC_ROOT}/{metric_name(service)}", metrics), listed)
    return metrics


def metric_name(service: str) -> str:
    """A service as one part of a metric's name: MLflow takes few characters, and paths only.

    >>> metric_name("127.0.0.1:8080/x"), metric_name("..")
    ('127.0.0.1_8080_x', '__')
    """
    name = _NOT_IN_A_NAME.sub("_", service).strip()[:LONGEST_NAME].strip()
    return name if name.strip(".") else "_" * max(len(name), 1)


def _figures(root: str, rows: Iterable[Wait]) -> dict[str, float]:
    listed = tuple(rows)
    p95_us = quantile_of(merge_buckets(row.buckets for row in listed), 0.95)
    return {
        f"{root}/wait_s": sum(row.wait_us for row in listed) / 1e6,
        f"{root}/calls": float(sum(row.calls for row in listed)),
        f"{root}/retries": float(sum(row.retries for row in listed)),
        f"{root}/p95_ms": round((p95_us or 0.0) / 1000, 3),
    }


def _free(root: str, taken: dict[str, float]) -> str:
    """The name, numbered where another service has it already, whatever its case."""
    lowered = {name.lower() for name in taken}
    names = (root, *(f"{root}_{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if f"{name}/wait_s".lower() not in lowered)
