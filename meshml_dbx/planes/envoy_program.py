"""The program behind a node's listeners: a cluster for each, with that listener's connection pool.

A mesh, a node and its wiring go in, Envoy's clusters come out.
"""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import ConnectionPool, GatewayConnectionPool, Listener, Mesh
from meshml_dbx.planes.envoy_clusters import cluster, endpoint, spoken
from meshml_dbx.planes.envoy_policies import caller_limits
from meshml_dbx.planes.envoy_terms import LOOPBACK, UNLIMITED, Body, Wiring
from meshml_dbx.planes.plan import Resource

# Common servers close an idle connection after 5 s, some after 2 s; to connect anew on this
# machine costs next to nothing.
PROGRAM_IDLE_S = 1.5


def program_clusters(mesh: Mesh, member: str, wiring: Wiring) -> tuple[Resource, ...]:
    """The program behind each listener of a virtual node."""
    node = names.node(mesh, member)
    return tuple(_program_cluster(member, listener, wiring) for listener in node.spec.listeners)


def program_cluster_name(virtual_node: str, listener: Listener) -> str:
    """The name of the cluster that holds the program behind a listener."""
    return f"ingress/{virtual_node}/{listener.port_mapping.port}"


def program_port(wiring: Wiring, port: int) -> int:
    """Where the program listens for what comes to one of the node's ports."""
    found = wiring.app_ports.get(port, wiring.app_port)
    if found is None:
        raise ValueError(f"the wiring has no port of the program for port {port} of its node")
    return found


def pool_limits(pool: ConnectionPool | GatewayConnectionPool | None) -> Body:
    """A connection pool's limits; App Mesh has none where none is declared."""
    if pool is None:
        return caller_limits("none")
    requests = pool.http2 or pool.grpc
    tcp = pool.tcp if isinstance(pool, ConnectionPool) else None
    connections = pool.http or tcp
    waiting = pool.http.max_pending_requests if pool.http else None
    limits: Body = {
        "max_connections": connections.max_connections if connections else UNLIMITED,
        "max_pending_requests": waiting or UNLIMITED,
        "max_requests": requests.max_requests if requests else UNLIMITED,
        "max_retries": UNLIMITED,
    }
    return {"thresholds": [limits]}


def _program_cluster(virtual_node: str, listener: Listener, wiring: Wiring) -> Resource:
    name = program_cluster_name(virtual_node, listener)
    mapping = listener.port_mapping
    body = cluster(name, virtual_node=virtual_node)
    body |= spoken(mapping.protocol, idle_s=PROGRAM_IDLE_S)
    body |= endpoint(name, LOOPBACK, program_port(wiring, mapping.port))
    body["circuit_breakers"] = pool_limits(listener.connection_pool)
    return Resource(kind="cluster", name=name, body=body)
