"""The plan of a mesh on VPC Lattice: what is created, in which order, and what is left out."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import boto3  # type: ignore[import-untyped]  # ships without types
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from meshml_dbx.mesh.load import load_mesh, read_mesh
from meshml_dbx.mesh.names import index
from meshml_dbx.mesh.routing import ordered_routes, route_takes
from meshml_dbx.mesh.spec import Mesh, Route
from meshml_dbx.planes.lattice import MOST_RULES, desired
from meshml_dbx.planes.lattice_names import LONGEST, lattice_name
from meshml_dbx.planes.lattice_report import plan_report
from meshml_dbx.planes.plan import Attribute, Resource, diff, fill, reference, resolve
from tests.mesh.any_mesh import any_mesh, connected
from tests.mesh.ml_example import EVERY_FIELD, EXAMPLE, mesh_of
from tests.planes.lattice_meshes import (
    BOTH,
    NODES,
    SERVICES,
    codes,
    http,
    of_kind,
    only,
    routed,
)
from tests.planes.lattice_model import carried_out, given_values, rule_taking, violations
from tests.planes.served_mesh import served_mesh

# What fails tells itself by its body; shrinking a whole mesh takes minutes.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)

# --- what the API takes -----------------------------------------------------------------------


@pytest.mark.parametrize("path", [EXAMPLE, EVERY_FIELD], ids=lambda path: path.stem)
def test_the_apis_own_model_has_nothing_against_the_bodies(path: Path) -> None:
    """Fields, types, lengths, patterns and choices are those of each create request."""
    mesh = read_mesh(path).mesh
    assert mesh is not None
    found = [wrong for it in carried_out(desired(mesh).plan) for wrong in violations(it)]
    assert found == []


@settings(max_examples=150, deadline=None, phases=NO_SHRINKING)
@given(served_mesh() | any_mesh().map(connected))
def test_no_mesh_makes_a_body_that_the_api_refuses(mesh: Mesh) -> None:
    """Whatever a mesh declares, each request is one that the API's model takes."""
    made = desired(mesh)
    found = [wrong for it in carried_out(made.plan) for wrong in violations(it)]
    assert found == []


@settings(max_examples=100, deadline=None)
@given(served_mesh())
def test_each_step_comes_after_all_that_it_refers_to(mesh: Mesh) -> None:
    """Steps are in an order that works, each resource once."""
    plan = desired(mesh).plan
    done: set[str] = set()
    for step in plan.steps:
        assert done >= set(step.resource.needs)
        assert step.resource.key not in done
        done.add(step.resource.key)


@given(st.sampled_from(sorted(LONGEST)), st.text(min_size=1, max_size=300))
def test_names_are_of_lattices_letters_and_length(kind: str, name: str) -> None:
    """Lower case, digits and single hyphens, not too long, without a reserved beginning."""
    made = lattice_name(kind, "ml", name)
    assert len(made) <= LONGEST[kind]
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert "--" not in made
    assert not made.startswith(("-", "svc-", "tg-", "rule-", "listener-", "rcfg-", "rgw-"))


def test_names_that_read_alike_stay_apart() -> None:
    """Two names, or one name in two meshes, never share a resource."""
    names = {lattice_name("service", mesh, name) for mesh in ("a", "b") for name in ("x.y", "x_y")}
    assert len(names) == 4


@pytest.fixture
def lattice_endpoint() -> Iterator[str]:
    """A server that speaks the API, on a free port."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_a_plan_can_be_created_step_by_step(lattice_endpoint: str) -> None:
    """A server of the API takes each request, with the ids that it gave to the earlier ones."""
    mesh = read_mesh(EXAMPLE).mesh
    assert mesh is not None
    plan = desired(mesh).plan
    client = boto3.client(
        "vpc-lattice",
        endpoint_url=lattice_endpoint,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 — the server asks for some key, not for whose
    )
    creators: dict[str, Callable[..., Any]] = {
        "service-network": client.create_service_network,
        "service": client.create_service,
        "listener": client.create_listener,
        "rule": client.create_rule,
        "target-group": client.create_target_group,
        "auth-policy": client.put_auth_policy,
        "access-log-subscription": client.create_access_log_subscription,
        "service-association": client.create_service_network_service_association,
        "vpc-association": client.create_service_network_vpc_association,
    }
    ids: dict[str, dict[Attribute, str]] = {}
    values = given_values(plan.unknowns)
    for step in plan.steps:
        sent = resolve(fill(step.resource, values), ids)
        if sent.kind in creators:  # IAM's are another service's
            answer = creators[sent.kind](**sent.body)
            ids[sent.key] = {"id": answer.get("id", ""), "arn": answer.get("arn", "")}
    services = {it["name"]: it for it in client.list_services()["items"]}
    made = desired(mesh)
    assert sorted(services) == sorted(it.name for it in of_kind(made, "service"))
    for service in services.values():
        policy = client.get_auth_policy(resourceIdentifier=service["id"])
        assert (policy["state"], json.loads(policy["policy"])["Version"]) == (
            "Active",
            "2012-10-17",
        )
    groups = {it["name"] for it in client.list_target_groups()["items"]}
    assert groups == {it.name for it in of_kind(made, "target-group")}


# --- rules ------------------------------------------------------------------------------------


def test_routes_become_rules_in_their_order_from_priority_1() -> None:
    """Lattice asks low priorities first, as App Mesh does, and knows no 0."""
    made = desired(routed(http("all", "{prefix: /}"), http("one", "{path: {exact: /v1/x}}")))
    rules = of_kind(made, "rule")
    assert [(it.body["priority"], it.name.split("-")[-2]) for it in rules] == [
        (1, "one"),
        (2, "all"),
    ]


def test_weights_go_over_as_they_are() -> None:
    """Both planes take weights in relation to one another."""
    made = desired(routed(http("all", "{prefix: /}", BOTH)))
    groups = only(made, "rule")["action"]["forward"]["targetGroups"]
    assert [it["weight"] for it in groups] == [70, 30]


def test_a_name_of_kubernetes_cluster_stays_there() -> None:
    """Nobody can lead it to Lattice; callers are told that they need another."""
    text = EXAMPLE.read_text(encoding="utf-8")
    mesh = mesh_of(text.replace("labels.ml.local", "labels.ml.svc.cluster.local"))
    made = desired(mesh)
    assert "customDomainName" not in only(made, "service")
    assert "lattice-address-changed" in {it.code for it in made.problems}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("arn:aws:acm:eu-west-1:111122223333:certificate/0a-1b", None),
        ("${CERTIFICATE}", None),
        ("not an arn", "${CERTIFICATE_ARN_labels.ml.local}"),
    ],
)
def test_the_targets_acm_certificate_becomes_the_services(
    written: str, expected: str | None
) -> None:
    """Where it is one; whatever else is written there stays open."""
    tls = f"tls: {{mode: STRICT, certificate: {{acm: {{certificateArn: '{written}'}}}}}}"
    nodes = NODES.replace("protocol: http}}]", f"protocol: http}}, {tls}}}]")
    routes = f"    routes:\n      - {http('all', '{prefix: /}')}\n"
    mesh = mesh_of(
        f"mesh: {{meshName: ml}}\n{nodes}{SERVICES}"
        "virtualRouters:\n  - virtualRouterName: labels\n"
        f"    spec: {{listeners: [{{portMapping: {{port: 80, protocol: http}}}}]}}\n{routes}"
    )
    assert only(desired(mesh), "service")["certificateArn"] == (expected or written)


def test_what_no_route_takes_is_answered_with_404() -> None:
    """As an Envoy answers what no route takes."""
    made = desired(routed(http("all", "{prefix: /v1}")))
    assert only(made, "listener")["defaultAction"] == {"fixedResponse": {"statusCode": 404}}


def test_a_route_without_any_weight_answers_by_itself() -> None:
    """Nobody gets its calls, and nobody else does either."""
    made = desired(routed(http("all", "{prefix: /}", "[{virtualNode: labels-v1, weight: 0}]")))
    assert only(made, "rule")["action"] == {"fixedResponse": {"statusCode": 500}}


LONG_PATH, LONG_VALUE = "/" + "x" * 200, "x" * 201
INEXPRESSIBLE = {
    "path regex": "{path: {regex: '/v[12]'}}",
    "path characters": "{prefix: '/a b'}",
    "path length": f"{{prefix: {LONG_PATH}}}",
    "header regex": "{prefix: /, headers: [{name: a, match: {regex: x}}]}",
    "header suffix": "{prefix: /, headers: [{name: a, match: {suffix: x}}]}",
    "header range": "{prefix: /, headers: [{name: a, match: {range: {start: 1, end: 2}}}]}",
    "header presence": "{prefix: /, headers: [{name: a}]}",
    "header inverted": "{prefix: /, headers: [{name: a, invert: true, match: {exact: x}}]}",
    "header length": f"{{prefix: /, headers: [{{name: a, match: {{exact: {LONG_VALUE}}}}}]}}",
    "six headers": "{prefix: /, headers: ["
    + ", ".join(f"{{name: h{n}, match: {{exact: x}}}}" for n in range(6))
    + "]}",
    "query": "{prefix: /, queryParameters: [{name: q}]}",
    "scheme": "{prefix: /, scheme: http}",
}


@pytest.mark.parametrize("match", INEXPRESSIBLE.values(), ids=INEXPRESSIBLE.keys())
def test_a_match_that_cannot_be_expressed_is_left_out_and_said(match: str) -> None:
    """It is not widened; the finding names who gets its requests instead."""
    made = desired(routed(http("odd", match, priority=1), http("rest", "{prefix: /}")))
    assert [it.body["tags"]["meshml:route"] for it in of_kind(made, "rule")] == ["rest"]  # type: ignore[index]
    (said,) = [it for it in made.problems if it.code == "lattice-rule-left-out"]
    assert said.path == "virtualRouters[labels].routes[odd]"
    assert said.what.endswith("; its requests fall to route rest, where it takes them, else on")


def test_five_headers_are_a_rule() -> None:
    """The most that Lattice takes, each by its value or prefix."""
    headers = ", ".join(f"{{name: h{n}, match: {{prefix: x}}}}" for n in range(5))
    made = desired(routed(http("all", f"{{prefix: /, headers: [{headers}]}}")))
    assert len(only(made, "rule")["match"]["httpMatch"]["headerMatches"]) == 5


def test_a_port_match_is_a_rule_of_that_ports_listener_alone() -> None:
    """A rule cannot ask for the port, and need not."""
    mesh = mesh_of(
        f"mesh: {{meshName: ml}}\n{NODES}{SERVICES}"
        "virtualRouters:\n"
        "  - virtualRouterName: labels\n"
        "    spec:\n"
        "      listeners:\n"
        "        - portMapping: {port: 8080, protocol: http}\n"
        "        - portMapping: {port: 8081, protocol: http}\n"
        f"    routes:\n      - {http('inner', '{prefix: /, port: 8081}')}\n"
    )
    made = desired(mesh)
    ports = {reference("listener", it.name): it.body["port"] for it in of_kind(made, "listener")}
    assert [ports[str(it.body["listenerIdentifier"])] for it in of_kind(made, "rule")] == [8081]


def test_more_rules_than_the_quota_are_planned_and_said() -> None:
    """AWS raises the quota when asked, so the rules stay."""
    routes = [http(f"r{n}", f"{{prefix: /{n}/}}") for n in range(MOST_RULES + 1)]
    made = desired(routed(*routes))
    assert len(of_kind(made, "rule")) == MOST_RULES + 1
    assert ("lattice-quota", "virtualRouters[labels].spec.listeners[0]") in codes(made)


_paths = st.sampled_from(["/", "/v1", "/v1/", "/v1/x", "/v2/x", "/V1/x"])
_values = st.sampled_from(["a", "ab", "b", "7"])
_header = st.one_of(
    st.tuples(st.sampled_from("xy"), st.sampled_from(["exact", "prefix"]), _values).map(
        lambda it: f"{{name: {it[0]}, match: {{{it[1]}: '{it[2]}'}}}}"
    ),
    st.sampled_from(["{name: x}", "{name: y, match: {regex: 'a.*'}}"]),
)


@st.composite
def _match(draw: st.DrawFn) -> str:
    path = draw(_paths)
    parts = [draw(st.sampled_from([f"prefix: {path}", f"path: {{exact: {path}}}"]))]
    if draw(st.booleans()):
        parts.append(f"method: {draw(st.sampled_from(['GET', 'POST']))}")
    headers = draw(st.lists(_header, max_size=2))
    if headers:
        parts.append(f"headers: [{', '.join(headers)}]")
    return f"{{{', '.join(parts)}}}"


@settings(max_examples=200, deadline=None)
@given(
    matches=st.lists(_match(), min_size=1, max_size=5),
    requests=st.lists(
        st.tuples(
            st.sampled_from(["GET", "POST"]),
            _paths,
            st.dictionaries(st.sampled_from("xy"), _values),
        ),
        min_size=1,
        max_size=10,
    ),
)
def test_a_rule_takes_what_its_route_takes_and_nothing_else(
    matches: list[str], requests: list[tuple[str, str, dict[str, str]]]
) -> None:
    """Among the routes that became rules, each request meets the same one on both planes."""
    mesh = routed(*(http(f"r{n}", match) for n, match in enumerate(matches)))
    made = desired(mesh)
    rules = of_kind(made, "rule")
    left_out = {it.path for it in made.problems if it.code == "lattice-rule-left-out"}
    routes = [
        route
        for route in ordered_routes(index(mesh).routers["labels"])
        if f"virtualRouters[labels].routes[{route.route_name}]" not in left_out
    ]
    for method, path, headers in requests:
        rule = rule_taking(rules, method=method, path=path, headers=headers)
        route = _taken(routes, method, path, headers)
        tags = cast("dict[str, str]", rule.body["tags"]) if rule else {}
        assert tags.get("meshml:route") == (route.route_name if route else None)


def _taken(routes: list[Route], method: str, path: str, headers: dict[str, str]) -> Route | None:
    taking = (it for it in routes if route_takes(it, method=method, path=path, headers=headers))
    return next(taking, None)


# --- plans ------------------------------------------------------------------------------------


def test_a_second_plan_on_what_the_first_made_changes_nothing() -> None:
    """What is there as wanted is kept."""
    resources = [step.resource for step in desired(routed(http("all", "{prefix: /}"))).plan.steps]
    assert {step.action for step in diff(resources, resources).steps} == {"keep"}


def test_what_nobody_wants_any_more_goes_last_and_dependants_first() -> None:
    """A rule's target group outlives the rule."""
    group = Resource(kind="target-group", name="a", body={})
    rule = Resource(kind="rule", name="r", body={"group": reference("target-group", "a")})
    kept = Resource(kind="service", name="s", body={})
    steps = diff([kept], [group, rule]).steps
    assert [(step.action, step.resource.name) for step in steps] == [
        ("create", "s"),
        ("delete", "r"),
        ("delete", "a"),
    ]


def test_resources_that_wait_for_one_another_are_refused() -> None:
    """No order would do."""
    one = Resource(kind="rule", name="a", body={"x": reference("rule", "b")})
    other = Resource(kind="rule", name="b", body={"x": reference("rule", "a")})
    with pytest.raises(ValueError, match="rule/a → rule/b → rule/a"):
        diff([one, other])


# --- the report -------------------------------------------------------------------------------


def test_every_finding_has_its_line() -> None:
    """Findings point into the mesh file, in its order."""
    loaded = read_mesh(EVERY_FIELD)
    report = plan_report(loaded, cast("Mesh", loaded.mesh))
    lines = [int(found.where.split(":")[1].split()[0]) for found in report.findings]
    assert lines
    assert lines == sorted(lines)
    assert min(lines) > 1


def test_the_json_document_holds_all_that_is_needed_to_carry_it_out() -> None:
    """Steps with bodies in order, open values, findings, the price."""
    loaded = read_mesh(EVERY_FIELD)
    document = json.loads(json.dumps(plan_report(loaded, cast("Mesh", loaded.mesh)).to_json()))
    assert set(document) == {
        "plane",
        "mesh",
        "mesh_version",
        "steps",
        "unknowns",
        "unused",
        "findings",
        "estimate",
    }
    assert set(document["steps"][0]) == {"action", "kind", "name", "key", "needs", "body"}
    assert document["unknowns"]["VPC_ID"] == "the VPC in which the targets run"


def test_parameters_of_the_mesh_file_stay_open_values() -> None:
    """A mesh with named unknowns can be planned."""
    text = EXAMPLE.read_text(encoding="utf-8").replace("meshName: ml", "meshName: 'ml-${ENV}'")
    loaded = load_mesh(text.replace("{secretName: ml}", "{secretName: 'ml-${ENV}'}"), source="m")
    assert loaded.mesh is not None
    assert "ENV" in plan_report(loaded, loaded.mesh).made.unknowns
