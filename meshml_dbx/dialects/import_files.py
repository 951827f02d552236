"""Files in, a mesh out: read, told apart by dialect, taken over, assembled, accounted for.

``import_files`` is the room's one journey. It writes nothing; ``mesh.write`` writes what it found.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from meshml_dbx.dialects.api_json import read_api_json
from meshml_dbx.dialects.assemble import Wishes, assemble
from meshml_dbx.dialects.cloudformation import read_cloudformation
from meshml_dbx.dialects.detect import DIALECTS, Dialect, dialect_of, told_apart
from meshml_dbx.dialects.found import Account, Kind, Parameters, Reader, Resource
from meshml_dbx.dialects.kubernetes import read_kubernetes
from meshml_dbx.dialects.leftovers import report_leftovers
from meshml_dbx.dialects.names_file import NamesFile
from meshml_dbx.dialects.own import read_own
from meshml_dbx.dialects.parameters import fill_table
from meshml_dbx.dialects.read import read_text
from meshml_dbx.dialects.sources import Source
from meshml_dbx.dialects.terraform import read_terraform
from meshml_dbx.dialects.to_mesh import load_document, loosen
from meshml_dbx.dialects.tree import Node, Place, Series, Table, UnreadableError, scalars
from meshml_dbx.errors import MeshInvalidError, MeshMLError
from meshml_dbx.findings import Finding, Severity, finding
from meshml_dbx.mesh.checks import check_mesh
from meshml_dbx.mesh.limits import PARAMETER
from meshml_dbx.mesh.load import LoadedMesh, collector_paused
from meshml_dbx.mesh.spec import InjectedDefaults, Mesh
from meshml_dbx.mesh.write import mesh_to_yaml

_FILLED: set[Dialect] = {"own", "kubernetes"}  # the API's JSON is filled use by use
_LOOSE: set[Dialect] = {"cloudformation", "terraform"}  # "80" is as good as 80 there
_SPEAKS_OF_A_MESH = re.compile(
    r"app_?mesh|meshName|weightedTargets|virtual_?(node|service|router|gateway)", re.IGNORECASE
)
_MOST_PLACES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user said beside the files.

    >>> Wanted().dialect is None
    True
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    dialect: str | None = None
    names: NamesFile | None = None
    mesh_name: str | None = None
    injected_defaults: InjectedDefaults | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedFile:
    """One file of the input: the dialects found in it, and its definitions by kind."""

    name: str
    dialects: tuple[Dialect, ...]
    definitions: Mapping[Kind, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import found; ``mesh`` is None if there is none that could be used.

    ``findings`` are of the import, ``checked`` those of ``check`` on the mesh, in the places of
    the files that were read. ``complete`` tells that no definition of the input is missing.
    """

    loaded: LoadedMesh | None
    findings: tuple[Finding, ...]
    checked: tuple[Finding, ...]
    files: tuple[ImportedFile, ...]

    @property
    def mesh(self) -> Mesh | None:
        """The mesh, where the definitions make one."""
        return self.loaded.mesh if self.loaded else None

    @property
    def complete(self) -> bool:
        """Whether nothing of the input was wrong, so that the mesh is all of it."""
        return not any(found.severity is Severity.ERROR for found in self.findings)

    @property
    def definitions(self) -> Mapping[Kind, int]:
        """How many definitions of each kind the files hold, before equal ones fall together."""
        return sum((Counter(one.definitions) for one in self.files), Counter[Kind]())

    def to_yaml(self) -> str:
        """The mesh as the text of a mesh file, which every other journey reads.

        Raises:
            MeshInvalidError: the definitions make no mesh.
        """
        if self.mesh is None:
            raise MeshInvalidError(
                f"the definitions make no mesh: {self.summary()}",
                findings=self.findings,
                advice="see the findings of the import",
            )
        return mesh_to_yaml(self.mesh)

    def summary(self) -> str:
        """One line on what was found: definitions by kind, files by dialect."""
        found = ", ".join(f"{count} {kind}" for kind, count in self.definitions.items())
        dialects = Counter(dialect for file in self.files for dialect in file.dialects)
        read = ", ".join(f"{count} {dialect}" for dialect, count in dialects.items())
        return f"read: {found or 'no definition'}; files: {read or 'none'}"

    def file_lines(self) -> tuple[str, ...]:
        """One line on each file with definitions: its dialects, and how many there are."""
        return tuple(
            f"{one.name}: {' and '.join(one.dialects)}, {sum(one.definitions.values())} definitions"
            for one in self.files
            if one.dialects
        )

    def to_json(self) -> dict[str, object]:
        """Counts and files for programs; names are a promise."""
        return {
            "counts": _by_kind(self.definitions),
            "files": [
                {
                    "name": one.name,
                    "dialects": list(one.dialects),
                    "definitions": _by_kind(one.definitions),
                }
                for one in self.files
            ],
        }


def _by_kind(definitions: Mapping[Kind, int]) -> dict[str, int]:
    return {str(kind): count for kind, count in definitions.items()}


def import_files(sources: Sequence[Source], wanted: Wanted) -> Imported:
    """The mesh that the sources define, with all that is worth saying about it.

    Raises:
        MeshMLError: the dialect that is wanted is none that is known.
    """
    work = _Import(wanted, _known(wanted.dialect))
    with collector_paused():
        for source in sources:
            work.read(source)
        return work.finish()


def _known(dialect: str | None) -> Dialect | None:
    if dialect is None:
        return None
    for known in DIALECTS:
        if known == dialect:
            return known
    raise MeshMLError(f"no dialect is called {dialect}; there are {', '.join(DIALECTS)}")


class _Import:
    """One import under way: documents by dialect, and the account that they share."""

    def __init__(self, wanted: Wanted, dialect: Dialect | None) -> None:
        self.wanted = wanted
        self.dialect = dialect
        self.account = Account()
        self.parameters = Parameters(given=wanted.parameters, account=wanted.account)
        self.documents: list[tuple[Dialect, Table]] = []
        self.names: list[str] = []

    # --- reading ------------------------------------------------------------------------------

    def read(self, source: Source) -> None:
        """Take in the documents of one file."""
        self.names.append(source.name)
        try:
            text = source.raw.decode("utf-8-sig")
            trees = read_text(text, source.name)
        except UnicodeDecodeError as error:
            line = source.raw.count(b"\n", 0, error.start) + 1
            self._unreadable(source, line, "this is not UTF-8 text")
        except UnreadableError as error:
            self._unreadable(source, error.line, str(error))
        else:
            self._sort(source, trees)

    def _unreadable(self, source: Source, line: int, problem: str) -> None:
        place = Place(source=source.name, line=line)
        if source.named or _SPEAKS_OF_A_MESH.search(source.raw.decode("utf-8", errors="replace")):
            what = f"{problem}; nothing of this file is imported"
            self.account.report("import-unreadable", place, what)
        else:
            self.account.report("import-nothing-here", place, f"this is no definition: {problem}")

    def _sort(self, source: Source, trees: Sequence[Node]) -> None:
        parts = [part for tree in trees for part in _parts(tree)]
        known = [(self.dialect or dialect_of(part), part) for part in parts]
        if not any(dialect for dialect, _ in known):
            code = "import-not-a-mesh" if source.named else "import-nothing-here"
            place = Place(source=source.name, line=1)
            what = told_apart(parts) or "nothing in this file is a definition of a mesh"
            self.account.report(code, place, what)
            return
        for dialect, part in known:
            if dialect is None:
                self.account.leave("import-nothing-here", part, "this part is no definition")
            elif not isinstance(part, Table):
                self.account.leave("import-unreadable", part, "a definition must be a mapping")
            else:
                self.documents.append((dialect, part))

    # --- taking over --------------------------------------------------------------------------

    def _take_over(self) -> list[Resource]:
        found: list[Resource] = []
        for dialect, reader in self._readers().items():
            tables = [self._prepared(*one) for one in self.documents if one[0] == dialect]
            if tables:
                resources = reader(tables, self.account, self.parameters)
                found += [_loosened(one) for one in resources] if dialect in _LOOSE else resources
        return found

    def _readers(self) -> dict[Dialect, Reader]:
        return {
            "own": read_own,
            "cloudformation": read_cloudformation,
            "kubernetes": read_kubernetes,
            "terraform": read_terraform,
            "api-json": partial(read_api_json, names=self.wanted.names),
        }

    def _prepared(self, dialect: Dialect, tree: Table) -> Table:
        return fill_table(tree, self.parameters) if dialect in _FILLED else tree

    # --- finishing ----------------------------------------------------------------------------

    def finish(self) -> Imported:
        """Assemble the mesh and account for everything."""
        resources = self._take_over()
        files = self._files(resources)
        if not resources:
            self._nothing_found()
        document = assemble(resources, self.account, self._wishes())
        if document is not None:
            report_leftovers((tree for _, tree in self.documents), document, self.account)
            self._report_unknowns(document)
        self._report_unused()
        loaded = load_document(document, source=self.names[0]) if document else None
        checked = check_mesh(loaded) if loaded else ()
        return Imported(
            loaded=loaded,
            findings=tuple(self.account.findings),
            checked=tuple(one for one in checked if one.code != "unresolved-parameter"),
            files=files,
        )

    def _wishes(self) -> Wishes:
        """What App Mesh injected is on for what was App Mesh's, unless told otherwise."""
        wish = self.wanted.injected_defaults
        said = any(
            "injectedDefaults" in tree for dialect, tree in self.documents if dialect == "own"
        )
        foreign = any(dialect != "own" for dialect, _ in self.documents)
        if wish is None and foreign and not said:
            wish = "modern"
            what = "retries that App Mesh added by itself are written as injectedDefaults: modern"
            code = "import-injected-defaults"
            self.account.findings.append(finding(code, where="injectedDefaults", what=what))
        return Wishes(mesh_name=self.wanted.mesh_name, injected_defaults=wish)

    def _files(self, resources: Sequence[Resource]) -> tuple[ImportedFile, ...]:
        kinds: dict[str, Counter[Kind]] = {name: Counter() for name in self.names}
        for resource in resources:
            kinds[resource.place.source][resource.kind] += 1
        dialects: dict[str, dict[Dialect, None]] = {name: {} for name in self.names}
        for dialect, tree in self.documents:
            dialects[tree.place.source][dialect] = None
        return tuple(
            ImportedFile(name=name, dialects=tuple(dialects[name]), definitions=kinds[name])
            for name in self.names
        )

    def _nothing_found(self) -> None:
        name = self.names[0] if self.names else "the input"
        what = f"no definition of a mesh in {len(self.names)} files"
        self.account.report("import-nothing-found", Place(source=name, line=1), what)

    def _report_unknowns(self, document: Table) -> None:
        """One finding for each parameter without a value, with the places that need it."""
        unknown: dict[str, dict[Place, None]] = {}
        for scalar in scalars(document):
            if isinstance(scalar.value, str) and "${" in scalar.value:
                for name in PARAMETER.findall(scalar.value):
                    unknown.setdefault(name, {})[scalar.place] = None
        for name, places in unknown.items():
            first, *others = places
            shown = ", ".join(f"{one.source}:{one.line}" for one in others[:_MOST_PLACES])
            more = f", {len(others) - _MOST_PLACES} more" if len(others) > _MOST_PLACES else ""
            also = f"; it also stands at {shown}{more}" if others else ""
            what = f"the parameter {name} has no value{also}"
            self.account.report("unresolved-parameter", first, what)

    def _report_unused(self) -> None:
        for name in self.parameters.unused():
            what = f"nothing in the input asks for the parameter {name}"
            found = finding("import-unused-parameter", where=f"--param {name}", what=what)
            self.account.findings.append(found)


def _parts(tree: Node) -> Sequence[Node]:
    """The entries of a list of requests, or the one document that a tree is."""
    return tree.items if isinstance(tree, Series) else (tree,)


def _loosened(resource: Resource) -> Resource:
    spec = loosen(resource.spec) if resource.spec else None
    return replace(
        resource,
        spec=spec if isinstance(spec, Table) else None,
        fields=tuple((key, loosen(value)) for key, value in resource.fields),
    )
