"""Tries by layers above the recorded library: boto3, the SDKs, requests' adapters, a loop.

A proxy counts its tries within one call. A layer above makes a call of its own for each try, and
the recorder numbers those (``attempt``). Goes in: a table. Comes out: which failure each later try
tried again. Pure.
"""

import numpy as np

from meshml_dbx.diagnosis.table import CallTable, Ints

THROTTLED = 429
"""No failure of the service, yet what libraries try again."""

_CLOCK_US = 1000  # a call's begin is by the clock, its length by a stopwatch


def tried_before(table: CallTable) -> Ints:
    """For each call that tries again what failed, the row of that failure; -1 for all others.

    It is the last failure of the same process and resource that had ended when the call began.
    """
    before = np.full(len(table), -1, dtype=np.int64)
    known = table.by_client & (table.numbers["resource"] > 0)
    later = np.flatnonzero(known & (table.numbers["attempt"] > 1))
    if not len(later):
        return before
    lost = np.flatnonzero(known & (table.failed | (table.numbers["code"] == THROTTLED)))
    rows = np.concatenate([lost, later])
    begun = table.numbers["start_time"]
    moment = np.concatenate([begun[lost] + table.duration[lost] - _CLOCK_US, begun[later]])
    is_later = np.arange(len(rows)) >= len(lost)
    thing = things_of(table, rows)
    order = np.lexsort((is_later, moment, thing))
    place = np.arange(len(rows))
    last = np.maximum.accumulate(np.where(is_later[order], -1, place))
    found = is_later[order] & (last >= 0) & (thing[order[last]] == thing[order])
    before[rows[order[found]]] = rows[order[last[found]]]
    before[before == np.arange(len(table))] = -1
    return before


def things_of(table: CallTable, rows: Ints) -> Ints:
    """One number for each resource of a process: the hash's key is the process' own."""
    _, resource = np.unique(table.numbers["resource"][rows], return_inverse=True)
    width = len(table.names["sidecar_id"]) + 1
    return np.asarray(resource.reshape(-1) * width + table.codes["sidecar_id"][rows] + 1)
