"""Evidence made by hand of a program that recorded its own calls: no proxy saw any of them.

A call has no route and no target, a host in place of a service, and no time of sending; its
connection's times stand on the call that opened it.
"""

from collections.abc import Iterable, Iterator
from itertools import count

from meshml_dbx.traffic.call import Call
from tests.diagnosis.hand_made import call

RECORDER = "train-7f00aa11"
RESOURCES = count(1)

REFUSED = {"code": 0, "flags": "UF", "first_byte_us": None, "receive_us": None}
TIMED_OUT = {
    "code": 0,
    "flags": "UT",
    "first_byte_us": None,
    "receive_us": None,
    "details": "urllib3.exceptions.ReadTimeoutError",
}


def own(at_us: int, ms: float, **changes: object) -> Call:
    """A GET that the calling process recorded itself; each is for another thing unless told."""
    fields: dict[str, object] = {
        "observer": "client",
        "sidecar_id": RECORDER,
        "authority": "features.test",
        "virtual_service": "features.test",
        "mesh_version": None,
        "route": None,
        "target": None,
        "pattern": "GET /v1/features/{}",
        "details": None,
        "flags": None,
        "attempt": 1,
        "resource": next(RESOURCES),
        "to_upstream_us": None,
        "pool_ready_ms": None,
        "bytes_in": 0,
        "bytes_out": 900,
        "upstream_host": "192.0.2.7:443",
        "upstream_local_address": None,
    }
    return call(at_us, ms, **fields | changes)


def row_of(
    number: int, *, ms: float = 20, pause_ms: float = 2, start_us: int = 0, **changes: object
) -> list[Call]:
    """So many calls, one after the other, with a pause between two."""
    step = round((ms + pause_ms) * 1000)
    return [own(start_us + step * n, ms, **changes) for n in range(number)]


def side_by_side(number: int, *, workers: int, ms: float = 20, **changes: object) -> list[Call]:
    """So many calls by workers that each make one after the other."""
    return [own(round(n // workers * ms * 1000), ms, **changes) for n in range(number)]


def tried(
    codes: Iterable[int], *, at_us: int = 0, ms: float = 30, pause_ms: float = 500
) -> Iterator[Call]:
    """One thing asked for until the last code, by a layer above that pauses between its tries."""
    resource = next(RESOURCES)
    for number, code in enumerate(codes, 1):
        yield own(at_us, ms, code=code, attempt=number, resource=resource)
        at_us += round((ms + pause_ms) * 1000)
