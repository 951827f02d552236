"""What is remembered of a place from one reading to the next: one small JSON file, whole or absent.

Goes in: a path, and a value of plain types. Comes out: the value that was saved last.
"""

import json
import os
from pathlib import Path
from typing import Any

from meshml_dbx.errors import LakeError, LogFolderError

VERSION = 1


def load_state(path: Path) -> dict[str, Any]:
    """What was saved there last; empty where nothing was.

    Raises:
        LakeError: it was written by a newer version, or is not whole.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = int(found.pop("version"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise LakeError(
            f"cannot read what is remembered in {path}: {error}",
            advice="restore the file, or remove it to begin anew: what is in the lake stays once",
        ) from error
    if version > VERSION:
        raise LakeError(
            f"{path} has version {version}, this one knows {VERSION}",
            advice="upgrade meshml_dbx to the version that wrote it",
        )
    return dict(found)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Remember the value, instead of what was remembered before.

    Raises:
        LogFolderError: the file cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({"version": VERSION, **state}, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise LogFolderError(
            f"cannot write {path}: {error.strerror or error}",
            advice="free space there, or name another --state folder; then run it again",
        ) from error
