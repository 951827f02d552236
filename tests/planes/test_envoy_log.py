"""Every column of the one table, through a real Envoy: what is written, and what may be missing."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest

from meshml_dbx.traffic.access_log import (
    ATTEMPT_FIELDS,
    CLIENT_FIELDS,
    CONNECTION_FIELDS,
    FIELDS,
    Field,
    call_of,
)
from tests.planes.envoy_world import (
    Answer,
    Caller,
    Reply,
    Request,
    World,
    identities,
    labels_world,
    running,
)

pytestmark = pytest.mark.envoy

# What a call that goes well has no value for; all else must be there, or its operator is misspelt.
BY_A_PROCESS = {field.column for field in CLIENT_FIELDS}
"""What a process alone can tell of its own calls."""

FAULTS = {"flags", "origin", "origin_flags", "upstream_failure"}
AT_EGRESS = {"virtual_node", "downstream_peer"}
AT_INGRESS = {"client", "process_id", "virtual_service", "tls_us", "upstream_peer"}
ONLY_OF_CALLERS = {
    "client",
    "virtual_service",
    "target",
    "upstream_host",
    "upstream_failure",
    "flags",
}
"""What only a caller's plain TCP connection has."""

HEADERS = {
    "x_meshml_run_id": "4f1c",
    "x_meshml_stage": "training",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


def answer(request: Request) -> Reply:
    """A body that takes two writes."""
    return Reply(body=b"x" * 200_000)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One client and two nodes."""
    with labels_world(tmp_path_factory.mktemp("log"), answer) as made:
        yield made


@pytest.fixture(scope="module")
def got(world: World) -> Answer:
    """One call that has everything that a call can have."""
    with closing(Caller(world.client.egress_port)) as caller:
        return caller.call("http://direct.ml.local/v1/x", **HEADERS)


def missing(word: object, fields: tuple[Field, ...]) -> set[str]:
    """The columns that a record has no value for."""
    values = asdict(word)  # type: ignore[call-overload]  # a Call, an Attempt or a Connection
    assert {field.column for field in fields} - {"type"} <= set(values)
    return {
        field.column for field in fields if field.column != "type" and values[field.column] is None
    }


def test_a_call_of_the_client_fills_every_column(world: World, got: Answer) -> None:
    """At its end the caller's line lacks faults, and what only a node has."""
    end = world.client.end_of(got.request_id)
    assert missing(end, FIELDS) == FAULTS | BY_A_PROCESS | AT_EGRESS


def test_a_call_at_the_node_fills_every_column(world: World, got: Answer) -> None:
    """The node's line lacks faults, what only the caller knows, and TLS to its own program."""
    end = world.v1.end_of(got.request_id)
    assert missing(end, FIELDS) == FAULTS | BY_A_PROCESS | AT_INGRESS


def test_an_attempt_fills_every_column(world: World, got: Answer) -> None:
    """An attempt knows the peer and its own times, as the call does."""
    (attempt,) = world.client.attempts_of(got.request_id, 1)
    assert missing(attempt, ATTEMPT_FIELDS) == FAULTS | AT_EGRESS


def test_a_connection_fills_every_column(world: World, tmp_path: Path) -> None:
    """A connection that is over has both addresses, its peer, its bytes and its time."""
    paths = identities(world.mesh, "churn-training", world.store)
    with (
        running(tmp_path / "short", world.mesh, "churn-training", paths=paths) as client,
        closing(Caller(client.egress_port)) as caller,
    ):
        end = client.end_of(caller.call("http://direct.ml.local/", "POST", b"y" * 500).request_id)
    connection = world.v1.connection_from(end.upstream_local_address)
    assert missing(connection, CONNECTION_FIELDS) == ONLY_OF_CALLERS | {"process_id", "failure"}
    assert connection.downstream_peer == "spiffe://ml/churn-training"
    assert connection.downstream_subject == "CN=churn-training"
    assert connection.tls_version == "TLSv1.3"
    assert (connection.bytes_in or 0) > 500
    assert (connection.bytes_out or 0) > 200_000


def test_a_start_line_knows_where_the_call_goes(world: World, got: Answer) -> None:
    """Route, virtual service, target and version of the mesh are there from the first line on."""
    (line,) = world.client.wait_for(_type="DownstreamStart", request_id=got.request_id)
    start = call_of(line)
    told = (start.virtual_service, start.route, start.target, start.run_id, start.stage)
    assert told == ("direct.ml.local", "labels-v1", "labels-v1", "4f1c", "training")
    assert start.mesh_version == world.client.end_of(got.request_id).mesh_version
    assert (start.code, start.attempts, start.details) == (0, 0, None)


def test_times_add_up(world: World) -> None:
    """A call's parts follow each other inside its whole, and the program's part inside the call."""
    with closing(Caller(world.client.egress_port)) as caller:
        got = caller.call("http://direct.ml.local/v1/x", "POST", b"y" * 90_000)
    end, served = world.client.end_of(got.request_id), world.v1.end_of(got.request_id)
    parts = [end.to_upstream_us, end.send_us, end.first_byte_us, end.receive_us]
    assert sum(part or 0 for part in parts) <= end.duration_us + 1000
    assert served.duration_us <= end.duration_us
    assert (end.bytes_in, end.bytes_out) == (90_000, 200_000)
    assert (served.bytes_in, served.bytes_out) == (90_000, 200_000)


def test_lines_carry_nothing_but_the_table(world: World, got: Answer) -> None:
    """Each key of a line is a column of the table, and the record's kind is the first of them."""
    world.client.end_of(got.request_id)
    tables = {"call": FIELDS, "attempt": ATTEMPT_FIELDS, "connection": CONNECTION_FIELDS}
    for line in world.client.lines() + world.v1.lines():
        known = {field.json_key() for field in tables[str(line["_record"])]}
        assert next(iter(line)) == "_record"
        assert set(line) - {"_record"} <= known
