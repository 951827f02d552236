"""The explanation beside the rendered configuration: every value that it names is what Envoy gets.

Random meshes, whose routes are each given a match of their own so that a request can be made for
each; the explanation of that request is read back from its words.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from meshml_dbx.mesh.explained import (
    RequestExplanation,
    Target,
    explain_connection,
    explain_request,
)
from meshml_dbx.mesh.load import LoadedMesh, load_mesh
from meshml_dbx.mesh.names import backends_of, spiffe_id
from meshml_dbx.mesh.requests import Request
from meshml_dbx.mesh.settings_of import listener_settings
from meshml_dbx.mesh.spec import (
    Certificate,
    ClientPolicy,
    ClientTls,
    GrpcRouteMatch,
    HttpRouteMatch,
    Mesh,
    Route,
    SdsReference,
    Trust,
)
from meshml_dbx.mesh.ways import provided
from meshml_dbx.mesh.write import mesh_to_yaml
from meshml_dbx.planes.envoy import IdentityPaths, Wiring, desired
from meshml_dbx.planes.envoy_secrets import sds_config, secret_name, secrets_of
from meshml_dbx.planes.envoy_services import tcp_addresses
from tests.mesh.any_mesh import any_value
from tests.planes.served_mesh import served_mesh

MEMBER = "job"
Json = Mapping[str, Any]

SERVER_ERRORS = {500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511}
CODES = {
    "server-error": SERVER_ERRORS,
    "gateway-error": {502, 503, 504},
    "client-error": {409},
    "HTTP 503": {503},
}
CONDITIONS = {
    "stream-error": "refused-stream",
    "connection-error": "connect-failure",
    "gRPC unavailable": "unavailable",
    "connect failure": "connect-failure",
    "refused stream": "refused-stream",
}


# --- meshes -----------------------------------------------------------------------------------


@st.composite
def told_apart(draw: st.DrawFn) -> Mesh:
    """A served mesh whose routes each take what no other takes, with any policies."""
    mesh = draw(served_mesh())
    (client,) = mesh.clients
    backends = tuple(
        replace(it, virtual_service=replace(it.virtual_service, client_policy=_policy(draw, mesh)))
        for it in client.spec.backends
    )
    spec = replace(client.spec, backends=backends, backend_groups=())
    (router,) = mesh.virtual_routers
    routes = tuple(_by_itself(route) for route in router.routes)
    mesh = replace(
        mesh,
        injected_defaults=draw(st.sampled_from(["none", "modern", "legacy"])),
        clients=(replace(client, spec=spec),),
        virtual_routers=(replace(router, routes=routes),),
    )
    return cast("Mesh", _without_acm(mesh))


def _policy(draw: st.DrawFn, mesh: Mesh) -> ClientPolicy | None:
    """Any policy, now and then for a port that some node has."""
    known = [it.port_mapping.port for node in mesh.virtual_nodes for it in node.spec.listeners]
    ports = draw(st.lists(st.sampled_from(known), max_size=2).map(tuple))
    tls = st.builds(replace, any_value(ClientTls), ports=st.just(ports))
    return draw(st.none() | st.builds(ClientPolicy, tls=st.none() | tls))


def _by_itself(route: Route) -> Route:
    spec, name = route.spec, route.route_name
    if spec.grpc_route:
        match = GrpcRouteMatch(service_name=name)
        return replace(route, spec=replace(spec, grpc_route=replace(spec.grpc_route, match=match)))
    for field in ("http_route", "http2_route"):
        found = getattr(spec, field)
        if found:
            one = replace(found, match=HttpRouteMatch(prefix=f"/{name}/"))
            return replace(route, spec=replace(spec, **{field: one}))
    return route


def _without_acm(value: object) -> object:
    """The same with what no Envoy can fetch from AWS supplied by somebody else."""
    if isinstance(value, tuple):
        return tuple(_without_acm(item) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    if isinstance(value, Certificate | Trust) and value.acm:
        return type(value)(sds=SdsReference(secret_name="theirs"))  # noqa: S106  # a name
    kept = {it.name: _without_acm(getattr(value, it.name)) for it in fields(value)}
    return replace(value, **kept)


# --- both sides -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What the Envoy of a member gets, by kind and name."""

    clusters: Mapping[str, Json]
    listeners: Mapping[str, Json]
    ingress: tuple[Json, ...]
    routes: Mapping[tuple[str, str], Json]


def rendered(mesh: Mesh, member: str) -> Rendered:
    """The configuration of a member's sidecar; the first of a name is the one that holds."""
    ports = {address: 20_000 + number for number, address in enumerate(tcp_addresses(mesh, member))}
    paths = IdentityPaths(certificate_chain="/c.pem", private_key="/k.pem", authority="/a.pem")
    wiring = Wiring(
        sidecar_id="s",
        access_log="/access.jsonl",
        egress_port=1,
        app_port=2,
        tcp_ports=ports,
        identities={secret_name(it): paths for it in secrets_of(mesh, member)},
    )
    kinds: dict[str, dict[str, Json]] = {}
    routes: dict[tuple[str, str], Json] = {}
    ingress = []
    for resource in desired(mesh, member, wiring):
        kinds.setdefault(resource.kind, {}).setdefault(resource.name, resource.body)
        if resource.name.startswith("ingress/") and resource.kind == "listener":
            ingress.append(resource.body)
        if resource.kind == "route_configuration" and resource.name == "egress":
            for host in cast("Any", resource.body)["virtual_hosts"]:
                for domain in host["domains"]:
                    routes |= {(domain.lower(), it["name"]): it for it in host["routes"]}
    return Rendered(
        clusters=kinds["cluster"],
        listeners=kinds["listener"],
        ingress=tuple(ingress),
        routes=routes,
    )


def requests_of(mesh: Mesh) -> Iterator[Request]:
    """A request for each route of each service, by each of its hosts."""
    for backend in backends_of(mesh, MEMBER):
        found = provided(mesh, backend.virtual_service_name)
        for host in found.hosts:
            for name in [it.route_name for it in found.routes] or ["any"]:
                at, path = host.domains[0], f"/{name}/x"
                yield Request(authority=at, path=path)
                grpc = (("content-type", "application/grpc"),)
                yield Request(authority=at, method="POST", path=path, headers=grpc)


# --- the words, read back ---------------------------------------------------------------------


def seconds_told(value: str) -> str:
    """A limit's words as Envoy writes a duration: ``15 s`` is ``15s``."""
    return "0s" if value == "no limit" else value.replace(" s", "s")


def retries_told(value: str) -> Json | None:
    """What the words on retries ask Envoy for."""
    if value == "none":
        return None
    tries, _, rest = value.partition(" on ")
    events, _, each = rest.partition(", each try up to ")
    named = [] if events == "nothing" else events.replace(" or ", ", ").split(", ")
    codes = set().union(*(CODES.get(it, set()) for it in named))
    asked = {CONDITIONS.get(it, it) for it in named if it not in CODES}
    found = {
        "num_retries": int(tries.split()[0]),
        "retry_on": asked | ({"retriable-status-codes"} if codes else set()),
        "retriable_status_codes": codes,
    }
    return found | ({"per_try_timeout": seconds_told(each)} if each else {})


def retries_rendered(action: Json) -> Json | None:
    """The same of what was rendered."""
    policy = action.get("retry_policy")
    if policy is None:
        return None
    found = {
        "num_retries": policy["num_retries"],
        "retry_on": set(filter(None, policy["retry_on"].split(","))),
        "retriable_status_codes": set(policy["retriable_status_codes"]),
    }
    each = policy.get("per_try_timeout")
    return found | ({"per_try_timeout": each} if each else {})


def values(found: RequestExplanation | Target) -> dict[str, str]:
    """The settings of an explanation, by name."""
    return {it.name: it.value for it in found.settings}


# --- comparing --------------------------------------------------------------------------------


def check_request(mesh: Mesh, found: RequestExplanation, sent: Request, envoy: Rendered) -> None:
    """The limits, the retries, the targets' shares and the terms of each."""
    action = envoy.routes[sent.authority.lower(), found.route]["route"]
    told = values(found)
    assert seconds_told(told["perRequest"]) == action["timeout"]
    assert seconds_told(told["idle"]) == action["idle_timeout"]
    assert retries_told(told["retries"]) == retries_rendered(action)
    alone = [{"name": action.get("cluster"), "weight": 1}]
    shares = action.get("weighted_clusters", {"clusters": alone})["clusters"]
    total = sum(it["weight"] for it in shares)
    for target, share in zip(found.targets, shares, strict=True):
        assert target.share == share["weight"] / total
        check_peer(mesh, target, envoy.clusters[share["name"]])


def check_connection(mesh: Mesh, found: RequestExplanation, proxy: Json, envoy: Rendered) -> None:
    """The silence that is borne, and the terms of each target that gets connections."""
    assert seconds_told(values(found)["idle"]) == proxy["idle_timeout"]
    clusters = [envoy.clusters[it["name"]] for it in proxy["weighted_clusters"]["clusters"]]
    taking = {
        it["metadata"]["filter_metadata"]["meshml"].get("virtual_node"): it for it in clusters
    }
    for target in found.targets:
        if target.share:
            check_peer(mesh, target, taking[target.virtual_node])


def check_peer(mesh: Mesh, target: Target, cluster: Json) -> None:
    """Where, plain or encrypted, which names are accepted, which certificate is shown."""
    peer, socket = target.peer, cluster.get("transport_socket")
    if "load_assignment" not in cluster:
        assert peer.address.startswith("nowhere")
        return
    (locality,) = cluster["load_assignment"]["endpoints"]
    at = locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert peer.address == f"{at['address']}:{at['port_value']}"
    assert peer.encrypted == (socket is not None)
    common = socket["typed_config"]["common_tls_context"] if socket else {}
    combined = common.get("combined_validation_context", {})
    context = common.get("validation_context") or combined.get("default_validation_context", {})
    names = context.get("match_typed_subject_alt_names", [])
    assert list(peer.expected) == [it["matcher"]["exact"] for it in names]
    shown = [it["name"] for it in common.get("tls_certificate_sds_secret_configs", [])]
    assert shown == ([certificates(mesh)[peer.shown]] if peer.shown else [])


def certificates(mesh: Mesh) -> dict[str, object]:
    """The caller's certificates: what each is called in words, and in the configuration."""
    found: dict[str, object] = {}
    for one in secrets_of(mesh, MEMBER):
        if isinstance(one, Certificate):
            file = f"the certificate in {one.file.certificate_chain}" if one.file else ""
            said = spiffe_id(mesh.mesh.mesh_name, one.sds.secret_name) if one.sds else file
            found[said] = sds_config(one)["name"]
    return found


# --- rules ------------------------------------------------------------------------------------

any_policies = settings(
    max_examples=50,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def loaded_of(mesh: Mesh) -> LoadedMesh:
    """The mesh with the places of all its values."""
    loaded = load_mesh(mesh_to_yaml(mesh), source="mesh.yml")
    assert loaded.mesh == mesh
    return loaded


@any_policies
@given(told_apart())
def test_what_is_explained_of_a_request_is_what_envoy_gets(mesh: Mesh) -> None:
    """Time-outs, retries, shares, addresses, encryption, accepted names, shown certificates."""
    loaded, envoy = loaded_of(mesh), rendered(mesh, MEMBER)
    for request in requests_of(mesh):
        found = explain_request(loaded, mesh, MEMBER, request)
        if found.outcome in {"route", "node"}:
            check_request(mesh, found, request, envoy)


@any_policies
@given(told_apart())
def test_what_is_explained_of_a_connection_is_what_envoy_gets(mesh: Mesh) -> None:
    """The same of plain TCP, which has its silence alone as a limit."""
    loaded, envoy = loaded_of(mesh), rendered(mesh, MEMBER)
    for address in tcp_addresses(mesh, MEMBER):
        found = explain_connection(loaded, mesh, MEMBER, address)
        if found.outcome in {"route", "node"}:
            listener = envoy.listeners[f"egress/tcp/{address}"]
            proxy = listener["filter_chains"][0]["filters"][0]["typed_config"]
            check_connection(mesh, found, proxy, envoy)


@any_policies
@given(told_apart())
def test_what_is_explained_of_a_listener_is_what_its_envoy_gets(mesh: Mesh) -> None:
    """The limits at the called side."""
    loaded = loaded_of(mesh)
    for node in mesh.virtual_nodes:
        if node.is_external:
            continue
        envoy = rendered(mesh, node.virtual_node_name)
        for index, listener in enumerate(node.spec.listeners):
            told = {it.name: it.value for it in listener_settings(loaded, node, index)}
            filters = envoy.ingress[index]["filter_chains"][0]["filters"]
            limits = filters[0]["typed_config"]
            if listener.port_mapping.protocol != "tcp":
                limits = limits["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
                assert seconds_told(told.pop("perRequest")) == limits["timeout"]
            assert {it: seconds_told(told[it]) for it in told} == {"idle": limits["idle_timeout"]}
