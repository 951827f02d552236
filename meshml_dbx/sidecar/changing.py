"""Asking a living sidecar to serve another mesh, and its answer: two small files in its folder.

In go the folder and what it should serve; out comes the ``Change``. The request holds what Envoy's
files hold, secrets of the proxy among it, so it is the owner's alone and gone when it is taken.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from meshml_dbx.errors import EnvoyError
from meshml_dbx.logs.locks import is_held
from meshml_dbx.logs.run_folder import RunFolder
from meshml_dbx.sidecar.plan import SidecarPlan
from meshml_dbx.sidecar.transaction import Change
from meshml_dbx.traffic.log_folder import CHANGE_ANSWER, CHANGE_REQUEST, SIDECAR_LOCK

CHANGE_TIMEOUT_S = 120.0
_POLL_S = 0.02
_ONLY_OWNER = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedChange:
    """What a living sidecar is to serve from now on.

    >>> WantedChange(mesh_version="v2", files={}).listens
    ()
    """

    mesh_version: str
    files: Mapping[str, str] = field(repr=False)
    mesh_source: str = ""
    mesh_document: str = field(default="", repr=False)
    listens: tuple[tuple[str, int], ...] = ()

    def applied_to(self, plan: SidecarPlan) -> SidecarPlan:
        """The plan of a sidecar that has taken this over."""
        return replace(
            plan,
            mesh_version=self.mesh_version,
            mesh_source=self.mesh_source,
            mesh_document=self.mesh_document,
            files=self.files,
            listens=self.listens,
        )


def request_change(
    folder: Path, wanted: WantedChange, *, timeout_s: float = CHANGE_TIMEOUT_S
) -> Change:
    """Ask the sidecar in this run folder to take a change over, and wait for its answer."""
    (folder / CHANGE_ANSWER).unlink(missing_ok=True)
    fresh = folder / f".{CHANGE_REQUEST}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _ONLY_OWNER)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(wanted), file)
    fresh.rename(folder / CHANGE_REQUEST)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            told = json.loads((folder / CHANGE_ANSWER).read_bytes())
        except FileNotFoundError:
            if not is_held(folder / SIDECAR_LOCK):
                return Change(applied=False, reason="the sidecar ended meanwhile")
            time.sleep(_POLL_S)
            continue
        return Change(**{**told, "files": tuple(told["files"])})
    return Change(applied=False, reason=f"the sidecar gave no answer within {timeout_s:g} s")


def take_change(folder: Path) -> WantedChange | None:
    """What this sidecar is asked to take over, once; None if nobody asks.

    Raises:
        EnvoyError: the request is none that this version understands.
    """
    request = folder / CHANGE_REQUEST
    try:
        told = json.loads(request.read_bytes())
        listens = tuple((str(bind), int(port)) for bind, port in told["listens"])
        return WantedChange(**{**told, "listens": listens})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise EnvoyError("the request is not of this version of meshml_dbx") from error
    finally:
        request.unlink(missing_ok=True)


def answer_change(folder: RunFolder, answer: Change) -> None:
    """Tell whoever asked what became of it."""
    folder.write({CHANGE_ANSWER: json.dumps(asdict(answer))})
