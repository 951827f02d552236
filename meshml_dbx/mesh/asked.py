"""A person's question about a call, as the values that the matcher takes.

Words as on a command line go in: who calls, a method and an address, headers. A request, and then
its explanation, come out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote, urlsplit

from meshml_dbx.errors import MeshMLError, UnknownNameError
from meshml_dbx.mesh import names
from meshml_dbx.mesh.checks import require_mesh
from meshml_dbx.mesh.explained import (
    RequestExplanation,
    explain_connection,
    explain_request,
    explain_service,
)
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.requests import Headers, Request
from meshml_dbx.mesh.spec import Mesh

# What an address may hold as it is; clients send everything else percent-encoded.
_KEPT = "/%!$&'()*+,;=:@-._~\\\"<>^`{|}[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who calls, and what: ``call`` is an address, or a method and an address.

    >>> Question(call=("GET", "http://labels.ml.local/v1"), client="churn-training").grpc is None
    True
    """

    call: tuple[str, ...] = ()
    client: str | None = None
    node: str | None = None
    gateway: str | None = None
    service: str | None = None
    headers: tuple[str, ...] = ()
    grpc: str | None = None
    tcp: str | None = None


def explain(loaded: LoadedMesh, question: Question) -> RequestExplanation:
    """The answer to a question.

    Raises:
        MeshInvalidError: the mesh file cannot be read as a mesh.
        UnknownNameError: the mesh has nobody of that name.
        MeshMLError: the question is none.
    """
    mesh = loaded.mesh or require_mesh(loaded)
    if question.service and not question.tcp:
        request = request_of(question.call, question.headers, question.grpc)
        return explain_service(loaded, mesh, names.service(mesh, question.service), request)
    member = _caller(mesh, question)
    if question.tcp:
        return explain_connection(loaded, mesh, member, question.tcp)
    request = request_of(question.call, question.headers, question.grpc)
    if request.scheme == "https" and not question.gateway:
        request = _as_tunnel(request)
    return explain_request(loaded, mesh, member, request)


def _caller(mesh: Mesh, question: Question) -> str:
    """The one member that the question names; without a name, the mesh's only client."""
    if question.client:
        return names.find_client(mesh, question.client).client_name
    if question.node:
        node = names.find_node(mesh, question.node)
        if node.is_external:
            raise UnknownNameError(
                f"{question.node} runs outside the mesh: it has no proxy to route its calls",
                advice="ask for a client, or for a node with a sidecar",
            )
        return node.virtual_node_name
    if question.gateway:
        return names.gateway(mesh, question.gateway).virtual_gateway_name
    if len(mesh.clients) == 1:
        return mesh.clients[0].client_name
    there = ", ".join(sorted(names.index(mesh).members)) or "nobody"
    raise UnknownNameError(
        "who calls is not said", advice=f"name one with --client, --node or --gateway: {there}"
    )


def request_of(call: Sequence[str], headers: Sequence[str], grpc: str | None = None) -> Request:
    """A request as a program would send it.

    >>> request_of(["labels.ml.local/v1 x#top"], ["x-cohort: b"]).path
    '/v1%20x'
    """
    if not 1 <= len(call) <= len(("method", "address")):
        raise MeshMLError(
            f"a call is an address, or a method and an address, not {' '.join(call) or 'nothing'}",
            advice="write it as: GET http://NAME/path",
        )
    method = call[0].upper() if len(call) > 1 else "GET"
    address = call[-1] if "://" in call[-1] else f"http://{call[-1]}"
    parts = urlsplit(address)
    authority = parts.netloc.rpartition("@")[2]
    if parts.scheme not in {"http", "https"} or not authority:
        raise MeshMLError(
            f"{call[-1]} is no address of http or https", advice="write it as http://NAME/path"
        )
    query = f"?{quote(parts.query, safe=_KEPT + '?')}" if parts.query else ""
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    request = Request(
        authority=authority,
        method=method,
        path=quote(parts.path or "/", safe=_KEPT) + query,
        headers=tuple(_pair(header) for header in headers),
        scheme=scheme,
    )
    return _as_grpc(request, grpc) if grpc else request


def _as_grpc(request: Request, called: str) -> Request:
    sent: Headers = (*request.headers, ("content-type", "application/grpc"))
    path = f"/{called.strip('/')}"
    return replace(request, method="POST", path=path, headers=sent, protocol="grpc")


def _as_tunnel(request: Request) -> Request:
    """What a client of a proxy sends for https: the host to be connected with, and no path."""
    authority = request.authority
    with_port = authority if authority.rpartition(":")[2].isdigit() else f"{authority}:443"
    return replace(request, method="CONNECT", authority=with_port, path="")


def _pair(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise MeshMLError(f"{header!r} is no header", advice="write it as -H 'name: value'")
    return name.strip(), value.strip()
