"""What the proxy has counted so far: in goes Envoy's admin interface, out come ``Counters``."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshml_dbx.sidecar.admin import Admin

_PATTERN = (
    r"^http\..*\.downstream_rq_(total|active)$"
    r"|^listener\..*\.downstream_cx_total$"
    r"|^cluster\..*\.upstream_rq_pending_overflow$"
    r"|^filesystem\.(write_buffered|write_completed|write_failed|reopen_failed)$"
)
_OPEN = r"^http\..*\.downstream_cx_active$"
_NOT_OURS = (
    "http.admin.",
    "http.async-client.",
    "http.unlogged.",  # hands its requests to another listener, which logs them
    "listener.admin.",
)
_PER_WORKER = (".worker_", ".main_thread.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The proxy's own counts, summed over its listeners: what the ledger holds lines against.

    A request is counted when it begins and logged when it ends, so total - active is the number
    of end lines that Envoy has made.

    >>> Counters(requests_total=7, requests_active=2).requests_finished
    5
    """

    requests_total: int = 0
    requests_active: int = 0
    connections_total: int = 0
    pending_overflow: int = 0
    write_buffered: int = 0
    write_completed: int = 0
    write_failed: int = 0

    @property
    def requests_finished(self) -> int:
        """How many end lines there should be."""
        return self.requests_total - self.requests_active


def read_counters(admin: Admin) -> Counters:
    """Ask Envoy for its counters; without those of its admin interface."""
    return sum_counters(admin.stats(_PATTERN))


def count_connections(admin: Admin) -> int:
    """How many connections of callers are open now, whether a call is on them or not."""
    found = admin.stats(_OPEN)
    return sum(value for name, value in found.items() if not name.startswith(_NOT_OURS))


def sum_counters(stats: Mapping[str, int]) -> Counters:
    """Counters by what they count, over all listeners and clusters.

    >>> sum_counters({"http.egress.downstream_rq_total": 3, "http.admin.downstream_rq_total": 9})
    ... # doctest: +ELLIPSIS
    Counters(requests_total=3, ...)
    """
    ours = {
        name: value
        for name, value in stats.items()
        if not name.startswith(_NOT_OURS) and not any(part in name for part in _PER_WORKER)
    }

    def total(*endings: str) -> int:
        return sum(value for name, value in ours.items() if name.endswith(endings))

    return Counters(
        requests_total=total(".downstream_rq_total"),
        requests_active=total(".downstream_rq_active"),
        connections_total=total(".downstream_cx_total"),
        pending_overflow=total(".upstream_rq_pending_overflow"),
        write_buffered=total("filesystem.write_buffered"),
        write_completed=total("filesystem.write_completed"),
        write_failed=total("filesystem.write_failed", "filesystem.reopen_failed"),
    )
