"""What is computed once for a mesh: look-ups, its version, its matcher.

A mesh is frozen but holds dictionaries, so it cannot be a key by its value. What is computed here
is kept beside the mesh object itself and goes when the object goes.
"""

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from meshml_dbx.mesh.spec import Mesh

_Made = TypeVar("_Made")


def once_per_mesh(make: Callable[[Mesh], _Made]) -> Callable[[Mesh], _Made]:
    """The same function, asked once for each mesh object; its answer must not hold the mesh.

    Two threads that ask at the same time may both compute; they compute the same.
    """
    kept: dict[int, tuple[weakref.ref[Mesh], _Made]] = {}

    @wraps(make)
    def asked_once(mesh: Mesh) -> _Made:
        key = id(mesh)
        known = kept.get(key)
        if known is not None and known[0]() is mesh:
            return known[1]
        made = make(mesh)
        # The object's memory, and with it the key, is used again only after this callback.
        kept[key] = (weakref.ref(mesh, lambda _: kept.pop(key, None)), made)
        return made

    return asked_once
