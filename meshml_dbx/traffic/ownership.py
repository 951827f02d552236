"""Which MLflow run a call belongs to: the one rule that the log folder and the lake share.

Goes in: the runs of a tracking store. Comes out: disjoint segments of time, each with its owner;
a call belongs to the segment that holds its start. The first of these ways that finds one counts:

- ``header``: a client's call that names a run which was on when it began is that run's, for
  certain. An unknown run, or one that was over, names nothing: programs keep headers for too long.
- ``process``: a run of the process that made the call. The innermost nested run wins; overlapping
  runs that are not nested make the time ambiguous.
- ``window``: calls of processes that tagged no run at that time fall to runs of the same client,
  or without a tag.

A node's own calls name a run only by passing headers on: they are no waits of the program.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

OPEN_END = 2**62
"""The end of a run that still lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One MLflow run, as far as joining, diagnosing and billing need it; times: UTC microseconds.

    From ``team`` on, what its tags say of whom it was for, and where on Databricks it ran.

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
    team: str | None = None
    model: str | None = None
    environment: str | None = None
    workspace_id: str | None = None
    job_id: str | None = None
    job_run_id: str | None = None
    cluster_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A span ``[start_time, end_time)`` in which some calls have an owner.

    ``method`` is header (those that name the run), process (those of the process that the run's tag
    names) or window (those of the client that no process owns).
    """

    start_time: int
    end_time: int
    run_id: str
    method: str
    ambiguous: bool
    process_id: str | None = None
    client: str | None = None


def end_of(run: Run) -> int:
    """The moment from which on a run was over; one of no length has the microsecond of its start.

    >>> end_of(
    ...     Run(run_id="r", name="", experiment_id="0", status="FINISHED", start_time=5, end_time=5)
    ... )
    6
    """
    return OPEN_END if run.end_time is None else max(run.end_time, run.start_time + 1)


def header_segments(runs: Iterable[Run]) -> tuple[Segment, ...]:
    """One segment for each run: while it lasts, the calls that name it are its own."""
    return tuple(
        Segment(
            start_time=run.start_time,
            end_time=end_of(run),
            run_id=run.run_id,
            method="header",
            ambiguous=False,
        )
        for run in sorted(runs, key=lambda run: run.run_id)
    )


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
    edges = sorted({t for run in runs for t in (run.start_time, end_of(run))})
    waiting = sorted(runs, key=lambda run: run.start_time, reverse=True)
    alive: list[Run] = []
    spans: list[tuple[int, int, Run, bool]] = []
    for start, end in pairwise(edges):
        # Only who is alive is looked at: a store has thousands of runs, few at a time.
        alive = [run for run in alive if end_of(run) > start]
        while waiting and waiting[-1].start_time <= start:
            alive.append(waiting.pop())
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
