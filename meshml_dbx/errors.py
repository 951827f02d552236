"""Every exception that meshml_dbx raises, as one tree.

    MeshMLError                 anything that we could not do
    ├── MeshInvalidError        the mesh file has findings of severity error; they are attached
    ├── UnknownNameError        the mesh has no node, client, router or service of that name
    ├── MissingToolError        a program, jar or extra that the journey needs is not there
    │   └── JavaError           Spark needs Java: none, too old, cut down
    ├── EnvoyError              Envoy did not start, refused a configuration or died
    ├── PortTakenError          a port that was asked for is in use
    ├── TrustError              a certificate or key is missing, expired, unreadable or foreign
    ├── TrackingError           the MLflow store could not be read
    ├── UnknownRunError         no run answers to that name; closest matches are named
    ├── LogFolderError          the log folder is missing, empty or not writable
    ├── LogFormatError          a log format is not one that Envoy writes lines by
    └── LakeError               a Delta table or the Spark session failed

Each message says what was tried, with which name, and what to do next. A problem in the user's
mesh is no exception but a finding, see ``meshml_dbx.findings``.
"""

from collections.abc import Sequence

from meshml_dbx.findings import Finding


class MeshMLError(Exception):
    """Raised when the work could not be done; the base of every error of this package.

    >>> str(MeshMLError("could not read mesh.yml", advice="run meshml check mesh.yml"))
    'could not read mesh.yml\\n  next: run meshml check mesh.yml'
    """

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.advice}" if self.advice else self.message


class MeshInvalidError(MeshMLError):
    """Raised when a journey needs a mesh and the mesh file has errors.

    >>> MeshInvalidError("mesh.yml has 1 error", findings=()).findings
    ()
    """

    def __init__(self, message: str, *, findings: Sequence[Finding], advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.findings = tuple(findings)


class UnknownNameError(MeshMLError):
    """Raised when the mesh has nothing of that name; the message says what it does have."""


class MissingToolError(MeshMLError):
    """Raised when a program, a jar or an extra that the journey needs is not installed."""


class JavaError(MissingToolError):
    """Raised when Spark cannot start because of Java: none, too old, or cut down."""


class EnvoyError(MeshMLError):
    """Raised when Envoy did not start, refused a configuration, or ended by itself."""


class PortTakenError(MeshMLError):
    """Raised when a port that the mesh file or an option names is already in use."""


class TrustError(MeshMLError):
    """Raised when a certificate or key is missing, expired, unreadable or foreign."""


class TrackingError(MeshMLError):
    """Raised when the MLflow store cannot be read."""


class UnknownRunError(MeshMLError):
    """Raised when no run answers to the name given; the message lists the closest matches."""


class LogFolderError(MeshMLError):
    """Raised when a log folder is missing, empty or not writable."""


class LogFormatError(MeshMLError):
    """Raised when a log format cannot be read; the message says at which position."""


class LakeError(MeshMLError):
    """Raised when the Spark session or a Delta table failed."""
