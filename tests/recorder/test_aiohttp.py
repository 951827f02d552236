"""What is recorded of aiohttp against real servers: sessions, faults, tasks, and their end."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from meshml_dbx.traffic.context import CURRENT_STAGE
from tests.free_ports import free_port
from tests.recorder.answering import AnsweringServer, answering
from tests.recorder.recorded import Recorded, recorded
from tests.recorder.wire import proxying
from tests.small_pki import Authority, server_context

Session = Any
"""aiohttp.ClientSession, whose types are not read here."""


def fetch(*urls: str, seconds: float = 5, **options: Any) -> None:
    """GET one after another in one session, and read the answers; what fails is let go."""

    async def call() -> None:
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for url in urls:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url, **options) as response:
                        await response.read()

    asyncio.run(call())


def in_session(work: Callable[[Session], Awaitable[None]], **options: Any) -> None:
    """Do something with a session of its own."""

    async def call() -> None:
        async with aiohttp.ClientSession(**options) as session:
            await work(session)

    asyncio.run(call())


def trusting(authority: Authority) -> ssl.SSLContext:
    """What a client needs to trust the services here."""
    return ssl.create_default_context(cafile=str(authority.file))


def test_a_call_is_recorded_from_its_begin_to_the_end_of_its_body(
    server: AnsweringServer, log: Recorded
) -> None:
    """One call makes a start line and an end line with host, path, status, bytes and times."""
    fetch(f"{server.url}/kb?token=s3cret")

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
    parts = [end[key] for key in ("to_upstream_us", "send_us", "first_byte_us", "receive_us")]
    assert end["total_us"] - sum(parts) in range(5)


def test_no_query_user_or_password_is_written(server: AnsweringServer, log: Recorded) -> None:
    """Of an address only host and path are in the log."""
    fetch(f"http://someone:passw0rd@{server.authority}/kb?token=s3cret")

    assert log.values("authority", "path") == [(server.authority, "/kb")]
    assert not any(word in log.text() for word in ("someone", "passw0rd", "s3cret"))


def test_only_the_call_that_opened_a_connection_has_connect_times(
    server: AnsweringServer, log: Recorded
) -> None:
    """Calls that reuse a connection share its number and have no time to connect."""
    fetch(*[f"{server.url}/kb"] * 3)

    ends = log.ends()
    assert [end["connect_us"] is None for end in ends] == [False, True, True]
    assert [end["upstream_connection_id"] for end in ends] == [1, 1, 1]
    assert {end["upstream_host"] for end in ends} == {server.authority}


def test_a_handshake_has_its_own_time(authority: Authority, log: Recorded) -> None:
    """Over TLS, connecting and the handshake are told apart; a kept connection has neither."""
    tls = server_context(authority.issue("service", "127.0.0.1"))
    with answering(tls=tls) as server:
        fetch(*[f"{server.url}/kb"] * 3, ssl=trusting(authority))
        opened = server.connections  # 3.10 does not keep the first one

    first, _, third = ends = log.ends()
    assert first["connect_us"] > 0
    assert first["tls_us"] > 0
    assert first["connect_us"] + first["tls_us"] <= first["to_upstream_us"]
    assert (third["connect_us"], third["tls_us"]) == (None, None)
    assert len([end for end in ends if end["tls_us"]]) == opened
    assert len({end["upstream_connection_id"] for end in ends}) == opened


def test_a_slow_body_is_time_of_receiving(server: AnsweringServer, log: Recorded) -> None:
    """A call lasts until the last chunk of its answer."""
    fetch(f"{server.url}/chunked/3/0.1")

    end = log.end()
    assert end["bytes_out"] == 15
    assert end["receive_us"] >= 150_000 > end["first_byte_us"]


def test_a_slow_service_is_time_to_the_first_byte(server: AnsweringServer, log: Recorded) -> None:
    """What a service takes to answer is neither sending nor receiving."""
    fetch(f"{server.url}/slow/0.2")

    end = log.end()
    assert end["first_byte_us"] >= 150_000 > end["send_us"] + end["receive_us"]


def test_each_hop_of_a_redirect_is_a_call(server: AnsweringServer, log: Recorded) -> None:
    """What leads elsewhere and what is there are two calls, with the right methods."""

    async def post(session: Session) -> None:
        async with session.post(f"{server.url}/redirect/bytes/7", data=b"abc") as response:
            await response.read()

    in_session(post)

    assert log.values("method", "path", "code", "bytes_in", "bytes_out", "attempt") == [
        ("POST", "/redirect/bytes/7", 302, 3, 0, 1),
        ("GET", "/bytes/7", 200, 0, 7, 1),
    ]


def test_a_program_that_tries_again_makes_attempts(server: AnsweringServer, log: Recorded) -> None:
    """The same thing asked for right after it failed is the next attempt."""
    fetch(*[f"{server.url}/flaky/aiohttp"] * 4)

    assert log.values("code", "attempt") == [(503, 1), (503, 2), (200, 3), (200, 1)]


def test_what_aiohttp_tries_again_by_itself_is_an_attempt(
    server: AnsweringServer, log: Recorded
) -> None:
    """Every request that reaches the service is a call, also those that the program did not make.

    Since 3.10 aiohttp asks again where a service closes the connection without an answer.
    """
    before = server.count("/dropped")
    fetch(f"{server.url}/dropped")

    assert log.values("flags", "details", "attempt") == [
        ("UC", "aiohttp.client_exceptions.ServerDisconnectedError", number + 1)
        for number in range(server.count("/dropped") - before)
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/broken", (200, "UC", "aiohttp.client_exceptions.ClientPayloadError", 1024)),
        ("/reset", (200, "UC", "aiohttp.client_exceptions.ClientPayloadError", 1024)),
        ("/never", (0, "UT", "TimeoutError", None)),
        ("/chunked/2/3", (200, "UT", "TimeoutError", 5)),
        ("/status/404", (404, None, None, 8)),
    ],
)
def test_what_goes_wrong_after_connecting_has_its_flag(
    server: AnsweringServer, log: Recorded, path: str, expected: tuple[Any, ...]
) -> None:
    """A fault is told by Envoy's flag and the exception's class, with what came before it."""
    fetch(f"{server.url}{path}", seconds=0.5)

    assert log.values("code", "flags", "details", "bytes_out", "upstream_host") == [
        (*expected, server.authority)
    ]


def test_a_silent_connection_is_the_services_silence(
    server: AnsweringServer, log: Recorded
) -> None:
    """A time-out of one read is told as that of the whole call."""
    fetch(f"{server.url}/never", timeout=aiohttp.ClientTimeout(sock_read=0.1))

    ((flags, details),) = log.values("flags", "details")
    assert flags == "UT"
    assert details in (  # another name since 3.10
        "aiohttp.client_exceptions.SocketTimeoutError",
        "aiohttp.client_exceptions.ServerTimeoutError",
    )


@pytest.mark.parametrize(("host", "flags"), [("nosuch.invalid", "DF"), ("127.0.0.1:{}", "UF")])
def test_who_cannot_be_reached_has_its_flag(log: Recorded, host: str, flags: str) -> None:
    """A name that nobody knows and a port where nobody listens are told apart."""
    fetch(f"http://{host.format(free_port())}/kb")

    assert log.values("code", "flags", "connect_us", "send_us") == [(0, flags, None, None)]
    assert "aiohttp.client_exceptions.ClientConnector" in log.end()["details"]


def test_a_time_out_before_there_is_a_connection_is_a_failure_to_connect(
    server: AnsweringServer, log: Recorded
) -> None:
    """A total time-out that ends in the wait for a connection is no silence of the service."""

    async def crowd(session: Session) -> None:
        slow = asyncio.ensure_future(session.get(f"{server.url}/slow/0.5"))
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            await session.get(f"{server.url}/kb", timeout=aiohttp.ClientTimeout(total=0.1))
        (await slow).close()

    asyncio.run(_limited(crowd))

    assert log.values("path", "flags") == [("/kb", "UF"), ("/slow/0.5", None)]


async def _limited(work: Callable[[Session], Awaitable[None]]) -> None:
    """With a session that has one connection."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        await work(session)


def test_waiting_for_a_connection_is_not_connecting(server: AnsweringServer, log: Recorded) -> None:
    """What a call waits for others to give back their connection is before it is ready."""

    async def crowd(session: Session) -> None:
        async def call() -> None:
            async with session.get(f"{server.url}/slow/0.2") as response:
                await response.read()

        await asyncio.gather(call(), call())

    asyncio.run(_limited(crowd))

    first, second = log.ends()
    assert first["pool_ready_ms"] < 150 <= second["pool_ready_ms"]
    assert second["connect_us"] is None


def test_a_certificate_that_is_not_trusted_is_named(authority: Authority, log: Recorded) -> None:
    """A failed handshake is a failure to connect, with OpenSSL's reason."""
    tls = server_context(authority.issue("stranger", "127.0.0.1"))
    with answering(tls=tls) as server:
        fetch(f"{server.url}/kb")

    end = log.end()
    assert end["flags"] == "UF"
    assert end["details"] == "aiohttp.client_exceptions.ClientConnectorCertificateError"
    assert end["upstream_failure"].startswith("TLS_error:CERTIFICATE_VERIFY_FAILED:")


def test_a_service_that_wants_a_certificate_is_named(authority: Authority, log: Recorded) -> None:
    """A handshake that the other side refuses is told with its alert."""
    tls = server_context(authority.issue("strict", "127.0.0.1"))
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones refuse after the handshake
    tls.load_verify_locations(authority.file)
    tls.verify_mode = ssl.CERT_REQUIRED
    with answering(tls=tls) as server:
        fetch(f"{server.url}/kb", ssl=trusting(authority))

    ((flags, reason),) = log.values("flags", "upstream_failure")
    assert flags == "UF"
    assert reason.startswith("TLS_error:")
    assert "ALERT_HANDSHAKE_FAILURE" in reason


@pytest.mark.parametrize("path", ["/never", "/chunked/2/3"])
def test_a_cancelled_task_cancels_its_call(
    server: AnsweringServer, log: Recorded, path: str
) -> None:
    """What the program itself gives up, waiting or reading, is no time-out of the service."""

    async def read(session: Session) -> None:
        async with session.get(f"{server.url}{path}") as response:
            await response.read()

    async def give_up(session: Session) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(session), 0.2)

    in_session(give_up)

    assert log.values("flags", "details") == [("DC", "asyncio.exceptions.CancelledError")]


def test_a_fault_is_not_that_of_the_call_before(server: AnsweringServer, log: Recorded) -> None:
    """A call that is made while another one's exception is handled has its own flag, or none."""

    async def call(session: Session) -> None:
        try:
            await session.get(f"http://127.0.0.1:{free_port()}/")
        except aiohttp.ClientConnectorError:
            async with session.get(f"{server.url}/chunked/9/0.1"):
                pass
            with suppress(TimeoutError):
                await session.get(f"{server.url}/never", timeout=aiohttp.ClientTimeout(total=0.1))

    in_session(call)

    assert log.values("path", "flags") == [("/", "UF"), ("/chunked/9/0.1", None), ("/never", "UT")]


def test_a_reader_that_goes_away_ends_its_call(server: AnsweringServer, log: Recorded) -> None:
    """Leaving a body unread, or half read, is the end of the call and no fault."""

    async def read_some(session: Session) -> None:
        async with session.get(f"{server.url}/chunked/9/0.1") as response:
            await response.content.readany()
        assert len(log.ends()) == 1
        async with session.get(f"{server.url}/kb"):
            pass
        (await session.get(f"{server.url}/chunked/9/0.1")).close()
        with pytest.raises(ValueError, match="the program's own"):
            async with session.get(f"{server.url}/chunked/9/0.1"):
                raise ValueError("the program's own")

    in_session(read_some)

    assert log.values("code", "flags") == [(200, None)] * 4


def test_a_response_that_is_thrown_away_unread_ends_its_call(
    server: AnsweringServer, log: Recorded
) -> None:
    """Recording keeps no response alive, and sees it go."""

    async def forget(session: Session) -> None:
        await session.get(f"{server.url}/kb")
        await asyncio.sleep(0.1)
        gc.collect()
        assert len(log.ends()) == 1

    in_session(forget)

    assert log.values("code", "bytes_out") == [(200, 1024)]


def test_an_error_status_that_is_raised_is_an_answer(
    server: AnsweringServer, log: Recorded
) -> None:
    """``raise_for_status`` makes an exception of an answer, not a fault of the network."""

    async def call(session: Session) -> None:
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(f"{server.url}/status/500")

    in_session(call, raise_for_status=True)

    assert log.values("code", "flags", "bytes_out") == [(500, None, 8)]


def test_a_large_request_is_out_when_its_last_chunk_is(
    server: AnsweringServer, log: Recorded
) -> None:
    """A body that is produced slowly is time of sending, and has no size when the call begins."""

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x"
            await asyncio.sleep(0.1)

    async def call(session: Session) -> None:
        await (await session.post(f"{server.url}/length", data=slowly())).read()
        await (await session.post(f"{server.url}/length", data=b"abc")).read()

    in_session(call)

    first, second = log.ends()
    assert first["bytes_in"] is None
    assert first["send_us"] >= 200_000
    assert second["bytes_in"] == 3


def test_the_programs_own_traces_stay_as_they_are(server: AnsweringServer, log: Recorded) -> None:
    """A session has its own traces only, and they have the program's own context."""
    seen: list[Any] = []

    async def note(_session: Any, context: Any, _params: Any) -> None:
        seen.append(context.trace_request_ctx)

    async def call(session: Session) -> None:
        await (await session.get(f"{server.url}/kb", trace_request_ctx={"mine": 1})).read()
        await (await session.post(f"{server.url}/length", data=b"a", trace_request_ctx=2)).read()
        assert session.trace_configs == [config]

    config = aiohttp.TraceConfig()
    config.on_request_end.append(note)
    in_session(call, trace_configs=[config])

    assert seen == [{"mine": 1}, 2]
    assert log.values("path") == [("/kb",), ("/length",)]


@asynccontextmanager
async def _chat() -> AsyncIterator[str]:
    """A service that speaks WebSocket."""

    async def echo(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        socket = aiohttp.web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = aiohttp.web.Application()
    app.router.add_get("/chat", echo)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", port := free_port())
    await site.start()
    try:
        yield f"ws://127.0.0.1:{port}/chat"
    finally:
        await runner.cleanup()


def test_of_a_web_socket_the_handshake_is_the_call(log: Recorded) -> None:
    """What follows the switch of protocols is not HTTP, and goes on as without recording."""

    async def chat(session: Session) -> None:
        async with _chat() as url, session.ws_connect(url) as socket:
            assert log.values("code", "flags", "bytes_out") == [(101, None, 0)]
            await socket.send_str("hello")
            assert (await socket.receive()).data == "hello"

    in_session(chat)

    assert len(log.ends()) == 1


def test_through_a_proxy_the_call_is_to_whom_it_asks(
    server: AnsweringServer, log: Recorded
) -> None:
    """A forward proxy is who is connected to, and not who is called."""
    with proxying() as proxy:
        fetch(f"{server.url}/kb", proxy=proxy.url)
        end = log.end()
        assert (end["authority"], end["code"]) == (server.authority, 200)
        assert end["upstream_host"] == proxy.authority


def test_a_tunnel_is_part_of_connecting(authority: Authority, log: Recorded) -> None:
    """Asking a proxy for a tunnel is no call, and takes time before the request is sent."""
    tls = server_context(authority.issue("behind", "127.0.0.1"))
    with answering(tls=tls) as server, proxying() as proxy:
        fetch(f"{server.url}/kb", proxy=proxy.url, ssl=trusting(authority))
        end = log.end()
        assert (end["authority"], end["code"]) == (server.authority, 200)
    assert end["connect_us"] + end["tls_us"] <= end["to_upstream_us"]
    assert end["tls_us"] > 0


def test_calls_of_many_tasks_keep_their_own_stage(server: AnsweringServer, log: Recorded) -> None:
    """Fifty calls in one loop have the stage of their task, and their own path and times."""

    async def call(session: Session, number: int) -> None:
        CURRENT_STAGE.set(f"stage {number}")
        async with session.get(f"{server.url}/bytes/{number}") as response:
            await response.read()

    async def crowd(session: Session) -> None:
        await asyncio.gather(*(call(session, number) for number in range(50)))

    in_session(crowd)

    found = sorted(log.values("path", "stage", "bytes_out"), key=lambda one: int(one[2]))
    assert found == [(f"/bytes/{n}", f"stage {n}", n) for n in range(50)]
    opened = [end for end in log.ends() if end["connect_us"] is not None]
    assert len(opened) == len({end["upstream_connection_id"] for end in log.ends()})


def test_no_call_is_lost(server: AnsweringServer, log: Recorded) -> None:
    """Every call that the service counts is recorded, once."""
    before = server.count("/bytes/99")

    async def crowd(session: Session) -> None:
        async def calls() -> None:
            for _ in range(25):
                await (await session.get(f"{server.url}/bytes/99")).read()

        await asyncio.gather(*(calls() for _ in range(8)))

    in_session(crowd)

    assert len(log.ends()) == server.count("/bytes/99") - before == 200


def test_a_session_lives_across_begin_and_end(server: AnsweringServer, tmp_path: Path) -> None:
    """A session from before is recorded, and goes on when recording is over."""

    def methods() -> tuple[object, ...]:
        return (
            vars(aiohttp.ClientSession)["_request"],
            vars(aiohttp.BaseConnector)["connect"],
            vars(aiohttp.ClientResponse)["start"],
            vars(ssl.SSLContext).get("wrap_bio"),
        )

    async def call(session: Session) -> dict[str, Any]:
        await (await session.get(f"{server.url}/kb")).read()
        with recorded(tmp_path) as log:
            await (await session.get(f"{server.url}/kb")).read()
            end = log.end()
            assert all(now is not was for now, was in zip(methods(), before, strict=True))
            streaming = await session.get(f"{server.url}/chunked/3/0.05")
        assert len(await streaming.read()) == 15
        assert len(await (await session.get(f"{server.url}/kb")).read()) == 1024
        return end

    async def run() -> dict[str, Any]:
        async with aiohttp.ClientSession() as session:
            return await call(session)

    before = methods()
    end = asyncio.run(run())

    assert end["connect_us"] is None
    assert end["upstream_host"] == server.authority
    assert methods() == before
