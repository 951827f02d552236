"""What a supervisor is told and what it answers: plain values, nothing of a mesh in them.

In go the literals of one member, its rendered files and the command; out comes an ``Outcome``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLimits:
    """When a living sidecar closes its files by itself, without being asked.

    >>> CloseLimits().seconds
    60.0
    """

    size: int = 64 * 1024 * 1024
    seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarPlan:
    """All that a supervisor needs to know of one member of the mesh.

    ``files`` are Envoy's, by name relative to its folder; they may hold secrets and are never
    logged. ``listens`` are the addresses that Envoy must have opened before the program starts.
    Without a command the sidecar stays until a signal. ``notes`` are for whoever started it;
    ``job`` is the Databricks job that it runs in, as columns of a program's line.

    >>> SidecarPlan(sidecar_id="labels-1", mesh="ml", mesh_version="v", observer="ingress",
    ...             files={"bootstrap.json": "{}"}).command
    ()
    """

    sidecar_id: str
    mesh: str
    mesh_version: str
    observer: str
    files: Mapping[str, str] = field(repr=False)
    process_id: str | None = None
    client: str | None = None
    virtual_node: str | None = None
    environment: str | None = None
    mesh_source: str = ""
    mesh_document: str = field(default="", repr=False)
    listens: tuple[tuple[str, int], ...] = ()
    command: tuple[str, ...] = ()
    program_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: CloseLimits = CloseLimits()
    notes: tuple[str, ...] = ()
    job: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it went: the program's exit status as a shell would say it, and what the proxy counted.

    ``requests_total`` is None when the counters could never be read. ``trouble`` holds what went
    wrong beside the program, in the order in which it did.

    >>> Outcome(exit_status=0, requests_total=4).trouble
    ()
    """

    exit_status: int
    requests_total: int | None
    trouble: tuple[str, ...] = ()
