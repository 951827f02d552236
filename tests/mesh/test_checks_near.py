"""Where each rule ends: its own example with one thing changed still shows it, or does not."""

import pytest
from hypothesis import given, settings

from meshml_dbx.mesh.checks import check_mesh
from meshml_dbx.mesh.explanations import explanation_of
from meshml_dbx.mesh.load import LoadedMesh, load_mesh
from meshml_dbx.mesh.spec import Mesh
from tests.mesh.any_mesh import any_mesh, connected

CALLS = "[{virtualService: {virtualServiceName: labels.ml}}]"
SERVED = "virtualNodes:\n  - virtualNodeName: labels\n"


def is_said(slug: str, old: str, new: str) -> bool:
    """Whether a code's example still has it after a change; the change leaves the form right."""
    text = explanation_of(slug).example
    assert old in text
    loaded = load_mesh(text.replace(old, new), source="mesh.yml")
    assert loaded.mesh is not None, [str(one) for one in loaded.findings]
    return slug in {found.code for found in check_mesh(loaded)}


@pytest.mark.parametrize(
    ("slug", "old", "new"),
    [
        ("retry-budget", "httpRoute:", "http2Route:"),
        ("zero-weight", "weight: 0}", "weight: 0}, {virtualNode: labels, weight: 0}"),
        ("health-check-path", "protocol: tcp\n            path: /ping", "protocol: http"),
        ("server-first", "port: 3306", "port: 9000"),
        ("retry-unsafe-method", "method: POST", "method: PATCH"),
        ("retry-unsafe-method", "[server-error]", "[stream-error, gateway-error]"),
        ("listener-timeout", "{unit: s, value: 60}", "{unit: s, value: 0}"),
        ("listener-timeout", "{unit: s, value: 60}", "{unit: ms, value: 15001}"),
        ("outlier-one-host", ", responseType: LOADBALANCER", ""),
        ("backend-cycle", "virtualServiceName: features.ml}}]", "virtualServiceName: labels.ml}}]"),
        ("reserved-path", "/aws-appmesh/labels", "/aws-app-mesh"),
        ("low-port", "port: 443", "port: 1024"),
        ("wildcard-name", "*.example.com", "spiffe://ml/*"),
        ("ambiguous-port", "port: 8081, protocol: http", "port: 8081, protocol: http2"),
        ("external-policy", "dataSource: {kind: labelApi}", "databricks: {servingEndpoint: judge}"),
        ("no-time-limit", "unit: s, value: 0", "unit: ms, value: 0"),
    ],
)
def test_a_rule_holds_for_what_is_as_bad(slug: str, old: str, new: str) -> None:
    """The example is one of many."""
    assert is_said(slug, old, new)


@pytest.mark.parametrize(
    ("slug", "old", "new"),
    [
        ("zero-weight", "weight: 0}", "weight: 0}, {virtualNode: labels, weight: 1}"),
        ("retry-unsafe-method", "[server-error]", "[stream-error]"),
        ("retry-unsafe-method", "maxRetries: 2", "maxRetries: 0"),
        ("retry-unsafe-method", ", method: POST", ""),
        ("retry-nothing", "maxRetries: 2", "maxRetries: 0"),
        ("listener-timeout", "{unit: s, value: 60}", "{unit: s, value: 15}"),
        ("listener-timeout", "perRequest", "idle"),
        (
            "listener-timeout",
            "protocol: http}\n      serviceDiscovery",
            "protocol: http}\n          timeout: {http: {perRequest: {unit: s, value: 60}}}\n"
            "      serviceDiscovery",
        ),
        (
            "listener-timeout",
            "labels\n    spec:\n      listeners",
            "labels\n    dataSource: {kind: other}\n    spec:\n      listeners",
        ),
        ("health-check-port", "\n            port: 9000", ""),
        ("shared-pool", "role: training", "role: processing"),
        ("shared-pool", "connectionPool: {http: {maxConnections: 20}}", ""),
        ("unused-permission", '"spiffe://ml/fraud"', '"fraud.example.com"'),
        ("low-port", "port: 443", "port: 1025"),
        (
            "outlier-one-host",
            "dns: {hostname: labels.example.com, responseType: LOADBALANCER}",
            "awsCloudMap: {namespaceName: ml, serviceName: labels}",
        ),
        ("server-first", "protocol: tcp", "protocol: http"),
        ("plaintext", SERVED, f"{SERVED}    dataSource: {{kind: labelApi}}\n"),
        (
            "egress-filter-void",
            "backends: [{virtualService: {virtualServiceName: labels.ml}}]",
            "backends: []",
        ),
        (
            "same-address",
            "hostname: ML.example.com",
            "hostname: ML.example.com., ipPreference: IPv4_ONLY",
        ),
        (
            "same-instances",
            "serviceName: labels, attributes: [{key: version, value: v1}]",
            "serviceName: labels, attributes: [{key: v, value: v1}]",
        ),
        ("partial-regex", "^/v[12]", "^/v[12]$"),
        ("rewrite-prefix", "value: /v1", "defaultPrefix: DISABLED"),
        ("rewrite-prefix", "rewrite: {prefix: {value: /v1}}", "rewrite: {path: {exact: /v1}}"),
        ("log-newline", "%RESPONSE_CODE%", "%RESPONSE_CODE%\\n"),
        (
            "tcp-same-port",
            "port: 5432, protocol: tcp}\n      serviceDiscovery: {dns: {hostname: events",
            "port: 5433, protocol: tcp}\n      serviceDiscovery: {dns: {hostname: events",
        ),
        (
            "unused-node",
            "labels-old.example.com}}",
            f"labels-old.example.com}}}}\n      backends: {CALLS}",
        ),
    ],
)
def test_a_rule_is_silent_where_all_is_well(slug: str, old: str, new: str) -> None:
    """A false alarm costs more than a missed one: people stop reading."""
    assert not is_said(slug, old, new)


@pytest.mark.parametrize(
    ("slug", "listener", "owner"),
    [
        ("rewrite-prefix", "        - portMapping: {port: 8088, protocol: http}\n", "front"),
        ("same-instances", "        - portMapping: {port: 8080, protocol: http}\n", "labels-v1"),
    ],
    ids=["gateway", "cloud map"],
)
def test_a_port_that_one_listens_on_twice_is_found(slug: str, listener: str, owner: str) -> None:
    """A second listener of a port cannot be opened, however its owner is found."""
    text = explanation_of(slug).example
    assert listener in text
    text = text.replace(listener, listener + listener.replace("http", "grpc"), 1)
    found = check_mesh(load_mesh(text, source="mesh.yml"))
    port = listener.split()[3].rstrip(",")
    assert [one.what for one in found if one.code == "same-address"] == [
        f"{owner} listens on {port} twice"
    ]


def test_a_router_that_is_addressed_by_one_port_twice_is_found() -> None:
    """Its services answer by their name and port, and only one protocol is spoken there."""
    listener = "{portMapping: {port: 80, protocol: http}}"
    text = explanation_of("zero-weight").example
    assert listener in text
    found = check_mesh(load_mesh(text.replace(listener, f"{listener}, {listener}"), source="m.yml"))
    assert [one.what for one in found if one.code == "same-address"] == [
        "labels listens on 80 twice"
    ]


@pytest.mark.parametrize(
    ("slug", "port", "policy", "said"),
    [
        (
            "zero-weight",
            8080,
            "timeout: {grpc: {idle: {unit: s, value: 9}}}",
            "timeout is one of grpc",
        ),
        (
            "zero-weight",
            8080,
            "connectionPool: {tcp: {maxConnections: 2}}",
            "connectionPool is one of tcp",
        ),
        (
            "rewrite-prefix",
            8088,
            "connectionPool: {http2: {maxRequests: 2}}",
            "connectionPool is one of http2",
        ),
    ],
    ids=["time-out", "pool", "gateway's pool"],
)
def test_a_policy_of_another_protocol_than_its_listener_is_found(
    slug: str, port: int, policy: str, said: str
) -> None:
    """It holds for calls that the listener does not take."""
    listener = f"- portMapping: {{port: {port}, protocol: http}}\n"
    text = explanation_of(slug).example
    assert listener in text
    text = text.replace(listener, f"{listener}          {policy}\n")
    found = check_mesh(load_mesh(text, source="mesh.yml"))
    assert [one.what for one in found if one.code == "protocol-mismatch"] == [
        f"the {said}, and the listener on port {port} speaks http"
    ]


@pytest.mark.parametrize(
    ("route", "served", "said"),
    [
        ("httpRoute", "tcp", ["labels is a route of http, and labels.ml speaks tcp"]),
        ("httpRoute", "http2", []),
        ("http2Route", "http", []),
        ("grpcRoute", "http", ["labels is a route of grpc, and labels.ml speaks http"]),
        ("grpcRoute", "http2", []),
    ],
)
def test_a_gateways_route_to_a_service_that_cannot_take_it_is_found(
    route: str, served: str, said: list[str]
) -> None:
    """A gateway speaks to a service as the service does, but turns no request into plain TCP."""
    text = (
        explanation_of("rewrite-prefix")
        .example.replace("port: 8080, protocol: http", f"port: 8080, protocol: {served}")
        .replace("port: 8088, protocol: http", f"port: 8088, protocol: {route[:-5]}")
        .replace("httpRoute", route)
        .replace(", rewrite: {prefix: {value: /v1}}", "")
    )
    if route == "grpcRoute":
        text = text.replace("prefix: /labels/", "serviceName: labels")
    found = check_mesh(load_mesh(text, source="mesh.yml"))
    assert [one.what for one in found if one.code == "protocol-mismatch"] == said


def test_a_prefix_that_replaces_none_is_found() -> None:
    """The rewrite would be left out without a word."""
    text = explanation_of("rewrite-prefix").example.replace("value: /v1", "value: /v1/")
    for match in ("path: {exact: /labels/}", "hostname: {exact: labels.example.com}"):
        loaded = load_mesh(text.replace("prefix: /labels/", match), source="mesh.yml")
        said = [one.what for one in check_mesh(loaded) if one.code == "rewrite-prefix"]
        assert said == ["labels puts /v1/ in place of a prefix, and matches by none"]


# --- what is not known yet --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "old", "new"),
    [
        ("dangling-reference", "virtualNode: lables", 'virtualNode: "${NODE}"'),
        ("client-refused", "spiffe://ml/fraud", "spiffe://ml/${WHO}"),
        ("client-refused", "{sds: {secretName: churn}}", '{sds: {secretName: "${WHO}"}}'),
        ("server-refused", "spiffe://ml/lable", "${NAMES}"),
        ("unknown-identity", "spiffe://ml/frod", "spiffe://ml/${WHO}"),
        ("rewrite-prefix", "value: /v1", 'value: "/${NEW}"'),
    ],
)
def test_a_parameter_without_a_value_is_not_judged(slug: str, old: str, new: str) -> None:
    """It may become the very thing; that it has no value is a finding of its own."""
    assert not is_said(slug, old, new)


def test_nothing_seems_unused_while_a_name_leads_nowhere() -> None:
    """The one that is missing is most likely the one that is not used."""
    text = explanation_of("dangling-reference").example
    found = {one.code for one in check_mesh(load_mesh(text, source="mesh.yml"))}
    assert found == {"dangling-reference", "plaintext"}


def test_spiffe_names_of_certificates_are_identities_themselves() -> None:
    """As SPIRE serves them: the name is what peers accept, and a trust of it is the mesh's own."""
    text = (
        explanation_of("client-refused")
        .example.replace("secretName: churn", 'secretName: "spiffe://corp/churn"')
        .replace("secretName: ml", 'secretName: "spiffe://corp"')
        .replace("spiffe://ml/fraud", "spiffe://corp/churn")
    )
    assert check_mesh(load_mesh(text, source="mesh.yml")) == ()


# --- any mesh ---------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(any_mesh())
def test_every_mesh_can_be_checked(mesh: Mesh) -> None:
    """However odd: a list of findings, the same one each time, and never an exception."""
    for one in (mesh, connected(mesh)):
        loaded = LoadedMesh(
            mesh=one, findings=(), source="mesh.yml", text="", directory=None, lines={}
        )
        assert check_mesh(loaded) == check_mesh(loaded)
