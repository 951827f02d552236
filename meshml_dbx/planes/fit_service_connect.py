"""What ECS Service Connect makes of a mesh: names and plain balancing between ECS tasks.

It has a proxy beside each task as App Mesh had, but hardly a setting for it: no routes, no weights,
two retries always, TLS without the caller's certificate. What is no ECS task is not in it.
"""

import re

from meshml_dbx.mesh.spec import (
    BackendGroup,
    Certificate,
    ClientTls,
    CloudMapDiscovery,
    DnsDiscovery,
    Duration,
    EgressFilter,
    FileAccessLog,
    GrpcRoute,
    GrpcRouteMatch,
    HealthCheck,
    HttpRoute,
    HttpRouteMatch,
    HttpTimeout,
    Listener,
    ListenerTls,
    Mesh,
    MeshClient,
    MeshHead,
    MeshServiceDiscovery,
    PortMapping,
    Provider,
    Route,
    RouteAction,
    RouteSpec,
    TcpRouteMatch,
    TcpTimeout,
    VirtualGateway,
    VirtualNode,
    VirtualNodeSpec,
    VirtualRouter,
    VirtualRouterSpec,
    VirtualService,
    VirtualServiceBackend,
)
from meshml_dbx.planes.fit_words import Rules, Ruling, Site, approximated, dropped, kept

KEPT = kept()
LONGEST_ALIAS = 127

_TAGS = dropped(
    "tags",
    "Service Connect has no resource for it",
    "tag the ECS services and the Cloud Map namespace",
)
_OWNER = approximated(
    "owners",
    "a namespace is shared between accounts by AWS RAM",
    "share the namespace with the account",
)
_ANYONE = dropped(
    "backends",
    "every task in the namespace may call every service",
    "close the services' ports with security groups",
)
_TIMEOUT = "one for each port of an ECS service, set at the called service, in whole seconds"


def _node(site: Site) -> Ruling | None:
    node = site.value
    if isinstance(node, VirtualNode) and node.is_external:
        return dropped(
            "nodes outside",
            "it is no ECS task",
            "let its callers call its host name themselves",
        )
    return None


def _injected(site: Site) -> Ruling:
    if site.value == "legacy":
        return dropped(
            "injected defaults",
            "its proxies have limits of their own",
            "limit calls in the program",
        )
    return approximated(
        "injected defaults", "2 retries on connect failure and 503, asked for or not"
    )


def _node_name(site: Site) -> Ruling:
    if re.fullmatch(r"[A-Za-z0-9_-]{1,255}", str(site.value)):
        return kept("as the ECS service's name")
    return approximated("names", "an ECS service's name holds letters, digits, - and _ alone")


def _idle(site: Site) -> Ruling:
    span = site.value
    at_listener = site.near(Listener) is not None
    if isinstance(span, Duration) and at_listener and span.seconds.is_integer():
        return KEPT
    return approximated("time-outs", _TIMEOUT)


def _tls_mode(site: Site) -> Ruling:
    if site.value == "DISABLED":
        return KEPT
    return approximated(
        "TLS of nodes", "servers show certificates of AWS Private CA; callers show none"
    )


def _certificate(site: Site) -> Ruling:
    certificate = site.value
    if isinstance(certificate, Certificate) and certificate.acm:
        return approximated(
            "certificates", "Service Connect issues its own from a private authority, and renews"
        )
    return dropped(
        "certificates",
        "Service Connect takes certificates of AWS Private CA alone, which it issues itself",
        "name a private authority (awsPcaAuthorityArn), or keep TLS in the program",
    )


def _log_path(site: Site) -> Ruling:
    if site.value == "/dev/stdout":
        return approximated("access logs", "to the proxy's standard output, in ECS's own format")
    return dropped(
        "access logs to a file",
        "its proxies log to standard output alone",
        "collect the logs from there, such as by FireLens",
    )


def _service_name(site: Site) -> Ruling:
    name = str(site.value)
    if len(name) <= LONGEST_ALIAS:
        return kept("as the client alias, which callers keep using")
    return dropped(
        "service names",
        f"a client alias has at most {LONGEST_ALIAS} characters",
        "give the service a shorter name, and its callers with it",
    )


def _provider(site: Site) -> Ruling:
    provider = site.value
    if isinstance(provider, Provider) and provider.virtual_router:
        router = site.world.names.routers.get(provider.virtual_router.virtual_router_name)
        if router is None or not _is_plain(router):
            return dropped(
                "routers",
                "a client alias leads to one ECS service, and the router does more",
                "choose by path in the program, or put a load balancer in front",
            )
        return approximated("routers", "as its only target's client alias")
    if isinstance(provider, Provider) and provider.virtual_node:
        node = site.world.names.nodes.get(provider.virtual_node.virtual_node_name)
        if node is not None and node.is_external:
            return dropped(
                "nodes outside", "the node is no ECS task", "let callers call its own host name"
            )
    return KEPT


def _is_plain(router: VirtualRouter) -> bool:
    """Whether a router sends everything to one node."""
    nodes = {
        target.virtual_node
        for route in router.routes
        for target in route.spec.weighted_targets
        if target.weight
    }
    return len(nodes) == 1 and all(_takes_all(route) for route in router.routes)


def _takes_all(route: Route) -> bool:
    match = route.spec.route.match
    everything = (HttpRouteMatch(), HttpRouteMatch(prefix="/"), GrpcRouteMatch(), TcpRouteMatch())
    return match is None or match in everything


def _router(site: Site) -> Ruling | None:
    router = site.value
    if isinstance(router, VirtualRouter) and (
        router.virtual_router_name not in site.world.router_services
    ):
        return dropped(
            "routers that nobody uses",
            "no virtual service names this router",
            "name it as a provider, or take it out",
        )
    return None


def _match(site: Site) -> Ruling:
    if site.value == "/" and site.path.endswith(".prefix"):
        return KEPT
    return dropped(
        "matches",
        "a client alias leads to one ECS service, whatever the request says",
        "choose in the program, or put a load balancer with rules in front",
    )


def _action(site: Site) -> Ruling:
    router = site.near(VirtualRouter)
    if router is not None and _is_plain(router):
        return approximated("weights", "all calls go to the one ECS service")
    return dropped(
        "weights",
        "calls are spread over the tasks of one ECS service alone",
        "shift traffic by ECS's own blue/green, linear or canary deployments",
    )


_RETRIES = approximated(
    "retries", "2 on connect failure and 503, on every call; none of the policy's own"
)

SERVICE_CONNECT: Rules = {
    (Mesh, "injected_defaults"): _injected,
    (Mesh, "tags"): kept("as tags of the ECS services and the namespace"),
    (MeshHead, "mesh_name"): kept("as the Cloud Map namespace"),
    (MeshHead, "mesh_owner"): _OWNER,
    EgressFilter: dropped(
        "the egress filter",
        "its proxies see only the calls to client aliases",
        "close the way out with security groups",
    ),
    MeshServiceDiscovery: dropped(
        "addresses", "Service Connect chooses the addresses itself", "choose by the tasks' subnets"
    ),
    MeshClient: dropped(
        "clients",
        "a Databricks client is no ECS task, and nothing else is inside Service Connect",
        "let it call as a plain client: a load balancer before the ECS service, or VPC Lattice "
        "from an associated VPC with SigV4, or an Envoy of its own with meshml run",
    ),
    # nodes
    VirtualNode: _node,
    (VirtualNode, "virtual_node_name"): _node_name,
    (VirtualNode, "mesh_owner"): _OWNER,
    (VirtualNode, "tags"): kept("as tags of the ECS service"),
    (VirtualNodeSpec, "backend_groups"): _ANYONE,
    (PortMapping, "port"): KEPT,
    (PortMapping, "protocol"): kept("as the port mapping's appProtocol; tcp without one"),
    HealthCheck: approximated("health checks", "as the container's health check, in the task"),
    (HttpTimeout, "per_request"): _idle,
    (HttpTimeout, "idle"): _idle,
    (TcpTimeout, "idle"): _idle,
    (Listener, "connection_pool"): dropped(
        "connection pools",
        "its proxies have no such setting",
        "limit it in the program's own server",
    ),
    (Listener, "outlier_detection"): approximated("outlier detection", "always on, with its own"),
    (ListenerTls, "mode"): _tls_mode,
    (ListenerTls, "certificate"): _certificate,
    (ListenerTls, "validation"): dropped(
        "mutual TLS",
        "callers show no certificate",
        "let the program know its callers by a token, or keep Envoys of your own",
    ),
    (DnsDiscovery, "hostname"): approximated("discovery", "as the discovery name in the namespace"),
    (DnsDiscovery, "response_type"): approximated(
        "discovery", "each call goes to one of all tasks"
    ),
    (DnsDiscovery, "ip_preference"): dropped(
        "addresses", "Service Connect chooses the addresses itself", "choose by the tasks' subnets"
    ),
    (CloudMapDiscovery, "namespace_name"): kept("as the namespace"),
    (CloudMapDiscovery, "service_name"): kept("as the discovery name"),
    (CloudMapDiscovery, "attributes"): dropped(
        "Cloud Map attributes",
        "all tasks of an ECS service are its endpoints",
        "make an ECS service for each group of tasks",
    ),
    (CloudMapDiscovery, "ip_preference"): dropped(
        "addresses", "Service Connect chooses the addresses itself", "choose by the tasks' subnets"
    ),
    (FileAccessLog, "path"): _log_path,
    (FileAccessLog, "format"): dropped(
        "log formats",
        "it logs as TEXT, without response flags, or as JSON, each with fields of its own",
        "take JSON (accessLogConfiguration), and log the rest in the program",
    ),
    # calls
    (VirtualServiceBackend, "virtual_service_name"): _ANYONE,
    (ClientTls, "enforce"): approximated(
        "TLS of calls", "on wherever the called service has it, and never without"
    ),
    (ClientTls, "ports"): dropped(
        "TLS by port", "it is the called service's matter", "set it at each service's port"
    ),
    (ClientTls, "certificate"): dropped(
        "client certificates",
        "callers show none",
        "let the program show a token, or keep Envoys of your own",
    ),
    (ClientTls, "validation"): approximated(
        "validation of servers", "callers trust the private authority of the called service"
    ),
    # services, routers, routes
    (VirtualService, "virtual_service_name"): _service_name,
    (VirtualService, "mesh_owner"): _OWNER,
    (VirtualService, "tags"): _TAGS,
    Provider: _provider,
    VirtualRouter: _router,
    (VirtualRouter, "virtual_router_name"): approximated("routers", "it has no router"),
    (VirtualRouter, "mesh_owner"): _OWNER,
    (VirtualRouter, "tags"): _TAGS,
    VirtualRouterSpec: approximated("ports", "the port is the client alias's"),
    (Route, "route_name"): approximated("routes", "there are none: one way for all calls"),
    (Route, "mesh_owner"): _OWNER,
    (Route, "tags"): _TAGS,
    (RouteSpec, "priority"): approximated("routes", "there are none: one way for all calls"),
    (HttpRouteMatch, "prefix"): _match,
    (HttpRouteMatch, "path"): _match,
    (HttpRouteMatch, "method"): _match,
    (HttpRouteMatch, "scheme"): _match,
    (HttpRouteMatch, "headers"): _match,
    (HttpRouteMatch, "query_parameters"): _match,
    (HttpRouteMatch, "port"): _match,
    GrpcRouteMatch: _match,
    TcpRouteMatch: _match,
    RouteAction: _action,
    (HttpRoute, "retry_policy"): _RETRIES,
    (GrpcRoute, "retry_policy"): _RETRIES,
    # gateways and groups
    VirtualGateway: dropped(
        "gateways",
        "it has no way in from outside, and changes no host or path",
        "put an application load balancer in front of the ECS services",
    ),
    BackendGroup: _ANYONE,
}
