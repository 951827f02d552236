"""Real CloudFormation templates: what each defines, and that nothing of it is lost."""

from collections import Counter
from pathlib import Path

import pytest

from meshml_dbx.dialects.found import Kind
from meshml_dbx.dialects.template import MESH_TYPES
from meshml_dbx.dialects.tree import plain
from tests.dialects.templates import Taken, named, spec_of, taken_from

CORPORA = Path(__file__).parents[3] / "shared" / "corpora" / "appmesh"

KINDS: tuple[Kind, ...] = tuple(it.kind for it in MESH_TYPES.values())
TEMPLATES = {
    "01-http-headers/app.yaml": (1, 8, 1, 1, 0, 7, 0),
    "02-external-traffic/mesh.yaml": (1, 3, 3, 1, 1, 1, 1),
    "03-tls-file/mesh.yaml": (1, 2, 1, 1, 1, 1, 1),
    "04-tls-acm/mesh.yaml": (1, 1, 1, 0, 1, 0, 1),
    "05-cloudmap/mesh.yaml": (1, 2, 1, 1, 1, 1, 1),
    "06-outlier-detection/mesh.yaml": (1, 2, 1, 0, 0, 0, 0),
    "07-timeout-policy/mesh.yaml": (1, 2, 1, 0, 0, 0, 0),
    "08-grpc/mesh.yaml": (1, 2, 1, 1, 0, 1, 0),
    "09-grpc-gateway/mesh.yaml": (1, 1, 1, 0, 1, 0, 1),
    "10-http2/mesh.yaml": (1, 4, 1, 1, 0, 1, 0),
    "11-ipv6/override-mesh-preference.yaml": (1, 6, 6, 0, 1, 0, 6),
    "12-cross-account/primary-account/mesh.yaml": (1, 1, 1, 1, 1, 1, 1),
    "12-cross-account/secondary-account/mesh.yaml": (0, 1, 0, 0, 0, 0, 0),
    "13-metrics-extension/djapp-v5.yaml": (1, 4, 3, 1, 1, 1, 1),
    "14-crossvpc-tls/mesh.yml": (1, 3, 3, 0, 0, 0, 0),
}


def real(name: str, **given: str) -> Taken:
    """What came of a real template."""
    path = CORPORA / name
    if not path.is_file():
        pytest.skip("the collection of real definitions is not here")
    return taken_from([(path.name, path.read_text(encoding="utf-8"))], given)


@pytest.mark.parametrize(("name", "counts"), TEMPLATES.items())
def test_every_value_of_a_real_template_is_accounted_for(
    name: str, counts: tuple[int, ...]
) -> None:
    """As many resources of each kind as are written, nothing worse than a warning, no leftover."""
    taken = real(name)
    found = Counter(it.kind for it in taken.resources)
    assert tuple(found[kind] for kind in KINDS) == counts
    assert taken.leftover == ()
    assert {it.severity for it in taken.findings} <= {"info"}


def test_a_weight_is_the_parameters_default_or_what_is_given() -> None:
    """The default is the number 0; what is given is a text, and becomes a number too."""
    weights = [
        "'virtualNode': 'ColorTellerGreen', 'weight': 0}",
        "'virtualNode': 'ColorTellerGreen', 'weight': 1}",
    ]
    default = real("03-tls-file/mesh.yaml")
    given = real("03-tls-file/mesh.yaml", ColorTellerGreenRouteWeight="1")
    assert weights[0] in str(spec_of(default.one("route", "ColorTellerRoute")))
    assert weights[1] in str(spec_of(given.one("route", "ColorTellerRoute")))
    refused = real("03-tls-file/mesh.yaml", ColorTellerGreenRouteWeight="2")
    assert "template-parameter" in refused.codes()


def test_a_field_under_a_condition_is_there_when_it_holds() -> None:
    """Without the path, NoValue takes the whole client policy's TLS away."""
    gateway = real("03-tls-file/mesh.yaml").one("virtualGateway", "ColorGateway")
    assert "'clientPolicy': {}" in str(spec_of(gateway))
    held = real(
        "03-tls-file/mesh.yaml",
        ColorGatewayTlsValidationPath="/keys/ca.pem",
        EnableClientValidationFlag="true",
    )
    assert (
        "{'tls': {'enforce': True, 'validation': "
        "{'trust': {'file': {'certificateChain': '/keys/ca.pem'}}}}}"
    ) in str(spec_of(held.one("virtualGateway", "ColorGateway")))
    assert [it.where for it in held.findings if it.code == "template-branch"] == [
        "mesh.yaml:53 Resources.ColorVirtualGateway.Properties.Spec.BackendDefaults"
        ".ClientPolicy.TLS.Fn::If[1].Enforce[2]"
    ]


def test_what_other_stacks_export_is_unknown_by_the_exports_name() -> None:
    """Certificates and a host name come from elsewhere, unless they are given."""
    taken = real("14-crossvpc-tls/mesh.yml", EXTLB="lb.example.com")
    assert set(taken.unknown) == {"RootCA", "AppMeshCert"}
    frontend = str(spec_of(taken.one("virtualNode", "frontend")))
    assert "'certificate': {'acm': {'certificateArn': '${AppMeshCert}'}}" in frontend
    assert "'certificateAuthorityArns': ['${RootCA}']" in frontend
    assert "{'dns': {'hostname': 'lb.example.com'}}" in frontend


def test_names_are_put_together_from_other_resources_properties() -> None:
    """A service's name from a Cloud Map service's and a parameter; a port from a default."""
    taken = real("13-metrics-extension/djapp-v5.yaml", ProjectName="dj")
    assert [named(it) for it in taken.resources if it.kind == "virtualService"] == [
        "djapp.dj.local",
        "jazz.dj.local",
        "metal.dj.local",
    ]
    assert spec_of(taken.one("virtualGateway", "gateway")) == {
        "listeners": [{"portMapping": {"port": 8080, "protocol": "http"}}]
    }
    assert "'weight': 60}" in str(spec_of(taken.one("route", "metal")))


def test_a_shared_meshs_owner_is_carried_over() -> None:
    """The second account's node names the mesh and the account that it belongs to."""
    taken = real(
        "12-cross-account/secondary-account/mesh.yaml", MeshName="ml", MeshOwner="111122223333"
    )
    node = taken.one("virtualNode", "backend-2-vn")
    assert [(key, plain(value)) for key, value in node.fields] == [("meshOwner", "111122223333")]


def test_lower_case_fields_are_known_too() -> None:
    """CloudFormation took them: a template that was in use writes maxServerErrors."""
    taken = real("06-outlier-detection/mesh.yaml")
    assert "'outlierDetection': {'maxServerErrors': 5, 'maxEjectionPercent': 100" in str(
        spec_of(taken.one("virtualNode", "color-node"))
    )
