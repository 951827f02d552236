"""https of a program under ``meshml run``: carried to its host unopened, and seen from outside."""

import http.server
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.small_mesh import SmallMesh
from tests.small_pki import Authority, server_context
from tests.small_service import Server, Service

pytestmark = pytest.mark.envoy

HOST = "127.0.0.2"  # this machine, by an address that no_proxy does not hold
PROGRAMS = {
    "requests": """
import sys, time, requests
with requests.Session() as session:
    for pause in (0.0, 1.3):
        time.sleep(pause)
        url = sys.argv[1] + "/bytes/5000?password=hunter2"
        print(len(session.get(url, verify=sys.argv[2]).content))
""",
    "http.client": """
import base64, http.client, os, ssl, sys, time
from urllib.parse import urlsplit
proxy, url = urlsplit(os.environ["https_proxy"]), urlsplit(sys.argv[1])
context = ssl.create_default_context(cafile=sys.argv[2])
connection = http.client.HTTPSConnection(proxy.hostname, proxy.port, context=context)
shown = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
connection.set_tunnel(url.hostname, url.port, {"proxy-authorization": f"Basic {shown}"})
for pause in (0.0, 1.3):
    time.sleep(pause)
    connection.request("GET", "/bytes/5000?password=hunter2")
    print(len(connection.getresponse().read()))
connection.close()
""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A server that speaks TLS itself, and the authority that knows it."""

    port: int
    authority: Path

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://{HOST}:{self.port}"


@contextmanager
def https_host(folder: Path) -> Iterator[Host]:
    """A host outside the mesh, while the block runs."""
    authority = Authority(folder, "outside")
    context = server_context(authority.issue("web", HOST))

    class TlsServer(Server):
        def finish_request(self, request: object, client_address: object) -> None:
            assert isinstance(request, ssl.SSLSocket)
            request.do_handshake()
            super().finish_request(request, client_address)

        def handle_error(self, request: object, client_address: object) -> None:
            """A caller that goes away is part of the test."""

    with TlsServer((HOST, 0), Service) as server:
        wrapped = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        server.socket = wrapped
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield Host(port=server.server_port, authority=authority.file)
        server.shutdown()


@pytest.mark.parametrize("name", PROGRAMS)
def test_https_goes_through_and_is_told_by_connection(
    mesh: SmallMesh, tmp_path: Path, name: str
) -> None:
    """One tunnel is one record from start to end: host, bytes and time; also under DROP_ALL."""
    with https_host(tmp_path / "outside") as host:
        done = mesh.python(PROGRAMS[name], host.url, str(host.authority))
    assert (done.status, done.out) == (0, "5000\n5000\n"), done.err
    lines = mesh.lines(done.sidecar_id, _record="call", method="CONNECT")
    types = [line["_type"] for line in lines]
    assert types == ["DownstreamStart", "DownstreamPeriodic", "DownstreamEnd"]
    assert {line["authority"] for line in lines} == {f"{HOST}:{host.port}"}
    (end,) = mesh.calls(done.sidecar_id)
    assert (end["code"], end["route"], end["upstream_host"]) == (
        200,
        "meshml:tunnel",
        f"{HOST}:{host.port}",
    )
    assert isinstance(end["bytes_out"], int)
    assert end["bytes_out"] > 10_000
    assert isinstance(end["duration_ms"], int)
    assert 1_300 <= end["duration_ms"] < 5_000
    assert end["connect_us"] is not None


def test_nothing_inside_a_tunnel_is_seen(mesh: SmallMesh, tmp_path: Path) -> None:
    """What a program asks a host over https stays between the two."""
    with https_host(tmp_path / "outside") as host:
        done = mesh.python(PROGRAMS["requests"], host.url, str(host.authority))
    files = (mesh.state / "logs" / done.sidecar_id).rglob("*.jsonl")
    text = b"".join(path.read_bytes() for path in files)
    assert [word for word in (b"/bytes", b"hunter2") if word in text] == []


def test_a_host_that_nobody_serves_is_a_failed_tunnel(mesh: SmallMesh) -> None:
    """The program gets its own library's proxy error, and the record says why."""
    code = """
import sys, requests
try:
    requests.get(sys.argv[1])
except requests.exceptions.ProxyError as error:
    print("503" in str(error))
"""
    with http.server.HTTPServer((HOST, 0), http.server.BaseHTTPRequestHandler) as gone:
        port = gone.server_port
    done = mesh.run(sys.executable, "-c", code, f"https://{HOST}:{port}/")
    (end,) = mesh.calls(done.sidecar_id)
    assert (done.out, end["code"], end["flags"]) == ("True\n", 503, "UF")
