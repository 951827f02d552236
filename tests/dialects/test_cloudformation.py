"""CloudFormation templates as a mesh: names, sections, shapes and size."""

import json
import textwrap
import time

import pytest

from meshml_dbx.dialects.cloudformation import read_cloudformation
from meshml_dbx.dialects.found import Account, Parameters
from meshml_dbx.dialects.read import read_text
from meshml_dbx.dialects.tree import Table, plain
from tests.dialects.templates import named, spec_of, take, taken_from

# --- names and fields -------------------------------------------------------------------------

SMALL = """
    AWSTemplateFormatVersion: "2010-09-09"
    Description: a mesh
    Parameters: {Weight: {Type: Number, Default: 30}, Port: {Type: String, Default: "8080"}}
    Resources:
      Mesh:
        Type: AWS::AppMesh::Mesh
        Properties:
          MeshName: ml
          Spec: {EgressFilter: {Type: DROP_ALL}, ServiceDiscovery: {IpPreference: IPv4_ONLY}}
          Tags: [{Key: team, Value: churn}, {Key: cost, Value: 12}]
      Router:
        Type: AWS::AppMesh::VirtualRouter
        DependsOn: [Mesh]
        DeletionPolicy: Retain
        Properties:
          MeshName: !GetAtt Mesh.MeshName
          MeshOwner: 111122223333
          VirtualRouterName: labels
          Spec: {Listeners: [{PortMapping: {Port: "80", Protocol: http2}}]}
      Route:
        Type: AWS::AppMesh::Route
        Properties:
          MeshName: !GetAtt Mesh.MeshName
          VirtualRouterName: !GetAtt Router.VirtualRouterName
          RouteName: by-day
          Spec:
            Http2Route:
              Match:
                Prefix: /
                Headers: [{Name: x-day, Invert: "True", Match: {Exact: 7}}]
              Action:
                WeightedTargets:
                  - {VirtualNode: labels-v1, Weight: !Ref Weight, Port: !Ref Port}
    Outputs: {Name: {Value: !Ref Mesh}}
"""


def test_a_template_becomes_resources_in_the_mesh_files_names() -> None:
    """Names, parents and meshes tie them together; tags are a table, numbers are numbers."""
    mesh, router, route = take(SMALL).resources
    assert (mesh.kind, named(mesh), mesh.mesh, spec_of(mesh)) == (
        "mesh",
        "ml",
        None,
        {"egressFilter": {"type": "DROP_ALL"}, "serviceDiscovery": {"ipPreference": "IPv4_ONLY"}},
    )
    assert {key: plain(value) for key, value in mesh.fields} == {
        "tags": {"team": "churn", "cost": "12"}
    }
    assert (named(router), router.mesh and router.mesh.value) == ("labels", "ml")
    assert [(key, plain(value)) for key, value in router.fields] == [("meshOwner", "111122223333")]
    assert spec_of(router) == {"listeners": [{"portMapping": {"port": 80, "protocol": "http2"}}]}
    assert (named(route), route.parent and route.parent.value) == ("by-day", "labels")
    assert spec_of(route) == {
        "http2Route": {
            "match": {
                "prefix": "/",
                "headers": [{"name": "x-day", "invert": True, "match": {"exact": "7"}}],
            },
            "action": {
                "weightedTargets": [{"virtualNode": "labels-v1", "weight": 30, "port": 8080}]
            },
        }
    }


def test_what_is_no_part_of_a_mesh_has_one_finding_a_section() -> None:
    """Each names its section or attribute; nothing is left unnamed."""
    taken = take(SMALL)
    assert [found.where.split(" ")[1] for found in taken.findings] == [
        "Resources.Router.DependsOn",
        "Resources.Router.DeletionPolicy",
        "Description",
        "Parameters",
        "Outputs",
    ]
    assert set(taken.codes()) == {"template-part"}
    assert taken.findings[3].what == (
        "a mesh has no parameters: Weight, Port are worked out, the rest is left"
    )
    assert taken.leftover == ()


def test_the_same_template_in_json_says_the_same() -> None:
    """JSON has long forms alone; nothing else differs."""
    template = {
        "Resources": {
            "Mesh": {"Type": "AWS::AppMesh::Mesh", "Properties": {"MeshName": {"Ref": "Name"}}},
            "Node": {
                "Type": "AWS::AppMesh::VirtualNode",
                "Properties": {
                    "MeshName": {"Fn::GetAtt": ["Mesh", "MeshName"]},
                    "VirtualNodeName": {"Fn::Join": ["-", ["labels", {"Ref": "Name"}]]},
                    "Spec": {"Listeners": [{"PortMapping": {"Port": "80", "Protocol": "http"}}]},
                },
            },
        },
        "Parameters": {"Name": {"Type": "String", "Default": "ml"}},
    }
    taken = taken_from([("app.json", json.dumps(template, indent=1))])
    assert spec_of(taken.one("virtualNode", "labels-ml")) == {
        "listeners": [{"portMapping": {"port": 80, "protocol": "http"}}]
    }
    assert taken.leftover == ()


def test_a_resource_without_a_name_takes_its_logical_id() -> None:
    """CloudFormation made a name up; references by GetAtt still meet."""
    text = """
        Resources:
          Labels: {Type: AWS::AppMesh::VirtualNode, Properties: {MeshName: ml, Spec: {}}}
          Service:
            Type: AWS::AppMesh::VirtualService
            Properties:
              MeshName: ml
              VirtualServiceName: labels.local
              Spec:
                Provider: {VirtualNode: {VirtualNodeName: !GetAtt Labels.VirtualNodeName}}
    """
    taken = take(text)
    assert spec_of(taken.one("virtualService", "labels.local")) == {
        "provider": {"virtualNode": {"virtualNodeName": "Labels"}}
    }
    assert (named(taken.resources[0]), taken.codes()) == ("Labels", ["template-name"])


def test_an_arn_in_the_place_of_a_name_is_an_error_that_says_what_to_write() -> None:
    """Ref of a mesh is its ARN: CloudFormation would have sent it, and App Mesh refused it."""
    text = """
        Resources:
          Mesh: {Type: AWS::AppMesh::Mesh, Properties: {MeshName: ml}}
          R:
            Type: AWS::AppMesh::VirtualRouter
            Properties: {MeshName: !Ref Mesh, VirtualRouterName: r}
    """
    taken = take(text)
    (found,) = (it for it in taken.findings if it.severity == "error")
    assert (found.code, found.where) == (
        "template-arn",
        "app0.yaml:6 Resources.R.Properties.MeshName",
    )
    mesh = taken.one("virtualRouter", "r").mesh
    assert mesh is not None
    assert mesh.value == "ml"


def test_a_list_that_is_still_unknown_stays_a_list() -> None:
    """A parameter of a list's type stands alone where the mesh wants several."""
    text = """
        Parameters: {Arns: {Type: CommaDelimitedList}}
        Resources:
          Node:
            Type: AWS::AppMesh::VirtualNode
            Properties:
              MeshName: ml
              VirtualNodeName: n
              Spec:
                BackendDefaults:
                  ClientPolicy:
                    TLS: {Validation: {Trust: {ACM: {CertificateAuthorityArns: !Ref Arns}}}}
    """
    known = spec_of(take(text, given={"Arns": "a,b"}).one("virtualNode", "n"))
    unknown = spec_of(take(text).one("virtualNode", "n"))
    assert "'certificateAuthorityArns': ['a', 'b']" in str(known)
    assert "'certificateAuthorityArns': ['${Arns}']" in str(unknown)


# --- shapes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("Resources: {}", "template-shape", "no Resources"),
        ("Resources: [a]", "template-shape", "Resources must hold named entries"),
        ("Resources: {A: b}", "template-shape", "A needs a Type"),
        ("Resources: {A: {Type: [x]}}", "template-shape", "A needs a Type"),
        (
            "Resources: {A: {Type: AWS::AppMesh::VirtualNodes}}",
            "template-type",
            "did you mean AWS::AppMesh::VirtualNode?",
        ),
        ("Resources: {A: {Type: AWS::Appmesh::Mesh}}", "template-type", "AWS::AppMesh::Mesh?"),
        (
            "Resources: {A: {Type: AWS::AppMesh::Mesh, Properties: [x]}}",
            "template-shape",
            "the Properties of A must be named",
        ),
        (
            "Resources: {A: {Type: AWS::AppMesh::Mesh, Properties: {Spec: x}}}",
            "template-shape",
            "the Spec of A must hold named fields",
        ),
        (
            "Resources: {A: {Type: AWS::AppMesh::Mesh, Properties: {Tags: [x]}}}",
            "template-shape",
            "a tag has a Key and a Value",
        ),
        (
            "Resources: {A: {Type: AWS::AppMesh::Mesh, Condition: [x]}}",
            "template-shape",
            "the Condition of A",
        ),
        (
            "Resources: {'Fn::ForEach::Nodes': [Name, [a, b], {}]}",
            "template-macro",
            "it is not expanded",
        ),
        (
            "Resources: {A: {Type: AWS::AppMesh::Mesh}}\nTransform: [Own, AWS::Include]",
            "template-macro",
            "the macro Own, AWS::Include may change any part",
        ),
        (
            "Resources:\n  A: {Type: AWS::AppMesh::Mesh}\n  A: {Type: AWS::AppMesh::Mesh}",
            "duplicate-field",
            "A is written twice, first on line 2",
        ),
        (
            "Resources:\n  A: {Type: AWS::AppMesh::Mesh, Properties: {MeshName: a, meshName: b}}",
            "duplicate-field",
            "meshName is written twice",
        ),
        (
            "Resources: {A: {Type: AWS::AppMesh::Mesh, Properties: {Spec: {Fn::If: [a], B: c}}}}",
            "template-intrinsic",
            "Fn::If stands beside other fields",
        ),
        (
            "Resources:\n  A:\n    Type: AWS::AppMesh::Mesh\n"
            "    Properties: {Spec: {Fn::Transform: x, B: 1}}",
            "template-macro",
            "Fn::Transform stands beside other fields",
        ),
    ],
)
def test_what_has_not_the_shape_of_a_template_is_an_error_at_its_place(
    text: str, code: str, told: str
) -> None:
    """Whatever is wrong, the rest is taken over and every value is named."""
    taken = take(text)
    errors = [(it.code, it.what) for it in taken.findings if it.severity == "error"]
    assert [it for it, what in errors if told in what] == [code], errors
    assert taken.leftover == ()


def test_the_transform_of_amazons_own_macros_is_no_error() -> None:
    """They change nothing of App Mesh's resources."""
    text = """
        Transform: [AWS::Serverless-2016-10-31, AWS::LanguageExtensions]
        Resources: {A: {Type: AWS::AppMesh::Mesh, Properties: {MeshName: ml}}}
    """
    assert take(text).codes() == ["template-part"]


def test_a_nested_stack_is_left_with_the_advice_to_import_its_template() -> None:
    """What it defines is in another file."""
    taken = take("Resources: {A: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: x}}}")
    assert [(it.code, it.severity) for it in taken.findings] == [("template-part", "info")]
    assert taken.findings[0].advice.startswith("import the file of that template")


# --- size -------------------------------------------------------------------------------------


def test_a_template_of_fifty_thousand_lines_takes_seconds_not_minutes() -> None:
    """Working it out is linear: each name is looked up once."""
    node = textwrap.dedent(
        """\
          Node{n}:
            Type: AWS::AppMesh::VirtualNode
            DependsOn: Mesh
            Properties:
              MeshName: !GetAtt Mesh.MeshName
              VirtualNodeName: !Sub 'node-{n}.${{Domain}}'
              Spec:
                Listeners:
                  - PortMapping:
                      Port: !Ref Port
                      Protocol: http
                Backends:
                  - VirtualService:
                      VirtualServiceName: !GetAtt Node{m}.VirtualNodeName
                ServiceDiscovery:
                  DNS:
                    Hostname: !If [Local, localhost, !Sub 'n{n}.${{Domain}}']
        """
    )
    count = 3000
    head = "Parameters:\n  Domain: {Type: String}\n  Port: {Type: Number, Default: 80}\n"
    head += "Conditions:\n  Local: !Equals [!Ref Domain, localhost]\nResources:\n"
    head += "  Mesh: {Type: AWS::AppMesh::Mesh, Properties: {MeshName: ml}}\n"
    text = head + "".join(
        textwrap.indent(node.format(n=n, m=(n + 1) % count), "  ") for n in range(count)
    )
    assert text.count("\n") > 50_000
    (tree,) = read_text(text, "big.yaml")
    assert isinstance(tree, Table)
    begun = time.process_time()
    found = read_cloudformation([tree], Account(), Parameters())
    assert time.process_time() - begun < 6  # 1.2 s by itself on a slow machine
    assert len(found) == count + 1
