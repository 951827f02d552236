"""The rows of evidence that the page shows: the worst calls, their tries, refused connections.

Goes in: a sheet or the evidence. Comes out: frozen rows of text, each list of bounded length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meshml_dbx.diagnosis.breakdown import PARTS
from meshml_dbx.diagnosis.diagnosis import Diagnosis
from meshml_dbx.diagnosis.sheet import Sheet, worst_rows
from meshml_dbx.diagnosis.table import Bools
from meshml_dbx.diagnosis.units import milliseconds, percent
from meshml_dbx.traffic.evidence import Evidence
from meshml_dbx.traffic.flags import FLAGS, flag_set

MOST_ROWS = 50
MOST_TRIES = 30
MOST_REFUSALS = 20
NOTHING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """One finished call; ``rank`` is its culprit's."""

    rank: int | None
    at: str
    took: str
    first_byte: str
    attempts: str
    code: str
    flags: str
    flag_names: str
    target: str | None
    pattern: str | None
    stage: str | None
    upstream_host: str | None
    request_id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TryRow:
    """One attempt of a call that was tried more than once."""

    at: str
    attempt: str
    took: str
    code: str
    flags: str
    flag_names: str
    virtual_service: str | None
    target: str | None
    upstream_host: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalRow:
    """One connection that a sidecar's listener refused."""

    at: str
    refused_by: str | None
    address: str | None
    peer: str | None
    failure: str | None


def call_rows(sheet: Sheet, diagnosis: Diagnosis, culprits: Sequence[Bools]) -> tuple[CallRow, ...]:
    """The worst finished calls, those of the culprits first."""
    known = {(row.start_time, row.request_id): row.detail for row in diagnosis.evidence_rows}
    ranks = [culprit.rank for culprit in diagnosis.blamed]
    return tuple(
        _call_row(sheet, one.row, None if one.culprit is None else ranks[one.culprit], known)
        for one in worst_rows(sheet, culprits, at_most=MOST_ROWS)
    )


def tries(evidence: Evidence) -> tuple[TryRow, ...]:
    """The first attempts of calls that were tried more than once, in order of time."""
    ordered = sorted(evidence.attempts, key=lambda one: (one.start_time, one.attempt or 0))
    return tuple(
        TryRow(
            at=at_text(one.start_time - evidence.run.start_time),
            attempt=NOTHING if one.attempt is None else str(one.attempt),
            took=milliseconds(one.duration_ms),
            code=code_text(one.code),
            flags=one.flags or "",
            flag_names=flag_names(one.flags),
            virtual_service=one.virtual_service or one.authority,
            target=one.target,
            upstream_host=one.upstream_host,
            request_id=one.request_id,
        )
        for one in ordered[:MOST_TRIES]
    )


def refusals(evidence: Evidence) -> tuple[RefusalRow, ...]:
    """The first refused connections, in order of time."""
    ordered = sorted(evidence.connections, key=lambda one: one.start_time)
    return tuple(
        RefusalRow(
            at=at_text(one.start_time - evidence.run.start_time),
            refused_by=one.virtual_node or one.sidecar_id,
            address=one.downstream_address,
            peer=one.downstream_peer or one.downstream_subject,
            failure=one.failure,
        )
        for one in ordered[:MOST_REFUSALS]
    )


def at_text(micros: int) -> str:
    """A moment since the run's begin.

    >>> at_text(2_512_300)
    '2.512 s'
    """
    return f"{micros / 1e6:.3f} s"


def code_text(code: int | None) -> str:
    """A response's code, or that there was none."""
    return str(code) if code is not None and code > 0 else NOTHING


def flag_names(flags: str | None) -> str:
    """What each flag of a line is called.

    >>> flag_names("UC")
    'UC: UpstreamConnectionTermination'
    """
    known = [flag for flag in sorted(flag_set(flags)) if flag in FLAGS]
    return ", ".join(f"{flag}: {FLAGS[flag].name}" for flag in known)


def _call_row(
    sheet: Sheet, row: int, rank: int | None, details: dict[tuple[int, str], str]
) -> CallRow:
    numbers, table = sheet.table.numbers, sheet.table
    start, flags = int(numbers["start_time"][row]), table.text("flags", row)
    first_byte, attempts = int(numbers["first_byte_us"][row]), int(numbers["attempts"][row])
    return CallRow(
        rank=rank,
        at=at_text(start - sheet.span[0]),
        took=milliseconds(int(table.duration[row]) / 1000),
        first_byte=milliseconds(first_byte / 1000 if first_byte >= 0 else None),
        attempts=NOTHING if attempts < 0 else str(attempts),
        code=code_text(int(numbers["code"][row])),
        flags=flags or "",
        flag_names=flag_names(flags),
        target=table.text("target", row),
        pattern=table.text("pattern", row),
        stage=table.text("stage", row),
        upstream_host=table.text("upstream_host", row),
        request_id=table.request_ids[row],
        detail=details.get((start, table.request_ids[row])) or _largest_part(sheet, row),
    )


def _largest_part(sheet: Sheet, row: int) -> str:
    name = max(PARTS, key=lambda part: int(sheet.parts[part][row]))
    share = int(sheet.parts[name][row]) / max(int(sheet.table.duration[row]), 1)
    return f"{PARTS[name]} {percent(share)}"
