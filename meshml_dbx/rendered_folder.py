"""The folder that a member is rendered into: written whole, file by file, and only what is ours.

Part of the hall, below ``rendering``. Goes in: texts by name, and certificates to copy. Comes out:
the names of what was written. A file of the folder says which of the others are ours, and keeps
the names that must stay the same when the member is rendered again.
"""

import json
import os
import secrets
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from meshml_dbx.errors import MeshMLError
from meshml_dbx.sidecar import new_sidecar_id
from meshml_dbx.trust.store import publish_version

MANIFEST = ".meshml-render.json"
CERTIFICATES = "certificates"
_XDS_ORDER = {"sds": 0, "cds": 1, "rds": 2, "lds": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a folder says of itself: whose it is, the names that stay, and which files are ours.

    >>> Known(member="job", form="envoy", sidecar_id="job-0a1b2c3d", process_id="…").files
    ()
    """

    member: str
    form: str
    sidecar_id: str
    process_id: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    files: tuple[str, ...] = ()


def read_known(folder: Path, *, member: str, form: str, force: bool) -> Known:
    """What the folder holds of an earlier rendering of this member, or fresh names.

    Raises:
        MeshMLError: it is no folder, or holds anything and ``force`` was not given.
    """
    fresh = Known(
        member=member,
        form=form,
        sidecar_id=new_sidecar_id(member),
        process_id=str(uuid.uuid4()),
    )
    with _explained(folder):
        if not folder.exists() or not any(folder.iterdir()):
            return fresh
    if not force:
        raise MeshMLError(
            f"{folder} is not empty",
            advice="choose another folder, or give --force to render into this one again",
        )
    found = _read_manifest(folder / MANIFEST)
    if found is None:
        return fresh
    same = (found.member, found.form) == (member, form)
    return found if same else replace(fresh, files=found.files)


def _read_manifest(path: Path) -> Known | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(str(name) for name in values["files"])
        names = ("member", "form", "sidecar_id", "process_id", "token")
        return Known(files=files, **{name: str(values[name]) for name in names})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MeshMLError(
            f"{path} cannot be read: {error}", advice="remove the folder, and render again"
        ) from error


def write_folder(
    folder: Path,
    known: Known,
    files: Mapping[str, str],
    copies: Mapping[str, str],
    *,
    folders: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Write what has changed, remove what is no longer part of it; what was written.

    Args:
        copies: certificates, by the name of the copy, and where they are copied from.
        folders: those that must be there when Envoy starts.

    Raises:
        MeshMLError: a file of that name is somebody else's, or the folder cannot be written.
    """
    parts = {*files, *(f"{CERTIFICATES}/{name}" for name in copies)}
    _refuse_foreign(folder, parts, known)
    with _explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        # Whoever is interrupted still knows what is his.
        _replace(folder / MANIFEST, _manifest(known, {*parts, *known.files}))
        written = _copy_certificates(folder / CERTIFICATES, copies)
        written += [name for name in _in_order(files) if _replace(folder / name, files[name])]
        _remove_stale(folder, set(known.files) - parts)
        _replace(folder / MANIFEST, _manifest(known, parts))
        for name in folders:
            (folder / name).mkdir(parents=True, exist_ok=True)
    return tuple(written)


def _manifest(known: Known, parts: set[str]) -> str:
    values = {
        "member": known.member,
        "form": known.form,
        "sidecar_id": known.sidecar_id,
        "process_id": known.process_id,
        "token": known.token if known.form == "envoy" else "",  # no other form has one
        "files": sorted(parts),
    }
    return json.dumps(values, indent=1) + "\n"


def _refuse_foreign(folder: Path, parts: set[str], known: Known) -> None:
    foreign = [one for one in sorted(parts - {*known.files}) if _exists(folder / one)]
    if foreign:
        raise MeshMLError(
            f"{folder / foreign[0]} was not written by meshml render",
            advice="choose another folder, or move it away",
        )


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _in_order(files: Mapping[str, str]) -> list[str]:
    """What others refer to comes first, for an Envoy that already reads this folder."""
    return sorted(files, key=lambda name: _XDS_ORDER.get(Path(name).name[:3], len(_XDS_ORDER)))


def _replace(path: Path, text: str) -> bool:
    """Give a file this text in one step, readable by its owner alone; whether it was another."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return False
    except (FileNotFoundError, UnicodeDecodeError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
    return True


def _copy_certificates(folder: Path, copies: Mapping[str, str]) -> list[str]:
    """Copy them all in one step, so that a running Envoy never sees a key without its half."""
    content = {name: Path(source).read_bytes() for name, source in copies.items()}
    if not content or all(_has(folder / name, it) for name, it in content.items()):
        return []
    folder.mkdir(mode=0o700, exist_ok=True)
    publish_version(folder, secrets.token_hex(8), content)
    return [f"{CERTIFICATES}/{name}" for name in content]


def _has(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _remove_stale(folder: Path, stale: set[str]) -> None:
    """Remove files of an earlier rendering, and the folders that they leave empty."""
    for name in sorted(stale):
        (folder / name).unlink(missing_ok=True)
    for name in sorted({str(Path(name).parent) for name in stale} - {"."}, reverse=True):
        _remove_if_empty(folder / name)


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing, or nothing but versions of what is no longer there."""
    if not folder.is_dir():
        return
    if all(one.name.startswith("..") for one in folder.iterdir()):
        shutil.rmtree(folder)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MeshMLError(
            f"cannot write {error.filename or folder}: {error.strerror or error}",
            advice="choose a folder that you may write with --out",
        ) from error
