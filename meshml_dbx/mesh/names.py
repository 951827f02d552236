"""What the mesh's names mean: who has one, who calls whom by it, and what peers know it as.

A mesh and a name go in; the resource, its SPIFFE id, the authorities that it answers by, the
backends of a caller and the policy of a call come out. An unknown name is an error that says which
names there are.
"""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TypeVar
from urllib.parse import quote

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.mesh.spec import (
    BackendDefaults,
    ClientPolicy,
    Listener,
    Mesh,
    MeshClient,
    RouterListener,
    VirtualNode,
    VirtualRouter,
    VirtualService,
    VirtualServiceBackend,
)

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


def node(mesh: Mesh, name: str) -> VirtualNode:
    """The virtual node of that name."""
    return _look_up(mesh, "virtual node", _by_name(mesh.virtual_nodes, "virtual_node_name"), name)


def client(mesh: Mesh, name: str) -> MeshClient:
    """The client of that name."""
    return _look_up(mesh, "client", _by_name(mesh.clients, "client_name"), name)


def router(mesh: Mesh, name: str) -> VirtualRouter:
    """The virtual router of that name."""
    routers = _by_name(mesh.virtual_routers, "virtual_router_name")
    return _look_up(mesh, "virtual router", routers, name)


def service(mesh: Mesh, name: str) -> VirtualService:
    """The virtual service of that name."""
    services = _by_name(mesh.virtual_services, "virtual_service_name")
    return _look_up(mesh, "virtual service", services, name)


def find_node(mesh: Mesh, name: str) -> VirtualNode:
    """The virtual node that a person named; a client's name gets the advice to say so."""
    if name in _by_name(mesh.clients, "client_name"):
        raise UnknownNameError(
            f"{name} is a client of mesh {mesh.mesh.mesh_name}, not a virtual node",
            advice=f"meshml run --client {name} -- COMMAND",
        )
    return node(mesh, name)


def find_client(mesh: Mesh, name: str) -> MeshClient:
    """The client that a person named; a virtual node's name gets the advice to say so."""
    if name in _by_name(mesh.virtual_nodes, "virtual_node_name"):
        raise UnknownNameError(
            f"{name} is a virtual node of mesh {mesh.mesh.mesh_name}, not a client",
            advice=f"meshml sidecar --node {name} -- COMMAND",
        )
    return client(mesh, name)


def _by_name(entries: Sequence[_Entry], attribute: str) -> dict[str, _Entry]:
    return {getattr(entry, attribute): entry for entry in entries}


def _look_up(mesh: Mesh, kind: str, known: dict[str, _Entry], name: str) -> _Entry:
    if name in known:
        return known[name]
    guess = closest(name, known)
    asked = f"; did you mean {guess}?" if guess else ""
    there = f"the {kind}s there are: {', '.join(sorted(known))}" if known else f"it has no {kind}s"
    raise UnknownNameError(
        f"mesh {mesh.mesh.mesh_name} has no {kind} {name}{asked}",
        advice=f"use one that it has; {there}",
    )


# --- meaning ----------------------------------------------------------------------------------


def spiffe_id(mesh_name: str, name: str) -> str:
    """The identity that a certificate supplied by meshml carries, odd characters percent-encoded.

    >>> spiffe_id("ml", "labels-v1"), spiffe_id("ml", "../a b")
    ('spiffe://ml/labels-v1', 'spiffe://ml/..%2Fa%20b')
    """
    return f"spiffe://{_segment(mesh_name)}/{_segment(name)}"


def _segment(text: str) -> str:
    """One segment of a URI: a bare dot or two would be a step in its path."""
    encoded = quote(text, safe="", encoding="utf-8", errors="surrogatepass")
    return encoded.replace(".", "%2E") if encoded in {".", ".."} else encoded


def domains_of(mesh: Mesh, virtual_service: str) -> tuple[str, ...]:
    """The authorities that a virtual service answers by: its name, and its name with each port."""
    name = service(mesh, virtual_service).virtual_service_name
    ports = [listener.port_mapping.port for listener in _listeners_of(mesh, virtual_service)]
    return tuple(dict.fromkeys([name, *(f"{name}:{port}" for port in ports)]))


def _listeners_of(mesh: Mesh, virtual_service: str) -> Sequence[Listener | RouterListener]:
    provider = service(mesh, virtual_service).spec.provider
    if provider and provider.virtual_router:
        return router(mesh, provider.virtual_router.virtual_router_name).spec.listeners
    if provider and provider.virtual_node:
        return node(mesh, provider.virtual_node.virtual_node_name).spec.listeners
    return ()


def member(mesh: Mesh, name: str) -> VirtualNode | MeshClient:
    """The virtual node or client of that name; the two share their names' space."""
    known: dict[str, VirtualNode | MeshClient] = {
        **_by_name(mesh.clients, "client_name"),
        **_by_name(mesh.virtual_nodes, "virtual_node_name"),
    }
    return _look_up(mesh, "virtual node or client", known, name)


def backends_of(mesh: Mesh, member_name: str) -> tuple[VirtualServiceBackend, ...]:
    """The virtual services that a node or client calls, in the file's order."""
    return tuple(backend.virtual_service for backend in member(mesh, member_name).spec.backends)


def client_policy_of(mesh: Mesh, member_name: str, virtual_service: str) -> ClientPolicy | None:
    """The policy of a member's calls to a backend: its own replaces the default entirely."""
    own = [
        one for one in backends_of(mesh, member_name) if one.virtual_service_name == virtual_service
    ]
    return policy_for(member(mesh, member_name).spec.backend_defaults, own[0] if own else None)


def policy_for(
    defaults: BackendDefaults | None, backend: VirtualServiceBackend | None
) -> ClientPolicy | None:
    """The client policy that holds between a caller's defaults and what one backend says."""
    if backend and backend.client_policy:
        return backend.client_policy
    return defaults.client_policy if defaults else None


def mesh_version(mesh: Mesh) -> str:
    """Twelve hex digits that two meshes share exactly when they declare the same.

    Comments, anchors and the order of fields do not change it; the order of entries does.
    """
    canonical = json.dumps(asdict(mesh), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
