"""The user's program as a child: started, signalled, waited for, and its CPU time read.

In go a command and its environment; out come an exit status as a shell says it, and microseconds.
"""

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from meshml_dbx.errors import MissingToolError
from meshml_dbx.sidecar.signals import Signals, came_from_terminal

_PROC = Path("/proc")
_KILLED_BASE = 128
_TURN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended. ``exit_status`` is 128 + n when signal n killed it.

    >>> Ended(exit_status=137, cpu_us=0).exit_status
    137
    """

    exit_status: int
    cpu_us: int


class Program:
    """A running program; make one with ``start_program``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._seen_us = 0

    def poll(self) -> Ended | None:
        """How it ended; None while it runs. Ask no more once it has answered."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        code = os.waitstatus_to_exitcode(status)
        used_us = round((usage.ru_utime + usage.ru_stime) * 1e6)
        return Ended(
            exit_status=code if code >= 0 else _KILLED_BASE - code,
            cpu_us=max(used_us, self._seen_us),
        )

    def send(self, number: int) -> None:
        """Pass a signal on; one that has just ended does not mind."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def cpu_us(self) -> int:
        """CPU time so far of the program and all that it started, in steps of the kernel's clock.

        Known where ``/proc`` is; elsewhere 0 until the program ends. It never goes back.
        """
        self._seen_us = max(self._seen_us, tree_cpu_us(self.pid))
        return self._seen_us


def require_program(command: Sequence[str]) -> None:
    """Refuse a command that cannot be started, before anything else is.

    Raises:
        MissingToolError: when there is no such program.
    """
    if command and shutil.which(command[0]) is None:
        message = f"there is no program {command[0]!r} to run"
        raise MissingToolError(message, advice="check its spelling, its path and its mode")


def start_program(command: Sequence[str], environment: Mapping[str, str]) -> Program:
    """Start the program in our process group, so that Ctrl-C reaches it; its input is ours.

    Raises:
        MissingToolError: when the system refuses to run it.
    """
    ignored_by_python = [signal.SIGPIPE, signal.SIGXFSZ]  # a program expects the system's default
    try:
        pid = os.posix_spawnp(
            command[0], list(command), dict(environment), setsigdef=ignored_by_python
        )
    except OSError as error:
        message = f"cannot run {command[0]!r}: {error.strerror or error}"
        raise MissingToolError(
            message, advice="does its first line name an interpreter?"
        ) from error
    return Program(pid)


def run_to_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit status of a program that is run with nothing beside it; signals are passed on.

    Raises:
        MissingToolError: there is no such program, or the system refuses to run it.
    """
    require_program(command)
    with Signals() as signals:
        program = start_program(command, environment)
        while True:
            signals.wait(_TURN_S)
            for number in signals.take():
                if not came_from_terminal(number):
                    program.send(number)
            ended = program.poll()
            if ended is not None:
                return ended.exit_status


def tree_cpu_us(root: int, *, proc: Path = _PROC) -> int:
    """CPU time of a process, of its descendants, and of those that they have waited for."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            ticks[int(folder.name)] = sum(int(field) for field in fields[11:15])
    family = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    per_second = os.sysconf("SC_CLK_TCK")
    return sum(ticks.get(pid, 0) for pid in family) * 1_000_000 // per_second
