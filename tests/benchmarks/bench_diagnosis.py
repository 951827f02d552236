"""How much CPU time the diagnosis of a large run takes, and how that grows with its calls.

Run it with ``pytest -s -m benchmark tests/benchmarks/bench_diagnosis.py``.
"""

import time
from array import array

import numpy as np
import numpy.typing as npt
import pytest

from meshml_dbx.diagnosis import diagnose
from meshml_dbx.diagnosis.waits import split_waits
from meshml_dbx.traffic.evidence import (
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    CallColumns,
    Coded,
    Evidence,
    RunCalls,
)
from meshml_dbx.traffic.ownership import Run

SIZES = (10_000, 100_000, 1_000_000)
MOST_GROWTH = 20.0
"""n log n grows 11 to 12 times for ten times the calls; the rest is for a busy machine."""

TEXTS = {
    "virtual_service": ("a.ml.local", "b.ml.local", "c.ml.local"),
    "route": ("only",),
    "target": ("v1", "v2"),
    "pattern": tuple(f"GET /v1/p{number:02}" for number in range(20)),
    "stage": ("ingestion", "training"),
    "flags": ("-",),
}


def numbers(values: npt.NDArray[np.int64]) -> "array[int]":
    """A column of the evidence."""
    return array("q", values.astype(np.int64).tobytes())


def large_run(calls: int, seed: int) -> RunCalls:
    """A run of so many calls, about twenty of them in flight at once."""
    random = np.random.default_rng(seed)
    duration = random.integers(500, 40_000, calls)
    known = {
        "start_time": np.sort(random.integers(0, calls * 1000, calls)),
        "duration_us": duration,
        "code": np.full(calls, 200),
        "attempts": np.full(calls, 1),
        "to_upstream_us": np.full(calls, 200),
        "first_byte_us": duration - 400,
        "upstream_connection_id": random.integers(1, 50, calls),
    }
    unknown = np.full(calls, -1)
    columns = CallColumns(
        request_ids=tuple(map(str, range(calls))),
        numbers={name: numbers(known.get(name, unknown)) for name in NUMBER_COLUMNS},
        texts={
            name: Coded(
                codes=array("i", random.integers(0, len(names), calls).astype(np.int32).tobytes())
                if names
                else array("i", unknown.astype(np.int32).tobytes()),
                names=names,
            )
            for name, names in ((one, TEXTS.get(one, ())) for one in TEXT_COLUMNS)
        },
    )
    run = Run(
        run_id=f"run-{seed}",
        name="large",
        experiment_id="0",
        status="FINISHED",
        start_time=0,
        end_time=calls * 1000,
    )
    return RunCalls(run=run, calls=columns)


def seconds_of_waits(calls: int) -> float:
    """CPU seconds of the sweep."""
    columns = large_run(calls, 1).calls
    start = np.asarray(columns.numbers["start_time"])
    end = start + np.asarray(columns.numbers["duration_us"])
    begun = time.process_time()
    split_waits(start, end)
    return time.process_time() - begun


def seconds_of_diagnosis(calls: int, *, baselines: int) -> float:
    """CPU seconds of the whole diagnosis, compared with so many runs of the same size."""
    this = large_run(calls, 1)
    evidence = Evidence(
        run=this.run,
        read_at=calls * 1000,
        calls=this.calls,
        baseline=tuple(large_run(calls, 2 + number) for number in range(baselines)),
        baseline_kind="recent" if baselines else "none",
    )
    begun = time.process_time()
    diagnose(evidence)
    return time.process_time() - begun


@pytest.mark.benchmark
def test_time_grows_nearly_linearly() -> None:
    """The sweep and the diagnosis stay near n log n up to a million calls."""
    rows = {
        calls: (
            min(seconds_of_waits(calls) for _ in range(3)),
            min(seconds_of_diagnosis(calls, baselines=0) for _ in range(2)),
            seconds_of_diagnosis(calls, baselines=1),
        )
        for calls in SIZES
    }

    for calls, (sweep, whole, compared) in rows.items():
        print(  # noqa: T201  # the figures are what a benchmark is for
            f"\n{calls:>9} calls: CPU time of the sweep {sweep:.3f} s, diagnosis {whole:.3f} s, "
            f"with a baseline run as large {compared:.3f} s",
            end="",
        )
    assert all(
        large <= MOST_GROWTH * small
        for small, large in zip(rows[100_000], rows[1_000_000], strict=True)
    )
