"""One member of a mesh on this machine: its identities, its Envoy's files, its program's world.

Part of the hall: it brings mesh, trust, plane and sidecar together for ``Session.run`` and
``Session.sidecar``. Goes in: settings, the mesh and a member's name. Comes out: a plan that the
sidecar room carries out.
"""

import os
import secrets
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from meshml_dbx.errors import EnvoyError
from meshml_dbx.mesh.checks import require_mesh
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.names import backends_of, mesh_version
from meshml_dbx.mesh.places import Declared
from meshml_dbx.mesh.spec import Certificate, Trust
from meshml_dbx.planes.envoy import IdentityPaths, Wiring, render, secret_name, secrets_of
from meshml_dbx.settings import Settings, prepare_state, unusable_state
from meshml_dbx.sidecar import (
    EnvoyBinary,
    SidecarPlan,
    find_envoy,
    free_port,
    new_sidecar_id,
    require_free,
    supervise,
)
from meshml_dbx.sidecar.program import require_program
from meshml_dbx.traffic.context import (
    CLIENT_VARIABLE,
    LOGS_VARIABLE,
    PROCESS_VARIABLE,
    RECORD_VARIABLE,
    SIDECAR_VARIABLE,
)
from meshml_dbx.traffic.log_folder import SidecarLogs
from meshml_dbx.trust import check_files, supply_authority, supply_identity

Say = Callable[[str], None]
LOOPBACK = "127.0.0.1"
NEVER_PROXIED = ("localhost", "127.0.0.1", "::1")
PROXY_USER = "meshml"
PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
NO_PROXY_VARIABLES = ("NO_PROXY", "no_proxy")
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
HAS_PACKAGE = "import importlib.util,sys;sys.exit(importlib.util.find_spec('meshml_dbx') is None)"
PROBE_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a node's program is reached: its own port, and the address for peers.

    >>> Serving(app_port=9002).bind
    '127.0.0.1'
    """

    app_port: int | None = None
    bind: str = LOOPBACK
    command: tuple[str, ...] = ()


def plan_client(
    settings: Settings, loaded: LoadedMesh, client: str, command: Sequence[str]
) -> SidecarPlan:
    """The plan of a client's sidecar: an egress listener for the program's proxy variables.

    Raises:
        TrustError: an identity cannot be supplied, or the user's own certificate is not usable.
    """
    wiring = wire(settings, loaded, client, egress=True)
    return plan_member(
        settings, loaded, wiring, member=client, observer="egress", command=tuple(command)
    )


def plan_node(settings: Settings, loaded: LoadedMesh, name: str, serving: Serving) -> SidecarPlan:
    """The plan of a node's sidecar: its listeners, and an egress listener where it has backends.

    Raises:
        PortTakenError: a port of the node or of its program is in use.
        TrustError: as ``plan_client``.
    """
    mesh = require_mesh(loaded)
    if serving.app_port and serving.command:
        require_free(LOOPBACK, serving.app_port)
    wiring = wire(
        settings,
        loaded,
        name,
        egress=bool(backends_of(mesh, name)),
        bind=serving.bind,
        app_port=serving.app_port or free_port(),
    )
    return plan_member(
        settings, loaded, wiring, member=name, observer="ingress", command=serving.command
    )


def wire(
    settings: Settings,
    loaded: LoadedMesh,
    member: str,
    *,
    egress: bool,
    bind: str = LOOPBACK,
    app_port: int | None = None,
) -> Wiring:
    """Ports, paths, names and a fresh token for one sidecar."""
    mesh = require_mesh(loaded)
    sidecar_id = new_sidecar_id(member)
    return Wiring(
        sidecar_id=sidecar_id,
        process_id=str(uuid.uuid4()),
        environment=settings.environment or mesh.tags.get("environment"),
        access_log=str(SidecarLogs(root=settings.logs.absolute(), sidecar_id=sidecar_id).access),
        bind=bind,
        egress_port=free_port() if egress else None,
        app_port=app_port,
        token=secrets.token_urlsafe(24) if egress else None,
        identities=identities_of(settings, loaded, member),
    )


def plan_member(
    settings: Settings,
    loaded: LoadedMesh,
    wiring: Wiring,
    *,
    member: str,
    observer: str,
    command: tuple[str, ...],
) -> SidecarPlan:
    """What the sidecar room needs to know of a member, and nothing of the mesh's shape."""
    mesh = require_mesh(loaded)
    return SidecarPlan(
        sidecar_id=wiring.sidecar_id,
        process_id=wiring.process_id,
        mesh=mesh.mesh.mesh_name,
        mesh_version=mesh_version(mesh),
        mesh_source=loaded.source,
        mesh_document=loaded.text,
        observer=observer,
        client=member if observer == "egress" else None,
        virtual_node=member if observer == "ingress" else None,
        environment=wiring.environment,
        files=render(mesh, member, wiring),
        listens=listens_of(loaded, member, wiring),
        command=command,
        program_environment=program_environment(settings, wiring, member, os.environ),
    )


def listens_of(loaded: LoadedMesh, member: str, wiring: Wiring) -> tuple[tuple[str, int], ...]:
    """The addresses that a member's Envoy opens."""
    mesh = require_mesh(loaded)
    nodes = [one for one in mesh.virtual_nodes if one.virtual_node_name == member]
    peers = [
        (wiring.bind, listener.port_mapping.port)
        for one in nodes
        for listener in one.spec.listeners
    ]
    return (*peers, *([(LOOPBACK, wiring.egress_port)] if wiring.egress_port else []))


def identities_of(settings: Settings, loaded: LoadedMesh, member: str) -> dict[str, IdentityPaths]:
    """The files of every certificate and authority of a member, supplied or checked.

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
            paths |= own_files(secret, loaded.directory or Path(), now)
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
    if wiring.app_port:
        variables["PORT"] = str(wiring.app_port)
    if settings.tracking:
        variables[TRACKING_VARIABLE] = settings.tracking
    if wiring.egress_port:
        proxy = f"http://{PROXY_USER}:{wiring.token}@{LOOPBACK}:{wiring.egress_port}"
        direct = direct_hosts(settings, environ)
        variables |= dict.fromkeys(PROXY_VARIABLES, proxy)
        variables |= dict.fromkeys(NO_PROXY_VARIABLES, direct)
    return variables


def direct_hosts(settings: Settings, environ: Mapping[str, str]) -> str:
    """The hosts that are never proxied: the user's own, this machine, and the tracking server.

    gRPC sends even calls to 127.0.0.1 through a proxy, and Spark Connect dies of that.
    """
    given = [host for name in NO_PROXY_VARIABLES for host in environ.get(name, "").split(",")]
    tracking = urlsplit(settings.tracking or environ.get(TRACKING_VARIABLE, "")).hostname or ""
    hosts = (host.strip() for host in (*given, *NEVER_PROXIED, tracking))
    return ",".join(dict.fromkeys(host for host in hosts if host))


def prepare(settings: Settings, command: Sequence[str], environ: Mapping[str, str]) -> EnvoyBinary:
    """The Envoy to run, once it is sure that the program is there and the state can be written.

    Asked first, so that a mistake costs no identity and leaves nothing behind.

    Raises:
        MissingToolError: there is no such program, or no Envoy.
        EnvoyError: what was found is no Envoy.
        LogFolderError: the state folder cannot be written.
    """
    require_program(command)
    if settings.state.exists() and not settings.state.is_dir():
        raise unusable_state(settings.state, "it is a file")
    envoy = find_envoy(environ, cache=settings.state)
    prepare_state(settings.state)
    return envoy


def supervise_member(
    settings: Settings,
    loaded: LoadedMesh,
    plan: SidecarPlan,
    envoy: EnvoyBinary,
    *,
    say: Say,
    environ: Mapping[str, str],
) -> int:
    """The exit status of the plan's program; says what the user should know before and after."""
    digest = envoy.digest.removeprefix("sha256:")[:12]
    say(f"{plan.sidecar_id}: Envoy {envoy.version} ({envoy.origin}, sha256 {digest})")
    for warning in warnings_before(plan, environ):
        say(f"warning: {warning}")
    try:
        outcome = supervise(plan, binary=envoy, state=settings.folder, logs=settings.logs)
    except EnvoyError as error:
        raise explained(error, loaded) from error
    if plan.client and outcome.requests_total == 0:
        say(
            "warning: no call passed the proxy. urllib3.PoolManager and aiohttp ignore HTTP_PROXY: "
            "use requests or httpx, aiohttp with trust_env=True, or urllib3.ProxyManager"
        )
    return outcome.exit_status


def explained(error: EnvoyError, loaded: LoadedMesh) -> EnvoyError:
    """Envoy's refusal with a place in the mesh file: of a bad regex, Envoy quotes only a piece."""
    piece = error.message.rsplit(": ", 1)[-1]
    places = [loaded.where(path) for path, regex in regexes_of(loaded) if piece in regex]
    advice = f"mend {', or '.join(places)}" if places else f"look for it in {loaded.source}"
    return EnvoyError(error.message, advice=error.advice or advice)


def regexes_of(loaded: LoadedMesh) -> Iterator[tuple[str, str]]:
    """Every regular expression of a mesh file, with its path: Envoy's RE2 alone can judge them."""
    for path, route in Declared.of(require_mesh(loaded)).routes:
        for index, header in enumerate(route.spec.http.match.headers if route.spec.http else ()):
            if header.match and header.match.regex is not None:
                yield (
                    f"{path}.spec.httpRoute.match.headers[{index}].match.regex",
                    header.match.regex,
                )


def warnings_before(plan: SidecarPlan, environ: Mapping[str, str]) -> list[str]:
    """What will be missing, said before the program starts."""
    found = []
    if plan.client and any(environ.get(name) for name in PROXY_VARIABLES):
        found.append(
            "a proxy was already set; while this program runs, its calls take the mesh's instead"
        )
    if plan.client and lacks_package(plan.command):
        found.append(
            f"meshml_dbx is not installed for {plan.command[0]}: its MLflow runs carry no tag, so "
            "calls are joined by client and time, and stages are not recorded"
        )
    return found


def lacks_package(command: Sequence[str]) -> bool:
    """Whether the program is a Python that surely cannot import this package."""
    found = shutil.which(command[0]) if command else None
    interpreter = python_of(Path(found)) if found else None
    if interpreter is None:
        return False
    try:
        done = subprocess.run(
            [interpreter, "-c", HAS_PACKAGE],
            env={**os.environ, RECORD_VARIABLE: ""},
            capture_output=True,
            timeout=PROBE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 1


def python_of(program: Path) -> str | None:
    """The Python that runs a program, when it is one or is a script that names one."""
    if program.name.startswith("python"):
        return str(program)
    try:
        with program.open("rb") as stream:
            first = stream.readline(256)
    except OSError:  # a program may be run by those who may not read it
        return None
    words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    if words and Path(words[0]).name == "env":
        words = [found for word in words[1:] if word[0] != "-" and (found := shutil.which(word))]
    return words[0] if words and Path(words[0]).name.startswith("python") else None
