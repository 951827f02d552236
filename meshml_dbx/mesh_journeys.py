"""The journeys of a mesh file alone: declare, check, explain, place elsewhere.

The first half of ``Session``, which adds those of calls. Goes in: settings. Comes out: findings, a
mesh, an explanation, a plan or a folder of files.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from meshml_dbx.findings import Finding
from meshml_dbx.mesh.checks import check_mesh, require_mesh
from meshml_dbx.mesh.load import LoadedMesh, read_mesh
from meshml_dbx.settings import Settings, read_settings

if TYPE_CHECKING:
    from meshml_dbx.dialects import Imported
    from meshml_dbx.mesh.explained import RequestExplanation
    from meshml_dbx.mesh.explanations import Explanation
    from meshml_dbx.mesh.spec import InjectedDefaults
    from meshml_dbx.planes.fit_report import FitReport
    from meshml_dbx.planes.lattice_report import PlanReport
    from meshml_dbx.rendering import Form, Kind, RenderedFolder, RenderOptions

Say = Callable[[str], None]
"""Takes one line of progress; the command line shows it on standard error."""


def silent(line: str) -> None:
    """The progress of whoever wants none."""
    del line


class MeshJourneys:
    """What can be done with a mesh file alone.

    >>> MeshJourneys(read_settings({}, mesh="no.yml")).settings.mesh.name
    'no.yml'
    """

    def __init__(self, settings: Settings | None = None, *, say: Say = silent) -> None:
        self.settings = settings or read_settings()
        self.say = say

    def check(self) -> tuple[Finding, ...]:
        """Every problem of the mesh file, in the order of its lines.

        Raises:
            MeshMLError: the file cannot be read at all.
        """
        return check_mesh(read_mesh(self.settings.mesh))

    def mesh_summary(self) -> str:
        """One line on what the mesh file holds, for whoever just checked it."""
        from meshml_dbx.mesh.names import mesh_version

        loaded = read_mesh(self.settings.mesh)
        if loaded.mesh is None:
            return f"{loaded.source}: not usable yet"
        mesh = loaded.mesh
        return (
            f"{loaded.source}: mesh {mesh.mesh.mesh_name}, version {mesh_version(mesh)}: "
            f"{len(mesh.clients)} clients, {len(mesh.virtual_services)} virtual services, "
            f"{len(mesh.virtual_nodes)} virtual nodes"
        )

    def explain_findings(self, code: str | None = None) -> "tuple[Explanation, ...]":
        """What a finding's code, by number or slug, means; without one, all of them.

        Raises:
            UnknownNameError: there is no such code.
        """
        from meshml_dbx.mesh.explanations import explained_codes, explanation_of

        return (explanation_of(code),) if code else explained_codes()

    def import_mesh(
        self,
        paths: Sequence[str],
        *,
        parameters: Mapping[str, str] | None = None,
        account: str | None = None,
        dialect: str | None = None,
        names: Path | None = None,
        mesh_name: str | None = None,
        injected_defaults: "InjectedDefaults | None" = None,
    ) -> "Imported":
        """The mesh that App Mesh definitions declare, in whatever dialect, and what it lacks.

        Raises:
            MeshMLError: a path, or the file of ``names``, cannot be read.
        """
        from meshml_dbx.dialects import Wanted, import_files, read_names, read_sources

        wanted = Wanted(
            parameters=parameters or {},
            account=account,
            dialect=dialect,
            names=read_names(names) if names else None,
            mesh_name=mesh_name,
            injected_defaults=injected_defaults,
        )
        return import_files(read_sources(paths), wanted)

    def explain(
        self,
        call: Sequence[str],
        *,
        client: str | None = None,
        node: str | None = None,
        gateway: str | None = None,
        service: str | None = None,
        headers: Sequence[str] = (),
        grpc: str | None = None,
        tcp: str | None = None,
    ) -> "RequestExplanation":
        """Which way a call would go and why: ``call`` is an address, or a method and an address.

        Raises:
            MeshInvalidError: the mesh file cannot be read as a mesh.
            MeshMLError: there is nobody of that name, or the call is none.
        """
        from meshml_dbx.mesh.asked import Question, explain

        question = Question(
            call=tuple(call),
            client=client,
            node=node,
            gateway=gateway,
            service=service,
            headers=tuple(headers),
            grpc=grpc,
            tcp=tcp,
        )
        return explain(read_mesh(self.settings.mesh), question)

    def schema(self) -> dict[str, object]:
        """The JSON Schema of mesh.yml, for editors."""
        from meshml_dbx.mesh.schema import mesh_schema

        return mesh_schema()

    def fit(self, planes: Sequence[str] = ()) -> "FitReport":
        """What each way out keeps, approximates and drops of the mesh; without names, every way.

        Raises:
            MeshInvalidError: the mesh file has errors.
        """
        from meshml_dbx.planes.fit_report import fit_report

        loaded = read_mesh(self.settings.mesh)
        return fit_report(loaded, require_mesh(loaded, unknowns=True), planes)

    def plan(
        self,
        plane: str = "lattice",
        *,
        values: Mapping[str, str] | None = None,
        traffic: tuple[float, float] | None = None,
        hours: float = 730.0,
        region: str | None = None,
    ) -> "PlanReport":
        """What would be created on a plane; ``traffic``: a month's requests and gigabytes.

        Raises:
            MeshInvalidError: the mesh file has errors.
            UnknownNameError: there is no plan for that plane.
        """
        from meshml_dbx.planes.lattice_report import plan_report, require_plane

        require_plane(plane)
        loaded = read_mesh(self.settings.mesh)
        mesh = require_mesh(loaded, unknowns=True)
        requests, gigabytes = traffic or (None, None)
        return plan_report(
            loaded,
            mesh,
            values=values,
            requests=requests,
            gigabytes=gigabytes,
            hours=hours,
            region=region,
        )

    def render(
        self,
        member: str,
        *,
        kind: "Kind",
        form: "Form",
        folder: Path,
        **options: "Unpack[RenderOptions]",
    ) -> "RenderedFolder":
        """A folder from which a stock Envoy serves a member that nobody starts with a sidecar.

        Raises:
            MeshInvalidError: the mesh file has errors.
            MeshMLError: the folder cannot be written, or a certificate cannot be supplied.
        """
        from meshml_dbx.rendering import Wanted, render_member

        wanted = Wanted(member=member, kind=kind, form=form, folder=folder, **options)
        return render_member(self.settings, self._usable_mesh(), wanted, say=self.say)

    def _usable_mesh(self) -> LoadedMesh:
        loaded = read_mesh(self.settings.mesh)
        require_mesh(loaded)
        return loaded
