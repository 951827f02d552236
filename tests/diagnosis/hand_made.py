"""Evidence made by hand: a training program that makes one call after the other.

The healthy program pages records, asks for labels by a weighted route, looks features up and
scores; each fault is one call, or one target's calls, made otherwise.
"""

from collections.abc import Callable, Iterable, Mapping
from random import Random

from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import CallColumns, Evidence, RunCalls
from meshml_dbx.traffic.ownership import Run

BEGIN = 1_795_410_522_000_000
SECOND = 1_000_000
SIDECAR = "churn-training-0a1b2c3d"

Change = Callable[[str, int], Mapping[str, object] | None]
"""Target and number of the call among that target's → the fields that a fault changes."""

STAGES = (
    ("ingestion", "records.ml.local", "pages", "GET /v1/records", 20, 40, ("records",)),
    ("processing", "labels.ml.local", "by-day", "GET /v1/labels/{}", 40, 100, ("v1", "v1", "v2")),
    ("training", "features.ml.local", "lookup", "GET /v1/features/{}", 15, 60, ("features",)),
    ("scoring", "scoring.ml.local", "score", "POST /v1/score", 30, 40, ("scoring",)),
)
"""Stage, service, route, pattern, usual milliseconds, calls, and targets in turn."""


def call(at_us: int, ms: float, **changes: object) -> Call:
    """A call that began so long after the run's begin and took so long; answered unless told."""
    total = round(ms * 1000)
    fields: dict[str, object] = {
        "type": "DownstreamEnd",
        "start_time": BEGIN + at_us,
        "observer": "egress",
        "sidecar_id": SIDECAR,
        "client": "churn-training",
        "request_id": f"request-{at_us}",
        "method": "GET",
        "authority": "labels.ml.local",
        "virtual_service": "labels.ml.local",
        "mesh_version": "mesh-1",
        "route": "by-day",
        "target": "v1",
        "pattern": "GET /v1/labels/{}",
        "code": 200,
        "details": "via_upstream",
        "flags": "-",
        "attempts": 1,
        "total_us": total,
        "to_upstream_us": min(200, total),
        "send_us": 0,
        "first_byte_us": max(total - 500, 0),
        "receive_us": 100,
        "pool_ready_ms": 0,
        "upstream_host": "127.0.0.1:18081",
        "upstream_local_address": f"127.0.0.1:{40000 + at_us % 20000}",
        "upstream_connection_id": 1,
    }
    return Call(**fields | changes)  # type: ignore[arg-type]  # the fields are Call's own


def program(change: Change = lambda _target, _number: None, *, seed: int = 1) -> list[Call]:
    """The calls of the program, one after the other, 20 ms of its own work between two."""
    random, calls, now = Random(seed), [], 100_000
    counts: dict[str, int] = {}
    for stage, service, route, pattern, usual_ms, count, targets in STAGES:
        for number in range(count):
            target = targets[number % len(targets)]
            counts[target] = counts.get(target, 0) + 1
            changed = dict(change(target, counts[target]) or {})
            ms = float(str(changed.pop("ms", usual_ms * random.uniform(0.8, 1.2))))
            pause_ms = float(str(changed.pop("pause_ms", 20)))
            made = {
                "stage": stage,
                "virtual_service": service,
                "authority": service,
                "route": route,
                "pattern": pattern,
                "target": target,
                "method": pattern.split()[0],
            }
            calls.append(call(now, ms, **made | changed))
            now += round((ms + pause_ms) * 1000)
    return calls


def run_of(calls: Iterable[Call], **changes: object) -> Run:
    """A finished run that ends 0.1 s after its last call."""
    end = max((one.end_time for one in calls), default=BEGIN + 10 * SECOND)
    fields: dict[str, object] = {
        "run_id": "4f1c0b7a9d",
        "name": "churn-training",
        "experiment_id": "1",
        "status": "FINISHED",
        "start_time": BEGIN,
        "end_time": end + 100_000,
    }
    return Run(**fields | changes)  # type: ignore[arg-type]  # the fields are Run's own


def evidence(calls: Iterable[Call], **changes: object) -> Evidence:
    """The evidence of a run with these finished calls."""
    listed = list(calls)
    run = run_of(listed)
    fields: dict[str, object] = {
        "run": run,
        "read_at": run.end_time,
        "calls": CallColumns.of(listed),
        "cpu_s": 1.0,
    }
    return Evidence(**fields | changes)  # type: ignore[arg-type]  # the fields are Evidence's own


def past(calls: Iterable[Call], run_id: str = "9be27a11") -> RunCalls:
    """A run of the past."""
    listed = list(calls)
    return RunCalls(run=run_of(listed, run_id=run_id), calls=CallColumns.of(listed))


def compared(calls: Iterable[Call], **changes: object) -> Evidence:
    """The evidence of a run whose baseline is a named healthy run of the program."""
    return evidence(
        calls, **{"baseline": (past(program(seed=2)),), "baseline_kind": "named"} | changes
    )


def slow_route(target: str, _number: int) -> dict[str, object] | None:
    """labels-v2 takes 950 ms instead of 40."""
    return {"ms": 950} if target == "v2" else None
