"""Files that others wrote, taken into the tables: each call once, whatever road and format."""

import pytest

from meshml_dbx.session import Session
from meshml_dbx.settings import read_settings
from meshml_dbx.traffic.log_source import LogSource
from tests.lake.conftest import Lab
from tests.lake.foreign_lines import JSON, TCP, line, put

pytestmark = pytest.mark.spark


def test_a_file_of_others_becomes_rows(lab: Lab) -> None:
    """Calls, connections and another format midway become rows; the rest is in quarantine."""
    odd = line(3, agent='a "b" c', path="/v1/x y?token=s3cr3t")
    bad = "no access line, password=s3cr3t"
    lines = (line(1), line(2, code=503, flags="URX,UF"), odd, TCP, bad, JSON.format(second=1))
    written = lab.root / "access.log"
    written.write_text("".join(f"{one}\r\n" for one in lines), newline="")
    settings = read_settings({}, state=str(lab.root), logs=str(lab.logs))
    source = LogSource(source_id="edge", observer="egress", client="churn", mesh="ml")
    Session(settings).collect([str(written)], source)
    report = lab.ingest()
    counts = (report.files, report.ended, report.connections, report.quarantined, report.lines)
    assert counts == (1, 4, 1, 1, 6)
    columns = ("request_id", "path", "code", "flags", "format", "duration_us")
    assert lab.values("calls", *columns) == [
        ("j1", "/v1/json", 200, None, "envoy-json", 7000),
        ("r1", "/v1/labels/7", 200, None, "envoy-default", 41000),
        ("r2", "/v1/labels/7", 503, "UF,URX", "envoy-default", 41000),
        ("r3", "/v1/x y", 200, None, "envoy-default", 41000),
    ]
    assert lab.values("calls", "observer", "client", "mesh", "sidecar_id")[0] == (
        "egress",
        "churn",
        "ml",
        "edge",
    )
    more = {row["request_id"]: row["more"] for row in lab.table("calls").collect()}
    assert more["r3"] == {"user_agent": 'a "b" c', "query": "token"}
    assert more["j1"] == {"team": "churn", "query": "key"}
    assert lab.values("connections", "upstream_host", "bytes_out") == [("10.0.20.5:5432", 1140)]
    (kept,) = lab.table("quarantine").collect()
    offset = sum(len(one) + 2 for one in lines[:4])
    assert (kept["byte_offset"], kept["line"]) == (offset, "no access line, password={removed}")
    assert kept["reason"] == "not of the format envoy-default"
    assert lab.ingest().files == 0


def test_a_call_on_two_roads_is_one_row(lab: Lab) -> None:
    """The same lines from another source, or read again after all is forgotten, change nothing.

    Lines that are alike to the letter are two calls where one source has them twice.
    """
    twin = line(5, code=503, flags="FI", request="twin")
    lines = [line(1), line(2), twin, twin]
    put(lab, "volume", 1, *lines)
    assert lab.ingest().ended == 4
    put(lab, "cloudwatch", 1, *lines, line(6))
    put(lab, "firehose", 1, *lines, line(6))
    report = lab.ingest()
    assert (report.ended, report.duplicates) == (10, 9)
    put(lab, "volume", 2, *lines)
    report = lab.ingest(checkpoint="another")
    assert (report.ended, report.duplicates) == (4, 4)
    assert sorted(row["request_id"] for row in lab.table("calls").collect()) == [
        *("r1", "r2", "r6"),
        *("twin", "twin"),
    ]
