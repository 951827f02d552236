"""Mesh console and flight recorder for ML jobs that call services, inside the lakehouse.

Names are imported on first use, so that ``import meshml_dbx`` costs nothing on a cluster.

In a notebook: ``meshml_dbx.record()``, the run, ``meshml_dbx.why()``.

>>> import meshml_dbx
>>> with meshml_dbx.stage("training"):  # a no-op where nothing records
...     pass
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshml_dbx.diagnosis import Diagnosis
    from meshml_dbx.errors import MeshMLError
    from meshml_dbx.findings import Finding, Severity
    from meshml_dbx.in_process import record, recorded, stop
    from meshml_dbx.recording.stages import headers, stage
    from meshml_dbx.session import Session, why
    from meshml_dbx.settings import Settings, read_settings
    from meshml_dbx.traffic.context import CallContext

__all__ = [
    "CallContext",
    "Diagnosis",
    "Finding",
    "MeshMLError",
    "Session",
    "Settings",
    "Severity",
    "__version__",
    "headers",
    "read_settings",
    "record",
    "recorded",
    "stage",
    "stop",
    "why",
]

_HOMES = {
    "CallContext": "meshml_dbx.traffic.context",
    "Diagnosis": "meshml_dbx.diagnosis",
    "Finding": "meshml_dbx.findings",
    "MeshMLError": "meshml_dbx.errors",
    "Session": "meshml_dbx.session",
    "Settings": "meshml_dbx.settings",
    "Severity": "meshml_dbx.findings",
    "headers": "meshml_dbx.recording.stages",
    "read_settings": "meshml_dbx.settings",
    "record": "meshml_dbx.in_process",
    "recorded": "meshml_dbx.in_process",
    "stage": "meshml_dbx.recording.stages",
    "stop": "meshml_dbx.in_process",
    "why": "meshml_dbx.session",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("meshml_dbx")
    if name not in _HOMES:
        raise AttributeError(f"module 'meshml_dbx' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
