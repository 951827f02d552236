"""What is recorded of the libraries on top of urllib3: requests, boto3, databricks-sdk, MLflow.

None of them has a hook of its own. Each is run against a real server; those of Databricks and
MLflow are small, and what they answer is read by the libraries' own models.
"""

import json
import logging
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.free_ports import free_port
from tests.recorder.answering import AnsweringServer
from tests.recorder.recorded import Recorded, recorded
from tests.recorder.wire import proxying

SECRETS = ("q-s3cret", "h-s3cret", "c-s3cret", "u-s3cret", "p-s3cret", "b-s3cret", "m-s3cret")
KEYS = ("AKIDNOTREAL", "k-s3cret", "dapi-s3cret")


# -- requests -------------------------------------------------------------------------------------


def test_requests_makes_one_record_a_call(server: AnsweringServer, log: Recorded) -> None:
    """A session's calls share a connection; each has its status and bytes."""
    with requests.Session() as session:
        for _ in range(2):
            assert len(session.get(f"{server.url}/kb").content) == 1024
    keys = ("authority", "path", "code", "bytes_out", "attempts")
    assert log.values(*keys) == [(server.authority, "/kb", 200, 1024, 1)] * 2
    assert len({end["upstream_connection_id"] for end in log.ends()}) == 1


def test_requests_may_stream(server: AnsweringServer, log: Recorded) -> None:
    """A call lasts until its body was read, by parts or not at all."""
    with requests.get(f"{server.url}/chunked/3/0.1", stream=True, timeout=5) as response:
        assert log.ends() == []
        assert b"".join(response.iter_content(2)) == b"hello" * 3
    with requests.get(f"{server.url}/bytes/9000", stream=True, timeout=5):
        pass
    chunked, unread = log.ends()
    assert (chunked["code"], chunked["flags"]) == (200, None)
    assert chunked["receive_us"] > 150_000
    assert (unread["code"], unread["flags"]) == (200, None)
    assert unread["bytes_out"] < 9000


def test_hooks_and_redirects_of_requests_see_what_they_saw(
    server: AnsweringServer, log: Recorded
) -> None:
    """A response's hooks, history and elapsed time are there; each hop is a call."""
    seen: list[int] = []
    response = requests.get(
        f"{server.url}/redirect/kb",
        hooks={"response": lambda one, **_: seen.append(one.status_code)},
        timeout=5,
    )
    assert (seen, [one.status_code for one in response.history]) == ([302, 200], [302])
    assert response.elapsed.total_seconds() > 0
    assert log.values("path", "code") == [("/redirect/kb", 302), ("/kb", 200)]


def test_tries_of_an_adapter_are_attempts(server: AnsweringServer, log: Recorded) -> None:
    """A session with Retry: one call, three tries."""
    retries = Retry(total=3, status_forcelist=[503], backoff_factor=0.01)
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retries))
        assert session.get(f"{server.url}/flaky/adapter").status_code == 200
    assert log.values("code", "attempts") == [(200, 3)]
    assert [one["code"] for one in log.attempts()] == [503, 503, 200]


@pytest.mark.parametrize(
    ("path", "error", "expected"),
    [
        ("/slow/1", requests.ReadTimeout, (0, "UT")),
        ("/dropped", requests.ConnectionError, (0, "UC")),
        ("/reset", requests.exceptions.ChunkedEncodingError, (200, "UC")),
        ("/chunked/2/1", requests.ConnectionError, (200, "UT")),
    ],
)
def test_exceptions_of_requests_have_their_flags(
    path: str,
    error: type[Exception],
    expected: tuple[int, str],
    server: AnsweringServer,
    log: Recorded,
) -> None:
    """The exception is requests' own, recorded or not; the record has its flag."""
    with pytest.raises(error):
        requests.get(f"{server.url}{path}", timeout=0.3)
    assert log.values("code", "flags") == [expected]


def test_requests_posts_what_it_posts(
    server: AnsweringServer, tmp_path: Path, log: Recorded
) -> None:
    """JSON, forms and files arrive whole; their size is recorded."""
    file = tmp_path / "data.bin"
    file.write_bytes(b"x" * 3000)
    with file.open("rb") as opened:
        answers = [
            requests.post(f"{server.url}/length", json={"a": 1}, timeout=5).text,
            requests.post(f"{server.url}/length", data={"a": "1"}, timeout=5).text,
            requests.post(f"{server.url}/length", data=opened, timeout=5).text,
        ]
    assert [str(end["bytes_in"]) for end in log.ends()] == answers
    assert answers[-1] == "3000"


# -- boto3 ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A real server of S3's protocol."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_at(url: str) -> Any:
    """A client of S3 whose server is this one."""
    boto3 = pytest.importorskip("boto3")
    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
    )


def test_boto3_is_recorded(moto: str, log: Recorded) -> None:
    """Put, get, a range and a list of S3: calls of a host, with what went both ways."""
    s3 = s3_at(moto)
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="x/1", Body=b"x" * 5000)
    assert len(s3.get_object(Bucket="data", Key="x/1")["Body"].read()) == 5000
    assert len(s3.get_object(Bucket="data", Key="x/1", Range="bytes=0-9")["Body"].read()) == 10
    assert s3.list_objects_v2(Bucket="data")["KeyCount"] == 1
    s3.close()

    keys = ("method", "path", "code", "bytes_out", "attempt", "attempts")
    _, put, *others = log.values(*keys)
    assert put == ("PUT", "/data/x/1", 200, 0, 1, 1)
    assert others[:2] == [
        ("GET", "/data/x/1", 200, 5000, 1, 1),
        ("GET", "/data/x/1", 206, 10, 1, 1),
    ]
    assert others[2][:3] == ("GET", "/data", 200)
    assert log.ends()[1]["bytes_in"] >= 5000
    assert {end["virtual_service"] for end in log.ends()} == {moto.removeprefix("http://")}
    whole, part = (end["resource"] for end in log.ends()[2:4])
    assert whole != part


def test_tries_of_boto3_count_up(log: Recorded) -> None:
    """botocore tries again above urllib3: a call for each try, each with its number."""
    answers = iter((503, 503))
    with serving(lambda *_: (next(answers, 200), b"x" * 10)) as url:
        s3 = s3_at(url)
        assert s3.get_object(Bucket="data", Key="x/1")["Body"].read() == b"x" * 10
        s3.close()
    assert log.values("path", "code", "attempt", "attempts") == [
        ("/data/x/1", 503, 1, 1),
        ("/data/x/1", 503, 2, 1),
        ("/data/x/1", 200, 3, 1),
    ]


# -- databricks-sdk and MLflow --------------------------------------------------------------------

Answer = Callable[[str, bytes], tuple[int, bytes]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server whose answers are made of path and body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, data = answer(self.path, body)
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.send_header("content-type", "application/json")
            if status == 429:
                self.send_header("retry-after", "1")
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_GET  # noqa: N815  # the base's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Workspace:
    """As much of a Databricks workspace as two clients ask for; busy once per path."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, path: str, body: bytes) -> tuple[int, bytes]:
        path = path.partition("?")[0]
        self.asked[path] += 1
        if self.asked[path] == 1 and path.startswith("/api/2.0/preview"):
            return 429, json.dumps({"error_code": "REQUEST_LIMIT_EXCEEDED"}).encode()
        if path.endswith("/Me"):
            return 200, json.dumps({"id": "7", "userName": "me@example.com"}).encode()
        if path.endswith("/invocations"):
            return 200, json.dumps({"predictions": [len(json.loads(body))]}).encode()
        return 404, b"{}"


def test_the_sdk_of_databricks_is_recorded_with_its_tries(tmp_path: Path) -> None:
    """429, then the answer: the second call is attempt 2 of the workspace's API."""
    sdk = pytest.importorskip("databricks.sdk")
    with ExitStack() as stack:
        url = stack.enter_context(serving(_Workspace()))
        log = stack.enter_context(recorded(tmp_path, workspace=url.removeprefix("http://")))
        client = sdk.WorkspaceClient(host=url, token=KEYS[2], auth_type="pat")
        assert client.current_user.me().user_name == "me@example.com"
        answer = client.serving_endpoints.query("fraud", dataframe_records=[{"a": 1}])
        assert answer.predictions == [1]
    calls = [end for end in log.ends() if ".well-known" not in end["path"]]
    assert [(end["virtual_service"], end["code"], end["attempt"]) for end in calls] == [
        ("workspace API", 429, 1),
        ("workspace API", 200, 2),
        ("serving endpoint fraud", 200, 1),
    ]
    assert [secret for secret in KEYS if secret in log.text()] == []


def _mlflow_answer(path: str, body: bytes) -> tuple[int, bytes]:
    run = {"info": {"run_id": "r1", "experiment_id": "0", "status": "RUNNING"}, "data": {}}
    answers: dict[str, object] = {"/api/2.0/mlflow/runs/get": {"run": run}}
    return 200, json.dumps(answers.get(path.partition("?")[0], {})).encode()


def test_mlflow_is_recorded_as_the_tracking_server(tmp_path: Path) -> None:
    """MLflow's own client, a read and a metric: calls of the server that the plan names."""
    client_class = pytest.importorskip("mlflow.tracking").MlflowClient
    with ExitStack() as stack:
        url = stack.enter_context(serving(_mlflow_answer))
        log = stack.enter_context(recorded(tmp_path, tracking=url.removeprefix("http://")))
        client = client_class(tracking_uri=url)
        assert client.get_run("r1").info.status == "RUNNING"
        client.log_metric("r1", "loss", 0.5)
    by_path = {end["path"]: end for end in log.ends()}
    wanted = ("/api/2.0/mlflow/runs/get", "/api/2.0/mlflow/runs/log-metric")
    assert [by_path[path]["code"] for path in wanted] == [200, 200]
    assert {end["virtual_service"] for end in log.ends()} == {"MLflow tracking"}


# -- secrets --------------------------------------------------------------------------------------


def _call_with_secrets(server: AnsweringServer, proxy: str) -> None:
    """Secrets wherever a library takes them, in calls that work and calls that fail."""
    query, header, cookie, user, password, body, _ = SECRETS
    headers = {"Authorization": f"Bearer {header}", "Cookie": f"session={cookie}", "X-Key": header}
    userinfo = f"{user}:{password}@"
    refused = f"http://{userinfo}127.0.0.1:{free_port()}/x?token={query}#{query}"
    for path in ("kb", "status/500", "dropped", "broken", "slow/1", "redirect/kb"):
        url = f"http://{userinfo}{server.authority}/{path}?token={query}#{query}"
        for call in (
            lambda u: requests.post(
                u, data={"k": body}, headers=headers, cookies={"c": cookie}, timeout=0.3
            ),
            lambda u: requests.get(u, auth=(user, password), params={"key": query}, timeout=0.3),
            lambda u: urllib3.PoolManager().request("GET", u, headers=headers, timeout=0.3),
            lambda u: _urllib(u.replace(userinfo, ""), headers),
            lambda u: requests.get(
                u, proxies={"http": f"http://{userinfo}{proxy}"}, headers=headers, timeout=0.3
            ),
        ):
            for one in (url, refused):
                try:
                    call(one)
                except (OSError, HTTPException, urllib3.exceptions.HTTPError):
                    continue
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{userinfo}no.such.invalid/?token={query}", timeout=1)


def _urllib(url: str, headers: dict[str, str]) -> None:
    urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=0.3).read()  # noqa: S310  # a test's own


class _SecretError(Exception):
    """An error of the program, with a secret in its message."""


def _body_that_fails() -> Iterator[bytes]:
    yield SECRETS[5].encode()
    raise _SecretError(SECRETS[6])


def test_nothing_secret_is_written(
    server: AnsweringServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No query, header, cookie, user, password, body or message is in any file or warning."""
    with recorded(tmp_path) as log, proxying() as proxy:
        _call_with_secrets(server, proxy.authority)
        with pytest.raises(_SecretError):
            requests.post(f"{server.url}/length", data=_body_that_fails(), timeout=1)
    assert len(log.ends()) > 50
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    written = b"".join(file.read_bytes() for file in files)
    assert b"DownstreamEnd" in written
    assert [secret for secret in SECRETS if secret.encode() in written] == []
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("meshml")]
    assert ours == []
