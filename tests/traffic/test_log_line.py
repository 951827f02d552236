"""Reading one line of a foreign log: published lines, our own, and what they become."""

import pytest

from meshml_dbx.traffic.access_log import BadLineError
from meshml_dbx.traffic.known_formats import ENVOY_DEFAULT, ENVOY_JSON, known_format
from meshml_dbx.traffic.log_format import LogFormat, json_format, text_format
from meshml_dbx.traffic.log_line import RECORDS, LogLine, read_line
from tests.traffic.log_samples import (
    DEFAULT_LINE,
    ENVOY_JSON_LINE,
    FLAGGED_LINE,
    ISTIO_LINE,
    LATTICE_LINE,
    ONE_OF_EACH,
    OWN_LOG_LINE,
    SERVICE_CONNECT_JSON,
    SERVICE_CONNECT_LINE,
    TCP_LINE,
)

START = 1_772_615_702_114_000


def held(line: LogLine) -> dict[str, str | int]:
    """The columns that hold something."""
    return {column: value for column, value in line.values.items() if value is not None}


# --- our own lines, one format each -------------------------------------------------------------


def test_envoys_default_line_is_read() -> None:
    """All fifteen values, the service time in microseconds, and None where there is a dash."""
    assert read_line(ENVOY_DEFAULT, DEFAULT_LINE) == LogLine(
        record="call",
        values={
            "start_time": START,
            "method": "POST",
            "path": "/v1/score?top=3",
            "protocol": "HTTP/1.1",
            "code": 200,
            "flags": None,
            "bytes_in": 1874,
            "bytes_out": 322,
            "duration_ms": 41,
            "first_byte_us": 39_000,
            "request_id": "5f0c1f5e",
            "authority": "scorer.ml:8080",
            "upstream_host": "10.0.12.31:8080",
            "observer": "egress",
        },
        more={"forwarded_for": "10.0.0.9", "user_agent": "python-requests/2.32.3"},
        is_observer_inferred=True,
    )


def test_istios_line_is_read() -> None:
    """Its own values stand between and after Envoy's."""
    line = read_line(known_format("istio-default"), ISTIO_LINE)
    assert held(line) == {
        "start_time": START,
        "method": "GET",
        "path": "/status",
        "protocol": "HTTP/2",
        "code": 503,
        "flags": "UF",
        "details": "upstream_reset",
        "upstream_failure": "TLS error: no key",
        "bytes_in": 0,
        "bytes_out": 91,
        "duration_ms": 4,
        "request_id": "84961386",
        "authority": "httpbin:8000",
        "upstream_host": "10.44.1.27:80",
        "upstream_cluster": "outbound|8000||httpbin.foo",
        "upstream_local_address": "10.44.1.23:376",
        "downstream_address": "10.44.1.23:465",
        "route": "default",
        "observer": "egress",
    }
    assert line.more == {
        "forwarded_for": "10.0.0.9, 10.0.0.8",
        "user_agent": "curl/8.9",
        "downstream_local_address": "10.0.45.184:8000",
        "requested_server_name": "httpbin",
    }


def test_a_service_connect_line_has_no_flags_to_know() -> None:
    """One value less than Envoy's: whether there was a fault is unknown, not no."""
    line = read_line(known_format("service-connect-text"), SERVICE_CONNECT_LINE)
    assert "flags" not in line.values
    assert (line.values["code"], line.values["first_byte_us"]) == (200, 39_000)


def test_a_service_connect_object_is_read() -> None:
    """A key that is there with null is no; one that is not there is unknown."""
    line = read_line(known_format("service-connect-json"), SERVICE_CONNECT_JSON)
    assert line.values == {
        "start_time": START,
        "method": "GET",
        "path": "/x",
        "protocol": "HTTP/1.1",
        "code": 200,
        "bytes_in": 0,
        "bytes_out": 12,
        "duration_ms": 3,
        "request_id": "0aa1",
        "authority": "store",
        "observer": "egress",
    }
    assert line.more == {"user_agent": "curl/8.9"}


def test_a_lattice_object_is_read() -> None:
    """Whole seconds, identities, and what Envoy knows nothing of."""
    assert read_line(known_format("vpc-lattice"), LATTICE_LINE) == LogLine(
        record="call",
        values={
            "start_time": 1_772_615_702_000_000,
            "method": "POST",
            "path": "/v1/score",
            "protocol": "HTTP/1.1",
            "code": 403,
            "details": "ClientAccessDenied",
            "bytes_in": 812,
            "duration_ms": 4,
            "virtual_service": (
                "arn:aws:vpc-lattice:eu-west-1:111122223333:service/svc-0123456789abcdef0"
            ),
            "upstream_host": None,
            "downstream_peer": "arn:aws:sts::111122223333:assumed-role/trainer/i-0abc",
            "observer": "gateway",
        },
        more={
            "authDeniedReason": "Service",
            "requestToTargetDuration": "0",
            "tls_version": "TLSv1.3",
        },
    )


def test_json_with_the_usual_keys_is_read() -> None:
    """Numbers in three styles, and a key that nobody knows."""
    line = read_line(ENVOY_JSON, ENVOY_JSON_LINE)
    assert line.values == {
        "start_time": START,
        "method": "GET",
        "path": "/x",
        "protocol": "HTTP/1.1",
        "code": 503,
        "flags": "UF,URX",
        "bytes_in": 0,
        "bytes_out": 100_000,
        "duration_ms": 9,
        "first_byte_us": None,
        "upstream_host": "10.0.13.8:9090",
        "observer": "egress",
    }
    assert line.more == {"forwarded_for": "10.0.0.9", "team": "fraud"}


# --- the shapes of Envoy's default --------------------------------------------------------------


def default_line(middle: str, *, agent: str = "curl/8.9", upstream: str = "10.0.13.8:9090") -> str:
    """A default line with this request, code, flags and sizes."""
    return f'[2026-03-04T09:15:02.114Z] {middle} "-" "{agent}" "0aa1" "store.ml" "{upstream}"'


@pytest.mark.parametrize(
    ("middle", "record", "expected"),
    [
        ('"POST /v1/score HTTP/1.1" 200 - 1874 322 41 39', "call", (200, None, 41, 39_000)),
        ('"GET /f HTTP/1.1" 503 URX 0 91 62 58', "call", (503, "URX", 62, 58_000)),
        ('"GET /f HTTP/1.1" 503 URX,UF 0 146 9 -', "call", (503, "UF,URX", 9, None)),
        ('"POST /v1/score HTTP/2" 504 UT 20480 24 15002 -', "call", (504, "UT", 15_002, None)),
        ('"GET /x HTTP/1.1" 503 UH 0 19 0 -', "call", (503, "UH", 0, None)),
        ('"GET /x HTTP/1.1" 503 UO 0 81 0 -', "call", (503, "UO", 0, None)),
        ('"GET /nope HTTP/1.1" 404 NR 0 0 0 -', "call", (404, "NR", 0, None)),
        ('"POST /v1/score HTTP/1.1" 0 DC 1048576 0 873 -', "call", (0, "DC", 873, None)),
        ('"GET /big HTTP/1.1" 200 UPE 0 4096 12 3', "call", (200, "UPE", 12, 3000)),
        ('"- - HTTP/1.1" 400 DPE 0 11 0 -', "call", (400, "DPE", 0, None)),
        ('"- - -" 0 - 480 1140 60012 -', "connection", (None, None, 60_012, None)),
        ('"- - -" 0 UF,URX 0 0 5003 -', "connection", (None, "UF,URX", 5003, None)),
    ],
)
def test_each_shape_of_a_default_line_is_read(
    middle: str, record: str, expected: tuple[str | int | None, ...]
) -> None:
    """Code 0 is no answer, no request is a connection, flags are a set."""
    line = read_line(ENVOY_DEFAULT, default_line(middle))
    columns = ("code", "flags", "duration_ms", "first_byte_us")
    assert line.record == record
    assert tuple(line.values.get(column) for column in columns) == expected


@pytest.mark.parametrize(
    "agent",
    [
        'a "quoted" agent',
        'x" "forged-id" "forged-host" "1.2.3.4:80',
        '"',
        "Mozilla/5.0 (X11; Linux) 200 - 1 2 3",
        'a HTTP/1.1" 200',
        "",
    ],
)
def test_a_user_agent_may_hold_anything(agent: str) -> None:
    """Envoy escapes nothing: the last three values hold no quotes, and the rest is the agent."""
    line = read_line(ENVOY_DEFAULT, default_line('"GET /x HTTP/1.1" 200 - 0 5 1 1', agent=agent))
    assert line.more.get("user_agent", "") == agent
    assert (line.values["request_id"], line.values["upstream_host"]) == ("0aa1", "10.0.13.8:9090")


@pytest.mark.parametrize("path", ["/a b", '/a"b', '/a HTTP/1.1" 200', "/a  b?c=d e", "/é"])
def test_a_path_may_hold_blanks_and_quotes(path: str) -> None:
    """It ends where protocol, code, flags and sizes follow."""
    line = read_line(ENVOY_DEFAULT, default_line(f'"GET {path} HTTP/1.1" 200 - 0 5 1 1'))
    assert line.values["path"] == path


def test_a_forged_middle_is_refused() -> None:
    """Who plays a whole request line could move code and times: nobody can tell which is true."""
    agent = 'x HTTP/1.1" 500 UF 0 0 9 9 "-" "y'
    with pytest.raises(BadLineError, match="in two ways"):
        read_line(ENVOY_DEFAULT, default_line('"GET /x HTTP/1.1" 200 - 0 5 1 1', agent=agent))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        (OWN_LOG_LINE, "Envoy's own log"),
        (DEFAULT_LINE[:-30], "not of the format envoy-default"),
        (DEFAULT_LINE + " x", "not of the format"),
        (DEFAULT_LINE + "\n" + DEFAULT_LINE, "not of the format"),
        (DEFAULT_LINE.replace("41", "forty"), "not of the format"),
        (DEFAULT_LINE.replace("2026-03", "2026-13"), "not a time"),
        (DEFAULT_LINE.replace("1874", "9" * 19), "64 bits"),
        (DEFAULT_LINE.replace(" 41 ", " 4.5 "), "not a whole number"),
    ],
)
def test_what_is_no_default_line_is_refused_with_a_reason(line: str, reason: str) -> None:
    """The quarantine says why."""
    with pytest.raises(BadLineError, match=reason):
        read_line(ENVOY_DEFAULT, line)


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_an_end_of_line_is_no_part_of_it(ending: str) -> None:
    """Whoever splits the file may leave it on."""
    assert read_line(ENVOY_DEFAULT, DEFAULT_LINE + ending) == read_line(ENVOY_DEFAULT, DEFAULT_LINE)


def test_empty_is_nothing() -> None:
    """Envoy can be told to write nothing instead of a dash."""
    line = DEFAULT_LINE.replace('"10.0.0.9"', '""').replace(" 39 ", "  ")
    read = read_line(ENVOY_DEFAULT, line)
    assert (read.values["first_byte_us"], "forwarded_for" in read.more) == (None, False)


# --- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"level":"info","msg":"x"}', "too few known keys"),
        ('{"method":"GET","duration":true}', "not a number"),
        ('{"method":"GET","duration":"1_000"}', "not a number"),
        ('{"method":"GET","duration":{"a":1}}', "not a number"),
        ('{"method":"GET","duration":4.5}', "not a whole number"),
        ('{"method":"GET","duration":1e300}', "64 bits"),
        ('{"method":"GET","duration":NaN}', "not a number"),
        ('{"method":"GET","code":200,"start_time":null}', "no start time"),
        ('{"method":"GET","code":200,"start_time":"now"}', "not a time"),
        ('{"_record":"call","method":"GET","code":200}', "meshml's own"),
        ("plain text", "not JSON"),
    ],
)
def test_what_is_no_json_line_is_refused_with_a_reason(line: str, reason: str) -> None:
    """No value is guessed, rounded or taken for another."""
    with pytest.raises(BadLineError, match=reason):
        read_line(ENVOY_JSON, line)


def test_a_lattice_line_must_be_one() -> None:
    """Other JSON has some of its keys."""
    with pytest.raises(BadLineError, match="no key serviceArn"):
        read_line(known_format("vpc-lattice"), '{"startTime":"2026-03-04T09:15:02Z","duration":1}')


DECLARED = json_format({"a": {"code": "%RESPONSE_CODE%", "x": "%REQ(X-A)%"}, "t": "%DURATION%"})


@pytest.mark.parametrize(
    ("line", "values", "more"),
    [
        ('{"a":{"code":200,"x":"q"},"t":"7"}', {"code": 200, "duration_ms": 7}, {"a.x": "q"}),
        ('{"a":{"code":200}}', {"code": 200, "duration_ms": None}, {}),
        (
            '{"a":{"code":200,"x":"-","y":[1,"é"]},"t":7,"pod":{"n":1}}',
            {"code": 200, "duration_ms": 7},
            {"a.y": '[1,"é"]', "pod": '{"n":1}'},
        ),
    ],
)
def test_a_declared_object_is_read(
    line: str, values: dict[str, int | None], more: dict[str, str]
) -> None:
    """Envoy may leave out what is empty, and a shipper may add keys, which are kept."""
    read = read_line(DECLARED, line)
    assert (read.values, read.more) == ({**values, "observer": "egress"}, more)


@pytest.mark.parametrize("line", ["{}", '{"t":7,"z":1}', '{"z":1}', '{"a":7,"t":7}'])
def test_an_object_that_lacks_keys_and_has_others_is_of_another_format(line: str) -> None:
    """After a redeploy the new lines share some keys with the old, and must not lose the rest."""
    with pytest.raises(BadLineError, match="other keys"):
        read_line(DECLARED, line)


def test_another_source_of_a_filled_column_is_kept_where_it_differs() -> None:
    """A shipper's own time stamp does not replace the proxy's, nor does it stop the line."""
    line = (
        '{"start_time":"2026-03-04T09:15:02.114Z","time":"noon","code":200,"status":"200",'
        '"method":"GET","user_agent":"a","user-agent":"b"}'
    )
    read = read_line(ENVOY_JSON, line)
    assert (read.values["start_time"], read.more) == (
        START,
        {"time": "noon", "user_agent": "a", "user-agent": "b"},
    )


# --- what a line is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "record"), [*RECORDS.items(), ("DownstreamEnd", "call"), ("NotSet", "call")]
)
def test_a_line_says_what_it_is_by_its_type(kind: str, record: str) -> None:
    """Progress is told from ends, whose byte counts alone are the call's."""
    log_format = text_format("%ACCESS_LOG_TYPE% %REQ(:METHOD)% %RESPONSE_CODE%")
    assert read_line(log_format, f"{kind} GET 0").record == record


def test_an_attempt_keeps_what_an_attempt_has_no_column_for() -> None:
    """Its details are no column of an attempt."""
    log_format = text_format("%ACCESS_LOG_TYPE% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS%")
    read = read_line(log_format, "UpstreamEnd 503 reset")
    assert (read.record, read.values["code"], read.more) == ("attempt", 503, {"details": "reset"})


def test_progress_of_a_connection_has_its_columns() -> None:
    """A TCP connection in flight is a connection, not a call."""
    log_format = text_format("%ACCESS_LOG_TYPE% %DOWNSTREAM_TLS_VERSION% %RESPONSE_CODE%")
    read = read_line(log_format, "TcpPeriodic TLSv1.3 0")
    assert (read.record, read.values.get("tls_version")) == ("progress", "TLSv1.3")


@pytest.mark.parametrize(
    ("text", "line", "record"),
    [
        ("%DURATION% %BYTES_SENT%", "5 7", "connection"),
        ("%DURATION% %RESPONSE_CODE%", "5 200", "call"),
        ("%DURATION% %RESPONSE_CODE%", "5 0", "connection"),
        ("%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%", "- - 400", "call"),
        ("%REQ(:METHOD)% %REQ(:PATH)%", "- -", "connection"),
    ],
)
def test_a_line_without_a_type_is_told_by_its_request(text: str, line: str, record: str) -> None:
    """No method, path, protocol and code: there was no request."""
    assert read_line(text_format(text), line).record == record


@pytest.mark.parametrize(
    ("cluster", "host", "observer"),
    [
        ("inbound|80||", "10.0.0.1:80", "ingress"),
        ("outbound|80||x", "127.0.0.1:80", "egress"),
        ("cds_ingress_m_n_http_80", "10.0.0.1:80", "ingress"),
        ("cds_egress_m_n_http_80", "127.0.0.1:80", "egress"),
        ("local", "127.0.0.1:80", "ingress"),
        ("local", "[::1]:80", "ingress"),
        ("local", "/run/app.sock", "ingress"),
        ("x", "10.0.0.1:80", "egress"),
        ("-", "-", "egress"),
    ],
)
def test_the_observer_is_inferred_where_nobody_says_it(
    cluster: str, host: str, observer: str
) -> None:
    """By the cluster's name, else by whether the upstream is on the same machine."""
    log_format = text_format("%UPSTREAM_CLUSTER% %UPSTREAM_HOST% %PROTOCOL%")
    read = read_line(log_format, f"{cluster} {host} HTTP/2")
    assert (read.values["observer"], read.is_observer_inferred) == (observer, True)


def test_an_observer_that_is_given_is_taken() -> None:
    """The caller knows whose file it is."""
    read = read_line(ENVOY_DEFAULT, DEFAULT_LINE, observer="gateway")
    assert (read.values["observer"], read.is_observer_inferred) == ("gateway", False)


@pytest.mark.parametrize(
    ("written", "flags"),
    [
        ("UF,URX", "UF,URX"),
        ("URX,UF", "UF,URX"),
        ("UF,UF", "UF"),
        ("-", None),
        ("", None),
        ("XX,UF", "UF,XX"),
    ],
)
def test_flags_are_a_set(written: str, flags: str | None) -> None:
    """Their order is not stable, and unknown ones are kept."""
    read = read_line(text_format("%RESPONSE_FLAGS% %PROTOCOL%"), f"{written} HTTP/2")
    assert read.values["flags"] == flags


def test_long_flags_are_the_same_flags() -> None:
    """One column has one vocabulary."""
    log_format = text_format("%RESPONSE_FLAGS_LONG% %PROTOCOL%")
    written = "UpstreamRetryLimitExceeded,UpstreamConnectionFailure HTTP/2"
    assert read_line(log_format, written).values["flags"] == "UF,URX"


def test_units_are_the_columns() -> None:
    """Milliseconds and nanoseconds become the microseconds of the name."""
    log_format = text_format(
        "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)% %COMMON_DURATION(US_CX_BEG:US_CX_END:ms)% "
        "%COMMON_DURATION(US_CX_END:US_HS_END:us)% %PROTOCOL%"
    )
    read = read_line(log_format, "5123999 7 9 HTTP/2")
    columns = ("total_us", "connect_us", "tls_us")
    assert tuple(read.values[column] for column in columns) == (5123, 7000, 9)


def test_the_seen_line_is_the_same_in_text_and_json() -> None:
    """Formats differ, records do not."""
    written = '{"time":"2026-03-04T09:15:09.001Z","m":"GET","p":"/features/u-882","f":"UF,URX"}'
    declared = {
        "time": "%START_TIME%",
        "m": "%REQ(:METHOD)%",
        "p": "%PATH(NQ)%",
        "f": "%RESPONSE_FLAGS%",
    }
    text = read_line(ENVOY_DEFAULT, FLAGGED_LINE).values
    read = read_line(json_format(declared), written).values
    assert {column: text[column] for column in read} == read


def test_an_old_scheme_before_an_address_is_cut() -> None:
    """The documentation's line has it, real ones have not."""
    line = DEFAULT_LINE.replace('"10.0.12', '"tcp://10.0.12')
    assert read_line(ENVOY_DEFAULT, line).values["upstream_host"] == "10.0.12.31:8080"


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_known_format_reads_its_line_and_no_other_text_line(name: str) -> None:
    """Layouts are told apart by how many values stand where."""
    readers: list[str] = []
    for other in ONE_OF_EACH:
        try:
            read_line(known_format(other), ONE_OF_EACH[name])
        except BadLineError:
            continue
        readers.append(other)
    # The usual keys are in every JSON log.
    expected = {name, "envoy-json"} if known_format(name).kind == "json" else {name}
    assert set(readers) == expected


def test_tcp_lines_of_every_text_format_are_connections() -> None:
    """Istio's layouts write them as Envoy's does."""
    formats: list[LogFormat] = [known_format(name) for name in ONE_OF_EACH if "istio" in name]
    for log_format in formats:
        line = ONE_OF_EACH[log_format.name].replace("GET /status HTTP/2", "- - -")
        assert read_line(log_format, line.replace(" 503 ", " 0 ")).record == "connection"
    assert read_line(ENVOY_DEFAULT, TCP_LINE).record == "connection"
