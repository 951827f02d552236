"""Runs of an MLflow tracking store, read by the quickest way that its address allows.

Goes in: a tracking address, or none for MLflow's own choice. Comes out: ``Run`` values.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError, URLError

from meshml_dbx.connect.paged_store import open_client, open_server, read_by_client, read_server
from meshml_dbx.connect.run_changes import (
    Asked,
    RunsRead,
    read_changes_of_pages,
    read_changes_of_sqlite,
)
from meshml_dbx.connect.sqlite_store import read_sqlite
from meshml_dbx.connect.store import FIRST_STEP, RunQuery, mask, tracking_error
from meshml_dbx.errors import MissingToolError, TrackingError
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.run_mark import RunMark
from meshml_dbx.traffic.run_names import LAST, in_order, pick_run, run_of_page

PAGE_ARTIFACT = "meshml/why.html"
METRICS_AT_ONCE = 1000
"""What MLflow takes in one request."""
RUNS_FILE = "runs:"
"""Begins the address of a JSON file of runs, which a recording carries in place of a store."""

EVERY = 2**31
"""As a limit: all runs, however many."""

Found = TypeVar("Found")

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_DENIED = (401, 403)


def read_runs(
    tracking_uri: str | None = None,
    *,
    since: int | None = None,
    until: int | None = None,
    limit: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Run, ...]:
    """The newest runs of a tracking store, oldest first; deleted ones are left out.

    ``since`` and ``until`` (UTC microseconds) keep runs that lasted at some moment between them.
    Without a ``limit``, 10,000 of a file and 1,000 of a server; ``EVERY`` for all.

    Raises:
        TrackingError: the store is missing or cannot be read.
    """
    variables = os.environ if environ is None else environ
    uri = resolve_tracking_uri(tracking_uri, variables)
    query = RunQuery(since=since, until=until, limit=limit)
    return in_order(_read(uri, query, variables))


def store_name(tracking_uri: str | None = None, *, environ: Mapping[str, str] | None = None) -> str:
    """The address of the tracking store, without its password: what its mark is kept under.

    Raises:
        TrackingError: nothing names a store.
    """
    variables = os.environ if environ is None else environ
    return mask(resolve_tracking_uri(tracking_uri, variables))


def read_changed_runs(
    tracking_uri: str | None = None,
    *,
    mark: RunMark | None = None,
    unsettled: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
    now: int | None = None,
) -> RunsRead:
    """The runs that may have changed since the mark, deleted ones too; without a mark, all.

    ``unsettled``: the ids of runs that had no end, or were deleted, when they were read, newest
    first. Moments are UTC microseconds.

    Raises:
        TrackingError: the store is missing or cannot be read.
    """
    variables = os.environ if environ is None else environ
    uri = resolve_tracking_uri(tracking_uri, variables)
    moment = time.time_ns() // 1000 if now is None else now
    asked = Asked(store=mask(uri), now=moment, mark=mark, unsettled=tuple(unsettled))
    if uri.startswith(RUNS_FILE):
        return asked.answer(_read_file(uri, RunQuery()), None)
    if uri.startswith("sqlite:"):
        found = read_changes_of_sqlite(uri, asked)
        if found is not None:
            return found
    return _by_pages(
        uri,
        variables,
        lambda: read_changes_of_pages(open_server(uri, variables), asked),
        lambda: read_changes_of_pages(open_client(uri), asked),
    )


def find_run(
    name: str, *, tracking_uri: str | None = None, environ: Mapping[str, str] | None = None
) -> Run:
    """The run that a person means by ``name``: an id or the unique begin of one, a run's name
    (the newest of that name), ``last``, or the address of a run's page.

    Raises:
        UnknownRunError: no run answers to it, or several ids begin with it.
        TrackingError: the store is missing or cannot be read.
    """
    variables = os.environ if environ is None else environ
    uri = resolve_tracking_uri(tracking_uri, variables)
    wanted = run_of_page(name)
    if _RUN_ID.fullmatch(wanted):
        by_id = tuple(_read(uri, RunQuery(run_id=wanted), variables))
        if by_id:
            return by_id[0]
    limit = 1 if wanted == LAST else None
    return pick_run(_read(uri, RunQuery(limit=limit), variables), wanted)


def active_run_id() -> str | None:
    """The MLflow run that is active in this process, else the last; never imports MLflow."""
    mlflow = sys.modules.get("mlflow")
    if mlflow is None:
        return None
    run = mlflow.active_run() or mlflow.last_active_run()
    return str(run.info.run_id) if run else None


def tag_active_run(tags: Mapping[str, str]) -> str | None:
    """Tag the MLflow run that is active in this thread; None, or why it could not be.

    Only called where MLflow is in use: it is never imported for this.
    """
    mlflow = sys.modules["mlflow"]
    try:
        mlflow.set_tags(dict(tags))
    except Exception as error:  # its store decides what goes wrong, and how it is called
        return type(error).__name__
    return None


def attach_page(tracking_uri: str | None, run_id: str, page: str) -> str:
    """Store a page with an MLflow run; the artifact's path.

    Raises:
        TrackingError: the store does not take it.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    uri = resolve_tracking_uri(tracking_uri, os.environ)
    try:
        MlflowClient(uri).log_text(run_id, page, PAGE_ARTIFACT)
    except ImportError as error:
        raise MissingToolError(
            f"could not attach the page: mlflow-skinny cannot write to {mask(uri)}: {error}",
            advice='pip install "meshml_dbx[local]", or write the page to a file with --html',
        ) from error
    except (MlflowException, OSError) as error:
        raise tracking_error(uri, error) from error
    return PAGE_ARTIFACT


class RunLog:
    """An MLflow store as finished runs get their network metrics written to it.

    >>> RunLog("sqlite:////no/such/folder/mlflow.db").uri
    'sqlite:////no/such/folder/mlflow.db'
    """

    def __init__(self, tracking_uri: str | None) -> None:
        self.uri = resolve_tracking_uri(tracking_uri, os.environ)

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float], *, time_ms: int, step: int
    ) -> None:
        """Log these metrics with a run; MLflow keeps equal ones of one time and step once.

        Raises:
            TrackingError: the store does not take them.
        """
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        made = [Metric(name, value, time_ms, step) for name, value in metrics.items()]
        try:
            client = MlflowClient(self.uri)
            for begin in range(0, len(made), METRICS_AT_ONCE):
                client.log_batch(run_id, metrics=made[begin : begin + METRICS_AT_ONCE])
        except (MlflowException, ImportError, OSError) as error:
            raise tracking_error(self.uri, error) from error


def resolve_tracking_uri(
    tracking_uri: str | None, environ: Mapping[str, str], *, folder: Path | None = None
) -> str:
    """The store's address: the one given, else the one that MLflow would choose in this folder.

    Raises:
        TrackingError: nothing names a store, and the folder has none.
    """
    loaded = sys.modules.get("mlflow")
    here = folder or Path.cwd()
    if given := tracking_uri or environ.get("MLFLOW_TRACKING_URI"):
        return given
    if loaded is not None and hasattr(loaded, "get_tracking_uri"):
        return str(loaded.get_tracking_uri())
    if "DATABRICKS_RUNTIME_VERSION" in environ:
        return "databricks"
    if any(here.glob("mlruns/[0-9]*/meta.yaml")):
        return (here / "mlruns").absolute().as_uri()
    if (here / "mlflow.db").exists():
        return f"sqlite:///{(here / 'mlflow.db').absolute()}"
    raise TrackingError(
        "no tracking store: MLFLOW_TRACKING_URI is not set, and this folder has neither "
        "mlflow.db nor mlruns",
        advice=FIRST_STEP,
    )


def _read(uri: str, query: RunQuery, environ: Mapping[str, str]) -> Iterable[Run]:
    """The runs of a store, by the quickest way that its address allows."""
    if uri.startswith("sqlite:"):
        found = read_sqlite(uri, query)
        if found is not None:
            return found
    if uri.startswith(RUNS_FILE):
        return _read_file(uri, query)
    return _by_pages(
        uri,
        environ,
        lambda: read_server(uri, query, environ),
        lambda: read_by_client(uri, query),
    )


def _by_pages(
    uri: str, environ: Mapping[str, str], quickly: Callable[[], Found], surely: Callable[[], Found]
) -> Found:
    """What a server's REST API answers, else what MLflow's client does, which can sign in."""
    if uri.startswith(("http://", "https://")) and not _needs_client(environ):
        try:
            return quickly()
        except HTTPError as error:
            if error.code not in _DENIED:
                raise tracking_error(uri, error) from error
        except (URLError, HTTPException, OSError, ValueError, KeyError) as error:
            raise tracking_error(uri, error) from error
    return _in_plain_words(uri, surely)


def _in_plain_words(uri: str, ask: Callable[[], Found]) -> Found:
    """What MLflow's client answers, its error as ours."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        raise tracking_error(uri, error) from error


def _read_file(uri: str, query: RunQuery) -> list[Run]:
    """The runs of a recording."""
    path = Path(uri.removeprefix(RUNS_FILE))
    try:
        runs = [Run(**values) for values in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise tracking_error(uri, error) from error
    return [run for run in runs if query.run_id in (None, run.run_id)][-(query.limit or 0) :]


def _needs_client(environ: Mapping[str, str]) -> bool:
    """Whether MLflow is told to sign in in a way that only its own client knows."""
    ways = ("AUTH", "AWS_SIGV4", "INSECURE_TLS", "SERVER_CERT_PATH", "CLIENT_CERT_PATH")
    return any(environ.get(f"MLFLOW_TRACKING_{way}") for way in ways)
