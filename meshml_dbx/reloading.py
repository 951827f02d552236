"""Having living sidecars serve the mesh file as it is now, each in one step or not at all.

Part of the hall. Goes in: settings and the mesh file. Comes out: what became of each sidecar. Nodes
come before gateways and gateways before clients, so that whoever is newly called is there first.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from meshml_dbx.errors import MeshMLError, UnknownNameError
from meshml_dbx.member import Say, member_files
from meshml_dbx.mesh.checks import require_mesh
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.names import backends_of, index, member_listeners, mesh_version
from meshml_dbx.planes import Wiring, needs_grpc_port
from meshml_dbx.settings import Settings
from meshml_dbx.sidecar import LivingSidecar, WantedChange, living, request_change
from meshml_dbx.traffic.log_folder import SidecarLogs
from meshml_dbx.wiring import (
    GRPC_VARIABLE,
    LOOPBACK,
    WIRING_FILE,
    declared_log_path,
    identities_of,
    listens_of,
    local_ports,
    read_wiring,
)

CHANGED, UNCHANGED, REFUSED = "changed", "unchanged", "refused"
_ORDER = {"ingress": 0, "gateway": 1, "egress": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What became of one sidecar: ``changed``, ``unchanged`` or ``refused``, and why.

    Where it changed, ``reason`` is empty, or says what its program does not know yet.

    >>> Reloaded(sidecar_id="a-1", member="a", before="v1", outcome="refused", reason="x").reason
    'x'
    """

    sidecar_id: str
    member: str
    before: str
    outcome: str
    reason: str = ""

    def to_json(self) -> dict[str, str]:
        """The same as plain values; names are a promise."""
        return asdict(self)


def reload_sidecars(
    settings: Settings, loaded: LoadedMesh, names: Sequence[str] = (), *, say: Say
) -> tuple[Reloaded, ...]:
    """Have every living sidecar of this mesh, or those of these ids or members, serve the file.

    Raises:
        MeshInvalidError: the mesh file has errors: then no sidecar is asked.
        UnknownNameError: no living sidecar has one of the names.
    """
    mesh_name = require_mesh(loaded).mesh.mesh_name
    ours = [
        it
        for it in living(settings.folder)
        if it.facts.get("mesh") == mesh_name and (it.folder / WIRING_FILE).exists()
    ]
    chosen = [it for it in ours if not names or {it.sidecar_id, _member_of(it)} & set(names)]
    _require_all_found(chosen, names)
    chosen.sort(key=lambda it: (_ORDER.get(str(it.facts.get("observer")), 0), it.sidecar_id))
    found = []
    for one in chosen:
        say(f"{one.sidecar_id}: taking {loaded.source} over")
        found.append(_reload(settings, loaded, one))
    return tuple(found)


def _require_all_found(chosen: Sequence[LivingSidecar], names: Sequence[str]) -> None:
    known = {name for it in chosen for name in (it.sidecar_id, _member_of(it))}
    missing = [name for name in names if name not in known]
    if missing:
        raise UnknownNameError(
            f"no living sidecar of this mesh is or serves {', '.join(missing)}",
            advice="leave the names out to reload all, or see --state",
        )


def _member_of(sidecar: LivingSidecar) -> str:
    return str(sidecar.facts.get("client") or sidecar.facts.get("virtual_node") or "")


def _reload(settings: Settings, loaded: LoadedMesh, sidecar: LivingSidecar) -> Reloaded:
    before, member = str(sidecar.facts.get("mesh_version")), _member_of(sidecar)
    version = mesh_version(require_mesh(loaded))
    outcome, reason = UNCHANGED, ""
    try:
        if before == version:
            identities_of(settings, loaded, member)  # renews what is due: Envoy reads it again
        else:
            told = _local_addresses(sidecar.folder)
            change = request_change(sidecar.folder, _wanted(settings, loaded, sidecar, member))
            outcome, reason = (CHANGED if change.applied else REFUSED), change.reason
            reason = reason or _untold(told, _local_addresses(sidecar.folder))
    except MeshMLError as error:
        outcome, reason = REFUSED, error.message
    return Reloaded(
        sidecar_id=sidecar.sidecar_id, member=member, before=before, outcome=outcome, reason=reason
    )


def _local_addresses(folder: Path) -> dict[str, int]:
    """The local ports of a program's own: those of plain TCP by service, and that of gRPC."""
    wiring = read_wiring(folder / WIRING_FILE)
    if wiring is None:
        return {}
    grpc = {"gRPC": wiring.grpc_port} if wiring.grpc_port else {}
    return {**grpc, **wiring.tcp_ports}


def _untold(before: dict[str, int], after: dict[str, int]) -> str:
    """What a running program cannot know: it read its variables when it started."""
    fresh = [f"{name} at {LOOPBACK}:{port}" for name, port in after.items() if name not in before]
    if not fresh:
        return ""
    return f"its program was not told of {', '.join(fresh)}: start it anew, or tell it"


def _wanted(
    settings: Settings, loaded: LoadedMesh, sidecar: LivingSidecar, member: str
) -> WantedChange:
    mesh = require_mesh(loaded)
    if member not in index(mesh).members:
        raise UnknownNameError(f"{loaded.source} has no {member} any more; it goes on as it was")
    wiring = _rewired(settings, loaded, sidecar.folder, member)
    return WantedChange(
        mesh_version=mesh_version(mesh),
        files=member_files(mesh, member, wiring),
        mesh_source=loaded.source,
        mesh_document=loaded.text,
        listens=listens_of(loaded, member, wiring),
    )


def _rewired(settings: Settings, loaded: LoadedMesh, folder: Path, member: str) -> Wiring:
    """The wiring as it is, with the identities, local ports and log that the file now asks for.

    What the program was told at its start cannot change: where that would have to, it is an error.
    """
    mesh = require_mesh(loaded)
    wiring = read_wiring(folder / WIRING_FILE)
    if wiring is None:
        raise MeshMLError(f"{folder.name} ended meanwhile")
    ports = [listener.port_mapping.port for listener in member_listeners(mesh, member)]
    fresh = [port for port in ports if wiring.app_ports and port not in wiring.app_ports]
    if fresh:
        raise MeshMLError(
            f"{member} has the new port {fresh[0]}, and its program does not know where to listen "
            "for it: start its sidecar anew"
        )
    if wiring.app_ports and wiring.egress_port is None and backends_of(mesh, member):
        raise MeshMLError(
            f"{member} has its first backend, and its program knows no proxy: start its sidecar "
            "anew"
        )
    local = local_ports(mesh, member) if wiring.egress_port else {}
    if wiring.egress_port and needs_grpc_port(mesh, member):
        own = local.pop(GRPC_VARIABLE)
        wiring = replace(wiring, grpc_port=wiring.grpc_port or own)
    logs = SidecarLogs(root=settings.logs.absolute(), sidecar_id=wiring.sidecar_id)
    return replace(
        wiring,
        tcp_ports={name: wiring.tcp_ports.get(name, port) for name, port in local.items()},
        identities=identities_of(settings, loaded, member),
        declared_log=declared_log_path(mesh, member, logs),
    )
