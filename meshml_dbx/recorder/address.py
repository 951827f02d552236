"""What of a call's address may be written: host and path, never a user, a password or a query.

Goes in: what a library was asked for. Comes out: authority and path, and a number that tells calls
for the same thing from others without telling the thing.
"""

import secrets
from functools import lru_cache
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
MOST_PATH = 2_000
"""How many letters of a path are written: whoever calls chooses how long it is."""

_LARGEST = 2**63 - 1
_key = secrets.token_hex(16)


def forget_key() -> None:
    """Take another key: numbers from before tell nothing about those from now on."""
    global _key  # noqa: PLW0603  # one secret a process
    _key = secrets.token_hex(16)


@lru_cache(maxsize=1024)
def authority_of(scheme: str, host: str, port: int | None) -> str:
    """Host and port as they are shown; the scheme's own port is left out.

    >>> authority_of("https", "api.example.com", 443), authority_of("http", "::1", 8080)
    ('api.example.com', '[::1]:8080')
    """
    name = host.rpartition("@")[2].lower()
    shown = f"[{name}]" if ":" in name and not name.startswith("[") else name
    return shown if port in (None, DEFAULT_PORTS.get(scheme)) else f"{shown}:{port}"


def called(scheme: str, host: str, port: int | None, target: str) -> tuple[str, str, int | None]:
    """Whom a request is for: the host of a whole address, as a proxy is told, or the connection's.

    >>> called("http", "proxy.corp", 3128, "http://me:pw@api.example.com/v1")
    ('http', 'api.example.com', None)
    >>> called("http", "api.example.com", 80, "/login?next=http://other")
    ('http', 'api.example.com', 80)
    """
    if target.startswith("/") or "://" not in target:
        return scheme, host, port
    found = urlsplit(target)
    return found.scheme, found.hostname or "", found.port


def path_of(target: str) -> str:
    """The path of a request's target, without its query; of a whole address (to a proxy) too.

    >>> path_of("/v1/labels?token=abc"), path_of("http://me:pw@host/v1?x=1"), path_of("")
    ('/v1/labels', '/v1', '/')
    """
    path = target.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):
        path = urlsplit(path).path
    return path[:MOST_PATH] or "/"


def end_text(name: object) -> str:
    """An end of a connection as it is shown; empty when it has no address, as a Unix socket's.

    >>> end_text(("10.0.0.1", 443)), end_text(("::1", 80, 0, 0)), end_text("/run/socket")
    ('10.0.0.1:443', '[::1]:80', '')
    """
    if not isinstance(name, tuple):
        return ""
    host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
    return f"{host}:{name[1]}"


def resource_of(method: str, authority: str, target: str, part: str | None = None) -> int:
    """A number from 1 to 2**63 - 1 for what a call asks for; ``part`` is a range of it.

    Made with a key that only this process knows, so that a query cannot be guessed from it; by
    Python's own hash (SipHash), at a tenth of the cost of a cryptographic one.
    """
    return hash(f"{_key} {method} {authority} {target} {part or ''}") % _LARGEST + 1
