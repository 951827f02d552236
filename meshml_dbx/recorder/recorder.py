"""The recorder of this process: takes calls from the hooks and queues them for the writer.

``begin`` and ``finish`` run inside the user's calls: they cannot raise, and hold one lock for as
long as it takes to count. What the queue cannot hold is dropped and counted; the lines of calls
that only begin are given up first.
"""

import logging
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshml_dbx.errors import MeshMLError
from meshml_dbx.recorder.address import authority_of, path_of, resource_of
from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.traffic.context import CURRENT_STAGE, active_run_id

MOST_QUEUED = 50_000
"""Entries that the queue holds; each call is two. The writer takes them ten times a second."""

MOST_FAILED = 512
TRY_AGAIN_NS = 60_000_000_000
"""Which failures are remembered, and for how long a call for the same thing is another try."""

TOO_MANY_REQUESTS = 429
FIRST_ERROR = 500

START, END = 0, 1
_logger = logging.getLogger("meshml_dbx.recorder")


@dataclass(slots=True)
class Counts:
    """What the recorder counted, for the ledger: calls begun, ends dropped, connections seen."""

    begun: int = 0
    dropped: int = 0
    connections: int = 0


class Recorder:
    """Takes calls; one for a process, which a forked child begins anew.

    >>> recorder = Recorder()
    >>> call = recorder.begin("GET", "https", "api.example.com", 443, "/v1?key=secret")
    >>> call.authority, call.path
    ('api.example.com', '/v1')
    >>> recorder.finish(call)
    >>> recorder.counts.begun, len(recorder.open), len(recorder.queue)
    (1, 0, 2)
    """

    def __init__(self, *, most_queued: int = MOST_QUEUED) -> None:
        self.most_queued = most_queued
        self.run_id: str | None = None
        self.spark: Callable[[], tuple[int, int, int] | None] = _no_spark
        self.open_writer: Callable[[], None] = _nothing
        self.is_on = True
        self.local = threading.local()
        self.reset()

    def reset(self) -> None:
        """Forget everything: in a child that was forked, what is here is the parent's."""
        self.queue: deque[tuple[int, OpenCall]] = deque()
        self.open: dict[int, OpenCall] = {}
        self.counts = Counts()
        self.needs_writer = True
        self.write_now: Callable[[], None] | None = None
        """Called after each end, where a process may be killed at any time."""
        self._failed: OrderedDict[int, tuple[int, int]] = OrderedDict()
        # Reentrant: a finaliser or a signal's handler may end a call while it is held.
        self.lock = threading.RLock()
        self._is_closed = False
        self._warned: set[str] = set()
        self.local = threading.local()

    def begin(
        self,
        method: str,
        scheme: str,
        host: str,
        port: int | None,
        target: str,
        *,
        part: str | None = None,
    ) -> OpenCall:
        """A call that begins now; what is wrong with recording it is never the caller's affair.

        Args:
            target: the path with its query, or a whole address.
            part: the range of it that is asked for, if any.
        """
        try:
            if self.needs_writer:
                self._open_writer()
            authority = authority_of(scheme, host, port)
            call = OpenCall(0, str(method), authority, path_of(target))
            call.began_us = time.time_ns() // 1000
            call.resource = resource_of(call.method, authority, target, part)
            call.run_id = self.run_id or active_run_id()
            call.stage = CURRENT_STAGE.get()
            call.thread = threading.current_thread().name
            if self.spark is not _no_spark:
                call.spark = self.spark()
            if (handled := sys.exc_info()[1]) is not None:
                call.handled = id(handled)
            if self._failed:
                self._note_try(call)
            self._take(call)
        except Exception as error:  # whatever it is, the program's own call goes on
            self.warn("a call is not recorded", error)
            return OpenCall(0, "", "", "")
        return call

    def _take(self, call: OpenCall) -> None:
        """All at once, so that whoever ends the recording misses no call and counts none twice."""
        with self.lock:
            if self._is_closed or getattr(self.local, "is_ignored", False):
                return
            call.number = self.counts.begun = self.counts.begun + 1
            self.open[call.number] = call
            if len(self.queue) < self.most_queued // 2:
                self.queue.append((START, call))

    def _open_writer(self) -> None:
        with self.lock:
            if self.needs_writer and not self._is_closed:
                self.needs_writer = False
                self.open_writer()

    def finish(self, call: OpenCall, error: BaseException | None = None) -> None:
        """The call is over; asked again, nothing happens."""
        with self.lock:
            if self.open.get(call.number) is not call:  # or a fork's parent's of that number
                return
            del self.open[call.number]
            try:
                call.end(error)
                if call.fault is not None or call.code >= TOO_MANY_REQUESTS:
                    self._remember_failure(call)
            except Exception as trouble:
                self.warn("the end of a call is not whole", trouble)
            if len(self.queue) < self.most_queued:
                self.queue.append((END, call))
            else:
                self.counts.dropped += 1
        if self.write_now is not None:
            self.write_now()

    def close(self) -> tuple[OpenCall, ...]:
        """Take nothing any more; the calls that are open, whose ends nobody will write."""
        with self.lock:
            self._is_closed = True
            left = tuple(self.open.values())
            self.open.clear()
            return left

    @contextmanager
    def ignoring(self) -> Iterator[None]:
        """Take no calls of this thread: they are our own, and no part of the program."""
        before = getattr(self.local, "is_ignored", False)
        self.local.is_ignored = True
        try:
            yield
        finally:
            self.local.is_ignored = before

    def next_connection(self) -> int:
        """A number for a connection that was not seen before."""
        with self.lock:
            self.counts.connections += 1
            return self.counts.connections

    def warn(self, what: str, error: BaseException) -> None:
        """Say once what goes wrong with recording; the program goes on."""
        if what not in self._warned:
            self._warned.add(what)
            _logger.warning("meshml: %s: %s", what, _told(error))

    def _note_try(self, call: OpenCall) -> None:
        """A call for what failed just before is another try of it, made by a layer above."""
        failed = self._failed.pop(call.resource or 0, None)
        if failed and call.began_ns - failed[1] < TRY_AGAIN_NS:
            call.attempt = failed[0] + 1

    def _remember_failure(self, call: OpenCall) -> None:
        failed = call.code >= FIRST_ERROR or call.code == TOO_MANY_REQUESTS
        if call.resource and (failed or (call.fault is not None and call.fault.flags != "DC")):
            self._failed[call.resource] = (call.attempt, call.ended_ns)
            if len(self._failed) > MOST_FAILED:
                self._failed.popitem(last=False)


def _told(error: BaseException) -> str:
    """What happened and where; of strangers' errors not the text, which may hold an address."""
    name = type(error).__name__
    if isinstance(error, MeshMLError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    trace = traceback.extract_tb(error.__traceback__)
    return f"{name} in {Path(trace[-1].filename).name}:{trace[-1].lineno}" if trace else name


def _no_spark() -> tuple[int, int, int] | None:
    return None


def _nothing() -> None:
    return None
