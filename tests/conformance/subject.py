"""What the conformance suite asks of a transport, whatever carries the calls of a mesh.

Goes in: the text of a mesh file, the programs of its nodes and a request. Comes out: a reply, with
the route, the target and the number of attempts as the transport itself tells them. What a subject
cannot do it leaves out of its ``abilities``, and tests that need it are skipped by that name.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import pytest

Spoken = Literal["http", "http2", "grpc", "tcp"]
Ability = Literal[
    "http",  # calls of http/1.1
    "http2",  # calls of http2
    "grpc",  # calls of gRPC
    "tcp",  # bare connections
    "tls",  # certificates of both ends
    "outliers",  # leaving endpoints out
    "egress",  # hosts outside the mesh
    "node",  # a virtual node as the caller
    "gateway",  # a virtual gateway as the caller
]
Programs = Mapping[str, int | Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a program sends: ``method`` and ``headers`` mean nothing to a bare connection.

    >>> Request(url="http://labels.ml.local/v1", headers={"x-cohort": "b"}).protocol
    'http'
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    protocol: Spoken = "http"
    within_s: float = 30.0
    """For gRPC the call's own deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a program got, and what the transport says of it.

    ``status`` is that of http, or gRPC's own; 0 for a bare connection and where no answer came.
    ``route`` is None where no route of the mesh was taken. ``flags`` are Envoy's short words
    (``UT``: a time-out, ``UO``: a pool is full ...) in their alphabet's order, joined by commas:
    those of the caller's side and of the called node's.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_s: float
    route: str | None
    target: str | None
    attempts: int
    flags: str


class Transport(Protocol):
    """The way of one member's program into the mesh."""

    def send(self, request: Request) -> Reply:
        """One call."""
        ...

    def send_all(self, requests: Sequence[Request], *, at_once: int = 1) -> tuple[Reply, ...]:
        """Many calls, in their order; ``at_once`` of them at a time."""
        ...


class Subject(Protocol):
    """What the suite is run against."""

    name: str
    abilities: frozenset[Ability]

    def at_work(
        self,
        folder: Path,
        text: str,
        *,
        behind: Programs | None = None,
        at: Mapping[str, int] | None = None,
        hosts: Mapping[str, Sequence[str]] | None = None,
    ) -> AbstractContextManager[Mapping[str, Transport]]:
        """A mesh at work, and the transport of each of its clients, gateways and calling nodes.

        The text has ``NAME_PORT`` where a port is wanted. ``behind``: the programs that nodes with
        a sidecar have behind it. ``at``: by NAME, the port of a program that stands there itself.
        ``hosts``: the addresses of host names, as a name server tells them.
        """
        ...


def need(subject: Subject, *abilities: Ability) -> None:
    """Skip what the subject says that it cannot do."""
    for ability in abilities:
        if ability not in subject.abilities:
            pytest.skip(f"{subject.name} has not the ability {ability}")
