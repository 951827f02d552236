"""Session: the product's journeys, one short method each; read this file as its table of contents.

Goes in: settings. Comes out: findings, exit statuses, an ingest report, a ``Diagnosis``. A session
composes rooms, which never meet: what one returns is a word that the next understands.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meshml_dbx.errors import MeshMLError, NothingRecordedError
from meshml_dbx.findings import Finding
from meshml_dbx.mesh.checks import check_mesh, require_mesh
from meshml_dbx.mesh.load import LoadedMesh, read_mesh
from meshml_dbx.settings import Settings, read_settings
from meshml_dbx.traffic.ownership import Run

if TYPE_CHECKING:
    from meshml_dbx.diagnosis import Diagnosis
    from meshml_dbx.lake import IngestReport

Say = Callable[[str], None]
"""Takes one line of progress; the command line shows it on standard error."""


def silent(line: str) -> None:
    """The progress of whoever wants none."""
    del line


class Session:
    """The journeys of one project, with its settings.

    >>> Session(read_settings({}, mesh="no.yml")).settings.mesh.name
    'no.yml'
    """

    def __init__(self, settings: Settings | None = None, *, say: Say = silent) -> None:
        self.settings = settings or read_settings()
        self.say = say

    # --- J1: declare and build ----------------------------------------------------------------

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

    # --- J2: call → event ---------------------------------------------------------------------

    def run(self, client: str, command: Sequence[str]) -> int:
        """The exit status of a program, run as a client of the mesh with its calls recorded.

        Raises:
            MeshInvalidError: the mesh file has errors.
            MeshMLError: Envoy, a certificate or the log folder is not usable.
        """
        from meshml_dbx import member
        from meshml_dbx.mesh.names import find_client

        loaded = self._usable_mesh()
        find_client(require_mesh(loaded), client)
        plan = member.plan_client(self.settings, loaded, client, command)
        return member.supervise_member(self.settings, plan, say=self.say, environ=os.environ)

    def sidecar(
        self,
        node: str,
        command: Sequence[str] = (),
        *,
        app_port: int | None = None,
        bind: str = "127.0.0.1",
    ) -> int:
        """The exit status of a program that serves a virtual node; without one, stays.

        Raises:
            PortTakenError: the node's port, or the program's, is in use.
            MeshMLError: as ``run``.
        """
        from meshml_dbx import member
        from meshml_dbx.mesh.names import find_node

        loaded = self._usable_mesh()
        find_node(require_mesh(loaded), node)
        serving = member.Serving(app_port=app_port, bind=bind, command=tuple(command))
        plan = member.plan_node(self.settings, loaded, node, serving)
        return member.supervise_member(self.settings, plan, say=self.say, environ=os.environ)

    def _usable_mesh(self) -> LoadedMesh:
        loaded = read_mesh(self.settings.mesh)
        require_mesh(loaded)
        return loaded
