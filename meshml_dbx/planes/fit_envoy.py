"""What an Envoy of one's own makes of a mesh: nearly all of it, as App Mesh's proxy was an Envoy.

What goes is what came from AWS's control plane and not from the proxy: certificates that it
fetched, instances that it looked up, accounts that it knew.
"""

from meshml_dbx.mesh.spec import (
    AcmCertificate,
    AcmTrust,
    BackendGroup,
    BackendGroupSpec,
    ClientTls,
    CloudMapDiscovery,
    EgressFilter,
    FileCertificate,
    FileTrust,
    GatewayListener,
    GatewayRoute,
    GatewayRouteSpec,
    Listener,
    ListenerTls,
    Logging,
    Mesh,
    MeshClient,
    MeshClientSpec,
    MeshHead,
    MeshServiceDiscovery,
    Route,
    RouterListener,
    RouteSpec,
    SdsReference,
    ServiceDiscovery,
    SubjectAlternativeNames,
    VirtualGateway,
    VirtualNode,
    VirtualNodeSpec,
    VirtualRouter,
    VirtualService,
    VirtualServiceBackend,
    VirtualServiceSpec,
)
from meshml_dbx.planes.fit_words import Rules, Ruling, Site, approximated, dropped, kept

KEPT = kept()

_TAGS = dropped(
    "tags",
    "proxies have no tags",
    "tag the machines, tasks or pods that run them",
)
_OWNER = dropped(
    "owners",
    "meshes are shared between accounts by AWS's control plane",
    "give the other account's team this file, and each side its own proxies",
)


def _mesh_tags(site: Site) -> Ruling:
    if isinstance(site.value, dict) and "environment" in site.value:
        return approximated("tags", "environment is read from them; proxies have no tags")
    return _TAGS


def _egress(site: Site) -> Ruling:
    if site.value == "ALLOW_ALL":
        return KEPT
    return approximated(
        "the egress filter",
        "holds for requests that the program sends to its proxy; https to any host passes, as a "
        "tunnel that is recorded",
        "close the way out with the machine's firewall",
    )


def _gateway_pool(site: Site) -> Ruling:
    gateway, listener = site.near(VirtualGateway), site.near(GatewayListener)
    if gateway is None or listener is None:
        return KEPT
    protocols = [it.port_mapping.protocol for it in gateway.spec.listeners]
    if protocols.count(listener.port_mapping.protocol) == 1:
        return KEPT
    return approximated(
        "connection pools", "one for all of a gateway's listeners of a protocol: the first's"
    )


def _enforce(site: Site) -> Ruling:
    if site.value:
        return KEPT
    return approximated(
        "optional TLS",
        "whether a backend speaks TLS is read from this file, not tried at each connection",
    )


ENVOY: Rules = {
    (Mesh, "injected_defaults"): KEPT,
    (Mesh, "tags"): _mesh_tags,
    (MeshHead, "mesh_name"): KEPT,
    (MeshHead, "mesh_owner"): _OWNER,
    (EgressFilter, "type"): _egress,
    MeshServiceDiscovery: KEPT,
    # clients
    (MeshClient, "client_name"): KEPT,
    (MeshClient, "role"): KEPT,
    (MeshClient, "environment"): KEPT,
    (MeshClient, "databricks"): KEPT,
    (MeshClient, "tags"): _TAGS,
    (MeshClientSpec, "backend_groups"): KEPT,
    # nodes
    (VirtualNode, "virtual_node_name"): KEPT,
    (VirtualNode, "databricks"): KEPT,
    (VirtualNode, "data_source"): KEPT,
    (VirtualNode, "mesh_owner"): _OWNER,
    (VirtualNode, "tags"): _TAGS,
    (VirtualNodeSpec, "backend_groups"): KEPT,
    (Listener, "port_mapping"): KEPT,
    (Listener, "health_check"): KEPT,
    (Listener, "timeout"): KEPT,
    (Listener, "connection_pool"): KEPT,
    (Listener, "outlier_detection"): KEPT,
    (ServiceDiscovery, "dns"): KEPT,
    (CloudMapDiscovery, "namespace_name"): approximated(
        "Cloud Map", "instances are found by DNS in the namespace, which must be a DNS namespace"
    ),
    (CloudMapDiscovery, "service_name"): approximated(
        "Cloud Map", "instances are found by DNS under this name"
    ),
    (CloudMapDiscovery, "attributes"): dropped(
        "Cloud Map attributes",
        "DNS answers with every instance of the service, whatever its attributes",
        "register each group of instances as a Cloud Map service of its own",
    ),
    (CloudMapDiscovery, "ip_preference"): KEPT,
    Logging: KEPT,
    # calls and TLS
    (VirtualServiceBackend, "virtual_service_name"): KEPT,
    (ClientTls, "enforce"): _enforce,
    (ClientTls, "ports"): KEPT,
    (ListenerTls, "mode"): KEPT,
    SdsReference: KEPT,
    FileCertificate: KEPT,
    FileTrust: KEPT,
    SubjectAlternativeNames: KEPT,
    AcmCertificate: dropped(
        "ACM certificates",
        "only App Mesh's control plane had ACM's certificates brought to a proxy",
        "export it (aws acm export-certificate) and name its files under certificate.file, or "
        "have meshml supply one with certificate.sds",
    ),
    AcmTrust: dropped(
        "ACM authorities",
        "only App Mesh's control plane had the authorities of AWS Private CA brought to a proxy",
        "save them (aws acm-pca get-certificate-authority-certificate) and name the file under "
        "trust.file",
    ),
    # services, routers, routes
    (VirtualService, "virtual_service_name"): KEPT,
    (VirtualService, "mesh_owner"): _OWNER,
    (VirtualService, "tags"): _TAGS,
    VirtualServiceSpec: KEPT,
    (VirtualRouter, "virtual_router_name"): KEPT,
    (VirtualRouter, "mesh_owner"): _OWNER,
    (VirtualRouter, "tags"): _TAGS,
    RouterListener: KEPT,
    (Route, "route_name"): KEPT,
    (Route, "mesh_owner"): _OWNER,
    (Route, "tags"): _TAGS,
    RouteSpec: KEPT,
    # gateways
    (VirtualGateway, "virtual_gateway_name"): KEPT,
    (VirtualGateway, "mesh_owner"): _OWNER,
    (VirtualGateway, "tags"): _TAGS,
    (GatewayListener, "port_mapping"): KEPT,
    (GatewayListener, "connection_pool"): _gateway_pool,
    (GatewayListener, "health_check"): dropped(
        "a gateway's health check",
        "no caller of a gateway has a proxy of the mesh that would ask",
        "set it at the load balancer in front of the gateway",
    ),
    (GatewayRoute, "gateway_route_name"): KEPT,
    (GatewayRoute, "mesh_owner"): _OWNER,
    (GatewayRoute, "tags"): _TAGS,
    GatewayRouteSpec: KEPT,
    # groups
    (BackendGroup, "backend_group_name"): KEPT,
    (BackendGroup, "tags"): _TAGS,
    BackendGroupSpec: KEPT,
}
