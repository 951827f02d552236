"""Envoy's admin interface over its Unix socket: counters, listeners, log reopening, draining.

In goes the folder that holds ``admin.sock``; out come plain values. A socket's path may have 107
bytes at most, so a longer one is reached through an open descriptor of its folder.
"""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from meshml_dbx.errors import EnvoyError
from meshml_dbx.traffic.log_folder import ADMIN_SOCKET

_LONGEST_PATH = 100
_DESCRIPTORS = Path("/proc/self/fd")


class Admin:
    """One Envoy's admin interface; each question is one connection.

    >>> Admin(Path("/no/such/folder")).is_ready()
    False
    """

    def __init__(self, folder: Path, *, timeout_s: float = 5.0) -> None:
        self._folder = folder
        self._timeout_s = timeout_s

    def is_ready(self) -> bool:
        """Whether Envoy says that it serves; it says so too when its files were refused."""
        try:
            return self._ask("GET", "/ready")[0] == 200  # noqa: PLR2004  # HTTP's OK
        except EnvoyError:
            return False

    def stats(self, pattern: str) -> dict[str, int]:
        """The counters and gauges whose names match Envoy's (RE2) regular expression."""
        answer = self._require("GET", f"/stats?format=json&filter={_quoted(pattern)}")
        found = json.loads(answer)["stats"]
        return {one["name"]: int(one["value"]) for one in found if "value" in one}

    def texts(self, pattern: str) -> dict[str, str]:
        """The text readouts, such as versions of files, whose names match."""
        query = f"format=json&type=TextReadouts&filter={_quoted(pattern)}"
        found = json.loads(self._require("GET", f"/stats?{query}"))["stats"]
        return {one["name"]: str(one["value"]) for one in found if "value" in one}

    def listeners(self) -> frozenset[str]:
        """The addresses that Envoy's listeners have opened, as ``127.0.0.1:18081``."""
        lines = self._require("GET", "/listeners").decode().splitlines()
        return frozenset(line.split("::", 1)[1] for line in lines if "::" in line)

    def reopen_logs(self) -> None:
        """Have Envoy open its log files by name again, at its next write."""
        self._require("POST", "/reopen_logs")

    def drain(self) -> None:
        """Take no new connections, and say "connection: close" on those that are open."""
        self._require("POST", "/healthcheck/fail")
        self._require("POST", "/drain_listeners")

    def quit(self) -> None:
        """Have Envoy end itself."""
        self._require("POST", "/quitquitquit")

    def _require(self, method: str, path: str) -> bytes:
        status, body = self._ask(method, path)
        if status != 200:  # noqa: PLR2004  # HTTP's OK
            raise EnvoyError(f"Envoy answered {status} to {method} {path}: {body[:200]!r}")
        return body

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        connection = _UnixConnection(self._folder, self._timeout_s)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException) as error:
            message = f"Envoy's admin interface in {self._folder} did not answer: {error}"
            raise EnvoyError(message) from error
        finally:
            connection.close()


class _UnixConnection(HTTPConnection):
    def __init__(self, folder: Path, timeout_s: float) -> None:
        super().__init__("envoy", timeout=timeout_s)
        self._folder = folder
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        with _short_path(self._folder) as path:
            self.sock.connect(path)


@contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    direct = str(folder / ADMIN_SOCKET)
    if len(os.fsencode(direct)) <= _LONGEST_PATH:
        yield direct
        return
    if not _DESCRIPTORS.is_dir():
        message = f"the path {direct} is too long for a Unix socket"
        raise EnvoyError(message, advice="choose a shorter folder with --state")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield str(_DESCRIPTORS / str(descriptor) / ADMIN_SOCKET)
    finally:
        os.close(descriptor)


def _quoted(pattern: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.~-]", lambda found: f"%{ord(found[0]):02X}", pattern)
