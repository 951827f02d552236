"""Where the time of each call went: parts that sum to its duration, to the microsecond.

Reading rules of the access log (Envoy 1.40): connect and TLS times are the connection's and repeat
on each call that reuses it, so they count on the first call of a connection only; after a retry
the upstream times are the last attempt's, and what lies before it began is earlier attempts and
back-off; a call that got no first byte waited for it until it ended.

What the calling process recorded itself (observer ``client``) has connect and TLS times on the call
that opened the connection only, and may not know when a request was sent: there a call
without an answer was sent unless it found no connection.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from meshml_dbx.diagnosis.table import Bools, CallTable, Ints
from meshml_dbx.traffic.access_log import WAITING_OBSERVERS
from meshml_dbx.traffic.call import Attempt

PARTS: dict[str, str] = {
    "earlier_attempts": "earlier attempts and back-off",
    "connect": "connect",
    "tls": "TLS handshake",
    "pool_wait": "wait for a connection of the pool",
    "send": "sending the request",
    "first_byte": "time to first byte",
    "transfer": "transfer of the answer",
    "other": "the proxy or library, and the program's own reading",
}
"""The parts of a call in the order in which they claim its time, and what each is called."""

_UNCONNECTED = ("UF", "DF", "UO")
_POOL_TICK_US = 1000  # Envoy counts the pool's time in whole milliseconds, rounded down


def break_down(table: CallTable, attempts: Iterable[Attempt] = ()) -> dict[str, Ints]:
    """The parts of every call of a table, in microseconds; they sum to ``table.duration``."""
    fresh = _opened_connection(table)
    connect = np.where(fresh, _known(table, "connect_us"), 0)
    tls = np.where(fresh, _known(table, "tls_us"), 0)
    sent = _sent(table)
    starved = ~sent & table.by_client & table.flagged("UO")
    unsent = ~sent & ~starved & table.flagged("UF", "DF")
    shaken = unsent & table.by_client & (connect > 0)  # connected, then no TLS: the rest is its
    claims = {
        "earlier_attempts": _earlier(table, last_attempts(attempts)),
        "connect": np.where(unsent & ~shaken, table.duration, connect),
        "tls": np.where(shaken, table.duration, tls),
        "pool_wait": np.where(
            starved,
            table.duration,
            np.maximum(_known(table, "pool_ready_ms") * 1000 - connect - tls, 0),
        ),
        "send": _known(table, "send_us"),
        "first_byte": np.where(
            sent & (table.numbers["first_byte_us"] < 0),
            np.maximum(table.duration - _known(table, "to_upstream_us"), 0),
            _known(table, "first_byte_us"),
        ),
        "transfer": np.where(_cut_in_transfer(table), table.duration, _known(table, "receive_us")),
    }
    return _claimed(claims, table.duration)


def last_attempts(attempts: Iterable[Attempt]) -> dict[tuple[str, str, int], list[int]]:
    """When each attempt began, by sidecar, request id and the attempt's number."""
    begun: dict[tuple[str, str, int], list[int]] = {}
    for one in attempts:
        if one.observer in WAITING_OBSERVERS and one.request_id and one.attempt:
            key = (one.sidecar_id, one.request_id, one.attempt)
            begun.setdefault(key, []).append(one.start_time)
    return begun


def _claimed(claims: Mapping[str, Ints], duration: Ints) -> dict[str, Ints]:
    parts: dict[str, Ints] = {}
    left = duration.copy()
    for name in PARTS:
        part = np.minimum(claims[name], left) if name in claims else left
        parts[name] = part
        left = left - part
    return parts


def _known(table: CallTable, name: str) -> Ints:
    return np.maximum(table.numbers[name], 0)


def _sent(table: CallTable) -> Bools:
    """The calls that are known to have reached the upstream."""
    has_host = table.codes["upstream_host"] >= 0
    own = table.by_client & ~table.open & (table.numbers["code"] <= 0)
    own &= ~table.flagged(*_UNCONNECTED)
    return np.asarray((table.numbers["to_upstream_us"] >= 0) | (table.open & has_host) | own)


def _cut_in_transfer(table: CallTable) -> Bools:
    """The calls whose answer had begun and has no end: all that is left of them was transfer."""
    begun = (table.numbers["first_byte_us"] >= 0) & (table.numbers["receive_us"] < 0)
    return np.asarray(begun & table.by_client & (table.failed | table.open))


def _opened_connection(table: CallTable) -> Bools:
    """The calls for which their upstream connection was opened.

    A process that records itself tells a connection's times on no other call.
    """
    number = table.numbers["upstream_connection_id"]
    rows = np.flatnonzero(number > 0)
    rows = rows[np.argsort(table.numbers["start_time"][rows], kind="stable")]
    key = table.codes["sidecar_id"][rows] * (np.max(number, initial=0) + 1) + number[rows]
    _, first = np.unique(key, return_index=True)
    fresh = np.zeros(len(table), dtype=np.bool_)
    fresh[rows[first]] = True
    ready = table.numbers["pool_ready_ms"]
    handshake = _known(table, "connect_us") + _known(table, "tls_us")
    # Opened before the run began, it was ready sooner than its handshake took.
    return table.by_client | (fresh & ((ready < 0) | (handshake <= ready * 1000 + _POOL_TICK_US)))


def _earlier(table: CallTable, begun: Mapping[tuple[str, str, int], list[int]]) -> Ints:
    """The time before the last attempt began, of calls that were tried more than once."""
    attempts, sent = table.numbers["attempts"], table.numbers["to_upstream_us"]
    answer = _known(table, "send_us") + _known(table, "first_byte_us") + _known(table, "receive_us")
    until = np.where(sent >= 0, sent, table.duration - answer)
    until = until - _known(table, "pool_ready_ms") * 1000
    earlier = np.where(attempts > 1, np.maximum(until, 0), 0)
    if not begun:
        return earlier
    for row in np.flatnonzero(attempts > 1).tolist():
        key = (table.text("sidecar_id", row) or "", table.request_ids[row], int(attempts[row]))
        started = int(table.numbers["start_time"][row])
        ended = started + int(table.duration[row])
        inside = [moment for moment in begun.get(key, ()) if started <= moment <= ended]
        if inside:
            earlier[row] = max(inside) - started
    return earlier
