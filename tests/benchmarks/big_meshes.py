"""One mesh of any size in each form that an import reads: what the benchmarks of scale go by.

A number of services goes in, the text of one file comes out. Each service has a virtual node with
a listener and a health check, a router with three routes, and a virtual service; one more node,
``caller``, calls all of them. All forms say the same, so that their times can be compared.
"""

import json
import math
from collections.abc import Callable, Mapping

CALLER, ROUTES = "caller", 3
_CHECK = {
    "protocol": "http",
    "path": "/ping",
    "healthyThreshold": 2,
    "unhealthyThreshold": 2,
    "timeoutMillis": 2000,
    "intervalMillis": 5000,
}


def own(services: int) -> str:
    """The mesh as ``mesh.yml`` writes it."""
    parts = ["mesh: {meshName: big}\nvirtualNodes:\n"]
    parts += [_OWN_NODE.format(at=at) for at in range(services)]
    parts.append("  - virtualNodeName: caller\n    spec:\n      backends:\n")
    parts += [
        f"        - virtualService: {{virtualServiceName: s{at}.ml}}\n" for at in range(services)
    ]
    parts.append("virtualRouters:\n")
    for at in range(services):
        parts.append(_OWN_ROUTER.format(at=at))
        parts += [_OWN_ROUTE.format(at=at, rank=rank) for rank in range(ROUTES)]
    parts += ["virtualServices:\n", *(_OWN_SERVICE.format(at=at) for at in range(services))]
    return "".join(parts)


def kubernetes(services: int) -> str:
    """The mesh as manifests of the App Mesh controller, many documents in one file."""
    parts = [_KUBE_MESH]
    for at in range(services):
        parts += [_KUBE_NODE.format(at=at), _KUBE_SERVICE.format(at=at), _KUBE_ROUTER.format(at=at)]
        parts[-1] += "".join(_KUBE_ROUTE.format(at=at, rank=rank) for rank in range(ROUTES))
    backends = (
        f"    - virtualService: {{virtualServiceRef: {{name: s{at}}}}}\n" for at in range(services)
    )
    parts.append(_KUBE_CALLER + "".join(backends))
    return "---\n".join(parts)


def cloudformation(services: int) -> str:
    """The mesh as a CloudFormation template in YAML."""
    parts = ["Resources:\n  Mesh:\n    Type: AWS::AppMesh::Mesh\n"]
    parts.append("    Properties: {MeshName: big}\n")
    for at in range(services):
        parts.append(_STACK_SERVICE.format(at=at))
        parts += [_STACK_ROUTE.format(at=at, rank=rank) for rank in range(ROUTES)]
    parts.append(_STACK_CALLER)
    parts += [
        f"          - VirtualService: {{VirtualServiceName: !GetAtt S{at}.VirtualServiceName}}\n"
        for at in range(services)
    ]
    return "".join(parts)


def terraform(services: int) -> str:
    """The mesh as HCL of the AWS provider."""
    parts = ['resource "aws_appmesh_mesh" "big" {\n  name = "big"\n}\n']
    for at in range(services):
        parts.append(_HCL_SERVICE.replace("@at", str(at)))
        parts += [
            _HCL_ROUTE.replace("@at", str(at)).replace("@rank", str(rank)) for rank in range(ROUTES)
        ]
    parts.append(_HCL_CALLER)
    parts += [_HCL_BACKEND.replace("@at", str(at)) for at in range(services)]
    return "".join([*parts, "  }\n}\n"])


def api_json(services: int) -> str:
    """The mesh as create requests of the App Mesh API, in one list."""
    found: list[object] = [{"meshName": "big", "spec": {}}]
    for at in range(services):
        found += _requests(at)
    backends = [{"virtualService": {"virtualServiceName": f"s{at}.ml"}} for at in range(services)]
    found.append({"meshName": "big", "virtualNodeName": CALLER, "spec": {"backends": backends}})
    return json.dumps(found, indent=2)


def _requests(at: int) -> list[object]:
    mesh = {"meshName": "big"}
    port = {"portMapping": {"port": 8080, "protocol": "http"}}
    dns = {"dns": {"hostname": f"s{at}.internal"}}
    node = {"listeners": [{**port, "healthCheck": _CHECK}], "serviceDiscovery": dns}
    router = {"virtualRouterName": f"s{at}"}
    action = {"weightedTargets": [{"virtualNode": f"s{at}", "weight": 1}]}
    routes = [
        {
            **mesh,
            **router,
            "routeName": f"r{rank}",
            "spec": {
                "priority": rank,
                "httpRoute": {"match": {"prefix": f"/v{rank}"}, "action": action},
            },
        }
        for rank in range(ROUTES)
    ]
    return [
        {**mesh, "virtualNodeName": f"s{at}", "spec": node},
        {**mesh, **router, "spec": {"listeners": [port]}},
        *routes,
        {
            **mesh,
            "virtualServiceName": f"s{at}.ml",
            "spec": {"provider": {"virtualRouter": router}},
        },
    ]


def with_tls(services: int, *, each: int = 20) -> str:
    """A harder mesh, as ``mesh.yml`` alone writes it: TLS on both ends, weights over two nodes.

    A client calls ``each`` of the services, and no other client may.
    """
    parts = ["mesh: {meshName: big}\nclients:\n"]
    for caller in range(math.ceil(services / each)):
        called = range(caller * each, min(caller * each + each, services))
        names = (f"{{virtualService: {{virtualServiceName: s{at}.ml}}}}" for at in called)
        parts.append(_TLS_CLIENT.format(caller=caller, backends=", ".join(names)))
    parts.append("virtualNodes:\n")
    for at in range(services):
        for version in (0, 1):
            tls = _TLS.format(at=at, version=version, caller=at // each)
            parts.append(_TLS_NODE.format(at=at, version=version, tls=tls))
    parts.append("virtualRouters:\n")
    for at in range(services):
        parts.append(_TLS_ROUTER.format(at=at))
        parts += [_TLS_ROUTE.format(at=at, rank=rank) for rank in range(ROUTES)]
    parts += ["virtualServices:\n", *(_TLS_SERVICE.format(at=at) for at in range(services))]
    return "".join(parts)


FORMS: Mapping[str, tuple[str, Callable[[int], str]]] = {
    "own": ("mesh.yml", own),
    "kubernetes": ("mesh.yaml", kubernetes),
    "cloudformation": ("template.yaml", cloudformation),
    "api-json": ("mesh.json", api_json),
    "terraform": ("mesh.tf", terraform),
}
"""By dialect: the name of the file, and its text for so many services."""

_OWN_NODE = """\
  - virtualNodeName: s{at}
    spec:
      listeners:
        - portMapping: {{port: 8080, protocol: http}}
          healthCheck:
            protocol: http
            path: /ping
            healthyThreshold: 2
            unhealthyThreshold: 2
            timeoutMillis: 2000
            intervalMillis: 5000
      serviceDiscovery: {{dns: {{hostname: s{at}.internal}}}}
"""
_OWN_ROUTER = """\
  - virtualRouterName: s{at}
    spec: {{listeners: [{{portMapping: {{port: 8080, protocol: http}}}}]}}
    routes:
"""
_OWN_ROUTE = """\
      - routeName: r{rank}
        spec:
          priority: {rank}
          httpRoute:
            match: {{prefix: /v{rank}}}
            action:
              weightedTargets:
                - {{virtualNode: s{at}, weight: 1}}
"""
_OWN_SERVICE = """\
  - virtualServiceName: s{at}.ml
    spec: {{provider: {{virtualRouter: {{virtualRouterName: s{at}}}}}}}
"""
_KUBE_MESH = """\
apiVersion: appmesh.k8s.aws/v1beta2
kind: Mesh
metadata: {name: big}
spec: {namespaceSelector: {matchLabels: {mesh: big}}}
"""
_KUBE_NODE = """\
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {{name: s{at}, namespace: ml}}
spec:
  awsName: s{at}
  podSelector: {{matchLabels: {{app: s{at}}}}}
  listeners:
    - portMapping: {{port: 8080, protocol: http}}
      healthCheck:
        protocol: http
        path: /ping
        healthyThreshold: 2
        unhealthyThreshold: 2
        timeoutMillis: 2000
        intervalMillis: 5000
  serviceDiscovery: {{dns: {{hostname: s{at}.internal}}}}
"""
_KUBE_SERVICE = """\
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualService
metadata: {{name: s{at}, namespace: ml}}
spec:
  awsName: s{at}.ml
  provider: {{virtualRouter: {{virtualRouterRef: {{name: s{at}}}}}}}
"""
_KUBE_ROUTER = """\
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualRouter
metadata: {{name: s{at}, namespace: ml}}
spec:
  awsName: s{at}
  listeners:
    - portMapping: {{port: 8080, protocol: http}}
  routes:
"""
_KUBE_ROUTE = """\
    - name: r{rank}
      priority: {rank}
      httpRoute:
        match: {{prefix: /v{rank}}}
        action:
          weightedTargets:
            - virtualNodeRef: {{name: s{at}}}
              weight: 1
"""
_KUBE_CALLER = """\
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {name: caller, namespace: ml}
spec:
  awsName: caller
  podSelector: {matchLabels: {app: caller}}
  backends:
"""
_STACK_SERVICE = """\
  N{at}:
    Type: AWS::AppMesh::VirtualNode
    Properties:
      MeshName: !GetAtt Mesh.MeshName
      VirtualNodeName: s{at}
      Spec:
        Listeners:
          - PortMapping: {{Port: 8080, Protocol: http}}
            HealthCheck:
              Protocol: http
              Path: /ping
              HealthyThreshold: 2
              UnhealthyThreshold: 2
              TimeoutMillis: 2000
              IntervalMillis: 5000
        ServiceDiscovery: {{DNS: {{Hostname: !Sub 's{at}.internal'}}}}
  R{at}:
    Type: AWS::AppMesh::VirtualRouter
    Properties:
      MeshName: !GetAtt Mesh.MeshName
      VirtualRouterName: s{at}
      Spec: {{Listeners: [{{PortMapping: {{Port: 8080, Protocol: http}}}}]}}
  S{at}:
    Type: AWS::AppMesh::VirtualService
    Properties:
      MeshName: !GetAtt Mesh.MeshName
      VirtualServiceName: s{at}.ml
      Spec:
        Provider: {{VirtualRouter: {{VirtualRouterName: !GetAtt R{at}.VirtualRouterName}}}}
"""
_STACK_ROUTE = """\
  X{at}R{rank}:
    Type: AWS::AppMesh::Route
    Properties:
      MeshName: !GetAtt Mesh.MeshName
      VirtualRouterName: !GetAtt R{at}.VirtualRouterName
      RouteName: r{rank}
      Spec:
        Priority: {rank}
        HttpRoute:
          Match: {{Prefix: /v{rank}}}
          Action:
            WeightedTargets:
              - {{VirtualNode: !GetAtt N{at}.VirtualNodeName, Weight: 1}}
"""
_STACK_CALLER = """\
  Caller:
    Type: AWS::AppMesh::VirtualNode
    Properties:
      MeshName: !GetAtt Mesh.MeshName
      VirtualNodeName: caller
      Spec:
        Backends:
"""
_HCL_SERVICE = """\
resource "aws_appmesh_virtual_node" "s@at" {
  name      = "s@at"
  mesh_name = aws_appmesh_mesh.big.id
  spec {
    listener {
      port_mapping {
        port     = 8080
        protocol = "http"
      }
      health_check {
        protocol            = "http"
        path                = "/ping"
        healthy_threshold   = 2
        unhealthy_threshold = 2
        timeout_millis      = 2000
        interval_millis     = 5000
      }
    }
    service_discovery {
      dns {
        hostname = "s@at.internal"
      }
    }
  }
}
resource "aws_appmesh_virtual_router" "s@at" {
  name      = "s@at"
  mesh_name = aws_appmesh_mesh.big.id
  spec {
    listener {
      port_mapping {
        port     = 8080
        protocol = "http"
      }
    }
  }
}
resource "aws_appmesh_virtual_service" "s@at" {
  name      = "s@at.ml"
  mesh_name = aws_appmesh_mesh.big.id
  spec {
    provider {
      virtual_router {
        virtual_router_name = aws_appmesh_virtual_router.s@at.name
      }
    }
  }
}
"""
_HCL_ROUTE = """\
resource "aws_appmesh_route" "s@atr@rank" {
  name                = "r@rank"
  mesh_name           = aws_appmesh_mesh.big.id
  virtual_router_name = aws_appmesh_virtual_router.s@at.name
  spec {
    priority = @rank
    http_route {
      match {
        prefix = "/v@rank"
      }
      action {
        weighted_target {
          virtual_node = aws_appmesh_virtual_node.s@at.name
          weight       = 1
        }
      }
    }
  }
}
"""
_HCL_CALLER = """\
resource "aws_appmesh_virtual_node" "caller" {
  name      = "caller"
  mesh_name = aws_appmesh_mesh.big.id
  spec {
"""
_HCL_BACKEND = """\
    backend {
      virtual_service {
        virtual_service_name = aws_appmesh_virtual_service.s@at.name
      }
    }
"""
_TLS = """\
          tls:
            mode: STRICT
            certificate: {{sds: {{secretName: s{at}-v{version}}}}}
            validation:
              trust: {{sds: {{secretName: big}}}}
              subjectAlternativeNames: {{match: {{exact: ["spiffe://big/c{caller}"]}}}}
"""
_TLS_NODE = """\
  - virtualNodeName: s{at}-v{version}
    spec:
      listeners:
        - portMapping: {{port: 8080, protocol: http}}
{tls}      serviceDiscovery: {{dns: {{hostname: s{at}-v{version}.ml}}}}
"""
_TLS_ROUTE = """\
      - routeName: r{rank}
        spec:
          priority: {rank}
          httpRoute:
            match: {{prefix: /v{rank}, headers: [{{name: x-cohort, match: {{exact: b{rank}}}}}]}}
            action:
              weightedTargets:
                - {{virtualNode: s{at}-v0, weight: 70}}
                - {{virtualNode: s{at}-v1, weight: 30}}
            timeout: {{perRequest: {{unit: s, value: 5}}}}
"""
_TLS_ROUTER = """\
  - virtualRouterName: s{at}
    spec: {{listeners: [{{portMapping: {{port: 80, protocol: http}}}}]}}
    routes:
"""
_TLS_CLIENT = """\
  - clientName: c{caller}
    role: training
    spec:
      backends: [{backends}]
      backendDefaults:
        clientPolicy:
          tls:
            certificate: {{sds: {{secretName: c{caller}}}}}
            validation: {{trust: {{sds: {{secretName: big}}}}}}
"""
_TLS_SERVICE = """\
  - virtualServiceName: s{at}.ml
    spec: {{provider: {{virtualRouter: {{virtualRouterName: s{at}}}}}}}
"""
