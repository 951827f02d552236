"""Input that is too large, too clever or too new: an answer in time, with its place."""

import time

import pytest

from meshml_dbx.findings import Severity
from tests.dialects.importing import codes, imported_text

OTHER = """
  Task{n}:
    Type: AWS::ECS::TaskDefinition
    Properties:
      Family: task-{n}
      ContainerDefinitions:
        - Name: app
          Environment: [{{Name: A, Value: !Sub "${{Stage}}-{n}"}}]
"""
NODE = """
  Node{n}:
    Type: AWS::AppMesh::VirtualNode
    Properties:
      MeshName: !GetAtt Mesh.MeshName
      VirtualNodeName: !Sub "${{Stage}}-{n}"
      Spec:
        Listeners: [{{PortMapping: {{Port: 80, Protocol: http}}}}]
        ServiceDiscovery: {{DNS: {{Hostname: n{n}.local}}}}
"""
HEAD = """
Parameters: {Stage: {Type: String, Default: dev}}
Resources:
  Mesh: {Type: "AWS::AppMesh::Mesh", Properties: {MeshName: ml}}
"""


def template(count: int) -> str:
    """A template with so many nodes, and as many resources that are none of a mesh."""
    return HEAD + "".join(NODE.format(n=n) + OTHER.format(n=n) for n in range(count))


def seconds(text: str) -> float:
    """How long an import of a text computes."""
    began = time.process_time()
    assert imported_text(text).mesh is not None
    return time.process_time() - began


def test_a_template_of_fifty_thousand_lines_is_imported_whole() -> None:
    """Every node of a very large template is there, every other resource is named."""
    count = 3000
    text = template(count)
    assert text.count("\n") > 50_000
    found = imported_text(text)
    assert found.mesh is not None
    assert len(found.mesh.virtual_nodes) == count
    assert codes(found).count("template-part") >= count


def test_the_time_grows_with_the_input_and_no_faster() -> None:
    """Eight times the input takes about eight times as long."""
    seconds(template(20))
    assert seconds(template(800)) < 8 * 2 * max(seconds(template(100)), 0.02)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            "apiVersion: appmesh.k8s.aws/v1beta9\nkind: Mesh\nmetadata: {name: ml}\nspec: {}",
            "input.yaml:1",
        ),
        (
            'AWSTemplateFormatVersion: "2031-01-01"\nResources:\n'
            '  Mesh: {Type: "AWS::AppMesh::Mesh", Properties: {MeshName: ml}}',
            "input.yaml:1 AWSTemplateFormatVersion",
        ),
        (
            'Resources:\n  Mesh: {Type: "AWS::AppMesh::Mesh2", Properties: {MeshName: ml}}',
            "input.yaml:2 Resources.Mesh",
        ),
    ],
)
def test_an_unknown_version_is_an_error_at_its_place(text: str, where: str) -> None:
    """What we do not know is not guessed."""
    wrong = [one for one in imported_text(text).findings if one.severity is Severity.ERROR]
    assert wrong[0].where.startswith(where)


@pytest.mark.parametrize("function", ["timestamp()", 'file("a")', "yamldecode(local.x)", "f(1)"])
def test_a_function_of_terraform_that_cannot_be_computed_is_named(function: str) -> None:
    """HCL with functions is read; a value that only Terraform can compute is said to be so."""
    text = f"""
resource "aws_appmesh_mesh" "ml" {{
  name = "ml"
}}
resource "aws_appmesh_virtual_service" "labels" {{
  name      = {function}
  mesh_name = aws_appmesh_mesh.ml.id
  spec {{}}
}}
"""
    found = imported_text(text, name="main.tf")
    assert any(one.where.startswith("main.tf:6") for one in found.findings)


def test_hundreds_of_mistakes_are_told_in_time() -> None:
    """Findings by the hundred cost no more than the input that causes them."""
    text = template(300).replace("Port: 80", "Port: eighty")
    began = time.process_time()
    found = imported_text(text)
    assert found.mesh is None
    assert len([one for one in found.checked if one.code == "wrong-value"]) == 300
    assert time.process_time() - began < 10


def test_what_a_list_call_answers_is_told_apart() -> None:
    """A list call's answer has no specs, and the error says which call's answer has."""
    listed = '{"routes": [{"arn": "arn:aws:appmesh:eu-west-1:1:mesh/ml", "routeName": "a"}]}'
    told = [finding.what for finding in imported_text(listed, name="list.json").findings]
    assert "a list call answers names without specs: import what describe calls answer" in told


def test_a_state_file_of_terraform_is_told_apart() -> None:
    """Its form is Terraform's own affair; what show prints of it is not."""
    state = '{"version": 4, "terraform_version": "1.5.0", "serial": 3, "resources": []}'
    for name in ("terraform.tfstate", "state.json"):
        told = [finding.what for finding in imported_text(state, name=name).findings]
        assert "a state file of Terraform: import what terraform show -json prints of it" in told
