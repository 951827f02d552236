"""What of a mesh is seen in the files alone: discovery, names that files cannot have, egress."""

import json

import pytest

from meshml_dbx.planes import Wiring, render, secrets_of, tcp_addresses
from tests.planes.envoy_mesh import mesh_of
from tests.planes.test_envoy_files import AnyFiles, Json, managers

MESH = """
mesh: {meshName: ml, spec: {egressFilter: {type: ALLOW_ALL}, SPEC}}
clients:
- clientName: job
  role: training
  spec:
    backends: &backends
    - virtualService: {virtualServiceName: s.ml.local}
    - virtualService: {virtualServiceName: S.ml.local}
    backendDefaults:
      clientPolicy:
        tls:
          certificate: {sds: {secretName: "spiffe://corp/ns/a/sa/job"}}
          validation: {trust: {sds: {secretName: "spiffe://corp"}}}
virtualNodes:
- virtualNodeName: n
  spec:
    listeners: [{portMapping: {port: 80, protocol: http}}]
    serviceDiscovery:
      awsCloudMap:
        namespaceName: prod.local
        serviceName: labels
        attributes: [{key: stage, value: blue}]
        OWN
- virtualNodeName: caller
  spec:
    listeners: [{portMapping: {port: 9001, protocol: http}}]
    backends: *backends
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: alone
  spec:
    listeners: [{portMapping: {port: 9002, protocol: http}}]
    serviceDiscovery: {dns: {hostname: localhost}}
virtualServices:
- virtualServiceName: s.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: n}}}
- virtualServiceName: S.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: n}}}
"""


def files(member: str, *, spec: str = "", own: str = "") -> dict[str, Json]:
    """The rendered files of a member, read back."""
    mesh = mesh_of(MESH.replace(", SPEC", f", {spec}" if spec else "").replace("OWN", own))
    wiring = Wiring(
        sidecar_id="one-1",
        access_log="/logs/access.jsonl",
        egress_port=15001,
        app_port=9001,
        identities=AnyFiles(),
    )
    return {name: json.loads(text) for name, text in render(mesh, member, wiring).items()}


@pytest.mark.parametrize(
    ("spec", "own", "family"),
    [
        ("", "", "V4_ONLY"),
        ("serviceDiscovery: {ipPreference: IPv6_ONLY}", "", "V6_ONLY"),
        (
            "serviceDiscovery: {ipPreference: IPv6_ONLY}",
            "ipPreference: IPv4_PREFERRED",
            "V4_PREFERRED",
        ),
    ],
)
def test_cloud_map_is_found_by_its_dns_name(spec: str, own: str, family: str) -> None:
    """Service and namespace make a host name of many addresses; a node's preference goes first."""
    cluster = files("job", spec=spec, own=own)["xds/cds.json"]["resources"][0]
    (locality,) = cluster["load_assignment"]["endpoints"]
    address = locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": "labels.prod.local", "port_value": 80}
    found = cluster["cluster_type"]["typed_config"]
    assert (found["dns_lookup_family"], found["all_addresses_in_single_endpoint"]) == (
        family,
        False,
    )


def test_a_secret_named_by_an_address_has_a_plain_file() -> None:
    """SPIRE's names hold what no file name may; the certificate is still asked for by its name."""
    found = [name for name in files("job") if "/sds-" in name]
    assert [name.rpartition("-")[0] for name in found] == [
        "xds/sds-certificate-named",
        "xds/sds-trust-named",
    ]
    mesh = mesh_of(MESH.replace(", SPEC", "").replace("OWN", ""))
    names = [it.sds.secret_name for it in secrets_of(mesh, "job") if it.sds]
    assert names == ["spiffe://corp/ns/a/sa/job", "spiffe://corp"]


def test_no_authority_is_claimed_twice() -> None:
    """Envoy would refuse all routes; the service that is listed first keeps the name."""
    (routes,) = files("job")["xds/rds.json"]["resources"]
    domains = [it.lower() for host in routes["virtual_hosts"] for it in host["domains"]]
    assert sorted(domains) == sorted(set(domains))


@pytest.mark.parametrize(("member", "allowed"), [("job", True), ("alone", True), ("caller", False)])
def test_allow_all_is_void_for_a_node_that_lists_backends(member: str, allowed: bool) -> None:  # noqa: FBT001  # a parameter of the test
    """As in App Mesh: such a node has listed all that it calls, and is told so."""
    (routes,) = files(member)["xds/rds.json"]["resources"]
    last = routes["virtual_hosts"][-1]["routes"][-1]
    assert (last["name"] == "meshml:external") == allowed
    if not allowed:
        said = last["direct_response"]["body"]["inline_string"]
        assert "ALLOW_ALL is void for a virtual node that lists backends" in said


def test_a_member_without_grpc_or_tcp_has_no_ports_for_them() -> None:
    """Only what is called has a way."""
    mesh = mesh_of(MESH.replace(", SPEC", "").replace("OWN", ""))
    assert tcp_addresses(mesh, "job") == ()
    listeners = files("job")["xds/lds.json"]["resources"]
    assert [it["name"] for it in listeners] == ["egress"]
    assert len(managers(listeners)) == 1
