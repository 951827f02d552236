"""Runs out of a real MLflow store, by each way in, and the names that people give them."""

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from meshml_dbx.connect import (
    RunQuery,
    find_run,
    mask,
    read_changed_runs,
    read_runs,
    resolve_tracking_uri,
)
from meshml_dbx.connect.paged_store import read_by_client
from meshml_dbx.errors import TrackingError, UnknownRunError
from meshml_dbx.traffic.ownership import Run

SECOND = 1_000_000

MAKE_RUNS = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient("sqlite:///" + sys.argv[1])
churn = client.create_experiment("churn")
ids = {}

def make(key, name, start_s, end_s, **tags):
    given = {k.replace("__", "."): v for k, v in tags.items()}
    run = client.create_run(churn, start_time=start_s * 1000, run_name=name, tags=given)
    ids[key] = run.info.run_id
    if end_s:
        client.set_terminated(run.info.run_id, end_time=end_s * 1000)

make("old", "nightly", 100, 200, meshml__process_id="p-old", meshml__client="churn-training",
     team="risk", mlflow__databricks__jobRunID="77")
make("new", "nightly", 300, 400, meshml__process_id="p-new", meshml__client="churn-training")
make("child", "fold-1", 310, 350, mlflow__parentRunId=ids["new"])
make("gone", "deleted-one", 500, 600)
client.delete_run(ids["gone"])
make("running", "still-going", 700, None)
ids["experiment"] = churn
print(json.dumps(ids))
"""


@pytest.fixture(scope="module")
def ids(store: Path) -> dict[str, str]:
    """The ids of the store's runs, by what they are."""
    found: dict[str, str] = json.loads((store.parent / "ids.json").read_text())
    return found


@pytest.fixture(scope="module")
def store(empty_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of four living runs and a deleted one, made by MLflow itself."""
    made = tmp_path_factory.mktemp("a store") / "mlflow.db"
    shutil.copy(empty_mlflow_store, made)
    done = subprocess.run(
        [sys.executable, "-c", MAKE_RUNS, str(made)],
        cwd=made.parent,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    (made.parent / "ids.json").write_text(done.stdout.splitlines()[-1])
    return made


def uri_of(store: Path) -> str:
    """The address by which MLflow knows a store."""
    return f"sqlite:///{store}"


def test_a_run_is_read_with_its_tags_and_times(store: Path, ids: dict[str, str]) -> None:
    """Milliseconds become microseconds, and the last millisecond belongs to the run."""
    found = {run.run_id: run for run in read_runs(uri_of(store))}
    assert found[ids["old"]] == Run(
        run_id=ids["old"],
        name="nightly",
        experiment_id=ids["experiment"],
        experiment="churn",
        status="FINISHED",
        start_time=100 * SECOND,
        end_time=200 * SECOND + 999,
        process_id="p-old",
        client="churn-training",
        team="risk",
        job_run_id="77",
    )
    assert found[ids["child"]].parent_run_id == ids["new"]
    assert found[ids["running"]].end_time is None


def test_a_run_tells_whom_it_was_for_and_where_it_ran(store: Path, ids: dict[str, str]) -> None:
    """The tags team, model and environment, and those that Databricks sets; none where none is."""
    told, untold = (find_run(ids[key], tracking_uri=f"sqlite:///{store}") for key in ("old", "new"))
    assert (told.team, told.job_run_id, told.model) == ("risk", "77", None)
    assert (untold.team, untold.job_run_id) == (None, None)


def test_runs_come_oldest_first_without_deleted_ones(store: Path, ids: dict[str, str]) -> None:
    """A deleted run owns no calls."""
    found = [run.run_id for run in read_runs(uri_of(store))]
    assert found == [ids[key] for key in ("old", "new", "child", "running")]


@pytest.mark.parametrize(
    ("window", "keys"),
    [
        ({"until": 305 * SECOND}, ("old", "new")),
        ({"since": 380 * SECOND}, ("new", "running")),
        ({"since": 205 * SECOND, "until": 320 * SECOND}, ("new", "child")),
        ({"limit": 2}, ("child", "running")),
    ],
)
def test_a_window_keeps_what_lasted_in_it(
    store: Path, ids: dict[str, str], window: dict[str, int], keys: tuple[str, ...]
) -> None:
    """A store of many runs is read around one moment, or from its newest end."""
    since, until, limit = (window.get(name) for name in ("since", "until", "limit"))
    expected = [ids[key] for key in keys]
    assert [
        run.run_id for run in read_runs(uri_of(store), since=since, until=until, limit=limit)
    ] == expected
    by_client = read_by_client(uri_of(store), RunQuery(since=since, until=until, limit=limit))
    assert sorted(run.run_id for run in by_client) == sorted(expected)


def test_mlflows_client_and_the_quick_way_agree(store: Path) -> None:
    """What sqlite3 reads is, value by value, what MLflow's own client reads."""
    by_client = read_by_client(uri_of(store), RunQuery())
    assert tuple(by_client) == read_runs(uri_of(store))


def test_the_quick_way_imports_no_mlflow(store: Path) -> None:
    """An answer in two seconds has no time for an import of four; skinny has no SQL store."""
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from meshml_dbx.connect import find_run\n"
            f"find_run('last', tracking_uri={uri_of(store)!r})\n"
            "print(sorted({'mlflow', 'sqlalchemy', 'pyspark', 'requests'} & set(sys.modules)))",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


def test_reading_does_not_write(store: Path) -> None:
    """The store is opened read-only: not a byte of it changes."""
    before = store.read_bytes()
    read_runs(uri_of(store))
    assert store.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("last", "running"),
        ("nightly", "new"),
        ("fold-1", "child"),
        ("{old}", "old"),
        ("{old:.12}", "old"),
        ("http://localhost:5000/#/experiments/1/runs/{old}/artifacts", "old"),
        ("https://adb-1.azuredatabricks.net/ml/experiments/7/runs/{old}?o=42", "old"),
        ("https://dbc-1.cloud.databricks.com/#mlflow/experiments/7/runs/{old}", "old"),
    ],
)
def test_a_run_answers_to_each_of_its_names(
    store: Path, ids: dict[str, str], name: str, key: str
) -> None:
    """An id, the begin of one, a name (the newest of it), last, or a page's address."""
    found = find_run(name.format(**ids), tracking_uri=uri_of(store))
    assert found.run_id == ids[key]


def test_an_unknown_run_names_the_closest(store: Path, ids: dict[str, str]) -> None:
    """A slip of the finger is answered with what was probably meant."""
    with pytest.raises(UnknownRunError, match="closest: ") as caught:
        find_run("nihgtly", tracking_uri=uri_of(store))
    assert f"{ids['new'][:12]} (nightly)" in str(caught.value)


def test_a_deleted_run_is_unknown(store: Path, ids: dict[str, str]) -> None:
    """Also by its whole id."""
    with pytest.raises(UnknownRunError):
        find_run(ids["gone"], tracking_uri=uri_of(store))


def test_a_begin_that_several_ids_share_lists_them(store: Path, tmp_path: Path) -> None:
    """Nothing is guessed where two runs answer."""
    copy = Path(shutil.copy(store, tmp_path))
    with sqlite3.connect(copy) as changed:
        changed.execute("UPDATE runs SET run_uuid = 'aa' || substr(run_uuid, 3)")
    with pytest.raises(UnknownRunError, match="begins the ids of 4 runs") as caught:
        find_run("aa", tracking_uri=uri_of(copy))
    assert "(still-going)" in str(caught.value)


def test_an_empty_store_has_no_last_run(mlflow_store: Path) -> None:
    """The error says that there is no run at all."""
    with pytest.raises(UnknownRunError, match="has none"):
        find_run("last", tracking_uri=uri_of(mlflow_store))


def test_a_missing_store_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    """Reading must not leave an empty store behind, which MLflow would then fail on."""
    with pytest.raises(TrackingError, match="does not exist"):
        read_runs(uri_of(tmp_path / "none.db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"this is no database, it is a text of some length"])
def test_a_file_that_is_no_store_is_an_error_and_stays_as_it_is(
    tmp_path: Path, content: bytes
) -> None:
    """MLflow's client would fill an empty database with its tables; we must not."""
    path = tmp_path / "other.db"
    path.write_bytes(content)
    with pytest.raises(TrackingError, match=r"other\.db"):
        read_runs(uri_of(path))
    assert path.read_bytes() == content


def test_a_store_of_another_schema_is_left_to_mlflow(store: Path, tmp_path: Path) -> None:
    """Where a column is missing MLflow's client is asked, and its refusal is our error."""
    copy = Path(shutil.copy(store, tmp_path))
    with sqlite3.connect(copy) as changed:
        changed.execute("ALTER TABLE runs DROP COLUMN end_time")
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        read_runs(uri_of(copy))


def test_an_address_with_a_password_is_shown_without_it() -> None:
    """Neither the message nor its reason repeats a secret."""
    uri = "http://ml:s3cr3t@127.0.0.1:9"
    with pytest.raises(TrackingError) as caught:
        read_runs(uri, environ={})
    assert "s3cr3t" not in str(caught.value)
    assert "http://ml:***@127.0.0.1:9" in str(caught.value)
    assert mask("postgresql://u:p@ss/w@db/x") == "postgresql://u:***@db/x"


def test_the_store_is_the_one_that_mlflow_would_choose(tmp_path: Path) -> None:
    """The argument, the variable, the folder's own store; and an error where there is none."""
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from meshml_dbx.connect import resolve_tracking_uri as of\n"
            "from meshml_dbx.errors import TrackingError\n"
            "from pathlib import Path\n"
            "print(of('http://a', {'MLFLOW_TRACKING_URI': 'http://b'}))\n"
            "print(of(None, {'MLFLOW_TRACKING_URI': 'http://b'}))\n"
            "print(of(None, {'DATABRICKS_RUNTIME_VERSION': '17.3'}))\n"
            "try: of(None, {})\n"
            "except TrackingError: print('none')\n"
            "Path('mlflow.db').touch(); print(of(None, {}))\n"
            "Path('mlruns/0').mkdir(parents=True); Path('mlruns/0/meta.yaml').touch()\n"
            "print(of(None, {}))\n",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "http://a",
        "http://b",
        "databricks",
        "none",
        f"sqlite:///{tmp_path}/mlflow.db",
        f"file://{tmp_path}/mlruns",
    ]


def test_a_loaded_mlflow_is_asked_for_its_store(tmp_path: Path) -> None:
    """In a notebook that has set its store, that store is meant."""
    import mlflow

    expected = mlflow.get_tracking_uri()
    assert resolve_tracking_uri(None, {}, folder=tmp_path) == expected


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[str]:
    """A real tracking server over the store, as a team has one."""
    from tests.free_ports import free_port

    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", uri_of(store)]
    environ = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    with (store.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=store.parent, env=environ, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_up(process, port, store.parent / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _wait_until_up(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    import time
    from urllib.request import urlopen

    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the tracking server did not start: {log.read_text()[-2000:]}")


def test_a_server_gives_the_same_runs_as_its_store(store: Path, server: str) -> None:
    """The REST API and the file behind it tell the same, in one page or in many."""
    assert read_runs(server, environ={}) == read_runs(uri_of(store))
    since, until = 205 * SECOND, 320 * SECOND
    by_server = read_runs(server, environ={}, since=since, until=until)
    assert by_server == read_runs(uri_of(store), since=since, until=until)
    changes = [read_changed_runs(uri, environ={}) for uri in (server, uri_of(store))]
    changes += [read_changed_runs(server, mark=changes[0].mark, environ={})]
    told = [{run.run_id: run for run in read.runs} for read in changes]
    assert told[0] == told[1] == told[2]
    assert [run.name for run in told[0].values() if run.deleted] == ["deleted-one"]


def test_a_run_of_a_server_answers_to_id_name_and_last(server: str, ids: dict[str, str]) -> None:
    """Names mean the same wherever the runs are kept."""
    for name, key in ((ids["old"], "old"), ("nightly", "new"), ("last", "running")):
        assert find_run(name, tracking_uri=server, environ={}).run_id == ids[key]
    with pytest.raises(UnknownRunError):
        find_run("f" * 32, tracking_uri=server, environ={})


class _Broken(BaseHTTPRequestHandler):
    """A server that answers, but not as a tracking server does."""

    def do_POST(self) -> None:
        """Answer with a page of another program."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>welcome</html>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


def test_a_server_that_is_no_tracking_server_is_an_error() -> None:
    """Any other web server at that address is named, not believed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Broken) as broken:
        threading.Thread(target=broken.serve_forever, daemon=True).start()
        with pytest.raises(TrackingError, match="cannot be read"):
            read_runs(f"http://127.0.0.1:{broken.server_port}", environ={})
        broken.shutdown()


@pytest.mark.parametrize("uri", ["http://[::1", "http://127.0.0.1:{port}"])
def test_an_address_that_is_no_tracking_server_is_named(uri: str) -> None:
    """Neither half an address nor a server of another protocol ends in a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=answer_nonsense, args=(listener,), daemon=True)
        thread.start()
        with pytest.raises(TrackingError, match="cannot be read"):
            read_runs(uri.format(port=port), environ={})


def test_credentials_do_not_follow_a_redirect() -> None:
    """A server that sends us elsewhere is an error; the other host never sees the token."""
    seen: list[bytes] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        place = f"http://localhost:{second.getsockname()[1]}/"
        head = f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()
        for listener, reply in ((first, head), (second, b"")):
            threading.Thread(target=answer_once, args=(listener, reply, seen), daemon=True).start()
        with pytest.raises(TrackingError):
            read_runs(
                f"http://127.0.0.1:{first.getsockname()[1]}",
                environ={"MLFLOW_TRACKING_TOKEN": "sesame"},
            )
    assert [b"sesame" in request for request in seen] == [True]


def answer_nonsense(listener: socket.socket) -> None:
    """Speak, to one caller, what is not HTTP."""
    answer_once(listener, b"SSH-2.0-nonsense\r\n", [])


def answer_once(listener: socket.socket, reply: bytes, seen: list[bytes]) -> None:
    """Read one request, keep it, and reply with these bytes."""
    with contextlib.suppress(OSError):
        connection, _ = listener.accept()
        with connection:
            seen.append(connection.recv(65536))
            connection.sendall(reply)
