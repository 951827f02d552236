"""Look-ups by process, client and time: whose call is it, and in which stage did it begin.

Goes in: segments and spans that the words cut, disjoint in time. Comes out: the one that holds a
moment. The rules themselves are ``traffic.ownership`` and ``traffic.program_log``.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from meshml_dbx.recording.columns import Row
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.ownership import (
    ProcessJob,
    Run,
    Segment,
    end_of,
    header_segments,
    job_segments,
    process_segments,
    window_segments,
)
from meshml_dbx.traffic.program_log import Stage, stage_spans


class Span(Protocol):
    """Anything that lasts from a start up to, not including, an end."""

    @property
    def start_time(self) -> int: ...
    @property
    def end_time(self) -> int | None: ...


S = TypeVar("S", bound=Span)


class Timeline(Generic[S]):
    """Disjoint spans under a key, found by key and moment.

    >>> timeline = Timeline([("p", Stage(stage="fit", stage_id="a", process_id="p", start_time=3))])
    >>> timeline.at("p", 4).stage, timeline.at("p", 2), timeline.at("q", 4)
    ('fit', None, None)
    """

    def __init__(self, spans: Iterable[tuple[str | None, S]]) -> None:
        self._spans: dict[str | None, list[S]] = {}
        for key, span in spans:
            self._spans.setdefault(key, []).append(span)
        self._starts: dict[str | None, list[int]] = {}
        for key, listed in self._spans.items():
            listed.sort(key=lambda span: span.start_time)
            self._starts[key] = [span.start_time for span in listed]

    def at(self, key: str | None, moment: int) -> S | None:
        """The span of that key which holds the moment."""
        index = bisect_right(self._starts.get(key, ()), moment) - 1
        if index < 0:
            return None
        span = self._spans[key][index]
        return span if span.end_time is None or moment < span.end_time else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Which run each call of a time belongs to.

    >>> run = Run(run_id="r", name="fit", experiment_id="0", status="RUNNING", start_time=5)
    >>> call = Call(
    ...     type="DownstreamEnd", start_time=7, observer="egress", sidecar_id="a-1", client="churn"
    ... )
    >>> Owners.during(run, [run], clients=["churn"]).of(call).method
    'window'
    """

    headers: Timeline[Segment]
    processes: Timeline[Segment]
    jobs: Timeline[Segment]
    windows: Timeline[Segment]

    @classmethod
    def during(
        cls,
        run: Run,
        runs: Iterable[Run],
        *,
        clients: Iterable[str],
        jobs: Iterable[ProcessJob] = (),
    ) -> "Owners":
        """The owners while this run lasted: runs of other times have no say in it."""
        others = {r.run_id: r for r in (*runs, run)}.values()
        alive = [r for r in others if r.start_time < end_of(run) and run.start_time < end_of(r)]
        return cls(
            headers=Timeline((s.run_id, s) for s in header_segments(alive)),
            processes=Timeline((s.process_id, s) for s in process_segments(alive)),
            jobs=Timeline((s.process_id, s) for s in job_segments(alive, jobs)),
            windows=Timeline((s.client, s) for s in window_segments(alive, clients)),
        )

    def of(self, call: Row | Call) -> Segment | None:
        """The segment that owns a call: its header's, else its process's, job's, client's."""
        moment, client = call.start_time, call.client
        named = self.headers.at(call.run_id, moment) if client and call.run_id else None
        by_process = (self.processes, self.jobs) if call.process_id else ()
        mine = next((s for way in by_process if (s := way.at(call.process_id, moment))), None)
        return named or mine or (self.windows.at(client, moment) if client else None)


def stage_timeline(stages: Iterable[Stage]) -> Timeline[Stage]:
    """The stage of each process at each moment."""
    return Timeline((span.process_id, span) for span in stage_spans(stages))
