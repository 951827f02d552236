"""How often each way through the mesh was used: calls that agree in who, where to and as whom.

Made from finished calls, by the lake out of its table and by ``recording`` out of a log folder;
what was declared is held against it. Each observer's calls are counted for themselves.
"""

from dataclasses import dataclass

USAGE_KEY = (
    "observer",
    "mesh",
    "mesh_version",
    "client",
    "virtual_node",
    "virtual_service",
    "route",
    "target",
    "host",
    "upstream_peer",
    "downstream_peer",
)
"""The columns of calls by which they are counted together; see ``usage_host`` for ``host``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """So many calls of one kind, between two moments (UTC microseconds since 1970).

    >>> Usage(observer="egress", calls=3, first=0, last=9, client="churn").caller
    'churn'
    """

    observer: str
    calls: int
    first: int
    last: int
    mesh: str | None = None
    mesh_version: str | None = None
    client: str | None = None
    virtual_node: str | None = None
    virtual_service: str | None = None
    route: str | None = None
    target: str | None = None
    host: str | None = None
    upstream_peer: str | None = None
    downstream_peer: str | None = None

    @property
    def caller(self) -> str | None:
        """The member that called, as seen from its own side."""
        return self.client or self.virtual_node


def usage_host(virtual_service: str | None, authority: str | None) -> str | None:
    """The host of a call that met no virtual service: services have names, others have this.

    >>> usage_host(None, "Example.org:80"), usage_host("labels", "labels:80")
    ('example.org:80', None)
    """
    return authority.lower() if authority and virtual_service is None else None
