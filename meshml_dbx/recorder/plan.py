"""Where and for whom to record: one frozen value, which travels to forked and remote workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedHost:
    """What a mesh file calls an address: a virtual service, and its node where it is one's own.

    >>> NamedHost(virtual_service="labels.ml.local").target is None
    True
    """

    virtual_service: str
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderPlan:
    """What a recorder must know before its first call.

    ``logs`` is the log folder; where it ``refuses_appends`` (a Unity Catalog volume) finished files
    are copied there and live ones lie on the local disk. ``run`` is the folder in which it shows
    itself alive, None where nobody could ask it to close its files. ``tracking`` is the address
    (``host:port``) of MLflow's server, ``hosts`` what a mesh file calls addresses. ``run_id`` is
    the run of every call here, for workers whose driver has the run. ``job`` is the Databricks job
    run, task run and workspace of it, as columns of a program's line. ``closes_when_idle_s``
    finishes a live file when nothing was written for so long, for processes that nobody asks.

    >>> RecorderPlan(logs=Path("logs"), client="train", process_id="p").run_id is None
    True
    """

    logs: Path
    client: str
    process_id: str
    run: Path | None = None
    refuses_appends: bool = False
    program: str = ""
    environment: str | None = None
    mesh: str | None = None
    tracking: str | None = None
    workspace: str | None = None
    run_id: str | None = None
    closes_when_idle_s: float | None = None
    hosts: Mapping[str, NamedHost] = field(default_factory=dict)
    job: Mapping[str, str] = field(default_factory=dict)
