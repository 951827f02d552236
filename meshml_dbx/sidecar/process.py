"""One Envoy process: started so that it dies with its supervisor, watched until it serves, stopped.

In go a binary and a folder with its files; out comes a running ``EnvoyProcess``, or an error that
carries Envoy's own reason. Envoy says it is ready even when it has refused what it was given, so
ready here means: every file was accepted and every listener is open.
"""

import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from meshml_dbx.errors import EnvoyError, MeshMLError
from meshml_dbx.sidecar.admin import Admin
from meshml_dbx.sidecar.binary import EnvoyBinary
from meshml_dbx.sidecar.ports import port_taken

FLUSH_MS = 200
ENVOY_LOG = "envoy.log"

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.02
_ENTRY = re.compile(
    r"^\[\d{4}-\d\d-\d\d [^\]]+\]\[\d+\]\[\w+\]\[[^\]]+\] \[[^\]]*\] ", re.MULTILINE
)
_REFUSED = re.compile(r"^Filesystem config update (?:rejected|failure): (.*)", re.DOTALL)
_FATAL = re.compile(r"^error `(.*)` initializing config", re.DOTALL)
_CANNOT_BIND = re.compile(r"cannot bind '\[?([^']+?)\]?:(\d+)': Address already in use")
_UPDATES = (
    r"(^|\.)(cds|lds|rds|sds)\.(.*\.)?update_(attempt|success|rejected|failure)$"
    r"|^(listener_manager\.total_listeners_warming|cluster_manager\.warming_clusters)$"
)
_BAD = (".update_rejected", ".update_failure")
_KINDS = {"cds": "clusters", "lds": "listeners", "rds": "routes", "sds": "certificates"}


class EnvoyProcess:
    """A started Envoy; make one with ``start_envoy``."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.admin = Admin(folder)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait_ready(self, listens: Sequence[tuple[str, int]] = (), *, timeout_s: float = 30) -> None:
        """Return once every file was accepted and these addresses are open.

        Raises:
            PortTakenError: when a listener's port is in use.
            EnvoyError: when Envoy ended, refused a file or was not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self._is_serving(listens):
            if self.exit_code is not None:
                raise refusal(self.log(), f"Envoy ended with exit code {self.exit_code}")
            if time.monotonic() > deadline:
                raise refusal(self.log(), f"Envoy was not ready after {timeout_s:g} s")
            time.sleep(_POLL_S)

    def stop(self, *, grace_s: float = 5.0) -> int:
        """End it: calls in flight get their end lines and buffers are written; then its exit code.

        One that does not end within the grace is killed, and its last lines are lost.
        """
        self._process.terminate()
        try:
            return self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def log(self) -> str:
        """What Envoy said: its standard error, since a log of its own would come 200 ms late."""
        try:
            return (self._folder / ENVOY_LOG).read_text(errors="replace")
        except OSError:
            return ""

    def ends_within(self, seconds: float) -> bool:
        """Whether it has ended, or does so in this time."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.exit_code is not None

    def _is_serving(self, listens: Sequence[tuple[str, int]]) -> bool:
        if not self.admin.is_ready():
            return False
        try:
            updates = self.admin.stats(_UPDATES)
            open_addresses = self.admin.listeners()
        except EnvoyError:
            return False
        refused = refused_kinds(updates)
        if refused:
            raise refusal(self.log(), f"Envoy refused its {' and its '.join(refused)}")
        return is_settled(updates) and {_address(*one) for one in listens} <= open_addresses


def start_envoy(binary: EnvoyBinary, folder: Path, *, hold: Sequence[int] = ()) -> EnvoyProcess:
    """Start Envoy in this folder; it is killed when this process ends, however that ends.

    Args:
        hold: descriptors of locks that Envoy shall hold too, for as long as it lives.

    Raises:
        EnvoyError: when the binary cannot be started, or this is not the main thread: Linux kills
            the child when the *thread* that started it ends.
    """
    if threading.current_thread() is not threading.main_thread():
        raise EnvoyError("Envoy must be started from the main thread, else it dies with the thread")
    command = [
        binary.path,
        *("-c", "bootstrap.json"),
        "--disable-hot-restart",
        *("--concurrency", "1"),
        *("--file-flush-interval-msec", str(FLUSH_MS)),
        "--reject-unknown-dynamic-fields",
        *("-l", "warning"),
    ]
    follow = _death_with_parent()
    try:
        (folder / ENVOY_LOG).touch(mode=0o600)  # it quotes what it was given
        with (folder / ENVOY_LOG).open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # One that outlives us must not keep its folder from being adopted.
                pass_fds=tuple(hold) if follow else (),
                start_new_session=True,  # else Ctrl-C would take Envoy before the program is done
                preexec_fn=follow,  # noqa: PLW1509  # a supervisor has one thread
            )
    except OSError as error:
        raise EnvoyError(f"cannot start {binary.path}: {error.strerror or error}") from error
    return EnvoyProcess(process, folder)


def refused_kinds(updates: dict[str, int]) -> list[str]:
    """Which kinds of files Envoy has refused, by its counters, in the words of its files."""
    bad = [name for name, value in updates.items() if value and name.endswith(_BAD)]
    kinds = {kind for name in bad for kind in _KINDS if kind in name.split(".")}
    return [f"{_KINDS[kind]} ({kind})" for kind in _KINDS if kind in kinds]


def is_settled(updates: dict[str, int]) -> bool:
    """Whether every subscription that Envoy began has been answered and nothing is warming."""
    attempts = [name for name in updates if name.endswith(".update_attempt")]
    answered = all(updates.get(f"{name[: -len('attempt')]}success", 0) > 0 for name in attempts)
    warming = any(value for name, value in updates.items() if "warming" in name)
    return bool(attempts) and answered and not warming


def refusal(log: str, what: str) -> MeshMLError:
    """The error for an Envoy that would not serve, with the reason that its log gives."""
    taken = _CANNOT_BIND.search(log)
    if taken:
        return port_taken(taken[1], int(taken[2]))
    reasons = "; ".join(reasons_in(log))
    return EnvoyError(f"{what}: {reasons}" if reasons else what)


def reasons_in(log: str) -> tuple[str, ...]:
    """Why Envoy refused something, in its own words, each reason once.

    >>> reasons_in("[2026-11-23 14:51:16.277][9][warning][config] [a.cc:81] Filesystem config "
    ...            "update rejected: Error adding/updating listener(s) egress: no NOPE\\n")
    ('Error adding/updating listener(s) egress: no NOPE',)
    """
    said_before_its_log, *entries = (part.strip() for part in _ENTRY.split(log))
    found = [match for entry in entries for match in (_REFUSED.match(entry), _FATAL.match(entry))]
    texts = [" ".join(match[1].split()) for match in found if match]
    texts = texts or [" ".join(said_before_its_log.split())]
    return tuple(dict.fromkeys(text for text in texts if text))


def _address(bind: str, port: int) -> str:
    return f"[{bind}]:{port}" if ":" in bind else f"{bind}:{port}"


def _death_with_parent() -> Callable[[], None] | None:
    """What the child does between fork and exec; None where the kernel knows no such signal."""
    parent = os.getpid()
    set_option = getattr(ctypes.CDLL(None), "prctl", None)
    if set_option is None:
        return None

    def follow() -> None:
        set_option(_PR_SET_PDEATHSIG, signal.SIGKILL.value)
        if os.getppid() != parent:  # it died before the kernel knew what to do
            os._exit(1)

    return follow
