"""How long a call may last and what is tried again, each with where it comes from.

A decision goes in, its settings come out: declared, with file and line; App Mesh's default; or
injected, where the mesh says so. The values are those that the Envoy plane renders.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.matcher import Decision
from meshml_dbx.mesh.routing import DEFAULT_IDLE_S, DEFAULT_TIMEOUT_S
from meshml_dbx.mesh.spec import (
    Duration,
    GrpcRetryPolicy,
    Mesh,
    RetryPolicy,
    Route,
    TcpRoute,
    VirtualNode,
)

_INJECTED = "2 retries on gRPC unavailable, HTTP 503, connect failure, refused stream or reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One policy's value in words, and who says so."""

    name: str
    value: str
    source: str
    where: str


def route_settings(loaded: LoadedMesh, mesh: Mesh, decision: Decision) -> Iterator[Setting]:
    """The time-outs and retries of the caller's side."""
    if decision.rule and isinstance(decision.rule.declared, Route):
        yield from _of_route(loaded, mesh, decision.rule.declared, decision.rule.place)
    elif decision.outcome == "node" and decision.reached:
        name = decision.reached.provided.name
        place = f"virtualServices[{name}].spec.provider"
        yield _limit(loaded, place, "idle", None, DEFAULT_IDLE_S)
        if decision.reached.way.protocol != "tcp":
            yield _limit(loaded, place, "perRequest", None, DEFAULT_TIMEOUT_S)
            yield _retries(loaded, mesh, None, place)


def _of_route(loaded: LoadedMesh, mesh: Mesh, route: Route, place: str) -> Iterator[Setting]:
    found, base = route.spec.route, f"{place}.spec.{route.spec.field}"
    idle = found.timeout.idle if found.timeout else None
    if isinstance(found, TcpRoute):
        yield _limit(loaded, f"{base}.timeout", "idle", idle, DEFAULT_IDLE_S)
        return
    whole = found.timeout.per_request if found.timeout else None
    yield _limit(loaded, f"{base}.timeout", "perRequest", whole, DEFAULT_TIMEOUT_S)
    yield _limit(loaded, f"{base}.timeout", "idle", idle, DEFAULT_IDLE_S)
    yield _retries(loaded, mesh, found.retry_policy, f"{base}.retryPolicy")


def listener_settings(
    loaded: LoadedMesh, node: VirtualNode, index: int | None
) -> Iterator[Setting]:
    """The time-outs of the called side; who runs outside the mesh has none that it knows of."""
    if index is None or node.is_external:
        return
    listener = node.spec.listeners[index]
    place = f"virtualNodes[{node.virtual_node_name}].spec.listeners[{index}]"
    timeout = listener.timeout
    base = f"{place}.timeout.{timeout.field}" if timeout else place
    idle = timeout.idle if timeout else None
    if listener.port_mapping.protocol != "tcp":
        requests = timeout.of_requests if timeout else None  # those of tcp are not for requests
        whole, idle = (requests.per_request, requests.idle) if requests else (None, None)
        yield _limit(loaded, base, "perRequest", whole, DEFAULT_TIMEOUT_S)
    yield _limit(loaded, base, "idle", idle, DEFAULT_IDLE_S)


def _limit(
    loaded: LoadedMesh, parent: str, name: str, declared: Duration | None, default: float
) -> Setting:
    seconds = default if declared is None else declared.seconds
    return Setting(
        name=name,
        value=_shown(seconds) if seconds else "no limit",
        source="App Mesh's default" if declared is None else "declared",
        where=loaded.where(parent if declared is None else f"{parent}.{name}"),
    )


def _retries(
    loaded: LoadedMesh, mesh: Mesh, policy: RetryPolicy | GrpcRetryPolicy | None, place: str
) -> Setting:
    if policy:
        return Setting(
            name="retries", value=_said(policy), source="declared", where=loaded.where(place)
        )
    if mesh.injected_defaults == "modern":
        source = "injected, as App Mesh did (injectedDefaults: modern)"
        where = loaded.where("injectedDefaults")
        return Setting(name="retries", value=_INJECTED, source=source, where=where)
    return Setting(name="retries", value="none", source="none declared", where=loaded.where(place))


def _said(policy: RetryPolicy | GrpcRetryPolicy) -> str:
    grpc = policy.grpc_retry_events if isinstance(policy, GrpcRetryPolicy) else ()
    events = ", ".join([*policy.http_retry_events, *policy.tcp_retry_events, *grpc])
    each = policy.per_retry_timeout.seconds
    tries = f", each try up to {_shown(each)}" if each else ""
    count = "1 retry" if policy.max_retries == 1 else f"{policy.max_retries} retries"
    return f"{count} on {events or 'nothing'}{tries}"


def _shown(seconds: float) -> str:
    """Every millisecond of it, however long it is."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"
