"""Old rows go, new ones and those of runs that still last stay, and every table has a rule."""

import pytest

from meshml_dbx.lake.prune import KEPT, old_rows, prune
from meshml_dbx.lake.runs import store_runs
from meshml_dbx.lake.tables import TABLES
from tests.lake.conftest import Lab
from tests.lake.test_join import a_run
from tests.lake.writing import NOON, SECOND

DAY = 86_400 * SECOND
IN_EVERY_WRITER = ("calls", "attempts", "connections", "samples", "programs", "run_stages")


def test_every_table_is_pruned_or_kept_for_a_reason() -> None:
    """None is left out: a new table needs a rule, or a reason."""
    ruled = old_rows(0, ())
    assert ruled.keys() | KEPT.keys() == TABLES.keys()
    assert not ruled.keys() & KEPT.keys()


@pytest.mark.spark
def test_old_rows_go_and_those_of_a_lasting_run_stay(lab: Lab) -> None:
    """A dry run counts what the next one removes; once more, there is nothing left to remove."""
    runs = [
        a_run("over", 0, 60, process_id="over", client="churn"),
        a_run("lasting", 0, None, process_id="lasting", client="fraud"),
    ]
    store_runs(lab.spark, lab.names, runs)
    for number, (process, client) in enumerate((("over", "churn"), ("lasting", "fraud"))):
        writer = lab.writer(sidecar_id=f"s-{number:08x}", process_id=process, client=client)
        for at in (NOON, NOON + 3 * DAY):
            request_id = writer.call(at, request_id=f"{process}-{at == NOON}")
            writer.attempt(at, request_id)
            writer.connection(at)
            writer.sample(at, requests_total=1)
            writer.program("begin", at)
            writer.stage("begin", at, f"{process}-{at}")
        writer.close(b"no line\n" if number else b"")
    lab.ingest()
    cut = NOON + DAY
    before = {table: lab.count(table) for table in TABLES}
    counted = prune(lab.spark, lab.names, before=cut, dry_run=True)
    assert {table: lab.count(table) for table in TABLES} == before
    done = prune(lab.spark, lab.names, before=cut, dry_run=False)
    assert done == counted
    assert (done.lasting, done.rows["waits"], done.rows["calls_by_run"]) == (("lasting",), 1, 1)
    assert {table: done.rows[table] for table in IN_EVERY_WRITER} == dict.fromkeys(
        IN_EVERY_WRITER, 1
    )
    assert lab.values("calls", "request_id") == [
        ("lasting-False",),
        ("lasting-True",),
        ("over-False",),
    ]
    assert prune(lab.spark, lab.names, before=cut, dry_run=False).total == 0
