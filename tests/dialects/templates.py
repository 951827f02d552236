"""What the tests of CloudFormation templates share: take one over, and look at what came of it."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from meshml_dbx.dialects.cloudformation import read_cloudformation
from meshml_dbx.dialects.found import Account, Kind, Parameters, Resource
from meshml_dbx.dialects.read import read_text
from meshml_dbx.dialects.tree import Scalar, Table, plain, scalars
from meshml_dbx.findings import Finding

REGION = {"AWS::Region": "eu-west-1", "AWS::Partition": "aws"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of some templates.

    ``unknown`` names have no value, ``unused`` ones were given in vain; ``leftover`` values are
    nowhere accounted for.
    """

    resources: tuple[Resource, ...]
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]
    unused: tuple[str, ...]
    leftover: tuple[Scalar, ...]

    def one(self, kind: Kind, name: str) -> Resource:
        """The resource of a kind and name."""
        (found,) = (it for it in self.resources if it.kind == kind and named(it) == name)
        return found

    def codes(self) -> list[str]:
        """The findings' codes."""
        return [found.code for found in self.findings]


def take(*texts: str, given: dict[str, str] | None = None, account: str | None = None) -> Taken:
    """Take some templates over, as an import of so many files does."""
    return taken_from(
        [(f"app{index}.yaml", text) for index, text in enumerate(texts)], given, account
    )


def taken_from(
    files: Sequence[tuple[str, str]],
    given: dict[str, str] | None = None,
    account: str | None = None,
) -> Taken:
    """Take the templates of some files, by name and text, over."""
    trees = [
        tree
        for name, text in files
        for tree in read_text(textwrap.dedent(text), name)
        if isinstance(tree, Table)
    ]
    found, parameters = Account(), Parameters(given=given or {}, account=account)
    resources = read_cloudformation(trees, found, parameters)
    for one in resources:
        fields = (value for _, value in one.fields)
        found.use(one.name, one.mesh, one.parent, one.spec, *fields)
    return Taken(
        resources=resources,
        findings=tuple(found.findings),
        unknown=tuple(parameters.unknown),
        unused=parameters.unused(),
        leftover=tuple(it for tree in trees for it in scalars(tree) if not found.is_settled(it)),
    )


def named(resource: Resource) -> object:
    """The name of a resource."""
    return resource.name.value if resource.name else None


def spec_of(resource: Resource) -> object:
    """The spec of a resource as plain values."""
    return plain(resource.spec) if resource.spec else None


def host(function: str, rest: str = "") -> str:
    """A template whose one node's host name is what a function comes to."""
    head = textwrap.dedent(
        """\
        Resources:
          Node:
            Type: AWS::AppMesh::VirtualNode
            Properties:
              MeshName: ml
              VirtualNodeName: labels
              Spec:
                ServiceDiscovery:
                  DNS:
                    Hostname:
        """
    )
    return (
        head
        + textwrap.indent(textwrap.dedent(function).strip(), " " * 14)
        + "\n"
        + textwrap.dedent(rest)
    )


def host_of(taken: Taken) -> object:
    """The host name of that node."""
    spec = taken.one("virtualNode", "labels").spec
    assert spec is not None
    match plain(spec):
        case {"serviceDiscovery": {"dns": {"hostname": found}}}:
            return found
    return None
