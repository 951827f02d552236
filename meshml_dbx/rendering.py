"""A member for elsewhere: its identities, its variables, and the folder that it is written into.

Part of the hall: it brings mesh, trust and plane together for ``Session.render``. Goes in:
settings, the mesh and what is wanted. Comes out: a folder that a stock Envoy is started from.
Nothing that somebody else put into it is touched.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypedDict

from meshml_dbx.errors import MeshMLError
from meshml_dbx.mesh import names
from meshml_dbx.mesh.checks import require_mesh
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes import IdentityPaths, Wiring, require_sidecar
from meshml_dbx.planes.render_elsewhere import render_elsewhere
from meshml_dbx.planes.render_terms import (
    EGRESS_PORT,
    GRPC_PORT,
    READY_PORT,
    TASK_MARK,
    TCP_PORT,
    Form,
    Placement,
    Rendering,
    certificate_files,
    listener_ports,
    loopback_notes,
    placed_identities,
    user_notes,
    wiring_of,
)
from meshml_dbx.rendered_folder import CERTIFICATES, Known, read_known, write_folder
from meshml_dbx.settings import Settings, prepare_state
from meshml_dbx.traffic.context import (
    CLIENT_VARIABLE,
    LOGS_VARIABLE,
    PROCESS_VARIABLE,
    RECORD_VARIABLE,
    SIDECAR_VARIABLE,
)
from meshml_dbx.trust import check_files
from meshml_dbx.wiring import (
    GRPC_SOCKET_VARIABLE,
    LOOPBACK,
    NO_PROXY_VARIABLES,
    PORT_VARIABLE,
    PROXY_USER,
    PROXY_VARIABLES,
    direct_hosts,
    identities_of,
    local_addresses,
    system_authorities,
)

__all__ = [
    "Certificates",
    "Form",
    "Kind",
    "RenderOptions",
    "RenderedFolder",
    "Wanted",
    "render_member",
]

Say = Callable[[str], None]
Certificates = Literal["copy", "mount", "secret"]
Kind = Literal["node", "client", "gateway"]

HOW: Mapping[Form, tuple[Certificates, ...]] = {
    "envoy": ("copy", "mount"),
    "compose": ("copy",),
    "ecs": ("secret",),
    "kubernetes": ("secret",),
}
"""How certificates may get to Envoy in each form; the first is what happens unless told."""

_FINDERS: Mapping[Kind, Callable[[Mesh, str], object]] = {
    "node": names.find_node,
    "client": names.find_client,
    "gateway": names.gateway,
}
_OWN_ADDRESSES = "169.254.169.254,169.254.170.2,169.254.170.23"
"""Where AWS gives a container its credentials: never through a proxy."""
_LONGEST_SOCKET_PATH = 107


class RenderOptions(TypedDict, total=False):
    """What may be said of a member that is rendered, beside who it is and in which form."""

    app_port: int | None
    app_ports: Mapping[int, int]
    bind: str | None
    egress_port: int
    grpc_port: int
    tcp_port: int
    ready_port: int
    image: str | None
    app_image: str | None
    certificates: Certificates | None
    inline_secrets: bool
    logs_to: str | None
    force: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which member, in which form, and what the user says of it.

    >>> Wanted(member="labels-v2", kind="node", form="envoy", folder=Path("out")).force
    False
    """

    member: str
    kind: Kind
    form: Form
    folder: Path
    app_port: int | None = None
    app_ports: Mapping[int, int] = field(default_factory=dict)
    bind: str | None = None
    egress_port: int = EGRESS_PORT
    grpc_port: int = GRPC_PORT
    tcp_port: int = TCP_PORT
    ready_port: int = READY_PORT
    image: str | None = None
    app_image: str | None = None
    certificates: Certificates | None = None
    inline_secrets: bool = False
    logs_to: str | None = None
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFolder:
    """What was written: every file of the folder, and those that are new or have changed.

    >>> RenderedFolder(folder=Path("out"), files=("README.md",), written=()).valid_until is None
    True
    """

    folder: Path
    files: tuple[str, ...]
    written: tuple[str, ...]
    sidecar_id: str | None = None
    valid_until: str | None = None


def render_member(
    settings: Settings, loaded: LoadedMesh, wanted: Wanted, *, say: Say
) -> RenderedFolder:
    """Write a member's folder; the same again when nothing has changed writes nothing.

    Raises:
        EnvoyError: the member runs outside the mesh, or is too large for the form.
        PortTakenError: two listeners would have one port.
        TrustError: an identity cannot be supplied.
        MeshMLError: the folder is somebody else's, cannot be written, or options do not fit.
    """
    mesh = require_mesh(loaded)
    _FINDERS[wanted.kind](mesh, wanted.member)
    require_sidecar(mesh, wanted.member)
    how = _require_fitting(wanted)
    known = read_known(wanted.folder, member=wanted.member, form=wanted.form, force=wanted.force)
    prepare_state(settings.state)
    sources = identities_of(settings, loaded, wanted.member, elsewhere=how != "copy")
    placement = _placement(settings, mesh, wanted, known)
    rendering = _rendering(settings, mesh, wanted, placement, sources)
    files = render_elsewhere(rendering)
    copies = rendering.certificates if how == "copy" else {}
    written = write_folder(wanted.folder, known, files, copies, folders=_log_folders(placement))
    notes = (*loopback_notes(rendering), *user_notes(placement), *_expected_there(sources))
    for note in notes:
        say(f"warning: {note}")
    for name in written:
        say(f"wrote {wanted.folder / name}")
    return RenderedFolder(
        folder=wanted.folder,
        files=(*files, *(f"{CERTIFICATES}/{name}" for name in copies)),
        written=written,
        sidecar_id=placement.sidecar_id if placement.form in {"envoy", "compose"} else None,
        valid_until=rendering.valid_until,
    )


def _rendering(
    settings: Settings,
    mesh: Mesh,
    wanted: Wanted,
    placement: Placement,
    sources: Mapping[str, IdentityPaths],
) -> Rendering:
    """The member, wired to its certificates where it will find them."""
    here = {name: it for name, it in sources.items() if not _is_elsewhere(it)}
    placed = {**sources, **placed_identities(here, placement.places.certificates)}
    wiring = wiring_of(mesh, placement, sources if wanted.certificates == "mount" else placed)
    certificates = certificate_files(here)
    return Rendering(
        mesh=mesh,
        placement=placement,
        wiring=wiring,
        variables=_variables(settings, wanted, wiring),
        certificates=certificates,
        inline=_content(certificates) if wanted.inline_secrets else None,
        valid_until=_valid_until(sources),
    )


# --- what is wanted ---------------------------------------------------------------------------


def _require_fitting(wanted: Wanted) -> Certificates:
    possible = HOW[wanted.form]
    how = wanted.certificates or possible[0]
    if how not in possible:
        raise MeshMLError(
            f"--as {wanted.form} has no certificates by {how}",
            advice=f"leave --certificates out, which means {possible[0]}",
        )
    if wanted.inline_secrets and wanted.form != "kubernetes":
        raise MeshMLError(
            f"--as {wanted.form} writes no Secret, so that nothing can be inside it",
            advice="leave --inline-secrets out",
        )
    if wanted.logs_to and wanted.form in {"envoy", "compose"}:
        raise MeshMLError(
            f"--as {wanted.form} keeps its log in the folder's logs/",
            advice="leave --logs-to out, and take logs/ where you like",
        )
    return how


def _placement(settings: Settings, mesh: Mesh, wanted: Wanted, known: Known) -> Placement:
    own = wanted.form in {"envoy", "compose"}
    fixed = {"ecs": TASK_MARK, "kubernetes": wanted.member}
    found = Placement(
        form=wanted.form,
        member=wanted.member,
        sidecar_id=fixed.get(wanted.form, known.sidecar_id),
        process_id=known.process_id if own else None,
        environment=settings.environment or mesh.tags.get("environment"),
        peers_at=wanted.bind,
        app_ports=_app_ports(mesh, wanted),
        app_image=wanted.app_image,
        user=f"{os.getuid()}:{os.getgid()}",
        logs_to=wanted.logs_to.rstrip("/") if wanted.logs_to else None,
        token=known.token if wanted.form == "envoy" else None,
        egress_port=wanted.egress_port,
        grpc_port=wanted.grpc_port,
        tcp_port=wanted.tcp_port,
        ready_port=wanted.ready_port,
    )
    if wanted.form == "envoy":
        found = replace(found, system_authorities=system_authorities())
    return replace(found, image=wanted.image) if wanted.image else found


def _app_ports(mesh: Mesh, wanted: Wanted) -> dict[int, int]:
    """Where the program listens, by the node's port; a client's and a gateway's listen nowhere."""
    ports = listener_ports(mesh, wanted.member) if wanted.kind == "node" else ()
    found = {port: wanted.app_ports.get(port) or wanted.app_port for port in ports}
    unsaid = [port for port, own in found.items() if own is None]
    if unsaid:
        raise MeshMLError(
            f"nothing says where the program of {wanted.member} listens for port {unsaid[0]}",
            advice=f"give --app-port PORT, or --app-port {unsaid[0]}:PORT",
        )
    strange = [port for port in wanted.app_ports if port not in ports]
    if strange or (wanted.app_port and not ports):
        raise MeshMLError(
            f"{wanted.kind} {wanted.member} has no port {strange[0] if strange else ''}".rstrip(),
            advice="--app-port is for the listeners of a virtual node",
        )
    return {port: own for port, own in found.items() if own is not None}


def _variables(settings: Settings, wanted: Wanted, wiring: Wiring) -> dict[str, str]:
    """What the program is told; in a container, its stages have no folder to be written to."""
    found = {CLIENT_VARIABLE: wanted.member, RECORD_VARIABLE: ""}
    folder = wanted.folder.absolute()
    if wiring.process_id:
        found[PROCESS_VARIABLE] = wiring.process_id
    if wanted.form == "envoy":
        found |= {SIDECAR_VARIABLE: wiring.sidecar_id, LOGS_VARIABLE: str(folder / "logs")}
    if wiring.app_ports:
        found[PORT_VARIABLE] = str(next(iter(wiring.app_ports.values())))
        found |= {f"{PORT_VARIABLE}_{port}": str(own) for port, own in wiring.app_ports.items()}
    if wiring.egress_port:
        user = f"{PROXY_USER}:{wiring.token}@" if wiring.token else ""
        proxy = f"http://{user}{LOOPBACK}:{wiring.egress_port}"
        never = direct_hosts(settings, {})
        if wanted.form in {"ecs", "kubernetes"}:
            never = f"{never},{_OWN_ADDRESSES}"
        found |= dict.fromkeys(PROXY_VARIABLES, proxy) | dict.fromkeys(NO_PROXY_VARIABLES, never)
    found |= local_addresses(settings, replace(wiring, grpc_socket=None))
    if wiring.grpc_socket and len(str(folder / wiring.grpc_socket)) <= _LONGEST_SOCKET_PATH:
        found[GRPC_SOCKET_VARIABLE] = f"unix:{folder / wiring.grpc_socket}"
    return found


def _log_folders(placement: Placement) -> tuple[str, ...]:
    """Envoy makes no folder for its log: at home it must be there, in a container start.sh does."""
    own = {"envoy": f"{placement.places.logs}/live", "compose": "logs"}
    return (own[placement.form],) if placement.form in own else ()


def _valid_until(sources: Mapping[str, IdentityPaths]) -> str | None:
    now = datetime.now(UTC)
    ends = [
        check_files(Path(it.certificate_chain), None, None, now=now).not_after
        for it in sources.values()
        if it.certificate_chain and not _is_elsewhere(it)
    ]
    return f"{min(ends).astimezone(UTC):%Y-%m-%d %H:%M} UTC" if ends else None


def _paths(identity: IdentityPaths) -> tuple[str, ...]:
    found = (identity.certificate_chain, identity.private_key, identity.authority)
    return tuple(path for path in found if path)


def _is_elsewhere(identity: IdentityPaths) -> bool:
    """Whether these are the user's own files on the machine where Envoy will run."""
    return not any(Path(path).exists() for path in _paths(identity))


def _expected_there(sources: Mapping[str, IdentityPaths]) -> list[str]:
    paths = [path for it in sources.values() if _is_elsewhere(it) for path in _paths(it)]
    return [f"Envoy will read {path}, which is not here: mount it there" for path in sorted(paths)]


def _content(copies: Mapping[str, str]) -> dict[str, str]:
    return {name: Path(source).read_text(encoding="ascii") for name, source in copies.items()}
