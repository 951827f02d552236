"""What one run waited for, row by row: the columns of the table ``waits``, and figures made of it.

Goes in: rows of one run. Comes out: the few numbers that are shown with the run in MLflow.
"""

from dataclasses import dataclass
from datetime import date

PART_NAMES = (
    "earlier_attempts",
    "connect",
    "tls",
    "pool_wait",
    "send",
    "first_byte",
    "transfer",
    "other",
)
"""The parts of a call's time, in the order in which they claim it, as the diagnosis has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a run waited for one place that it called from one stage.

    ``wait_us`` is the place's share of the time in which any call was in flight, split evenly over
    those in flight, so a run's rows add up to its wait. The parts, ``connect_us`` and the others,
    add up to ``duration_us``, the time of the calls one by one, which may overlap. ``service`` is
    the virtual service, or the host where the call left the mesh. ``buckets`` are those of
    ``sketch``.
    """

    run_id: str
    event_date: date
    stage: str | None
    service: str
    virtual_service: str | None
    route: str | None
    target: str | None
    pattern: str | None
    calls: int
    unfinished: int
    errors: int
    retries: int
    wait_us: int
    duration_us: int
    earlier_attempts_us: int
    connect_us: int
    tls_us: int
    pool_wait_us: int
    send_us: int
    first_byte_us: int
    transfer_us: int
    other_us: int
    bytes_in: int
    bytes_out: int
    buckets: dict[int, int]
