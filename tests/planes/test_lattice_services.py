"""The services of a plan on VPC Lattice: targets, listeners, addresses, and who may call."""

from typing import Any, cast

import pytest

from meshml_dbx.mesh.load import read_mesh
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes.lattice import desired
from meshml_dbx.planes.plan import reference
from tests.mesh.ml_example import EVERY_FIELD, EXAMPLE, mesh_of
from tests.planes.lattice_meshes import (
    NODES,
    SERVICES,
    codes,
    http,
    of_kind,
    only,
    policy_of,
    routed,
)

# --- services and targets ---------------------------------------------------------------------


def test_a_target_outside_is_left_out_and_said() -> None:
    """A serving endpoint has no address in a VPC; the others get its part."""
    targets = "[{virtualNode: labels-v1, weight: 9}, {virtualNode: judge, weight: 1}]"
    made = desired(routed(http("all", "{prefix: /}", targets)))
    groups = only(made, "rule")["action"]["forward"]["targetGroups"]
    assert [it["weight"] for it in groups] == [9]
    assert ("lattice-target-left-out", "virtualRouters[labels].routes[all]") in codes(made)


def test_a_service_of_targets_outside_is_not_made() -> None:
    """Its callers call the host itself."""
    made = desired(routed(http("all", "{prefix: /}", "[{virtualNode: judge, weight: 1}]")))
    assert of_kind(made, "service") == []
    assert ("lattice-service-left-out", "virtualServices[labels.ml.local]") in codes(made)


def test_two_services_never_share_a_target_group() -> None:
    """Lattice lets a target group be used by one service alone."""
    text = EVERY_FIELD.read_text(encoding="utf-8")
    second = (
        "  - virtualServiceName: again\n"
        "    spec: {provider: {virtualRouter: {virtualRouterName: labels}}}\n"
    )
    mesh = mesh_of(text.replace("virtualServices:\n", f"virtualServices:\n{second}"))
    made = desired(mesh)
    users: dict[str, set[str]] = {}
    for it in [*of_kind(made, "rule"), *of_kind(made, "listener")]:
        service = str(it.body["serviceIdentifier"])
        for need in it.needs:
            if need.startswith("target-group/"):
                users.setdefault(need, set()).add(service)
    assert [group for group, services in users.items() if len(services) > 1] == []


def test_targets_with_tls_make_the_listener_https_and_change_the_address() -> None:
    """Nothing that was encrypted becomes plain text; callers are told their new address."""
    made = desired(cast("Mesh", read_mesh(EXAMPLE).mesh))
    protocols = {it.body["protocol"] for it in of_kind(made, "listener")}
    assert protocols == {"HTTPS"}
    assert "lattice-address-changed" in {it.code for it in made.problems}


def test_a_node_without_a_health_check_is_not_checked() -> None:
    """Lattice's own default would ask for a page that the program may not have."""
    made = desired(routed(http("all", "{prefix: /}")))
    assert only(made, "target-group")["config"]["healthCheck"] == {"enabled": False}


def test_a_tcp_service_becomes_a_resource_of_one_host() -> None:
    """Rules are for requests; connections go through a resource gateway."""
    made = desired(cast("Mesh", read_mesh(EVERY_FIELD).mesh))
    hosts = [
        cast("Any", it.body["resourceConfigurationDefinition"])["dnsResource"]["domainName"]
        for it in of_kind(made, "resource-configuration")
    ]
    assert hosts == ["streams.every.local", "lake.example.com"]
    assert ("lattice-tcp-open", "virtualServices[store]") in codes(made)


def test_a_gateway_is_said_to_be_left_out() -> None:
    """Lattice has no way in from outside."""
    made = desired(cast("Mesh", read_mesh(EVERY_FIELD).mesh))
    assert ("lattice-gateway-left-out", "virtualGateways[front]") in codes(made)


# --- who may call -----------------------------------------------------------------------------


def test_only_callers_that_list_a_service_may_invoke_its_paths() -> None:
    """The auth policy names their roles, the one action, and the rules' paths and methods."""
    made = desired(
        routed(
            http("read", "{prefix: /v1/labels, method: GET}"),
            http("one", "{path: {exact: /v1/health}}"),
        )
    )
    (service,) = of_kind(made, "service")
    arn = reference("service", service.name, "arn")
    anyone = {"Effect": "Allow", "Principal": {"AWS": ["${ROLE_ARN_training}"]}}
    allowed = {**anyone, "Action": "vpc-lattice-svcs:Invoke"}
    assert policy_of(made, "auth-policy", service.name) == [
        {**allowed, "Resource": [f"{arn}/v1/health"]},
        {
            **allowed,
            "Resource": [f"{arn}/v1/labels*"],
            "Condition": {"StringEquals": {"vpc-lattice-svcs:RequestMethod": "GET"}},
        },
    ]


def test_the_callers_own_policy_allows_the_same() -> None:
    """Lattice asks for both sides: what one allows, the other does, and no more."""
    made = desired(routed(http("read", "{prefix: /v1/labels, method: GET}")))
    (service,) = of_kind(made, "service")
    asked = policy_of(made, "auth-policy", service.name)
    own = policy_of(made, "iam-policy", "invoke-training")
    assert own == [{key: it[key] for key in it if key != "Principal"} for it in asked]


def test_a_service_principal_is_no_role() -> None:
    """The finding says so, names the parameter, and goes when the role is given."""
    mesh = routed(http("all", "{prefix: /}"))
    (said,) = [it for it in desired(mesh).problems if it.code == "lattice-unknown-role"]
    assert (said.path, "5a1c" in said.what) == ("clients[training]", True)
    role = {"ROLE_ARN_training": "arn:aws:iam::111122223333:role/training"}
    given_role = desired(mesh, role)
    assert "lattice-unknown-role" not in {it.code for it in given_role.problems}
    (statement,) = policy_of(given_role, "auth-policy", of_kind(given_role, "service")[0].name)
    assert statement["Principal"] == {"AWS": list(role.values())}


def test_policies_are_on_one_line() -> None:
    """Lattice refuses policies with blank lines."""
    made = desired(cast("Mesh", read_mesh(EVERY_FIELD).mesh))
    assert [it for it in of_kind(made, "auth-policy") if "\n" in str(it.body["policy"])] == []


def test_too_long_a_policy_is_said() -> None:
    """A quota that a service with hundreds of callers meets."""
    clients = "".join(
        f"  - {{clientName: a-job-with-quite-a-long-name-{n}, role: training, spec: "
        "{backends: [{virtualService: {virtualServiceName: labels.ml.local}}]}}\n"
        for n in range(250)
    )
    text = (
        f"mesh: {{meshName: ml}}\n{NODES}{SERVICES}{clients}"
        "virtualRouters:\n  - virtualRouterName: labels\n"
        "    spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}\n"
        f"    routes:\n      - {http('all', '{prefix: /}')}\n"
    )
    made = desired(mesh_of(text))
    assert ("lattice-quota", "virtualServices[labels.ml.local]") in codes(made)


def test_a_vpc_that_is_both_the_targets_and_the_workspaces_is_associated_once() -> None:
    """Lattice refuses a second association of one VPC."""
    mesh = routed(http("all", "{prefix: /}"))
    vpc = "vpc-0a1b2c3d4e5f60718"
    made = desired(mesh, {"VPC_ID": vpc, "DATABRICKS_VPC_ID": vpc})
    counts = [len(of_kind(it, "vpc-association")) for it in (desired(mesh), made)]
    assert counts == [2, 1]


# --- quotas of a network and of a region --------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "kinds"),
    [("http", {"service", "target-group"}), ("tcp", {"resource-configuration"})],
)
def test_more_than_five_hundred_of_a_kind_is_said(protocol: str, kinds: set[str]) -> None:
    """A network takes 500 services and 500 TCP resources, a region 500 target groups."""

    def over(number: int) -> set[str]:
        problems = desired(provided_directly(number, protocol)).problems
        told = [it.what for it in problems if it.code == "lattice-quota"]
        assert all(text.startswith(f"{number} of kind ") for text in told)
        return {text.removeprefix(f"{number} of kind ").partition(";")[0] for text in told}

    assert (over(500), over(501)) == (set(), kinds)


def provided_directly(number: int, protocol: str) -> Mesh:
    """A mesh of that many services, each provided by a node of its own."""
    nodes = "".join(
        f"  - virtualNodeName: n{one}\n"
        "    spec:\n"
        f"      listeners: [{{portMapping: {{port: 5432, protocol: {protocol}}}}}]\n"
        f"      serviceDiscovery: {{dns: {{hostname: n{one}.example.com}}}}\n"
        for one in range(number)
    )
    services = "".join(
        f"  - {{virtualServiceName: s{one}.example.com, "
        f"spec: {{provider: {{virtualNode: {{virtualNodeName: n{one}}}}}}}}}\n"
        for one in range(number)
    )
    return mesh_of(f"mesh: {{meshName: ml}}\nvirtualNodes:\n{nodes}virtualServices:\n{services}")
