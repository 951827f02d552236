"""A lab: any mesh file at work on this machine, each member with a real Envoy of its own.

Goes in: the text of a mesh file, with a free port wherever it says ``…_PORT``, and where the
programs of its nodes listen. Comes out: running sidecars by name, and callers to drive them.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import Mesh
from tests.free_ports import free_port
from tests.planes.envoy_mesh import mesh_of
from tests.planes.envoy_world import TOKEN, Answer, Caller, Sidecar, identities, running

Programs = Mapping[str, int | Mapping[str, int]]
"""By node: its program's port, or, for a node of several ports, one for each ``…_PORT``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A mesh at work: its sidecars by the names of its members, and its ports by theirs."""

    mesh: Mesh
    folder: Path
    ports: Mapping[str, int]
    sidecars: Mapping[str, Sidecar]

    def __getitem__(self, member: str) -> Sidecar:
        """A member's sidecar."""
        return self.sidecars[member]

    def call(
        self,
        member: str,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        /,
        **headers: str,
    ) -> Answer:
        """One call through a member's proxy, on a connection of its own."""
        caller = Caller(self[member].egress_port)
        try:
            return caller.call(url, method, body, **headers)
        finally:
            caller.close()

    def route_of(self, member: str, url: str, method: str = "GET", **headers: str) -> str | None:
        """The route that a call takes, as the proxy logged it."""
        got = self.call(member, url, method, None, **headers)
        return self[member].end_of(got.request_id).route

    def proxy(self, member: str, token: str = TOKEN) -> str:
        """The address that a program finds in ``http_proxy``."""
        return f"http://meshml:{token}@127.0.0.1:{self[member].egress_port}"


@contextmanager
def lab(
    folder: Path,
    text: str,
    programs: Programs | None = None,
    *,
    ports: Mapping[str, int] | None = None,
    authorities: str = "/etc/ssl/certs/ca-certificates.crt",
    dns_port: int | None = None,
) -> Iterator[Lab]:
    """The mesh of a text at work: every client and gateway, and each node that has a program."""
    wanted = dict.fromkeys(re.findall(r"\b([A-Z0-9]+)_PORT\b", text))
    found = {name: (ports or {}).get(name) or free_port() for name in wanted}
    for name, port in found.items():
        text = re.sub(rf"\b{name}_PORT\b", str(port), text)
    mesh = mesh_of(text)
    with ExitStack() as stack:
        sidecars = {}
        for member, own in _members(mesh, programs or {}).items():
            paths = identities(mesh, member, folder / "trust")
            sidecars[member] = stack.enter_context(
                running(
                    folder / member,
                    mesh,
                    member,
                    paths=paths,
                    app_port=own if isinstance(own, int) else None,
                    app_ports={found[name]: port for name, port in own.items()}
                    if isinstance(own, Mapping)
                    else None,
                    authorities=authorities,
                    dns_port=dns_port,
                )
            )
        yield Lab(mesh=mesh, folder=folder, ports=found, sidecars=sidecars)


def _members(mesh: Mesh, programs: Programs) -> dict[str, int | Mapping[str, int] | None]:
    """Nodes first: their callers ask after their health at once."""
    known = names.index(mesh)
    return {**programs, **dict.fromkeys((*known.gateways, *known.clients))}
