"""Lines of access logs that the tests read: published ones where they are at hand, and our own."""

from pathlib import Path

import pytest

CORPUS = Path(__file__).parents[3] / "shared" / "corpora" / "access-logs"

with_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the published lines are not here")


def published(name: str) -> list[str]:
    """The lines of one published sample, none where they are not at hand."""
    path = CORPUS / f"{name}.log"
    return path.read_text().splitlines() if path.is_file() else []


DEFAULT_LINE = (
    '[2026-03-04T09:15:02.114Z] "POST /v1/score?top=3 HTTP/1.1" 200 - 1874 322 41 39 "10.0.0.9" '
    '"python-requests/2.32.3" "5f0c1f5e" "scorer.ml:8080" "10.0.12.31:8080"'
)
FLAGGED_LINE = (
    '[2026-03-04T09:15:09.001Z] "GET /features/u-882 HTTP/1.1" 503 URX,UF 0 146 9 - "-" '
    '"trainer/1.4" "c1d0" "features.ml" "10.0.13.8:9090"'
)
TCP_LINE = '[2026-03-04T09:15:21.000Z] "- - -" 0 UF,URX 0 0 5003 - "-" "-" "-" "-" "10.0.20.5:5432"'
ISTIO_LINE = (
    '[2026-03-04T09:15:02.114Z] "GET /status HTTP/2" 503 UF upstream_reset - "TLS error: no key" 0 '
    '91 4 - "10.0.0.9, 10.0.0.8" "curl/8.9" "84961386" "httpbin:8000" "10.44.1.27:80" '
    "outbound|8000||httpbin.foo 10.44.1.23:376 10.0.45.184:8000 10.44.1.23:465 httpbin default"
)
ISTIO_2020_LINE = ISTIO_LINE.replace("UF upstream_reset - ", "UF ")
ISTIO_2019_09_LINE = ISTIO_LINE.replace("UF upstream_reset - ", 'UF "-" ')
ISTIO_2019_03_LINE = ISTIO_2020_LINE.removesuffix(" default").replace("TLS error: no key", "-")
ISTIO_2019_01_LINE = ISTIO_2019_03_LINE.replace('UF "-" ', "UF ")
SERVICE_CONNECT_LINE = DEFAULT_LINE.replace(" 200 - ", " 200 ")
SERVICE_CONNECT_JSON = (
    '{"start_time":"2026-03-04T09:15:02.114Z","method":"GET","path":"/x","protocol":"HTTP/1.1",'
    '"response_code":200,"bytes_received":0,"bytes_sent":12,"duration":3,"forwarded_for":null,'
    '"user_agent":"curl/8.9","request_id":"0aa1","authority":"store"}'
)
LATTICE_LINE = (
    '{"authDeniedReason":"Service","failureReason":"ClientAccessDenied",'
    '"serviceArn":"arn:aws:vpc-lattice:eu-west-1:111122223333:service/svc-0123456789abcdef0",'
    '"startTime":"2026-03-04T09:15:02Z","requestMethod":"POST","requestPath":"/v1/score",'
    '"protocol":"HTTP/1.1","responseCode":403,"bytesReceived":812,"duration":4,'
    '"targetIpPort":"-","requestToTargetDuration":0,'
    '"callerPrincipal":"arn:aws:sts::111122223333:assumed-role/trainer/i-0abc",'
    '"tlsVersion":"TLSv1.3"}'
)
ENVOY_JSON_LINE = (
    '{"@timestamp":"2026-03-04T09:15:02.114Z","method":"GET","path":"/x","protocol":"HTTP/1.1",'
    '"response_code":"503","response_flags":"URX,UF","bytes_received":"0","bytes_sent":1e+05,'
    '"duration":"9","upstream_service_time":"-","x_forwarded_for":"10.0.0.9","team":"fraud",'
    '"upstream_host":"10.0.13.8:9090"}'
)
OWN_LOG_LINE = "[2021-03-12 15:31:30.492][1][warning][runtime] [source/runtime.cc:31] no singleton"

ONE_OF_EACH = {
    "envoy-default": DEFAULT_LINE,
    "istio-default": ISTIO_LINE,
    "istio-2020": ISTIO_2020_LINE,
    "istio-2019-09": ISTIO_2019_09_LINE,
    "istio-2019-03": ISTIO_2019_03_LINE,
    "istio-2019-01": ISTIO_2019_01_LINE,
    "service-connect-text": SERVICE_CONNECT_LINE,
    "service-connect-json": SERVICE_CONNECT_JSON,
    "vpc-lattice": LATTICE_LINE,
    "envoy-json": ENVOY_JSON_LINE,
}
"""Known format → a line of it."""
