"""Codes of drift: what happened otherwise than the mesh file says."""

from meshml_dbx.finding_codes.code import Code, Severity

DRIFT: dict[str, Code] = {
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
