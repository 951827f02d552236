"""One member of a mesh on this machine: its identities, its Envoy's files, its program's world.

Part of the hall: it brings mesh, trust, plane and sidecar together for ``Session.run``,
``Session.sidecar`` and ``Session.gateway``. Goes in: settings, the mesh and a member's name. Comes
out: a plan that the sidecar room carries out.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from meshml_dbx.errors import EnvoyError
from meshml_dbx.mesh.checks import require_mesh
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.names import backends_of, mesh_version
from meshml_dbx.mesh.places import Declared
from meshml_dbx.mesh.spec import GatewayRoute, Mesh, Route
from meshml_dbx.planes import Wiring, render, require_sidecar
from meshml_dbx.settings import Settings, prepare_state, unusable_state
from meshml_dbx.sidecar import EnvoyBinary, SidecarPlan, find_envoy, require_free, supervise
from meshml_dbx.sidecar.program import require_program
from meshml_dbx.traffic.context import RECORD_VARIABLE, job_context
from meshml_dbx.wiring import (
    LOOPBACK,
    PROXY_VARIABLES,
    TCP_PREFIX,
    WIRING_FILE,
    Serving,
    direct_hosts,
    listens_of,
    local_addresses,
    program_environment,
    program_ports,
    wire,
    wiring_to_text,
)

__all__ = [
    "Serving",
    "direct_hosts",
    "explained",
    "lacks_package",
    "member_files",
    "plan_client",
    "plan_gateway",
    "plan_node",
    "prepare",
    "python_of",
    "supervise_member",
    "warnings_before",
]

Say = Callable[[str], None]
HAS_PACKAGE = "import importlib.util,sys;sys.exit(importlib.util.find_spec('meshml_dbx') is None)"
PROBE_S = 10


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
        EnvoyError: the node runs outside the mesh.
        PortTakenError: a port of the node or of its program is in use.
        TrustError: as ``plan_client``.
    """
    mesh = require_mesh(loaded)
    require_sidecar(mesh, name)
    ports = program_ports(mesh, name, serving)
    for port in set(ports.values()) if serving.command else ():
        require_free(LOOPBACK, port)
    wiring = wire(
        settings,
        loaded,
        name,
        egress=bool(backends_of(mesh, name)),
        bind=serving.bind,
        app_ports=ports,
    )
    return plan_member(
        settings, loaded, wiring, member=name, observer="ingress", command=serving.command
    )


def plan_gateway(settings: Settings, loaded: LoadedMesh, name: str, *, bind: str) -> SidecarPlan:
    """The plan of a virtual gateway: its listeners, with no program behind them.

    Raises:
        PortTakenError: a port of the gateway is in use.
        TrustError: as ``plan_client``.
    """
    wiring = wire(settings, loaded, name, egress=False, bind=bind)
    return plan_member(settings, loaded, wiring, member=name, observer="gateway", command=())


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
    is_client = observer == "egress"
    return SidecarPlan(
        sidecar_id=wiring.sidecar_id,
        process_id=wiring.process_id,
        mesh=mesh.mesh.mesh_name,
        mesh_version=mesh_version(mesh),
        mesh_source=loaded.source,
        mesh_document=loaded.text,
        observer=observer,
        client=member if is_client else None,
        virtual_node=None if is_client else member,
        environment=wiring.environment,
        files=member_files(mesh, member, wiring),
        listens=listens_of(loaded, member, wiring),
        command=command,
        program_environment=program_environment(settings, wiring, member, os.environ),
        notes=notes_on(settings, wiring),
        job=job_context(os.environ),
    )


def member_files(mesh: Mesh, member: str, wiring: Wiring) -> dict[str, str]:
    """Everything that lies in a sidecar's folder: Envoy's files, and the wiring they came from."""
    return {**render(mesh, member, wiring), WIRING_FILE: wiring_to_text(wiring)}


def notes_on(settings: Settings, wiring: Wiring) -> tuple[str, ...]:
    """What a user should know of a sidecar beside its listeners."""
    local = local_addresses(settings, wiring)
    first = {address: name for name, address in reversed(local.items())}
    found = [f"{name}={address}" for name, address in local.items() if first[address] == name]
    if wiring.declared_log:
        found.append(f"the access log of the mesh file (logging): {wiring.declared_log}")
    return tuple(found)


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
    for note in plan.notes:
        say(f"{plan.sidecar_id}: {note}")
    for warning in warnings_before(plan, environ):
        say(f"warning: {warning}")
    try:
        outcome = supervise(plan, binary=envoy, state=settings.folder, logs=settings.logs)
    except EnvoyError as error:
        raise explained(error, loaded) from error
    if plan.client and outcome.requests_total == 0 and not calls_by_tcp(plan):
        say(
            "warning: no call passed the proxy. urllib3.PoolManager and aiohttp ignore HTTP_PROXY: "
            "use requests or httpx, aiohttp with trust_env=True, or urllib3.ProxyManager"
        )
    return outcome.exit_status


def calls_by_tcp(plan: SidecarPlan) -> bool:
    """Whether the program may have made connections that are no calls."""
    return any(name.startswith(TCP_PREFIX) for name in plan.program_environment)


def explained(error: EnvoyError, loaded: LoadedMesh) -> EnvoyError:
    """Envoy's refusal with a place in the mesh file: of a bad regex, Envoy quotes only a piece."""
    piece = error.message.rsplit(": ", 1)[-1]
    places = [loaded.where(path) for path, regex in regexes_of(loaded) if piece in regex]
    advice = f"mend {', or '.join(places)}" if places else f"look for it in {loaded.source}"
    return EnvoyError(error.message, advice=error.advice or advice)


def regexes_of(loaded: LoadedMesh) -> Iterator[tuple[str, str]]:
    """Every regular expression of a mesh file, with its path: Envoy's RE2 alone can judge them."""
    declared = Declared.of(require_mesh(loaded))
    placed: list[tuple[str, Route | GatewayRoute]] = [
        *((path, route) for path, _, route in declared.routes),
        *((path, route) for path, _, route in declared.gateway_routes),
    ]
    for path, route in placed:
        at, match = f"{path}.spec.{route.spec.field}.match", route.spec.route.match
        field = "metadata" if hasattr(match, "metadata") else "headers"
        for index, header in enumerate(getattr(match, field, ())):
            if header.match and header.match.regex is not None:
                yield f"{at}.{field}[{index}].match.regex", header.match.regex
        whole = getattr(match, "path", None)
        if whole and whole.regex is not None:
            yield f"{at}.path.regex", whole.regex


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
