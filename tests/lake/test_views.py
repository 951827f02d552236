"""People who come by SQL find comments, seconds, and the answer to the question of the week."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from meshml_dbx.lake.formats import remember_formats
from meshml_dbx.lake.runs import store_runs
from meshml_dbx.lake.tables import TABLES
from meshml_dbx.lake.texts import TABLE_TEXTS, column_text
from meshml_dbx.lake.views import VIEWS, comment_tables, create_views
from meshml_dbx.traffic.known_formats import known_format
from meshml_dbx.traffic.log_format import text_format
from tests.lake.conftest import Lab
from tests.lake.test_join import a_run
from tests.lake.writing import NOON, SECOND

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_every_table_and_column_has_a_text() -> None:
    """There is one for each table, and no column is left to its bare name that others describe."""
    assert TABLE_TEXTS.keys() == TABLES.keys()
    assert all(column_text(column) for columns in TABLES.values() for column, _ in columns)


def shown_query() -> str:
    """The statement that README shows."""
    (query,) = re.findall(r"^```sql\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return str(query)


@pytest.mark.spark
def test_the_service_that_cost_a_team_most(lab: Lab) -> None:
    """README's query names it, for the team that is asked for; views and comments are there."""
    runs = [
        replace(
            a_run(f"run{n}", 0, 60, process_id=str(n), client="churn"), team=team, model="churn"
        )
        for n, team in enumerate(("risk", "sales"))
    ]
    store_runs(lab.spark, lab.names, runs)
    for number in range(2):
        writer = lab.writer(sidecar_id=f"churn-{number:08x}", process_id=str(number))
        writer.call(NOON, total_us=SECOND, virtual_service="labels")
        writer.call(NOON + 5 * SECOND, total_us=9 * SECOND, virtual_service=f"scores-{number}")
        writer.close()
    lab.ingest()
    create_views(lab.spark, lab.names)
    query = (
        shown_query()
        .replace("main.mesh", lab.names.schema)
        .replace("current_date()", "DATE '2026-11-22'")
    )
    found = [tuple(row)[:3] for row in lab.spark.sql(query).collect()]
    assert found == [("churn", "scores-0", 9.0), ("churn", "labels", 1.0)]
    for view in VIEWS:
        assert lab.spark.table(f"{lab.names.schema}.{view}").columns
    told = {c.name: c.description for c in lab.spark.catalog.listColumns(lab.names.table("waits"))}
    assert told == {column: column_text(column) for column, _ in TABLES["waits"]}
    comment_tables(lab.spark, lab.names)
    own = text_format("%START_TIME% %RESPONSE_CODE%")
    formats = (own, known_format("envoy-default"))
    assert [remember_formats(lab.spark, lab.names, formats) for _ in range(2)] == [(own.name,), ()]
    asked = {"service-connect-text": "flags", "envoy-default": "flags", own.name: "code"}
    knows = lab.spark.table(f"{lab.names.schema}.format_columns").collect()
    told = {(row["format"], row["column"]): row["known"] for row in knows}
    assert {name: told[name, column] for name, column in asked.items()} == {
        "service-connect-text": False,
        "envoy-default": True,
        own.name: True,
    }
    assert told[own.name, "flags"] is False
