"""CloudFormation's functions: what each comes to, and what is said where it comes to nothing."""

import time

import pytest

from meshml_dbx.dialects.tree import Scalar, Table, plain, scalars, sources_of
from tests.dialects.templates import REGION, host, host_of, take

PARAMETERS = """
Parameters:
  Domain: {Type: String, Default: ml.local}
  Port: {Type: Number, Default: 80}
  Zones: {Type: CommaDelimitedList, Default: 'a.ml.local, b.ml.local'}
  Environment: {Type: String}
Mappings:
  Domains:
    dev: {Host: labels.dev.local}
"""

VALUES = [
    ("!Ref Domain", "ml.local"),
    ("Ref: Domain", "ml.local"),
    ("!Ref AWS::Region", "eu-west-1"),
    ("!Ref AWS::URLSuffix", "amazonaws.com"),
    ("!Ref Environment", "${Environment}"),
    ("!Ref AWS::StackName", "${AWS::StackName}"),
    ("!Sub 'labels.${Domain}'", "labels.ml.local"),
    ("!Sub 'labels.${ Domain }:${Port}'", "labels.ml.local:80"),
    ("Fn::Sub: 'labels.${Environment}.${Domain}'", "labels.${Environment}.ml.local"),
    ("!Sub ['${name}.${Domain}', {name: labels}]", "labels.ml.local"),
    ("!Sub ['${name}', {name: !Ref Domain}]", "ml.local"),
    ("!Sub 'a ${!Literal}'", "a ${Literal}"),
    ("!Join ['.', [labels, !Ref Domain]]", "labels.ml.local"),
    ("!Join ['+', !Ref Zones]", "a.ml.local+b.ml.local"),
    ("!Join ['.', [labels, !Ref AWS::NoValue]]", "labels"),
    ("Fn::Join: ['', [!Ref Domain, ':', !Ref Port]]", "ml.local:80"),
    ("!Select [1, !Ref Zones]", "b.ml.local"),
    ("!Select ['0', [x.local, y.local]]", "x.local"),
    ("!Select [1, !Split ['.', !Ref Domain]]", "local"),
    ("!Join ['-', !Split ['.', !Ref Domain]]", "ml-local"),
    ("!Select [3, !Split [':', !Sub 'arn:aws:x:${AWS::StackName}:y']]", "${AWS::StackName}"),
    ("!Select [1, !GetAZs '']", "${Fn::GetAZs.1}"),
    ("!FindInMap [Domains, dev, Host]", "labels.dev.local"),
    ("!FindInMap [Domains, !Ref Environment, Host]", "${Domains.Environment.Host}"),
    ("!FindInMap [Domains, prod, Host, {DefaultValue: other.local}]", "other.local"),
    ("!ImportValue labels-host", "${labels-host}"),
    ("Fn::ImportValue: !Sub '${Environment}:host'", "${Environment:host}"),
    ("!Base64 ml", "bWw="),
    ("Fn::Base64: !Ref Environment", "${Fn::Base64}"),
    ("!Select [1, !Cidr [10.0.0.0/16, 2, 8]]", "10.0.1.0/24"),
    ("!Sub '${Balancer.DNSName}'", "${Balancer.DNSName}"),
    ("!GetAtt Balancer.DNSName", "${Balancer.DNSName}"),
    ("!GetAtt [Balancer, DNSName]", "${Balancer.DNSName}"),
    ("Fn::GetAtt: Balancer.DNSName", "${Balancer.DNSName}"),
    ("!GetAtt Registry.Name", "labels"),
    ("!Ref Balancer", "${Balancer}"),
    ("!Ref Record", "labels.ml.local"),
    ("'{{resolve:ssm:/ml/host}}.local'", "${resolve:ssm:-ml-host}.local"),
    ("!Sub '{{resolve:ssm:/ml/host}}.${Domain}'", "${resolve:ssm:-ml-host}.ml.local"),
    ("'{{ host }}.local'", "${host}.local"),
    ("!Length [a, b]", "2"),
    ("!ToJsonString {a: [1, 2]}", '{"a":[1,2]}'),
]
OTHERS = """

  Balancer: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer}
  Registry: {Type: AWS::ServiceDiscovery::Service, Properties: {Name: labels}}
  Record: {Type: AWS::Route53::RecordSet, Properties: {Name: !Sub 'labels.${Domain}'}}
"""


@pytest.mark.parametrize(("function", "expected"), VALUES)
def test_a_function_comes_to_its_value(function: str, expected: str) -> None:
    """What a stack would know stays a named unknown; all else is worked out."""
    taken = take(host(function) + OTHERS + PARAMETERS, given=REGION)
    assert (host_of(taken), taken.leftover) == (expected, ())
    assert set(taken.codes()) <= {"template-part"}


@pytest.mark.parametrize(
    ("function", "code", "told"),
    [
        ("!Ref Nothing", "template-reference", "no parameter or resource Nothing"),
        ("!Ref Nodes", "template-reference", "did you mean Node?"),
        ("!GetAtt Node.Size", "template-reference", "has no attribute Size"),
        ("!GetAtt Node", "template-intrinsic", "Fn::GetAtt takes a resource and its attribute"),
        ("!Sub [a]", "template-intrinsic", "Fn::Sub takes a text"),
        ("!Sub {a: b}", "template-intrinsic", "Fn::Sub takes a text"),
        ("!Join [a]", "template-intrinsic", "Fn::Join takes a delimiter and a list"),
        ("!Join ['.', text]", "template-intrinsic", "Fn::Join takes a list"),
        ("!Select [2, [a, b]]", "template-intrinsic", "no entry 2 among 2"),
        ("!Select [-1, [a, b]]", "template-intrinsic", "no entry -1 among 2"),
        ("!Select [x, [a, b]]", "template-intrinsic", "no entry x among 2"),
        ("!Split ['', text]", "template-intrinsic", "must not be empty"),
        ("!FindInMap [Domains, dev]", "template-intrinsic", "takes a mapping and two of its keys"),
        (
            "!FindInMap [Domains, dev, Port]",
            "template-reference",
            "no mapping has Domains.dev.Port",
        ),
        ("!Cidr [10.0.0.0/24, 400, 4]", "template-intrinsic", "a count from 1 to 256"),
        ("!Cidr [10.0.0.0, x, 4]", "template-intrinsic", "Fn::Cidr takes an address block"),
        ("!Jion ['.', [a]]", "template-intrinsic", "did you mean Fn::Join?"),
        ("!If [A, b]", "template-intrinsic", "Fn::If takes a condition's name"),
        (
            "!If [Nowhere, a, b.local]",
            "template-reference",
            "the condition Nowhere is not declared",
        ),
        ("Fn::Transform: {Name: Upper}", "template-macro", "Fn::Transform is a macro"),
    ],
)
def test_a_function_that_cannot_be_worked_out_is_reported_at_its_place(
    function: str, code: str, told: str
) -> None:
    """The finding names the file, the line and what was expected."""
    taken = take(host(function))
    (found,) = (it for it in taken.findings if it.severity == "error")
    assert (found.code, told in found.what) == (code, True)
    assert found.where.startswith("app0.yaml:")
    assert taken.leftover == ()


def test_what_is_given_replaces_every_named_unknown() -> None:
    """A parameter, an import, an attribute and a stored value are all given by their name."""
    given = {
        "AWS::StackName": "prod",
        "labels-host": "labels.ml.local",
        "Balancer.DNSName": "lb.local",
        "resolve:ssm:/ml/host": "stored.local",
    }
    asked = {
        "!Ref AWS::StackName": "prod",
        "!ImportValue labels-host": "labels.ml.local",
        "!GetAtt Balancer.DNSName": "lb.local",
        "'{{resolve:ssm:/ml/host}}'": "stored.local",
    }
    found = {it: host_of(take(host(it) + OTHERS, given=given)) for it in asked}
    assert found == asked


def test_a_reference_to_a_mesh_resource_is_its_arn() -> None:
    """Ref gives App Mesh's resources by their ARN; one of a shared mesh names the mesh's owner."""
    text = """
        Resources:
          Mesh: {Type: AWS::AppMesh::Mesh, Properties: {MeshName: ml}}
          Router:
            Type: AWS::AppMesh::VirtualRouter
            Properties:
              {MeshName: !GetAtt Mesh.MeshName, MeshOwner: '111122223333', VirtualRouterName: r}
          Route:
            Type: AWS::AppMesh::Route
            Properties:
              MeshName: ml
              VirtualRouterName: !GetAtt Router.VirtualRouterName
              RouteName: x
              Tags:
                - {Key: mesh, Value: !Ref Mesh}
                - {Key: router, Value: !Ref Router}
                - {Key: route, Value: !GetAtt Route.Arn}
                - {Key: owner, Value: !GetAtt Router.MeshOwner}
                - {Key: mine, Value: !GetAtt Router.ResourceOwner}
                - {Key: uid, Value: !GetAtt Route.Uid}
    """
    taken = take(text, given=REGION, account="444455556666")
    arn = "arn:aws:appmesh:eu-west-1:444455556666:mesh/ml"
    assert {key: plain(value) for key, value in taken.one("route", "x").fields} == {
        "tags": {
            "mesh": arn,
            "router": f"{arn}@111122223333/virtualRouter/r",
            "route": f"{arn}/virtualRouter/r/route/x",
            "owner": "111122223333",
            "mine": "444455556666",
            "uid": "${Route.Uid}",
        }
    }


def test_a_value_keeps_the_place_where_it_is_used_and_what_it_was_made_from() -> None:
    """A finding on the mesh leads to the line of the function; its sources are all settled."""
    text = host("!Sub 'labels.${Domain}'") + PARAMETERS
    spec = take(text).one("virtualNode", "labels").spec
    found = next(it for it in scalars_of(spec) if it.value == "labels.ml.local")
    assert str(found.place).endswith("Resources.Node.Properties.Spec.ServiceDiscovery.DNS.Hostname")
    assert [str(it.place.path) for it in sources_of(found)][-1] == "Parameters.Domain.Default"


def test_an_export_of_another_template_of_the_same_import_is_found() -> None:
    """What one stack exports, another imports by name; the stack's own unknown name is no match."""
    exporting = """
        Resources: {Mesh: {Type: AWS::AppMesh::Mesh, Properties: {MeshName: ml}}}
        Outputs:
          Mesh: {Value: !GetAtt Mesh.MeshName, Export: {Name: !Sub '${Project}:mesh'}}
          Other: {Value: x, Export: {Name: !Sub '${AWS::StackName}:other'}}
        Parameters: {Project: {Type: String, Default: churn}}
    """
    importing = """
        Resources:
          Router:
            Type: AWS::AppMesh::VirtualRouter
            Properties: {MeshName: !ImportValue churn:mesh, VirtualRouterName: r}
          Other:
            Type: AWS::AppMesh::VirtualRouter
            Properties:
              MeshName: {Fn::ImportValue: !Sub '${AWS::StackName}:other'}
              VirtualRouterName: s
    """
    taken = take(importing, exporting)
    meshes = [it.mesh.value if it.mesh else None for it in taken.resources]
    assert meshes == ["ml", "${AWS::StackName:other}", None]
    assert taken.leftover == ()


@pytest.mark.parametrize(
    "text",
    [
        """
        Resources:
          A:
            Type: AWS::AppMesh::VirtualService
            Properties: {MeshName: ml, VirtualServiceName: !GetAtt B.VirtualServiceName}
          B:
            Type: AWS::AppMesh::VirtualService
            Properties: {MeshName: ml, VirtualServiceName: !Sub 'x.${A.VirtualServiceName}'}
        """,
        """
        Resources:
          A: {Type: AWS::AppMesh::Mesh, Properties: {MeshName: !GetAtt A.MeshName}}
        """,
        """
        Resources:
          A: {Type: AWS::AppMesh::Mesh, Properties: {MeshName: !ImportValue x}}
        Outputs:
          X: {Value: !ImportValue x, Export: {Name: x}}
        """,
        """
        Conditions: {A: {Condition: B}, B: !Not [Condition: A]}
        Resources:
          M: {Type: AWS::AppMesh::Mesh, Condition: A, Properties: {MeshName: ml}}
        """,
    ],
)
def test_references_that_lead_back_to_themselves_end_in_a_finding(text: str) -> None:
    """A cycle is an error that is named, not a recursion."""
    taken = take(text)
    cycles = [it.what for it in taken.findings if it.code == "template-cycle"]
    assert any("itself" in what for what in cycles), cycles
    assert taken.leftover == ()


def test_texts_that_double_with_each_reference_are_refused() -> None:
    """Thirty references to references would make a text of a thousand million characters."""
    services = "\n".join(
        f"  S{n}: {{Type: AWS::AppMesh::VirtualService, Properties: {{MeshName: ml, "
        f"VirtualServiceName: !Sub '${{S{n + 1}.VirtualServiceName}}"
        f"${{S{n + 1}.VirtualServiceName}}'}}}}"
        for n in range(30)
    )
    last = "  S30: {Type: AWS::AppMesh::VirtualService, Properties: {VirtualServiceName: abc}}"
    begun = time.process_time()
    taken = take(f"Resources:\n{services}\n{last}\n")
    assert "template-cycle" in taken.codes()
    assert time.process_time() - begun < 2


def test_a_chain_of_a_thousand_references_is_no_recursion_error() -> None:
    """References lead through others only so far; what lies beyond is reported."""
    services = "\n".join(
        f"  S{n}: {{Type: AWS::AppMesh::VirtualService, Properties: {{MeshName: ml, "
        f"VirtualServiceName: !Join ['', [!GetAtt S{n + 1}.VirtualServiceName]]}}}}"
        for n in range(1000)
    )
    conditions = "\n".join(f"  C{n}: !Not [Condition: C{n + 1}]" for n in range(1000))
    last = "  S1000: {Type: AWS::AppMesh::VirtualService, Properties: {VirtualServiceName: abc}}"
    made = "  M: {Type: AWS::AppMesh::Mesh, Condition: C0}"
    text = f"Resources:\n{services}\n{last}\n{made}\nConditions:\n{conditions}\n"
    codes = take(text + "  C1000: !Equals [a, a]").codes()
    assert codes.count("template-cycle") >= 2


def test_deeply_nested_functions_are_no_recursion_error() -> None:
    """As deep as the reader lets a file be, at the end of a chain of references."""
    nested = "!Join ['', [" * 45 + "a" + "]]" * 45
    condition = "!Not [" * 90 + "!Equals [a, b]" + "]" * 90
    text = host(nested) + f"Conditions: {{Deep: {condition}}}\n"
    text = text.replace("MeshName: ml", "MeshName: !If [Deep, ml, mm]")
    taken = take(text)
    assert taken.codes().count("template-cycle") == 2


def scalars_of(node: object) -> list[Scalar]:
    """The scalars of a spec."""
    return list(scalars(node)) if isinstance(node, Table) else []
