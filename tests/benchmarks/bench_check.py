"""How long a mesh file takes to be read and checked as it grows: seconds, and the exponent.

Meshes of 100, 300 and 1,000 services, each with a router of three routes over two nodes, TLS on
both ends, a caller for twenty services each.
"""

import math
import time

import pytest

from meshml_dbx.mesh.checks import check_mesh
from meshml_dbx.mesh.load import LoadedMesh, load_mesh

SIZES = (100, 300, 1000)
TLS = """\
          tls:
            mode: STRICT
            certificate: {{sds: {{secretName: s{at}-v{version}}}}}
            validation:
              trust: {{sds: {{secretName: big}}}}
              subjectAlternativeNames: {{match: {{exact: ["spiffe://big/c{caller}"]}}}}
"""
NODE = """\
  - virtualNodeName: s{at}-v{version}
    spec:
      listeners:
        - portMapping: {{port: 8080, protocol: http}}
{tls}      serviceDiscovery: {{dns: {{hostname: s{at}-v{version}.ml}}}}
"""
ROUTE = """\
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
ROUTER = """\
  - virtualRouterName: s{at}
    spec: {{listeners: [{{portMapping: {{port: 80, protocol: http}}}}]}}
    routes:
"""
CLIENT = """\
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
SERVICE = """\
  - virtualServiceName: s{at}.ml
    spec: {{provider: {{virtualRouter: {{virtualRouterName: s{at}}}}}}}
"""


def mesh_of(services: int) -> str:
    """A mesh file of so many services."""
    parts = ["mesh: {meshName: big}\nclients:\n"]
    for caller in range(services // 20):
        called = range(caller * 20, caller * 20 + 20)
        names = (f"{{virtualService: {{virtualServiceName: s{at}.ml}}}}" for at in called)
        parts.append(CLIENT.format(caller=caller, backends=", ".join(names)))
    parts.append("virtualNodes:\n")
    for at in range(services):
        for version in (0, 1):
            tls = TLS.format(at=at, version=version, caller=at // 20)
            parts.append(NODE.format(at=at, version=version, tls=tls))
    parts.append("virtualRouters:\n")
    for at in range(services):
        parts += [ROUTER.format(at=at), *(ROUTE.format(at=at, rank=rank) for rank in range(3))]
    parts += ["virtualServices:\n", *(SERVICE.format(at=at) for at in range(services))]
    return "".join(parts)


def seconds_of(text: str) -> tuple[float, float]:
    """CPU seconds to read and to check a text that is right."""
    begun = time.process_time()
    loaded: LoadedMesh = load_mesh(text, source="mesh.yml")
    read = time.process_time()
    assert check_mesh(loaded) == ()
    return read - begun, time.process_time() - read


@pytest.mark.benchmark
def test_reading_and_checking_grow_with_the_mesh_and_no_faster() -> None:
    """From 100 to 1,000 services the exponent stays near one, and a check takes under a second."""
    taken = {size: seconds_of(mesh_of(size)) for size in SIZES}
    for size, (read, check) in taken.items():
        print(f"{size:5}: read {read:.2f} s, check {check:.2f} s")  # noqa: T201  # the figures
    small, large = (sum(taken[size]) for size in (SIZES[0], SIZES[-1]))
    exponent = math.log(large / small) / math.log(SIZES[-1] / SIZES[0])
    print(f"exponent {exponent:.2f}")  # noqa: T201  # as above
    assert taken[SIZES[-1]][1] < 1
    assert exponent < 1.2
