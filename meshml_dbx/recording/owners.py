"""Look-ups by process, client and time: whose call is it, and in which stage did it begin.

Goes in: segments and spans that the words cut, disjoint in time. Comes out: the one that holds a
moment. The rules themselves are ``traffic.ownership`` and ``traffic.program_log``.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from meshml_dbx.traffic.ownership import OPEN_END, Run, Segment, process_segments, window_segments
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
    >>> Owners.during(run, [run], clients=["churn"]).of(None, "churn", 7).method
    'window'
    """

    processes: Timeline[Segment]
    windows: Timeline[Segment]

    @classmethod
    def during(cls, run: Run, runs: Iterable[Run], *, clients: Iterable[str]) -> "Owners":
        """The owners while this run lasted: runs of other times have no say in it."""
        begin, end = interval(run)
        others = {r.run_id: r for r in (*runs, run)}.values()
        alive = [r for r in others if interval(r)[0] < end and begin < interval(r)[1]]
        return cls(
            processes=Timeline((s.process_id, s) for s in process_segments(alive)),
            windows=Timeline((s.client, s) for s in window_segments(alive, clients)),
        )

    def of(self, process_id: str | None, client: str | None, moment: int) -> Segment | None:
        """The segment that owns a call which began at that moment: the process's comes first."""
        owner = self.processes.at(process_id, moment) if process_id else None
        return owner or (self.windows.at(client, moment) if client else None)


def stage_timeline(stages: Iterable[Stage]) -> Timeline[Stage]:
    """The stage of each process at each moment."""
    return Timeline((span.process_id, span) for span in stage_spans(stages))


def interval(run: Run) -> tuple[int, int]:
    """When a run began, and the moment from which on it was over, as its segments have it."""
    end = OPEN_END if run.end_time is None else max(run.end_time, run.start_time + 1)
    return run.start_time, end
