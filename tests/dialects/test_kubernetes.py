"""Definitions of v1beta2: names, meshes, gateways, references, and what a cluster alone keeps."""

import pytest

from meshml_dbx.dialects.import_files import Wanted, import_files
from meshml_dbx.dialects.sources import Source
from meshml_dbx.findings import Severity
from tests.dialects.manifests import EXAMPLES, Manifests, read_files, read_texts, shown

NODE = """
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"""
MESH = """
apiVersion: appmesh.k8s.aws/v1beta2
kind: Mesh
metadata: {{name: {name}}}
spec: {{namespaceSelector: {selector}}}
"""
NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {{name: {name}, labels: {labels}}}
"""


def node(name: str = "a", namespace: str = "ml", spec: str = "{}") -> str:
    """A virtual node."""
    return NODE.format(name=name, namespace=namespace, spec=spec)


def mesh(name: str = "churn", selector: str = "{}") -> str:
    """A mesh and its selector."""
    return MESH.format(name=name, selector=selector)


def namespace(name: str = "ml", labels: str = "{}") -> str:
    """A namespace and its labels."""
    return NAMESPACE.format(name=name, labels=labels)


def churn() -> Manifests:
    """The example: two meshes, cross-namespace references, two gateways, a backend group."""
    return read_files(EXAMPLES / "kubernetes-cluster.yaml", EXAMPLES / "kubernetes-churn.yaml")


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "resource", "name"),
    [
        ("Mesh", "mesh", "a"),
        ("VirtualNode", "virtualNode", "a_ml"),
        ("VirtualService", "virtualService", "a.ml"),
        ("VirtualRouter", "virtualRouter", "a_ml"),
        ("VirtualGateway", "virtualGateway", "a_ml"),
        ("GatewayRoute", "gatewayRoute", "a_ml"),
        ("BackendGroup", "backendGroup", "a_ml"),
    ],
)
def test_each_kind_has_its_rule_for_names_in_aws(kind: str, resource: str, name: str) -> None:
    """The controller named what it made after the object and its namespace."""
    found = read_texts(node().replace("VirtualNode", kind))
    assert found.names(resource) == [name]


@pytest.mark.parametrize(("given", "name"), [("features.local", "features.local"), ('""', "a_ml")])
def test_a_name_that_is_given_wins_unless_it_is_empty(given: str, name: str) -> None:
    """awsName is the name; the webhook took an empty one for none."""
    assert read_texts(node(spec=f"{{awsName: {given}}}")).names("virtualNode") == [name]


def test_an_unknown_stays_in_the_names_made_from_it() -> None:
    """A parameter without a value is part of every name that its namespace is part of."""
    found = read_texts(node(name="red", namespace="'${APP_NAMESPACE}'"))
    assert found.names("virtualNode") == ["red_${APP_NAMESPACE}"]


def test_a_name_keeps_the_place_of_the_object_s_name() -> None:
    """A finding about the name leads to the line where it is written."""
    (found,) = read_texts(node()).resources
    assert found.name
    assert str(found.name.place) == "a.yaml:4 metadata.name"


def test_without_a_namespace_it_is_default_and_said_once() -> None:
    """Where it would be applied is not written in the file, so one finding tells of all."""
    bare = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\nmetadata: {name: %s}\n"
    found = read_texts(bare % "a", bare % "b", mesh())
    assert (found.names("virtualNode"), found.whats("kubernetes-default-namespace")) == (
        ["a_default", "b_default"],
        ["VirtualNode a and 1 more are taken to be in namespace default"],
    )


# --- meshes -----------------------------------------------------------------------------------


def test_a_namespace_s_labels_choose_the_mesh() -> None:
    """Each mesh selects namespaces; nodes of one name in two of them are two nodes."""
    found = churn()
    assert {
        shown(one.name): shown(one.mesh) for one in found.resources if one.kind == "virtualNode"
    } == {
        "features-v1_features": "churn-prod",
        "training_training": "churn-prod",
        "training_search": "search",
    }


def test_a_reference_to_a_mesh_wins_over_selectors() -> None:
    """An exported object carries the mesh that the webhook chose."""
    refers = node(spec="{meshRef: {name: other, uid: 1b-3c}}")
    found = read_texts(mesh(), mesh("other", "{matchLabels: {a: b}}"), refers)
    assert (shown(found.one("virtualNode", "a_ml").mesh), found.leftovers) == ("other", ())


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("{}", "churn"),
        ("{matchLabels: {team: ml}}", "churn"),
        ("{matchLabels: {team: ml, stage: prod}}", None),
        ("{matchLabels: {kubernetes.io/metadata.name: ml}}", "churn"),
        ("{matchExpressions: [{key: team, operator: In, values: [a, ml]}]}", "churn"),
        ("{matchExpressions: [{key: team, operator: NotIn, values: [ml]}]}", None),
        ("{matchExpressions: [{key: team, operator: Exists}]}", "churn"),
        ("{matchExpressions: [{key: team, operator: DoesNotExist}]}", None),
        ("{matchExpressions: [{key: team, operator: Near, values: [ml]}]}", None),
        ("{matchExpressions: [ml]}", None),
        ("null", None),
        ("ml", None),
    ],
)
def test_a_selector_is_kubernetes_own(selector: str, chosen: str | None) -> None:
    """Both kinds of requirement hold together; none at all selects nothing, an empty one all."""
    never = mesh("never", "{matchLabels: {no: such}}")
    found = read_texts(mesh("churn", selector), never, namespace("ml", "{team: ml}"), node())
    unclear = [] if chosen else ["no mesh takes the namespace ml"]
    assert (
        shown(found.one("virtualNode", "a_ml").mesh),
        found.whats("kubernetes-mesh-unclear"),
    ) == (chosen, unclear)


def test_the_only_mesh_takes_what_no_selector_takes() -> None:
    """With a namespace whose labels are known it is doubtful, and said; else it is likely."""
    labelled = read_texts(mesh(selector="{matchLabels: {a: b}}"), namespace(), node())
    unknown = read_texts(mesh(selector="{matchLabels: {a: b}}"), node(), node("b"))
    assert (
        shown(labelled.one("virtualNode", "a_ml").mesh),
        labelled.places("kubernetes-not-selected"),
        shown(unknown.one("virtualNode", "a_ml").mesh),
        unknown.places("kubernetes-not-selected"),
    ) == ("churn", ["c.yaml:4 metadata.name"], "churn", [])


def test_two_meshes_that_take_one_namespace_are_said_once_for_it() -> None:
    """The webhook refused such a definition; the finding names both."""
    found = read_texts(mesh("x"), mesh("y"), node(), node("b"))
    assert found.whats("kubernetes-mesh-unclear") == ["Mesh x and Mesh y take the namespace ml"]


def test_a_mesh_s_own_fields_are_renamed() -> None:
    """The kind says meshServiceDiscovery where the API says serviceDiscovery."""
    found = churn()
    one = found.one("mesh", "churn-prod")
    assert (found.spec("mesh", "churn-prod"), [(key, shown(it)) for key, it in one.fields]) == (
        {
            "egressFilter": {"type": "ALLOW_ALL"},
            "serviceDiscovery": {"ipPreference": "IPv4_ONLY"},
        },
        [("meshOwner", "123456789012")],
    )


# --- references -------------------------------------------------------------------------------


def test_references_lead_across_files_and_namespaces() -> None:
    """What is referred to is called as its own definition says."""
    found = churn()
    assert (
        found.spec("virtualService", "features.ml.local"),
        found.spec("virtualService", "labels.training"),
    ) == (
        {"provider": {"virtualRouter": {"virtualRouterName": "features_features"}}},
        {"provider": {"virtualNode": {"virtualNodeName": "features-v1_features"}}},
    )


def test_backends_name_services_by_reference_or_by_arn() -> None:
    """An ARN's last part is the name; a client policy keeps its place and gets API spelling."""
    spec = churn().spec("virtualNode", "training_training")
    assert isinstance(spec, dict)
    authority = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/9f"
    trust = {"acm": {"certificateAuthorityArns": [authority]}}
    assert spec["backends"] == [
        {
            "virtualService": {
                "virtualServiceName": "features.ml.local",
                "clientPolicy": {"tls": {"validation": {"trust": trust}}},
            }
        },
        {"virtualService": {"virtualServiceName": "labels.ecs.local"}},
    ]


def test_a_route_s_targets_are_named_and_priority_zero_is_kept() -> None:
    """Routes stand inside routers here; each becomes a resource under its router."""
    found = churn()
    one = found.one("route", "main")
    assert (shown(one.parent), shown(one.mesh), found.spec("route", "main")) == (
        "features_features",
        "churn-prod",
        {
            "priority": 0,
            "httpRoute": {
                "match": {"prefix": "/"},
                "action": {
                    "weightedTargets": [
                        {"virtualNode": "features-v1_features", "weight": 9, "port": 8080},
                        {"virtualNode": "features-on-ecs", "weight": 1},
                    ]
                },
                "retryPolicy": {
                    "maxRetries": 2,
                    "perRetryTimeout": {"value": 2, "unit": "s"},
                    "httpRetryEvents": ["gateway-error"],
                },
            },
        },
    )


def test_a_reference_to_what_no_file_defines_still_gets_its_name() -> None:
    """So check can say that nothing carries the name, at the place of the reference."""
    spec = "{backends: [{virtualService: {virtualServiceRef: {name: gone, namespace: far}}}]}"
    found = read_texts(node(spec=spec))
    assert found.spec("virtualNode", "a_ml") == {
        "backends": [{"virtualService": {"virtualServiceName": "gone.far"}}]
    }


def test_a_certificate_s_arn_is_spelt_as_the_api_spells_it() -> None:
    """Kubernetes writes the acronym in capitals."""
    spec = churn().spec("virtualNode", "features-v1_features")
    assert isinstance(spec, dict)
    assert spec["listeners"][0]["tls"]["certificate"] == {
        "acm": {"certificateArn": "arn:aws:acm:eu-west-1:123456789012:certificate/1b3c"}
    }


# --- gateways ---------------------------------------------------------------------------------


def test_a_gateway_route_goes_to_the_gateway_whose_selectors_take_it() -> None:
    """Both gateways take the namespace; the route's own labels tell them apart."""
    found = churn()
    assert {
        shown(one.name): shown(one.parent) for one in found.resources if one.kind == "gatewayRoute"
    } == {"front_features": "public_features", "back_features": "partners_features"}


GATEWAY = """
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualGateway
metadata: {{name: {name}, namespace: edge}}
spec: {spec}
"""
GATEWAY_ROUTE = """
apiVersion: appmesh.k8s.aws/v1beta2
kind: GatewayRoute
metadata: {{name: r, namespace: ml}}
spec: {spec}
"""


def test_a_reference_to_a_gateway_wins_over_selectors() -> None:
    """An exported route carries the gateway that the webhook chose."""
    gateways = [GATEWAY.format(name=name, spec="{namespaceSelector: {}}") for name in "xy"]
    route = GATEWAY_ROUTE.format(spec="{virtualGatewayRef: {name: y, namespace: edge, uid: 1}}")
    found = read_texts(mesh(), *gateways, route)
    assert (shown(found.one("gatewayRoute", "r_ml").parent), found.leftovers) == ("y_edge", ())


def test_several_gateways_that_take_a_route_are_named() -> None:
    """The webhook refused such a route; guessing one would send traffic elsewhere."""
    gateways = [GATEWAY.format(name=name, spec="{namespaceSelector: {}}") for name in "xy"]
    found = read_texts(mesh(), *gateways, GATEWAY_ROUTE.format(spec="{}"))
    assert (
        found.one("gatewayRoute", "r_ml").parent,
        found.whats("kubernetes-gateway-unclear"),
    ) == (
        None,
        ["VirtualGateway edge/x and VirtualGateway edge/y take GatewayRoute ml/r"],
    )


def test_the_only_gateway_takes_a_route_whose_namespace_is_not_in_the_files() -> None:
    """The labels that it selects by are not known, and there is no other."""
    gateway = GATEWAY.format(name="x", spec="{namespaceSelector: {matchLabels: {a: b}}}")
    found = read_texts(mesh(), gateway, GATEWAY_ROUTE.format(spec="{}"))
    assert shown(found.one("gatewayRoute", "r_ml").parent) == "x_edge"


# --- backend groups ---------------------------------------------------------------------------


def test_backend_groups_become_names_and_a_star_becomes_a_list() -> None:
    """A star meant every service of a namespace; the list has those that the files have."""
    found = churn()
    spec = found.spec("virtualNode", "training_training")
    assert isinstance(spec, dict)
    assert (
        spec["backendGroups"],
        found.spec("backendGroup", "stores_training"),
        found.spec("backendGroup", "ALL_features"),
        found.places("kubernetes-every-service"),
    ) == (
        ["stores_training", "ALL_features"],
        {"virtualServices": ["features.ml.local", "labels.training"]},
        {"virtualServices": ["features.ml.local"]},
        ["kubernetes-churn.yaml:48 [1].spec.backendGroups[1].name"],
    )


def test_a_second_star_for_a_namespace_makes_no_second_list() -> None:
    """A thousand nodes with a star share one group."""
    found = read_texts(
        mesh(), *(node(name, spec="{backendGroups: [{name: '*'}]}") for name in "ab")
    )
    assert found.names("backendGroup") == ["ALL_ml"]


# --- lists, other objects, exports ------------------------------------------------------------


def test_lists_are_taken_apart_whether_or_not_items_say_their_kind() -> None:
    """kubectl prints a List of whole objects; the API's own lists leave version and kind out."""
    items = "\n  ".join(node().strip().splitlines())
    whole = f"apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: ''}}\nitems:\n- {items}\n"
    typed = (
        "apiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNodeList\n"
        "items: [{metadata: {name: b, namespace: ml}}]\n"
    )
    found = read_texts(whole, typed)
    assert (found.names("virtualNode"), found.leftovers) == (["a_ml", "b_ml"], ())


def test_what_a_cluster_alone_keeps_is_named_and_left() -> None:
    """An exported object has labels, annotations and a status beside its spec."""
    exported = """
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata:
  name: a
  namespace: ml
  uid: 1b-3c
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}"}
spec:
  podSelector: {matchLabels: {app: a}}
status:
  conditions: [{type: VirtualNodeActive, status: "True"}]
"""
    found = read_texts(mesh(selector="null"), exported)
    assert (
        found.places("kubernetes-metadata"),
        found.places("kubernetes-selector"),
        found.leftovers,
    ) == (
        ["b.yaml:7 metadata.uid", "b.yaml:11 status"],
        ["a.yaml:5 spec.namespaceSelector", "b.yaml:10 spec.podSelector"],
        (),
    )


def test_objects_that_are_no_part_of_a_mesh_are_named_one_by_one() -> None:
    """A manifest holds deployments and services too; none is passed over in silence."""
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
    route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n"
    found = read_texts(service, route)
    assert (found.whats("kubernetes-object"), found.leftovers) == (
        ["Service web is no part of a mesh", "HTTPRoute r is no part of a mesh"],
        (),
    )


ROUTER = """
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualRouter
metadata: {{name: r, namespace: ml}}
spec:
  routes: {routes}
"""


def test_a_definition_that_is_applied_again_takes_the_place_of_the_first() -> None:
    """As in a cluster: the later spec counts whole, so a route that it lacks is gone."""
    first = ROUTER.format(routes="[{name: old, tcpRoute: {}}, {name: both, tcpRoute: {}}]")
    later = ROUTER.format(routes="[{name: both, tcpRoute: {}}, {name: new, tcpRoute: {}}]")
    found = read_texts(mesh(), first, later)
    assert (
        [(shown(one.name), one.replaces) for one in found.resources if one.kind == "route"],
        found.places("kubernetes-applied-again"),
        found.leftovers,
    ) == (
        [("both", False), ("both", True), ("new", False)],
        ["c.yaml:4 metadata.name"],
        (),
    )


# --- the whole way ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "mesh_name", "errors"),
    [
        (["kubernetes-v1beta1.yaml"], "churn", []),
        (
            ["kubernetes-cluster.yaml", "kubernetes-churn.yaml"],
            "churn-prod",
            [
                "there is no virtual node features-on-ecs; did you mean features-v1_features?",
                "there is no virtual service labels.ecs.local",
            ],
        ),
    ],
)
def test_the_examples_become_a_mesh(files: list[str], mesh_name: str, errors: list[str]) -> None:
    """Only what is told by ARN, and lives outside the cluster, is missing."""
    sources = [Source(name=name, raw=(EXAMPLES / name).read_bytes(), named=True) for name in files]
    found = import_files(sources, Wanted(mesh_name=mesh_name))
    assert found.mesh
    said = [*found.findings, *found.checked]
    assert sorted(one.what for one in said if one.severity is Severity.ERROR) == errors
    assert "import-leftover" not in {one.code for one in said}
