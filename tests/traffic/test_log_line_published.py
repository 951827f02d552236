"""Published access-log lines, each value as it stands there; where the lines are at hand."""

import json
from datetime import datetime

import pytest

from meshml_dbx.traffic.access_log import BadLineError
from meshml_dbx.traffic.known_formats import ENVOY_DEFAULT, known_format
from meshml_dbx.traffic.log_format import json_format, text_format
from meshml_dbx.traffic.log_line import LogLine, read_line
from tests.traffic.log_samples import published, with_corpus

DEFAULT_COLUMNS = (
    *("start_time", "method", "path", "code", "flags", "bytes_in", "bytes_out"),
    *("duration_ms", "first_byte_us", "request_id", "authority", "upstream_host", "observer"),
)


def start_of(line: str) -> int:
    """The microseconds of a published line's time, by the standard library's own reader."""
    text = line[1:25] if line.startswith("[") else json.loads(line)["startTime"]
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


@with_corpus
@pytest.mark.parametrize(
    ("name", "at", "expected", "more"),
    [
        (
            *("appmesh-default", 0),
            ("GET", "/ping", 200, None, 0, 0, 1, 0, "05ba7454-fce2-9360-92e3-a4da997d4f44",
             "colorteller-blue.logging.local:9080", "127.0.0.1:9080", "ingress"),
            {"user_agent": "Envoy/HC"},
        ),
        (
            *("envoy-default-contour", 0),
            ("GET", "/", 503, "UF", 0, 91, 1998, None, "d70640ec-2feb-46f8-9f63-24c44142c42e",
             "example.projectcontour.io", "10.244.8.27:8080", "egress"),
            {"forwarded_for": "103.67.2.26", "user_agent": "curl/8.4.0"},
        ),
        (
            *("envoy-default-datadog", 0),
            ("GET", "/server_info", 200, None, 0, 27805, 1, None,
             "d0000a1f-0000-4b42-0000-0000e13d78ca", "64.145.79.247:8001", None, "egress"),
            {"forwarded_for": "64.145.79.247", "user_agent": "Datadog Agent/7.26.0"},
        ),
        (
            *("envoy-default-docs", 0),
            ("POST", "/api/v1/locations", 204, None, 154, 0, 226, 100_000,
             "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2", "locations", "10.0.2.1:80", "egress"),
            {"forwarded_for": "10.0.35.28", "user_agent": "nsq2http"},
        ),
        (
            *("envoy-default-gateway", 0),
            ("POST", "/v1/chat/completions", 0, "DC", 0, 0, 770, None,
             "469793af-b25f-9b57-b265-f376e8d8c586", "api.openai.com", "162.159.140.245:443",
             "egress"),
            {"user_agent": "OpenAI/Python 1.51.0"},
        ),
        *(
            (
                *("envoy-default-gateway", at),
                ("POST", path, 200, None, received, sent, duration, service * 1000,
                 "604197fe-2a5b-95a2-9367-1d6b30cfc845", authority, upstream, "egress"),
                {"user_agent": "OpenAI/Python 1.51.0"} if at == 6 else {},
            )
            for at, path, received, sent, duration, service, authority, upstream in (
                (1, "/embeddings", 52, 21797, 54, 53, "model_server", "192.168.65.254:51000"),
                (2, "/zeroshot", 106, 218, 87, 87, "model_server", "192.168.65.254:51000"),
                (3, "/v1/chat/completions", 1301, 614, 441, 441, "model_server",
                 "192.168.65.254:51000"),
                (4, "/hallucination", 556, 127, 104, 104, "model_server", "192.168.65.254:51000"),
                (5, "/insurance_claim_details", 447, 125, 17, 17, "api_server",
                 "192.168.65.254:18083"),
                (6, "/v1/chat/completions", 463, 1022, 1695, 984, "plano_llm_listener",
                 "0.0.0.0:12000"),
            )
        ),
        (
            *("envoy-default-knative", 0),
            ("POST", "/", 404, "NR", 0, 0, 0, None, "4702a818-11e3-9e15-b523-277b94598101",
             "chan-channel-45k5h.knative-debug.svc.cluster.local", None, "egress"),
            {"user_agent": "Go-http-client/1.1"},
        ),
        (
            *("envoy-default-knative", 1),
            ("POST", "/", 202, None, 795, 0, 1, 1000, "ba36be7e-4fc4-9f26-83bd-b1438db730b0",
             "chan.knative-debug.channels.cluster.local", "10.48.1.94:8080", "egress"),
            {"user_agent": "Go-http-client/1.1"},
        ),
        *(
            (
                *("envoy-default-retries", at),
                ("GET", "/service/red", 503 if service is None else 200,
                 "FI" if service is None else None, 0, 18 if service is None else 148, duration,
                 None if service is None else service * 1000, request_id, "localhost:8000",
                 None if service is None else "127.0.0.1:8080",
                 "egress" if service is None else "ingress"),
                {"user_agent": "curl/7.54.0"},
            )
            for at, duration, service, request_id in (
                (0, 1, 1, "c381450e-b8f9-4b06-9b08-adab5bbb5b87"),
                (1, 2, 1, "fd67460c-a332-4510-8b78-fc870a8db246"),
                (2, 0, None, "0e89d112-3e53-4c23-8360-83d8debc8b14"),
                (3, 2, 2, "0e89d112-3e53-4c23-8360-83d8debc8b14"),
                (4, 0, None, "536e2d42-92fb-4146-833d-8501ed859d04"),
                (5, 0, None, "536e2d42-92fb-4146-833d-8501ed859d04"),
                (6, 0, None, "536e2d42-92fb-4146-833d-8501ed859d04"),
                (7, 0, None, "536e2d42-92fb-4146-833d-8501ed859d04"),
                (8, 2, 1, "536e2d42-92fb-4146-833d-8501ed859d04"),
                (9, 3, 2, "c84a1945-f342-43a2-bb72-27a3dcc25ab6"),
            )
        ),
    ],
)  # fmt: skip
def test_a_published_line_of_envoys_default_is_read(
    name: str, at: int, expected: tuple[str | int | None, ...], more: dict[str, str]
) -> None:
    """Every value as it stands there."""
    text = published(name)[at]
    line = read_line(ENVOY_DEFAULT, text)
    assert tuple(line.values[column] for column in DEFAULT_COLUMNS) == (start_of(text), *expected)
    assert line.more == more
    assert line.record == "call"


@with_corpus
@pytest.mark.parametrize(
    ("name", "at", "log_format", "expected", "more"),
    [
        (
            *("istio-default", 0, "istio-default"),
            {"details": "via_upstream", "upstream_failure": None, "duration_ms": 4,
             "first_byte_us": 4000, "upstream_host": "10.44.1.27:80", "route": "default",
             "upstream_cluster": "outbound|8000||httpbin.foo.svc.cluster.local",
             "upstream_local_address": "10.44.1.23:37652",
             "downstream_address": "10.44.1.23:46520", "observer": "egress"},
            {"user_agent": "curl/7.73.0-DEV", "downstream_local_address": "10.0.45.184:8000"},
        ),
        (
            *("istio-default", 1, "istio-default"),
            {"details": "via_upstream", "duration_ms": 3, "first_byte_us": 1000,
             "upstream_host": "127.0.0.1:80", "upstream_cluster": "inbound|8000||",
             "upstream_local_address": "127.0.0.1:41854", "route": "default",
             "downstream_address": "10.44.1.23:37652", "observer": "ingress"},
            {"user_agent": "curl/7.73.0-DEV", "downstream_local_address": "10.44.1.27:80",
             "requested_server_name": "outbound_.8000_._.httpbin.foo.svc.cluster.local"},
        ),
        (
            *("istio-2020", 0, "istio-2020"),
            {"code": 418, "upstream_failure": None, "duration_ms": 25, "first_byte_us": 24_000,
             "upstream_cluster": "outbound|8000||httpbin.default.svc.cluster.local",
             "upstream_local_address": "10.244.0.29:46348", "route": "default",
             "downstream_address": "10.244.0.29:44678", "observer": "egress"},
            {"user_agent": "curl/7.69.1", "downstream_local_address": "10.96.148.56:8000"},
        ),
        (
            *("istio-2020", 1, "istio-2020"),
            {"duration_ms": 3, "first_byte_us": 2000, "upstream_cluster": "inbound|8000||",
             "observer": "ingress"},
            {"user_agent": "curl/7.69.1", "downstream_local_address": "10.244.0.30:80",
             "requested_server_name": "outbound_.8000_._.httpbin.default.svc.cluster.local"},
        ),
        *(
            (
                *("istio-2020-errors", at, "istio-2020"),
                {"code": 503, "flags": "UF,URX", "bytes_in": 96, "bytes_out": 159,
                 "upstream_failure": "TLS error: Secret is not supplied by SDS",
                 "duration_ms": duration, "first_byte_us": None, "route": "default",
                 "downstream_address": downstream},
                {"user_agent": "python-requests/2.27.1",
                 "downstream_local_address": "10.28.81.125:8080"},
            )
            for at, duration, downstream in (
                (0, 16, "10.32.0.25:60032"),
                (1, 61, "10.32.0.25:60964"),
            )
        ),
        (
            *("istio-2020-errors", 2, "istio-2020"),
            {"code": 503, "flags": "UAEX", "upstream_failure": None, "bytes_in": 131,
             "upstream_host": None, "upstream_cluster": None, "route": None},
            {"forwarded_for": "10.34.0.0", "downstream_local_address": "10.40.0.29:443",
             "requested_server_name": "api-gw-service-nmn.local"},
        ),
        (
            *("istio-2019", 0, "istio-2019-01"),
            {"code": 200, "bytes_out": 599, "duration_ms": 214, "first_byte_us": 214_000,
             "upstream_host": "35.173.6.94:80", "upstream_cluster": "outbound|80||httpbin.org",
             "downstream_address": "172.30.109.82:55314", "observer": "egress"},
            {"user_agent": "curl/7.60.0", "downstream_local_address": "35.173.6.94:80"},
        ),
        (
            *("istio-2019", 1, "istio-2019-03"),
            {"code": 418, "duration_ms": 11, "first_byte_us": 10_000,
             "upstream_cluster": "outbound|8000||httpbin.default.svc.cluster.local",
             "observer": "egress"},
            {"user_agent": "curl/7.60.0", "downstream_local_address": "172.21.13.94:8000"},
        ),
        (
            *("istio-2019", 2, "istio-2019-03"),
            {"code": 418, "duration_ms": 5, "first_byte_us": 2000, "observer": "ingress",
             "upstream_cluster": "inbound|8000|http|httpbin.default.svc.cluster.local"},
            {"user_agent": "curl/7.60.0", "downstream_local_address": "172.30.146.73:80",
             "requested_server_name": "outbound_.8000_._.httpbin.default.svc.cluster.local"},
        ),
        (
            *("istio-2019", 3, "istio-2019-09"),
            {"code": 301, "path": "/politics", "upstream_failure": None, "duration_ms": 90,
             "first_byte_us": 89_000, "upstream_cluster": "outbound|80||edition.cnn.com",
             "route": None},
            {"forwarded_for": "10.244.2.10", "user_agent": "curl/7.64.0",
             "downstream_local_address": "10.244.1.5:80",
             "requested_server_name": "edition.cnn.com"},
        ),
    ],
)  # fmt: skip
def test_a_published_line_of_istio_is_read(
    name: str, at: int, log_format: str, expected: dict[str, str | int], more: dict[str, str]
) -> None:
    """Each layout puts its own values in its own places."""
    text = published(name)[at]
    line = read_line(known_format(log_format), text)
    wanted = {"start_time": start_of(text), **expected}
    assert {column: line.values[column] for column in wanted} == wanted
    assert line.more == more
    assert line.record == "call"


CONNECTION_COLUMNS = (
    *("bytes_in", "bytes_out", "duration_ms", "upstream_host"),
    *("downstream_local_address", "downstream_address"),
)
CONNECTION_MORE = ("upstream_cluster", "upstream_local_address", "requested_server_name")


@with_corpus
@pytest.mark.parametrize(
    ("at", "values", "more"),
    [
        (
            0,
            (702, 87599, 92, "172.30.109.95:3128", "172.30.109.95:3128", "172.30.230.52:44476"),
            ("outbound|3128||my-company-proxy.com", "172.30.230.52:44478"),
        ),
        (
            1,
            (627, 1879689, 44, "151.101.129.67:443", "172.30.109.80:443", "172.30.109.112:59970"),
            ("outbound|443||edition.cnn.com", "172.30.109.80:41122", "edition.cnn.com"),
        ),
        (
            2,
            (578, 79141, 624, "127.0.0.1:8443", "172.30.109.84:443", "172.30.109.112:45346"),
            ("outbound|8443||sni-proxy.local", "127.0.0.1:55018", "en.wikipedia.org"),
        ),
        (
            3,
            (586, 65770, 638, "127.0.0.1:8443", "172.30.109.84:443", "172.30.109.112:45362"),
            ("outbound|8443||sni-proxy.local", "127.0.0.1:55034", "de.wikipedia.org"),
        ),
        (
            4,
            (601, 17766, 1289, "172.217.161.36:443", "172.217.161.36:443", "172.30.109.82:59478"),
            ("outbound|443||www.google.com", "172.30.109.82:59480", "www.google.com"),
        ),
    ],
)
def test_a_published_tcp_line_is_a_connection(
    at: int, values: tuple[str | int, ...], more: tuple[str, ...]
) -> None:
    """What a connection has no column for is kept."""
    text = published("istio-tcp")[at]
    assert read_line(known_format("istio-2019-01"), text) == LogLine(
        record="connection",
        values={
            "start_time": start_of(text),
            "flags": None,
            **dict(zip(CONNECTION_COLUMNS, values, strict=True)),
            "observer": "egress",
        },
        more={"code": "0", **dict(zip(CONNECTION_MORE, more, strict=False))},
        is_observer_inferred=True,
    )


@with_corpus
def test_the_published_lines_of_custom_formats_are_read() -> None:
    """App Mesh's example formats, and the one of Envoy's documentation, with their own formats."""
    text = text_format("BlueTestLog:%LOCAL_REPLY_BODY%:%RESPONSE_CODE%:path=%REQ(:path)%\n")
    blue = json_format(
        [
            {"key": "BlueTestLog", "value": "%RESPONSE_CODE%"},
            {"key": "protocol", "value": "%PROTOCOL%"},
        ]
    )
    docs = json_format(
        {
            "protocol": "%PROTOCOL%",
            "duration": "%DURATION%",
            "my_custom_header": "%REQ(MY_CUSTOM_HEADER)%",
        }
    )
    read = [
        read_line(log_format, published(name)[0])
        for log_format, name in (
            (text, "appmesh-custom-text"),
            (blue, "appmesh-custom-json"),
            (docs, "envoy-json-docs"),
        )
    ]
    assert [(line.record, dict(line.values), dict(line.more)) for line in read] == [
        ("call", {"code": 200, "path": "/ping", "observer": "egress"}, {}),
        ("call", {"code": 200, "protocol": "HTTP/1.1", "observer": "egress"}, {}),
        (
            "call",
            {"protocol": "HTTP/1.1", "duration_ms": 123, "observer": "egress"},
            {"my_custom_header": "value_of_MY_CUSTOM_HEADER"},
        ),
    ]


@with_corpus
def test_the_published_lattice_object_is_read() -> None:
    """What has no column stays under Lattice's own key; dashes are nothing."""
    text = published("vpc-lattice-service")[0]
    line, given = read_line(known_format("vpc-lattice"), text), json.loads(text)
    assert line.values == {
        "start_time": start_of(text),
        "method": "GET",
        "path": "/",
        "protocol": "HTTP/1.1",
        "authority": given["hostHeader"],
        "code": 404,
        "details": None,
        "bytes_in": 135,
        "bytes_out": 1247,
        "duration_ms": 23,
        "mesh": given["serviceNetworkArn"],
        "virtual_service": given["serviceArn"],
        "upstream_cluster": given["targetGroupArn"],
        "upstream_host": "172.31.9.231:80",
        "downstream_address": "10.0.183.56:57086",
        "downstream_peer": given["callerPrincipal"],
        "observer": "gateway",
    }
    kept = (
        *(
            "resolvedUser",
            "sourceVpcArn",
            "destinationVpcId",
            "sourceVpcId",
            "serverNameIndication",
        ),
        "sslCipher",
    )
    assert line.more == {
        **{key: given[key] for key in kept},
        "requestToTargetDuration": "21",
        "responseFromTargetDuration": "0",
        "user_agent": "curl/8.5.0",
        "tls_version": "TLSv1.2",
    }


@with_corpus
def test_a_published_line_of_envoys_own_log_is_refused() -> None:
    """It is mixed into access lines where both go to one stream."""
    with pytest.raises(BadLineError, match="a line of Envoy's own log"):
        read_line(ENVOY_DEFAULT, published("not-access-lines")[0])
