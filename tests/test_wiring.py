"""Ports, paths and variables of one sidecar, and the commands that use them, with a real Envoy."""

import http.client
import signal
import socket
import sys
from pathlib import Path

import pytest

from meshml_dbx.errors import LogFolderError
from meshml_dbx.member import plan_client, plan_gateway, plan_node
from meshml_dbx.mesh.load import LoadedMesh, read_mesh
from meshml_dbx.settings import Settings, read_settings
from meshml_dbx.sidecar import SidecarPlan, steady_port
from meshml_dbx.sidecar import free_port as free_sidecar_port
from meshml_dbx.wiring import Serving, declared_log_path
from tests.free_ports import free_port
from tests.planes.envoy_servers import serving_grpc, serving_tcp
from tests.small_mesh import SmallMesh, make_mesh, wait_for

MESH = """\
mesh: {meshName: many}
clients:
  - clientName: job
    role: training
    spec:
      backends:
        - {virtualService: {virtualServiceName: scores.many.local}}
        - {virtualService: {virtualServiceName: db.many.local}}
virtualGateways:
  - virtualGatewayName: edge
    spec:
      listeners: [{portMapping: {port: EDGE_PORT, protocol: http}}]
    gatewayRoutes:
      - gatewayRouteName: all
        spec:
          httpRoute:
            match: {prefix: /}
            action: {target: {virtualService: {virtualServiceName: web.many.local}}}
virtualNodes:
  - virtualNodeName: scores
    spec:
      listeners:
        - portMapping: {port: WEB_PORT, protocol: http}
        - portMapping: {port: SCORES_PORT, protocol: grpc}
      serviceDiscovery: {dns: {hostname: localhost}}
      logging: {accessLog: {file: {path: LOG_PATH}}}
  - virtualNodeName: db
    spec:
      listeners: [{portMapping: {port: DB_PORT, protocol: tcp}}]
      serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
  - virtualServiceName: scores.many.local
    spec: {provider: {virtualNode: {virtualNodeName: scores}}}
  - virtualServiceName: web.many.local
    spec: {provider: {virtualNode: {virtualNodeName: scores}}}
  - virtualServiceName: db.many.local
    spec: {provider: {virtualNode: {virtualNodeName: db}}}
"""


@pytest.fixture
def made(tmp_path: Path) -> SmallMesh:
    """The mesh file in a folder of its own."""
    return make_mesh(tmp_path, MESH.replace("LOG_PATH", "/dev/stdout"))


@pytest.fixture
def settings(made: SmallMesh) -> Settings:
    """The settings of that folder."""
    return read_settings({}, mesh=made.file, state=made.state)


@pytest.fixture
def loaded(settings: Settings) -> LoadedMesh:
    """The mesh."""
    return read_mesh(settings.mesh)


# --- ports ------------------------------------------------------------------------------------


def test_a_name_has_its_port_each_time() -> None:
    """A program may write it down; another name has another; a port in use is passed over."""
    port = steady_port("many/job/a")
    assert (steady_port("many/job/a"), 20_000 <= port < 30_000) == (port, True)
    assert steady_port("many/job/b") != port
    assert steady_port("many/job/a", taken=[port]) != port
    with socket.create_server(("127.0.0.1", port)):
        assert steady_port("many/job/a") != port


def test_a_free_port_is_none_of_those_given_before() -> None:
    """The system gives a port twice to who asks twice: what is taken is never given again."""
    even = range(0, 65_536, 2)
    ports = [free_sidecar_port(taken=even) for _ in range(20)]
    assert [port % 2 for port in ports] == [1] * 20


def variables(plan: SidecarPlan) -> dict[str, str]:
    """What a program is told of the ways beside its proxy."""
    names = ("MESHML_GRPC", "MESHML_TCP", "PORT")
    return {k: v for k, v in plan.program_environment.items() if k.startswith(names)}


def test_a_program_is_told_its_ways(
    settings: Settings, loaded: LoadedMesh, made: SmallMesh
) -> None:
    """One address for gRPC, as a port and as a socket, and one for each plain TCP service."""
    plan = plan_client(settings, loaded, "job", ["true"])
    told = variables(plan)
    port = made.ports["db"]
    assert told["MESHML_TCP_DB_MANY_LOCAL"] == told[f"MESHML_TCP_DB_MANY_LOCAL_{port}"]
    assert told["MESHML_GRPC_PROXY"].startswith("127.0.0.1:")
    opened = {f"{bind}:{port}" for bind, port in plan.listens}
    assert {told["MESHML_GRPC_PROXY"], told["MESHML_TCP_DB_MANY_LOCAL"]} < opened
    assert any(note.startswith("MESHML_TCP_DB_MANY_LOCAL=127.0.0.1:") for note in plan.notes)
    socket_path = settings.state.absolute() / "run" / plan.sidecar_id / "grpc.sock"
    if len(str(socket_path)) <= 107:
        assert told["MESHML_GRPC_SOCKET"] == f"unix:{socket_path}"
    again = variables(plan_client(settings, loaded, "job", ["true"]))
    assert again["MESHML_TCP_DB_MANY_LOCAL"] == told["MESHML_TCP_DB_MANY_LOCAL"]


def test_a_node_of_two_ports_has_a_program_of_two(
    settings: Settings, loaded: LoadedMesh, made: SmallMesh
) -> None:
    """PORT is the first; each has one by the node's port; what is given is kept."""
    web, scores = made.ports["web"], made.ports["scores"]
    told = variables(plan_node(settings, loaded, "scores", Serving(app_ports={scores: 9002})))
    assert told[f"PORT_{scores}"] == "9002"
    assert told["PORT"] == told[f"PORT_{web}"] != "9002"


# --- the declared log -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dev/stdout", "declared-stdout.log"),
        ("logs/access.log", "declared-access.log"),
        ("../../../etc/passwd", "declared-passwd"),
    ],
)
def test_a_declared_log_stays_in_the_sidecars_folder(
    tmp_path: Path, path: str, expected: str
) -> None:
    """A relative path cannot lead out, and a container's output is a file here."""
    made = make_mesh(tmp_path, MESH.replace("LOG_PATH", path))
    settings = read_settings({}, mesh=made.file, state=made.state)
    plan = plan_node(settings, read_mesh(made.file), "scores", Serving(app_port=free_port()))
    folder = settings.logs.absolute() / plan.sidecar_id
    assert plan.notes == (f"the access log of the mesh file (logging): {folder / expected}",)
    assert str(folder / expected) in plan.files["xds/lds.json"]


def test_a_whole_path_is_taken_as_it_stands(tmp_path: Path) -> None:
    """The user said where; a folder that is not there is said before Envoy starts."""
    made = make_mesh(tmp_path, MESH.replace("LOG_PATH", str(tmp_path / "none" / "access.log")))
    settings = read_settings({}, mesh=made.file, state=made.state)
    with pytest.raises(LogFolderError, match="there is no folder"):
        plan_node(settings, read_mesh(made.file), "scores", Serving(app_port=free_port()))
    (tmp_path / "none").mkdir()
    plan = plan_node(settings, read_mesh(made.file), "scores", Serving(app_port=free_port()))
    assert str(tmp_path / "none" / "access.log") in plan.notes[0]
    assert declared_log_path is not None


# --- a gateway --------------------------------------------------------------------------------


def test_a_gateway_has_listeners_and_no_program(
    settings: Settings, loaded: LoadedMesh, made: SmallMesh
) -> None:
    """It is open where it is bound, as observer gateway."""
    plan = plan_gateway(settings, loaded, "edge", bind="127.0.0.3")
    assert plan.listens == (("127.0.0.3", made.ports["edge"]),)
    assert (plan.observer, plan.virtual_node, plan.command) == ("gateway", "edge", ())


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.envoy
def test_a_gateway_leads_to_a_nodes_program(made: SmallMesh) -> None:
    """Two commands, a request from outside, and a count that agrees with the lines."""
    with made.serve("scores"), made.start("sidecar", "--gateway", "edge") as edge:
        wait_for(lambda: answers(made.ports["edge"]), "the gateway listens")
        connection = http.client.HTTPConnection("127.0.0.1", made.ports["edge"], timeout=10)
        for _ in range(3):
            connection.request("GET", "/v1/x")
            response = connection.getresponse()
            assert (response.status, b'"path": "/v1/x"' in response.read()) == (200, True)
        connection.close()
        edge.send(signal.SIGTERM)
        done = edge.finish()
    assert done.status == 0
    calls = made.calls(done.sidecar_id, observer="gateway", code=200)
    (sample,) = made.lines(done.sidecar_id, _record="sample", _type="last")
    assert (len(calls), sample["requests_total"]) == (3, 3)


PROGRAM = """
import grpc, os, socket
with grpc.insecure_channel(
    os.environ["MESHML_GRPC_PROXY"], options=[("grpc.default_authority", "scores.many.local")]
) as channel:
    print(channel.unary_unary("/a.B/C")(b"", timeout=10).decode())
host, port = os.environ["MESHML_TCP_DB_MANY_LOCAL"].split(":")
with socket.create_connection((host, int(port)), 10) as peer:
    print(peer.recv(100).decode().strip())
"""


@pytest.mark.envoy
def test_a_program_finds_grpc_and_tcp_by_its_variables(made: SmallMesh) -> None:
    """A client's program, run by the command that a user types, against two nodes."""
    with serving_grpc("scores") as scores, serving_tcp(b"db\n") as db:
        own = [f"--app-port={made.ports['scores']}:{scores.port}", f"--app-port={free_port()}"]
        with (
            made.start("sidecar", "--node", "scores", *own),
            made.start("sidecar", "--node", "db", "--app-port", str(db.port)),
        ):
            for name in ("scores", "db"):
                wait_for(lambda name=name: answers(made.ports[name]), f"{name} listens")  # type: ignore[misc]  # bound at once
            done = made.run(sys.executable, "-c", PROGRAM)
    assert (done.status, done.out.splitlines()) == (0, ["scores /a.B/C", "db"]), done.err
    assert "MESHML_TCP_DB_MANY_LOCAL=127.0.0.1:" in done.err
