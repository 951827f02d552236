"""The writer of a recorder: a thread that takes calls from the queue ten times a second.

Goes in: the recorder's queue. Comes out: lines in a log folder, whose files are finished by size,
by time, when somebody asks, and at the end. What cannot be written is counted as dropped.
"""

import threading
import time
from collections.abc import Callable, Mapping

from meshml_dbx.logs.lines import record_line
from meshml_dbx.recorder.folder import LogKeeper
from meshml_dbx.recorder.lines import LineMaker
from meshml_dbx.recorder.plan import CLIENT_OBSERVER, RecorderPlan
from meshml_dbx.recorder.recorder import END, Recorder

TICK_S = 0.1
SECOND_NS = 1_000_000_000
QUIET_SAMPLE_NS = 10 * SECOND_NS
"""While nothing is called, the CPU is sampled so often."""

_BATCH = 5_000


class Writer:
    """Writes what a recorder takes, until it is stopped."""

    def __init__(self, recorder: Recorder, plan: RecorderPlan, keeper: LogKeeper) -> None:
        self._recorder = recorder
        self._plan = plan
        self._keeper = keeper
        self._lines = LineMaker(plan, keeper.sidecar_id)
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._cpu_began = time.process_time_ns()
        self._told_ns = self._sampled_ns = 0
        self._sampled_calls = -1
        self._lost = 0
        self._thread = threading.Thread(target=self._work, name="meshml-recorder", daemon=True)

    def start(self) -> None:
        """Say whose calls these are, and begin."""
        self._write(self._record("program", "begin", {**self._whose(), "exit_code": None}))
        self._thread.start()

    def flush(self) -> None:
        """Everything that was taken so far is in a file when this returns."""
        with self._lock:
            self._drain()
            self._sample(time.perf_counter_ns(), "periodic")

    def close_file(self) -> None:
        """Everything that was taken so far is in a finished file when this returns."""
        with self._lock:
            self.flush()
            self._guard(self._keeper.close_files)

    def stop(self) -> None:
        """End: write what is left, also of calls without an end, and finish the file."""
        self._stopping.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(timeout=5.0)
        with self._lock:
            self._drain()
            now = time.perf_counter_ns()
            calls = tuple(self._recorder.open.values())
            self._write(b"".join(self._lines.unfinished(call, now) for call in calls))
            self._sample(now, "last")
            self._write(self._record("program", "end", {**self._whose(), "cpu_us": self._cpu_us()}))
            self._guard(self._keeper.finish)

    def _work(self) -> None:
        while not self._stopping.wait(TICK_S):
            with self._lock:
                if not self._stopping.is_set():
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
        queue, lines = self._recorder.queue, self._lines
        while queue:
            made, ends = [], 0
            for _ in range(min(len(queue), _BATCH)):
                kind, call = queue.popleft()
                ends += kind == END
                made.append(lines.end(call) if kind == END else lines.start(call))
            self._write(b"".join(made), calls=ends)

    def _tell_open(self, now: int) -> None:
        calls = [c for c in tuple(self._recorder.open.values()) if now - c.began_ns >= SECOND_NS]
        self._write(b"".join(self._lines.periodic(call, now) for call in calls))

    def _sample(self, now: int, kind: str) -> None:
        counts = self._recorder.counts
        is_quiet = counts.begun == self._sampled_calls and not self._recorder.open
        if kind == "periodic" and is_quiet and now - self._sampled_ns < QUIET_SAMPLE_NS:
            return
        self._sampled_ns, self._sampled_calls = now, counts.begun
        queued = sum(kind == END for kind, _ in tuple(self._recorder.queue))
        values = {
            "requests_total": counts.begun,
            "requests_active": len(self._recorder.open) + queued,
            "connections_total": counts.connections,
            "log_bytes": self._keeper.written,
            "cpu_us": self._cpu_us(),
            "dropped": counts.dropped + self._lost,
        }
        self._write(self._record("sample", kind, values))

    def _cpu_us(self) -> int:
        return (time.process_time_ns() - self._cpu_began) // 1000

    def _whose(self) -> dict[str, object]:
        return {
            "mesh": self._plan.mesh,
            "observer": CLIENT_OBSERVER,
            "client": self._plan.client,
            "environment": self._plan.environment,
            "program": self._plan.program,
        }

    def _record(self, record: str, kind: str, values: Mapping[str, object]) -> bytes:
        names = {"sidecar_id": self._keeper.sidecar_id, "process_id": self._plan.process_id}
        return record_line(record, kind, seconds=time.time(), values={**names, **values})

    def _write(self, data: bytes, *, calls: int = 0) -> None:
        if not data:
            return
        try:
            self._keeper.write(data)
        except OSError as error:
            self._lost += calls
            self._recorder.warn("the log cannot be written", error)

    def _guard(self, work: Callable[[], object]) -> None:
        """Trouble of ours ends neither the program nor the thread."""
        try:
            work()
        except Exception as error:
            self._recorder.warn("the log cannot be kept", error)
