"""Refused identities: which failed calls were refused because of a certificate, by whom and why.

Under TLS 1.3 a caller that the called node refuses sees only ``503 UC``; the reason stands in the
node's listener line, which knows no request. The two are matched by the caller's address of that
connection and by time. A caller that refuses the node has the reason in its own line, with ``UF``.
A process that records itself has both in its own line: an alert is the other side's word.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from meshml_dbx.diagnosis.table import Bools, CallTable
from meshml_dbx.traffic.call import Connection

NEAR_US = 5_000_000
"""How far the two sides' clocks and lines may be apart; a port is not reused as fast as that."""

_LONGEST = 160
_IDENTITY = re.compile(r"CERTIFICATE|SAN_matcher|UNKNOWN_CA|BAD_CERT|ACCESS_DENIED", re.IGNORECASE)

_ALERT = "ALERT"

_REASONS: tuple[tuple[str, str], ...] = (
    (r"PEER_DID_NOT_RETURN_A_CERTIFICATE|CERTIFICATE_REQUIRED", "no certificate was shown"),
    (r"expired", "the certificate has expired"),
    (r"SAN_matcher", "the certificate's name is not on the list of accepted names"),
    (r"issuer|self.signed|UNKNOWN_CA|unable_to_get", "an unknown authority signed the certificate"),
    (r"WRONG_VERSION_NUMBER|HTTP_REQUEST", "plain text was spoken where TLS is asked for"),
    (
        r"ALERT_(BAD_)?CERTIFICATE|ALERT_UNKNOWN|ACCESS_DENIED",
        "the other side refused the certificate",
    ),
    (r"(Hostname|IP_address)_mismatch", "the certificate is for another name"),
    (r"CERTIFICATE_VERIFY_FAILED", "the certificate could not be verified"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refusals:
    """By whom each call was refused, and the listener's reason where the node refused it."""

    by_server: Bools
    by_client: Bools
    reasons: dict[int, str]
    """Row → the failure text of the listener line that it was matched with."""


def match_refusals(table: CallTable, connections: Iterable[Connection]) -> Refusals:
    """The refused calls; a node that is proven to refuse a caller refused its other 503 UC too."""
    closed = table.flagged("UC") & table.failed
    reasons = _matched(table, closed, connections)
    targets = {int(table.codes["target"][row]) for row in reasons} - {-1}
    callers = {int(table.codes["sidecar_id"][row]) for row in reasons}
    same = np.isin(table.codes["target"], list(targets)) & np.isin(
        table.codes["sidecar_id"], list(callers)
    )
    told = table.where("upstream_failure", lambda text: bool(_IDENTITY.search(text)))
    told &= (table.flagged("UF") & table.failed) | (table.by_client & closed)
    alerted = told & table.by_client & table.where("upstream_failure", lambda text: _ALERT in text)
    return Refusals(by_server=(closed & same) | alerted, by_client=told & ~alerted, reasons=reasons)


def plain_reason(failure: str) -> str:
    """A transport failure in a few words, the proxy's own kept in brackets.

    >>> plain_reason("TLS_error:|268435709:PEER_DID_NOT_RETURN_A_CERTIFICATE:TLS_error_end")
    'no certificate was shown (PEER_DID_NOT_RETURN_A_CERTIFICATE)'
    """
    words = next((say for rule, say in _REASONS if re.search(rule, failure, re.IGNORECASE)), "")
    own = _own_words(failure)
    return f"{words} ({own})" if words else own


def _matched(table: CallTable, closed: Bools, connections: Iterable[Connection]) -> dict[int, str]:
    by_address: dict[str, list[Connection]] = {}
    for one in connections:
        if one.failure and one.downstream_address:
            by_address.setdefault(one.downstream_address, []).append(one)
    reasons = {}
    for row in np.flatnonzero(closed).tolist() if by_address else ():
        address = table.text("upstream_local_address", row)
        near = [one for one in by_address.get(address or "", ()) if _is_near(table, row, one)]
        if near:
            reasons[row] = near[0].failure or ""
    return reasons


def _is_near(table: CallTable, row: int, connection: Connection) -> bool:
    begun = int(table.numbers["start_time"][row])
    ended = begun + int(table.duration[row])
    closed = connection.start_time + (connection.duration_ms or 0) * 1000
    return connection.start_time <= ended + NEAR_US and closed >= begun - NEAR_US


def _own_words(failure: str) -> str:
    """The telling part of the proxy's text: ``TLS_error:|<number>:…:<reason>:TLS_error_end``."""
    kept = [
        part
        for part in re.split(r":(?![^\[]*\])", failure.replace("|", ""))
        if part and not part.isdigit() and not part.startswith(("TLS_error", "SSL_routines"))
    ]
    shown = [part for part in kept if part not in {"OPENSSL_internal", "CERTIFICATE_VERIFY_FAILED"}]
    text = ": ".join(shown or kept or [failure])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
