"""What is recorded of urllib3, 1.26 and 2.x, against real servers."""

import gc
import gzip
import socket
import ssl
import threading
import time
import urllib.request
import weakref
import zlib
from collections.abc import Callable, Iterator
from functools import update_wrapper
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import urllib3
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util import Retry, Timeout

from tests.free_ports import free_port
from tests.recorder.answering import AnsweringServer, answering
from tests.recorder.recorded import Recorded, recorded
from tests.recorder.wire import proxying, sending
from tests.small_pki import Authority, server_context

_IS_OLD = metadata.version("urllib3").startswith("1.")
_WRONG_NAME = (
    "Hostname_mismatch" if _IS_OLD else "IP_address_mismatch,_certificate_is_not_valid_for"
)


@pytest.fixture
def pool(server: AnsweringServer) -> Iterator[HTTPConnectionPool]:
    """A pool of connections to the service."""
    with HTTPConnectionPool("127.0.0.1", server.server_port, timeout=5, retries=False) as pool:
        yield pool


def test_a_call_of_a_pool_is_one_record(
    pool: HTTPConnectionPool, server: AnsweringServer, log: Recorded
) -> None:
    """Start and end, with what http.client saw below; no attempt lines for a single try."""
    pool.request("GET", "/kb?token=s3cret")
    end = log.end()
    assert [line["request_id"] for line in log.starts()] == [end["request_id"]]
    assert (end["authority"], end["path"], end["code"]) == (server.authority, "/kb", 200)
    assert (end["bytes_in"], end["bytes_out"], end["attempts"]) == (0, 1024, 1)
    assert end["upstream_host"] == server.authority
    assert 0 < end["connect_us"] < end["total_us"]
    assert log.attempts() == []


def test_a_pooled_connection_is_opened_once(pool: HTTPConnectionPool, log: Recorded) -> None:
    """Keep-alive: one connection's number, and connect times on the first call alone."""
    for _ in range(3):
        pool.request("GET", "/kb")
    connections, connects = zip(*log.values("upstream_connection_id", "connect_us"), strict=True)
    assert len(set(connections)) == 1
    assert [one is None for one in connects] == [False, True, True]


def test_a_streamed_body_ends_when_it_is_read(pool: HTTPConnectionPool, log: Recorded) -> None:
    """``preload_content=False``: the call goes on until the last byte, however late."""
    response = pool.request("GET", "/kb", preload_content=False)
    time.sleep(0.1)
    assert log.ends() == []
    assert sum(len(part) for part in response.stream(100)) == 1024
    end = log.end()
    assert (end["code"], end["bytes_out"]) == (200, 1024)
    assert end["receive_us"] > 90_000


@pytest.mark.parametrize(
    ("leave", "size"),
    [
        (lambda response: response.drain_conn(), 1024),
        (lambda response: (response.read(24), response.close()), 24),
    ],
    ids=["drain", "close"],
)
def test_a_streamed_body_may_be_left_early(
    leave: Callable[[Any], object], size: int, pool: HTTPConnectionPool, log: Recorded
) -> None:
    """Drained or closed: the call is over, with as many bytes as were read, and no fault."""
    leave(pool.request("GET", "/kb", preload_content=False))
    assert log.values("code", "bytes_out", "flags") == [(200, size, None)]


def test_an_unread_response_goes_away_as_without_us(
    pool: HTTPConnectionPool, log: Recorded
) -> None:
    """Dropped without a word, its body and its socket are closed at once, and the call is over."""
    response = pool.request("GET", "/kb", preload_content=False)
    told, sock = weakref.ref(response), weakref.ref(response.connection.sock)  # type: ignore[union-attr]  # it has one
    gc.disable()
    try:
        del response
        assert (told(), sock()) == (None, None)
    finally:
        gc.enable()
    assert log.values("code", "flags") == [(200, None)]


def test_a_connection_released_too_early_ends_its_call(
    pool: HTTPConnectionPool, log: Recorded
) -> None:
    """``release_conn`` before the body was read: urllib3 reconnects, and both calls end."""
    response = pool.request("GET", "/bytes/50000", preload_content=False)
    response.release_conn()
    pool.request("GET", "/kb")
    response.close()
    assert sorted(log.values("path", "code")) == [("/bytes/50000", 200), ("/kb", 200)]


@pytest.mark.parametrize(
    ("coding", "packed"),
    [("gzip", gzip.compress(b"x" * 9000)), ("deflate", zlib.compress(b"x" * 9000))],
    ids=["gzip", "deflate"],
)
@pytest.mark.parametrize("decodes", [True, False])
def test_packed_bodies_count_as_they_came(
    coding: str,
    packed: bytes,
    decodes: bool,  # noqa: FBT001  # a case
    log: Recorded,
) -> None:
    """Bytes are those on the line, unpacked by urllib3 or not."""
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(packed)}\r\n\r\n"
    with sending({"/x": head.encode() + packed}) as wire:
        url = f"{wire.url}/x"
        with urllib3.PoolManager() as manager:
            data = manager.request("GET", url, decode_content=decodes).data
            response = manager.request("GET", url, preload_content=False)
            for _ in response.stream(10, decode_content=decodes):
                pass
    assert data == (b"x" * 9000 if decodes else packed)
    assert log.values("code", "bytes_out", "flags") == [(200, len(packed), None)] * 2


def test_a_body_that_cannot_be_unpacked_is_a_broken_answer(log: Recorded) -> None:
    """Garbage in the place of gzip is UPE, with the status that came."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"
    with sending({"/x": answer}) as wire, pytest.raises(urllib3.exceptions.DecodeError):
        urllib3.PoolManager(retries=False).request("GET", f"{wire.url}/x")
    assert log.values("code", "flags", "details") == [
        (200, "UPE", "urllib3.exceptions.DecodeError")
    ]


def test_tries_on_a_status_make_one_call_with_attempts(
    server: AnsweringServer, log: Recorded
) -> None:
    """Retry on 503: one call, a line for each try, its back-off between them and in none."""
    retries = Retry(total=4, status_forcelist=[503], backoff_factor=0.1)
    with urllib3.PoolManager(retries=retries) as manager:
        assert manager.request("GET", f"{server.url}/flaky/status").status == 200
    end = log.end()
    assert (end["code"], end["attempts"], end["attempt"], end["flags"]) == (200, 3, 1, None)
    tries = log.attempts()
    assert [(one["attempt"], one["code"], one["flags"]) for one in tries] == [
        (1, 503, None),
        (2, 503, None),
        (3, 200, None),
    ]
    assert {one["request_id"] for one in tries} == {end["request_id"]}
    assert max(one["duration_ms"] for one in tries) < 100
    assert end["total_us"] > 150_000


def test_a_server_may_say_how_long_to_wait(log: Recorded) -> None:
    """Retry-After is waited for between two tries of one call."""
    answers = {"/busy": b"HTTP/1.1 429 Slow\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"}
    retries = Retry(1, status_forcelist=[429])
    with sending(answers) as wire, pytest.raises(urllib3.exceptions.MaxRetryError):
        urllib3.PoolManager(retries=retries).request("GET", f"{wire.url}/busy")
    end = log.end()
    assert (end["code"], end["attempts"], end["flags"]) == (429, 2, "URX")
    assert end["details"] == "urllib3.exceptions.ResponseError"
    assert end["total_us"] > 1_000_000
    assert [one["code"] for one in log.attempts()] == [429, 429]


def test_tries_to_connect_are_attempts_too(log: Recorded) -> None:
    """Refused three times: one call with UF, and three tries with it."""
    url = f"http://127.0.0.1:{free_port()}/x"
    with urllib3.PoolManager() as manager, pytest.raises(urllib3.exceptions.MaxRetryError):
        manager.request("GET", url, retries=Retry(connect=2, backoff_factor=0))
    name = "urllib3.exceptions.NewConnectionError"
    assert log.values("code", "flags", "details", "attempts") == [(0, "UF", name, 3)]
    assert [(one["attempt"], one["flags"]) for one in log.attempts()] == [
        (1, "UF"),
        (2, "UF"),
        (3, "UF"),
    ]


@pytest.mark.parametrize(
    ("path", "flags", "details"),
    [
        ("/dropped", "UC", "ProtocolError"),
        ("/slow/1", "UT", "ReadTimeoutError"),
        ("/broken", "UC", "ProtocolError"),
    ],
)
def test_tries_to_read_are_attempts_too(
    path: str, flags: str, details: str, server: AnsweringServer, log: Recorded
) -> None:
    """Lost, silent and broken answers, tried again: each try has its own flag."""
    if path == "/broken" and _IS_OLD:
        pytest.skip("urllib3 1.26 takes a body that is too short")
    with urllib3.PoolManager() as manager, pytest.raises(urllib3.exceptions.HTTPError):
        manager.request(
            "GET", f"{server.url}{path}", timeout=0.2, retries=Retry(1, backoff_factor=0)
        )
    code = 200 if path == "/broken" else 0
    end = log.end()
    assert (end["code"], end["flags"]) == (code, flags)
    assert end["details"] == f"urllib3.exceptions.{details}"
    assert [(one["code"], one["flags"]) for one in log.attempts()] == [(code, flags)] * 2


@pytest.mark.parametrize(
    ("path", "flags"), [("/broken", "UC"), ("/reset", "UC"), ("/chunked/2/1", "UT")]
)
def test_a_streamed_body_may_break_off(
    path: str, flags: str, server: AnsweringServer, log: Recorded
) -> None:
    """After the answer was handed out, what breaks its body off is recorded all the same."""
    with urllib3.PoolManager(retries=False, timeout=0.3) as manager:
        response = manager.request(
            "GET", f"{server.url}{path}", preload_content=False, enforce_content_length=True
        )
        with pytest.raises(urllib3.exceptions.HTTPError):
            for _ in response.stream(100):
                pass
    assert log.values("code", "flags") == [(200, flags)]


def test_chunks_that_end_without_the_last_are_broken(log: Recorded) -> None:
    """A chunked body that stops between two chunks is a fault, not an end."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    with sending({"/c": head + b"5\r\nhello\r\n"}) as wire:
        response = urllib3.PoolManager().request("GET", f"{wire.url}/c", preload_content=False)
        with pytest.raises(urllib3.exceptions.ProtocolError):
            response.read()
    assert log.values("code", "flags") == [(200, "UC")]


def test_each_hop_of_a_redirect_is_a_call(
    pool: HTTPConnectionPool, server: AnsweringServer, log: Recorded
) -> None:
    """On the same host within the pool, on another through the manager: 302, then the rest."""
    pool.request("GET", "/redirect/kb", retries=Retry(2))
    with answering() as other, urllib3.PoolManager() as manager:
        away = f"HTTP/1.1 302 Found\r\nlocation: {other.url}/kb\r\ncontent-length: 0\r\n\r\n"
        with sending({"/go": away.encode()}) as wire:
            manager.request("GET", f"{wire.url}/go")
            expected = [
                (server.authority, "/redirect/kb", 302, 1),
                (server.authority, "/kb", 200, 1),
                (wire.authority, "/go", 302, 1),
                (other.authority, "/kb", 200, 1),
            ]
    assert log.values("authority", "path", "code", "attempts") == expected
    assert log.attempts() == []


def test_after_a_redirect_tries_are_counted_anew(server: AnsweringServer, log: Recorded) -> None:
    """A redirect to what fails twice: a call for the hop, and one with three tries."""
    retries = Retry(5, status_forcelist=[503], backoff_factor=0)
    with HTTPConnectionPool("127.0.0.1", server.server_port) as pool:
        pool.request("GET", "/redirect/flaky/hop", retries=retries)
    assert log.values("path", "code", "attempts") == [
        ("/redirect/flaky/hop", 302, 1),
        ("/flaky/hop", 200, 3),
    ]


def test_waiting_for_a_connection_is_told_from_waiting_for_an_answer(
    server: AnsweringServer, log: Recorded
) -> None:
    """A pool that is too small shows as ``pool_ready_ms`` of the call that had to wait."""
    with HTTPConnectionPool("127.0.0.1", server.server_port, maxsize=1, block=True) as pool:
        slow = threading.Thread(target=pool.request, args=("GET", "/slow/0.4"))
        slow.start()
        time.sleep(0.1)
        pool.request("GET", "/kb")
        slow.join()
    waited = {end["path"]: (end["pool_ready_ms"], end["first_byte_us"]) for end in log.ends()}
    assert waited["/slow/0.4"][0] < 200 < waited["/kb"][0]
    assert waited["/kb"][1] < 200_000 < waited["/slow/0.4"][1]


def test_a_pool_that_stays_empty_is_an_overflow(server: AnsweringServer, log: Recorded) -> None:
    """No connection became free in time: UO, and nothing was sent."""
    with HTTPConnectionPool("127.0.0.1", server.server_port, maxsize=1, block=True) as pool:
        held = pool.request("GET", "/kb", preload_content=False)
        with pytest.raises(urllib3.exceptions.EmptyPoolError):
            pool.request("GET", "/kb", pool_timeout=0.05)
        held.close()
    assert log.values("code", "flags") == [(0, "UO"), (200, None)]


def test_silence_while_connecting_is_no_silence_of_a_service(log: Recorded) -> None:
    """A time-out before there is a connection is UF, not UT."""
    with socket.socket() as full:  # whose queue of connections is full: no answer to the next
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for one in others:
            one.settimeout(0)
            one.connect_ex(full.getsockname())
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            urllib3.PoolManager().request(
                "GET",
                f"http://127.0.0.1:{full.getsockname()[1]}/",
                timeout=Timeout(connect=0.2),
                retries=0,
            )
        for one in others:
            one.close()
    assert log.values("code", "flags", "details") == [
        (0, "UF", "urllib3.exceptions.ConnectTimeoutError")
    ]


def test_a_body_may_make_calls_while_it_is_produced(
    pool: HTTPConnectionPool, server: AnsweringServer, log: Recorded
) -> None:
    """Calls of other pools and of urllib within a call are calls of their own."""

    used = Retry(5).increment("GET", "/", error=ConnectionError())  # of a call before

    def parts() -> Iterator[bytes]:
        url = f"{server.url}/bytes/3"
        yield urllib3.PoolManager().request("GET", url, retries=used).data
        yield urllib.request.build_opener().open(f"{server.url}/bytes/4").read()

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    with sending({"/put": answer}) as wire:
        put = HTTPConnectionPool("127.0.0.1", wire.port)
        put.urlopen("PUT", "/put", body=parts(), chunked=True)
        put.close()
    assert log.values("method", "path", "code", "attempts", "upstream_host") == [
        ("GET", "/bytes/3", 200, 1, server.authority),
        ("GET", "/bytes/4", 200, 1, server.authority),
        ("PUT", "/put", 200, 1, wire.authority),
    ]


def test_what_the_program_does_wrong_in_a_body_is_not_the_services_fault(
    pool: HTTPConnectionPool, log: Recorded
) -> None:
    """An exception of the program's own while it sends is DC, with its class."""

    def parts() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("s3cret")

    with pytest.raises(KeyError):
        pool.urlopen("PUT", "/length", body=parts(), chunked=True)
    assert log.values("code", "flags", "details") == [(0, "DC", "KeyError")]


def test_proxies_are_told_from_services(
    server: AnsweringServer, authority: Authority, log: Recorded
) -> None:
    """Whole addresses and CONNECT: the authority is the service's, the connection the proxy's."""
    pair = authority.issue("ok", "127.0.0.1")
    with proxying() as wire, answering(tls=server_context(pair)) as secure:
        headers = urllib3.make_headers(proxy_basic_auth="me:pw123")
        manager = urllib3.ProxyManager(
            f"http://me:pw123@{wire.authority}/",
            proxy_headers=headers,
            ca_certs=str(authority.file),
        )
        manager.request("GET", f"{server.url}/kb?key=k3y")
        manager.request("GET", f"{secure.url}/kb?key=k3y")
        manager.clear()
        expected = [
            (server.authority, "/kb", wire.authority, 200),
            (secure.authority, "/kb", wire.authority, 200),
        ]
    assert log.values("authority", "path", "upstream_host", "code") == expected
    plain, tunnelled = log.ends()
    assert plain["tls_us"] is None
    assert 0 < tunnelled["tls_us"] < tunnelled["total_us"]
    text = log.text()
    found = [word for word in ("pw123", headers["proxy-authorization"], "k3y") if word in text]
    assert found == []


def test_a_proxy_that_refuses_is_a_failure_to_connect(log: Recorded) -> None:
    """407 to a CONNECT: UF for the service that was asked for, and no password anywhere."""
    with proxying(password="other") as wire:  # noqa: S106  # a test's own
        manager = urllib3.ProxyManager(f"http://me:pw123@{wire.authority}/", retries=False)
        with pytest.raises(urllib3.exceptions.HTTPError):
            manager.request("GET", "https://api.example.com/v1?k=v")
    assert log.values("authority", "path", "code", "flags") == [("api.example.com", "/v1", 0, "UF")]
    assert "pw123" not in log.text()


def test_tls_takes_its_own_share_of_connecting(authority: Authority, log: Recorded) -> None:
    """A handshake's time is not the connection's; a second call has neither."""
    pair = authority.issue("ok", "127.0.0.1")
    manager = urllib3.PoolManager(ca_certs=str(authority.file))
    with answering(tls=server_context(pair)) as secure, manager:
        manager.request("GET", f"{secure.url}/kb")
        manager.request("GET", f"{secure.url}/kb")
    first, second = log.ends()
    assert first["tls_us"] > 0
    assert first["connect_us"] >= 0
    assert first["connect_us"] + first["tls_us"] <= first["to_upstream_us"] < first["total_us"]
    assert (second["connect_us"], second["tls_us"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "days", "reason"),
    [
        ("127.0.0.1", (-9, -8), "certificate_has_expired"),
        ("127.0.0.1", (8, 9), "certificate_is_not_yet_valid"),
        ("other.corp", (-1, 1), _WRONG_NAME),
        ("127.0.0.1", None, "unable_to_get_local_issuer_certificate"),
    ],
    ids=["expired", "too-early", "wrong-name", "unknown-issuer"],
)
def test_a_certificate_that_does_not_hold_says_why(
    name: str, days: tuple[int, int] | None, reason: str, authority: Authority, log: Recorded
) -> None:
    """UF with OpenSSL's reason, and without the names in it; None is an unknown authority."""
    since, until = days or (-1, 1)
    pair = authority.issue("bad", name, since_days=since, until_days=until)
    ca_certs = str(authority.file) if days else None
    with answering(tls=server_context(pair)) as secure:
        manager = urllib3.PoolManager(ca_certs=ca_certs, cert_reqs="REQUIRED", retries=False)
        with pytest.raises(urllib3.exceptions.SSLError):
            manager.request("GET", f"{secure.url}/kb")
    assert log.values("code", "flags", "details", "upstream_failure", "connect_us") == [
        (
            0,
            "UF",
            "urllib3.exceptions.SSLError",
            f"TLS_error:CERTIFICATE_VERIFY_FAILED:{reason}",
            None,
        )
    ]


_REQUIRED = ("UF", "TLS_error:TLSV13_ALERT_CERTIFICATE_REQUIRED")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (ssl.TLSVersion.TLSv1_2, {("UF", "TLS_error:SSLV3_ALERT_HANDSHAKE_FAILURE")}),
        # After the handshake: whoever still writes meets the end before he has read the reason.
        (ssl.TLSVersion.TLSv1_3, {_REQUIRED, ("UC", None)}),
    ],
)
def test_a_server_that_wants_a_certificate_says_so(
    version: ssl.TLSVersion,
    expected: set[tuple[str, str | None]],
    authority: Authority,
    log: Recorded,
) -> None:
    """A refused client has the alert in its record, or an end without a word, as Envoy has it."""
    context = server_context(authority.issue("ok", "127.0.0.1"))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    with answering(tls=context) as secure:
        for _ in range(10):
            manager = urllib3.PoolManager(ca_certs=str(authority.file), retries=False)
            with pytest.raises(urllib3.exceptions.HTTPError):
                manager.request("GET", f"{secure.url}/kb")
    assert {end["code"] for end in log.ends()} == {0}
    assert set(log.values("flags", "upstream_failure")) <= expected


def test_eight_threads_lose_nothing(server: AnsweringServer, log: Recorded) -> None:
    """The server counts as many calls as there are end lines; each has a number of its own."""
    before = server.count("/kb")
    pool = HTTPConnectionPool("127.0.0.1", server.server_port, maxsize=8)

    def call() -> None:
        for _ in range(500):
            pool.request("GET", "/kb")

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.close()
    ends = log.ends()
    samples = [line for line in log.lines() if line["_record"] == "sample"]
    assert server.count("/kb") - before == len(ends) == samples[-1]["requests_total"] == 4000
    assert len({end["request_id"] for end in ends}) == 4000
    assert {end["code"] for end in ends} == {200}
    assert (samples[-1]["requests_active"], samples[-1]["dropped"]) == (0, 0)


def test_stopping_puts_back_the_very_methods(tmp_path: Path) -> None:
    """Every class has in its dictionary what it had before."""
    kinds = (
        HTTPConnectionPool,
        urllib3.connection.HTTPConnection,
        urllib3.connection.HTTPSConnection,
    )
    before = [dict(vars(kind)) for kind in kinds]
    with recorded(tmp_path):
        assert vars(HTTPConnectionPool)["urlopen"] is not before[0]["urlopen"]
    after = [dict(vars(kind)) for kind in kinds]
    assert [
        name
        for one, other in zip(before, after, strict=True)
        for name in {*one, *other}
        if one.get(name) is not other.get(name)
    ] == []


class _Others:
    """Another instrumentation, as wrapt makes them: it counts calls of a pool."""

    def __init__(self) -> None:
        self.calls = 0
        self.found = vars(HTTPConnectionPool)["urlopen"]
        found = self.found

        def urlopen(pool: Any, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return found(pool, *args, **kwargs)

        self.ours = update_wrapper(urlopen, found)
        HTTPConnectionPool.urlopen = self.ours  # type: ignore[assignment]  # what others do

    def undo(self) -> None:
        HTTPConnectionPool.urlopen = self.found  # type: ignore[method-assign]  # as above


def test_someone_who_patched_first_is_called_and_put_back(
    pool: HTTPConnectionPool, tmp_path: Path
) -> None:
    """Their method is below ours, counts too, and is there again afterwards."""
    others = _Others()
    try:
        with recorded(tmp_path) as log:
            pool.request("GET", "/kb")
        assert vars(HTTPConnectionPool)["urlopen"] is others.ours
        pool.request("GET", "/kb")
    finally:
        others.undo()
    assert (len(log.ends()), others.calls) == (1, 2)


@pytest.mark.parametrize("they_go_first", [True, False])
def test_someone_who_patched_after_us_is_not_undone(
    they_go_first: bool,  # noqa: FBT001  # a case
    pool: HTTPConnectionPool,
    tmp_path: Path,
) -> None:
    """Whoever goes first, their calls are counted while they are in, ours while we record."""
    before = vars(HTTPConnectionPool)["urlopen"]
    try:
        with recorded(tmp_path) as log:
            others = _Others()
            pool.request("GET", "/kb")
            if they_go_first:
                others.undo()
                pool.request("GET", "/kb")
        pool.request("GET", "/kb")
        if not they_go_first:
            assert vars(HTTPConnectionPool)["urlopen"] is others.ours
            others.undo()
            pool.request("GET", "/kb")
    finally:
        HTTPConnectionPool.urlopen = before  # type: ignore[method-assign]  # as above
    recorded_calls, counted = (2, 1) if they_go_first else (1, 2)
    assert (len(log.ends()), others.calls) == (recorded_calls, counted)
    assert {end["attempts"] for end in log.ends()} == {1}


@pytest.mark.parametrize(
    "ask",
    [
        lambda pool: pool.urlopen("GET", b"/kb"),
        lambda pool: pool.urlopen(7, "/kb"),
        lambda pool: pool.urlopen("GET", "/kb", headers={7: "x"}),
        lambda pool: pool.urlopen("GET", "/kb", retries=object()),
        lambda pool: pool.urlopen("GET", "http://other:bad/kb"),
        lambda pool: pool.urlopen("GET", "http://other.invalid/kb"),
        lambda pool: pool.urlopen("GET", "/kb", nonsense=1),
        lambda pool: pool.urlopen(),
    ],
)
def test_weird_arguments_do_what_they_do_without_us(
    ask: Callable[[Any], Any], pool: HTTPConnectionPool, log: Recorded
) -> None:
    """The same exception or answer, recorded or not."""
    seen = []
    for is_on in (True, False):
        if not is_on:
            assert log.recording.recorder.open == {}
            log.recording.stop()
        try:
            seen.append(ask(pool).status)
        except Exception as error:
            seen.append(type(error))
    assert seen[0] == seen[1]
