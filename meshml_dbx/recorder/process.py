"""Recording in this process: begun, said in the environment, carried over a fork, undone.

One recording at a time: whoever begins a second gets the first, and whoever did not begin it does
not end it.
"""

import atexit
import os
import sys
import threading
from types import TracebackType

from meshml_dbx.recorder.address import forget_key
from meshml_dbx.recorder.folder import LogKeeper
from meshml_dbx.recorder.libraries import Hooks
from meshml_dbx.recorder.plan import RecorderPlan
from meshml_dbx.recorder.recorder import Recorder
from meshml_dbx.recorder.writer import Writer
from meshml_dbx.traffic.context import (
    CLIENT_VARIABLE,
    LOGS_VARIABLE,
    PROCESS_VARIABLE,
    RECORD_VARIABLE,
    SIDECAR_VARIABLE,
)

_state_lock = threading.RLock()
_active: "Recording | None" = None


class Recording:
    """What ``record()`` hands out: recording goes on until ``stop``, or the end of a ``with``.

    Its text says what is recorded, and where.
    """

    def __init__(self, plan: RecorderPlan) -> None:
        self.plan = plan
        self.recorder = Recorder()
        self.notes: tuple[str, ...] = ()
        self._hooks = Hooks(self.recorder)
        self._writer: Writer | None = None
        self._keeper: LogKeeper | None = None
        self._before: dict[str, str | None] = {}
        self._depth = 0

    @property
    def is_on(self) -> bool:
        """Whether calls are being recorded."""
        return _active is self

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
            if _active is not self:
                return
            _active = None
            self.recorder.is_on = False
            self._hooks.take_out()
            self._restore_environment()
            atexit.unregister(self.stop)
            if self._writer is not None:
                self._writer.stop()

    def begin(self) -> None:
        """Open the folder, hook the libraries, and say in the environment that this goes on."""
        self._open()
        self._hooks.put_in()
        atexit.register(self.stop)

    def begin_again_in_child(self) -> None:
        """After a fork: the queue, the file and the thread are the parent's; take none of them."""
        if self._keeper is not None:
            self._keeper.abandon()
        self._keeper = self._writer = None
        forget_key()
        self.recorder.reset()
        self.recorder.open_writer = self._open_in_child

    def _open_in_child(self) -> None:
        """With the first call of the child: most children make none."""
        self._open()
        util = sys.modules.get("multiprocessing.util")
        if util is not None:  # its children leave without atexit
            util.Finalize(None, self.stop, exitpriority=0)

    def _open(self) -> None:
        keeper = LogKeeper(self.plan)
        self._keeper = keeper
        self._writer = Writer(self.recorder, self.plan, keeper)
        self.recorder.run_id = self.plan.run_id
        self.recorder.needs_writer = False
        self._set_environment(keeper)
        self._writer.start()

    def _set_environment(self, keeper: LogKeeper) -> None:
        """So that MLflow's runs, stages and child processes find the recording."""
        values = {
            RECORD_VARIABLE: "1",
            PROCESS_VARIABLE: self.plan.process_id,
            CLIENT_VARIABLE: self.plan.client,
            SIDECAR_VARIABLE: keeper.sidecar_id,
            LOGS_VARIABLE: str(keeper.logs.root),
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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._depth:  # somebody else began it
            self._depth -= 1
        else:
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


def start_recording(plan: RecorderPlan) -> Recording:
    """The recording of this process, begun now unless it goes on already.

    Raises:
        LogFolderError: the log folder cannot be written.
    """
    global _active  # noqa: PLW0603  # as above
    with _state_lock:
        if _active is not None:
            _active._depth += 1  # of this file
            return _active
        recording = Recording(plan)
        recording.begin()
        _active = recording
        return recording


def stop_recording() -> None:
    """End the recording of this process, whoever began it."""
    recording = _active
    if recording is not None:
        recording.stop()


def active_recording() -> Recording | None:
    """The recording that goes on here."""
    return _active


def _after_fork_in_child() -> None:
    global _state_lock  # noqa: PLW0603  # a thread that held it is not here
    _state_lock = threading.RLock()
    if _active is not None:
        _active.begin_again_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
