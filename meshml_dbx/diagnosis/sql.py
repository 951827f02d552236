"""The query that gives a culprit's rows, for whoever wants to see the evidence in the lake.

Goes in: the run and a suspect. Comes out: one Spark SQL statement on the lake's tables by their
bare names. Every value that a program or a mesh file could have chosen is escaped.
"""

import numpy as np

from meshml_dbx.diagnosis.case import Case
from meshml_dbx.diagnosis.identity import NEAR_US
from meshml_dbx.diagnosis.rank import Suspect
from meshml_dbx.diagnosis.table import Ints

CALLS_TABLE = "calls"
RUNS_TABLE = "calls_by_run"
UNFINISHED_TABLE = "unfinished_calls"
CONNECTIONS_TABLE = "connections"

CALL_KEY = ("request_id", "start_time", "observer", "sidecar_id")
"""What joins a call to the run that owns it: the header's ``run_id`` is not always there."""

COLUMNS = (
    "start_time",
    "request_id",
    "target",
    "pattern",
    "code",
    "flags",
    "attempts",
    "duration_us",
    "first_byte_us",
    "upstream_host",
)

_FEW = 20
_OWNED = f"\nJOIN {RUNS_TABLE} r ON " + " AND ".join(f"r.{key} <=> c.{key}" for key in CALL_KEY)
_CONDITIONS: dict[str, str] = {
    "refused_identity": "c.flags RLIKE 'UC|UF'",
    "connect_failure": "c.flags RLIKE 'UF|UH|UO|NC|DF'",
    "retry_storm": "c.attempts > 1",
    "policy_timeout": "(c.flags RLIKE 'UT|SI|DT|UMSDR' OR c.origin_flags RLIKE 'UT|SI|DT|UMSDR')",
    "no_route": "(c.flags RLIKE 'NR' OR c.details = 'direct_response')",
    "upstream_error": (
        "(c.code >= 500 OR c.code = 0 OR (c.observer = 'client' AND c.flags RLIKE 'UC|UPE|URX'))"
    ),
    "slow_upstream": "c.code < 500",
    "slow_connection": "c.code < 500",
}


_TRIES = "(c.attempts > 1 OR c.attempt > 1 OR c.code >= 500 OR c.code IN (0, 429))"
"""A storm of a layer above the recorded library: its tries are calls of their own."""


def evidence_sql(case: Case, suspect: Suspect) -> str:
    """The statement whose rows convinced the diagnosis, the longest calls first."""
    table = case.table
    is_open = bool(table.open[suspect.rows].all())
    chosen = [f"c.{name}" for name in COLUMNS]
    joined = "" if is_open else _OWNED
    if suspect.cause == "refused_identity" and not table.by_client[suspect.rows].all():
        chosen += ["k.failure", "c.upstream_failure"]
        joined += (
            f"\nLEFT JOIN {CONNECTIONS_TABLE} k ON k.failure IS NOT NULL"
            "\n  AND k.downstream_address = c.upstream_local_address"
            f"\n  AND abs(unix_micros(k.start_time) - unix_micros(c.start_time)) <= {NEAR_US}"
        )
    conditions = "\n  AND ".join(_conditions(case, suspect, is_open=is_open))
    source = UNFINISHED_TABLE if is_open else CALLS_TABLE
    return (
        f"SELECT {', '.join(chosen)}\nFROM {source} c{joined}\n"
        f"WHERE {conditions}\nORDER BY c.duration_us DESC"
    )


def literal(text: str) -> str:
    r"""A text as a literal of Spark SQL, which reads backslash escapes in it.

    >>> print(literal("it's a \\ path"))
    'it\'s a \\ path'
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def _conditions(case: Case, suspect: Suspect, *, is_open: bool) -> list[str]:
    place, table = suspect.place, case.table
    listed = [] if is_open else [f"r.run_id = {literal(case.evidence.run.run_id)}"]
    listed += [
        _observed(case, suspect.rows),
        _equal("virtual_service" if place.in_mesh else "authority", place.service),
        _equal("route", place.route),
        _equal("target", place.target),
    ]
    ids = [table.request_ids[row] for row in suspect.rows[:_FEW].tolist()]
    if len(suspect.rows) <= _FEW and all(ids):
        return [*listed, f"c.request_id IN ({', '.join(map(literal, ids))})"]
    kinds = [_CONDITIONS[suspect.cause]] if suspect.cause in _CONDITIONS else []
    if suspect.cause == "retry_storm" and case.marks.tried_again[suspect.rows].any():
        kinds = [_TRIES]
    return [*listed, *_patterns(case, suspect), *kinds]


def _observed(case: Case, rows: Ints) -> str:
    """Who saw the calls: a call between two proxies has a row of each in the lake."""
    table = case.table
    codes = np.unique(table.codes["observer"][rows]).tolist()
    names = [table.names["observer"][code] for code in codes if code >= 0] or ["egress"]
    listed = ", ".join(map(literal, names))
    return f"c.observer IN ({listed})" if len(names) > 1 else f"c.observer = {listed}"


def _patterns(case: Case, suspect: Suspect) -> list[str]:
    """The patterns, where they are few; those of a folded group are not listed one by one."""
    if any(case.groups.patterns[group] for group in suspect.groups):
        return []
    names = [case.groups.places[group].pattern for group in suspect.groups]
    return [f"c.pattern IN ({', '.join(map(literal, names))})"]


def _equal(column: str, value: str | None) -> str:
    return f"c.{column} IS NULL" if value is None else f"c.{column} = {literal(value)}"
