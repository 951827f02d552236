"""The demo's services without a mesh: addresses, certificates and tries in the program itself.

Goes in: a file that says where each virtual service's nodes are. Comes out: sessions of requests
that do what the client's sidecar would do: pick a node by weight, speak mutual TLS, try again.
"""

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

TRIES_AGAIN = Retry(
    total=3, status_forcelist=(502, 503, 504), backoff_factor=0.03, raise_on_status=False
)
"""As the mesh's routes do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """Where services are (host → addresses with weights), and who calls them."""

    services: dict[str, list[tuple[str, int]]]
    certificate: str
    key: str
    authority: str

    def session(self) -> requests.Session:
        """A session that takes virtual names."""
        session = requests.Session()
        session.trust_env = False
        for host in self.services:
            session.mount(f"http://{host}/", _Adapter(self))
        return session

    def address_of(self, url: str) -> str:
        """The address for a virtual one; which node it is depends on the path alone."""
        parts = urlsplit(url)
        nodes = self.services[parts.hostname or ""]
        chances = [address for address, weight in nodes for _ in range(weight)]
        address = chances[crc32(parts.path.encode()) % len(chances)]
        return parts._replace(scheme="https", netloc=address).geturl()


class _Adapter(HTTPAdapter):
    """Sends to a node's own address, with the client's certificate."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct
        super().__init__(max_retries=TRIES_AGAIN)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Check the authority; the name in a mesh certificate is no host's."""
        context = ssl.create_default_context(cafile=self._direct.authority)
        context.check_hostname = False
        context.load_cert_chain(self._direct.certificate, self._direct.key)
        super().init_poolmanager(*args, **kwargs, ssl_context=context, assert_hostname=False)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """The answer of the node behind a virtual address."""
        request.url = self._direct.address_of(request.url or "")
        kwargs["verify"] = self._direct.authority
        return super().send(request, *args, **kwargs)


def read_direct(path: Path) -> Direct:
    """What ``write_direct`` wrote."""
    return Direct(**json.loads(path.read_text(encoding="utf-8")))
