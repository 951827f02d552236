"""A mesh becomes a running mesh: what is declared, in the words of the plane that carries it out.

A Mesh and the name of a member go in, the plane's configuration comes out. Nothing here touches a
disk, a socket or a process.
"""

from meshml_dbx.planes.envoy import IdentityPaths, Wiring, render, secret_name, secrets_of
from meshml_dbx.planes.plan import Resource

__all__ = ["IdentityPaths", "Resource", "Wiring", "render", "secret_name", "secrets_of"]
