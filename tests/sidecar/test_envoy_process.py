"""Starting one Envoy: it tells in its own words what it refuses, and dies with its parent."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshml_dbx.errors import EnvoyError, MeshMLError, PortTakenError
from meshml_dbx.sidecar import EnvoyBinary, require_free
from meshml_dbx.sidecar.process import (
    EnvoyProcess,
    is_settled,
    reasons_in,
    refused_kinds,
    start_envoy,
)
from tests.free_ports import free_port
from tests.sidecar.sidecar_lab import (
    Upstream,
    await_true,
    call,
    envoy_of,
    is_alive,
    make_plan,
    resources,
    supervisor,
    texts,
)

Change = Callable[[dict[str, str]], None]
Start = Callable[[dict[str, str]], EnvoyProcess]


@pytest.fixture
def start(envoy: EnvoyBinary, tmp_path: Path) -> Iterator[Start]:
    """Starts Envoys with these files, each in a folder of its own; they end with the test."""
    started: list[EnvoyProcess] = []

    def one(files: dict[str, str]) -> EnvoyProcess:
        folder = tmp_path / f"envoy-{len(started)}"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        started.append(start_envoy(envoy, folder))
        return started[-1]

    yield one
    for process in started:
        process.stop()


def files_for(port: int, folder: Path) -> dict[str, str]:
    """A good configuration."""
    return texts(resources(port, 9, folder / "access.jsonl"))


def replaced(name: str, old: str, new: str) -> Change:
    """A change that puts one text in place of another in one file."""

    def change(files: dict[str, str]) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new)

    return change


@pytest.mark.envoy
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            replaced("xds/lds.json", "%RESPONSE_FLAGS%", "%NOPE%"),
            r"refused its listeners \(lds\): .*egress: Not supported field in StreamInfo: NOPE",
        ),
        (
            replaced("xds/cds.json", '"1s"', '"-1s"'),
            r"refused its clusters \(cds\): .*Expected positive duration",
        ),
        (
            replaced("xds/rds.json", '{"prefix": "/"}', '{"safe_regex": {"regex": "("}}'),
            r"refused its routes \(rds\): missing \)",
        ),
        (
            replaced("xds/rds.json", "{", "{nope"),
            r"refused its routes \(rds\): in xds/rds.json, Unable to parse JSON",
        ),
        (
            replaced("bootstrap.json", '"node"', '"nodes"'),
            r"exit code 1: .*no such field: 'nodes'",
        ),
        (
            replaced("bootstrap.json", "xds/lds.json", "xds/other.json"),
            r"exit code 1: .*'xds/other.json' does not exist",
        ),
    ],
    ids=["listener", "cluster", "route", "noise", "bootstrap", "missing"],
)
def test_a_refusal_carries_envoys_reason(
    start: Start, tmp_path: Path, change: Change, expected: str
) -> None:
    """Envoy answers "ready" with most of these; waiting for it raises, with the file and why."""
    files = files_for(free_port(), tmp_path)
    change(files)
    with pytest.raises(EnvoyError, match=expected):
        start(files).wait_ready()


@pytest.mark.envoy
def test_a_port_that_envoy_finds_taken_is_named(start: Start, tmp_path: Path) -> None:
    """One that is taken between the check and Envoy's start is a PortTakenError too."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = int(holder.getsockname()[1])
        with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1"):
            start(files_for(port, tmp_path)).wait_ready()


@pytest.mark.envoy
def test_ready_means_that_the_port_is_open(start: Start, tmp_path: Path, server: Upstream) -> None:
    """The first call after ready is answered, with no pause between."""
    port = free_port()
    files = texts(resources(port, server.port, tmp_path / "access.jsonl"))
    start(files).wait_ready([("127.0.0.1", port)])
    assert call(port) == 200


@pytest.mark.envoy
def test_a_listener_that_never_comes_is_an_error(start: Start, tmp_path: Path) -> None:
    """An address that no listener opens is waited for no longer than told."""
    with pytest.raises(EnvoyError, match=r"not ready after 0.5 s"):
        start(files_for(free_port(), tmp_path)).wait_ready([("127.0.0.1", 1)], timeout_s=0.5)


@pytest.mark.envoy
def test_stopping_ends_it_in_order(start: Start, tmp_path: Path) -> None:
    """An Envoy that is told to stop ends with 0."""
    process = start(files_for(free_port(), tmp_path))
    process.wait_ready()
    assert process.stop() == 0


def test_a_worker_thread_cannot_start_it(envoy: EnvoyBinary, tmp_path: Path) -> None:
    """Linux would kill it when that thread ends: refused, with the reason."""
    errors: list[str] = []

    def attempt() -> None:
        try:
            start_envoy(envoy, tmp_path)
        except EnvoyError as error:
            errors.append(str(error))

    worker = threading.Thread(target=attempt)
    worker.start()
    worker.join()
    assert errors == ["Envoy must be started from the main thread, else it dies with the thread"]


@pytest.mark.envoy
def test_envoy_dies_with_its_supervisor(server: Upstream, state: Path) -> None:
    """``kill -9`` of the supervisor takes Envoy with it, within two seconds."""
    with supervisor(state, make_plan(state, server.port)) as started:
        envoy = envoy_of(started.folder)
        started.kill()
        await_true(lambda: not is_alive(envoy), within_s=2, what="Envoy dies")


def test_a_free_port_can_be_had() -> None:
    """A port that is called free can be listened on, and is then refused."""
    port = free_port()
    require_free("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortTakenError, match=str(port)):
        require_free("127.0.0.1", port)


def test_a_port_in_use_is_seen_although_its_holder_would_share_it() -> None:
    """Envoy's listeners allow others on their port unless told not to; that must not hide them."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    with holder, pytest.raises(PortTakenError):
        require_free("127.0.0.1", int(holder.getsockname()[1]))


def test_an_address_of_another_machine_is_named() -> None:
    """An address that this machine does not have is no taken port."""
    with pytest.raises(MeshMLError, match=r"cannot listen on 192\.0\.2\.1:8080"):
        require_free("192.0.2.1", 8080)


def test_reasons_are_told_once_and_in_one_line() -> None:
    """Envoy says the same thing at several levels and over several lines."""
    entry = (
        "[2026-11-23 14:51:15.220][10792][warning][config] [source/a.cc:81] Filesystem config "
        "update rejected: Invalid duration: Expected positive duration: debugstr   \n"
        "seconds: -1\n\n"
    )
    other = "[2026-11-23 14:51:15.221][10792][warning][main] [source/b.cc:9] There is no limit.\n"
    assert reasons_in(entry + other + entry) == (
        "Invalid duration: Expected positive duration: debugstr seconds: -1",
    )


def test_what_envoy_says_before_it_has_a_log_is_a_reason() -> None:
    """A binary that cannot be loaded says so on its standard error, without a stamp."""
    assert reasons_in("envoy: error while loading shared libraries: libm.so.6\n") == (
        "envoy: error while loading shared libraries: libm.so.6",
    )


def test_a_warning_about_limits_is_no_reason() -> None:
    """A log without a refusal gives no reason."""
    assert (
        reasons_in("[2026-11-23 14:51:15.2][1][warning][main] [b.cc:9] There is no limit.\n") == ()
    )


def test_every_subscription_must_be_answered() -> None:
    """Settled is: each begun update succeeded, nothing warms; refused kinds are named by file."""
    good = {"cluster_manager.cds.update_attempt": 1, "cluster_manager.cds.update_success": 1}
    routes = "http.egress.rds.routes.update_"
    assert is_settled(good)
    assert not is_settled({})
    assert not is_settled(good | {f"{routes}attempt": 1, f"{routes}success": 0})
    assert not is_settled(good | {"listener_manager.total_listeners_warming": 1})
    assert refused_kinds(good | {f"{routes}rejected": 1}) == ["routes (rds)"]
    assert refused_kinds(good | {f"{routes}rejected": 0}) == []
