"""Ingest that goes on, with a look at what is in flight: two loops, for ``Session.watch``.

Part of the hall. Goes in: how to take in and settle, how to look, when to stop. Comes out: a view
each second. Rows are written as soon as files are closed; joins, edges, waits and ledgers follow
every so many seconds, together, so that they do not hold rows up.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from meshml_dbx.errors import LogFolderError, MeshMLError
from meshml_dbx.traffic.call import Call

LOOK_S = 1.0
ROUND_S = 1.0
"""A round begins so long after the one before it ended, at the earliest."""
SETTLE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchView:
    """What is to be seen at a moment (UTC microseconds).

    ``counts`` are the lines taken in since the start, by kind. ``lag_s`` is within how many seconds
    after their end 95 % of the calls were rows, of those that were settled last.
    """

    at: int
    doing: str = "starting Spark"
    in_flight: tuple[Call, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    lag_s: float | None = None


class Lake(Protocol):
    """What the rounds do with the lake."""

    def catch_up(self) -> Mapping[str, int]:
        """Take in all that there is; its counts. Raises LogFolderError while nobody has written."""

    def take(self) -> Mapping[str, int]:
        """Write the rows of what is new; their counts."""

    def settle(self) -> float | None:
        """Work out what is made of them; the lag of their calls."""


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Takes in and settles, round after round, in a thread of its own.

    ``settle_s``: how long rows may wait for what is made of them.
    """

    lake: Lake
    settle_s: float = SETTLE_S
    view: WatchView = field(default_factory=lambda: WatchView(at=0))
    failed: MeshMLError | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Go round until told to stop; what was written is settled before it ends."""
        try:
            self._catch_up()
            settled = time.monotonic()
            while not self._stop.wait(ROUND_S):
                self._say("writing rows")
                self._count(self.lake.take())
                if time.monotonic() - settled > self.settle_s:
                    self._settle()
                    settled = time.monotonic()
                self._say("waiting for calls")
            self._settle()
        except MeshMLError as error:
            self.failed = error

    def stop(self) -> None:
        """Have ``run`` end after the round that it is in."""
        self._stop.set()

    def _catch_up(self) -> None:
        while not self._stop.is_set():
            try:
                self._say("catching up")
                self._count(self.lake.catch_up())
            except LogFolderError:
                self._say("waiting for a first recording")
                self._stop.wait(ROUND_S)
            else:
                return

    def _settle(self) -> None:
        self._say("joining with runs")
        lag_s = self.lake.settle()
        if lag_s is not None:
            self.view = replace(self.view, lag_s=lag_s)

    def _say(self, doing: str) -> None:
        self.view = replace(self.view, doing=doing)

    def _count(self, counts: Mapping[str, int]) -> None:
        known = self.view.counts
        summed = {name: known.get(name, 0) + number for name, number in counts.items()}
        self.view = replace(self.view, counts={**known, **summed})


def watch(
    rounds: Rounds,
    look: Callable[[], tuple[Call, ...]],
    show: Callable[[WatchView], bool],
) -> None:
    """Show a view each second until ``show`` returns False, or the user interrupts.

    Raises:
        MeshMLError: what ended the rounds.
    """
    worker = threading.Thread(target=rounds.run, name="meshml-watch")
    worker.start()
    try:
        while worker.is_alive():
            view = replace(rounds.view, at=time.time_ns() // 1000, in_flight=look())
            if not show(view):
                break
            worker.join(LOOK_S)
    except KeyboardInterrupt:  # how a watch usually ends
        pass
    finally:
        rounds.stop()
        worker.join()
    if rounds.failed:
        raise rounds.failed
    show(replace(rounds.view, at=time.time_ns() // 1000, doing="done"))
