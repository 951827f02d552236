"""Clients of the outside world, each made here and nowhere else: Spark, and MLflow's runs.

Goes in: settings, a tracking address, or none for MLflow's own choice. Comes out: a Spark session,
``Run`` values. Importing
MLflow takes seconds, which an answer in two does not have; so a sqlite store is read by the
standard library, a server by its documented REST API, and everything else by MLflow's client.
"""

import base64
import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from meshml_dbx.errors import MissingToolError, TrackingError
from meshml_dbx.settings import Settings
from meshml_dbx.traffic.context import CLIENT_TAG, PROCESS_TAG
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.run_names import LAST, in_order, pick_run, run_of_page

if TYPE_CHECKING:
    from pyspark.sql import SparkSession as SparkSession  # noqa: PLC0414  # session names it too

PAGE_ARTIFACT = "meshml/why.html"
SPARK_LOG = "spark.log"
"""In the state folder: what Java and Spark print, which is much even when all is well."""
RUNS_OF_A_FILE = 10_000
RUNS_OF_A_SERVER = 1_000
"""How many of the newest runs are looked at: a server hands out some 500 a second."""

RUNS_FILE = "runs:"
"""Begins the address of a JSON file of runs, which a recording carries in place of a store."""

PARENT_TAG = "mlflow.parentRunId"
_TAGS = (PROCESS_TAG, CLIENT_TAG, PARENT_TAG)
_NEXT = "name the store with --tracking or MLFLOW_TRACKING_URI"

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_SQLITE_FILE = re.compile(r"sqlite:///([^?]+)")
_EXPERIMENTS_AT_ONCE = 100
_PAGE_SIZE = 1_000
_TIMEOUT_S = 20.0
_DENIED = (401, 403)

Raw = Mapping[str, Any]
"""A decoded answer of the REST API: what is in it is for the reader to find out."""
Page = tuple[list[Raw], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs to read: the newest ``limit`` that began before ``until`` and ended after
    ``since`` (UTC microseconds), or the one with that id.

    >>> RunQuery(limit=1).run_id
    """

    since: int | None = None
    until: int | None = None
    limit: int | None = None
    run_id: str | None = None


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

    Raises:
        TrackingError: the store is missing or cannot be read.
    """
    variables = os.environ if environ is None else environ
    uri = resolve_tracking_uri(tracking_uri, variables)
    query = RunQuery(since=since, until=until, limit=limit)
    return in_order(_read(uri, query, variables))


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
        raise _tracking_error(uri, error) from error
    return PAGE_ARTIFACT


def spark_session(settings: Settings) -> "SparkSession":
    """The session of this process: on Databricks the one that runs, else one of this machine's.

    Raises:
        JavaError: there is no usable Java.
        MissingToolError: Spark or Delta is not installed, or its jar cannot be had.
        LakeError: Spark did not start, for another reason.
    """
    from meshml_dbx.lake import local_session

    state = settings.state.absolute()
    return local_session(warehouse=state / "warehouse", log=state / SPARK_LOG)


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
        advice=_NEXT,
    )


def _read(uri: str, query: RunQuery, environ: Mapping[str, str]) -> Iterable[Run]:
    """The runs of a store, by the quickest way that its address allows."""
    if uri.startswith("sqlite:"):
        return _read_sqlite(uri, query)
    if uri.startswith(RUNS_FILE):
        return _read_file(uri, query)
    if uri.startswith(("http://", "https://")) and not _needs_client(environ):
        try:
            return _read_pages(_Server(uri, environ), query)
        except HTTPError as error:
            if error.code not in _DENIED:
                raise _tracking_error(uri, error) from error
        except (URLError, HTTPException, OSError, ValueError, KeyError) as error:
            raise _tracking_error(uri, error) from error
    return _read_by_client(uri, query)


def _tracking_error(uri: str, error: Exception) -> TrackingError:
    """An error that names the store; a password in its address is never shown."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    secret = _password(uri)
    shown = reason.replace(uri, mask(uri))
    shown = shown.replace(secret, "***") if secret else shown
    return TrackingError(
        f"the tracking store {mask(uri)} cannot be read: {shown}",
        advice=f"see that it is up and that you may read it, or {_NEXT}",
    )


def _password(uri: str) -> str | None:
    try:
        return urlsplit(uri).password
    except ValueError:  # such as an address with half a bracket
        return None


def _read_file(uri: str, query: RunQuery) -> list[Run]:
    """The runs of a recording."""
    path = Path(uri.removeprefix(RUNS_FILE))
    try:
        runs = [Run(**values) for values in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise _tracking_error(uri, error) from error
    return [run for run in runs if query.run_id in (None, run.run_id)][-(query.limit or 0) :]


def mask(uri: str) -> str:
    """The address without its password.

    >>> mask("postgresql://ml:secret@db/mlflow")
    'postgresql://ml:***@db/mlflow'
    """
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", uri)


# ── sqlite, by the standard library ─────────────────────────────────────────────────────────────

_NEEDED = {
    "runs": {"run_uuid", "name", "experiment_id", "status", "start_time", "end_time"}
    | {"lifecycle_stage"},
    "experiments": {"experiment_id", "name", "lifecycle_stage"},
    "tags": {"run_uuid", "key", "value"},
}

_NEWEST = """
  SELECT r.run_uuid AS run_id, r.name AS run_name, r.experiment_id, e.name AS experiment,
    r.status, r.start_time, r.end_time
  FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
  WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'
    AND r.start_time IS NOT NULL
    AND (:run_id IS NULL OR r.run_uuid = :run_id)
    AND (:until IS NULL OR r.start_time * 1000 <= :until)
    AND (:since IS NULL OR r.end_time IS NULL OR r.end_time * 1000 + 999 >= :since)
  ORDER BY r.start_time DESC, r.run_uuid DESC LIMIT :limit
"""

_TAGS_OF = f"""
  SELECT run_uuid, key, value FROM tags WHERE key IN {_TAGS!r}
  AND run_uuid IN (SELECT run_id FROM ({_NEWEST}))
"""  # noqa: S608  # made of constants of this file


def _read_sqlite(uri: str, query: RunQuery) -> Iterable[Run]:
    path = _sqlite_path(uri)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as store:
            lacking = {table for table in _NEEDED if _lacks(store, table)}
            if not lacking:
                return _select(store, query)
            if not _columns(store, "runs"):
                raise TrackingError(f"{path} is not an MLflow store: no table runs", advice=_NEXT)
    except sqlite3.Error as error:
        raise _tracking_error(uri, error) from error
    return _read_by_client(uri, query)


def _sqlite_path(uri: str) -> Path:
    """The file of a sqlite address. It must be there: opening it otherwise would make it."""
    found = _SQLITE_FILE.match(uri)
    if not found or found[1] == ":memory:":
        raise TrackingError(f"the tracking store {mask(uri)} is no file", advice=_NEXT)
    for path in (Path(found[1]), Path(unquote(found[1]))):
        if path.is_file():
            return path.absolute()
    raise TrackingError(f"the tracking store {Path(found[1])} does not exist", advice=_NEXT)


def _columns(store: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in store.execute(f"PRAGMA table_info({table})")}


def _lacks(store: sqlite3.Connection, table: str) -> bool:
    return not _NEEDED[table] <= _columns(store, table)


def _select(store: sqlite3.Connection, query: RunQuery) -> list[Run]:
    values = {
        "run_id": query.run_id,
        "since": query.since,
        "until": query.until,
        "limit": query.limit or RUNS_OF_A_FILE,
    }
    tags: dict[str, dict[str, str]] = {}
    for run_id, key, value in store.execute(_TAGS_OF, values):
        tags.setdefault(run_id, {})[key] = value
    store.row_factory = sqlite3.Row
    rows = [dict(row) for row in store.execute(_NEWEST, values)]
    return [_run(row, row["experiment"], tags.get(row["run_id"], {})) for row in rows]


def _run(values: Mapping[str, Any], experiment: str | None, tags: Mapping[str, str]) -> Run:
    """A run in our words: MLflow has milliseconds, and the last one counts to its end."""
    end_ms = values.get("end_time")
    return Run(
        run_id=values["run_id"],
        name=values.get("run_name") or values["run_id"],
        experiment_id=str(values["experiment_id"]),
        experiment=experiment,
        status=values["status"],
        start_time=int(values["start_time"]) * 1000,
        end_time=int(end_ms) * 1000 + 999 if end_ms else None,
        parent_run_id=tags.get(PARENT_TAG),
        process_id=tags.get(PROCESS_TAG),
        client=tags.get(CLIENT_TAG),
    )


# ── a server or Databricks, page by page ────────────────────────────────────────────────────────


class _Tracking(Protocol):
    """What the REST API and MLflow's client have in common."""

    def experiments(self, token: str | None) -> Page: ...
    def runs(self, experiments: list[str], where: str, size: int, token: str | None) -> Page: ...
    def run(self, run_id: str) -> Raw | None: ...


def _read_pages(tracking: _Tracking, query: RunQuery) -> list[Run]:
    if query.run_id:
        found = tracking.run(query.run_id)
        return [_run_of(found, {})] if found and _is_active(found) else []
    names = {str(e["experiment_id"]): str(e["name"]) for e in _items(tracking.experiments)}
    limit = query.limit or RUNS_OF_A_SERVER
    listed = sorted(names)
    found_runs = {
        run.run_id: run
        for begin in range(0, len(listed), _EXPERIMENTS_AT_ONCE)
        for where in _filters(query)
        for run in _newest(
            tracking, listed[begin : begin + _EXPERIMENTS_AT_ONCE], where, limit, names
        )
    }
    return list(in_order(found_runs.values())[-limit:])


def _newest(
    tracking: _Tracking, experiments: list[str], where: str, limit: int, names: Mapping[str, str]
) -> list[Run]:
    runs: list[Run] = []
    size = min(limit, _PAGE_SIZE)
    for raw in _items(lambda token: tracking.runs(experiments, where, size, token)):
        if _is_active(raw):
            runs.append(_run_of(raw, names))
        if len(runs) == limit:
            break
    return runs


def _is_active(raw: Raw) -> bool:
    return bool(raw["info"].get("start_time")) and raw["info"]["lifecycle_stage"] == "active"


def _items(fetch: Callable[[str | None], Page]) -> Iterator[Raw]:
    token: str | None = None
    while True:
        items, token = fetch(token)
        yield from items
        if not token:
            return


def _filters(query: RunQuery) -> list[str]:
    """Filters that together find the runs; MLflow has no ``or`` and no ``is null``."""
    until = [] if query.until is None else [f"attributes.start_time <= {query.until // 1000}"]
    if query.since is None:
        return [" and ".join(until)]
    ended = [f"attributes.end_time >= {query.since // 1000}"]
    running = ["attributes.status = 'RUNNING'"]
    return [" and ".join([*until, *ended]), " and ".join([*until, *running])]


def _run_of(raw: Raw, experiments: Mapping[str, str]) -> Run:
    info = raw["info"]
    tags = raw.get("data", {}).get("tags", {})
    by_key = tags if isinstance(tags, Mapping) else {tag["key"]: tag["value"] for tag in tags}
    return _run(info, experiments.get(str(info["experiment_id"])), by_key)


def _needs_client(environ: Mapping[str, str]) -> bool:
    """Whether MLflow is told to sign in in a way that only its own client knows."""
    ways = ("AUTH", "AWS_SIGV4", "INSECURE_TLS", "SERVER_CERT_PATH", "CLIENT_CERT_PATH")
    return any(environ.get(f"MLFLOW_TRACKING_{way}") for way in ways)


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: the next host must not be handed the credentials of this one."""

    def redirect_request(self, *_: object) -> None:
        """None: the redirect's own status is then the error."""


_OPENER = build_opener(_NoRedirect)


class _Server:
    """A tracking server by its REST API."""

    def __init__(self, uri: str, environ: Mapping[str, str]) -> None:
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")[2]
        self._root = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Content-Type": "application/json"}
        user = unquote(parts.username or "") or environ.get("MLFLOW_TRACKING_USERNAME")
        password = unquote(parts.password or "") or environ.get("MLFLOW_TRACKING_PASSWORD", "")
        if user:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"
        elif token := environ.get("MLFLOW_TRACKING_TOKEN"):
            self._headers["Authorization"] = f"Bearer {token}"

    def experiments(self, token: str | None) -> Page:
        body = {"max_results": _PAGE_SIZE, "view_type": "ACTIVE_ONLY"}
        return self._page("experiments/search", "experiments", body, token)

    def runs(self, experiments: list[str], where: str, size: int, token: str | None) -> Page:
        body = {
            "experiment_ids": experiments,
            "filter": where,
            "run_view_type": "ACTIVE_ONLY",
            "max_results": size,
            "order_by": ["attributes.start_time DESC"],
        }
        return self._page("runs/search", "runs", body, token)

    def run(self, run_id: str) -> Raw | None:
        try:
            found = self._ask(f"runs/get?run_id={quote(run_id)}", None)
        except HTTPError as error:
            if error.code == 404:  # noqa: PLR2004  # HTTP's own number
                return None
            raise
        run: Raw = found["run"]
        return run

    def _page(self, verb: str, items: str, body: Raw, token: str | None) -> Page:
        answer = self._ask(verb, {**body, **({"page_token": token} if token else {})})
        return answer.get(items, []), answer.get("next_page_token") or None

    def _ask(self, verb: str, body: Raw | None) -> Raw:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self._root}/api/2.0/mlflow/{verb}"
        request = Request(url, data=data, headers=self._headers)  # noqa: S310  # http(s): checked
        with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
            values: Raw = json.load(answer)
        return values


_INFO = (
    *("run_id", "run_name", "experiment_id", "status", "lifecycle_stage"),
    *("start_time", "end_time"),
)


def _read_by_client(uri: str, query: RunQuery) -> list[Run]:
    """The runs by MLflow's own client, which knows every kind of store and takes seconds."""
    from mlflow.exceptions import MlflowException

    try:
        return _read_pages(_Client(uri), query)
    except MlflowException as error:
        raise _tracking_error(uri, error) from error


class _Client:
    """A tracking store by MLflow's client."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)

    def experiments(self, token: str | None) -> Page:
        page = self._client.search_experiments(max_results=_PAGE_SIZE, page_token=token)
        return [{"experiment_id": e.experiment_id, "name": e.name} for e in page], page.token

    def runs(self, experiments: list[str], where: str, size: int, token: str | None) -> Page:
        page = self._client.search_runs(
            experiments,
            where,
            max_results=size,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        return [_raw(run) for run in page], page.token

    def run(self, run_id: str) -> Raw | None:
        from mlflow.exceptions import MlflowException

        try:
            return _raw(self._client.get_run(run_id))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise


def _raw(run: Any) -> Raw:
    info = {name: getattr(run.info, name) for name in _INFO}
    return {"info": info, "data": {"tags": run.data.tags}}
