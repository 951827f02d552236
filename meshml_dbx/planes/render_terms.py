"""What a member that nobody supervises is rendered with: where it runs, and where its files lie.

A placement says what the mesh file does not: the form, ports, image, and names that stay the same
when it is rendered again. The places are the paths that its Envoy uses there.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from meshml_dbx.errors import PortTakenError
from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import Mesh, MeshClient, VirtualNode
from meshml_dbx.planes.envoy_log import declared_log_file
from meshml_dbx.planes.envoy_services import (
    called_services,
    is_gateway,
    needs_grpc_port,
    targets_of,
    tcp_addresses,
)
from meshml_dbx.planes.envoy_terms import LOOPBACK, SYSTEM_AUTHORITIES, IdentityPaths, Wiring
from meshml_dbx.traffic.context import PROCESS_VARIABLE, SIDECAR_VARIABLE

Form = Literal["envoy", "compose", "ecs", "kubernetes"]
FORMS: tuple[Form, ...] = ("envoy", "compose", "ecs", "kubernetes")

DEFAULT_IMAGE = "envoyproxy/envoy:v1.40.0"
SHIPPER_IMAGE = "amazon/aws-cli:2.17.0"
EGRESS_PORT, GRPC_PORT, TCP_PORT, READY_PORT = 15001, 15002, 15010, 15021
ENVOY_USER = 101
FIRST_FREE_PORT = 1024
"""Below it, only whoever is allowed to may listen."""

FLAGS = (
    "--disable-hot-restart",
    *("--concurrency", "2"),
    *("--file-flush-interval-msec", "200"),
    "--reject-unknown-dynamic-fields",
    *("-l", "warning"),
)
TASK_MARK = "MESHML_TASK"
"""What the first container of an ECS task puts the task's own name in place of."""

_STREAMS = ("/dev/stdout", "/dev/stderr")
_LONGEST_NAME = 48
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where and how a member runs that is rendered for elsewhere.

    ``root`` is put before every path in a container: for whoever tries it outside of one. With
    ``logs_to``, an ``s3://`` address, finished log files are taken there.

    >>> Placement(form="kubernetes", member="labels-v2", sidecar_id="labels-v2-0a1b2c3d").bind
    '0.0.0.0'
    """

    form: Form
    member: str
    sidecar_id: str
    process_id: str | None = None
    environment: str | None = None
    peers_at: str | None = None
    egress_port: int = EGRESS_PORT
    grpc_port: int = GRPC_PORT
    tcp_port: int = TCP_PORT
    ready_port: int = READY_PORT
    app_ports: Mapping[int, int] = field(default_factory=dict)
    image: str = DEFAULT_IMAGE
    app_image: str | None = None
    user: str = f"{ENVOY_USER}:{ENVOY_USER}"
    logs_to: str | None = None
    token: str | None = field(default=None, repr=False)
    system_authorities: str = SYSTEM_AUTHORITIES
    root: str = ""

    @property
    def bind(self) -> str:
        """The address for peers: a container's are reached from outside of it."""
        every = "0.0.0.0"  # noqa: S104  # a container's own addresses, which peers must reach
        return self.peers_at or (LOOPBACK if self.form == "envoy" else every)

    @property
    def keeps_files(self) -> bool:
        """Whether calls are logged to files of ours, or to the container's output."""
        return self.form in {"envoy", "compose"} or self.logs_to is not None

    @property
    def places(self) -> "Places":
        """Where its Envoy's files lie."""
        if self.form == "envoy":
            logs = f"logs/{self.sidecar_id}"
            return Places(config=".", certificates="certificates", logs=logs, admin="admin.sock")
        own = {"kubernetes": "own", "ecs": TASK_MARK}.get(self.form, self.sidecar_id)
        return Places(
            config=f"{self.root}/etc/meshml/envoy",
            certificates=f"{self.root}/etc/meshml/certificates",
            logs=f"{self.root}/var/log/meshml/{own}",
            admin=f"{self.root}/var/run/meshml/admin.sock",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Paths as Envoy sees them; ``logs`` is the folder of this sidecar's log alone.

    >>> Places(config=".", certificates="c", logs="logs/a-1", admin="admin.sock").access_log
    'logs/a-1/live/access.jsonl'
    """

    config: str
    certificates: str
    logs: str
    admin: str

    @property
    def access_log(self) -> str:
        """Where Envoy writes."""
        return f"{self.logs}/live/access.jsonl"

    @property
    def log_root(self) -> str:
        """The folder of the logs of many sidecars."""
        return self.logs.rpartition("/")[0]


# --- identities -------------------------------------------------------------------------------


def certificate_files(sources: Mapping[str, IdentityPaths]) -> dict[str, str]:
    """The files that Envoy reads certificates from, flat in one folder, and where they come from.

    Flat, because a folder that changes as a whole (a Secret's volume does) shows that to those
    who watch itself, not to those who watch a folder in it.
    """
    found = {}
    for name, paths in sources.items():
        placed = _placed(name, "")
        for target, source in zip(_of(placed), _of(paths), strict=True):
            if source and target:
                found[target.removeprefix("/")] = source
    return found


def placed_identities(
    sources: Mapping[str, IdentityPaths], folder: str
) -> dict[str, IdentityPaths]:
    """The same secrets as files of one folder."""
    return {
        name: IdentityPaths(
            certificate_chain=placed.certificate_chain if paths.certificate_chain else None,
            private_key=placed.private_key if paths.private_key else None,
            authority=placed.authority if paths.authority else None,
        )
        for name, paths in sources.items()
        for placed in (_placed(name, folder),)
    }


def _placed(name: str, folder: str) -> IdentityPaths:
    safe = name if _PLAIN_NAME.fullmatch(name) else f"named-{digest(name)}"
    return IdentityPaths(
        certificate_chain=f"{folder}/{safe}.tls.crt",
        private_key=f"{folder}/{safe}.tls.key",
        authority=f"{folder}/{safe}.authority.crt",
    )


def _of(paths: IdentityPaths) -> tuple[str | None, str | None, str | None]:
    return paths.certificate_chain, paths.private_key, paths.authority


def digest(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


# --- wiring -----------------------------------------------------------------------------------


def wiring_of(mesh: Mesh, placement: Placement, identities: Mapping[str, IdentityPaths]) -> Wiring:
    """How the member's Envoy is connected there.

    Raises:
        PortTakenError: two of its listeners would have one port.
    """
    member, places = placement.member, placement.places
    has_egress = not is_gateway(mesh, member) and (
        is_client(mesh, member) or bool(names.backends_of(mesh, member))
    )
    wiring = Wiring(
        sidecar_id=placement.sidecar_id,
        process_id=placement.process_id,
        environment=placement.environment,
        access_log=places.access_log if placement.keeps_files else "/dev/stdout",
        bind=placement.bind,
        app_ports=placement.app_ports,
        identities=identities,
        admin_socket=places.admin,
        declared_log=_declared_log(mesh, placement),
        system_authorities=placement.system_authorities,
    )
    if placement.form == "kubernetes":
        columns = {"sidecar_id": SIDECAR_VARIABLE, "process_id": PROCESS_VARIABLE}
        wiring = replace(wiring, from_environment=columns)
    if has_egress:
        wiring = _with_egress(mesh, placement, wiring)
    _require_distinct(_ports(mesh, placement, wiring))
    return wiring


def is_client(mesh: Mesh, member: str) -> bool:
    """Whether a member only calls."""
    return isinstance(names.member(mesh, member), MeshClient)


def listener_ports(mesh: Mesh, member: str) -> tuple[int, ...]:
    """Where peers reach a member."""
    return tuple(it.port_mapping.port for it in names.member_listeners(mesh, member))


def has_ready_port(placement: Placement) -> bool:
    """Whether others must ask whether it serves; at home, its admin socket says so."""
    return placement.form != "envoy"


def _with_egress(mesh: Mesh, placement: Placement, wiring: Wiring) -> Wiring:
    has_grpc = needs_grpc_port(mesh, placement.member)
    services = tcp_addresses(mesh, placement.member)
    return replace(
        wiring,
        egress_port=placement.egress_port,
        grpc_port=placement.grpc_port if has_grpc else None,
        grpc_socket="grpc.sock" if has_grpc and placement.form == "envoy" else None,
        tcp_ports={name: placement.tcp_port + at for at, name in enumerate(services)},
        token=placement.token,
    )


def _declared_log(mesh: Mesh, placement: Placement) -> str | None:
    """Where the access log that the mesh file asks for goes; in a container few paths are open."""
    file = declared_log_file(mesh, placement.member)
    if file is None or file.path in _STREAMS:
        return None
    if placement.form == "envoy" and file.path.startswith("/"):
        return None
    if not placement.keeps_files:
        return "/dev/stdout"
    return f"{placement.places.logs}/declared-{file.path.rpartition('/')[2]}"


def _ports(mesh: Mesh, placement: Placement, wiring: Wiring) -> Iterable[tuple[int, str]]:
    for port in listener_ports(mesh, placement.member):
        yield port, "a listener of the mesh file"
    for port in dict.fromkeys(wiring.app_ports.values()):
        yield port, "the program (--app-port)"
    if wiring.egress_port:
        yield wiring.egress_port, "the program's proxy (--egress-port)"
    if wiring.grpc_port:
        yield wiring.grpc_port, "the program's gRPC port (--grpc-port)"
    for name, port in wiring.tcp_ports.items():
        yield port, f"the local port of {name} (--tcp-port)"
    if has_ready_port(placement):
        yield placement.ready_port, "the readiness port (--ready-port)"


def _require_distinct(ports: Iterable[tuple[int, str]]) -> None:
    taken: dict[int, str] = {}
    for port, owner in ports:
        if port in taken:
            raise PortTakenError(
                f"port {port} would be that of {taken[port]} and of {owner}",
                advice="they share one network: give one of them another port",
            )
        taken[port] = owner


# --- the whole --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """A member, wired for its place, with what its program is told and what certifies it.

    ``certificates`` are the files of the folder of certificates, each with where it comes from;
    ``inline`` has their content where the user wants it in a manifest. ``valid_until`` is when the
    first of them ends.

    >>> placement = Placement(form="envoy", member="job", sidecar_id="job-0a1b2c3d")
    >>> from meshml_dbx.mesh.spec import MeshHead
    >>> Rendering(mesh=Mesh(mesh=MeshHead(mesh_name="ml")), placement=placement,
    ...           wiring=Wiring(sidecar_id="job-0a1b2c3d", access_log="a.jsonl")).member
    'job'
    """

    mesh: Mesh
    placement: Placement
    wiring: Wiring
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificates: Mapping[str, str] = field(default_factory=dict)
    inline: Mapping[str, str] | None = field(default=None, repr=False)
    valid_until: str | None = None

    @property
    def member(self) -> str:
        """Whose Envoy it is."""
        return self.placement.member

    @property
    def mesh_name(self) -> str:
        """The mesh that it is a member of."""
        return self.mesh.mesh.mesh_name

    @property
    def has_program(self) -> bool:
        """Whether a program runs beside it: a gateway has none."""
        return not is_gateway(self.mesh, self.member)

    @property
    def ports(self) -> tuple[int, ...]:
        """Where peers reach it."""
        return listener_ports(self.mesh, self.member)

    @property
    def takes_low_ports(self) -> bool:
        """Whether one of its ports is open to privileged users only, unless the kernel is told."""
        return any(port < FIRST_FREE_PORT for port in self.ports)

    @property
    def hostname(self) -> str | None:
        """The name by which the mesh finds a node."""
        return _hostname(self.mesh, self.member)


def loopback_notes(rendering: Rendering) -> tuple[str, ...]:
    """Nodes that the mesh finds on this very machine, which elsewhere is each container itself."""
    if rendering.placement.form == "envoy":
        return ()
    mesh, member = rendering.mesh, rendering.member
    called = [
        target.virtual_node
        for one in called_services(mesh, member)
        for target, _ in targets_of(one)
    ]
    own = [member] if rendering.hostname else []
    found = (node for node in dict.fromkeys((*own, *called)) if _is_here(mesh, node))
    return tuple(
        f"virtual node {node} is found at {_hostname(mesh, node)}, which in a container is the "
        "container itself: give it a name in serviceDiscovery"
        for node in found
    )


def user_notes(placement: Placement) -> tuple[str, ...]:
    """That Envoy runs as root, where root rendered the keys that it reads."""
    if placement.form != "compose" or placement.user.partition(":")[0] != "0":
        return ()
    return ("Envoy runs as root, who rendered this folder: render as a user who may do less",)


def _is_here(mesh: Mesh, node: str) -> bool:
    hostname = _hostname(mesh, node) or ""
    return hostname in {"localhost", "::1"} or hostname.startswith("127.")


def _hostname(mesh: Mesh, member: str) -> str | None:
    found = names.member(mesh, member)
    discovery = found.spec.service_discovery if isinstance(found, VirtualNode) else None
    return discovery.hostname if discovery else None


def resource_name(text: str) -> str:
    """A name that Kubernetes, ECS and compose take.

    >>> resource_name("labels_v2.EU"), resource_name("2nd")
    ('labels-v2-eu', 'm-2nd')
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "member"
    if len(name) > _LONGEST_NAME:  # others may begin alike
        name = f"{name[: _LONGEST_NAME - 13].strip('-')}-{digest(text)}"
    return name if name[0].isalpha() else f"m-{name}"
