"""What is wrong, or worth knowing, in the user's mesh: findings are data, not exceptions.

A finding names its place in the file. The one table of codes (title, severity, advice) is here,
so that ``meshml check``, the documentation and later rooms say the same thing of the same problem.
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
    """One kind of finding: its title, how bad it is, and what to do about it."""

    title: str
    severity: Severity
    advice: str


CODES: dict[str, Code] = {
    "mesh-file-empty": Code(
        title="the mesh file is empty",
        severity=Severity.ERROR,
        advice="start from the example in the README",
    ),
    "mesh-file-not-yaml": Code(
        title="the mesh file is not YAML",
        severity=Severity.ERROR,
        advice="mend the line that is named",
    ),
    "unknown-field": Code(
        title="a field that this version does not know",
        severity=Severity.ERROR,
        advice="use a field that is listed, or take it out",
    ),
    "duplicate-field": Code(
        title="a field that is written twice: YAML keeps only one of them",
        severity=Severity.ERROR,
        advice="take one of them out",
    ),
    "exactly-one": Code(
        title="none, or several, of the fields of which App Mesh takes exactly one",
        severity=Severity.ERROR,
        advice="write exactly one of the fields that are named",
    ),
    "missing-field": Code(
        title="a required field is missing",
        severity=Severity.ERROR,
        advice="add the field",
    ),
    "wrong-value": Code(
        title="a value of the wrong type or outside its range",
        severity=Severity.ERROR,
        advice="use a value that is listed",
    ),
    "duplicate-name": Code(
        title="two entries have the same name",
        severity=Severity.ERROR,
        advice="rename one of them",
    ),
    "same-address": Code(
        title="two nodes are reached at the same host name and port",
        severity=Severity.ERROR,
        advice="give one of them another port",
    ),
    "dangling-reference": Code(
        title="a name that nothing in the file carries",
        severity=Severity.ERROR,
        advice="declare it, or mend the spelling",
    ),
    "zero-weight": Code(
        title="all weights of a route are zero: its calls are answered with 503",
        severity=Severity.WARNING,
        advice="give at least one target a weight",
    ),
    "retry-budget": Code(
        title="the route's time-out cuts the later tries off",
        severity=Severity.WARNING,
        advice="make perRequest at least perRetryTimeout x (maxRetries + 1)",
    ),
    "unreachable-route": Code(
        title="an earlier route takes every request of this one",
        severity=Severity.WARNING,
        advice="change the priority, or the match",
    ),
    "client-refused": Code(
        title="a node refuses a caller that lists its service among its backends",
        severity=Severity.WARNING,
        advice="let the node's subject alternative names hold the caller's, or drop the backend",
    ),
    "server-refused": Code(
        title="a caller refuses a node that its backend leads to",
        severity=Severity.WARNING,
        advice="let the caller's subject alternative names hold the node's, or drop the backend",
    ),
    "no-provider": Code(
        title="the virtual service has no provider: its calls are answered with 503",
        severity=Severity.WARNING,
        advice="name a virtual router or a virtual node",
    ),
    "plaintext": Code(
        title="the node's listener serves anyone who reaches it, without TLS",
        severity=Severity.WARNING,
        advice="add tls with mode STRICT and a validation",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem at one place of the user's mesh.

    >>> finding("dangling-reference", where="mesh.yml:12 virtualServices[0]", what="no node x").code
    'dangling-reference'
    """

    code: str
    severity: Severity
    where: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where}: {self.severity}: {self.what} [{self.code}]"


def finding(code: str, *, where: str, what: str, advice: str = "") -> Finding:
    """A finding with the severity and, unless given, the advice of its code."""
    known = CODES[code]
    return Finding(
        code=code, severity=known.severity, where=where, what=what, advice=advice or known.advice
    )
