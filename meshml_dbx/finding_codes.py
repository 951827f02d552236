"""The one table of finding codes: for each its number, title, severity and advice.

``meshml check --explain MESH017`` prints an entry with a small file that shows it. Numbers are
promises: they never change their meaning, and a code that goes leaves its number unused.
MESH001 to MESH099 are of the mesh file, from MESH100 of imports, from MESH200 of planes, from
MESH300 of drift.
"""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters: an error stops every journey that needs the mesh."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One kind of finding: its number, title, how bad it is, and what to do about it."""

    number: str
    title: str
    severity: Severity
    advice: str


CODES: dict[str, Code] = {
    "mesh-file-empty": Code(
        number="MESH001",
        title="the mesh file is empty",
        severity=Severity.ERROR,
        advice="start from the example in the README",
    ),
    "mesh-file-not-yaml": Code(
        number="MESH002",
        title="the mesh file is not YAML",
        severity=Severity.ERROR,
        advice="mend the line that is named",
    ),
    "unknown-field": Code(
        number="MESH003",
        title="a field that this version does not know",
        severity=Severity.ERROR,
        advice="use a field that is listed, or take it out",
    ),
    "duplicate-field": Code(
        number="MESH004",
        title="a field that is written twice: YAML keeps only one of them",
        severity=Severity.ERROR,
        advice="take one of them out",
    ),
    "exactly-one": Code(
        number="MESH005",
        title="none, or several, of the fields of which App Mesh takes exactly one",
        severity=Severity.ERROR,
        advice="write exactly one of the fields that are named",
    ),
    "missing-field": Code(
        number="MESH006",
        title="a required field is missing",
        severity=Severity.ERROR,
        advice="add the field",
    ),
    "wrong-value": Code(
        number="MESH007",
        title="a value of the wrong type or outside its range",
        severity=Severity.ERROR,
        advice="use a value that is listed",
    ),
    "duplicate-name": Code(
        number="MESH008",
        title="two entries have the same name",
        severity=Severity.ERROR,
        advice="rename one of them",
    ),
    "same-address": Code(
        number="MESH009",
        title="two nodes are reached at the same host name and port",
        severity=Severity.ERROR,
        advice="give one of them another port",
    ),
    "dangling-reference": Code(
        number="MESH010",
        title="a name that nothing in the file carries",
        severity=Severity.ERROR,
        advice="declare it, or mend the spelling",
    ),
    "zero-weight": Code(
        number="MESH011",
        title="all weights of a route are zero: its calls are answered with 503",
        severity=Severity.WARNING,
        advice="give at least one target a weight",
    ),
    "retry-budget": Code(
        number="MESH012",
        title="the route's time-out cuts the later tries off",
        severity=Severity.WARNING,
        advice="make perRequest at least perRetryTimeout x (maxRetries + 1)",
    ),
    "unreachable-route": Code(
        number="MESH013",
        title="an earlier route takes every request of this one",
        severity=Severity.WARNING,
        advice="change the priority, or the match",
    ),
    "client-refused": Code(
        number="MESH014",
        title="a node refuses a caller that lists its service among its backends",
        severity=Severity.WARNING,
        advice="let the node's subject alternative names hold the caller's, or drop the backend",
    ),
    "server-refused": Code(
        number="MESH015",
        title="a caller refuses a node that its backend leads to",
        severity=Severity.WARNING,
        advice="let the caller's subject alternative names hold the node's, or drop the backend",
    ),
    "no-provider": Code(
        number="MESH016",
        title="the virtual service has no provider: its calls are answered with 503",
        severity=Severity.WARNING,
        advice="name a virtual router or a virtual node",
    ),
    "plaintext": Code(
        number="MESH017",
        title="the node's listener serves anyone who reaches it, without TLS",
        severity=Severity.WARNING,
        advice="add tls with mode STRICT and a validation",
    ),
}
