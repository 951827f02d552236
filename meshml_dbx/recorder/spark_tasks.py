"""Calls made on Spark's executors: a wrapper for the functions that Spark runs there.

Goes in: a function (of a UDF, a pandas or Arrow UDF, ``mapInPandas``, ``foreachPartition``) and the
driver's plan. Comes out: the same function, whose calls are recorded by the worker process that
runs it, with the task's stage, partition and attempt. No setting of Spark's is asked or needed.
"""

import inspect
import os
import pickle
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

from meshml_dbx.recorder.plan import RecorderPlan
from meshml_dbx.recorder.process import (
    Recording,
    active_recording,
    start_recording,
    stop_recording,
)

P = ParamSpec("P")
R = TypeVar("R")

CLOSES_WHEN_IDLE_S = 1.2
"""A worker idles for a minute before it ends: its file is finished sooner. A recorder counts once
more in the second after its last call; that line still belongs into the same file."""

_PROCESS = secrets.token_hex(8)
"""Tells the process that wrapped a function from those to which it was sent."""


def recorded(func: Callable[P, R], plan: RecorderPlan) -> Callable[P, R]:
    """The function, recording its calls wherever Spark runs it; name and signature are its own.

    What it iterates or yields later counts as its calls too. In the process that wrapped it, it is
    the plain function: the driver records by itself. It may be sent to workers without
    ``meshml_dbx``, or ones that may not write the log folder: it works there, unrecorded. A
    worker's files are finished seconds after its last call; of a worker that is killed, the last
    tenth of a second may be missing, on a volume the last two seconds.

    Raises:
        TypeError: it is no function, or a class.

    >>> from pathlib import Path
    >>> def label(n: int) -> str:
    ...     return f"n{n}"
    >>> wrapped = recorded(label, RecorderPlan(logs=Path("logs"), client="train", process_id="p"))
    >>> wrapped(7), wrapped.__name__
    ('n7', 'label')
    """
    if not callable(func) or isinstance(func, type):
        message = f"{func!r} is no function: wrap what Spark calls, for a class its method"
        raise TypeError(message)
    idle = plan.closes_when_idle_s or CLOSES_WHEN_IDLE_S
    packed = pickle.dumps(replace(plan, closes_when_idle_s=idle))
    return _keeping_face(func, _wrapper(func, packed, _PROCESS))


def _wrapper(func: Callable[..., Any], packed: bytes, wrapped_in: str) -> Callable[..., Any]:
    """The wrapper itself.

    Spark sends what is defined in here by value, so it may use no name of this module, not even as
    an annotation: then it can be unpacked, and works, where this package is missing.
    """
    found: list[Any] = []

    def look_for_tasks() -> "Tasks | None":
        try:
            from meshml_dbx.recorder.spark_tasks import tasks_here

            tasks = tasks_here(packed, wrapped_in)
        except Exception as error:  # whatever it is, the user's own function goes on
            import logging

            logging.getLogger("meshml_dbx.recorder").warning(
                "meshml: calls are not recorded in this worker: %s: %s", type(error).__name__, error
            )
            found.append(None)
            return None
        if tasks is not None:
            found.append(tasks)
        return tasks

    def call(*args: object, **kwargs: object) -> object:
        tasks = found[0] if found else look_for_tasks()
        if tasks is None:
            return func(*args, **kwargs)
        tasks.enter()
        try:
            result = func(*args, **kwargs)
        finally:
            tasks.leave()
        return tasks.held(result) if hasattr(result, "__next__") else result

    return call


def _keeping_face(func: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Spark asks a function for its name, arguments and type hints, not always past a wrapper."""
    wrapper.__annotations__ = {}
    wraps(func)(wrapper)
    wrapper.__name__ = getattr(func, "__name__", type(func).__name__)
    with suppress(TypeError, ValueError):  # some builtins do not know their arguments
        wrapper.__signature__ = inspect.signature(func)  # type: ignore[attr-defined]  # as PEP 362
    return wrapper


def tasks_here(packed: bytes, wrapped_in: str) -> "Tasks | None":
    """What records a function in this process; None where its calls are nobody's but the driver's.

    A function that its module wraps on import was wrapped in the worker itself: a task tells.
    """
    if wrapped_in == _PROCESS and current_task() is None:
        return None
    plan = pickle.loads(packed)  # noqa: S301  # came with the function, which is code
    return Tasks(plan, _worker)


def current_task() -> tuple[int, int, int] | None:
    """Stage, partition and attempt of the task that runs here."""
    context = _task_context()
    if context is None:
        return None
    return context.stageId(), context.partitionId(), context.attemptNumber()


def _task_context() -> Any:  # pyspark is not ours to import; in a worker it is there
    kind = getattr(sys.modules.get("pyspark"), "TaskContext", None)
    return kind.get() if kind else None


class Worker:
    """What records in this worker process, for all wrapped functions that it runs.

    Workers are used again, for tasks of other functions and runs: calls are recorded only while a
    wrapped function runs, and belong to the run that its plan names. ``inside`` counts those that
    run now; hold ``lock`` to change it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self._began: Recording | None = None
        self._began_for: tuple[str, ...] = ()
        self._began_in: int | None = None
        self._watches_exit = False

    def recording(self, plan: RecorderPlan, owner: tuple[str, ...]) -> Recording:
        """The one that goes on, unless we began it for another driver's task."""
        active = active_recording()
        is_same_task = self._began_in == _task_id()
        if active is self._began and owner != self._began_for and not is_same_task:
            stop_recording()
            active = None
        if active is None:
            active = self._began = start_recording(plan, is_lazy=True)
            self._began_for, self._began_in = owner, _task_id()
        active.recorder.spark = current_task
        self._watch_exit()
        return active

    def rest(self) -> None:
        """No wrapped function runs: what else this process calls is none of their runs'."""
        active = active_recording()
        if active is not None:
            active.recorder.run_id = active.plan.run_id
            active.recorder.is_on = active is not self._began

    def _watch_exit(self) -> None:
        """Workers end by ``os._exit``, which runs no handler: finish the file before."""
        if self._watches_exit:
            return
        self._watches_exit = True
        leave, ours = os._exit, os.getpid()

        def leave_finished(status: int) -> NoReturn:
            if os.getpid() == ours:
                with suppress(Exception):  # nothing may keep a worker from ending
                    stop_recording()
            leave(status)

        os._exit = leave_finished


_worker = Worker()


class Tasks:
    """Records one wrapped function in this process, in which several may run at once."""

    def __init__(self, plan: RecorderPlan, worker: Worker) -> None:
        self._plan = plan
        self._run_id = plan.run_id
        self._worker = worker
        self._owner = (str(plan.logs), plan.process_id, plan.client)
        self._recording = worker.recording(plan, self._owner)
        self._recorder = self._recording.recorder

    def enter(self) -> None:
        """The function begins."""
        worker = self._worker
        with worker.lock:
            worker.inside += 1
            if active_recording() is not self._recording:
                self._join()
            recorder = self._recorder
            recorder.run_id = self._run_id
            recorder.is_on = True

    def leave(self) -> None:
        """The function has ended."""
        worker = self._worker
        with worker.lock:
            worker.inside -= 1
            if not worker.inside:
                worker.rest()

    def held(self, iterator: Iterator[R]) -> Iterator[R]:
        """What the function makes, made as if still inside of it; written when it is all made."""
        self.enter()
        try:
            yield from iterator
        finally:
            self.leave()
            self._recording.flush()

    def _join(self) -> None:
        try:
            self._recording = self._worker.recording(self._plan, self._owner)
            self._recorder = self._recording.recorder
        except Exception as error:  # the function goes on, whatever becomes of recording it
            self._recorder.warn("calls are not recorded in this worker", error)


def _task_id() -> int | None:
    context = _task_context()
    return None if context is None else context.taskAttemptId()
