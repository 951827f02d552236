"""The mesh of the Envoy tests: two label nodes behind a router, and callers of every kind.

Goes in: ports. Comes out: a mesh. ``labels-v1`` serves churn-training alone, ``labels-v2`` every
identity of the mesh; both have sidecars in the tests, ``gone`` has none.
"""

from meshml_dbx.mesh.load import load_mesh
from meshml_dbx.mesh.spec import Mesh

_TEXT = """
mesh: {meshName: ml, spec: {egressFilter: {type: EGRESS_FILTER}}}
clients:
- clientName: churn-training
  role: training
  spec:
    backends: &backends
    - virtualService: {virtualServiceName: labels.ml.local}
    - virtualService: {virtualServiceName: direct.ml.local}
    - virtualService: {virtualServiceName: gone.ml.local}
    - virtualService: {virtualServiceName: orphan.ml.local}
    backendDefaults:
      clientPolicy:
        tls:
          certificate: {sds: {secretName: churn-training}}
          validation: &trust {trust: {sds: {secretName: ml}}}
- clientName: nameless
  role: training
  spec:
    backends: *backends
    backendDefaults: {clientPolicy: {tls: {validation: *trust}}}
- clientName: stranger
  role: training
  spec:
    backends: *backends
    backendDefaults:
      clientPolicy: {tls: {certificate: {sds: {secretName: stranger}}, validation: *trust}}
- clientName: careless
  role: training
  spec: {backends: *backends}
- clientName: suspicious
  role: training
  spec:
    backends: *backends
    backendDefaults:
      clientPolicy:
        tls:
          certificate: {sds: {secretName: churn-training}}
          validation:
            trust: {sds: {secretName: ml}}
            subjectAlternativeNames: {match: {exact: ["spiffe://ml/somebody-else"]}}
virtualNodes:
- virtualNodeName: labels-v1
  spec:
    listeners:
    - portMapping: {port: V1_PORT, protocol: http}
      tls:
        mode: STRICT
        certificate: {sds: {secretName: labels-v1}}
        validation:
          trust: {sds: {secretName: ml}}
          subjectAlternativeNames: {match: {exact: ["spiffe://ml/churn-training"]}}
    serviceDiscovery: {dns: {hostname: localhost}}
- virtualNodeName: labels-v2
  spec:
    listeners:
    - portMapping: {port: V2_PORT, protocol: http}
      tls: {mode: V2_MODE, certificate: {sds: {secretName: labels-v2}}, validation: *trust}
      connectionPool: {http: {maxConnections: 1, maxPendingRequests: 1}}
    serviceDiscovery: {dns: {hostname: localhost, responseType: ENDPOINTS}}
- virtualNodeName: gone
  spec:
    listeners:
    - portMapping: {port: GONE_PORT, protocol: http}
      outlierDetection:
        maxServerErrors: 4
        interval: {unit: s, value: 60}
        baseEjectionDuration: {unit: s, value: 60}
        maxEjectionPercent: 1
    serviceDiscovery: {dns: {hostname: 127.0.0.1}}
virtualRouters:
- virtualRouterName: labels
  spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
  routes:
  - routeName: by-day
    spec:
      httpRoute:
        match: {prefix: /v1/labels}
        action:
          weightedTargets:
          - {virtualNode: labels-v1, weight: 7}
          - {virtualNode: labels-v2, weight: 3}
  - routeName: whole-path
    spec:
      httpRoute:
        match: {path: {exact: /v1/labels/all}}
        action: {weightedTargets: [{virtualNode: labels-v2, weight: 1}]}
  - routeName: written
    spec:
      priority: 1
      httpRoute:
        match: {prefix: /v1/labels, method: POST}
        action: {weightedTargets: [{virtualNode: labels-v2, weight: 1}]}
  - routeName: canary
    spec:
      priority: 2
      httpRoute:
        match: {prefix: /v1/labels, headers: [{name: X-Canary, match: {prefix: y}}]}
        action: {weightedTargets: [{virtualNode: labels-v2, weight: 1}]}
  - routeName: marked
    spec:
      priority: 3
      httpRoute:
        match: {prefix: /v1/labels, headers: [{name: X-Mark, invert: true, match: {exact: "no"}}]}
        action: {weightedTargets: [{virtualNode: labels-v2, weight: 1}]}
  - routeName: tried-again
    spec:
      httpRoute:
        match: {prefix: /v1/flaky}
        action: {weightedTargets: [{virtualNode: labels-v1, weight: 1}]}
        retryPolicy:
          maxRetries: 2
          perRetryTimeout: {unit: ms, value: 500}
          httpRetryEvents: [gateway-error]
  - routeName: to-nobody
    spec:
      httpRoute:
        match: {prefix: /v1/gone}
        action: {weightedTargets: [{virtualNode: gone, weight: 1}]}
        retryPolicy:
          maxRetries: 1
          perRetryTimeout: {unit: ms, value: 500}
          tcpRetryEvents: [connection-error]
  - routeName: hurried
    spec:
      httpRoute:
        match: {prefix: /v1/hurried}
        action: {weightedTargets: [{virtualNode: labels-v1, weight: 1}]}
        timeout: {perRequest: {unit: ms, value: 300}}
  - routeName: nobody
    spec:
      httpRoute:
        match: {prefix: /v1/nobody}
        action: {weightedTargets: [{virtualNode: labels-v1, weight: 0}]}
virtualServices:
- virtualServiceName: labels.ml.local
  spec: {provider: {virtualRouter: {virtualRouterName: labels}}}
- virtualServiceName: direct.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: labels-v1}}}
- virtualServiceName: gone.ml.local
  spec: {provider: {virtualNode: {virtualNodeName: gone}}}
- virtualServiceName: orphan.ml.local
"""


def mesh_of(text: str) -> Mesh:
    """The mesh that a text declares; a text that does not read is a broken test."""
    loaded = load_mesh(text, source="mesh.yml")
    assert loaded.mesh is not None, loaded.findings
    return loaded.mesh


def labels_mesh(
    ports: tuple[int, int, int] = (18081, 18082, 18083),
    *,
    egress_filter: str = "DROP_ALL",
    v2_mode: str = "STRICT",
) -> Mesh:
    """The mesh with the ports of its three nodes."""
    names = ("V1_PORT", "V2_PORT", "GONE_PORT")
    values = dict(zip(names, map(str, ports), strict=True))
    values |= {"EGRESS_FILTER": egress_filter, "V2_MODE": v2_mode}
    text = _TEXT
    for name, value in values.items():
        text = text.replace(name, value)
    return mesh_of(text)
