"""The ledger says of each sidecar what was counted, logged and kept, and why it differs."""

import pytest

from tests.lake.conftest import Lab
from tests.lake.writing import NOON, SECOND

pytestmark = pytest.mark.spark

FIGURES = ("counted", "end_lines", "rows", "tunnels", "quarantined", "lost", "explained")


def test_ledgers(lab: Lab) -> None:
    """One that is whole, one that was killed, one whose lines are bad, one without samples."""
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
    lab.ingest()
    found = {str(row[0]): row[1:] for row in lab.values("ledger", "sidecar_id", *FIGURES)}
    assert found["a-whole"] == (2, 2, 1, 1, 0, 0, None)
    assert found["b-killed"][:6] == (3, 1, 1, 0, 0, 2)
    assert "1 calls have a start and no end" in str(found["b-killed"][6])
    assert "killed or still running" in str(found["b-killed"][6])
    assert found["c-broken"] == (1, 1, 0, 0, 1, 1, "1 lines of its log are in quarantine")
    assert found["d-silent"] == (None, 1, 1, 0, 0, None, "no sample of the proxy's counters")
    assert lab.values("ledger", "process_id", "client", "log_bytes")[0][:2] == (
        whole.process_id,
        "churn",
    )


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
