"""What convinced the diagnosis of calls that the calling process recorded itself, in words.

Goes in: a case and a suspect whose calls no proxy saw. Comes out: half a sentence, as ``explain``
gives for others; it names no mesh, and whose side each fault is on.
"""

import numpy as np

from meshml_dbx.diagnosis.case import Case
from meshml_dbx.diagnosis.ends import commonest, kinds
from meshml_dbx.diagnosis.identity import plain_reason
from meshml_dbx.diagnosis.rank import Suspect
from meshml_dbx.diagnosis.table import Ints
from meshml_dbx.diagnosis.units import counted, seconds


def self_seen(case: Case, suspect: Suspect) -> bool:
    """Whether the calling process alone saw the calls of a suspect."""
    return bool(case.table.by_client[suspect.rows].all())


def layered_storm(case: Case, suspect: Suspect) -> str:
    """A storm whose tries are calls of their own, made by a layer above the recorded library."""
    table, rows = case.table, suspect.rows
    retries = int(table.retries[rows].sum())
    again = case.marks.tried_again[rows]
    begun = int((again & (table.numbers["attempt"][rows] <= 1)).sum())
    given_up = int((case.marks.failed[rows] & ~again).sum())
    return (
        f"{counted(retries, 'retry', 'retries')} of {counted(max(begun, 1), 'call')}, made by the "
        "program or its libraries; failed tries and the pauses before new ones cost "
        f"{seconds(suspect.cost_us)}; "
        f"they ended {kinds(case, rows[again])}"
        + (f"; {counted(given_up, 'call')} failed all the same" if given_up else "")
    )


def refused_by(case: Case, rows: Ints, client: str, target: str) -> str:
    """Which side refused the other's certificate, by the caller's own word."""
    told = plain_reason(commonest(case, "upstream_failure", rows))
    if case.refusals.by_client[rows].sum() > case.refusals.by_server[rows].sum():
        return f"{client} does not accept the certificate of {target}: {told}"
    return f"{target} does not accept the certificate of {client}, by its TLS alert: {told}"


def missing_connections(case: Case, rows: Ints) -> str:
    """Why a process that records itself got no connection: the name, the way, or TLS."""
    table = case.table
    unnamed = table.flagged("DF")[rows]
    unshaken = table.where("upstream_failure", lambda text: text.startswith("TLS_"))[rows]
    starved = table.flagged("UO")[rows]
    counts = {
        "the name is not resolved": int(unnamed.sum()),
        "the TLS handshake failed": int(unshaken.sum()),
        "no connection of the pool was free": int(starved.sum()),
        "nothing accepted the connection": int((~unnamed & ~unshaken & ~starved).sum()),
    }
    said = ", ".join(f"{name} x {count}" for name, count in counts.items() if count)
    reason = commonest(case, "upstream_failure", rows) or commonest(case, "details", rows)
    return f"{said} ({plain_reason(reason)})" if reason else said


def own_time_out(case: Case, suspect: Suspect) -> str:
    """The program's own limit, of which only its exception and the calls' length are known."""
    rows = suspect.rows
    raised = commonest(case, "details", rows)
    last_try = case.table.duration[rows] - case.parts["earlier_attempts"][rows]
    return (
        f"{len(rows)} of {counted(suspect.of_calls, 'call')} cut off by the program's own time-out"
        f"{f' ({raised})' if raised else ''} after about {seconds(float(np.median(last_try)))}"
    )
