"""A process that records its own calls: what to record, where to, and under which names.

Part of the hall: it brings settings, the mesh file, MLflow's run and the recorder together, for
``meshml_dbx.record()`` in a notebook and for ``meshml record`` around a program.
"""

import logging
import os
import re
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from meshml_dbx.errors import MeshMLError
from meshml_dbx.recorder import (
    NamedHost,
    RecorderPlan,
    Recording,
    active_recording,
    authority_of,
    start_recording,
    stop_recording,
)
from meshml_dbx.settings import DEFAULT_MESH, Settings, prepare_state, read_settings
from meshml_dbx.traffic.context import (
    CLIENT_TAG,
    CLIENT_VARIABLE,
    LOGS_VARIABLE,
    PROCESS_TAG,
    PROCESS_VARIABLE,
    RECORD_VARIABLE,
    SIDECAR_VARIABLE,
    active_run_id,
    job_context,
    job_tags,
)

P = ParamSpec("P")
R = TypeVar("R")

VOLUMES = ("/Volumes/", "/dbfs/Volumes/")
"""Folders that take whole files only."""

UNDER_A_SIDECAR = (
    "this process runs under a sidecar, which records its calls already: record() does nothing here"
)
DRIVERS_DISK = (
    "executors on other machines cannot write to the driver's disk: name a folder in a volume, "
    "meshml_dbx.record(logs='/Volumes/CATALOG/SCHEMA/VOLUME/logs')"
)
HOOK_FOLDER = Path(__file__).parent / "plugins" / "site_hook"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_NOTEBOOK = "notebook"
_PYTHON = "python"
_ENDINGS = (".py", ".ipynb", ".pyc", ".pyz", ".sh")
_SHELLS = ("sh", "bash", "dash", "ksh", "zsh")
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
"""Options of Python whose value is the next word."""

_logger = logging.getLogger("meshml_dbx")
_used: dict[str, str] = {}
"""Where this process recorded last, for a ``why()`` that is told nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHosts:
    """What a mesh file calls addresses; ``notes`` say why one that lies there is not used.

    >>> KnownHosts().mesh is None
    True
    """

    hosts: Mapping[str, NamedHost] = field(default_factory=dict)
    mesh: str | None = None
    notes: tuple[str, ...] = ()


def record(
    client: str | None = None,
    *,
    mesh: str | Path | None = None,
    state: str | Path | None = None,
    logs: str | Path | None = None,
    tracking: str | None = None,
) -> Recording:
    """Record the HTTP calls of this process from here on: the one line in a notebook.

    What is recorded: urllib3 (so requests, boto3, MLflow, databricks-sdk), http.client and urllib,
    httpx, aiohttp; host, path, status, sizes and times, never a query's values or a header's.
    ``meshml_dbx.why()`` then says what a run waited for. Called twice, nothing changes; under
    ``meshml run``, whose sidecar records, nothing is done.

    Args:
        client: what this program is called; runs of one name are compared with each other.
            Default: the notebook's or the program's file name.
        mesh: a mesh file, whose services' names are used for their addresses.
        state: the folder of everything that meshml writes.
        logs: the log folder, such as one in a Unity Catalog volume.
        tracking: the address of MLflow's server, where MLflow itself does not know it yet.

    Raises:
        LogFolderError: the log folder cannot be written.
        MeshInvalidError: the mesh file has errors.

    >>> import tempfile
    >>> with record(state=tempfile.mkdtemp()) as recording:
    ...     recording.calls
    0
    """
    settings = read_settings(None, mesh=mesh, state=state, logs=logs, tracking=tracking)
    known = known_hosts(settings) if mesh else known_hosts_if_usable(settings)
    return record_with(settings, client, known, os.environ)


def record_with(
    settings: Settings,
    client: str | None,
    known: KnownHosts,
    environ: Mapping[str, str],
    *,
    is_lazy: bool = False,
) -> Recording:
    """Begin a recording with these settings, unless one goes on here already.

    Args:
        is_lazy: open no folder before the first call.
    """
    running = active_recording()
    if running is not None:
        return start_recording(running.plan)
    plan = plan_recording(settings, client, known, environ)
    if is_under_sidecar(environ):
        _logger.warning("meshml: %s", UNDER_A_SIDECAR)
        return Recording(plan, notes=(UNDER_A_SIDECAR,))
    if not plan.refuses_appends:
        prepare_state(settings.state)
    recording = start_recording(plan, notes=known.notes, is_lazy=is_lazy)
    recording.notes += _tag_active_run(recording)
    _used.update(state=str(settings.state), logs=str(settings.logs))
    for warning in recording.warnings:
        _logger.warning("meshml: %s", warning)
    return recording


def stop() -> None:
    """Record no more; every library is as it was before ``record()``.

    >>> stop()
    """
    stop_recording()


def recorded_where() -> dict[str, str]:
    """The settings of this process's own recording, if there is or was one."""
    return dict(_used)


def flush_recording() -> None:
    """What this process recorded so far can be read in its log folder afterwards."""
    running = active_recording()
    if running is None:
        return
    if running.plan.refuses_appends:
        running.close_file()
    else:
        running.flush()


def unrecorded() -> AbstractContextManager[None]:
    """What this thread calls inside is our own affair, and no run's."""
    running = active_recording()
    return running.recorder.ignoring() if running else nullcontext()


def recorded(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with its calls recorded wherever Spark runs it: a UDF, or for ``mapInPandas``.

    Rows carry Spark's stage, partition and attempt, and belong to the MLflow run that is active
    here now. The executors write to the log folder, which they must be able to reach: locally any,
    on Databricks a volume that is named by ``record(logs=…)`` or ``MESHML_LOGS``. Wrap on the
    driver: what a module wraps when it is imported is wrapped again by each executor, which
    knows no run.
    """
    running = active_recording()
    if running is None and is_under_sidecar(os.environ):
        return function
    plan = running.plan if running else _plan_of_now()
    mine = replace(plan, logs=plan.logs.absolute(), run_id=plan.run_id or active_run_id())
    if "DATABRICKS_RUNTIME_VERSION" in os.environ and not mine.refuses_appends:
        _logger.warning("meshml: %s", DRIVERS_DISK)
    from meshml_dbx.recorder.spark_tasks import recorded as record_in_workers

    return record_in_workers(function, mine)


def record_program(environ: Mapping[str, str]) -> None:
    """What ``meshml record`` has every Python of its program do first; it never breaks one.

    A program that a recorded one started opens a folder only when it calls something.
    """
    try:
        settings = read_settings(environ)
        # Only one that was found usable is named; else each Python would speak of it again.
        known = known_hosts_if_usable(settings) if environ.get("MESHML_MESH") else KnownHosts()
        is_lazy = bool(environ.get(SIDECAR_VARIABLE))
        record_with(settings, None, known, environ, is_lazy=is_lazy)
    except Exception as error:  # the program is the user's, and goes on
        text = str(error) if isinstance(error, MeshMLError) else type(error).__name__
        print(f"meshml: this program is not recorded: {text}", file=sys.stderr)  # noqa: T201  # logging is not set up yet


# --- what to record -----------------------------------------------------------------------------


def plan_recording(
    settings: Settings, client: str | None, known: KnownHosts, environ: Mapping[str, str]
) -> RecorderPlan:
    """The plan of a recording: where to, under which name, and what addresses are called."""
    logs = settings.logs.absolute()
    return RecorderPlan(
        logs=logs,
        client=safe_name(client or client_name(environ)),
        process_id=inherited_process(environ) or str(uuid.uuid4()),
        run=settings.folder.run.absolute(),
        refuses_appends=str(logs).startswith(VOLUMES),
        program=_program(),
        environment=settings.environment,
        mesh=known.mesh,
        tracking=_tracking_address(settings, environ),
        workspace=_address(environ.get("DATABRICKS_HOST", "")),
        hosts=known.hosts,
        job=job_context(environ),
    )


def _plan_of_now() -> RecorderPlan:
    settings = read_settings()
    return plan_recording(settings, None, known_hosts_if_usable(settings), os.environ)


def is_under_sidecar(environ: Mapping[str, str]) -> bool:
    """Whether ``meshml run`` started this process, whose calls its sidecar sees."""
    return bool(environ.get(SIDECAR_VARIABLE)) and not environ.get(RECORD_VARIABLE)


def client_name(environ: Mapping[str, str]) -> str:
    """What this program is called, if nobody says: its notebook's or its file's name.

    >>> client_name({"MESHML_CLIENT": "churn-v1.2"}), client_name({"JPY_SESSION_NAME": "a/b.ipynb"})
    ('churn-v1.2', 'b')
    """
    named = environ.get(CLIENT_VARIABLE)
    return named or _bare(environ.get("JPY_SESSION_NAME") or _notebook_path() or _program_file())


def _bare(path: str) -> str:
    """The name of a notebook or a program without its folder and ending; of a package its own."""
    if path in ("-c", "<stdin>"):
        return _PYTHON
    file = Path(path)
    named = file.parent if file.stem == "__main__" else file
    return named.stem if named.suffix in _ENDINGS else named.name or _NOTEBOOK


def safe_name(name: str) -> str:
    """A name that can be part of a folder's.

    >>> safe_name("My notebook/2")
    'My-notebook-2'
    """
    return _UNSAFE.sub("-", name).strip("-.")[:64] or _NOTEBOOK


def _program_file() -> str:
    """The file that runs, ``-c``, or nothing in a kernel or at a prompt."""
    main = sys.modules.get("__main__")
    # An editor says so where it runs a notebook; a kernel's own file is nobody's program.
    file = str(getattr(main, "__vsc_ipynb_file__", None) or getattr(main, "__file__", None) or "")
    if Path(file).name.startswith("ipykernel") or Path(file).parent.name == "ipykernel":
        return ""
    return file or (sys.argv[0] if sys.argv[:1] == ["-c"] else "")


def _program() -> str:
    """The program's file, or what stands for it."""
    first = sys.argv[0] if sys.argv else ""
    named = program_name(sys.orig_argv) if first in ("-c", "-m") else Path(first).name
    return named or _NOTEBOOK


def _notebook_path() -> str:
    """On Databricks, where the notebook says so itself."""
    context = sys.modules.get("dbruntime.databricks_repl_context")
    if context is None:
        return ""
    try:
        return str(context.get_context().notebookPath or "")
    except Exception:  # another runtime's context: a plain name does as well
        return ""


def inherited_process(environ: Mapping[str, str]) -> str | None:
    """The process id of the recording in which this program was started, if it was in one."""
    return environ.get(PROCESS_VARIABLE) if environ.get(RECORD_VARIABLE) else None


def _tracking_address(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """The address of MLflow's server; MLflow is asked only where it is in use."""
    given = settings.tracking or environ.get("MLFLOW_TRACKING_URI")
    if given or "mlflow" not in sys.modules:
        return _address(given) if given and "://" in given else None
    from meshml_dbx import connect  # 20 ms, which every Python of a recorded program would wait

    with suppress(MeshMLError):
        return _address(connect.resolve_tracking_uri(None, environ))
    return None


def _address(url: str) -> str | None:
    """Host and port of a web address, as calls to it show them."""
    with suppress(ValueError):
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.scheme in ("http", "https") and parts.hostname:
            return authority_of(parts.scheme, parts.hostname, parts.port)
    return None


def known_hosts(settings: Settings) -> KnownHosts:
    """What the mesh file calls addresses.

    Raises:
        MeshMLError: the mesh file cannot be read.
        MeshInvalidError: it has errors.
    """
    from meshml_dbx.mesh.addresses import named_addresses
    from meshml_dbx.mesh.checks import require_mesh
    from meshml_dbx.mesh.load import read_mesh

    mesh = require_mesh(read_mesh(settings.mesh))
    found = {
        address: NamedHost(virtual_service=service, target=node)
        for address, (service, node) in named_addresses(mesh).items()
    }
    return KnownHosts(hosts=found, mesh=mesh.mesh.mesh_name)


def known_hosts_if_usable(settings: Settings) -> KnownHosts:
    """The same where nobody insists on the file: one that is wrong is noted, and goes unused."""
    if settings.mesh == Path(DEFAULT_MESH) and not settings.mesh.is_file():
        return KnownHosts()
    try:
        return known_hosts(settings)
    except MeshMLError as error:
        note = f"{settings.mesh} is not used for names of services: {error.message}"
        return KnownHosts(notes=(note,))


def _tag_active_run(recording: Recording) -> tuple[str, ...]:
    """A run that began before the recording gets the tags that later ones get by themselves."""
    if active_run_id() is None:
        return ()
    from meshml_dbx import connect

    plan = recording.plan
    tags = {PROCESS_TAG: plan.process_id, CLIENT_TAG: plan.client, **job_tags(plan.job)}
    with recording.recorder.ignoring():
        problem = connect.tag_active_run(tags)
    if problem is None:
        return ()
    return (
        f"the active run could not be tagged ({problem}): calls of other threads are joined "
        "to it by time",
    )


# --- a program ----------------------------------------------------------------------------------


def program_environment(
    settings: Settings,
    client: str | None,
    known: KnownHosts,
    command: Sequence[str],
    environ: Mapping[str, str],
) -> dict[str, str]:
    """The environment in which every Python that a program starts records itself.

    Inside a recorded program it is a part of that one's process, so that its calls join its runs.
    """
    values = {
        RECORD_VARIABLE: str(settings.logs.absolute()),
        PROCESS_VARIABLE: inherited_process(environ) or str(uuid.uuid4()),
        CLIENT_VARIABLE: safe_name(client or program_name(command)),
        LOGS_VARIABLE: str(settings.logs.absolute()),
        "MESHML_STATE": str(settings.state.absolute()),
        "MESHML_MESH": str(settings.mesh.absolute()) if known.mesh else "",
        "PYTHONPATH": _with_hook(environ.get("PYTHONPATH", "")),
    }
    if settings.tracking:
        values["MLFLOW_TRACKING_URI"] = settings.tracking
    others = {k: v for k, v in environ.items() if k != SIDECAR_VARIABLE}
    return {**others, **values}


def _with_hook(python_path: str) -> str:
    """Our folder first, once; the rest stays as it is, for an empty entry means something."""
    others = [path for path in python_path.split(os.pathsep) if path != str(HOOK_FOLDER)]
    return os.pathsep.join([str(HOOK_FOLDER), *others] if others != [""] else [str(HOOK_FOLDER)])


def program_name(command: Sequence[str]) -> str:
    """What a command is called: the script or module that Python or a shell runs, or the program.

    >>> program_name(["python", "-u", "src/train.py"]), program_name(["python3", "-m", "churn.fit"])
    ('train', 'fit')
    >>> program_name(["/opt/bin/score"]), program_name(["python", "-c", "print('secret')"])
    ('score', 'python')
    """
    program, *words = command
    name = Path(program).name
    if not name.startswith(_PYTHON) and name not in _SHELLS:
        return _bare(program)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            return _bare(word)
        if word.startswith("-m"):
            module = word[2:] or next(iter(words), "")
            return module.removesuffix(".__main__").rpartition(".")[2]
        if word.startswith("-c"):
            break
        if word in _WITH_VALUE:
            words = words[1:]
    return name if name in _SHELLS else _PYTHON
