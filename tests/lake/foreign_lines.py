"""Lines as others write them, and files of such lines where ingest looks for them."""

from pathlib import Path

from tests.lake.conftest import Lab

START = '[2026-03-04T09:15:{second:02}.114Z] "{method} {path} HTTP/1.1" {code} {flags} 10 322 41 39'
REST = '"-" "{agent}" "{request}" "labels.ml:8080" "10.0.12.31:8080"'
LINE = f"{START} {REST}"
TCP = '[2026-03-04T09:15:20.000Z] "- - -" 0 - 480 1140 60012 - "-" "-" "-" "-" "10.0.20.5:5432"'
JSON = (
    '{{"start_time":"2026-03-04T09:16:{second:02}.114Z","method":"GET","path":"/v1/json?key=abc",'
    '"response_code":200,"duration":7,"request_id":"j{second}","team":"churn"}}'
)


def line(second: int, **values: object) -> str:
    """A line of Envoy's default format."""
    usual: dict[str, object] = {
        "method": "GET",
        "path": "/v1/labels/7",
        "code": 200,
        "flags": "-",
        "agent": "trainer/1.4",
        "request": f"r{second}",
    }
    return LINE.format(second=second, **{**usual, **values})


def put(lab: Lab, source: str, number: int, *lines: str) -> Path:
    """A finished file of a source."""
    folder = lab.logs / source / "closed"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number}.log"
    path.write_text("".join(f"{one}\n" for one in lines))
    return path
