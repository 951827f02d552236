"""Bodies of the VPC Lattice API's create requests, from a mesh's values: one function for each.

Names of fields and their ranges are those of the API of 2022-11-30. What a body refers to is named
by ``reference``, and what only its owner knows by ``${NAME}``.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from meshml_dbx.mesh.spec import Duration, HealthCheck, IpPreference, Listener, VirtualNode
from meshml_dbx.planes.lattice_doors import Door, has_tls

Body = dict[str, object]

LEAST_IDLE_S, MOST_IDLE_S, USUAL_IDLE_S = 60, 600, 300  # App Mesh's own was 300 s
MOST_WEIGHT = 999
NOT_FOUND, FAILED = 404, 500  # the only statuses that a fixed response may have
_DOMAIN = re.compile(r"(?=.{3,255}$)[A-Za-z0-9${}_:-]+(\.[A-Za-z0-9${}_:-]+)+")
_HEALTH_PATH = re.compile(r"/[a-zA-Z0-9@:%_+.~#?&/=-]{0,2047}")


def is_domain(name: str) -> bool:
    """Whether a virtual service's name can be a domain name of a Lattice service.

    Names below cluster.local are Kubernetes' own to answer.
    """
    return _DOMAIN.fullmatch(name) is not None and not name.lower().endswith(".cluster.local")


def tags_of(*maps: Mapping[str, str]) -> dict[str, str]:
    """Tags together, the later ones first in rank; AWS keeps names that begin with aws: to itself.

    >>> tags_of({"team": "churn", "aws:x": "y"}, {"meshml:mesh": "ml"})
    {'team': 'churn', 'meshml:mesh': 'ml'}
    """
    return {
        key: value
        for tags in maps
        for key, value in tags.items()
        if not key.lower().startswith("aws:")
    }


# --- target groups ----------------------------------------------------------------------------


def target_group(node: VirtualNode, listener: Listener, vpc: str) -> Body:
    """Where a node's calls arrive: addresses in a VPC, which its deployment registers."""
    protocol = listener.port_mapping.protocol
    discovery = node.spec.service_discovery
    return {
        "type": "IP",
        "config": {
            "port": listener.port_mapping.port,
            "protocol": "HTTPS" if has_tls(listener) else "HTTP",
            "protocolVersion": {"http2": "HTTP2", "grpc": "GRPC"}.get(protocol, "HTTP1"),
            "ipAddressType": address_type(discovery.ip_preference if discovery else None),
            "vpcIdentifier": vpc,
            "healthCheck": _health_check(listener),
        },
    }


def address_type(preference: IpPreference | None) -> str:
    """Lattice's word for the addresses that are preferred: it takes one kind, not both."""
    return "IPV6" if preference in {"IPv6_ONLY", "IPv6_PREFERRED"} else "IPV4"


def _health_check(listener: Listener) -> Body:
    """The check where Lattice has it, else none: its own default would ask a path it invented."""
    check = listener.health_check
    if check is None or not can_check(check):
        return {"enabled": False}
    return {
        "enabled": True,
        "protocol": "HTTPS" if has_tls(listener) else "HTTP",
        "protocolVersion": "HTTP2" if check.protocol == "http2" else "HTTP1",
        "path": check.path or "/",
        "port": check.port or listener.port_mapping.port,
        "healthCheckIntervalSeconds": math.ceil(check.interval_millis / 1000),
        "healthCheckTimeoutSeconds": math.ceil(check.timeout_millis / 1000),
        "healthyThresholdCount": check.healthy_threshold,
        "unhealthyThresholdCount": check.unhealthy_threshold,
    }


def can_check(check: HealthCheck) -> bool:
    """Whether Lattice can ask what a health check asks."""
    is_http = check.protocol in {"http", "http2"}
    return is_http and _HEALTH_PATH.fullmatch(check.path or "/") is not None


# --- services and rules -----------------------------------------------------------------------


def idle_seconds(doors: Iterable[Door]) -> int:
    """The longest silence that the doors' routes and targets allow, as far as Lattice goes."""
    spans = [span for door in doors for span in _idles(door)]
    if not spans:
        return USUAL_IDLE_S
    if any(span.value == 0 for span in spans):  # App Mesh's word for no limit
        return MOST_IDLE_S
    longest = max(math.ceil(span.seconds) for span in spans)
    return min(max(longest, LEAST_IDLE_S), MOST_IDLE_S)


def _idles(door: Door) -> Iterable[Duration]:
    timeouts = [rule.route.spec.route.timeout for rule in door.rules]
    listened = [it.listener.timeout for it in door.targets if it.listener]
    return [it.idle for it in (*timeouts, *listened) if it is not None and it.idle is not None]


def forward(groups: Sequence[tuple[str, int]]) -> Body:
    """The action that spreads calls over target groups by their weights.

    App Mesh's weights are relative, as Lattice's are; where all are zero, nobody is asked.
    """
    merged: dict[str, int] = {}
    for group, weight in groups:
        merged[group] = min(merged.get(group, 0) + weight, MOST_WEIGHT)
    if not any(merged.values()):
        return fixed(FAILED)
    return {
        "forward": {
            "targetGroups": [
                {"targetGroupIdentifier": group, "weight": weight}
                for group, weight in merged.items()
            ]
        }
    }


def fixed(status: int) -> Body:
    """The action that answers by itself."""
    return {"fixedResponse": {"statusCode": status}}
