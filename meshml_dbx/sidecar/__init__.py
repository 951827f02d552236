"""A real Envoy process on this machine, the program beside it, and the files that both write.

In go rendered configuration files, literals and a command; out come an exit status and a log
folder whose closed files never change. This room knows nothing of meshes: it is handed texts.
"""

from meshml_dbx.logs.files import ClosedFile
from meshml_dbx.logs.run_folder import new_sidecar_id
from meshml_dbx.sidecar.binary import EnvoyBinary, find_envoy
from meshml_dbx.sidecar.changing import WantedChange, request_change
from meshml_dbx.sidecar.plan import CloseLimits, Outcome, SidecarPlan
from meshml_dbx.sidecar.ports import free_port, require_free, steady_port
from meshml_dbx.sidecar.program import require_program, run_to_end
from meshml_dbx.sidecar.registry import (
    Adoption,
    CloseAnswers,
    LivingSidecar,
    adopt,
    living,
    request_close,
)
from meshml_dbx.sidecar.supervise import supervise
from meshml_dbx.sidecar.transaction import Change

__all__ = [
    "Adoption",
    "Change",
    "CloseAnswers",
    "CloseLimits",
    "ClosedFile",
    "EnvoyBinary",
    "LivingSidecar",
    "Outcome",
    "SidecarPlan",
    "WantedChange",
    "adopt",
    "find_envoy",
    "free_port",
    "living",
    "new_sidecar_id",
    "request_change",
    "request_close",
    "require_free",
    "require_program",
    "run_to_end",
    "steady_port",
    "supervise",
]
