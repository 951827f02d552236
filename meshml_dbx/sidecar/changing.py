"""Asking a living sidecar to serve another mesh, and its answer: two small files in its folder.

In go the folder and what it should serve; out comes the ``Change``. The request holds what Envoy's
files hold, secrets of the proxy among it, so it is the owner's alone and gone when it is taken.
"""

import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from meshml_dbx.errors import EnvoyError
from meshml_dbx.logs.locks import is_held, try_lock
from meshml_dbx.logs.run_folder import RunFolder
from meshml_dbx.sidecar.plan import SidecarPlan
from meshml_dbx.sidecar.transaction import BOOTSTRAP, Change
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
    request_id: str = ""

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
    """Ask the sidecar in this run folder to take a change over, and wait for its answer.

    One asks at a time: whoever comes second waits for the first one's answer.
    """
    deadline = time.monotonic() + timeout_s
    turn = try_lock(folder / BOOTSTRAP, patience_s=timeout_s)
    if turn is None:
        return _no_turn(folder, timeout_s)
    try:
        asked = replace(wanted, request_id=uuid.uuid4().hex)
        _put_request(folder, asked)
        return _await_answer(folder, asked.request_id, deadline, timeout_s)
    finally:
        os.close(turn)


def _no_turn(folder: Path, timeout_s: float) -> Change:
    if not is_held(folder / SIDECAR_LOCK):
        return Change(applied=False, reason="the sidecar ended meanwhile")
    reason = f"another reload of this sidecar did not end within {timeout_s:g} s"
    return Change(applied=False, reason=reason)


def _put_request(folder: Path, wanted: WantedChange) -> None:
    (folder / CHANGE_ANSWER).unlink(missing_ok=True)
    fresh = folder / f".{CHANGE_REQUEST}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _ONLY_OWNER)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(wanted), file)
    fresh.rename(folder / CHANGE_REQUEST)


def _await_answer(folder: Path, request_id: str, deadline: float, timeout_s: float) -> Change:
    while time.monotonic() < deadline:
        told = _answer_to(folder, request_id)
        if told is not None:
            return told
        if not is_held(folder / SIDECAR_LOCK):
            return Change(applied=False, reason="the sidecar ended meanwhile")
        time.sleep(_POLL_S)
    return Change(applied=False, reason=f"the sidecar gave no answer within {timeout_s:g} s")


def _answer_to(folder: Path, request_id: str) -> Change | None:
    """The answer to this request; not that to one whose asker was killed while it waited."""
    try:
        told = json.loads((folder / CHANGE_ANSWER).read_bytes())
    except FileNotFoundError:
        return None
    if told.pop("request_id", request_id) != request_id:
        return None
    return Change(**{**told, "files": tuple(told["files"])})


def take_change(folder: Path) -> WantedChange | None:
    """What this sidecar is asked to take over, once; None if nobody asks.

    Raises:
        EnvoyError: the request is none that this version understands.
    """
    request = folder / f".{CHANGE_REQUEST}.taken"
    try:
        (folder / CHANGE_REQUEST).rename(request)  # what is put there from now on is another one
        told = json.loads(request.read_bytes())
        listens = tuple((str(bind), int(port)) for bind, port in told["listens"])
        return WantedChange(**{**told, "listens": listens})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise EnvoyError("the request is not of this version of meshml_dbx") from error
    finally:
        request.unlink(missing_ok=True)


def answer_change(folder: RunFolder, answer: Change, *, request_id: str = "") -> None:
    """Tell whoever asked what became of it; without an id, whoever waits."""
    told = asdict(answer) | ({"request_id": request_id} if request_id else {})
    folder.write({CHANGE_ANSWER: json.dumps(told)})
