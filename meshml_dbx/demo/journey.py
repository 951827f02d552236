"""``meshml demo`` from start to end: two runs, one fault, one answer, and where the time went.

Every step is a command or a method that users have too; nothing is answered from what the demo
knows of its own fault.
"""

import importlib.util
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshml_dbx.demo.faults import FAULTS, Fault
from meshml_dbx.demo.recorded import unpack_recording
from meshml_dbx.demo.world import (
    World,
    break_world,
    build_world,
    empty_world,
    finish_training,
    living_services,
    start_training,
)
from meshml_dbx.errors import MeshMLError, MissingToolError
from meshml_dbx.session import Session
from meshml_dbx.settings import read_settings

Say = Callable[[str], None]
NEEDED = ("pyspark", "delta", "mlflow", "sklearn", "requests")
LOOK_EVERY_S = 2.0
WORTH_SAYING_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the demo found: the answer as text and as JSON, the page, and its own timing."""

    text: str
    answer: dict[str, Any]
    page: Path
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The object of ``why --json``, with the page's path and the demo's timing added."""
        return {**self.answer, "report": str(self.page), "demo_seconds": self.seconds}


@dataclass(slots=True)
class Stopwatch:
    """How long each step of the demo took, in seconds."""

    say: Say
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say that a step begins, and keep how long it took."""
        self.say(f"  {name} …")
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)

    def __str__(self) -> str:
        steps = " · ".join(f"{name} {spent:.1f}" for name, spent in self.seconds.items())
        return f"time: {sum(self.seconds.values()):.0f} s ({steps})"


class Background:
    """Work that goes on beside the demo; one that is interrupted does not wait for it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: MeshMLError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except MeshMLError as error:
            self._error = error

    def wait(self) -> None:
        """Return once it is done.

        Raises:
            MeshMLError: what the work raised.
        """
        self._thread.join()
        if self._error:
            raise self._error


def play_demo(folder: Path, *, fault: str, keep_running: bool, say: Say) -> Outcome:
    """Both runs, the ingest and the answer.

    Raises:
        MissingToolError: a part of the demo is not installed.
        MeshMLError: a service or the training run failed; the message names its log.
    """
    require_parts()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the services end too
    watch = Stopwatch(say=say)
    empty_world(folder)
    session = Session(read_settings({}, state=folder), say=say)
    spark = Background(session.start_spark)
    with watch.step("data, mesh file and MLflow store"):
        world = build_world(folder)
    with ExitStack() as stack:
        with watch.step("five services, each behind a sidecar"):
            services = stack.enter_context(living_services(world))
        with watch.step("a healthy training run"):
            healthy = finish_training(world, start_training(world))
        with watch.step(f"a training run with the fault {fault}: {FAULTS[fault].about}"):
            faulty = play_fault(world, services, FAULTS[fault], say)
        with watch.step("Spark, started meanwhile"):
            spark.wait()
        outcome = answer(session, world, watch, run=faulty, baseline=healthy)
        if keep_running:
            say(f"{outcome.text}\n\nthe services stay up until Ctrl-C; state: {folder}")
            wait_for_interrupt()
    return outcome


def play_fault(
    world: World, services: dict[str, subprocess.Popen[bytes]], fault: Fault, say: Say
) -> str:
    """The run with the fault; says what ``why --live`` sees of a call that does not come back."""
    break_world(world, fault, services)
    training = start_training(world)
    session = Session(read_settings({}, state=world.state))
    while training.poll() is None:
        time.sleep(LOOK_EVERY_S)
        say_stuck_calls(session, say)
    return finish_training(world, training)


def say_stuck_calls(session: Session, say: Say) -> None:
    """Calls in flight for long, while the run goes on."""
    try:
        live = session.why("last", live=True)
    except MeshMLError:  # the run has not begun, or its store is busy: look again later
        return
    for call in live.in_flight:
        if call.age_s > WORTH_SAYING_S:
            say(f"    now: a call to {call.virtual_service} in flight for {call.age_s:.0f} s")


def answer(session: Session, world: World, watch: Stopwatch, *, run: str, baseline: str) -> Outcome:
    """Logs into Delta, joined with both runs, and the answer from there."""
    with watch.step("logs into Delta, joined with the runs"):
        session.ingest()
    with watch.step("the answer and its page"):
        diagnosis = session.why(run, baseline=baseline)
        page = world.state / "report.html"
        session.write_page(diagnosis, page)
    text = f"{session.answer_text(diagnosis, page=page)}\n{watch}"
    return Outcome(text=text, answer=diagnosis.to_json(), page=page, seconds=watch.seconds)


def play_recording(folder: Path, *, say: Say) -> Outcome:
    """The same answer from a recording of the demo: no Java, Spark, Envoy or services."""
    watch = Stopwatch(say=say)
    with watch.step("unpack the recording"):
        recording = unpack_recording(folder)
    session = Session(read_settings({}, state=recording.state), say=say)
    with watch.step("the answer and its page"):
        diagnosis = session.why(recording.run_id, live=True, baseline=recording.baseline_id)
        page = recording.state / "report.html"
        session.write_page(diagnosis, page)
    text = f"{session.answer_text(diagnosis, page=page)}\n{watch}"
    return Outcome(text=text, answer=diagnosis.to_json(), page=page, seconds=watch.seconds)


def require_parts() -> None:
    """Say at once what is missing, before anything is started."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingToolError(
            f"the demo needs {', '.join(missing)}",
            advice='pip install "meshml_dbx[demo]", or see a recording: meshml demo --recorded',
        )
    if os.name != "posix":
        raise MeshMLError(
            "the demo starts sidecars, which need Linux or macOS",
            advice="see a recording: meshml demo --recorded",
        )


def wait_for_interrupt() -> None:
    """Return at Ctrl-C or a request to end."""
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
