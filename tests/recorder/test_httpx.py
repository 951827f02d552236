"""What is recorded of httpx, with both of its clients, against real servers."""

import asyncio
import gc
import ssl
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from meshml_dbx.traffic.context import CURRENT_STAGE
from tests.free_ports import free_port
from tests.recorder.answering import AnsweringServer, answering
from tests.recorder.recorded import Recorded, recorded
from tests.recorder.wire import proxying
from tests.small_pki import Authority, server_context

CLIENTS = ("Client", "AsyncClient")
Results = list[int | Exception]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """One of the two clients, by its name."""
    return str(request.param)


def fetch(client: str, *urls: str, **options: Any) -> Results:
    """Status or exception of one GET after another with one client."""
    if client == "AsyncClient":
        return asyncio.run(fetch_async(*urls, **options))
    results: Results = []
    with httpx.Client(timeout=options.pop("timeout", 5), **options) as one:
        for url in urls:
            try:
                results.append(one.get(url).status_code)
            except Exception as error:
                results.append(error)
    return results


async def fetch_async(*urls: str, **options: Any) -> Results:
    """The same with the asynchronous client."""
    results: Results = []
    async with httpx.AsyncClient(timeout=options.pop("timeout", 5), **options) as one:
        for url in urls:
            try:
                results.append((await one.get(url)).status_code)
            except Exception as error:
                results.append(error)
    return results


def trusting(authority: Authority) -> ssl.SSLContext:
    """What a client needs to trust the services here."""
    return ssl.create_default_context(cafile=str(authority.file))


def test_a_call_is_recorded_from_its_begin_to_the_end_of_its_body(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """One call makes a start line and an end line with host, path, status, bytes and times."""
    fetch(client, f"{server.url}/kb?token=s3cret")

    end = log.end()
    assert [line["request_id"] for line in log.starts()] == [end["request_id"]]
    assert (end["method"], end["authority"], end["path"]) == ("GET", server.authority, "/kb")
    assert (end["code"], end["flags"], end["details"]) == (200, None, None)
    assert (end["bytes_in"], end["bytes_out"], end["attempts"], end["attempt"]) == (0, 1024, 1, 1)
    assert (end["observer"], end["protocol"]) == ("client", "HTTP/1.1")
    assert end["upstream_host"] == server.authority
    assert end["upstream_local_address"].startswith("127.0.0.1:")
    assert 0 < end["connect_us"] < end["total_us"]
    assert end["tls_us"] is None
    assert end["pool_ready_ms"] is not None
    parts = [end[key] for key in ("to_upstream_us", "send_us", "first_byte_us", "receive_us")]
    assert end["total_us"] - sum(parts) in range(5)


def test_no_query_user_or_password_is_written(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """Of an address only host and path are in the log."""
    fetch(client, f"http://someone:passw0rd@{server.authority}/kb?token=s3cret")

    assert log.values("authority", "path") == [(server.authority, "/kb")]
    assert not any(word in log.text() for word in ("someone", "passw0rd", "s3cret"))


def test_only_the_call_that_opened_a_connection_has_connect_times(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """Calls that reuse a connection share its number and have no time to connect."""
    fetch(client, *[f"{server.url}/kb"] * 3)

    ends = log.ends()
    assert [end["connect_us"] is None for end in ends] == [False, True, True]
    assert [end["upstream_connection_id"] for end in ends] == [1, 1, 1]
    assert {end["upstream_host"] for end in ends} == {server.authority}


def test_a_handshake_has_its_own_time(client: str, authority: Authority, log: Recorded) -> None:
    """Over TLS, connecting and the handshake are told apart; a kept connection has neither."""
    tls = server_context(authority.issue("service", "127.0.0.1"))
    with answering(tls=tls) as server:
        fetch(client, *[f"{server.url}/kb"] * 2, verify=trusting(authority))

        first, second = log.ends()
        assert first["authority"] == server.authority
        assert first["upstream_host"] == server.authority
    assert first["connect_us"] > 0
    assert first["tls_us"] > 0
    assert first["connect_us"] + first["tls_us"] <= first["to_upstream_us"]
    assert (second["connect_us"], second["tls_us"]) == (None, None)
    assert first["upstream_connection_id"] == second["upstream_connection_id"]


def test_a_slow_body_is_time_of_receiving(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """A call lasts until the last chunk of its answer."""
    fetch(client, f"{server.url}/chunked/3/0.1")

    end = log.end()
    assert end["bytes_out"] == 15
    assert end["receive_us"] >= 150_000 > end["first_byte_us"]


def test_a_slow_service_is_time_to_the_first_byte(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """What a service takes to answer is neither sending nor receiving."""
    fetch(client, f"{server.url}/slow/0.2")

    end = log.end()
    assert end["first_byte_us"] >= 150_000 > end["send_us"] + end["receive_us"]


def test_each_hop_of_a_redirect_is_a_call(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """What leads elsewhere and what is there are two calls."""
    fetch(client, f"{server.url}/redirect/bytes/7", follow_redirects=True)

    assert log.values("path", "code", "bytes_out", "attempt") == [
        ("/redirect/bytes/7", 302, 0, 1),
        ("/bytes/7", 200, 7, 1),
    ]


def test_a_program_that_tries_again_makes_attempts(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """The same thing asked for right after it failed is the next attempt."""
    fetch(client, *[f"{server.url}/flaky/{client}"] * 4)

    assert log.values("code", "attempt") == [(503, 1), (503, 2), (200, 3), (200, 1)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/broken", (200, "UC", "httpcore.RemoteProtocolError", 1024)),
        ("/reset", (200, "UC", "httpcore.ReadError", 1024)),
        ("/dropped", (0, "UC", "httpx.RemoteProtocolError", None)),
        ("/never", (0, "UT", "httpx.ReadTimeout", None)),
        ("/chunked/2/3", (200, "UT", "httpcore.ReadTimeout", 5)),
        ("/status/404", (404, None, None, 8)),
    ],
)
def test_what_goes_wrong_after_connecting_has_its_flag(
    client: str, server: AnsweringServer, log: Recorded, path: str, expected: tuple[Any, ...]
) -> None:
    """A fault is told by Envoy's flag and the exception's class, with what came before it."""
    fetch(client, f"{server.url}{path}", timeout=0.5)

    assert log.values("code", "flags", "details", "bytes_out", "upstream_host") == [
        (*expected, server.authority)
    ]


@pytest.mark.parametrize(("host", "flags"), [("nosuch.invalid", "DF"), ("127.0.0.1:{free}", "UF")])
def test_who_cannot_be_reached_has_its_flag(
    client: str, log: Recorded, host: str, flags: str
) -> None:
    """A name that nobody knows and a port where nobody listens are told apart."""
    (error,) = fetch(client, f"http://{host.format(free=free_port())}/kb")

    assert isinstance(error, httpx.ConnectError)
    assert log.values("code", "flags", "details", "connect_us") == [
        (0, flags, "httpx.ConnectError", None)
    ]


def test_a_certificate_that_is_not_trusted_is_named(
    client: str, authority: Authority, log: Recorded
) -> None:
    """A failed handshake is a failure to connect, with OpenSSL's reason."""
    tls = server_context(authority.issue("stranger", "127.0.0.1"))
    with answering(tls=tls) as server:
        fetch(client, f"{server.url}/kb")

    end = log.end()
    assert end["flags"] == "UF"
    assert end["details"] in ("httpx.ConnectError", "ssl.SSLCertVerificationError")  # until 0.27
    assert end["upstream_failure"].startswith("TLS_error:CERTIFICATE_VERIFY_FAILED:")
    assert (end["tls_us"], end["send_us"]) == (None, None)


def test_a_service_that_wants_a_certificate_is_named(
    client: str, authority: Authority, log: Recorded
) -> None:
    """A handshake that the other side refuses is told with its alert."""
    tls = server_context(authority.issue("strict", "127.0.0.1"))
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones refuse after the handshake
    tls.load_verify_locations(authority.file)
    tls.verify_mode = ssl.CERT_REQUIRED
    with answering(tls=tls) as server:
        fetch(client, f"{server.url}/kb", verify=trusting(authority))

    ((flags, reason),) = log.values("flags", "upstream_failure")
    assert flags == "UF"
    assert reason.startswith("TLS_error:")
    assert "ALERT_HANDSHAKE_FAILURE" in reason


def test_waiting_in_vain_for_the_own_pool_is_no_fault_of_the_service(
    server: AnsweringServer, log: Recorded
) -> None:
    """A pool whose connections are all in use overflows."""

    async def crowd() -> None:
        limits, timeout = httpx.Limits(max_connections=1), httpx.Timeout(5, pool=0.05)
        async with httpx.AsyncClient(limits=limits, timeout=timeout) as client:
            urls = (f"{server.url}/slow/0.4", f"{server.url}/kb")
            await asyncio.gather(*map(client.get, urls), return_exceptions=True)

    asyncio.run(crowd())

    assert sorted(log.values("path", "flags"), reverse=True) == [
        ("/slow/0.4", None),
        ("/kb", "UO"),
    ]


def test_a_cancelled_task_cancels_its_call(server: AnsweringServer, log: Recorded) -> None:
    """What the program itself gives up is no time-out of the service."""

    async def give_up() -> None:
        async with httpx.AsyncClient() as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(f"{server.url}/never"), 0.1)

    asyncio.run(give_up())

    assert log.values("code", "flags") == [(0, "DC")]


def test_a_fault_is_not_that_of_the_call_before(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """A call that is made while another one's exception is handled has its own flag."""
    try:
        raise ConnectionRefusedError
    except ConnectionRefusedError:
        fetch(client, f"{server.url}/never", timeout=0.1)

    assert log.values("flags") == [("UT",)]


def test_a_reader_that_goes_away_ends_its_call(server: AnsweringServer, log: Recorded) -> None:
    """Leaving a stream early is the end of the call and no fault."""
    with httpx.Client() as client:
        with client.stream("GET", f"{server.url}/chunked/9/0.1") as response:
            next(response.iter_raw())
        with client.stream("GET", f"{server.url}/chunked/9/0.1"):
            assert len(log.ends()) == 1

    assert log.values("code", "flags", "bytes_out") == [(200, None, 5), (200, None, 0)]


def test_a_stream_of_the_asynchronous_client_ends_with_its_reader(
    server: AnsweringServer, log: Recorded
) -> None:
    """Leaving a stream early is the end of the call and no fault."""

    async def read_some() -> None:
        async with (
            httpx.AsyncClient() as client,
            client.stream("GET", f"{server.url}/chunked/9/0.1") as response,
        ):
            async for _ in response.aiter_raw():
                break

    asyncio.run(read_some())

    assert log.values("code", "flags", "bytes_out") == [(200, None, 5)]


def test_a_response_that_is_thrown_away_unread_ends_its_call(
    server: AnsweringServer, log: Recorded
) -> None:
    """Recording keeps no response alive, and sees it go."""
    with httpx.Client() as client:
        response = client.send(client.build_request("GET", f"{server.url}/kb"), stream=True)
        assert log.ends() == []
        del response
        gc.collect()

        assert log.values("code", "bytes_out") == [(200, None)]


def test_the_size_of_what_is_sent_is_written_where_it_is_known(
    server: AnsweringServer, log: Recorded
) -> None:
    """A body that is produced on the way has no size when the call begins."""
    with httpx.Client() as client:
        client.post(f"{server.url}/length", content=b"abc")
        client.put(f"{server.url}/length", json={"a": 1})

    sizes = [size for (size,) in log.values("bytes_in")]
    assert sizes[0] == 3
    assert sizes[1] in (7, 8)  # httpx writes JSON without spaces since 0.28


def test_the_programs_own_trace_is_told_the_same(server: AnsweringServer, log: Recorded) -> None:
    """Recording listens beside a program's trace, and leaves no trace on its request."""
    events: list[str] = []
    own = {"trace": lambda event, _info: events.append(event)}
    with httpx.Client() as client:
        response = client.get(f"{server.url}/kb", extensions=own)

    assert response.request.extensions["trace"] is own["trace"]
    assert "http11.receive_response_body.complete" in events
    assert log.end()["code"] == 200


def test_an_asynchronous_trace_is_waited_for(server: AnsweringServer, log: Recorded) -> None:
    """A program's coroutine runs at each step, as without recording."""
    events: list[str] = []

    async def trace(event: str, _info: Any) -> None:
        await asyncio.sleep(0)
        events.append(event)

    async def call() -> None:
        async with httpx.AsyncClient() as client:
            await client.get(f"{server.url}/kb", extensions={"trace": trace})

    asyncio.run(call())

    assert "http11.receive_response_body.complete" in events
    assert log.end()["code"] == 200


def test_one_request_may_be_sent_by_many_tasks(server: AnsweringServer, log: Recorded) -> None:
    """Each sending is a call with its own times, and the request is left as it was."""

    async def crowd() -> httpx.Request:
        async with httpx.AsyncClient() as client:
            request = client.build_request("GET", f"{server.url}/slow/0.1")
            await asyncio.gather(*(client.send(request) for _ in range(5)))
            return request

    assert list(asyncio.run(crowd()).extensions) == ["timeout"]
    assert [end["connect_us"] > 0 for end in log.ends()] == [True] * 5
    assert len({end["upstream_connection_id"] for end in log.ends()}) == 5


def test_connecting_again_belongs_to_one_call(client: str, log: Recorded) -> None:
    """A transport's ``retries`` are tries to connect: the call is one."""
    kind = httpx.HTTPTransport if client == "Client" else httpx.AsyncHTTPTransport
    fetch(client, f"http://127.0.0.1:{free_port()}/kb", transport=kind(retries=1))

    assert log.values("flags", "attempts") == [("UF", 1)]


def test_through_a_proxy_the_call_is_to_whom_it_asks(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """A forward proxy is who is connected to, and not who is called."""
    with proxying() as proxy:
        transport = httpx.HTTPTransport if client == "Client" else httpx.AsyncHTTPTransport
        mounts = {"http://": transport(proxy=httpx.Proxy(proxy.url))}
        assert fetch(client, f"{server.url}/kb", mounts=mounts) == [200]
        end = log.end()
        assert (end["authority"], end["upstream_host"]) == (server.authority, proxy.authority)


def test_a_tunnel_is_part_of_connecting(client: str, authority: Authority, log: Recorded) -> None:
    """Asking a proxy for a tunnel is no call, and takes time before the request is sent."""
    tls = server_context(authority.issue("behind", "127.0.0.1"))
    with answering(tls=tls) as server, proxying() as proxy:
        transport = httpx.HTTPTransport if client == "Client" else httpx.AsyncHTTPTransport
        one = transport(proxy=httpx.Proxy(proxy.url), verify=trusting(authority))
        assert fetch(client, f"{server.url}/kb", mounts={"https://": one}) == [200]
        end = log.end()
        assert (end["authority"], end["code"]) == (server.authority, 200)
        assert end["connect_us"] + end["tls_us"] <= end["to_upstream_us"]
        assert end["tls_us"] > 0


def test_calls_of_many_tasks_keep_their_own_stage(server: AnsweringServer, log: Recorded) -> None:
    """Fifty calls in one loop have the stage of their task, and their own path and times."""

    async def call(client: httpx.AsyncClient, number: int) -> None:
        CURRENT_STAGE.set(f"stage {number}")
        await client.get(f"{server.url}/bytes/{number}")

    async def crowd() -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            await asyncio.gather(*(call(client, number) for number in range(50)))

    asyncio.run(crowd())

    found = sorted(log.values("path", "stage", "bytes_out"), key=lambda one: int(one[2]))
    assert found == [(f"/bytes/{n}", f"stage {n}", n) for n in range(50)]


def test_no_call_of_many_threads_is_lost(server: AnsweringServer, log: Recorded) -> None:
    """Every call that the service counts is recorded, once."""
    before = server.count("/bytes/99")
    with httpx.Client() as client:

        def call() -> None:
            for _ in range(25):
                client.get(f"{server.url}/bytes/99")

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(log.ends()) == server.count("/bytes/99") - before == 200
    assert len({end["request_id"] for end in log.ends()}) == 200


def test_a_request_that_cannot_be_sent_is_the_programs_own_fault(
    client: str, server: AnsweringServer, log: Recorded
) -> None:
    """Headers that no one may send make httpx say what it always says, and no fault of others."""
    (error,) = fetch(client, f"{server.url}/kb", headers={"content-length": "many"})

    assert isinstance(error, httpx.LocalProtocolError)
    assert log.values("flags", "details") == [("DC", "httpx.LocalProtocolError")]


def test_a_client_lives_across_begin_and_end(server: AnsweringServer, tmp_path: Path) -> None:
    """A client from before is recorded, and goes on when recording is over."""
    methods = (httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request)
    with httpx.Client() as client:
        client.get(f"{server.url}/kb")
        with recorded(tmp_path) as log:
            client.get(f"{server.url}/kb")
            end = log.end()
            request = client.build_request("GET", f"{server.url}/chunked/3/0.05")
            streaming = client.send(request, stream=True)
        assert len(streaming.read()) == 15
        assert client.get(f"{server.url}/kb").status_code == 200

    assert end["connect_us"] is None
    assert end["upstream_host"] == server.authority
    assert methods == (
        httpx.HTTPTransport.handle_request,
        httpx.AsyncHTTPTransport.handle_async_request,
    )
