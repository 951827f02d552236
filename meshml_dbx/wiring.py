"""How one member of a mesh is connected to this machine: ports, paths, identities, variables.

Part of the hall, below ``member``. Goes in: settings, the mesh and a member's name. Comes out: the
wiring that the plane renders, the addresses that its Envoy opens, and what its program is told.
"""

import json
import re
import secrets
import ssl
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from meshml_dbx.errors import LogFolderError
from meshml_dbx.mesh.checks import require_mesh
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.names import member_listeners
from meshml_dbx.mesh.spec import Certificate, Mesh, Trust
from meshml_dbx.planes import (
    SYSTEM_AUTHORITIES,
    IdentityPaths,
    Wiring,
    declared_log_file,
    needs_grpc_port,
    secret_name,
    secrets_of,
    tcp_addresses,
)
from meshml_dbx.settings import Settings
from meshml_dbx.sidecar import free_port, new_sidecar_id, steady_port
from meshml_dbx.traffic.context import (
    CLIENT_VARIABLE,
    LOGS_VARIABLE,
    PROCESS_VARIABLE,
    RECORD_VARIABLE,
    SIDECAR_VARIABLE,
)
from meshml_dbx.traffic.log_folder import SidecarLogs
from meshml_dbx.trust import check_files, supply_authority, supply_identity

LOOPBACK = "127.0.0.1"
NEVER_PROXIED = ("localhost", "127.0.0.1", "::1")
PROXY_USER = "meshml"
PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
NO_PROXY_VARIABLES = ("NO_PROXY", "no_proxy")
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
PORT_VARIABLE = "PORT"
GRPC_VARIABLE = "MESHML_GRPC_PROXY"
"""``host:port`` that a gRPC or http2 client dials, with the service's name as its authority."""
GRPC_SOCKET_VARIABLE = "MESHML_GRPC_SOCKET"
"""The same as a socket that only this user opens, in gRPC's spelling: ``unix:/path``."""
TCP_PREFIX = "MESHML_TCP_"
"""Before a plain TCP service's name: ``host:port`` that leads to it."""

GRPC_SOCKET = "grpc.sock"
WIRING_FILE = "wiring.json"
_LONGEST_SOCKET_PATH = 107
_STREAMS = {"/dev/stdout": "stdout.log", "/dev/stderr": "stderr.log"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a node's program is reached: its own port, and the address for peers.

    A node of several ports has a program that listens on as many: ``app_ports`` says which of
    them is behind which port of the node; those that it leaves out get ``app_port``, or one that
    is free.

    >>> Serving(app_port=9002).bind
    '127.0.0.1'
    """

    app_port: int | None = None
    app_ports: Mapping[int, int] = field(default_factory=dict)
    bind: str = LOOPBACK
    command: tuple[str, ...] = ()


def wire(
    settings: Settings,
    loaded: LoadedMesh,
    member: str,
    *,
    egress: bool,
    bind: str = LOOPBACK,
    app_ports: Mapping[int, int] | None = None,
) -> Wiring:
    """Ports, paths, names and a fresh token for one sidecar."""
    mesh = require_mesh(loaded)
    sidecar_id = new_sidecar_id(member)
    logs = SidecarLogs(root=settings.logs.absolute(), sidecar_id=sidecar_id)
    local = local_ports(mesh, member) if egress else {}
    has_grpc = egress and needs_grpc_port(mesh, member)
    return Wiring(
        sidecar_id=sidecar_id,
        process_id=str(uuid.uuid4()),
        environment=settings.environment or mesh.tags.get("environment"),
        access_log=str(logs.access),
        bind=bind,
        egress_port=free_port(taken=(app_ports or {}).values()) if egress else None,
        grpc_port=local.pop(GRPC_VARIABLE) if has_grpc else None,
        grpc_socket=GRPC_SOCKET if has_grpc else None,
        tcp_ports=local,
        app_ports=app_ports or {},
        token=secrets.token_urlsafe(24) if egress else None,
        identities=identities_of(settings, loaded, member),
        declared_log=declared_log_path(mesh, member, logs),
        system_authorities=system_authorities(),
    )


def wiring_to_text(wiring: Wiring) -> str:
    """The wiring as it lies beside Envoy's files, its token among it: for the owner alone."""
    return json.dumps(asdict(wiring), indent=1)


def read_wiring(path: Path) -> Wiring | None:
    """The wiring of a living sidecar; None where there is none, as beside a recorder."""
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    identities = {name: IdentityPaths(**paths) for name, paths in told["identities"].items()}
    app_ports = {int(port): own for port, own in told["app_ports"].items()}
    return Wiring(**{**told, "identities": identities, "app_ports": app_ports})


# --- ports ------------------------------------------------------------------------------------


def local_ports(mesh: Mesh, member: str) -> dict[str, int]:
    """A port for gRPC and for each plain TCP service: the same each time, unless it is taken."""
    wanted = [GRPC_VARIABLE] if needs_grpc_port(mesh, member) else []
    found: dict[str, int] = {}
    for name in (*wanted, *tcp_addresses(mesh, member)):
        key = f"{mesh.mesh.mesh_name}/{member}/{name}"
        found[name] = steady_port(key, taken=found.values())
    return found


def program_ports(mesh: Mesh, node: str, serving: Serving) -> dict[int, int]:
    """Where the program listens, by the node's port that leads there."""
    ports = [listener.port_mapping.port for listener in member_listeners(mesh, node)]
    found: dict[int, int] = {}
    for port in ports:
        own = serving.app_ports.get(port) or serving.app_port
        found[port] = own or free_port(taken=found.values())
    return found


def listens_of(loaded: LoadedMesh, member: str, wiring: Wiring) -> tuple[tuple[str, int], ...]:
    """The addresses that a member's Envoy opens."""
    listeners = member_listeners(require_mesh(loaded), member)
    peers = [(wiring.bind, listener.port_mapping.port) for listener in listeners]
    local = (wiring.egress_port, wiring.grpc_port, *wiring.tcp_ports.values())
    return (*peers, *((LOOPBACK, port) for port in local if port))


# --- identities -------------------------------------------------------------------------------


def identities_of(
    settings: Settings, loaded: LoadedMesh, member: str, *, elsewhere: bool = False
) -> dict[str, IdentityPaths]:
    """The files of every certificate and authority of a member, supplied or checked.

    ``elsewhere``: Envoy will run on another machine, so that whole paths of which there is no file
    here are taken as they stand.

    Raises:
        TrustError: one of them cannot be supplied, is missing, expired or does not match.
    """
    now = datetime.now(UTC)
    mesh = require_mesh(loaded)
    store, mesh_name = settings.folder.trust, mesh.mesh.mesh_name
    found: dict[str, dict[str, str]] = {}
    for secret in secrets_of(mesh, member):
        paths = found.setdefault(secret_name(secret), {})
        if secret.file:
            there = elsewhere and paths_there(secret)
            paths |= there or own_files(secret, loaded.directory or Path(), now)
        elif secret.sds and isinstance(secret, Certificate):
            files = supply_identity(
                store, mesh_name=mesh_name, name=secret.sds.secret_name, now=now
            )
            paths["certificate_chain"] = str(files.certificate_chain)
            paths["private_key"] = str(files.private_key)
        else:
            paths["authority"] = str(supply_authority(store, mesh_name=mesh_name, now=now))
    return {name: IdentityPaths(**paths) for name, paths in found.items()}


def own_files(secret: Certificate | Trust, directory: Path, now: datetime) -> dict[str, str]:
    """The user's own certificate or authority, checked; paths are relative to the mesh file."""
    if isinstance(secret, Certificate) and secret.file:
        chain = (directory / secret.file.certificate_chain).absolute()
        key = (directory / secret.file.private_key).absolute()
        check_files(chain, key, None, now=now)
        return {"certificate_chain": str(chain), "private_key": str(key)}
    if isinstance(secret, Trust) and secret.file:
        authority = (directory / secret.file.certificate_chain).absolute()
        check_files(authority, None, None, now=now)
        return {"authority": str(authority)}
    return {}


def paths_there(secret: Certificate | Trust) -> dict[str, str]:
    """The whole paths of a certificate or authority that has no file here; else nothing."""
    found: dict[str, str] = {}
    if isinstance(secret, Certificate) and secret.file:
        found = {
            "certificate_chain": secret.file.certificate_chain,
            "private_key": secret.file.private_key,
        }
    elif isinstance(secret, Trust) and secret.file:
        found = {"authority": secret.file.certificate_chain}
    absent = all(PurePosixPath(path).is_absolute() for path in found.values()) and not any(
        Path(path).exists() for path in found.values()
    )
    return found if absent else {}


def system_authorities() -> str:
    """Whom this machine believes; where it does not say, where most keep it."""
    return ssl.get_default_verify_paths().cafile or SYSTEM_AUTHORITIES


# --- the declared access log ------------------------------------------------------------------


def declared_log_path(mesh: Mesh, member: str, logs: SidecarLogs) -> str | None:
    """Where the access log that the mesh file declares is written on this machine.

    A whole path is taken as it stands. All else is a file in the sidecar's own log folder: a
    relative path by its last part, and what went to a container's output, which is here shared
    with the program.

    Raises:
        LogFolderError: the folder of a whole path is not there, or cannot be written.
    """
    file = declared_log_file(mesh, member)
    if file is None:
        return None
    path = PurePosixPath(file.path)
    if path.is_absolute() and file.path not in _STREAMS:
        _require_folder(member, Path(path))
        return file.path
    return str(logs.folder / f"declared-{_STREAMS.get(file.path, path.name)}")


def _require_folder(member: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise LogFolderError(
            f"{member} logs to {path}, and there is no folder {path.parent}",
            advice="make it, or change logging.accessLog.file.path in the mesh file",
        )


# --- the program's world ----------------------------------------------------------------------


def program_environment(
    settings: Settings, wiring: Wiring, member: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """The variables by which a program finds its proxy and its run finds its calls."""
    variables = {
        PROCESS_VARIABLE: wiring.process_id or "",
        CLIENT_VARIABLE: member,
        SIDECAR_VARIABLE: wiring.sidecar_id,
        LOGS_VARIABLE: str(settings.logs.absolute()),
        RECORD_VARIABLE: "",  # the sidecar records: whoever starts this must not as well
    }
    if wiring.app_ports:
        variables[PORT_VARIABLE] = str(next(iter(wiring.app_ports.values())))
        variables |= {f"{PORT_VARIABLE}_{port}": str(own) for port, own in wiring.app_ports.items()}
    if settings.tracking:
        variables[TRACKING_VARIABLE] = settings.tracking
    if wiring.egress_port:
        proxy = f"http://{PROXY_USER}:{wiring.token}@{LOOPBACK}:{wiring.egress_port}"
        direct = direct_hosts(settings, environ)
        variables |= dict.fromkeys(PROXY_VARIABLES, proxy)
        variables |= dict.fromkeys(NO_PROXY_VARIABLES, direct)
    return variables | local_addresses(settings, wiring)


def local_addresses(settings: Settings, wiring: Wiring) -> dict[str, str]:
    """Where gRPC and each plain TCP service are reached, by the variable that says so."""
    found: dict[str, str] = {}
    if wiring.grpc_port:
        found[GRPC_VARIABLE] = f"{LOOPBACK}:{wiring.grpc_port}"
    if wiring.grpc_socket:
        path = settings.folder.run.absolute() / wiring.sidecar_id / wiring.grpc_socket
        if len(str(path)) <= _LONGEST_SOCKET_PATH:
            found[GRPC_SOCKET_VARIABLE] = f"unix:{path}"
    for address, port in wiring.tcp_ports.items():
        for name in (address.rpartition(":")[0] or address, address):
            found.setdefault(tcp_variable(name), f"{LOOPBACK}:{port}")
    return found


def tcp_variable(address: str) -> str:
    """The variable of a plain TCP service, or of one of its ports.

    >>> tcp_variable("db.ml.local"), tcp_variable("db.ml.local:5432")
    ('MESHML_TCP_DB_ML_LOCAL', 'MESHML_TCP_DB_ML_LOCAL_5432')
    """
    return TCP_PREFIX + re.sub(r"[^A-Za-z0-9]", "_", address).upper()


def direct_hosts(settings: Settings, environ: Mapping[str, str]) -> str:
    """The hosts that are never proxied: the user's own, this machine, and the tracking server.

    gRPC sends even calls to 127.0.0.1 through a proxy, and Spark Connect dies of that.
    """
    given = [host for name in NO_PROXY_VARIABLES for host in environ.get(name, "").split(",")]
    tracking = urlsplit(settings.tracking or environ.get(TRACKING_VARIABLE, "")).hostname or ""
    hosts = (host.strip() for host in (*given, *NEVER_PROXIED, tracking))
    return ",".join(dict.fromkeys(host for host in hosts if host))
