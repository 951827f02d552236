"""What a plane makes of a mesh, as values: a resource has a kind, a name and a body.

A plane turns a Mesh into resources; what carries them out takes them from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One thing that a plane wants to exist, in the plane's own words.

    >>> Resource(kind="cluster", name="ingress/labels-v1/18081", body={"type": "STATIC"}).name
    'ingress/labels-v1/18081'
    """

    kind: str
    name: str
    body: Mapping[str, object]
