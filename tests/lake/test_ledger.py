"""The ledger says of each sidecar what was counted, logged and kept, and why it differs."""

import pytest

from meshml_dbx.lake.ledger import FOREIGN_TEXT
from meshml_dbx.lake.views import VIEWS
from tests.lake.conftest import Lab
from tests.lake.foreign_lines import TCP, put
from tests.lake.foreign_lines import line as foreign
from tests.lake.writing import NOON, SECOND, LogWriter

pytestmark = pytest.mark.spark

FIGURES = ("counted", "end_lines", "rows", "tunnels", "quarantined", "lost", "explained")
MINUTE = 60 * SECOND


def test_ledgers(lab: Lab) -> None:
    """Whole, killed, with bad lines, without samples, with a gap, and of others: all add up."""
    whole = lab.writer(sidecar_id="a-whole")
    whole.program("begin", NOON)
    whole.call(NOON)
    whole.call(NOON, method="CONNECT")
    whole.sample(NOON + SECOND, requests_total=1, requests_active=1)
    whole.sample(NOON + 2 * SECOND, type_="last", requests_total=2, log_bytes=70, write_failed=0)
    whole.close()
    killed = lab.writer(sidecar_id="b-killed")
    killed.call(NOON)
    killed.unfinished(NOON)
    killed.sample(NOON + SECOND, requests_total=4, requests_active=1)
    killed.close()
    broken = lab.writer(sidecar_id="c-broken")
    broken.sample(NOON + SECOND, type_="last", requests_total=1)
    broken.close(extra=b'{"_record":"call","_type":"DownstreamEnd"}\n')
    silent = lab.writer(sidecar_id="d-silent")
    silent.call(NOON)
    silent.close()
    gap = lab.writer(sidecar_id="e-gap")
    write_minutes(gap)
    put(lab, "f-edge", 1, *(foreign(n) for n in (1, 2, 2)), "no access line", TCP)
    lab.ingest()
    put(lab, "f-edge", 2, foreign(2), foreign(3), foreign(4))
    lab.ingest()
    found = {str(row[0]): row[1:] for row in lab.values("ledger", "sidecar_id", *FIGURES)}
    assert found["a-whole"] == (2, 2, 1, 1, 0, 0, None)
    assert found["b-killed"][:6] == (3, 1, 1, 0, 0, 2)
    assert "1 calls have a start and no end" in str(found["b-killed"][6])
    assert "killed or still running" in str(found["b-killed"][6])
    assert found["c-broken"] == (1, 1, 0, 0, 1, 1, "1 lines of its log are in quarantine")
    assert found["d-silent"] == (None, 1, 1, 0, 0, None, "no sample of the proxy's counters")
    assert found["e-gap"] == (5, 4, 4, 0, 0, 1, None)
    assert found["f-edge"][-2:] == (None, FOREIGN_TEXT)
    sums = lab.values("ledger", "sidecar_id", "unexplained", "duplicates")
    assert sums == [
        ("a-whole", 0, 0),
        ("b-killed", 0, 0),
        ("c-broken", 0, 0),
        ("d-silent", None, 0),
        ("e-gap", 1, 0),
        ("f-edge", None, 0),
    ]
    assert lab.values("ledger", "process_id", "client", "log_bytes")[0][:2] == (
        whole.process_id,
        "churn",
    )
    assert_minutes(lab)
    assert_sources(lab)


def write_minutes(writer: LogWriter) -> None:
    """Three minutes: a call from the first into the second, one begun and ended after a sample, and
    one in the third that was counted and has no line."""
    writer.sample(NOON + 30 * SECOND, requests_total=1, requests_active=0)
    writer.call(NOON + SECOND, total_us=SECOND)
    writer.sample(NOON + 59 * SECOND, requests_total=2, requests_active=1)
    writer.call(NOON + 50 * SECOND, total_us=30 * SECOND)
    writer.call(NOON + 59 * SECOND + 100, total_us=1000)
    writer.sample(NOON + MINUTE + 30 * SECOND, requests_total=3, requests_active=0)
    writer.call(NOON + 2 * MINUTE + SECOND, total_us=1000)
    writer.sample(NOON + 2 * MINUTE + 5 * SECOND, type_="last", requests_total=5, write_failed=0)
    writer.close()


def ask(lab: Lab, view: str, where: str) -> list[dict[str, object]]:
    """What a view answers; its query alone does, so none is made here."""
    query = VIEWS[view][1].format(schema=lab.names.schema)
    rows = lab.spark.sql(f"SELECT * FROM ({query}) WHERE {where}").collect()  # noqa: S608  # ours
    return [row.asDict() for row in rows]


def assert_minutes(lab: Lab) -> None:
    """Calls in flight are carried over, and the lost one shows in its minute."""
    rows = ask(lab, "ledger_minutes", "sidecar_id = 'e-gap'")
    names = ("active_before", "started", "finished", "active_after", "rows", "lost", "lost_so_far")
    told = {row["minute"]: tuple(row[name] for name in names) for row in rows}
    assert [told[minute] for minute in sorted(told, key=str)] == [
        (0, 2, 1, 1, 1, 0, 0),
        (1, 1, 2, 0, 2, 0, 0),
        (0, 2, 2, 0, 1, 1, 1),
    ]


def assert_sources(lab: Lab) -> None:
    """Lines of others are all accounted for: rows, duplicates, quarantine."""
    (edge,) = ask(lab, "ledger_sources", "true")
    assert {name: edge[name] for name in ("source", "files", "lines", "rows")} == {
        "source": "f-edge",
        "files": 2,
        "lines": 8,
        "rows": 6,
    }
    assert (edge["duplicates"], edge["quarantined"], edge["unexplained"]) == (1, 1, 0)


def test_a_ledger_is_carried_on(lab: Lab) -> None:
    """What a sidecar writes later is added to what it wrote before, its last sample counts."""
    writer = lab.writer()
    writer.call(NOON)
    writer.sample(NOON + SECOND, requests_total=1)
    writer.close()
    lab.ingest()
    writer.call(NOON + 2 * SECOND)
    writer.sample(NOON + 3 * SECOND, requests_total=2)
    writer.close()
    lab.ingest()
    assert lab.values("ledger", "counted", "rows", "lost") == [(2, 2, 0)]


def test_recorders_have_a_ledger_in_their_own_words(lab: Lab) -> None:
    """One that dropped ends, one that was killed besides, one of which no sample is left."""
    dropping = lab.writer(sidecar_id="a-dropping", observer="client")
    dropping.program("begin", NOON)
    dropping.call(NOON)
    dropping.sample(NOON + SECOND, requests_total=2, dropped=1)
    dropping.sample(NOON + 2 * SECOND, type_="last", requests_total=5, dropped=4)
    dropping.close()
    killed = lab.writer(sidecar_id="b-killed", observer="client")
    killed.call(NOON)
    killed.sample(NOON + SECOND, requests_total=4, dropped=2)
    killed.close()
    silent = lab.writer(sidecar_id="c-silent", observer="client")
    silent.program("begin", NOON)
    silent.close()
    lab.ingest()
    columns = ("sidecar_id", "observer", "dropped", "lost", "explained")
    found = lab.values("ledger", *columns)
    full = "calls dropped: the recorder's queue was full, or its log could not be written"
    assert found == [
        ("a-dropping", "client", 4, 4, f"4 {full}"),
        (
            *("b-killed", "client", 2, 3),
            f"2 {full}; killed or still running: its last log lines were in memory, not in a file",
        ),
        ("c-silent", "client", None, None, "no sample of the recorder's counters"),
    ]
    (begun,) = (row for row in lab.table("ledger").where("sidecar_id = 'a-dropping'").collect())
    assert begun["begun_at"].timestamp() * SECOND == NOON
