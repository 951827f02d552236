"""Settings: where things lie, as one frozen value.

Each setting comes from the first place that has it: the argument, the environment (``MESHML_…``),
the state folder's ``settings.json``, the default. Read when asked, never at import; no secret is
ever a setting.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meshml_dbx.errors import LogFolderError, MeshMLError
from meshml_dbx.traffic.context import RECORD_VARIABLE
from meshml_dbx.traffic.log_folder import StateFolder

SETTINGS_FILE = "settings.json"
DEFAULT_MESH = "mesh.yml"
DEFAULT_STATE = ".meshml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where one project's mesh file, state, logs, lake and runs are.

    ``lake`` is a folder or ``catalog.schema``; ``tracking`` None means MLflow's own choice. It is
    not shown, since the address of a store may hold a password.

    >>> read_settings({}, state="/tmp/none").lake
    '/tmp/none/lake'
    """

    mesh: Path
    state: Path
    logs: Path
    lake: str
    tracking: str | None = field(default=None, repr=False)
    environment: str | None = None

    @property
    def folder(self) -> StateFolder:
        """The names in the state folder."""
        return StateFolder(root=self.state)


def read_settings(
    environ: Mapping[str, str] | None = None, **arguments: str | Path | None
) -> Settings:
    """The settings of this call: ``arguments`` by name, None where the caller gave none.

    Raises:
        MeshMLError: the state folder's settings.json cannot be read.
    """
    variables = os.environ if environ is None else environ
    given = {name: str(value) for name, value in arguments.items() if value is not None}
    state = Path(given.get("state") or variables.get("MESHML_STATE") or default_state(variables))
    stored = _stored(state)

    def pick(name: str, default: str | None) -> str | None:
        return (
            given.get(name) or variables.get(f"MESHML_{name.upper()}") or stored.get(name, default)
        )

    return Settings(
        mesh=Path(pick("mesh", DEFAULT_MESH) or DEFAULT_MESH),
        state=state,
        logs=Path(
            given.get("logs")
            or variables.get(RECORD_VARIABLE)
            or pick("logs", None)
            or StateFolder(root=state).logs
        ),
        lake=pick("lake", None) or str(StateFolder(root=state).lake),
        tracking=pick("tracking", None),
        environment=pick("environment", None),
    )


def default_state(environ: Mapping[str, str]) -> str:
    """``.meshml`` here; on Databricks, whose notebooks' folders take no appended lines, local disk.

    There each user has a folder: several may share a machine.

    >>> default_state({})
    '.meshml'
    """
    if "DATABRICKS_RUNTIME_VERSION" in environ:
        return str(Path(tempfile.gettempdir()) / f"meshml-{os.getuid()}")
    return DEFAULT_STATE


def store_settings(state: Path, **values: str) -> None:
    """Remember settings for whoever uses this state folder next.

    Raises:
        LogFolderError: the folder cannot be written.
    """
    prepare_state(state)
    (state / SETTINGS_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def prepare_state(state: Path) -> None:
    """The state folder, which ignores itself in git.

    Raises:
        LogFolderError: it cannot be written.
    """
    ignore = state / ".gitignore"
    try:
        state.mkdir(parents=True, exist_ok=True)
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise unusable_state(state, error.strerror or str(error)) from error


def unusable_state(state: Path, problem: str) -> LogFolderError:
    """The error for a state folder in which nothing can be kept."""
    advice = "choose a folder that you may write with --state"
    return LogFolderError(f"cannot use the state folder {state}: {problem}", advice=advice)


def _stored(state: Path) -> dict[str, str]:
    path = state / SETTINGS_FILE
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path, str(error)) from error
    if not isinstance(values, dict):
        raise _broken(path, "it holds no JSON object")
    if strange := [name for name, value in values.items() if not isinstance(value, str | None)]:
        raise _broken(path, f"the value of {strange[0]} is no text")
    return {name: value for name, value in values.items() if value}


def _broken(path: Path, reason: str) -> MeshMLError:
    return MeshMLError(f"could not read {path}: {reason}", advice=f"mend or remove {path}")
