"""The supervisor: one process that runs an Envoy and a program beside it, and keeps their log.

In go a ``SidecarPlan``, a binary and folders; out comes an ``Outcome``, when the program ends.
Ten times a second it looks whether somebody asks it to close its files; once a second it writes a
sample of the proxy's counters. What fails beside the program never ends the program.

The last sample is exact. Before it, the listeners are shut, calls in flight are given a second and
idle connections half of one; a call that is still open when Envoy is then told to end gets its end
line (flags ``DC``), so after an orderly end no call is active and the counter's total is the number
of end lines. Only a caller that uses an idle connection in the last milliseconds is logged and not
counted. When Envoy dies instead, the last sample repeats what was last known and open calls get
``Unfinished`` lines.
"""

import logging
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from meshml_dbx.errors import EnvoyError, LogFolderError, MeshMLError
from meshml_dbx.logs.files import live_files
from meshml_dbx.logs.lines import record_line
from meshml_dbx.logs.run_folder import CLOSE_TAKEN, RunFolder, open_run_folder
from meshml_dbx.sidecar.admin import Admin
from meshml_dbx.sidecar.binary import EnvoyBinary
from meshml_dbx.sidecar.changing import WantedChange, answer_change, take_change
from meshml_dbx.sidecar.closing import await_flush, close_files
from meshml_dbx.sidecar.plan import Outcome, SidecarPlan
from meshml_dbx.sidecar.ports import require_free
from meshml_dbx.sidecar.process import FLUSH_MS, EnvoyProcess, start_envoy
from meshml_dbx.sidecar.program import Ended, Program, require_program, start_program
from meshml_dbx.sidecar.sampling import Counters, count_connections, read_counters
from meshml_dbx.sidecar.signals import ENDING, Signals, came_from_terminal
from meshml_dbx.sidecar.transaction import Change, change_files
from meshml_dbx.sidecar.unfinished import close_unfinished
from meshml_dbx.traffic.log_folder import CLOSE_REQUEST, CLOSING_PREFIX, SidecarLogs, StateFolder

TURN_S = 0.1
SAMPLE_S = 1.0
DRAIN_S = 1.0
DRAIN_IDLE_S = 0.5

_INTERPRETER = re.compile(r"python[\d.]*|pypy[\d.]*|bash|sh|Rscript|node")
_SCRIPT = re.compile(r"[\w./-]+\.\w{1,4}")
_DRAIN_POLL_S = 0.02
_DEATH_S = 0.2
_log = logging.getLogger("meshml_dbx.sidecar")


def supervise(
    plan: SidecarPlan,
    *,
    binary: EnvoyBinary,
    state: StateFolder,
    logs: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Outcome:
    """Run the plan's program beside its Envoy until it ends, or Envoy alone until a signal.

    Must be called from the main thread: signals and Envoy's life hang on it. When this process is
    killed, Envoy dies with it; the program, which is the user's, is left to end by itself.

    Raises:
        MissingToolError: when the command cannot be started; Envoy is not left behind.
        PortTakenError: when a port is in use.
        EnvoyError: when Envoy does not start or refuses a file.
        LogFolderError: when the log or state folder cannot be written.
    """
    require_program(plan.command)
    for bind, port in plan.listens:
        require_free(bind, port)
    own_logs = SidecarLogs(root=(logs or state.logs).absolute(), sidecar_id=plan.sidecar_id)
    with open_run_folder(state.run.absolute(), own_logs) as folder, Signals() as signals:
        folder.write(plan.files)
        folder.write_facts(_facts(plan, binary, folder, clock()))
        envoy = start_envoy(binary, folder.path, hold=folder.locks)
        watch = _Watch(
            plan=plan, binary=binary, folder=folder, envoy=envoy, signals=signals, clock=clock
        )
        try:
            envoy.wait_ready(plan.listens)
            return watch.run()
        finally:
            watch.leave()


@dataclass(slots=True, kw_only=True)
class _Watch:
    plan: SidecarPlan
    binary: EnvoyBinary
    folder: RunFolder
    envoy: EnvoyProcess
    signals: Signals
    clock: Callable[[], float]
    program: Program | None = None
    counters: Counters | None = None
    closed_access_size: int = 0
    sampled_at: float = -SAMPLE_S
    closed_at: float = field(default_factory=time.monotonic)
    changes: int = 0
    trouble: list[str] = field(default_factory=list)

    def run(self) -> Outcome:
        """Start the program, look after it, and put everything away at its end."""
        self._write("mesh", "declared", _mesh_values(self.plan))
        begin = _member_values(self.plan) | {
            "program": program_name(self.plan.command),
            "host": socket.gethostname(),
            "envoy_version": self.binary.version,
        }
        self._write("program", "begin", begin)
        self._sample("periodic")
        if self.plan.command:
            environment = {**os.environ, **self.plan.program_environment}
            self.program = start_program(self.plan.command, environment)
        return self._finish(self._stay())

    def leave(self) -> None:
        """Whatever happened: no Envoy stays behind, and no line stays in a live file."""
        if self.envoy.exit_code is None:
            self.envoy.stop()
        self._close(admin=None)

    def _stay(self) -> Ended:
        while True:
            self.signals.wait(TURN_S)
            for number in self.signals.take():
                if self.program is None and number in ENDING:
                    return Ended(exit_status=0, cpu_us=0)
                if self.program is not None and not came_from_terminal(number):
                    self.program.send(number)
            ended = self.program.poll() if self.program else None
            if ended is not None:
                return ended
            self._turn()

    def _turn(self) -> None:
        self._look_at_envoy(within_s=0)
        if self._is_asked_to_close():
            if self._admin():
                await_flush(self.envoy.admin, flush_s=FLUSH_MS / 1000)
            self._close(admin=self._admin())
            (self.folder.path / CLOSE_TAKEN).unlink(missing_ok=True)
        elif self._has_reached_a_limit():
            self._close(admin=self._admin())
        self._change_if_asked()
        if time.monotonic() - self.sampled_at >= SAMPLE_S:
            self._sample("periodic")

    def _change_if_asked(self) -> None:
        """Take another mesh over, or keep this one and say why."""
        request_id = ""
        try:
            wanted = take_change(self.folder.path)
            if wanted is not None:
                request_id = wanted.request_id
                answer_change(self.folder, self._changed(wanted), request_id=request_id)
        except MeshMLError as error:  # what fails beside the program never ends the program
            self._report(error.message)
            with suppress(LogFolderError):
                refused = Change(applied=False, reason=error.message)
                answer_change(self.folder, refused, request_id=request_id)

    def _changed(self, wanted: WantedChange) -> Change:
        if self._admin() is None:
            return Change(applied=False, reason="Envoy has ended")
        self.changes += 1
        tag = f"{wanted.mesh_version}.{self.changes}"
        change = change_files(self.envoy, self.folder, self.plan.files, wanted.files, tag=tag)
        if change.applied:
            self.plan = wanted.applied_to(self.plan)
            self.folder.write_facts(_facts(self.plan, self.binary, self.folder, self.clock()))
            self._write("mesh", "declared", _mesh_values(self.plan))
        elif not change.undone:
            self._report(change.reason)
        return change

    def _look_at_envoy(self, *, within_s: float) -> bool:
        """Whether Envoy has ended by itself; then it is said."""
        has_ended = self.envoy.ends_within(within_s)
        if has_ended:
            self._report(f"Envoy ended by itself ({_exit_text(self.envoy.exit_code or 0)})")
        return has_ended

    def _is_asked_to_close(self) -> bool:
        request = self.folder.path / CLOSE_REQUEST
        try:
            request.rename(request.with_name(CLOSE_TAKEN))
        except FileNotFoundError:
            return False
        except OSError as error:
            self._report(f"cannot answer {request}: {error.strerror or error}")
            return False
        return True

    def _has_reached_a_limit(self) -> bool:
        """The supervisor's own lines alone never make a file old, else idle ones would pile up."""
        limits, logs = self.plan.limits, self.folder.logs
        files = live_files(logs)
        if any(path.stat().st_size >= limits.size for path in files):
            return True
        is_old = time.monotonic() - self.closed_at >= limits.seconds
        return is_old and any(path != logs.events for path in files)

    def _finish(self, ended: Ended) -> Outcome:
        self._drain()
        was_running = self.envoy.exit_code is None
        is_fresh = self._read_counters()
        exit_code = self.envoy.stop() if was_running else self.envoy.exit_code
        is_orderly = was_running and exit_code == 0
        if is_orderly and is_fresh and self.counters is not None:
            self.counters = replace(self.counters, requests_active=0)
        elif was_running and not is_orderly:
            self._report(f"Envoy did not end in order ({_exit_text(exit_code or 0)})")
        self._write_sample("last", ended.cpu_us)
        note = "; ".join(self.trouble) or None
        end = {"exit_code": ended.exit_status, "cpu_us": ended.cpu_us, "note": note}
        self._write("program", "end", _member_values(self.plan) | end)
        if not is_orderly:
            close_unfinished(self.folder.logs, now=self._now())
        total = self.counters.requests_total if self.counters else None
        return Outcome(
            exit_status=ended.exit_status, requests_total=total, trouble=tuple(self.trouble)
        )

    def _drain(self) -> None:
        """No new calls, then time for those in flight: the counters must come to rest."""
        admin = self._admin()
        if admin is None:
            return
        try:
            admin.drain()
            begun = time.monotonic()
            while _has_to_wait(admin, time.monotonic() - begun):
                time.sleep(_DRAIN_POLL_S)
        except EnvoyError as error:
            if not self._look_at_envoy(within_s=_DEATH_S):
                self._report(error.message)

    def _sample(self, kind: str) -> None:
        self.sampled_at = time.monotonic()
        self._read_counters()
        self._write_sample(kind, self.program.cpu_us() if self.program else 0)

    def _read_counters(self) -> bool:
        """Read what Envoy counts; what was read last stays when it does not answer."""
        admin = self._admin()
        if admin is None:
            return False
        try:
            self.counters = read_counters(admin)
        except EnvoyError as error:
            if not self._look_at_envoy(within_s=_DEATH_S):
                self._report(error.message)
            return False
        return True

    def _write_sample(self, kind: str, cpu_us: int) -> None:
        values = {"sidecar_id": self.plan.sidecar_id, "process_id": self.plan.process_id}
        counted = asdict(self.counters) if self.counters else {}
        sizes = {"log_bytes": self.closed_access_size + self._live_access_size(), "cpu_us": cpu_us}
        self._write("sample", kind, {**values, **counted, **sizes})

    def _live_access_size(self) -> int:
        logs = self.folder.logs
        mine = (logs.access, *logs.live.glob(f"{CLOSING_PREFIX}*"))
        return sum(path.stat().st_size for path in mine if path.exists())

    def _close(self, *, admin: Admin | None) -> None:
        self.closed_at = time.monotonic()
        try:
            closed = close_files(self.folder.logs, now=self._now(), admin=admin)
        except OSError as error:
            self._report(f"cannot close the files of {self.folder.logs.live}: {error}")
        else:
            self.closed_access_size += sum(one.size for one in closed if one.is_access)

    def _write(self, record: str, kind: str, values: dict[str, object]) -> None:
        line = record_line(record, kind, seconds=self.clock(), values=values)
        try:
            with self.folder.logs.events.open("ab", buffering=0) as file:
                file.write(line)
        except OSError as error:
            self._report(f"cannot write {self.folder.logs.events}: {error.strerror or error}")

    def _report(self, what: str) -> None:
        """Say it once, now, on the log that shows on stderr, and again in the program's record."""
        if what not in self.trouble:
            self.trouble.append(what)
            _log.warning("%s: %s", self.plan.sidecar_id, what)

    def _admin(self) -> Admin | None:
        return self.envoy.admin if self.envoy.exit_code is None else None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


def _has_to_wait(admin: Admin, waited_s: float) -> bool:
    if waited_s < DRAIN_IDLE_S:
        return count_connections(admin) > 0
    return waited_s < DRAIN_S and read_counters(admin).requests_active > 0


def program_name(command: tuple[str, ...]) -> str | None:
    """What a program is called in the log: never its arguments, which may hold secrets.

    Of an interpreter, the script is the program.

    >>> program_name(("/usr/bin/python3", "jobs/train.py", "--token=abc"))
    'python3 train.py'
    >>> program_name(("curl", "http://labels.ml.local/?token=abc"))
    'curl'
    """
    if not command:
        return None
    name = Path(command[0]).name
    script = [Path(word).name for word in command[1:2] if _SCRIPT.fullmatch(word)]
    return " ".join([name, *script]) if _INTERPRETER.fullmatch(name) else name


def _facts(
    plan: SidecarPlan, binary: EnvoyBinary, folder: RunFolder, now: float
) -> dict[str, object]:
    return {
        "sidecar_id": plan.sidecar_id,
        **_member_values(plan),
        "pid": os.getpid(),
        "started": datetime.fromtimestamp(now, UTC).isoformat(),
        "listens": [f"{bind}:{port}" for bind, port in plan.listens],
        "logs": str(folder.logs.root),
        "program": program_name(plan.command),
        "envoy": asdict(binary),
    }


def _member_values(plan: SidecarPlan) -> dict[str, object]:
    return {
        "sidecar_id": plan.sidecar_id,
        "process_id": plan.process_id,
        "mesh": plan.mesh,
        "mesh_version": plan.mesh_version,
        "observer": plan.observer,
        "client": plan.client,
        "virtual_node": plan.virtual_node,
        "environment": plan.environment,
        **plan.job,
    }


def _mesh_values(plan: SidecarPlan) -> dict[str, object]:
    return {
        "sidecar_id": plan.sidecar_id,
        "mesh": plan.mesh,
        "mesh_version": plan.mesh_version,
        "source": plan.mesh_source,
        "document": plan.mesh_document,
    }


def _exit_text(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
