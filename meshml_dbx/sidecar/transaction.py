"""Changing what a running Envoy serves, in an order in which no call is lost, or not at all.

In go the files as they are and as they should be; out comes a ``Change``. What is added comes
before what points to it, what is removed goes after: secrets, clusters of both, routes, listeners,
clusters that are left. Each file is written whole under a version of its own and the next one only
when Envoy shows that version. When Envoy refuses a file, everything is written back as it was.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from meshml_dbx.errors import EnvoyError
from meshml_dbx.logs.run_folder import RunFolder
from meshml_dbx.sidecar.process import EnvoyProcess, is_settled, reasons_in

BOOTSTRAP = "bootstrap.json"
STEP_TIMEOUT_S = 15.0

_POLL_S = 0.01
_VERSIONS = {
    "cds": r"^cluster_manager\.cds\.version_text$",
    "rds": r"\.rds\..*\.version_text$",
    "lds": r"^listener_manager\.lds\.version_text$",
}
_UPDATES = (
    r"(^|\.)(cds|lds|rds|sds)\.(.*\.)?update_(attempt|success|rejected|failure)$"
    r"|^(listener_manager\.total_listeners_warming|cluster_manager\.warming_clusters)$"
)
_REFUSED = (".update_rejected", ".update_failure")

Files = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of a change: taken over, or refused for a reason and undone.

    ``files`` are those that differ. ``undone`` is False where Envoy did not even take back what
    it had before; then the reason says so.

    >>> Change(applied=True, files=("xds/rds.json",)).reason
    ''
    """

    applied: bool
    files: tuple[str, ...] = ()
    reason: str = ""
    undone: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Files of one kind that are written together.

    >>> Step(kind="rds", files={"xds/rds.json": "{}"}).kind
    'rds'
    """

    kind: str
    files: Files = field(repr=False)


def steps_of(before: Files, after: Files) -> tuple[Step, ...]:
    """The order of writing that leads from one set of files to another, pure and complete."""
    both = _both_clusters(before, after)
    wanted = (
        Step(kind="sds", files=_of_kind("sds", after)),
        Step(kind="cds", files=both),
        Step(kind="rds", files=_of_kind("rds", after)),
        Step(kind="lds", files=_of_kind("lds", after)),
        Step(kind="cds", files=_of_kind("cds", after)),
    )
    now = dict(before)
    steps = []
    for step in wanted:
        if any(now.get(name) != text for name, text in step.files.items()):
            now |= step.files
            steps.append(step)  # all files of the kind: Envoy is to show one version
    return tuple(steps)


def change_files(
    envoy: EnvoyProcess, folder: RunFolder, before: Files, after: Files, *, tag: str
) -> Change:
    """Have a running Envoy serve other files; ``tag`` must differ from that of every change before.

    Raises:
        LogFolderError: a file cannot be written.
    """
    differing = tuple(sorted(name for name in after if before.get(name) != after[name]))
    if before.get(BOOTSTRAP) != after.get(BOOTSTRAP):
        reason = f"{BOOTSTRAP} differs, which an Envoy reads only at its start"
        return Change(applied=False, files=differing, reason=reason)
    reason = _empty(after)
    if reason:
        return Change(applied=False, files=differing, reason=reason)
    for number, step in enumerate(steps_of(before, after)):
        reason = _take(envoy, folder, step, f"{tag}.{number}")
        if reason:
            undone = _undo(envoy, folder, before, after, tag=f"{tag}.back")
            kept = "" if undone else "; it did not take back what it had before either"
            return Change(applied=False, files=differing, reason=f"{reason}{kept}", undone=not kept)
    _remove(folder, set(before) - set(after))
    folder.write({name: text for name, text in after.items() if not _is_envoys(name)})
    return Change(applied=True, files=differing)


def _take(envoy: EnvoyProcess, folder: RunFolder, step: Step, version: str) -> str:
    """Write the files of one step and wait until Envoy serves them; else why it does not."""
    said = len(envoy.log())
    try:
        counted = _refusals(envoy)
        folder.write({name: _with_version(text, version) for name, text in step.files.items()})
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while not _is_served(envoy, step.kind, version):
            if _refusals(envoy) > counted:
                reasons = "; ".join(reasons_in(envoy.log()[said:]))
                return f"Envoy refused {', '.join(step.files)}: {reasons or 'it gives no reason'}"
            if time.monotonic() > deadline:
                names = ", ".join(step.files)
                return f"Envoy did not take {names} over within {STEP_TIMEOUT_S:g} s"
            time.sleep(_POLL_S)
    except EnvoyError as error:
        return error.message
    return ""


def _undo(envoy: EnvoyProcess, folder: RunFolder, before: Files, after: Files, *, tag: str) -> bool:
    """Write everything back, whatever it is now: a refused file may be half in force."""
    order = (("cds", _both_clusters(before, after)), *((k, before) for k in ("rds", "lds", "cds")))
    served = [
        not _take(envoy, folder, Step(kind=kind, files=files), f"{tag}.{number}")
        for number, (kind, source) in enumerate(order)
        if (files := _of_kind(kind, source))
    ]
    _remove(folder, set(after) - set(before))
    return all(served[1:])  # the first may hold the very cluster that was refused


def _is_served(envoy: EnvoyProcess, kind: str, version: str) -> bool:
    if kind in _VERSIONS:
        shown = envoy.admin.texts(_VERSIONS[kind])
        if not shown or any(text != version for text in shown.values()):
            return False
    return is_settled(envoy.admin.stats(_UPDATES))


def _refusals(envoy: EnvoyProcess) -> int:
    counters = envoy.admin.stats(_UPDATES)
    return sum(value for name, value in counters.items() if name.endswith(_REFUSED))


def _empty(after: Files) -> str:
    """Envoy would close every port, or drop every cluster, without a word."""
    for kind, name in (("cds", "cluster"), ("lds", "listener")):
        files = _of_kind(kind, after)
        if not any(json.loads(text)["resources"] for text in files.values()):
            return f"there would be no {name} left"
    return ""


def _is_envoys(name: str) -> bool:
    return name == BOOTSTRAP or name.startswith("xds/")


def _remove(folder: RunFolder, names: set[str]) -> None:
    for name in names:
        (folder.path / name).unlink(missing_ok=True)


# --- files ------------------------------------------------------------------------------------


def _of_kind(kind: str, files: Files) -> dict[str, str]:
    return {name: text for name, text in files.items() if name.startswith(f"xds/{kind}")}


def _both_clusters(before: Files, after: Files) -> dict[str, str]:
    """The clusters of before and after; where both have one of a name, that of after."""
    old, new = _of_kind("cds", before), _of_kind("cds", after)
    return {
        name: json.dumps({**json.loads(text), "resources": list(_united(old.get(name), text))})
        for name, text in new.items()
    }


def _united(old: str | None, new: str) -> Iterator[object]:
    resources = json.loads(new)["resources"]
    known = {it["name"] for it in resources}
    yield from resources
    if old:
        yield from (it for it in json.loads(old)["resources"] if it["name"] not in known)


def _with_version(text: str, version: str) -> str:
    return json.dumps({**json.loads(text), "version_info": version}, indent=1, sort_keys=True)
