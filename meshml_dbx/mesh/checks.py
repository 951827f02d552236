"""What is wrong with a mesh whose form is right: rules that look at two places at once.

A loaded mesh goes in, findings come out, each with its line. The rules are those that the App Mesh
API enforced, and those whose breach shows only later, as a 503 or a call cut short.
"""

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence

from meshml_dbx.errors import MeshInvalidError
from meshml_dbx.findings import Finding, Severity, finding
from meshml_dbx.mesh.identities import find_foreign_authorities, find_refused_peers
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.names import closest
from meshml_dbx.mesh.places import (
    Declared,
    Problem,
    placed_backends,
    placed_listeners,
    placed_routes,
    placed_targets,
)
from meshml_dbx.mesh.routing import ordered_routes, timeout_s
from meshml_dbx.mesh.spec import (
    HeaderMatch,
    HttpRouteMatch,
    Mesh,
    MeshClientSpec,
    Route,
    WeightedTarget,
)


def check_mesh(loaded: LoadedMesh) -> tuple[Finding, ...]:
    """Everything that is wrong, or worth knowing, in a mesh file, in the order of its lines."""
    if loaded.mesh is None:
        return loaded.findings
    declared = Declared.of(loaded.mesh)
    problems = dict.fromkeys(problem for check in _CHECKS for problem in check(declared))
    placed = sorted(problems, key=lambda problem: loaded.line_near(problem.path))
    return loaded.findings + tuple(
        finding(one.code, where=loaded.where(one.path), what=one.what) for one in placed
    )


def require_mesh(loaded: LoadedMesh) -> Mesh:
    """The mesh that a file declares; raises MeshInvalidError if any finding is an error."""
    errors = [one for one in check_mesh(loaded) if one.severity is Severity.ERROR]
    if loaded.mesh is not None and not errors:
        return loaded.mesh
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors, the first of them"
    raise MeshInvalidError(
        f"{loaded.source} has {count}: {errors[0]}",
        findings=errors,
        advice=f"meshml check {shlex.quote(loaded.source)}",
    )


# --- names ------------------------------------------------------------------------------------


def _duplicate_names(declared: Declared) -> Iterator[Problem]:
    clients = [one for one in declared.members if isinstance(one.spec, MeshClientSpec)]
    yield from _repeated("client", [(one.path, one.name) for one in clients])
    yield from _repeated(
        "virtual node", [(path, it.virtual_node_name) for path, it in declared.nodes]
    )
    yield from _repeated(
        "virtual router", [(path, it.virtual_router_name) for path, it in declared.routers]
    )
    # authorities are compared without regard to case
    yield from _repeated(
        "virtual service",
        [(path, it.virtual_service_name.lower()) for path, it in declared.services],
    )
    for path, router in declared.routers:
        routes = [(place, route.route_name) for place, route in placed_routes(path, router)]
        yield from _repeated(f"route of {router.virtual_router_name}", routes)
    for client in clients:
        if client.name in declared.node_named:
            what = f"client {client.name} is named as a virtual node: they would be one identity"
            yield Problem("duplicate-name", client.path, what)
    for member in declared.members:
        named = [(path, it.virtual_service_name) for path, it in placed_backends(member)]
        yield from _repeated(f"backend of {member.name}", named)


def _repeated(kind: str, named: Sequence[tuple[str, str]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, name in named:
        if name in seen:
            yield Problem("duplicate-name", path, f"a second {kind} is named {name}")
        seen.add(name)


def _dangling_references(declared: Declared) -> Iterator[Problem]:
    for member in declared.members:
        for path, backend in placed_backends(member):
            place, name = f"{path}.virtualServiceName", backend.virtual_service_name
            yield from _missing("virtual service", place, name, declared.service_named)
    for path, service in declared.services:
        provider = service.spec.provider
        place = f"{path}.spec.provider"
        if provider and provider.virtual_router:
            place, name = f"{place}.virtualRouter", provider.virtual_router.virtual_router_name
            yield from _missing(
                "virtual router", f"{place}.virtualRouterName", name, declared.router_named
            )
        if provider and provider.virtual_node:
            place, name = f"{place}.virtualNode", provider.virtual_node.virtual_node_name
            yield from _missing(
                "virtual node", f"{place}.virtualNodeName", name, declared.node_named
            )
    for path, route in declared.routes:
        for place, target in placed_targets(path, route):
            at, name = f"{place}.virtualNode", target.virtual_node
            yield from _missing("virtual node", at, name, declared.node_named)


def _missing(kind: str, path: str, name: str, known: Collection[str]) -> Iterator[Problem]:
    if name not in known:
        guess = closest(name, known)
        asked = f"; did you mean {guess}?" if guess else ""
        yield Problem("dangling-reference", path, f"there is no {kind} {name}{asked}")


# --- nodes ------------------------------------------------------------------------------------


def _undiscoverable(declared: Declared) -> Iterator[Problem]:
    for path, node in declared.nodes:
        if node.spec.listeners and node.spec.service_discovery is None:
            what = f"{node.virtual_node_name} has a listener and needs the field serviceDiscovery"
            yield Problem("missing-field", f"{path}.spec", what)


def _same_addresses(declared: Declared) -> Iterator[Problem]:
    first: dict[tuple[str, int], str] = {}
    for path, node, listener in placed_listeners(declared):
        if node.spec.service_discovery is None:
            continue
        port = listener.port_mapping.port
        host = node.spec.service_discovery.hostname.lower()
        owner = first.setdefault((host, port), path)
        if owner != path:
            what = f"{node.virtual_node_name} is reached at {host}:{port}, as is {owner}"
            yield Problem("same-address", f"{path}.portMapping.port", what)


def _plaintext(declared: Declared) -> Iterator[Problem]:
    for path, node, listener in placed_listeners(declared):
        mode = listener.tls.mode if listener.tls else "no tls"
        if mode != "STRICT":
            what = f"{node.virtual_node_name} serves anyone who reaches it in plain text ({mode})"
            yield Problem("plaintext", f"{path}.tls" if listener.tls else path, what)


# --- services and routes ----------------------------------------------------------------------


def _no_provider(declared: Declared) -> Iterator[Problem]:
    for path, service in declared.services:
        if service.spec.provider is None:
            what = f"{service.virtual_service_name} has no provider: its calls are answered 503"
            yield Problem("no-provider", path, what)


def _target_ports(declared: Declared) -> Iterator[Problem]:
    for path, route in declared.routes:
        for place, target in placed_targets(path, route):
            if target.virtual_node in declared.node_named:
                _, node = declared.node_named[target.virtual_node]
                yield from _target_port(
                    place, target, [it.port_mapping.port for it in node.spec.listeners]
                )
    for path, service in declared.services:
        provider = service.spec.provider
        direct = (
            provider.virtual_node.virtual_node_name if provider and provider.virtual_node else ""
        )
        if direct in declared.node_named and not declared.node_named[direct][1].spec.listeners:
            yield Problem("dangling-reference", f"{path}.spec.provider", _no_listener(direct))


def _target_port(path: str, target: WeightedTarget, ports: Sequence[int]) -> Iterator[Problem]:
    there = ", ".join(str(port) for port in ports)
    if not ports:
        what = _no_listener(target.virtual_node)
        yield Problem("dangling-reference", f"{path}.virtualNode", what)
    elif target.port is None and len(ports) > 1:
        what = f"{target.virtual_node} listens on {there}: the target needs the field port"
        yield Problem("missing-field", path, what)
    elif target.port is not None and target.port not in ports:
        what = f"{target.virtual_node} does not listen on {target.port}, but on {there}"
        yield Problem("dangling-reference", f"{path}.port", what)


def _no_listener(node: str) -> str:
    return f"{node} has no listener to be called at"


def _zero_weights(declared: Declared) -> Iterator[Problem]:
    for path, route in declared.routes:
        if not any(target.weight for _, target in placed_targets(path, route)):
            what = f"all weights of {route.route_name} are 0: its calls are answered 503"
            yield Problem("zero-weight", f"{path}.spec.httpRoute.action.weightedTargets", what)


def _retry_budgets(declared: Declared) -> Iterator[Problem]:
    for path, route in declared.routes:
        http = route.spec.http
        policy, whole = http.retry_policy if http else None, timeout_s(route)
        if policy is None or whole is None:
            continue
        each, tries = policy.per_retry_timeout.seconds, policy.max_retries + 1
        if whole < each * tries:
            what = (
                f"perRequest of {route.route_name} is {whole:g} s, but {tries} tries of "
                f"{each:g} s may take {each * tries:g} s"
            )
            yield Problem("retry-budget", f"{path}.spec.httpRoute.timeout.perRequest", what)


def _unreachable_routes(declared: Declared) -> Iterator[Problem]:
    for path, router in declared.routers:
        place = {id(route): where for where, route in placed_routes(path, router)}
        ordered = [it for it in ordered_routes(router) if it.spec.http]
        for index, later in enumerate(ordered):
            covers = (it for it in ordered[:index] if _covers(_match(it), _match(later)))
            earlier = next(covers, None)
            if earlier:
                what = f"{earlier.route_name} is asked first and takes every request of it"
                yield Problem("unreachable-route", place[id(later)], what)


def _match(route: Route) -> HttpRouteMatch:
    return route.spec.http.match if route.spec.http else HttpRouteMatch()


def _covers(wide: HttpRouteMatch, narrow: HttpRouteMatch) -> bool:
    """Whether every request that ``narrow`` takes is taken by ``wide``."""
    path = (narrow.path.exact if narrow.path else narrow.prefix) or ""
    same_path = wide.path == narrow.path if wide.path else path.startswith(wide.prefix or "")
    same_method = wide.method in {None, narrow.method}
    return same_path and same_method and all(_implied(it, narrow.headers) for it in wide.headers)


def _implied(header: HeaderMatch, given: Sequence[HeaderMatch]) -> bool:
    presence = header.match is None and not header.invert
    return any(
        it.name.lower() == header.name.lower()
        and (
            (it.match, it.invert) == (header.match, header.invert)
            # whatever a value is compared with, it has to be there
            or (presence and it.match is not None)
        )
        for it in given
    )


def _header_values(declared: Declared) -> Iterator[Problem]:
    for path, route in declared.routes:
        for index, header in enumerate(_match(route).headers):
            place = f"{path}.spec.httpRoute.match.headers[{index}].match"
            method = header.match
            if method and method.range and method.range.end <= method.range.start:
                what = f"range of {header.name} is empty: end is not part of it and must be greater"
                yield Problem("wrong-value", f"{place}.range", what)
            if method and method.regex is not None and _unreadable(method.regex):
                what = f"regex of {header.name} {_unreadable(method.regex)}"
                yield Problem("wrong-value", f"{place}.regex", what)


def _unreadable(regex: str) -> str:
    """Why Envoy's RE2 would refuse a regular expression; nothing if it would not."""
    if re.search(r"\(\?(<?[=!]|>|P=)|(?<!\\)(\\\\)*\\[1-9]", regex):
        return "looks around or back, which Envoy's regular expressions cannot"
    try:
        re.compile(regex)
    except re.error as error:
        return f"is no regular expression: {error}"
    return ""


_CHECKS: tuple[Callable[[Declared], Iterator[Problem]], ...] = (
    _duplicate_names,
    _dangling_references,
    _undiscoverable,
    _same_addresses,
    _plaintext,
    _no_provider,
    _target_ports,
    _zero_weights,
    _retry_budgets,
    _unreachable_routes,
    _header_values,
    find_foreign_authorities,
    find_refused_peers,
)
