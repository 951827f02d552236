"""What is recorded of ``http.client`` and ``urllib.request``, against real servers."""

import gc
import http.client
import io
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from meshml_dbx.recorder.recorder import Recorder
from tests.free_ports import free_port
from tests.recorder.answering import AnsweringServer
from tests.recorder.recorded import Recorded, recorded
from tests.recorder.wire import proxying, sending

Connection = http.client.HTTPConnection


@pytest.fixture
def connection(server: AnsweringServer, log: Recorded) -> Iterator[Connection]:
    """A connection to the service, which is closed in the end."""
    with closing(Connection("127.0.0.1", server.server_port, timeout=5)) as connection:
        yield connection


def test_a_call_is_recorded_from_its_begin_to_the_end_of_its_body(
    connection: Connection, server: AnsweringServer, log: Recorded
) -> None:
    """One call makes a start line and an end line with host, path, status, bytes and times."""
    connection.request("GET", "/kb?token=s3cret")
    connection.getresponse().read()

    end = log.end()
    assert [line["request_id"] for line in log.starts()] == [end["request_id"]]
    assert (end["method"], end["authority"], end["path"]) == ("GET", server.authority, "/kb")
    assert (end["virtual_service"], end["target"], end["route"]) == (server.authority, None, None)
    assert (end["code"], end["flags"], end["details"]) == (200, None, None)
    assert (end["bytes_in"], end["bytes_out"], end["attempts"], end["attempt"]) == (0, 1024, 1, 1)
    assert (end["observer"], end["protocol"]) == ("client", "HTTP/1.1")
    assert end["upstream_host"] == server.authority
    assert 0 < end["connect_us"] < end["total_us"]
    assert end["tls_us"] is None
    parts = [end[key] for key in ("to_upstream_us", "send_us", "first_byte_us", "receive_us")]
    assert end["total_us"] - sum(parts) in range(5)


def test_only_the_call_that_opened_a_connection_has_connect_times(
    connection: Connection, log: Recorded
) -> None:
    """Calls that reuse a connection share its number and have no time to connect."""
    for _ in range(3):
        connection.request("GET", "/kb")
        connection.getresponse().read()

    ends = log.ends()
    assert [end["connect_us"] is None for end in ends] == [False, True, True]
    assert len({end["upstream_connection_id"] for end in ends}) == 1


def _read_by_parts(response: http.client.HTTPResponse) -> None:
    while response.read(100):
        pass


def _read_into(response: http.client.HTTPResponse) -> None:
    room = bytearray(300)
    while response.readinto(room):
        pass


def _read_lines(response: http.client.HTTPResponse) -> None:
    for _ in response:
        pass


@pytest.mark.parametrize(
    "read",
    [http.client.HTTPResponse.read, _read_by_parts, _read_into, _read_lines],
    ids=["read", "read-parts", "readinto", "lines"],
)
def test_a_body_ends_whichever_way_it_is_read(
    read: Callable[[http.client.HTTPResponse], Any], connection: Connection, log: Recorded
) -> None:
    """Read whole, by parts, into a buffer or by lines: the call ends with its last byte."""
    connection.request("GET", "/kb")
    response = connection.getresponse()
    assert log.ends() == []
    read(response)
    response.close()
    assert log.values("code", "bytes_out", "flags") == [(200, 1024, None)]


def test_a_body_that_its_reader_leaves_is_no_fault(connection: Connection, log: Recorded) -> None:
    """Whoever reads a part and closes has a call with as many bytes as were read."""
    connection.request("GET", "/kb")
    response = connection.getresponse()
    response.read(24)
    response.close()
    assert log.values("code", "bytes_out", "flags") == [(200, 24, None)]


@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_a_response_that_is_dropped_unread_goes_away_as_without_us(
    in_a_cycle: bool,  # noqa: FBT001  # a case
    server: AnsweringServer,
    log: Recorded,
) -> None:
    """Nothing of ours keeps a response or its socket: both go with the last reference."""
    connection = Connection("127.0.0.1", server.server_port)
    connection.request("GET", "/kb")
    response = connection.getresponse()
    told, held, sock = (weakref.ref(one) for one in (response, response.fp, connection.sock))
    if in_a_cycle:
        response.itself = response  # type: ignore[attr-defined]  # a cycle is what is tested
    gc.disable()
    try:
        del response, connection
        assert (told() is None, held() is None, sock() is None) == (not in_a_cycle,) * 3
    finally:
        gc.enable()
    gc.collect()
    assert (told(), held(), sock()) == (None, None, None)
    assert log.values("code", "flags") == [(200, None)]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_answer_without_a_body_is_over_with_its_headers(method: str, log: Recorded) -> None:
    """HEAD, 204 and a length of 0 end the call before anything is read."""
    answers = {
        "/none": b"HTTP/1.1 204 No Content\r\n\r\n",
        "/empty": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    }
    with sending(answers) as wire, closing(Connection("127.0.0.1", wire.port)) as connection:
        for path in answers:
            connection.request(method, path)
            response = connection.getresponse()
            assert log.ends()[-1]["path"] == path
            response.read()
    assert log.values("method", "code", "bytes_out") == [(method, 204, 0), (method, 200, 0)]


def test_a_head_of_something_large_ends_at_once(connection: Connection, log: Recorded) -> None:
    """The length that HEAD tells is of a body that never comes."""
    connection.request("HEAD", "/kb")
    connection.getresponse()
    assert log.values("code", "bytes_out") == [(200, 0)]


def test_a_chunked_body_ends_with_its_last_chunk(connection: Connection, log: Recorded) -> None:
    """Of a chunked body the time is known and the length is not."""
    connection.request("GET", "/chunked/3/0.05")
    assert connection.getresponse().read() == b"hello" * 3
    end = log.end()
    assert (end["code"], end["bytes_out"], end["flags"]) == (200, None, None)
    assert end["receive_us"] >= 80_000


def test_a_body_may_end_with_its_connection(log: Recorded) -> None:
    """HTTP/1.0 without a length: the end of the connection is the end of the body, no fault."""
    with sending({"/old": b"HTTP/1.0 200 OK\r\n\r\nhello"}) as wire:
        connection = Connection("127.0.0.1", wire.port)
        connection.request("GET", "/old")
        assert connection.getresponse().read() == b"hello"
    assert log.values("code", "protocol", "flags") == [(200, "HTTP/1.0", None)]


def test_an_unread_answer_makes_the_next_one_unreadable(
    connection: Connection, log: Recorded
) -> None:
    """http.client sends but refuses to answer; both calls end, the second with its reason."""
    connection.request("GET", "/bytes/9000")
    response = connection.getresponse()
    connection.request("GET", "/kb")
    with pytest.raises(http.client.ResponseNotReady):
        connection.getresponse()
    response.close()
    assert sorted(log.values("path", "code", "details")) == [
        ("/bytes/9000", 200, None),
        ("/kb", 0, "http.client.ResponseNotReady"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dropped", (0, "UC", "http.client.RemoteDisconnected")),
        ("/broken", (200, "UC", "http.client.IncompleteRead")),
        ("/reset", (200, "UC", "ConnectionResetError")),
        ("/slow/1", (0, "UT", "TimeoutError")),
    ],
)
def test_a_fault_is_told_in_envoys_flags(
    path: str, expected: tuple[int, str, str], server: AnsweringServer, log: Recorded
) -> None:
    """Connections that are lost and silence have their flag and the exception's class."""
    connection = Connection("127.0.0.1", server.server_port, timeout=0.4)
    with closing(connection), pytest.raises((OSError, http.client.HTTPException)):
        _fetch(connection, path)
    assert log.values("code", "flags", "details") == [expected]


def _fetch(connection: Connection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


def test_a_short_body_is_a_fault_though_its_reader_is_not_told(
    connection: Connection, log: Recorded
) -> None:
    """``read(amt)`` of http.client hides that a body broke off; the record does not."""
    connection.request("GET", "/broken")
    _read_by_parts(connection.getresponse())
    assert log.values("code", "bytes_out", "flags") == [(200, 1024, "UC")]


@pytest.mark.parametrize("rest", [b"", b"zz\r\n", b"5\r\nhe"], ids=["end", "no-size", "short"])
def test_chunks_that_break_off_are_a_fault(rest: bytes, log: Recorded) -> None:
    """A chunked body without its last chunk is broken, wherever it stops."""
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    with sending({"/c": answer + b"5\r\nhello\r\n" + rest}) as wire:
        connection = Connection("127.0.0.1", wire.port)
        with pytest.raises(http.client.IncompleteRead):
            _fetch(connection, "/c")
    assert log.values("code", "flags", "details") == [(200, "UC", "http.client.IncompleteRead")]


def test_an_answer_that_is_no_http_is_broken(log: Recorded) -> None:
    """Noise in the place of a status line is UPE."""
    answers = {"/x": b"SSH-2.0-OpenSSH\r\nconnection: close\r\n\r\n"}
    with sending(answers) as wire, pytest.raises(http.client.BadStatusLine):
        _fetch(Connection("127.0.0.1", wire.port), "/x")
    assert log.values("code", "flags") == [(0, "UPE")]


def test_what_cannot_be_reached_is_told_from_what_has_no_name(log: Recorded) -> None:
    """Refused is UF, an unknown name DF; neither has connect times or an address."""
    for host, port in (("127.0.0.1", free_port()), ("no.such.host.invalid", 80)):
        with pytest.raises(OSError, match=r"."):
            _fetch(Connection(host, port), "/")
    keys = ("flags", "details", "connect_us", "first_byte_us", "upstream_host")
    assert log.values(*keys) == [
        ("UF", "ConnectionRefusedError", None, None, None),
        ("DF", "socket.gaierror", None, None, None),
    ]


def test_a_call_that_the_program_gives_up_is_its_own_doing(
    connection: Connection, log: Recorded
) -> None:
    """Closed or dropped before an answer: DC, even while the program handles something else."""
    connection.request("GET", "/slow/0.2")
    try:
        raise OSError("of something else")
    except OSError:
        connection.close()
    other = Connection(connection.host, connection.port)
    other.request("GET", "/slow/0.2")
    del other
    name = "meshml_dbx.recorder.faults.ClosedByProgramError"
    assert log.values("code", "flags", "details") == [(0, "DC", name)] * 2
    assert log.recording.recorder.open == {}


def test_a_connection_that_was_reset_still_says_whose_it_was(log: Recorded) -> None:
    """Where it went is noted as it is opened: later its socket may not know any more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(*listener.getsockname())
        connection.connect()
        other, _ = listener.accept()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        with pytest.raises(ConnectionError):
            _fetch(connection, "/")
    assert log.values("flags", "upstream_host") == [("UC", f"127.0.0.1:{connection.port}")]


def test_the_end_of_a_call_from_before_a_fork_ends_no_other() -> None:
    """A child counts anew; what it inherits open has numbers that mean other calls to it."""
    recorder = Recorder()
    inherited = recorder.begin("GET", "http", "host", 80, "/")
    recorder.reset()
    own = recorder.begin("GET", "http", "host", 80, "/")
    recorder.finish(inherited)
    assert (inherited.number, list(recorder.open.values())) == (own.number, [own])


def test_a_call_within_an_exceptions_handler_is_not_its_fault(
    connection: Connection, log: Recorded
) -> None:
    """A fall-back that works is recorded as working."""
    try:
        raise ConnectionError("of the first choice")
    except ConnectionError:
        assert _fetch(connection, "/chunked/2") == b"hello" * 2
    assert log.values("code", "flags", "details") == [(200, None, None)]


@pytest.mark.parametrize(
    ("make_body", "size"),
    [
        (lambda: b"abcde", 5),
        (lambda: "abcde", 5),
        (lambda: io.BytesIO(b"abcde"), None),
        (lambda: iter([b"ab", b"cde"]), None),
    ],
    ids=["bytes", "text", "file", "iterable"],
)
def test_any_body_is_sent_as_without_us(
    make_body: Callable[[], Any], size: int | None, log: Recorded
) -> None:
    """The server gets the whole body; its size is recorded where it is known."""
    answer = {"/put": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"}
    with sending(answer) as wire:
        connection = Connection("127.0.0.1", wire.port)
        connection.request("PUT", "/put", body=make_body())
        connection.getresponse().read()
        sent = re.sub(rb"[0-9]+\r\n|\r\n", b"", wire.requests[0].partition(b"\r\n\r\n")[2])
    assert sent == b"abcde"
    assert log.values("code", "bytes_in") == [(200, size)]


def test_a_request_may_be_sent_by_hand(connection: Connection, log: Recorded) -> None:
    """putrequest, putheader, endheaders and send make one call."""
    connection.putrequest("POST", "/length")
    connection.putheader("Content-Length", "5")
    connection.endheaders()
    connection.send(b"12345")
    assert connection.getresponse().read() == b"5"
    assert log.values("method", "path", "code") == [("POST", "/length", 200)]


@pytest.mark.parametrize(
    "ask",
    [
        lambda one: one.request(b"GET", "/"),
        lambda one: one.request("GET", b"/"),
        lambda one: one.request("GET", "/a b"),
        lambda one: one.request("GET", "/", headers=None),
        lambda one: one.request("GET", object()),
        lambda one: one.request("GET", "/", headers=[("Range", 7)]),
        lambda one: one.request(),
    ],
)
def test_what_http_client_refuses_it_refuses_as_without_us(
    ask: Callable[[Any], None], log: Recorded, server: AnsweringServer
) -> None:
    """Weird arguments raise the same exception, recorded or not, and are no call."""
    raised = []
    for is_on in (True, False):
        if not is_on:
            log.recording.stop()
        with pytest.raises(Exception) as caught:  # noqa: PT011  # whichever it is
            ask(Connection("127.0.0.1", server.server_port))
        raised.append((type(caught.value), str(caught.value).replace("_request.<locals>.", "")))
    assert raised[0][0] is raised[1][0]
    assert log.ends() == []


def test_a_range_makes_another_thing_of_the_same_path(
    connection: Connection, log: Recorded
) -> None:
    """Calls for the same range share a number; another range or query is another thing."""
    for path, header in (("/kb", "bytes=0-9"), ("/kb", "bytes=0-9"), ("/kb", "bytes=10-")):
        connection.request("GET", path, headers={"rAnGe": header})
        connection.getresponse().read()
    _fetch(connection, "/kb")
    _fetch(connection, "/kb?x=1")
    first, same, *others = (end["resource"] for end in log.ends())
    assert first == same
    assert len({first, *others}) == 4


def test_trying_again_what_failed_counts_up(
    connection: Connection, server: AnsweringServer, log: Recorded
) -> None:
    """A loop around a call shows as attempts; with success the count begins anew."""
    for _ in range(4):
        _fetch(connection, "/flaky/loop")
    assert log.values("code", "attempt") == [(503, 1), (503, 2), (200, 3), (200, 1)]


def test_urllib_is_recorded_with_its_redirects_and_errors(
    server: AnsweringServer, log: Recorded
) -> None:
    """Each hop of urllib is a call; an HTTPError is an answer, not a fault."""
    opener = urllib.request.build_opener()
    assert len(opener.open(f"{server.url}/redirect/kb").read()) == 1024
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(f"{server.url}/status/404")
    caught.value.close()
    keys = ("path", "code", "flags", "attempts")
    assert log.values(*keys) == [
        ("/redirect/kb", 302, None, 1),
        ("/kb", 200, None, 1),
        ("/status/404", 404, None, 1),
    ]


def _through(proxy: str) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))


def test_through_a_proxy_the_call_is_for_whom_the_proxy_asks(
    server: AnsweringServer, log: Recorded
) -> None:
    """The authority is the service's, the connection the proxy's, and its password nowhere."""
    with proxying(password="bWU6cHcxMjM=") as wire:  # noqa: S106  # a test's own
        opener = _through(f"http://me:pw123@{wire.authority}")
        assert len(opener.open(f"{server.url}/kb?key=k3y").read()) == 1024
    assert log.values("authority", "path", "upstream_host", "code") == [
        (server.authority, "/kb", wire.authority, 200)
    ]
    text = log.text()
    assert [word for word in ("pw123", "bWU6", "k3y", "me:") if word in text] == []


def test_a_proxy_that_refuses_to_connect_is_a_failure_to_connect(log: Recorded) -> None:
    """A CONNECT that is answered with 407 is UF, for the service that was asked for."""
    with proxying(password="other") as wire, pytest.raises(OSError, match="407"):  # noqa: S106  # as above
        _through(f"http://me:pw123@{wire.authority}").open("https://api.example.com/v1?k=v")
    assert log.values("authority", "path", "code", "flags", "details") == [
        ("api.example.com", "/v1", 0, "UF", "OSError")
    ]


def test_eight_threads_lose_nothing(server: AnsweringServer, log: Recorded) -> None:
    """The server counts as many calls as there are end lines; each has a number of its own."""
    before = server.count("/kb")

    def call() -> None:
        with closing(Connection("127.0.0.1", server.server_port)) as connection:
            for _ in range(500):
                _fetch(connection, "/kb")

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends = log.ends()
    samples = [line for line in log.lines() if line["_record"] == "sample"]
    assert server.count("/kb") - before == len(ends) == samples[-1]["requests_total"] == 4000
    assert len({end["request_id"] for end in ends}) == 4000
    assert (samples[-1]["requests_active"], samples[-1]["dropped"]) == (0, 0)


_LEAVES = """
import http.client, sys, urllib.request
from pathlib import Path
from meshml_dbx.recorder import RecorderPlan, start_recording

logs = Path(sys.argv[2])
start_recording(RecorderPlan(logs=logs, run=logs / "run", client="train", process_id="p1"))
unread = urllib.request.urlopen(sys.argv[1] + "/bytes/90000")
unanswered = http.client.HTTPConnection(sys.argv[1].partition("://")[2])
unanswered.request("GET", "/never")
"""


def test_what_is_left_open_at_the_end_of_a_program_says_nothing(
    server: AnsweringServer, tmp_path: Path
) -> None:
    """Bodies unread and calls unanswered when the interpreter goes: no word on its error output."""
    done = subprocess.run(
        [sys.executable, "-c", _LEAVES, server.url, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    written = "".join(file.read_text() for file in tmp_path.rglob("*.jsonl"))
    assert (done.stdout, done.stderr) == ("", "")
    assert written.count('"_type":"Unfinished"') == 2


def test_stopping_puts_back_the_very_methods(tmp_path: Path) -> None:
    """Every class has in its dictionary what it had before."""
    kinds = (Connection, http.client.HTTPSConnection, http.client.HTTPResponse, ssl.SSLContext)
    before = [dict(vars(kind)) for kind in kinds]
    with recorded(tmp_path):
        assert [dict(vars(kind)) for kind in kinds] != before
    assert all(vars(kind) == one for kind, one in zip(kinds, before, strict=True))


def test_calls_outlive_their_recording(server: AnsweringServer, tmp_path: Path) -> None:
    """What is under way when recording stops goes on; its last line says so."""
    with recorded(tmp_path) as log:
        connection = Connection("127.0.0.1", server.server_port)
        connection.request("GET", "/kb")
        response = connection.getresponse()
    assert response.read() == b"x" * 1024
    kinds = [line["_type"] for line in log.lines() if line["_record"] == "call"]
    assert kinds == ["DownstreamStart", "Unfinished"]
    assert _fetch(connection, "/kb") == b"x" * 1024
