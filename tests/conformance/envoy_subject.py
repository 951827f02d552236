"""Envoy as the subject: each member has a real sidecar, and its access log tells what it did.

The sidecars are those of the lab of the Envoy plane. What a reply says of route, target, attempts
and flags is read from the log of the caller's Envoy.
"""

import http.client
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]  # it ships no types

from meshml_dbx.mesh import names
from meshml_dbx.traffic.access_log import call_of, connection_of
from tests.conformance.name_server import telling
from tests.conformance.subject import Ability, Programs, Reply, Request, Spoken, Transport
from tests.planes.envoy_lab import Lab, lab
from tests.planes.envoy_servers import call_grpc, call_http2
from tests.planes.envoy_world import Caller

_OUR_OWN = "meshml:"
_LINE_WITHIN_S = 8.0


class EnvoySubject:
    """A sidecar for each member."""

    name = "envoy"
    abilities: frozenset[Ability] = frozenset(
        {"http", "http2", "grpc", "tcp", "tls", "outliers", "egress", "node", "gateway"}
    )

    @contextmanager
    def at_work(
        self,
        folder: Path,
        text: str,
        *,
        behind: Programs | None = None,
        at: Mapping[str, int] | None = None,
        hosts: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[Mapping[str, Transport]]:
        """A running Envoy for every client and gateway, and for each node with a program."""
        with ExitStack() as stack:
            dns_port = stack.enter_context(telling(hosts)) if hosts else None
            made = stack.enter_context(lab(folder, text, behind, ports=at, dns_port=dns_port))
            yield {member: _Through(made, member) for member in made.sidecars}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Got:
    """What came back, and by which field and value its line is found."""

    status: int
    elapsed_s: float
    key: tuple[str, str]
    headers: Mapping[str, str]
    body: bytes


class _Through:
    """The way through one member's Envoy."""

    def __init__(self, made: Lab, member: str) -> None:
        self._sidecar = made[member]
        gateway = names.index(made.mesh).gateways.get(member)
        self._gateway_ports = (
            tuple(it.port_mapping.port for it in gateway.spec.listeners) if gateway else ()
        )
        self._lines = _Lines(self._sidecar.folder / "access.jsonl")

    def send(self, request: Request) -> Reply:
        """One call, with what the log says of it."""
        return self.send_all([request])[0]

    def send_all(self, requests: Sequence[Request], *, at_once: int = 1) -> tuple[Reply, ...]:
        """The log is read when all have come back."""
        with ThreadPoolExecutor(at_once) as pool:
            got = list(pool.map(self._exchange, requests))
        return tuple(self._reply(request, one) for request, one in zip(requests, got, strict=True))

    def _exchange(self, request: Request) -> _Got:
        ways: dict[Spoken, Callable[[Request], _Got]] = {
            "http": self._by_http,
            "http2": self._by_http2,
            "grpc": self._by_grpc,
            "tcp": self._by_tcp,
        }
        return ways[request.protocol](request)

    def _reply(self, request: Request, got: _Got) -> Reply:
        line = self._lines.of(*got.key)
        if request.protocol == "tcp":
            connection = connection_of(line)
            route, target, attempts = None, connection.target, 1
            flags = connection.flags or ""
        else:
            call = call_of(line)
            route, target, attempts = call.route, call.target, call.attempts or 0
            flags = f"{call.flags or ''},{call.origin_flags or ''}"
        return Reply(
            status=got.status,
            headers=got.headers,
            body=got.body,
            elapsed_s=got.elapsed_s,
            route=None if (route or _OUR_OWN).startswith(_OUR_OWN) else route,
            target=target,
            attempts=attempts,
            flags=",".join(sorted(set(flags.split(",")) - {""})),
        )

    # --- protocols ----------------------------------------------------------------------------

    def _by_http(self, request: Request) -> _Got:
        request_id = str(uuid.uuid4())
        url, method, body = request.url, request.method, request.body or None
        sent = {**request.headers, "x_request_id": request_id}
        token = {} if not self._gateway_ports else {"token": None}
        if self._gateway_ports:
            parts = urlsplit(url)
            url = parts._replace(scheme="", netloc="").geturl()
            sent["host"] = parts.netloc
        begun = time.monotonic()
        status, headers, got = 0, {}, b""
        with closing(Caller(self._port(request, self._sidecar.egress_port), **token)) as caller:
            try:
                answer = caller.call(url, method, body, **sent)
                status, headers, got = answer.code, dict(answer.headers), answer.body
            except http.client.IncompleteRead as error:
                got = error.partial
        elapsed_s = time.monotonic() - begun
        key = "request_id", request_id
        return _Got(status=status, headers=headers, body=got, elapsed_s=elapsed_s, key=key)

    def _by_http2(self, request: Request) -> _Got:
        request_id, parts = str(uuid.uuid4()), urlsplit(request.url)
        path = parts._replace(scheme="", netloc="").geturl()
        sent = {**request.headers, "x-request-id": request_id}
        begun = time.monotonic()
        port = self._port(request, self._sidecar.grpc_port)
        got = call_http2(port, parts.netloc, path, method=request.method, **sent)
        return _Got(
            status=got.code,
            headers=got.headers,
            body=got.body,
            elapsed_s=time.monotonic() - begun,
            key=("request_id", request_id),
        )

    def _by_grpc(self, request: Request) -> _Got:
        request_id, parts = str(uuid.uuid4()), urlsplit(request.url)
        address = f"127.0.0.1:{self._port(request, self._sidecar.grpc_port)}"
        sent = {**request.headers, "x-request-id": request_id}
        begun = time.monotonic()
        got = call_grpc(
            address, parts.path, authority=parts.netloc, timeout_s=request.within_s, **sent
        )
        return _Got(
            status=grpc.StatusCode[got.status].value[0],
            headers=got.metadata,
            body=got.text.encode(),
            elapsed_s=time.monotonic() - begun,
            key=("request_id", request_id),
        )

    def _by_tcp(self, request: Request) -> _Got:
        """What is heard until the other end hangs up, or as long as the caller listens."""
        port = self._tcp_port(urlsplit(request.url).netloc)
        body, begun = b"", time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=request.within_s) as peer:
            own = "{}:{}".format(*peer.getsockname())
            with suppress(ConnectionError, TimeoutError):
                peer.sendall(request.body)
                peer.shutdown(socket.SHUT_WR)
                while data := peer.recv(65536):
                    body += data
        elapsed_s = time.monotonic() - begun
        key = "downstream_address", own
        return _Got(status=0, headers={}, body=body, elapsed_s=elapsed_s, key=key)

    def _tcp_port(self, service: str) -> int:
        """A service is named with its port, or without where it has but one."""
        found = self._sidecar.tcp_ports
        return found.get(service) or next(
            port for name, port in found.items() if name.partition(":")[0] == service
        )

    def _port(self, request: Request, own: int) -> int:
        """A gateway's port is the URL's if the gateway has it, else its first."""
        wanted = urlsplit(request.url).port
        if not self._gateway_ports:
            return own
        return wanted if wanted in self._gateway_ports else self._gateway_ports[0]


class _Lines:
    """The last lines of calls and connections, each read once."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], dict[str, object]] = {}

    def of(self, field: str, value: str) -> dict[str, object]:
        """The last line of a call, by its request, or of a connection, by its own address."""
        deadline = time.monotonic() + _LINE_WITHIN_S
        while (field, value) not in self._found:
            assert time.monotonic() < deadline, f"no line with {field} {value} in {self._path}"
            time.sleep(0.02)
            self._read()
        return self._found[field, value]

    def _read(self) -> None:
        with self._lock, self._path.open("rb") as file:
            file.seek(self._at)
            whole = file.read().rpartition(b"\n")[0]
            self._at += len(whole) + 1 if whole else 0
            for text in whole.splitlines():
                self._keep(json.loads(text))

    def _keep(self, line: dict[str, object]) -> None:
        if line.get("_type") == "DownstreamEnd":
            self._found["request_id", str(line["request_id"])] = line
        elif line["_record"] == "connection":
            self._found["downstream_address", str(line["downstream_address"])] = line
