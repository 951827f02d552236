"""What a member may call beside its backends: other services of the mesh, hosts outside it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.conformance.subject import Subject, Transport, need
from tests.conformance.upstreams import Upstream, ask, http_program

AMAZON = "bucket.s3.eu-west-1.amazonaws.com"
MESH = """
mesh: {meshName: ml, spec: {egressFilter: {type: FILTER}}}
clients:
- clientName: job
  role: training
  spec: {backends: [{virtualService: {virtualServiceName: s.ml.local}}]}
virtualNodes:
- virtualNodeName: n
  spec:
    listeners: [{portMapping: {port: NODE_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: caller
  spec:
    listeners: [{portMapping: {port: CALLER_PORT, protocol: http}}]
    backends: [{virtualService: {virtualServiceName: s.ml.local}}]
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: alone
  spec:
    listeners: [{portMapping: {port: ALONE_PORT, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
- virtualServiceName: s.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: n}}}
- virtualServiceName: undeclared.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: n}}}
- virtualServiceName: orphan.ml.local
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The members of two meshes by their filters, the node's program, and a host outside."""

    dropping: Mapping[str, Transport]
    allowing: Mapping[str, Transport]
    node: Upstream
    outside: Upstream

    @property
    def foreign(self) -> str:
        """The address of the host outside."""
        return f"http://localhost:{self.outside.port}/x"


@pytest.fixture(scope="module")
def world(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same mesh twice, once for each egress filter."""
    need(subject, "http", "egress", "node")
    with ExitStack() as stack, http_program("n") as node, http_program("outside") as outside:
        found = [
            stack.enter_context(
                subject.at_work(
                    tmp_path_factory.mktemp("egress"),
                    MESH.replace("FILTER", kind),
                    behind={"caller": node.port, "alone": node.port},
                    at={"NODE": node.port},
                    hosts={AMAZON: ["127.0.0.1"]},
                )
            )
            for kind in ("DROP_ALL", "ALLOW_ALL")
        ]
        yield World(dropping=found[0], allowing=found[1], node=node, outside=outside)


@pytest.mark.parametrize("member", ["job", "caller"])
def test_a_backend_is_called(world: World, member: str) -> None:
    """backends: what a client or a virtual node lists, it may call, whatever the filter."""
    for members in (world.dropping, world.allowing):
        reply = members[member].send(ask("http://s.ml.local/x"))
        assert (reply.status, reply.target, reply.body) == (200, "n", b"n /x")


@pytest.mark.parametrize("member", ["job", "caller", "alone"])
def test_drop_all(world: World, member: str) -> None:
    """DROP_ALL: hosts outside the mesh are not called."""
    asked = ask(world.foreign)
    reply = world.dropping[member].send(asked)
    assert (reply.status, reply.attempts, world.outside.tries(asked)) == (403, 0, 0)


def test_drop_all_lets_amazon_through(world: World) -> None:
    """DROP_ALL still passes *.amazonaws.com, and no host whose name only looks like it."""
    port = world.outside.port
    asked = [ask(f"http://{host}:{port}/x") for host in (AMAZON, f"{AMAZON}.example")]
    replies = world.dropping["job"].send_all(asked)
    assert [it.status for it in replies] == [200, 403]
    assert [world.outside.tries(it) for it in asked] == [1, 0]


def test_drop_all_drops_what_is_not_declared(world: World) -> None:
    """A service of the mesh that the caller does not list as a backend is not called."""
    asked = ask("http://undeclared.ml.local/x")
    reply = world.dropping["job"].send(asked)
    assert (reply.status, world.node.tries(asked)) == (403, 0)


@pytest.mark.parametrize("member", ["job", "alone"])
def test_allow_all(world: World, member: str) -> None:
    """ALLOW_ALL: hosts outside the mesh are called by the name that the program gives them."""
    asked = ask(world.foreign)
    reply = world.allowing[member].send(asked)
    assert (reply.status, reply.body, reply.target) == (200, b"outside /x", None)
    assert world.outside.tries(asked) == 1


def test_allow_all_is_void_for_a_node_with_backends(world: World) -> None:
    """A virtual node that lists any backend must list all that it calls."""
    asked = ask(world.foreign)
    assert world.allowing["caller"].send(asked).status == 403
    assert world.outside.tries(asked) == 0
