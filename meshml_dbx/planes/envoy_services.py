"""What a member of the mesh calls: its services, their targets, and the ports that they need.

A mesh and a member's name go in, the services that it lists as backends (of a gateway: those that
its routes lead to) come out, each with the ways by which it is called and the nodes behind it.
"""

from meshml_dbx.mesh import names
from meshml_dbx.mesh.once import once_per_mesh
from meshml_dbx.mesh.spec import Mesh, VirtualGateway, WeightedTarget
from meshml_dbx.mesh.ways import Provided, Way, node_target, provided


def called_services(mesh: Mesh, member: str) -> tuple[Provided, ...]:
    """The virtual services that a member calls, in the order of the mesh file."""
    kept = _called_by_member(mesh)
    if member not in kept:
        called = names.backends_of(mesh, member)
        kept[member] = tuple(provided(mesh, it.virtual_service_name) for it in called)
    return kept[member]


@once_per_mesh
def _called_by_member(mesh: Mesh) -> dict[str, tuple[Provided, ...]]:
    """What was found so far: each part of a configuration asks again."""
    del mesh
    return {}


# --- targets ----------------------------------------------------------------------------------


def targets_of(called: Provided) -> tuple[tuple[WeightedTarget, bool], ...]:
    """Every target to which a service may lead, and whether by plain connections."""
    if called.node:
        return tuple((node_target(called.node, way), way.protocol == "tcp") for way in called.ways)
    return tuple(
        (target, route.spec.protocol == "tcp")
        for route in called.routes
        for target in route.spec.weighted_targets
    )


# --- what follows for a member ----------------------------------------------------------------


def needs_grpc_port(mesh: Mesh, member: str) -> bool:
    """Whether a member calls something by http2 or gRPC, which proxies' clients do not do well."""
    return any(called.speaks_http2 for called in called_services(mesh, member))


def tcp_addresses(mesh: Mesh, member: str) -> tuple[str, ...]:
    """The services that a member calls by plain TCP, each with its port: a local port is for one.

    A service whose router names no port goes by its bare name.
    """
    return tuple(
        tcp_address(called, way)
        for called in called_services(mesh, member)
        for way in called.tcp_ways
    )


def tcp_address(called: Provided, way: Way) -> str:
    """The name under which a plain TCP service has its local port."""
    return f"{called.name}:{way.port}" if way.port else called.name


def is_gateway(mesh: Mesh, member: str) -> bool:
    """Whether a member is a virtual gateway."""
    return isinstance(names.member(mesh, member), VirtualGateway)
