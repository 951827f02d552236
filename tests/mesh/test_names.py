"""Names: who has one, who calls whom by it, and what peers know it as."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import Mesh
from tests.mesh.ml_example import EVERY_FIELD, changed, example_mesh, mesh_of


def every_field_mesh() -> Mesh:
    """The example that sets every field."""
    return mesh_of(EVERY_FIELD.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("MESH_NAME", "meshName"), ("meshname", "meshName"), ("mshName", "meshName"), ("x", None)],
)
def test_a_name_is_guessed_whatever_its_case_and_underscores(name: str, meant: str | None) -> None:
    """The API's other dialects spell its fields in other cases."""
    assert names.closest(name, ["spec", "meshName"]) == meant


def test_an_entry_is_found_by_its_name() -> None:
    """Each kind has one look-up, and it gives the entry itself."""
    mesh = example_mesh()
    assert (
        names.node(mesh, "labels-v2"),
        names.client(mesh, "churn-training"),
        names.router(mesh, "labels"),
        names.service(mesh, "labels.ml.local"),
        names.member(mesh, "labels-v1"),
        names.member(mesh, "churn-training"),
    ) == (
        mesh.virtual_nodes[1],
        mesh.clients[0],
        mesh.virtual_routers[0],
        mesh.virtual_services[0],
        mesh.virtual_nodes[0],
        mesh.clients[0],
    )


@pytest.mark.parametrize(
    ("look_up", "name", "message"),
    [
        (names.node, "label-v2", "mesh ml has no virtual node label-v2; did you mean labels-v2?"),
        (names.client, "x", "mesh ml has no client x"),
        (names.router, "Labels", "mesh ml has no virtual router Labels; did you mean labels?"),
        (
            names.service,
            "labels.ml",
            "mesh ml has no virtual service labels.ml; did you mean labels.ml.local?",
        ),
        (names.find_client, "labels-v1", "labels-v1 is a virtual node of mesh ml, not a client"),
        (
            names.find_node,
            "churn-training",
            "churn-training is a client of mesh ml, not a virtual node",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest(
    look_up: Callable[[Mesh, str], object], name: str, message: str
) -> None:
    """A misspelt name, or one of another kind, is told what was likely meant."""
    with pytest.raises(UnknownNameError) as caught:
        look_up(example_mesh(), name)
    assert caught.value.message == message


def test_an_unknown_node_is_told_the_nodes_there_are() -> None:
    """A person who named a node that is not there can choose one from the message."""
    with pytest.raises(UnknownNameError) as caught:
        names.find_node(example_mesh(), "churn")
    assert (
        caught.value.advice
        == "use one that it has; the virtual nodes there are: labels-v1, labels-v2"
    )


def test_a_node_asked_for_as_a_client_is_advised_its_own_command() -> None:
    """The next line to type is in the message."""
    with pytest.raises(UnknownNameError) as caught:
        names.find_client(example_mesh(), "labels-v1")
    assert caught.value.advice == "meshml sidecar --node labels-v1 -- COMMAND"


def test_a_service_answers_by_its_name_and_its_routers_port() -> None:
    """Programs call a service with and without its port."""
    assert names.domains_of(example_mesh(), "labels.ml.local") == (
        "labels.ml.local",
        "labels.ml.local:80",
    )


def test_a_service_of_a_node_answers_by_the_nodes_port() -> None:
    """Where a node provides the service, the port is that of its listener."""
    assert names.domains_of(every_field_mesh(), "features") == ("features", "features:8080")


def test_a_service_without_a_provider_answers_by_its_bare_name() -> None:
    """No listener, no port."""
    mesh = mesh_of(changed("provider: {virtualRouter: {virtualRouterName: labels}}", ""))
    assert names.domains_of(mesh, "labels.ml.local") == ("labels.ml.local",)


def test_backends_are_those_of_the_node_or_client() -> None:
    """A client's and a node's backends are asked for in the same way."""
    mesh = every_field_mesh()
    called = {
        name: [backend.virtual_service_name for backend in names.backends_of(mesh, name)]
        for name in ("nightly", "labels", "features")
    }
    assert called["nightly"][:2] == ["labels", "features"]
    assert (called["labels"][:1], called["features"]) == (["features"], [])


def test_a_backends_own_policy_replaces_the_default_entirely() -> None:
    """Nothing of the default is left where a backend has a policy of its own."""
    mesh = mesh_of(
        changed(
            "virtualServiceName: labels.ml.local}",
            "virtualServiceName: labels.ml.local, clientPolicy: {}}",
        )
    )
    own = names.client_policy_of(mesh, "churn-training", "labels.ml.local")
    default = names.client_policy_of(mesh, "churn-training", "another.ml.local")
    assert (own and own.tls, default and default.tls and default.tls.enforce) == (None, True)


GROUPED = """\
mesh: {meshName: ml}
clients:
  - clientName: caller
    role: training
    spec:
      backends: [{virtualService: {virtualServiceName: b, clientPolicy: {}}}]
      backendGroups: [all]
virtualServices: [{virtualServiceName: a}, {virtualServiceName: b}]
backendGroups: [{backendGroupName: all, spec: {virtualServices: [a, b]}}]
virtualGateways:
  - virtualGatewayName: way-in
    spec: {listeners: [{portMapping: {port: 8088, protocol: http}}]}
    gatewayRoutes:
      - gatewayRouteName: first
        spec:
          httpRoute:
            match: {prefix: /b}
            action: &to_b {target: {virtualService: {virtualServiceName: b}}}
      - gatewayRouteName: again
        spec: {httpRoute: {match: {prefix: /c}, action: *to_b}}
"""


def test_a_group_adds_its_services_to_a_callers_own() -> None:
    """What the caller says of a service itself, such as its policy, holds over its group."""
    mesh = mesh_of(GROUPED)
    called = names.backends_of(mesh, "caller")
    assert [(one.virtual_service_name, one.client_policy is None) for one in called] == [
        ("b", False),
        ("a", True),
    ]
    assert names.backend_of(mesh, "caller", "b") == called[0]
    assert names.backend_of(mesh, "caller", "c") is None


def test_a_gateway_is_a_member_that_calls_what_its_routes_lead_to() -> None:
    """Each service once, and where it listens is asked for like a node's listeners."""
    mesh = mesh_of(GROUPED)
    called = [it.virtual_service_name for it in names.backends_of(mesh, "way-in")]
    ports = [it.port_mapping.port for it in names.member_listeners(mesh, "way-in")]
    assert (names.member(mesh, "way-in"), called, ports) == (
        mesh.virtual_gateways[0],
        ["b"],
        [8088],
    )


def test_a_meshs_index_goes_with_the_mesh() -> None:
    """What is computed once for a mesh neither keeps it alive nor is taken for another's."""
    mesh = mesh_of("mesh: {meshName: ml}")
    assert names.index(mesh) is names.index(mesh)
    ghost = weakref.ref(mesh)
    del mesh
    gc.collect()
    assert ghost() is None
    for number in range(100):
        assert names.index(mesh_of(f"mesh: {{meshName: ml{number}}}")).mesh_name == f"ml{number}"


def test_a_member_without_defaults_has_no_policy() -> None:
    """A node that says nothing of its calls has no policy for them."""
    assert names.client_policy_of(example_mesh(), "labels-v1", "labels.ml.local") is None


# --- the mesh's version -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tags: {team: churn, environment: dev}", "tags: {environment: dev, team: churn}"),
        ("mesh:\n", "# a comment\n\nmesh:\n"),
        ("perRetryTimeout: {unit: ms, value: 500}", "perRetryTimeout: {value: 500, unit: ms}"),
        ("  spec: {egressFilter: {type: DROP_ALL}}\n", ""),
    ],
    ids=["tags", "comment", "fields", "default"],
)
def test_the_same_mesh_written_otherwise_has_the_same_version(old: str, new: str) -> None:
    """What the file looks like does not count."""
    assert names.mesh_version(mesh_of(changed(old, new))) == names.mesh_version(example_mesh())


@pytest.mark.parametrize(
    ("old", "new"),
    [("weight: 30", "weight: 31"), ("team: churn", "team: other"), ("value: 5}", "value: 6}")],
)
def test_another_mesh_has_another_version(old: str, new: str) -> None:
    """Any declared value counts."""
    assert names.mesh_version(mesh_of(changed(old, new))) != names.mesh_version(example_mesh())


def test_a_field_that_has_its_default_does_not_count() -> None:
    """A field that a later meshml adds leaves the version of every mesh without it as it was."""
    said = changed("mesh:\n", "injectedDefaults: none\nbackendGroups: []\nmesh:\n")
    assert names.mesh_version(mesh_of(said)) == names.mesh_version(example_mesh())
    other = changed("mesh:\n", "injectedDefaults: modern\nmesh:\n")
    assert names.mesh_version(mesh_of(other)) != names.mesh_version(example_mesh())


def test_a_version_is_twelve_hex_digits_that_stay() -> None:
    """Logs written on another day, by another process, carry the same version."""
    mesh = mesh_of("mesh: {meshName: ml}")
    assert names.mesh_version(mesh) == "8f430cf51104"
    assert names.mesh_version(replace(mesh, tags={"é": "1"})) != names.mesh_version(mesh)


def test_an_identity_is_a_spiffe_uri_of_mesh_and_name() -> None:
    """The form that subject alternative names are compared with."""
    listed = example_mesh().virtual_nodes[0].spec.listeners[0].tls
    assert listed is not None
    assert listed.validation is not None
    assert listed.validation.subject_alternative_names is not None
    assert listed.validation.subject_alternative_names.match.exact == (
        names.spiffe_id("ml", "churn-training"),
    )


def test_an_identity_that_a_secret_is_named_by_stays_as_it_is() -> None:
    """SPIRE's secrets are named by the identity itself."""
    assert names.spiffe_id("ml", "spiffe://corp/ns/labels") == "spiffe://corp/ns/labels"
