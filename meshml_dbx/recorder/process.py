"""Recording in this process: begun, said in the environment, carried over a fork, undone.

One recording at a time: whoever begins a second gets the first, and a block that did not begin it
does not end it. A process that is killed by a signal, or leaves by ``os._exit``, writes nothing at
its end: what it called up to a tenth of a second before is in its folder, and ``adopt`` closes the
files. Workers of a pool are ended so by their parent; they write each call as it ends.
"""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from meshml_dbx.recorder.address import forget_key
from meshml_dbx.recorder.folder import LogKeeper
from meshml_dbx.recorder.libraries import Hooks
from meshml_dbx.recorder.plan import RecorderPlan
from meshml_dbx.recorder.recorder import Recorder
from meshml_dbx.recorder.writer import Writer
from meshml_dbx.traffic.context import (
    CLIENT_VARIABLE,
    JOB_VARIABLES,
    LOGS_VARIABLE,
    PROCESS_VARIABLE,
    RECORD_VARIABLE,
    SIDECAR_VARIABLE,
)

_LONGEST_WAIT_S = 1.0
_state_lock = threading.RLock()
_forking = threading.local()
_active: "Recording | None" = None


class Recording:
    """What ``record()`` hands out: recording goes on until ``stop``, or the end of a ``with``.

    Its text says what is recorded, and where.
    """

    def __init__(self, plan: RecorderPlan, *, notes: tuple[str, ...] = ()) -> None:
        self.plan = plan
        self.recorder = Recorder()
        self.recorder.run_id = plan.run_id
        self.notes = notes
        self._hooks = Hooks(self.recorder)
        self._writer: Writer | None = None
        self._keeper: LogKeeper | None = None
        self._scratch: Path | None = None
        self._before: dict[str, str | None] = {}
        self._cancel: Callable[[], object] = _nothing
        self._is_ending = False
        self._is_joined = False
        self._blocks: list[bool] = []

    @property
    def is_on(self) -> bool:
        """Whether calls are being recorded."""
        return _active is self and not self._is_ending

    @property
    def sidecar_id(self) -> str:
        """The name of this recorder's folder of logs; empty before there is one."""
        return self._keeper.sidecar_id if self._keeper else ""

    @property
    def calls(self) -> int:
        """How many calls have begun so far."""
        return self.recorder.counts.begun

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not recorded, or not for certain, and why."""
        return (*self.notes, *self._hooks.unhooked.values())

    def flush(self) -> None:
        """Everything that was called so far can be read in the log folder afterwards."""
        if self._writer is not None:
            self._writer.flush()

    def close_file(self) -> None:
        """Everything that was called so far is in a finished file afterwards."""
        if self._writer is not None:
            self._writer.close_file()

    def stop(self) -> None:
        """Record no more: every library is as it was, every line is written."""
        global _active  # noqa: PLW0603  # one recording a process
        with _state_lock:
            if _active is not self or self._is_ending:
                return
            self._is_ending = True
            try:
                self._end()
            finally:
                _active = None

    def _end(self) -> None:
        self.recorder.is_on = False
        try:
            self._hooks.take_out()
        finally:
            self._restore_environment()
            atexit.unregister(self.stop)
            self._cancel()
            left = self.recorder.close()
            if self._writer is not None:
                self._writer.stop(left)

    def begin(self, *, is_lazy: bool = False) -> None:
        """Open the folder, hook the libraries, and say in the environment that this goes on.

        Args:
            is_lazy: open the folder with the first call.
        """
        try:
            if is_lazy:
                self.recorder.open_writer = self._open_later
            else:
                self._open()
            self._hooks.put_in()
        except BaseException:
            self._end()
            raise
        atexit.register(self.stop)

    def begin_again_in_child(self) -> None:
        """After a fork: the queue, the file and the thread are the parent's; take none of them."""
        if self._keeper is not None:
            self._keeper.abandon()
            self._scratch = self._keeper.scratch
        self._keeper = self._writer = None
        self._is_ending = False
        forget_key()
        self.recorder.reset()
        self.recorder.open_writer = self._open_later

    def join(self) -> None:
        """Somebody began to record what is recorded already."""
        self._is_joined = True

    def pause_writer(self) -> None:
        """Have no thread of ours, while the process is forked."""
        if self._writer is not None:
            self._writer.pause()

    def resume_writer(self) -> None:
        """Have it again."""
        if self._writer is not None:
            self._writer.resume()

    def locks(self) -> tuple[threading.RLock, ...]:
        """What no other thread may hold while the process is forked, in the order to take them."""
        finishing = (self._keeper.lock,) if self._keeper is not None else ()
        return (*finishing, self.recorder.lock)

    def _open_later(self) -> None:
        """With the first call: most processes that are forked or started make none."""
        try:
            self._open()
        except BaseException:
            self.recorder.is_on = False
            self.recorder.close()
            raise

    def _open(self) -> None:
        keeper = LogKeeper(self.plan, scratch=self._scratch)
        self._keeper = keeper
        self._writer = Writer(self.recorder, self.plan, keeper)
        self.recorder.needs_writer = False
        self._set_environment(keeper)
        self._writer.start()
        self._prepare_for_end(self._writer)

    def _prepare_for_end(self, writer: Writer) -> None:
        """Children of multiprocessing leave without atexit, and those of a pool by a signal."""
        process = sys.modules.get("multiprocessing.process")
        if process is None or process.parent_process() is None:
            return
        from multiprocessing.util import Finalize

        self._cancel = Finalize(None, self.stop, exitpriority=0).cancel
        if process.current_process().daemon:
            self.recorder.write_now = writer.write_queue

    def _set_environment(self, keeper: LogKeeper) -> None:
        """So that MLflow's runs, stages and child processes find the recording."""
        values = {
            RECORD_VARIABLE: str(self.plan.logs),
            PROCESS_VARIABLE: self.plan.process_id,
            CLIENT_VARIABLE: self.plan.client,
            SIDECAR_VARIABLE: keeper.sidecar_id,
            LOGS_VARIABLE: str(keeper.logs.root),
            **{JOB_VARIABLES[name]: value for name, value in self.plan.job.items()},
        }
        for name, value in values.items():
            self._before.setdefault(name, os.environ.get(name))
            os.environ[name] = value

    def _restore_environment(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before.clear()

    def __enter__(self) -> "Recording":
        with _state_lock:
            self._blocks.append(not self._is_joined)
            self._is_joined = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, unless it went on before this block."""
        with _state_lock:
            is_ours = self._blocks.pop()
        if is_ours:
            self.stop()

    def __repr__(self) -> str:
        if not self.is_on:
            return f"<meshml: not recording; {self.calls} calls of {self.plan.client!r}>"
        seen = ", ".join(
            f"{name} {version}".strip() for name, version in self._hooks.hooked.items()
        )
        warned = "".join(f"\n  warning: {one}" for one in self.warnings)
        folder = self._keeper.logs.folder if self._keeper else self.plan.logs
        return (
            f"<meshml: recording the calls of {self.plan.client!r} through {seen} "
            f"to {folder}>{warned}"
        )


def _nothing() -> None:
    return None


def start_recording(
    plan: RecorderPlan, *, notes: tuple[str, ...] = (), is_lazy: bool = False
) -> Recording:
    """The recording of this process, begun now unless it goes on already.

    ``notes`` are warnings to show with it; a lazy one opens its folder with the first call.

    Raises:
        LogFolderError: the log folder cannot be written.
    """
    global _active  # noqa: PLW0603  # as above
    with _state_lock:
        if _active is not None:
            _active.join()
            return _active
        recording = Recording(plan, notes=notes)
        _active = recording
        try:
            recording.begin(is_lazy=is_lazy)
        except BaseException:
            _active = None
            raise
        return recording


def stop_recording() -> None:
    """End the recording of this process, whoever began it."""
    recording = _active
    if recording is not None:
        recording.stop()


def active_recording() -> Recording | None:
    """The recording that goes on here."""
    return _active


def _before_fork() -> None:
    """Have no other thread be inside of ours while the process is copied, files half open.

    One that takes too long there (on a disk that hangs) is not waited for.
    """
    _forking.held, _forking.paused = [], None
    _hold(_state_lock)
    _forking.paused = _active
    if _active is not None:
        _active.pause_writer()
        for lock in _active.locks():
            _hold(lock)


def _hold(lock: threading.RLock) -> None:
    if lock.acquire(timeout=_LONGEST_WAIT_S):
        _forking.held.append(lock)


def _after_fork_in_parent() -> None:
    if _forking.paused is not None:
        _forking.paused.resume_writer()
    while _forking.held:
        _forking.held.pop().release()


def _after_fork_in_child() -> None:
    global _state_lock  # noqa: PLW0603  # a thread that held it is not here
    _state_lock = threading.RLock()
    _forking.held, _forking.paused = [], None
    if _active is not None:
        was_ending = _active._is_ending  # of this file
        _active.begin_again_in_child()
        if was_ending:
            _active.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
