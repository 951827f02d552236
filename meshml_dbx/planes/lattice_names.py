"""VPC Lattice's names for a mesh's things: lower case, digits, single hyphens, not too long.

Names of a mesh hold dots, underscores and capitals and are up to 255 characters long, and one
account may hold several meshes. So each name is a readable part and eight digits of a hash over the
mesh's name and the whole of what it names: always the same, and never another's.
"""

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType

LONGEST: Mapping[str, int] = MappingProxyType(
    {
        "service-network": 63,
        "service": 40,
        "target-group": 128,
        "listener": 63,
        "rule": 63,
        "resource-gateway": 40,
        "resource-configuration": 40,
        "iam-policy": 128,
    }
)
"""The most characters that a name of each kind may have."""

_HASH_DIGITS = 8
_RESERVED = re.compile(r"(svc|sn|tg|listener|rule|rcfg|rgw)-")


def lattice_name(kind: str, mesh_name: str, *parts: str, shown: str = "") -> str:
    """The name of a thing of that kind, made of its own names; ``shown`` is what people read of it.

    >>> lattice_name("service", "ml", "labels.ml.local")
    'labels-ml-local-12f49093'
    """
    whole = "\0".join((mesh_name, *parts)).encode()
    digest = hashlib.sha256(whole).hexdigest()[:_HASH_DIGITS]
    readable = shown or "-".join(parts or (mesh_name,))
    readable = re.sub(r"[^a-z0-9]+", "-", readable.lower()).strip("-")
    if _RESERVED.match(f"{readable}-"):
        readable = f"mesh-{readable}"
    room = LONGEST[kind] - _HASH_DIGITS - 1
    return f"{readable[:room].strip('-')}-{digest}".lstrip("-")
