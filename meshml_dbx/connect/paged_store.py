"""MLflow's runs from a server, page by page: by its REST API, or by MLflow's own client.

Goes in: an address. Comes out: ``Run`` values. The client knows every kind of store and every way
to sign in; the REST API answers without the seconds that importing MLflow takes.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from meshml_dbx.connect.store import UNENDED, RunQuery, run_in_words
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.run_names import in_order

RUNS_OF_A_SERVER = 1_000
"""How many of the newest runs are looked at for one that is meant by its name."""

_EXPERIMENTS_AT_ONCE = 100
PAGE_SIZE = 1_000
_TIMEOUT_S = 20.0
NEWEST_FIRST = "attributes.start_time DESC"
OLDEST_FIRST = "attributes.start_time ASC"
VIEWS = {"ALL": "ALL", "ACTIVE": "ACTIVE_ONLY"}

Raw = Mapping[str, Any]
"""A decoded answer of the REST API: what is in it is for the reader to find out."""
Page = tuple[list[Raw], str | None]


def read_server(uri: str, query: RunQuery, environ: Mapping[str, str]) -> list[Run]:
    """The runs of a server, by its REST API.

    Raises:
        HTTPError: the server refuses; also what ``urllib`` raises when it cannot be reached.
        ValueError: what it answers is no JSON.
        KeyError: nor is it what MLflow answers.
    """
    return _read_pages(open_server(uri, environ), query)


def read_by_client(uri: str, query: RunQuery) -> list[Run]:
    """The runs by MLflow's own client, which knows every kind of store and takes seconds.

    Raises:
        MlflowException: it cannot be read.
    """
    return _read_pages(open_client(uri), query)


def open_server(uri: str, environ: Mapping[str, str]) -> "Tracking":
    """A server by its REST API; nothing is asked yet."""
    return _Server(uri, environ)


def open_client(uri: str) -> "Tracking":
    """A store by MLflow's own client.

    Raises:
        MlflowException: MLflow cannot open it.
    """
    return _Client(uri)


class Tracking(Protocol):
    """What the REST API and MLflow's client have in common."""

    def experiments(self, token: str | None, *, view: str) -> Page: ...
    def runs(
        self,
        experiments: list[str],
        where: str,
        size: int,
        token: str | None,
        *,
        order: str,
        view: str,
    ) -> Page: ...
    def run(self, run_id: str) -> Raw | None: ...


def _read_pages(tracking: Tracking, query: RunQuery) -> list[Run]:
    if query.run_id:
        found = tracking.run(query.run_id)
        return [run_of(found, {})] if found and _is_active(found) else []
    names = experiment_names(tracking, view="ACTIVE")
    limit = query.limit or RUNS_OF_A_SERVER
    found_runs = {
        run.run_id: run
        for chunk in experiment_chunks(names)
        for where in _filters(query)
        for run in _newest(tracking, chunk, where, limit, names)
    }
    return list(in_order(found_runs.values())[-limit:])


def experiment_names(tracking: Tracking, *, view: str) -> dict[str, str]:
    """The experiments' names by id; of view ACTIVE, or ALL."""
    found = _items(lambda token: tracking.experiments(token, view=view))
    return {str(one["experiment_id"]): str(one["name"]) for one in found}


def experiment_chunks(names: Iterable[str]) -> list[list[str]]:
    """The experiments' ids, as many together as one request may name."""
    listed = sorted(names)
    return [
        listed[begin : begin + _EXPERIMENTS_AT_ONCE]
        for begin in range(0, len(listed), _EXPERIMENTS_AT_ONCE)
    ]


def _newest(
    tracking: Tracking, experiments: list[str], where: str, limit: int, names: Mapping[str, str]
) -> list[Run]:
    runs: list[Run] = []
    size = min(limit, PAGE_SIZE)
    pages = _items(
        lambda token: tracking.runs(
            experiments, where, size, token, order=NEWEST_FIRST, view="ACTIVE"
        )
    )
    for raw in pages:
        if _is_active(raw):
            runs.append(run_of(raw, names))
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
    unended = ([f"attributes.status = '{status}'"] for status in UNENDED)
    return [" and ".join([*until, *only]) for only in (ended, *unended)]


def run_of(raw: Raw, experiments: Mapping[str, str]) -> Run:
    """A run in our words, of an answer about it and the names of experiments."""
    info = raw["info"]
    tags = raw.get("data", {}).get("tags", {})
    by_key = tags if isinstance(tags, Mapping) else {tag["key"]: tag["value"] for tag in tags}
    return run_in_words(info, experiments.get(str(info["experiment_id"])), by_key)


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

    def experiments(self, token: str | None, *, view: str) -> Page:
        body = {"max_results": PAGE_SIZE, "view_type": VIEWS[view]}
        return self._page("experiments/search", "experiments", body, token)

    def runs(
        self,
        experiments: list[str],
        where: str,
        size: int,
        token: str | None,
        *,
        order: str,
        view: str,
    ) -> Page:
        body = {
            "experiment_ids": experiments,
            "filter": where,
            "run_view_type": VIEWS[view],
            "max_results": size,
            "order_by": [order],
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


class _Client:
    """A tracking store by MLflow's client."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)

    def experiments(self, token: str | None, *, view: str) -> Page:
        page = self._client.search_experiments(
            max_results=PAGE_SIZE, page_token=token, view_type=_view(view)
        )
        return [{"experiment_id": e.experiment_id, "name": e.name} for e in page], page.token

    def runs(
        self,
        experiments: list[str],
        where: str,
        size: int,
        token: str | None,
        *,
        order: str,
        view: str,
    ) -> Page:
        page = self._client.search_runs(
            experiments,
            where,
            run_view_type=_view(view),
            max_results=size,
            order_by=[order],
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


def _view(view: str) -> int:
    from mlflow.entities import ViewType

    return int(ViewType.from_string(VIEWS[view].lower()))


def _raw(run: Any) -> Raw:
    info = {name: getattr(run.info, name) for name in _INFO}
    return {"info": info, "data": {"tags": run.data.tags}}
