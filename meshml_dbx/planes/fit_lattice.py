"""What VPC Lattice makes of a mesh: services, rules and weights, without a proxy at either end.

What a caller's or a node's proxy did (retries, pools, ejections, mutual TLS) goes; who may call
whom becomes IAM's matter. Rules ask ``lattice_doors``, from which a plan is made too.
"""

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
    HeaderMatch,
    HealthCheck,
    HttpRoute,
    HttpRouteMatch,
    HttpTimeout,
    Listener,
    ListenerTls,
    Mesh,
    MeshClient,
    MeshClientSpec,
    MeshHead,
    MeshServiceDiscovery,
    PortMapping,
    Provider,
    QueryParameterMatch,
    Route,
    RouterListener,
    RouteSpec,
    TcpRoute,
    TcpRouteMatch,
    TcpTimeout,
    VirtualGateway,
    VirtualNode,
    VirtualNodeSpec,
    VirtualRouter,
    VirtualService,
    VirtualServiceBackend,
    WeightedTarget,
)
from meshml_dbx.planes import fit_lattice_routes as rules
from meshml_dbx.planes.fit_words import Rules, Ruling, Site, approximated, dropped, kept
from meshml_dbx.planes.lattice_terms import LEAST_IDLE_S, MOST_IDLE_S, can_check

KEPT = rules.KEPT
MOST_WEIGHTS = 10

_CLIENT_LIBRARY = "let the program, or its client library, do it"
_NO_PLACE = dropped(
    "what a caller is",
    "Lattice knows a caller by its IAM role alone",
    "tag the role; the mesh file keeps it for meshml",
)
_OWNER = approximated(
    "owners",
    "an account sees what is shared with it by AWS RAM",
    "share the service network with the account",
)
_REGISTERED = approximated("discovery", "targets are addresses that each deployment registers")
_UNTOUCHED = approximated(
    "TLS of TCP", "bytes pass a TCP resource as they are: the two programs speak TLS themselves"
)
_ROLES = approximated(
    "backends", "auth policies allow the IAM roles of a service's callers, not their proxies"
)


# --- the mesh, clients, backends --------------------------------------------------------------


def _injected(site: Site) -> Ruling:
    if site.value == "none":
        return KEPT
    what = "retries" if site.value == "modern" else "limits on connections and retries"
    return dropped("injected defaults", f"Lattice adds no {what}", _CLIENT_LIBRARY)


def _tags(site: Site) -> Ruling:
    if isinstance(site.value, dict) and any(key.lower().startswith("aws:") for key in site.value):
        return approximated("tags", "all but those that AWS keeps to itself, aws:…")
    return KEPT


def _caller_tags(_: Site) -> Ruling:
    return dropped("tags", "a caller is no resource of Lattice", "tag its IAM role")


def _backend(site: Site) -> Ruling:
    backend = site.near(VirtualServiceBackend)
    name = backend.virtual_service_name if backend else ""
    doors = site.world.service_doors(name)
    if any(door.protocol != "TCP" for door in doors):
        return _ROLES
    if doors:
        return approximated("backends", "whoever is in the network reaches a TCP resource")
    return dropped(
        "backends",
        "it is no service of Lattice, as nobody provides it there",
        "let the program call the host itself",
    )


def _enforced(site: Site) -> Ruling:
    backend = site.near(VirtualServiceBackend)
    doors = site.world.service_doors(backend.virtual_service_name) if backend else ()
    if doors and not any(door.protocol == "HTTPS" for door in doors):
        return dropped(
            "TLS of calls",
            "no target of the service has TLS, so its listener is plain HTTP",
            "give the node's listener a tls",
        )
    return approximated("TLS of calls", "the program itself speaks HTTPS to Lattice's listener")


# --- nodes ------------------------------------------------------------------------------------


def _node(site: Site) -> Ruling | None:
    node = site.value
    if not isinstance(node, VirtualNode) or not node.is_external:
        return None
    if all(it.port_mapping.protocol == "tcp" for it in node.spec.listeners):
        return None
    return dropped(
        "nodes outside",
        "targets are addresses in a VPC, and this node runs elsewhere",
        "let its callers call its host name themselves",
    )


def _node_listener(site: Site) -> Ruling | None:
    node, listener = site.near(VirtualNode), site.value
    if node is None or not isinstance(listener, Listener):
        return None
    if (node.virtual_node_name, listener.port_mapping.port) in site.world.reached:
        return None
    return dropped(
        "listeners that nobody calls",
        "no virtual service leads here, so there is no target group",
        "declare a virtual service for it, if anybody is to call it",
    )


def _hostname(site: Site) -> Ruling:
    node = site.near(VirtualNode)
    if node and any(it.port_mapping.protocol == "tcp" for it in node.spec.listeners):
        return kept("as the host of its TCP resource")
    return _REGISTERED


def _protocol(site: Site) -> Ruling:
    if site.value == "http":
        return KEPT
    if site.value == "tcp":
        return approximated(
            "TCP", "a resource configuration of one host, reached through a resource gateway"
        )
    return approximated("HTTP/2 and gRPC", "over HTTPS alone: callers have to use TLS")


def _health(site: Site) -> Ruling:
    check = site.value
    if isinstance(check, HealthCheck) and can_check(check):
        return approximated("health checks", "Lattice asks, and not each caller; whole seconds")
    return dropped(
        "health checks",
        "Lattice checks targets by HTTP alone",
        "serve an HTTP path that tells the program's health, and check that",
    )


def _idle(site: Site) -> Ruling:
    if site.near(TcpTimeout) or site.near(TcpRoute):
        return dropped(
            "idle time-outs of TCP",
            "Lattice sets its own for TCP resources",
            "send keep-alives, or reconnect",
        )
    span = site.value
    seconds = span.seconds if isinstance(span, Duration) else 0
    if LEAST_IDLE_S <= seconds <= MOST_IDLE_S:
        return approximated("idle time-outs", "one for a whole service: its longest")
    return approximated(
        "idle time-outs", f"one for a whole service, from {LEAST_IDLE_S} to {MOST_IDLE_S} s"
    )


_PER_REQUEST = dropped(
    "request time-outs",
    "Lattice limits a connection's age and silence, not a request",
    _CLIENT_LIBRARY,
)
_RETRIES = dropped("retries", "Lattice sends each request once", _CLIENT_LIBRARY)
_POOL = dropped(
    "connection pools",
    "Lattice does not limit what a target gets",
    "limit it in the program's own server",
)
_OUTLIERS = dropped(
    "outlier detection",
    "Lattice takes targets out by health checks alone",
    "let the health check fail when the program does",
)


def _tls_mode(site: Site) -> Ruling:
    if site.value == "DISABLED":
        return KEPT
    if _is_tcp(site):
        return _UNTOUCHED
    if site.value == "PERMISSIVE":
        return approximated("TLS of nodes", "Lattice calls the target by HTTPS; plain text ends")
    return approximated("TLS of nodes", "Lattice ends the caller's TLS and calls by HTTPS itself")


def _node_certificate(site: Site) -> Ruling:
    certificate = site.value
    if _is_tcp(site):
        return _UNTOUCHED
    if isinstance(certificate, Certificate) and certificate.acm:
        return approximated(
            "certificates",
            "ACM's certificate stands for the service's domain name at Lattice; targets show "
            "one of their own, which Lattice does not check",
        )
    return approximated(
        "certificates",
        "the program shows it to Lattice, which does not check it; callers see Lattice's own",
    )


def _node_validation(site: Site) -> Ruling:
    if _is_tcp(site):
        return _UNTOUCHED
    return dropped(
        "mutual TLS",
        "Lattice shows a target no certificate",
        "let auth policies say who calls, and security groups that only Lattice does",
    )


def _is_tcp(site: Site) -> bool:
    listener = site.near(Listener)
    return listener is not None and listener.port_mapping.protocol == "tcp"


LATTICE: Rules = {
    (Mesh, "injected_defaults"): _injected,
    (Mesh, "tags"): _tags,
    (MeshHead, "mesh_name"): kept("as the service network's name, in Lattice's letters"),
    (MeshHead, "mesh_owner"): kept("as the account whose roles may call"),
    EgressFilter: dropped(
        "the egress filter",
        "Lattice carries calls to its services alone and does not see others",
        "close the way out with security groups, or a network firewall",
    ),
    MeshServiceDiscovery: approximated("addresses", "a target group has one kind of address"),
    # clients and backends
    (MeshClient, "client_name"): approximated(
        "callers", "the caller is its IAM role, which signs each request with SigV4"
    ),
    (MeshClient, "role"): _NO_PLACE,
    (MeshClient, "environment"): _NO_PLACE,
    (MeshClient, "databricks"): _NO_PLACE,
    (MeshClient, "tags"): _caller_tags,
    (MeshClientSpec, "backend_groups"): _ROLES,
    (VirtualNodeSpec, "backend_groups"): _ROLES,
    (VirtualServiceBackend, "virtual_service_name"): _backend,
    (ClientTls, "enforce"): _enforced,
    (ClientTls, "ports"): dropped(
        "TLS by port", "a listener speaks TLS or it does not", "call each port by its own scheme"
    ),
    (ClientTls, "certificate"): dropped(
        "client certificates",
        "an HTTPS listener asks for none: a caller is known by its signature",
        "give the caller an IAM role; mutual TLS end to end needs TLS passthrough",
    ),
    (ClientTls, "validation"): approximated(
        "validation of servers",
        "the program checks Lattice's certificate, or that of the service's domain name",
    ),
    # nodes
    VirtualNode: _node,
    (VirtualNode, "virtual_node_name"): kept("as the target groups' names and tags"),
    (VirtualNode, "databricks"): _NO_PLACE,
    (VirtualNode, "data_source"): kept("as a TCP resource"),
    (VirtualNode, "mesh_owner"): _OWNER,
    (VirtualNode, "tags"): _tags,
    Listener: _node_listener,
    (PortMapping, "port"): rules.rule_port,
    (PortMapping, "protocol"): _protocol,
    HealthCheck: _health,
    (HttpTimeout, "per_request"): _PER_REQUEST,
    (HttpTimeout, "idle"): _idle,
    (TcpTimeout, "idle"): _idle,
    (Listener, "connection_pool"): _POOL,
    (Listener, "outlier_detection"): _OUTLIERS,
    (ListenerTls, "mode"): _tls_mode,
    (ListenerTls, "certificate"): _node_certificate,
    (ListenerTls, "validation"): _node_validation,
    (DnsDiscovery, "hostname"): _hostname,
    (DnsDiscovery, "response_type"): approximated(
        "discovery", "calls go round all registered addresses"
    ),
    (DnsDiscovery, "ip_preference"): approximated(
        "addresses", "a target group has one kind of address"
    ),
    (CloudMapDiscovery, "namespace_name"): _REGISTERED,
    (CloudMapDiscovery, "service_name"): _REGISTERED,
    (CloudMapDiscovery, "attributes"): dropped(
        "Cloud Map attributes",
        "Lattice does not ask Cloud Map",
        "register the instances that have them, and no others",
    ),
    (CloudMapDiscovery, "ip_preference"): approximated(
        "addresses", "a target group has one kind of address"
    ),
    (FileAccessLog, "path"): approximated(
        "access logs", "Lattice's own log of each request, to CloudWatch Logs, S3 or Firehose"
    ),
    (FileAccessLog, "format"): dropped(
        "log formats",
        "Lattice's log has its own fields, without response flags, attempts and routes",
        "read what it has, and log the rest in the program",
    ),
    # services and routers
    (VirtualService, "virtual_service_name"): rules.rule_service_name,
    (VirtualService, "mesh_owner"): _OWNER,
    (VirtualService, "tags"): _tags,
    VirtualService: rules.rule_service,
    Provider: KEPT,
    VirtualRouter: rules.rule_router,
    (VirtualRouter, "virtual_router_name"): kept("as listeners of each service that names it"),
    (VirtualRouter, "mesh_owner"): _OWNER,
    (VirtualRouter, "tags"): dropped(
        "tags", "a router is no resource of Lattice", "tag the services that name it"
    ),
    RouterListener: rules.rule_router_listener,
    # routes
    (Route, "route_name"): rules.rule_route_name,
    (Route, "mesh_owner"): lambda site: rules.rule_of_route(site) or _OWNER,
    (Route, "tags"): lambda site: rules.rule_of_route(site) or _tags(site),
    (RouteSpec, "priority"): rules.rule_priority,
    (HttpRouteMatch, "prefix"): rules.rule_match_part,
    (HttpRouteMatch, "path"): rules.rule_match_part,
    (HttpRouteMatch, "method"): rules.rule_match_part,
    (HttpRouteMatch, "scheme"): rules.rule_match_part,
    (HttpRouteMatch, "port"): rules.rule_match_port,
    HeaderMatch: rules.rule_match_part,
    QueryParameterMatch: rules.rule_match_part,
    (GrpcRouteMatch, "service_name"): rules.rule_grpc_part,
    (GrpcRouteMatch, "method_name"): rules.rule_grpc_part,
    (GrpcRouteMatch, "port"): rules.rule_match_port,
    (TcpRouteMatch, "port"): rules.rule_match_port,
    WeightedTarget: rules.rule_target,
    (HttpRoute, "retry_policy"): _RETRIES,
    (GrpcRoute, "retry_policy"): _RETRIES,
    # gateways and groups
    VirtualGateway: dropped(
        "gateways",
        "Lattice takes calls from associated VPCs only, and changes no host or path",
        "put a load balancer in front of the targets, with the gateway's routes",
    ),
    BackendGroup: approximated("backends", "its services are listed in each policy instead"),
}
