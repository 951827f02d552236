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
    "unresolved-parameter": Code(
        number="MESH018",
        title="a parameter that has no value; nothing can be started until it has one",
        severity=Severity.WARNING,
        advice="give it with meshml import --param NAME=VALUE, or write the value",
    ),
    "drift-undeclared-backend": Code(
        number="MESH300",
        title="a caller called a virtual service that is none of its backends",
        severity=Severity.WARNING,
        advice="list it among the backends, or take the call out of the program",
    ),
    "drift-unknown-host": Code(
        number="MESH301",
        title="a caller called a host that the mesh does not know",
        severity=Severity.INFO,
        advice="declare it as a virtual service, or know that it is outside",
    ),
    "drift-unused-backend": Code(
        number="MESH302",
        title="a backend that its caller never called",
        severity=Severity.INFO,
        advice="take it out if nothing needs it: a backend is a permission",
    ),
    "drift-silent-caller": Code(
        number="MESH303",
        title="a caller that made no call through the mesh",
        severity=Severity.INFO,
        advice="run it with meshml run, or take it out",
    ),
    "drift-unused-route": Code(
        number="MESH304",
        title="a route that took none of the calls that came to its router",
        severity=Severity.INFO,
        advice="see which route takes them: meshml explain",
    ),
    "drift-weights": Code(
        number="MESH305",
        title="calls are spread otherwise than the weights say, beyond chance",
        severity=Severity.WARNING,
        advice="see whether an older proxy still runs, or targets were ejected",
    ),
    "drift-identity": Code(
        number="MESH306",
        title="a peer showed another identity than the declared one",
        severity=Severity.WARNING,
        advice="find out who that is; then mend the certificate or the mesh file",
    ),
    "drift-other-version": Code(
        number="MESH307",
        title="calls that were made under another version of the mesh",
        severity=Severity.INFO,
        advice="compare them with that version of the file",
    ),
    "drift-unknown-version": Code(
        number="MESH308",
        title="calls that carry a version of which no mesh file is known",
        severity=Severity.WARNING,
        advice="find the sidecars that still run it, and the file that they were started with",
    ),
    "drift-outside-mesh": Code(
        number="MESH309",
        title="calls that did not pass a proxy of the mesh",
        severity=Severity.INFO,
        advice="run the program with meshml run to have them pass it",
    ),
    "drift-not-in-use": Code(
        number="MESH310",
        title="no call was made under the version that this file is",
        severity=Severity.WARNING,
        advice="start the sidecars with this file, or name the file that they run",
    ),
}
