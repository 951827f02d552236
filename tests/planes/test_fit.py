"""What each way out keeps, approximates and drops: every part of a mesh, on every plane, once."""

import json
import re
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import Phase, given, settings

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.mesh.load import LoadedMesh, load_mesh, read_mesh
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.mesh.write import mesh_to_yaml
from meshml_dbx.planes.fit import PLANES, Fit, count, fit, topics
from meshml_dbx.planes.fit_report import fit_report
from meshml_dbx.planes.lattice import desired
from tests.mesh.any_mesh import any_mesh, connected
from tests.mesh.ml_example import EVERY_FIELD, EXAMPLE, mesh_of
from tests.planes.served_mesh import served_mesh

# What fails tells itself by its path; shrinking a whole mesh takes minutes.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)


def leaves(loaded: LoadedMesh) -> list[str]:
    """Every path of a mesh file that has no other path inside it, as ``load`` knows them."""
    inner = {_around(path) for path in loaded.lines}
    return [path for path in loaded.lines if path and path not in inner]


def _around(path: str) -> str:
    """The path one step out: without its last field, or its last entry."""
    return re.sub(r"(\.[^.\[\]]+|\[[^\[\]]*\])$", "", path) if re.search(r"[.\[]", path) else ""


def covering(leaf: str, rows: dict[str, Fit]) -> list[str]:
    """The rows that stand for a leaf: its own, or one around it."""
    return [path for path in _outwards(leaf) if path in rows]


def _outwards(path: str) -> Iterator[str]:
    for end in [*(found.start() for found in re.finditer(r"[.\[]", path)), len(path)]:
        yield path[:end]


def uncovered(loaded: LoadedMesh) -> list[tuple[str, str, list[str]]]:
    """The leaves that have no row on a plane, or more than one."""
    rows = fit(cast("Mesh", loaded.mesh))
    found: list[tuple[str, str, list[str]]] = []
    for plane in PLANES:
        of_plane = {row.path: row for row in rows if row.plane == plane}
        for leaf in leaves(loaded):
            over = covering(leaf, of_plane)
            if len(over) != 1:
                found.append((plane, leaf, over))
    return found


def verdict(mesh: Mesh, plane: str, path: str) -> tuple[str, str]:
    """What a plane makes of a path, and the word for what is lost."""
    rows = {row.path: row for row in fit(mesh) if row.plane == plane}
    (over,) = covering(path, rows)
    return rows[over].verdict, rows[over].topic


def every_field() -> Mesh:
    """The example in which each field occurs."""
    return cast("Mesh", read_mesh(EVERY_FIELD).mesh)


# --- every part -------------------------------------------------------------------------------


def test_every_written_leaf_has_one_verdict_on_each_plane() -> None:
    """In a file that holds each field, nothing is without a row, and nothing has two."""
    text = EVERY_FIELD.read_text(encoding="utf-8")
    without_empty = text.replace("      backends: []\n", "").replace(
        "      backendGroups: []\n", ""
    )
    assert uncovered(load_mesh(without_empty, source="mesh.yml")) == []


@settings(max_examples=80, deadline=None, phases=NO_SHRINKING)
@given(any_mesh() | any_mesh().map(connected) | served_mesh())
def test_every_leaf_of_any_mesh_has_one_verdict_on_each_plane(mesh: Mesh) -> None:
    """Whatever a mesh declares, and whether its names lead anywhere or not."""
    assert uncovered(load_mesh(mesh_to_yaml(mesh), source="mesh.yml")) == []


@settings(max_examples=60, deadline=None, phases=NO_SHRINKING)
@given(served_mesh() | any_mesh().map(connected))
def test_whatever_is_not_kept_says_why_and_whatever_is_dropped_what_next(mesh: Mesh) -> None:
    """A verdict alone helps nobody."""
    rows = fit(mesh)
    assert [row for row in rows if row.verdict != "kept" and not (row.why and row.topic)] == []
    assert [row for row in rows if row.verdict == "dropped" and not row.advice] == []


def test_rows_grow_as_the_mesh_does() -> None:
    """Each further service brings as many rows as the one before."""
    counts = [len(fit(many_services(number))) for number in (1, 11, 21)]
    assert counts[2] - counts[1] == counts[1] - counts[0] > 0


def many_services(number: int) -> Mesh:
    """A mesh of that many services alike, each with its router and node."""
    nodes, routers, services = "", "", ""
    for one in range(number):
        nodes += (
            f"  - virtualNodeName: n{one}\n"
            "    spec:\n"
            "      listeners: [{portMapping: {port: 80, protocol: http}}]\n"
            f"      serviceDiscovery: {{dns: {{hostname: n{one}.example.com}}}}\n"
        )
        routers += (
            f"  - virtualRouterName: r{one}\n"
            "    spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}\n"
            "    routes:\n"
            "      - routeName: all\n"
            "        spec:\n"
            "          httpRoute:\n"
            "            match: {prefix: /, headers: [{name: a, match: {regex: x}}]}\n"
            f"            action: {{weightedTargets: [{{virtualNode: n{one}, weight: 1}}]}}\n"
        )
        provider = f"{{virtualRouter: {{virtualRouterName: r{one}}}}}"
        services += (
            f"  - {{virtualServiceName: s{one}.example.com, spec: {{provider: {provider}}}}}\n"
        )
    return mesh_of(
        f"mesh: {{meshName: ml}}\nvirtualNodes:\n{nodes}"
        f"virtualRouters:\n{routers}virtualServices:\n{services}"
    )


# --- what each plane makes of what ------------------------------------------------------------

ROUTE, OTHER = "virtualRouters[labels].routes[all]", "virtualRouters[labels].routes[one]"
HTTP = f"{ROUTE}.spec.httpRoute"
NODE = "virtualNodes[labels].spec"
TLS = f"{NODE}.listeners[0].tls"
CALLS = "clients[nightly].spec.backends[0].virtualService"
STREAMS = "virtualNodes[streams].spec"

KEPT = ("kept", "")
VERDICTS = [
    ("envoy", f"{HTTP}.retryPolicy.maxRetries", KEPT),
    ("envoy", f"{HTTP}.match.headers[3].match.regex", KEPT),
    ("envoy", f"{NODE}.listeners[0].outlierDetection.maxServerErrors", KEPT),
    ("envoy", f"{CALLS}.clientPolicy.tls.enforce", ("approximated", "optional TLS")),
    ("envoy", "mesh.spec.egressFilter.type", KEPT),
    (
        "envoy",
        f"{STREAMS}.listeners[0].tls.certificate.acm.certificateArn",
        ("dropped", "ACM certificates"),
    ),
    (
        "envoy",
        "clients[cloud].spec.backends[0].virtualService.clientPolicy.tls.validation.trust.acm",
        ("dropped", "ACM authorities"),
    ),
    (
        "envoy",
        f"{STREAMS}.serviceDiscovery.awsCloudMap.attributes[0].value",
        ("dropped", "Cloud Map attributes"),
    ),
    ("envoy", f"{STREAMS}.serviceDiscovery.awsCloudMap.serviceName", ("approximated", "Cloud Map")),
    ("lattice", f"{HTTP}.retryPolicy.maxRetries", ("dropped", "retries")),
    (
        "lattice",
        f"{HTTP}.match.headers[3].match.regex",
        ("dropped", "header matches"),
    ),
    (
        "lattice",
        f"{HTTP}.match.queryParameters[0].name",
        ("dropped", "query matches"),
    ),
    ("lattice", f"{HTTP}.match.scheme", ("dropped", "scheme matches")),
    (
        "lattice",
        f"{HTTP}.action.weightedTargets[0].weight",
        ("dropped", "rules that cannot be expressed"),
    ),
    (
        "lattice",
        f"{HTTP}.timeout.perRequest.value",
        ("dropped", "request time-outs"),
    ),
    ("lattice", f"{OTHER}.spec.httpRoute.match.path.exact", KEPT),
    ("lattice", f"{OTHER}.spec.httpRoute.action.weightedTargets[0].weight", KEPT),
    ("lattice", f"{NODE}.listeners[0].connectionPool", ("dropped", "connection pools")),
    ("lattice", f"{NODE}.listeners[0].outlierDetection", ("dropped", "outlier detection")),
    ("lattice", f"{NODE}.listeners[0].healthCheck.path", ("approximated", "health checks")),
    ("lattice", f"{TLS}.validation.trust.sds.secretName", ("dropped", "mutual TLS")),
    ("lattice", f"{CALLS}.clientPolicy.tls.certificate", ("dropped", "client certificates")),
    ("lattice", f"{CALLS}.virtualServiceName", ("approximated", "backends")),
    (
        "lattice",
        f"{STREAMS}.listeners[1].portMapping.protocol",
        ("approximated", "HTTP/2 and gRPC"),
    ),
    ("lattice", f"{STREAMS}.listeners[2].portMapping.protocol", ("approximated", "TCP")),
    ("lattice", "virtualNodes[judge].spec.listeners[0]", ("dropped", "nodes outside")),
    ("lattice", "virtualServices[judge].spec.provider", ("dropped", "services")),
    ("lattice", "virtualGateways[front].gatewayRoutes[labels]", ("dropped", "gateways")),
    ("lattice", "mesh.spec.egressFilter.type", ("dropped", "the egress filter")),
    ("lattice", "injectedDefaults", ("dropped", "injected defaults")),
    ("service-connect", "clients[nightly].clientName", ("dropped", "clients")),
    ("service-connect", "clients[nightly].databricks.job", ("dropped", "clients")),
    ("service-connect", f"{HTTP}.retryPolicy", ("approximated", "retries")),
    ("service-connect", f"{HTTP}.match.prefix", ("dropped", "matches")),
    ("service-connect", f"{NODE}.listeners[0].timeout.http.perRequest", KEPT),
    (
        "service-connect",
        f"{HTTP}.timeout.perRequest",
        ("approximated", "time-outs"),
    ),
    ("service-connect", f"{TLS}.validation", ("dropped", "mutual TLS")),
    (
        "service-connect",
        f"{NODE}.backends[0].virtualService.virtualServiceName",
        ("dropped", "backends"),
    ),
    ("service-connect", "virtualServices[labels].virtualServiceName", KEPT),
]


@pytest.mark.parametrize(("plane", "path", "expected"), VERDICTS)
def test_verdicts_are_those_of_the_planes_documentation(
    plane: str, path: str, expected: tuple[str, str]
) -> None:
    """The table of what each successor has, held against a mesh with each field."""
    assert verdict(every_field(), plane, path) == expected


@settings(max_examples=60, deadline=None, phases=NO_SHRINKING)
@given(served_mesh())
def test_lattices_verdict_on_routes_agrees_with_its_plan(mesh: Mesh) -> None:
    """A route is kept exactly if the plan has a rule of it, or a TCP resource takes its place."""
    made = desired(mesh)
    if not made.count("service"):
        return
    tags = [
        cast("dict[str, str]", step.resource.body["tags"])
        for step in made.plan.steps
        if step.resource.kind == "rule"
    ]
    kept = {
        row.path
        for row in fit(mesh, ("lattice",))
        if row.path.endswith(".routeName") and row.verdict != "dropped"
    }
    routed = {
        f"virtualRouters[router].routes[{it.route_name}].routeName"
        for it in mesh.virtual_routers[0].routes
        if it.spec.tcp_route is None
    }
    ruled = {f"virtualRouters[router].routes[{it['meshml:route']}].routeName" for it in tags}
    assert ruled <= kept
    assert not ruled or kept & routed == ruled


def test_an_eleventh_rule_is_kept_but_over_the_quota() -> None:
    """AWS raises that quota when asked."""
    routes = "".join(
        f"      - {{routeName: r{n}, spec: {{httpRoute: {{match: {{prefix: /{n}/}}, "
        "action: {weightedTargets: [{virtualNode: a, weight: 1}]}}}}\n"
        for n in range(10, 21)
    )
    mesh = mesh_of(
        "mesh: {meshName: ml}\n"
        "virtualNodes:\n"
        "  - virtualNodeName: a\n"
        "    spec:\n"
        "      listeners: [{portMapping: {port: 80, protocol: http}}]\n"
        "      serviceDiscovery: {dns: {hostname: a.example.com}}\n"
        "virtualServices:\n"
        "  - {virtualServiceName: a.b, spec: {provider: {virtualRouter: {virtualRouterName: r}}}}\n"
        "virtualRouters:\n"
        "  - virtualRouterName: r\n"
        "    spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}\n"
        f"    routes:\n{routes}"
    )
    over = [row for row in fit(mesh, ("lattice",)) if row.topic == "rules over the quota"]
    assert [row.path for row in over] == ["virtualRouters[r].routes[r20].routeName"]


def test_a_mesh_without_anything_special_goes_over_to_an_envoy_whole() -> None:
    """The example of the documentation loses nothing but tags on an Envoy of one's own."""
    rows = fit(cast("Mesh", read_mesh(EXAMPLE).mesh), ("envoy",))
    assert set(topics(rows, "envoy", "dropped")) <= {"tags"}


def test_an_envoy_of_ones_own_drops_requests_and_no_tunnels() -> None:
    """DROP_ALL holds for what the proxy can read: https passes unopened, to whatever host."""
    mesh = mesh_of("mesh: {meshName: ml, spec: {egressFilter: {type: DROP_ALL}}}")
    assert verdict(mesh, "envoy", "mesh.spec.egressFilter.type") == (
        "approximated",
        "the egress filter",
    )


def test_listeners_of_one_protocol_share_a_gateways_pool() -> None:
    """A cluster has one pool, whichever listener its calls came by; other protocols have theirs."""
    pool = "connectionPool: {http: {maxConnections: 2}}"
    mesh = mesh_of(
        "mesh: {meshName: ml}\n"
        "virtualGateways:\n"
        "  - virtualGatewayName: edge\n"
        "    spec:\n"
        "      listeners:\n"
        f"        - {{portMapping: {{port: 80, protocol: http}}, {pool}}}\n"
        f"        - {{portMapping: {{port: 81, protocol: http}}, {pool}}}\n"
        "        - portMapping: {port: 82, protocol: grpc}\n"
        "          connectionPool: {grpc: {maxRequests: 2}}\n"
    )
    listeners = [f"virtualGateways[edge].spec.listeners[{at}].connectionPool" for at in range(3)]
    shared = ("approximated", "connection pools")
    assert [verdict(mesh, "envoy", path) for path in listeners] == [shared, shared, KEPT]


# --- the report -------------------------------------------------------------------------------


def test_the_summary_counts_and_names_what_decides() -> None:
    """One line for each plane says how much is lost and most of what."""
    loaded = read_mesh(EVERY_FIELD)
    report = fit_report(loaded, every_field())
    lattice = report.summary()[2]
    lost = count(report.rows, "lattice")["dropped"]
    assert re.fullmatch(rf"VPC Lattice: \d+ kept, \d+ approximated, {lost} dropped: .*", lattice)
    assert "more" in lattice


def test_it_is_said_that_databricks_is_never_inside_service_connect() -> None:
    """Whatever the mesh holds."""
    loaded = load_mesh("mesh: {meshName: ml}", source="mesh.yml")
    report = fit_report(loaded, cast("Mesh", loaded.mesh), ("service-connect",))
    assert "a Databricks job is never inside Service Connect" in report.summary()[1]


def test_the_table_has_a_column_for_each_plane_and_each_leaf_once() -> None:
    """Planes rule on parts of different size; the table is cut where any of them is."""
    loaded = read_mesh(EVERY_FIELD)
    report = fit_report(loaded, every_field())
    places = [re.sub(r"\n +", "", row[0]) for row in report.every_row()]
    shown = [re.sub(r"^\d+: | \(by default\)$", "", place) for place in places]
    parts = set(shown)
    empty = {"virtualNodes[features].spec.backends", "virtualNodes[features].spec.backendGroups"}
    over = [sum(out in parts for out in _outwards(leaf)) for leaf in {*leaves(loaded)} - empty]
    assert (len(parts), set(over)) == (len(shown), {1})
    assert {len(row) for row in report.every_row()} == {1 + len(PLANES)}


def test_a_long_place_is_told_over_several_lines_broken_at_its_dots() -> None:
    """So that a narrow terminal breaks no name apart."""
    report = fit_report(read_mesh(EVERY_FIELD), every_field())
    lines = [line for row in report.every_row() for line in row[0].split("\n")]
    steps = [re.sub(r"\[[^]]*\]", "", line) for line in lines]
    assert any(line.startswith("  .") for line in lines)
    assert all(step.strip(" .").count(".") <= 1 for step in steps if len(step) > 44)


def test_groups_hold_each_part_that_some_plane_does_not_keep() -> None:
    """The table for eyes is shorter, and nothing falls out of it."""
    report = fit_report(read_mesh(EVERY_FIELD), every_field())
    grouped = [re.search(r"\nand (\d+) more$", where) for where, *_ in report.grouped_rows()]
    sizes = [int(found[1]) + 1 if found else 1 for found in grouped]
    lossy = [row for row in report.every_row() if not all(it.startswith("kept") for it in row[1:])]
    assert sum(sizes) == len(lossy)
    assert len(sizes) < len(lossy)


def test_rows_have_their_lines_and_all_of_them_are_in_the_json() -> None:
    """Each row points into the mesh file."""
    loaded = read_mesh(EVERY_FIELD)
    report = fit_report(loaded, every_field())
    document = json.loads(json.dumps(report.to_json()))
    assert len(document["fits"]) == len(report.rows)
    retries = f"{HTTP}.retryPolicy"
    (row,) = [it for it in document["fits"] if (it["path"], it["plane"]) == (retries, "lattice")]
    assert row["line"] == loaded.line_of(retries)
    assert row["where"] == f"{loaded.source}:{row['line']} {retries}"
    assert [it["plane"] for it in document["planes"]] == list(PLANES)


def test_an_unknown_plane_is_refused_with_those_that_there_are() -> None:
    """A misspelt plane is no empty table."""
    loaded = read_mesh(EVERY_FIELD)
    with pytest.raises(UnknownNameError, match="there is no plane istio"):
        fit_report(loaded, every_field(), ("istio",))
