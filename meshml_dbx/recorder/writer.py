"""The writer of a recorder: a thread that takes calls from the queue ten times a second.

Goes in: the recorder's queue. Comes out: lines in a log folder, whose files are finished by size,
by time, when somebody asks, and at the end. What cannot be written is counted as dropped.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from meshml_dbx.logs.lines import record_line
from meshml_dbx.recorder.call import OpenCall
from meshml_dbx.recorder.folder import LogKeeper
from meshml_dbx.recorder.lines import LineMaker
from meshml_dbx.recorder.plan import RecorderPlan
from meshml_dbx.recorder.recorder import END, Recorder
from meshml_dbx.traffic.access_log import CLIENT_OBSERVER

TICK_S = 0.1
SECOND_NS = 1_000_000_000
QUIET_SAMPLE_NS = 10 * SECOND_NS
"""While nothing is called, the CPU is sampled so often."""

LONGEST_STOP_S, LONGEST_PAUSE_S = 5.0, 1.0
"""How long the end of recording, and a fork, wait for a thread that is inside a disk's work."""

_BATCH = 5_000


class Writer:
    """Writes what a recorder takes, until it is stopped."""

    def __init__(self, recorder: Recorder, plan: RecorderPlan, keeper: LogKeeper) -> None:
        self._recorder = recorder
        self._plan = plan
        self._keeper = keeper
        self._lines = LineMaker(plan, keeper.sidecar_id)
        self._lock = threading.RLock()
        self._is_over = False
        self._cpu_began = time.process_time_ns()
        self._told_ns = self._sampled_ns = 0
        self._sampled = (-1, 0)
        self._lost = 0
        self._is_draining = False
        self._leave = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Say whose calls these are, and begin."""
        self._write([self._record("program", "begin", {**self._whose(), "exit_code": None})])
        self.resume()

    def pause(self) -> None:
        """End the thread, for as long as a fork takes: Python warns of forks beside threads."""
        self._leave.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=LONGEST_PAUSE_S)

    def resume(self) -> None:
        """Begin the thread, or begin it again."""
        if self._is_over or self._thread is not None:
            return
        self._leave = threading.Event()
        name, leave = "meshml-recorder", (self._leave,)
        thread = threading.Thread(target=self._work, args=leave, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads to be had: who ends a call writes it
            self._recorder.write_now = self.write_queue
        else:
            self._thread = thread

    def write_queue(self) -> None:
        """Everything that was taken so far is in a file when this returns."""
        with self._lock:
            if not self._is_over:
                self._guard(self._drain)

    def flush(self) -> None:
        """As ``write_queue``, and what was counted so far too."""
        with self._lock:
            if self._is_over:
                return
            self._guard(self._drain)
            self._guard(lambda: self._sample(time.perf_counter_ns(), "periodic"))

    def close_file(self) -> None:
        """Everything that was taken so far is in a finished file when this returns."""
        with self._lock:
            self.flush()
            if not self._is_over:
                self._guard(self._keeper.close_files)

    def stop(self, left: Sequence[OpenCall] = ()) -> None:
        """End: write what is queued and finish the file; a disk that hangs is not waited for long.

        Args:
            left: calls that nobody will end.
        """
        if self._is_over:
            return
        self._is_over = True
        self._leave.set()
        if not self._lock.acquire(timeout=LONGEST_STOP_S):
            self._recorder.warn("the last calls are not written", TimeoutError())
            return
        try:
            self._guard(lambda: self._end(left))
            self._guard(self._keeper.finish)
        finally:
            self._lock.release()
        self.pause()

    def _end(self, left: Sequence[OpenCall]) -> None:
        self._drain()
        now = time.perf_counter_ns()
        self._write([self._lines.unfinished(call, now) for call in left], is_end=[True] * len(left))
        self._sample(now, "last", unfinished=len(left))
        self._write([self._record("program", "end", {**self._whose(), "cpu_us": self._cpu_us()})])

    def _work(self, leave: threading.Event) -> None:
        while not leave.wait(TICK_S):
            with self._lock:
                if not leave.is_set():
                    self._guard(self._tick)

    def _tick(self) -> None:
        self._drain()
        now = time.perf_counter_ns()
        if now - self._told_ns >= SECOND_NS:
            self._told_ns = now
            self._tell_open(now)
            self._sample(now, "periodic")
        self._keeper.keep()

    def _drain(self) -> None:
        if self._is_draining:  # a finaliser ended a call while this thread writes
            return
        self._is_draining = True
        try:
            queue = self._recorder.queue
            # Only what is there now: where calls come faster, there is more to do than to write.
            for size in _batches(len(queue)):
                taken = [queue.popleft() for _ in range(size)]
                lines = [self._line(kind, call) for kind, call in taken]
                self._write(lines, is_end=[kind == END for kind, _ in taken])
        finally:
            self._is_draining = False

    def _line(self, kind: int, call: OpenCall) -> bytes:
        """One entry of the queue; one that no line can be made of is lost alone."""
        try:
            return self._lines.end(call) if kind == END else self._lines.start(call)
        except Exception as error:
            self._lost += kind == END
            self._recorder.warn("a call is not written", error)
            return b""

    def _tell_open(self, now: int) -> None:
        calls = [c for c in tuple(self._recorder.open.values()) if now - c.began_ns >= SECOND_NS]
        self._write([self._lines.periodic(call, now) for call in calls])

    def _sample(self, now: int, kind: str, *, unfinished: int = 0) -> None:
        with self._recorder.lock:  # counts of one moment: readers subtract one from another
            counts = replace(self._recorder.counts)
            queued = sum(kind == END for kind, _ in self._recorder.queue)
            active = len(self._recorder.open) + queued + unfinished
        is_quiet = self._sampled == (counts.begun, active) == (counts.begun, 0)
        if kind == "periodic" and is_quiet and now - self._sampled_ns < self._quiet_ns():
            return
        self._sampled_ns, self._sampled = now, (counts.begun, active)
        values = {
            "requests_total": counts.begun,
            "requests_active": active,
            "connections_total": counts.connections,
            "log_bytes": self._keeper.written,
            "cpu_us": self._cpu_us(),
            "dropped": counts.dropped + self._lost,
        }
        self._write([self._record("sample", kind, values)])

    def _quiet_ns(self) -> float:
        """Where idle files are finished, a sample alone is not worth a file."""
        return QUIET_SAMPLE_NS if self._plan.closes_when_idle_s is None else math.inf

    def _cpu_us(self) -> int:
        return (time.process_time_ns() - self._cpu_began) // 1000

    def _whose(self) -> dict[str, object]:
        return {
            "mesh": self._plan.mesh,
            "observer": CLIENT_OBSERVER,
            "client": self._plan.client,
            "environment": self._plan.environment,
            "program": self._plan.program,
            **self._plan.job,
        }

    def _record(self, record: str, kind: str, values: Mapping[str, object]) -> bytes:
        names = {"sidecar_id": self._keeper.sidecar_id, "process_id": self._plan.process_id}
        return record_line(record, kind, seconds=time.time(), values={**names, **values})

    def _write(self, lines: Sequence[bytes], *, is_end: Sequence[bool] = ()) -> None:
        """Write these lines; of those that end calls, count what the disk does not take."""
        data = b"".join(lines)
        if not data:
            return
        before = self._keeper.written
        try:
            self._keeper.write(data)
        except OSError as error:
            written = self._keeper.written - before
            ends = zip(accumulate(map(len, lines)), is_end, strict=False)
            self._lost += sum(one for end, one in ends if end > written)
            self._recorder.warn("the log cannot be written", error)

    def _guard(self, work: Callable[[], object]) -> None:
        """Trouble of ours ends neither the program nor the thread."""
        try:
            work()
        except Exception as error:
            self._recorder.warn("the log cannot be kept", error)


def _batches(count: int) -> Iterator[int]:
    """Sizes of at most a batch that add up to so many.

    >>> list(_batches(12_000))
    [5000, 5000, 2000]
    """
    while count > 0:
        yield min(count, _BATCH)
        count -= _BATCH
