"""What the mesh file declares about a call: the policies that cut or repeated it, with their line.

Goes in: the mesh documents of the evidence. Comes out: the owner, value and place of a time-out,
and the place of the retry policy, of a node's accepted names, of a route. A mesh that cannot be
read gives no place, never an error: the diagnosis does not depend on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshml_dbx.diagnosis.groups import Place
from meshml_dbx.mesh import names
from meshml_dbx.mesh.load import LoadedMesh, load_mesh
from meshml_dbx.mesh.routing import DEFAULT_TIMEOUT_S
from meshml_dbx.mesh.spec import (
    Duration,
    HttpTimeout,
    Mesh,
    Route,
    TcpRoute,
    TcpTimeout,
    VirtualNode,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A time limit that ended a call: whose it is, its value, where the mesh file says so."""

    owner: str
    name: str
    seconds: float | None
    where: str | None
    is_default: bool = False

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.name} of {self.owner}"
        value = f"{self.seconds:g} s" + (" (the default)" if self.is_default else "")
        return f"{self.name} of {self.owner}, {value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The meshes that a run's calls crossed, read when first asked for."""

    documents: Mapping[str, tuple[str, str]]
    _read: dict[str, LoadedMesh] = field(default_factory=dict)

    def route_limit(self, version: str | None, place: Place, name: str) -> Limit:
        """The limit of the caller's side: perRequest, idle or perRetryTimeout of the route."""
        owner = f"route {place.route or '?'}"
        found = self._route(version, place)
        if found is None:
            return self._service_limit(version, place, name)
        loaded, path, route = found
        http, base = route.spec.route, f"{path}.spec.{route.spec.field}"
        if name == "perRetryTimeout":
            policy = None if isinstance(http, TcpRoute) else http.retry_policy
            value = policy.per_retry_timeout if policy else None
            return _limit(loaded, f"{base}.retryPolicy", owner, name, value)
        value = _timeout(http.timeout, name)
        return _limit(loaded, f"{base}.timeout", owner, name, value)

    def _service_limit(self, version: str | None, place: Place, name: str) -> Limit:
        """The limit of a service without a route: a node provides it, and App Mesh's default holds.

        Anything else is unknown, which has neither value nor place.
        """
        loaded = self._mesh(version)
        provided = loaded is not None and place.target in _provider_nodes(loaded, place.service)
        if loaded is None or not provided:
            return Limit(owner=f"route {place.route or '?'}", name=name, seconds=None, where=None)
        path = f"virtualServices[{place.service}].spec.provider"
        return _limit(loaded, path, f"virtual service {place.service}", name, None)

    def listener_limit(self, version: str | None, place: Place) -> Limit:
        """The perRequest of the called node's listener."""
        owner = f"the listener of {place.target or '?'}"
        found = self._node(version, place.target)
        if found is None:
            return Limit(owner=owner, name="perRequest", seconds=None, where=None)
        loaded, path, node = found
        timeout = node.spec.listeners[0].timeout if node.spec.listeners else None
        value = _timeout(timeout.of_requests if timeout else None, "perRequest")
        field = timeout.field if timeout else "http"
        parent = f"{path}.spec.listeners[0].timeout.{field}"
        return _limit(loaded, parent, owner, "perRequest", value)

    def retry_policy(self, version: str | None, place: Place) -> str | None:
        """Where the route's retry policy stands."""
        found = self._route(version, place)
        if found is None:
            return None
        return found[0].where(f"{found[1]}.spec.{found[2].spec.field}.retryPolicy")

    def accepted_names(self, version: str | None, target: str | None) -> str | None:
        """Where the node says whose certificate it accepts."""
        found = self._node(version, target)
        path = "spec.listeners[0].tls.validation.subjectAlternativeNames"
        return found[0].where(f"{found[1]}.{path}") if found else None

    def lists(self, version: str | None, target: str | None, client: str) -> bool:
        """Whether the file says that a node accepts the certificate of a client."""
        found = self._node(version, target)
        if found is None or found[0].mesh is None or not found[2].spec.listeners:
            return False
        tls = found[2].spec.listeners[0].tls
        accepted = tls.validation.subject_alternative_names if tls and tls.validation else None
        name = names.spiffe_id(found[0].mesh.mesh.mesh_name, client)
        return accepted is not None and name in accepted.match.exact

    def target(self, version: str | None, place: Place) -> str | None:
        """Where the node that was called is declared; else the route."""
        found = self._node(version, place.target) or self._route(version, place)
        return found[0].where(found[1]) if found else None

    def egress_filter(self, version: str | None) -> str | None:
        """Where the mesh says whether hosts outside it may be called."""
        loaded = self._mesh(version)
        return loaded.where("mesh.spec.egressFilter") if loaded else None

    def _mesh(self, version: str | None) -> LoadedMesh | None:
        # A call that met no route carries no version: one mesh can still only mean that one.
        if version is None and len(self.documents) == 1:
            version = next(iter(self.documents))
        if version is None or version not in self.documents:
            return None
        if version not in self._read:
            source, text = self.documents[version]
            self._read[version] = load_mesh(text, source=source)
        loaded = self._read[version]
        return loaded if loaded.mesh is not None else None

    def _route(self, version: str | None, place: Place) -> tuple[LoadedMesh, str, Route] | None:
        loaded = self._mesh(version)
        if loaded is None or loaded.mesh is None:
            return None
        routers = _routers(loaded.mesh, place.service)
        for router in loaded.mesh.virtual_routers:
            for route in router.routes:
                if router.virtual_router_name in routers and route.route_name == place.route:
                    path = f"virtualRouters[{router.virtual_router_name}].routes"
                    return loaded, f"{path}[{route.route_name}]", route
        return None

    def _node(
        self, version: str | None, name: str | None
    ) -> tuple[LoadedMesh, str, VirtualNode] | None:
        loaded = self._mesh(version)
        if loaded is None or loaded.mesh is None:
            return None
        for node in loaded.mesh.virtual_nodes:
            if node.virtual_node_name == name:
                return loaded, f"virtualNodes[{name}]", node
        return None


def _routers(mesh: Mesh, service: str) -> set[str]:
    return {
        one.spec.provider.virtual_router.virtual_router_name
        for one in mesh.virtual_services
        if one.virtual_service_name == service
        and one.spec.provider is not None
        and one.spec.provider.virtual_router is not None
    }


def _provider_nodes(loaded: LoadedMesh, service: str) -> set[str]:
    services = loaded.mesh.virtual_services if loaded.mesh else ()
    return {
        one.spec.provider.virtual_node.virtual_node_name
        for one in services
        if one.virtual_service_name == service
        and one.spec.provider is not None
        and one.spec.provider.virtual_node is not None
    }


def _timeout(timeout: HttpTimeout | TcpTimeout | None, name: str) -> Duration | None:
    if timeout is None or name == "idle":
        return timeout.idle if timeout else None
    return timeout.per_request if isinstance(timeout, HttpTimeout) else None


def _limit(loaded: LoadedMesh, parent: str, owner: str, name: str, value: Duration | None) -> Limit:
    path = f"{parent}.{name}"
    if value is None and name != "perRequest":
        return Limit(owner=owner, name=name, seconds=None, where=loaded.where(path))
    return Limit(
        owner=owner,
        name=name,
        seconds=DEFAULT_TIMEOUT_S if value is None else value.seconds,
        where=loaded.where(path),
        is_default=value is None,
    )
