"""Which MLflow run a call belongs to: the one rule that the log folder and the lake share.

Goes in: the runs of a tracking store. Comes out: disjoint segments of time, each with its owner;
a call belongs to the segment that holds its start. A process's own runs come first: the innermost
nested run wins, overlapping runs that are not nested make the time ambiguous. Calls of processes
that tagged no run at that time fall to runs of the same client, or without a tag, by window.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

OPEN_END = 2**62
"""The end of a run that still lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One MLflow run, as far as joining and diagnosing need it; times are UTC microseconds.

    >>> Run(run_id="4f1c", name="churn", experiment_id="0", status="FINISHED", start_time=0).client
    """

    run_id: str
    name: str
    experiment_id: str
    status: str
    start_time: int
    end_time: int | None = None
    experiment: str | None = None
    parent_run_id: str | None = None
    process_id: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A span ``[start_time, end_time)`` in which a process's or client's calls have an owner.

    ``method`` is process (the run's tag names the process) or window (client and time only).
    """

    start_time: int
    end_time: int
    run_id: str
    method: str
    ambiguous: bool
    process_id: str | None = None
    client: str | None = None


def process_segments(runs: Iterable[Run]) -> tuple[Segment, ...]:
    """The segments of every process that tagged a run."""
    by_process: dict[str, list[Run]] = {}
    for run in runs:
        if run.process_id:
            by_process.setdefault(run.process_id, []).append(run)
    return tuple(
        Segment(
            start_time=start,
            end_time=end,
            run_id=owner.run_id,
            method="process",
            ambiguous=ambiguous,
            process_id=process,
        )
        for process, members in sorted(by_process.items())
        for start, end, owner, ambiguous in _split(members)
    )


def window_segments(runs: Iterable[Run], clients: Iterable[str]) -> tuple[Segment, ...]:
    """The segments by which calls that no process owns fall to a run, for each client."""
    candidates = tuple(runs)
    return tuple(
        Segment(
            start_time=start,
            end_time=end,
            run_id=owner.run_id,
            method="window",
            ambiguous=ambiguous,
            client=client,
        )
        for client in sorted(set(clients))
        for start, end, owner, ambiguous in _split(
            [run for run in candidates if run.client in (None, client)]
        )
    )


def _split(runs: list[Run]) -> list[tuple[int, int, Run, bool]]:
    """Disjoint spans in order: the owner of each, and whether another run has as good a claim."""
    edges = sorted({t for run in runs for t in (run.start_time, _end(run))})
    spans: list[tuple[int, int, Run, bool]] = []
    for start, end in pairwise(edges):
        alive = [run for run in runs if run.start_time <= start and _end(run) >= end]
        if alive:
            owner, ambiguous = _innermost(alive)
            spans.append((start, end, owner, ambiguous))
    return spans


def _innermost(alive: list[Run]) -> tuple[Run, bool]:
    """The run that no other living run is nested in; ambiguous when there are several."""
    parents = {run.parent_run_id for run in alive}
    leaves = [run for run in alive if run.run_id not in parents]
    latest = max(leaves or alive, key=lambda run: (run.start_time, run.run_id))
    return latest, len(leaves) != 1


def _end(run: Run) -> int:
    return OPEN_END if run.end_time is None else max(run.end_time, run.start_time + 1)
