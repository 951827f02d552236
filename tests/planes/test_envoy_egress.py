"""The proxy of a program: who may use it, and what it lets out of the mesh."""

import http.client
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshml_dbx.traffic.access_log import call_of
from meshml_dbx.trust import supply_identity
from tests.planes.envoy_world import (
    TOKEN,
    Caller,
    Program,
    Reply,
    Request,
    Sidecar,
    World,
    basic,
    identities,
    labels_world,
    running,
    serving,
)

pytestmark = pytest.mark.envoy

CONTEXT = {
    "x_meshml_run_id": "4f1c",
    "x_meshml_stage": "training",
    "x_meshml_client": "churn-training",
}


def pose_as_sidecar(request: Request) -> Reply:
    """An answer that claims to come from a sidecar of the mesh."""
    return Reply(headers={"x-meshml-origin": "forged", "x-meshml-flags": "UC"})


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A mesh that drops foreign egress."""
    with labels_world(tmp_path_factory.mktemp("closed")) as made:
        yield made


@pytest.fixture(scope="module")
def open_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A mesh that lets programs call any host."""
    folder = tmp_path_factory.mktemp("open")
    with labels_world(folder, egress_filter="ALLOW_ALL") as made:
        yield made


@pytest.fixture(scope="module")
def outside() -> Iterator[Program]:
    """A host that is not in the mesh."""
    with serving(pose_as_sidecar) as made:
        yield made


# --- the token --------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "wrong", "", TOKEN + "x"])
@pytest.mark.parametrize("host", ["direct.ml.local", "nobody.example"])
def test_without_the_token_nothing_is_answered(closed: World, token: str | None, host: str) -> None:
    """A caller without the proxy's token is asked for it, whatever host it calls."""
    before = len(closed.program.requests)
    with closing(Caller(closed.client.egress_port, token=token)) as caller:
        got = caller.call(f"http://{host}/")
    end = closed.client.end_of(got.request_id)
    assert (got.code, got.headers["proxy-authenticate"]) == (407, 'Basic realm="meshml"')
    assert (end.route, end.attempts, end.upstream_host) == ("meshml:no-token", 0, None)
    assert len(closed.program.requests) == before


@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_the_token_nothing_is_tunnelled(
    closed: World, outside: Program, token: str | None
) -> None:
    """CONNECT is refused in the same way."""
    before = len(outside.requests)
    headers = {} if token is None else {"proxy-authorization": basic(token)}
    connection = http.client.HTTPConnection("127.0.0.1", closed.client.egress_port, timeout=10)
    connection.set_tunnel("localhost", outside.port, headers)
    with closing(connection), pytest.raises(OSError, match="407 Proxy Authentication Required"):
        connection.request("GET", "/")
    assert len(outside.requests) == before


def test_a_proxy_without_a_token_asks_for_none(tmp_path: Path, closed: World) -> None:
    """Where the wiring has no token, calls need none."""
    paths = identities(closed.mesh, "churn-training", closed.store)
    with (
        running(
            tmp_path / "free", closed.mesh, "churn-training", paths=paths, token=None
        ) as sidecar,
        closing(Caller(sidecar.egress_port, token=None)) as caller,
    ):
        assert caller.call("http://direct.ml.local/").code == 200


def test_the_token_does_not_reach_the_called_program(closed: World) -> None:
    """What a client shows to its proxy goes no further."""
    with closing(Caller(closed.client.egress_port)) as caller:
        caller.call("http://direct.ml.local/token")
    (request,) = [it for it in closed.program.requests if it.path == "/token"]
    assert "proxy-authorization" not in request.headers


def test_a_proxy_address_is_all_that_a_program_needs(closed: World) -> None:
    """The standard library routes and authenticates by the address alone."""
    address = f"http://meshml:{TOKEN}@127.0.0.1:{closed.client.egress_port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": address}))
    with opener.open("http://direct.ml.local/v1/x", timeout=10) as response:
        assert (response.status, response.read()) == (200, b"ok")


# --- other hosts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["nobody.example", "s3.amazonaws.com.example", "s3.amazonaws.example", "xamazonaws.com:80"],
)
def test_foreign_hosts_are_dropped(closed: World, host: str) -> None:
    """DROP_ALL answers 403 and says whose backends lack the host."""
    with closing(Caller(closed.client.egress_port)) as caller:
        got = caller.call(f"http://{host}/")
    reason = b"meshml: churn-training has no backend for this host; egressFilter is DROP_ALL\n"
    assert (got.code, got.body) == (403, reason)
    assert closed.client.end_of(got.request_id).route == "meshml:drop-all"


@pytest.mark.parametrize("host", ["none.s3.amazonaws.com", "NONE.amazonaws.com:80"])
def test_amazon_is_let_through(closed: World, host: str) -> None:
    """DROP_ALL means what it meant in App Mesh: Amazon's own hosts can be called."""
    with closing(Caller(closed.client.egress_port)) as caller:
        got = caller.call(f"http://{host}/")
    assert closed.client.end_of(got.request_id).route == "meshml:external"


def test_foreign_hosts_are_called_where_all_are_allowed(
    open_world: World, outside: Program
) -> None:
    """ALLOW_ALL forwards to the host that the program named, and the line tells where."""
    with closing(Caller(open_world.client.egress_port)) as caller:
        got = caller.call(f"http://localhost:{outside.port}/all?x=1")
    end = open_world.client.end_of(got.request_id)
    told = (end.code, end.route, end.virtual_service, end.target, end.upstream_host)
    expected = (200, "meshml:external", None, None, f"127.0.0.1:{outside.port}")
    assert told == expected
    assert "/all?x=1" in [it.path for it in outside.requests]


def test_nothing_of_ours_leaves_the_mesh(open_world: World, outside: Program) -> None:
    """Neither token nor context reaches a foreign host, and its marks do not reach the program."""
    with closing(Caller(open_world.client.egress_port)) as caller:
        got = caller.call(f"http://127.0.0.1:{outside.port}/clean", **CONTEXT)
    (request,) = [it for it in outside.requests if it.path == "/clean"]
    leaked = [it for it in request.headers if it.startswith(("x-meshml", "x-envoy", "proxy-"))]
    assert leaked == []
    assert [it for it in got.headers if it.startswith("x-meshml")] == []


def test_an_unknown_host_is_named_as_such(open_world: World) -> None:
    """A host that DNS does not know gives 503 with the flag DF."""
    with closing(Caller(open_world.client.egress_port)) as caller:
        got = caller.call("http://nobody.invalid/")
    end = open_world.client.end_of(got.request_id)
    assert (end.code, end.flags) == (503, "DF")


# --- tunnels ----------------------------------------------------------------------------------


@contextmanager
def https_server(store: Path) -> Iterator[Program]:
    """A host that speaks TLS itself."""
    files = supply_identity(store, mesh_name="outside", name="web", now=datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate_chain, files.private_key)
    with serving(tls=context) as made:
        yield made


def insecure() -> ssl.SSLContext:
    """A client's settings that accept any certificate: the tunnel is tested, not the host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def tunnel(sidecar: Sidecar, host: Program, request_id: str) -> http.client.HTTPSConnection:
    """An https connection as the standard library makes it behind a proxy."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", sidecar.egress_port, timeout=10, context=insecure()
    )
    headers = {"proxy-authorization": basic(TOKEN), "x-request-id": request_id}
    connection.set_tunnel("localhost", host.port, headers)
    return connection


def test_https_is_carried_and_seen(closed: World, tmp_path: Path) -> None:
    """A tunnel works under DROP_ALL too; start, periodic and end tell its host, size and time."""
    with https_server(tmp_path / "trust") as host, closing(tunnel(closed.client, host, "t1")) as it:
        for _ in range(2):
            it.request("GET", "/secret-path", headers={"authorization": "Bearer a-secret"})
            assert it.getresponse().read() == b"ok"
        closed.client.wait_for(_type="DownstreamPeriodic", request_id="t1")
    end = closed.client.end_of("t1")
    types = closed.client.types_of("t1")
    assert (types[0], types[1], types[-1]) == (
        "DownstreamStart",
        "DownstreamPeriodic",
        "DownstreamEnd",
    )
    assert (end.is_tunnel, end.authority, end.path) == (True, f"localhost:{host.port}", None)
    assert (end.code, end.route, end.target) == (200, "meshml:tunnel", None)
    assert (end.flags, end.details) == ("DC", "downstream_remote_disconnect")
    assert min(end.bytes_in or 0, end.bytes_out or 0) > 500
    assert end.connect_us is not None
    assert end.duration_us > 900_000
    text = (closed.client.folder / "access.jsonl").read_text()
    assert [it for it in ("secret-path", "a-secret") if it in text] == []


def test_a_tunnel_to_nobody_says_so(closed: World) -> None:
    """A host that refuses the connection gives the program 503 and the line a reason."""
    with serving() as gone:
        pass
    connection = tunnel(closed.client, gone, "t2")
    with closing(connection), pytest.raises(OSError, match="503"):
        connection.request("GET", "/")
    end = closed.client.end_of("t2")
    assert (end.flags, "refused" in (end.upstream_failure or "")) == ("UF", True)


def test_many_tunnels_at_once_are_told_apart(closed: World, tmp_path: Path) -> None:
    """Each connection is one record of its own."""
    ids = [f"many-{number}" for number in range(8)]

    def fetch(request_id: str) -> None:
        with closing(tunnel(closed.client, host, request_id)) as connection:
            connection.request("GET", "/")
            connection.getresponse().read()

    with https_server(tmp_path / "trust") as host:
        threads = [threading.Thread(target=fetch, args=(it,)) for it in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [closed.client.end_of(it).code for it in ids] == [200] * len(ids)
    time.sleep(0.3)
    ends = [call_of(it) for it in closed.client.lines() if it["_type"] == "DownstreamEnd"]
    assert sorted(it.request_id or "" for it in ends if (it.request_id or "") in ids) == ids
    attempts = [it for it in closed.client.lines() if it["_record"] == "attempt"]
    assert [it for it in attempts if it["method"] == "CONNECT"] == []
