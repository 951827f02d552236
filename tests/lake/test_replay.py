"""What is in quarantine is listed, and read again after a fix: once, whatever is killed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from meshml_dbx.cli import cli
from meshml_dbx.lake.replay import formats_to_try, works_of
from meshml_dbx.lake.tables import TABLES, TableNames, open_lake
from meshml_dbx.traffic.log_source import LogSource
from tests.lake.conftest import Lab
from tests.lake.foreign_lines import line, put
from tests.lake.test_kills import forget_last_commit
from tests.lake.writing import NOON, encoded

OWN = "%START_TIME%|%RESPONSE_CODE%|%REQ(X-REQUEST-ID)%|%DURATION%|%REQ(:PATH)%"
OWN_LINES = [f"2026-03-04T09:15:{n:02}.114Z|200|own-{n}|41|/v1/x?key=s3cr3t" for n in range(7)]
JUNK = "password=s3cr3t of ann@corp.example"


def meshml(lab: Lab, *words: str, name: str = "lake") -> str:
    """What a command prints, run in this process, whose Spark is up."""
    places = ("--state", str(lab.root), "--logs", str(lab.logs), "--lake", str(lab.root / name))
    done = CliRunner().invoke(cli, [*words, *places, "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def old_row(lab: Lab, path: Path, added: bytes) -> None:
    """A line of a kind that the version did not know which took its file in, as that left it."""
    offset = path.stat().st_size
    path.write_bytes(path.read_bytes() + added)
    file = path.relative_to(lab.logs).as_posix()
    columns = "batch, file, byte_offset, bytes, sidecar_id, reason, line"
    reason = "unknown type of call line: DownstreamEnd"
    values = (1, file, offset, len(added) - 1, "churn-00000001", reason, "{")
    table = lab.names.table("quarantine")
    lab.spark.sql(f"INSERT INTO {table} ({columns}) VALUES {values}")  # noqa: S608


def figures(lab: Lab) -> dict[str, Any]:
    """What must not change when nothing new is read."""
    kept = lab.table("quarantine").where("replayed_at IS NULL").count()
    (sums,) = (
        lab.table("log_files")
        .selectExpr("sum(quarantined)", "sum(ended)", "sum(unknown)", "max(batch)")
        .collect()
    )
    ledger = lab.values("ledger", "sidecar_id", "rows", "quarantined")
    edges = lab.table("edges").selectExpr("sum(calls)").collect()[0][0]
    calls = lab.values("calls", "request_id", "path", "sidecar_id", "format")
    return {
        "kept": kept,
        "book": tuple(sums),
        "ledger": ledger,
        "edges": edges,
        "calls": [row for row in calls if row[2] == "edge"],
        "rows": len(calls),
    }


@pytest.mark.spark
def test_lines_in_quarantine_become_rows_once(lab: Lab) -> None:
    """Lines of a format that was not given, and of a kind that was not known, after the fix.

    Their marks, the books and what is made of calls are true; a replay that was cut off is done by
    whatever comes next; another replay changes nothing; what is gone is told.
    """
    writer = lab.writer()
    writer.call(NOON)
    ours = writer.close()
    put(lab, "edge", 1, line(1), *OWN_LINES, JUNK, OWN_LINES[0])
    gone = put(lab, "lost", 1, line(2), "neither|nor")
    lab.ingest()
    writer.call(NOON + 1, request_id="newer")
    old_row(lab, ours, encoded(writer.lines))
    gone.unlink()

    told = json.loads(meshml(lab, "quarantine", "--json"))
    assert (told["lines"], told["replayed"]) == (11, 0)
    assert [(one["reason"], one["lines"], one["sources"]) for one in told["reasons"]] == [
        ("not of the format envoy-default", 10, ["edge", "lost"]),
        ("unknown type of call line", 1, ["churn-00000001"]),
    ]
    assert told["reasons"][0]["first_seen"].startswith("20")
    assert told["reasons"][1]["first_seen"] is None
    assert "s3cr3t" not in json.dumps(told)
    assert "s3cr3t" not in repr(lab.table("quarantine").collect())
    shown = meshml(lab, "quarantine", "--source", "edge", "--limit", "1")
    assert "in quarantine: lines 9 · replayed 0" in shown
    assert "not of the format envoy-default" in shown
    before = figures(lab)
    assert (before["kept"], before["rows"]) == (11, 3)

    told = json.loads(
        meshml(lab, "quarantine", "--replay", "--source", "edge", "--format", OWN, "--json")
    )
    assert (told["lines"], told["left"], told["gone"]) == (8, 1, {})
    assert told["counts"] == {"ended": 8}
    told = json.loads(meshml(lab, "quarantine", "--replay", "--json"))
    assert (told["lines"], told["counts"], told["left"]) == (1, {"ended": 1}, 2)
    assert told["gone"] == {"lost/closed/1.log": 1}
    after = figures(lab)
    assert (after["kept"], after["rows"], after["edges"]) == (2, 12, 12)
    found = [row[0] for row in after["calls"] if row[3] != "envoy-default"]
    assert found == ["own-0", *(f"own-{n}" for n in range(7))]
    assert {row[1] for row in after["calls"]} == {"/v1/x", "/v1/labels/7"}
    assert after["ledger"] == [("churn-00000001", 2, 0), ("edge", 9, 1), ("lost", 1, 1)]
    assert before["book"][:3] == (10, 3, 10)
    assert after["book"] == (1, 12, 1, before["book"][3] + 2)
    marks = lab.values("quarantine", "replayed_as", "replayed_batch")
    assert marks.count(("ended", after["book"][3])) == 1
    assert sum(batch is None for _, batch in marks) == 2

    assert "lines 0" in meshml(lab, "quarantine", "--replay")
    assert figures(lab) == after

    cut_off = cut_off_copy(lab)
    assert cut_off.table("quarantine").where("replayed_at IS NULL").count() == 3
    cut_off.ingest(checkpoint="another")
    assert figures(cut_off) == after
    assert "lines 0" in meshml(lab, "quarantine", "--replay", name="cut-off")
    assert figures(cut_off) == after


def cut_off_copy(lab: Lab) -> Lab:
    """The lake as a kill within the last replay would have left it: claimed, and no row written."""
    shutil.copytree(lab.root / "lake", lab.root / "cut-off")
    for name in ("log_files", "ledger", "quarantine", "calls", "edges"):
        forget_last_commit(lab.root / "cut-off" / name)
    return replace(lab, names=open_lake(lab.spark, TableNames.of(lab.root / "cut-off")))


def test_a_format_without_a_source_is_wrong_use() -> None:
    """Whose format it is must be said, and that lines are to be read again."""
    for words in (["--replay", "--format", "x"], ["--source", "edge", "--format", "x"]):
        done = CliRunner().invoke(cli, ["quarantine", *words])
        assert (done.exit_code, "--format needs --replay" in done.stderr) == (2, True)


def test_formats_to_try() -> None:
    """All that were said of the source, newest first, and known ones that read a line."""
    source = LogSource(source_id="edge", formats={"own": OWN, "istio-2020": ""})
    tried = formats_to_try(source, [JUNK, line(1), OWN_LINES[0]])
    assert [it.name for it in tried] == ["own", "istio-2020", "envoy-default"]


def test_files_are_read_again_by_what_wrote_them() -> None:
    """Ours together, each foreign source for itself."""
    works = works_of(["b/closed/2.log", "c-1/closed/1.jsonl", "b/closed/1.log", "a/closed/1.log"])
    assert [(work.source_id, len(work.files), work.is_foreign) for work in works] == [
        ("", 1, False),
        ("a", 1, True),
        ("b", 2, True),
    ]


def test_the_new_columns_come_last() -> None:
    """Tables that were made before get them added; nothing moves."""
    names = [name for name, _ in TABLES["quarantine"]]
    assert names[:7] == [
        *("batch", "file", "byte_offset", "bytes", "sidecar_id", "reason", "line"),
    ]
