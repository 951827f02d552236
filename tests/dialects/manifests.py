"""Kubernetes manifests for tests: texts in, what the dialect finds in them out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshml_dbx.dialects.found import Account, Parameters, Resource
from meshml_dbx.dialects.kubernetes import read_kubernetes
from meshml_dbx.dialects.read import read_text
from meshml_dbx.dialects.tree import Node, Table, plain, scalars
from meshml_dbx.findings import Finding

EXAMPLES = Path(__file__).parent / "examples"
CORPORA = Path(__file__).parents[3] / "shared" / "corpora" / "appmesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """What the dialect found in some files, and the trees that it found it in."""

    resources: tuple[Resource, ...]
    findings: tuple[Finding, ...]
    leftovers: tuple[str, ...]  # the places of values that are nowhere accounted for

    def names(self, kind: str) -> list[str]:
        """The names of the resources of a kind, in order."""
        return [str(shown(one.name)) for one in self.resources if one.kind == kind]

    def one(self, kind: str, name: str) -> Resource:
        """The resource of a name, where there is exactly one."""
        (found,) = (
            one for one in self.resources if (one.kind, str(shown(one.name))) == (kind, name)
        )
        return found

    def spec(self, kind: str, name: str) -> object:
        """The spec of a resource as plain values."""
        spec = self.one(kind, name).spec
        return plain(spec) if spec else None

    def counts(self) -> Counter[str]:
        """How many resources there are of each kind."""
        return Counter(one.kind for one in self.resources)

    def places(self, code: str) -> list[str]:
        """Where the findings of a code point to."""
        return [one.where for one in self.findings if one.code == code]

    def whats(self, code: str) -> list[str]:
        """What the findings of a code say."""
        return [one.what for one in self.findings if one.code == code]


def shown(node: Node | None) -> object:
    """A name or value as Python's own."""
    return plain(node) if node else None


def read_texts(*texts: str) -> Manifests:
    """Manifests from texts, as files a.yaml, b.yaml …."""
    return _read([(f"{chr(ord('a') + index)}.yaml", text) for index, text in enumerate(texts)])


def read_files(*files: Path) -> Manifests:
    """Manifests from files."""
    return _read([(path.name, path.read_text(encoding="utf-8")) for path in files])


def _read(sources: Sequence[tuple[str, str]]) -> Manifests:
    trees = [tree for name, text in sources for tree in read_text(text, name)]
    account = Account()
    documents = [tree for tree in trees if isinstance(tree, Table)]
    resources = read_kubernetes(documents, account, Parameters())
    for one in resources:
        account.use(one.name, one.mesh, one.parent, one.spec, *(value for _, value in one.fields))
    left = [it for tree in trees for it in scalars(tree) if not account.is_settled(it)]
    return Manifests(
        resources=resources,
        findings=tuple(account.findings),
        leftovers=tuple(str(it.place) for it in left),
    )
