"""What the mesh's names mean: who has one, who calls whom by it, and what peers know it as.

A mesh and a name go in; the resource, its SPIFFE id, the authorities that it answers by, the
backends of a caller and the policy of a call come out. An unknown name is an error that says which
names there are. Every look-up is one of a dictionary that is made once for each mesh.
"""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import TypeVar
from urllib.parse import quote

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.mesh.once import once_per_mesh
from meshml_dbx.mesh.spec import (
    BackendDefaults,
    BackendGroup,
    ClientPolicy,
    GatewayListener,
    Listener,
    Mesh,
    MeshClient,
    RouterListener,
    VirtualGateway,
    VirtualNode,
    VirtualRouter,
    VirtualService,
    VirtualServiceBackend,
)

Member = VirtualNode | MeshClient | VirtualGateway

_Entry = TypeVar("_Entry")


# --- spelling ---------------------------------------------------------------------------------


def entry_keys(names: Sequence[str | None]) -> list[str]:
    """What stands in brackets for each entry of a list: its name, or its index if it has none.

    >>> entry_keys(["a", None, "a"])
    ['a', '1', 'a (2)']
    """
    seen: Counter[str] = Counter()
    keys = []
    for index, name in enumerate(names):
        key = name or str(index)
        seen[key] += 1
        keys.append(key if seen[key] == 1 else f"{key} ({seen[key]})")
    return keys


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one most likely means, whatever its case or underscores.

    >>> closest("per_request", ["idle", "perRequest"])
    'perRequest'
    """
    folded = {_fold(one): one for one in known}
    found = difflib.get_close_matches(_fold(name), folded, n=1)
    return folded[found[0]] if found else None


def _fold(name: str) -> str:
    return name.lower().replace("_", "")


# --- looking up -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Everything of a mesh by its name; of two that share a name, the last."""

    mesh_name: str
    nodes: Mapping[str, VirtualNode]
    clients: Mapping[str, MeshClient]
    gateways: Mapping[str, VirtualGateway]
    routers: Mapping[str, VirtualRouter]
    services: Mapping[str, VirtualService]
    backend_groups: Mapping[str, BackendGroup]
    members: Mapping[str, Member]
    backends: dict[str, Mapping[str, VirtualServiceBackend]] = field(default_factory=dict)


@once_per_mesh
def index(mesh: Mesh) -> Index:
    """The look-ups of a mesh, made when they are first asked for."""
    nodes = {it.virtual_node_name: it for it in mesh.virtual_nodes}
    clients = {it.client_name: it for it in mesh.clients}
    gateways = {it.virtual_gateway_name: it for it in mesh.virtual_gateways}
    return Index(
        mesh_name=mesh.mesh.mesh_name,
        nodes=nodes,
        clients=clients,
        gateways=gateways,
        routers={it.virtual_router_name: it for it in mesh.virtual_routers},
        services={it.virtual_service_name: it for it in mesh.virtual_services},
        backend_groups={it.backend_group_name: it for it in mesh.backend_groups},
        members={**gateways, **clients, **nodes},
    )


def node(mesh: Mesh, name: str) -> VirtualNode:
    """The virtual node of that name."""
    return _look_up(mesh, "virtual node", index(mesh).nodes, name)


def client(mesh: Mesh, name: str) -> MeshClient:
    """The client of that name."""
    return _look_up(mesh, "client", index(mesh).clients, name)


def gateway(mesh: Mesh, name: str) -> VirtualGateway:
    """The virtual gateway of that name."""
    return _look_up(mesh, "virtual gateway", index(mesh).gateways, name)


def router(mesh: Mesh, name: str) -> VirtualRouter:
    """The virtual router of that name."""
    return _look_up(mesh, "virtual router", index(mesh).routers, name)


def service(mesh: Mesh, name: str) -> VirtualService:
    """The virtual service of that name."""
    return _look_up(mesh, "virtual service", index(mesh).services, name)


def member(mesh: Mesh, name: str) -> Member:
    """The virtual node, client or gateway of that name; the three share their names' space."""
    return _look_up(mesh, "virtual node, client or gateway", index(mesh).members, name)


def find_node(mesh: Mesh, name: str) -> VirtualNode:
    """The virtual node that a person named; another's name gets the advice to say so."""
    if name in index(mesh).clients:
        raise UnknownNameError(
            f"{name} is a client of mesh {mesh.mesh.mesh_name}, not a virtual node",
            advice=f"meshml run --client {name} -- COMMAND",
        )
    if name in index(mesh).gateways and name not in index(mesh).nodes:
        raise UnknownNameError(
            f"{name} is a virtual gateway of mesh {mesh.mesh.mesh_name}, not a virtual node",
            advice=f"meshml sidecar --gateway {name}",
        )
    return node(mesh, name)


def find_client(mesh: Mesh, name: str) -> MeshClient:
    """The client that a person named; a virtual node's name gets the advice to say so."""
    if name in index(mesh).nodes:
        raise UnknownNameError(
            f"{name} is a virtual node of mesh {mesh.mesh.mesh_name}, not a client",
            advice=f"meshml sidecar --node {name} -- COMMAND",
        )
    return client(mesh, name)


def _look_up(mesh: Mesh, kind: str, known: Mapping[str, _Entry], name: str) -> _Entry:
    if name in known:
        return known[name]
    guess = closest(name, known)
    asked = f"; did you mean {guess}?" if guess else ""
    there = f"use one that it has; the {kind}s there are: {', '.join(sorted(known))}"
    raise UnknownNameError(
        f"mesh {mesh.mesh.mesh_name} has no {kind} {name}{asked}",
        advice=there if known else f"it has no {kind}s at all: add it to the mesh file",
    )


# --- meaning ----------------------------------------------------------------------------------

SPIFFE = "spiffe://"


def spiffe_id(mesh_name: str, name: str) -> str:
    """The identity that a certificate supplied by meshml carries, odd characters percent-encoded.

    A name that is an identity already, as SPIRE names its secrets, stays as it is.

    >>> spiffe_id("ml", "labels-v1"), spiffe_id("ml", "../a b")
    ('spiffe://ml/labels-v1', 'spiffe://ml/..%2Fa%20b')
    >>> spiffe_id("ml", "spiffe://corp/labels")
    'spiffe://corp/labels'
    """
    if name.startswith(SPIFFE):
        return name
    return f"{SPIFFE}{_segment(mesh_name)}/{_segment(name)}"


def _segment(text: str) -> str:
    """One segment of a URI: a bare dot or two would be a step in its path."""
    encoded = quote(text, safe="", encoding="utf-8", errors="surrogatepass")
    return encoded.replace(".", "%2E") if encoded in {".", ".."} else encoded


def domains_of(mesh: Mesh, virtual_service: str) -> tuple[str, ...]:
    """The authorities that a virtual service answers by: its name, and its name with each port."""
    name = service(mesh, virtual_service).virtual_service_name
    ports = [listener.port_mapping.port for listener in listeners_of(mesh, virtual_service)]
    return tuple(dict.fromkeys([name, *(f"{name}:{port}" for port in ports)]))


def listeners_of(mesh: Mesh, virtual_service: str) -> Sequence[Listener | RouterListener]:
    """Where a virtual service is addressed: its router's listeners, or its node's own."""
    provider = service(mesh, virtual_service).spec.provider
    if provider and provider.virtual_router:
        return router(mesh, provider.virtual_router.virtual_router_name).spec.listeners
    if provider and provider.virtual_node:
        return node(mesh, provider.virtual_node.virtual_node_name).spec.listeners
    return ()


def member_listeners(mesh: Mesh, name: str) -> Sequence[Listener | GatewayListener]:
    """Where a node or gateway is reached; a client is not."""
    found = member(mesh, name)
    return () if isinstance(found, MeshClient) else found.spec.listeners


def backends_of(mesh: Mesh, member_name: str) -> tuple[VirtualServiceBackend, ...]:
    """The virtual services that a member calls: its own backends, then those of its groups.

    Where two name one service, the first holds. A gateway calls what its routes lead to.
    """
    return tuple(_backends(mesh, member_name).values())


def backend_of(mesh: Mesh, member_name: str, virtual_service: str) -> VirtualServiceBackend | None:
    """A member's entry for one virtual service; None if it does not call it."""
    return _backends(mesh, member_name).get(virtual_service)


def _backends(mesh: Mesh, member_name: str) -> Mapping[str, VirtualServiceBackend]:
    kept = index(mesh).backends
    if member_name not in kept:
        found: dict[str, VirtualServiceBackend] = {}
        for backend in _named_backends(mesh, member(mesh, member_name)):
            found.setdefault(backend.virtual_service_name, backend)
        kept[member_name] = found
    return kept[member_name]


def _named_backends(mesh: Mesh, found: Member) -> Iterator[VirtualServiceBackend]:
    if isinstance(found, VirtualGateway):
        for route in found.gateway_routes:
            name = route.spec.target.virtual_service.virtual_service_name
            yield VirtualServiceBackend(virtual_service_name=name)
        return
    yield from (backend.virtual_service for backend in found.spec.backends)
    known = index(mesh).backend_groups
    for group in found.spec.backend_groups:
        for name in _look_up(mesh, "backend group", known, group).spec.virtual_services:
            yield VirtualServiceBackend(virtual_service_name=name)


def client_policy_of(mesh: Mesh, member_name: str, virtual_service: str) -> ClientPolicy | None:
    """The policy of a member's calls to a backend: its own replaces the default entirely."""
    own = backend_of(mesh, member_name, virtual_service)
    return policy_for(member(mesh, member_name).spec.backend_defaults, own)


def policy_for(
    defaults: BackendDefaults | None, backend: VirtualServiceBackend | None
) -> ClientPolicy | None:
    """The client policy that holds between a caller's defaults and what one backend says."""
    if backend and backend.client_policy:
        return backend.client_policy
    return defaults.client_policy if defaults else None


# --- the mesh's version -----------------------------------------------------------------------


@once_per_mesh
def mesh_version(mesh: Mesh) -> str:
    """Twelve hex digits that two meshes share exactly when they declare the same.

    Comments, anchors and the order of fields do not change it; the order of entries does. What has
    its default does not count, so that a field which is new in meshml changes no old mesh.
    """
    declared = _declared(mesh)
    canonical = json.dumps(declared, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _declared(value: object) -> object:
    """A value as plain JSON, without the fields that have their default."""
    if isinstance(value, str | int):
        return value
    if isinstance(value, tuple):
        return [_declared(one) for one in value]
    if not is_dataclass(value):
        return value
    cls: type = type(value)
    found: dict[str, object] = {}
    for name, default in _defaults(cls):
        one = getattr(value, name)
        if one != default:
            found[name] = _declared(one)
    return found


@cache
def _defaults(cls: type) -> tuple[tuple[str, object], ...]:
    """The fields of a class, each with its default or, if it has none, MISSING."""
    return tuple(
        (it.name, it.default if it.default_factory is MISSING else it.default_factory())
        for it in fields(cls)
    )
