"""Signals that a supervisor receives, kept until it looks, and a wait that they cut short.

In goes nothing; out come signal numbers. What the user had ignored (``nohup``) stays ignored.
"""

import os
import select
import signal
import socket
from collections import deque
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self


def _known(*names: str) -> tuple[signal.Signals, ...]:
    return tuple(one for one in signal.Signals if one.name in names)  # Windows lacks most


ENDING = _known("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
PASSED_ON = (*ENDING, *_known("SIGUSR1", "SIGUSR2"))
_FROM_TERMINAL = _known("SIGINT", "SIGQUIT")


class Signals:
    """Collects signals while it is open; only the main thread can open it.

    >>> with Signals() as signals:
    ...     os.kill(os.getpid(), signal.SIGUSR1)
    ...     signals.wait(5)
    ...     [one.name for one in signals.take()]
    ['SIGUSR1']
    """

    def __init__(self) -> None:
        self._received: deque[int] = deque()
        self._before: dict[int, object] = {}
        self._ours, self._theirs = socket.socketpair()
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        self._ours.settimeout(0)
        self._theirs.settimeout(0)
        self._wakeup_before = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        heard = [one for one in PASSED_ON if signal.getsignal(one) != signal.SIG_IGN]
        for number in (*heard, signal.SIGCHLD):  # were that ignored, no exit status would be kept
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave us
        signal.set_wakeup_fd(self._wakeup_before)
        self._ours.close()
        self._theirs.close()

    def wait(self, timeout_s: float) -> None:
        """Return at a signal, the end of a child among them, or after this time."""
        select.select([self._ours], [], [], max(timeout_s, 0.0))
        with suppress(BlockingIOError):
            self._ours.recv(4096)

    def take(self) -> tuple[signal.Signals, ...]:
        """The signals since the last call, oldest first, without the news of children."""
        taken = []
        while self._received:
            taken.append(signal.Signals(self._received.popleft()))
        return tuple(one for one in taken if one != signal.SIGCHLD)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._received.append(number)


def came_from_terminal(number: int) -> bool:
    """Whether the terminal sent it, and so sent it to the program as well: Ctrl-C, Ctrl-\\."""
    return number in _FROM_TERMINAL and _is_in_foreground()


def _is_in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
