"""Which MLflow run a call belongs to: the one rule that the log folder and the lake share.

Goes in: the runs of a tracking store. Comes out: disjoint segments of time, each with its owner;
a call belongs to the segment that holds its start. The first of these ways that finds one counts:

- ``header``: a client's call that names a run which was on when it began is that run's, for
  certain. An unknown run, or one that was over, names nothing: programs keep headers for too long.
- ``process``: a run of the process that made the call. The innermost nested run wins; overlapping
  runs that are not nested make the time ambiguous.
- ``job``: a run of the Databricks task run in which the process ran, else of its job run.
- ``window``: calls of processes that have no run by then fall to runs of the same client, or
  without a tag.

A deleted run owns no calls, as if it had never been; a restored one owns what it did before.
A node's own calls name a run only by passing headers on: they are no waits of the program.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
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
    task_run_id: str | None = None
    model_version: str | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessJob:
    """The job run and task run of Databricks in which a process ran, as its program line has them.

    >>> ProcessJob(process_id="p", job_run_id="77").task_run_id
    """

    process_id: str
    job_run_id: str | None = None
    task_run_id: str | None = None
    workspace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A span ``[start_time, end_time)`` in which some calls have an owner.

    ``method`` is header (those that name the run), process (those of the process that the run's tag
    names), job (those of the process whose job or task the run's tags name) or window (those of the
    client that nothing else owns).
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
        if not run.deleted
    )


def process_segments(runs: Iterable[Run]) -> tuple[Segment, ...]:
    """The segments of every process that tagged a run."""
    by_process: dict[str, list[Run]] = {}
    for run in runs:
        if run.process_id and not run.deleted:
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


def job_segments(runs: Iterable[Run], jobs: Iterable[ProcessJob]) -> tuple[Segment, ...]:
    """The segments by which calls of a job's processes fall to a run of the same task or job.

    While any run of the process's own task lasts, those of the job as a whole have no say; runs of
    another task of the job never have.
    """
    by_id: dict[str, dict[str, Run]] = {}
    for run in runs:
        for name in {run.job_run_id, run.task_run_id} - {None}:
            if name and not run.deleted:
                by_id.setdefault(name, {})[run.run_id] = run
    return tuple(
        Segment(
            start_time=start,
            end_time=end,
            run_id=owner.run_id,
            method="job",
            ambiguous=ambiguous,
            process_id=job.process_id,
        )
        for _, job in sorted({job.process_id: job for job in jobs}.items())
        for start, end, owner, ambiguous in _split(*_runs_of_job(job, by_id))
    )


def _runs_of_job(
    job: ProcessJob, by_id: dict[str, dict[str, Run]]
) -> tuple[list[Run], Callable[[Run], int]]:
    """The runs of a process's job, and how far each is from it: 0 of its task, 1 of its job.

    MLflow's own tag for the job run holds the task run's id where a job has several tasks.
    """
    own = by_id.get(job.task_run_id or "", {})
    others = by_id.get(job.job_run_id or "", {})
    found = {
        run_id: run
        for run_id, run in {**own, **others}.items()
        if None in (run.workspace_id, job.workspace_id) or run.workspace_id == job.workspace_id
    }
    mine = {run_id for run_id in found if run_id in own}
    kept = [
        run
        for run_id, run in found.items()
        if run_id in mine or None in (run.task_run_id, job.task_run_id)
    ]
    return kept, lambda run: run.run_id not in mine


def window_segments(runs: Iterable[Run], clients: Iterable[str]) -> tuple[Segment, ...]:
    """The segments by which calls that no process owns fall to a run, for each client."""
    candidates = tuple(run for run in runs if not run.deleted)
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


def _split(
    runs: list[Run], distance: Callable[[Run], int] = lambda _: 0
) -> list[tuple[int, int, Run, bool]]:
    """Disjoint spans in order: the owner of each, and whether another run has as good a claim.

    Of those that last at a moment, only the nearest have a claim.
    """
    edges = sorted({t for run in runs for t in (run.start_time, end_of(run))})
    begins = sorted(runs, key=lambda run: (run.start_time, run.run_id))
    ends = sorted(range(len(begins)), key=lambda rank: end_of(begins[rank]))
    circles: dict[int, _Lasting] = {}
    begun = ended = 0
    spans: list[tuple[int, int, Run, bool]] = []
    for start, end in pairwise(edges):
        while begun < len(begins) and begins[begun].start_time <= start:
            circles.setdefault(distance(begins[begun]), _Lasting()).add(begun, begins[begun])
            begun += 1
        while end_of(begins[ends[ended]]) <= start:
            circles[distance(begins[ends[ended]])].remove(ends[ended])
            ended += 1
        near = next((circles[far] for far in sorted(circles) if circles[far].runs), None)
        if near:
            spans.append((start, end, *near.innermost()))
    return spans


class _Lasting:
    """The runs that last at one moment, of which the innermost is known at every one.

    A store has thousands of runs, and hundreds that were left without an end: no moment looks at
    all of them. ``rank`` orders runs by their start.

    >>> _Lasting().runs
    {}
    """

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}
        self._children: Counter[str] = Counter()
        self._ranks: dict[str, int] = {}
        self._leaves: set[int] = set()
        self._latest_leaf: list[int] = []
        self._latest: list[int] = []

    def add(self, rank: int, run: Run) -> None:
        """A run begins."""
        self.runs[rank] = run
        self._ranks[run.run_id] = rank
        heappush(self._latest, -rank)
        if run.parent_run_id:
            self._children[run.parent_run_id] += 1
            self._leaves.discard(self._ranks.get(run.parent_run_id, -1))
        self._now_leaf(rank)

    def remove(self, rank: int) -> None:
        """A run is over."""
        run = self.runs.pop(rank)
        self._ranks.pop(run.run_id, None)
        self._leaves.discard(rank)
        if run.parent_run_id:
            self._children[run.parent_run_id] -= 1
            self._now_leaf(self._ranks.get(run.parent_run_id, -1))

    def innermost(self) -> tuple[Run, bool]:
        """The latest run that no other is nested in; ambiguous when there are several."""
        if not self._leaves:
            return self.runs[_top(self._latest, self.runs)], True
        return self.runs[_top(self._latest_leaf, self._leaves)], len(self._leaves) > 1

    def _now_leaf(self, rank: int) -> None:
        if rank in self.runs and not self._children[self.runs[rank].run_id]:
            self._leaves.add(rank)
            heappush(self._latest_leaf, -rank)


def _top(heap: list[int], living: Container[int]) -> int:
    """The highest rank in the heap that still counts; what no longer does is dropped."""
    while -heap[0] not in living:
        heappop(heap)
    return -heap[0]
