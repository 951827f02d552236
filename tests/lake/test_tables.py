"""Tables come from the words, open in any session, and only ever gain columns."""

from dataclasses import fields
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.tables import (
    BATCH,
    FOREIGN,
    TABLES,
    VERSION_PROPERTY,
    TableNames,
    any_of,
    open_lake,
)
from meshml_dbx.traffic.access_log import CLIENT_FIELDS
from meshml_dbx.traffic.call import Attempt, Call, Connection, Edge
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.waits import Wait
from tests.lake.conftest import Lab
from tests.lake.writing import NOON

FOREIGN_NAMES = {name for name, _ in (*FOREIGN, *BATCH)}
"""What lines that others wrote have besides, and with which batch a row came."""


@pytest.mark.parametrize(
    ("table", "word", "more"),
    [
        ("runs", Run, set()),
        ("edges", Edge, set()),
        ("waits", Wait, set()),
        ("attempts", Attempt, {"event_date"} | FOREIGN_NAMES),
        ("connections", Connection, {"event_date"} | FOREIGN_NAMES),
        ("tunnels", Call, {"duration_us", "event_date"} | FOREIGN_NAMES),
    ],
)
def test_columns_are_the_fields_of_the_word(table: str, word: type, more: set[str]) -> None:
    """A table has the fields of its word, and nothing but what is named here besides."""
    columns = {name for name, _ in TABLES[table]}
    assert columns == {field.name for field in fields(word)} | more


def test_a_lake_is_a_folder_or_a_schema() -> None:
    """What has the form catalog.schema is one; a path is a folder, two folders two schemas."""
    assert TableNames.of("main.mesh").table("edges") == "`main`.`mesh`.`edges`"
    assert TableNames.of("./main.mesh").folder == Path("main.mesh").absolute()
    assert TableNames.of("a/lake").schema != TableNames.of("b/lake").schema


def _add(spark: SparkSession, table: str, schema: str, row: tuple[object, ...]) -> None:
    rows = spark.createDataFrame([row], schema)
    rows.write.format("delta").mode("append").saveAsTable(table)


@pytest.mark.spark
def test_an_old_table_gets_new_columns(spark: SparkSession, tmp_path: Path) -> None:
    """A lake made before a column was known keeps its rows and gains the column."""
    names = TableNames.of(tmp_path / "lake")
    spark.sql(f"CREATE SCHEMA {names.schema}")
    old = f"LOCATION '{tmp_path}/lake/edges'"
    spark.sql(
        f"CREATE TABLE {names.table('edges')} (client STRING, calls BIGINT) USING DELTA {old}"
    )
    _add(spark, names.table("edges"), "client STRING, calls BIGINT", ("churn", 3))
    open_lake(spark, names)
    table = spark.table(names.table("edges"))
    assert set(table.columns) == {name for name, _ in TABLES["edges"]}
    assert [tuple(row) for row in table.select("client", "calls", "hour").collect()] == [
        ("churn", 3, None)
    ]


NEW_SINCE_PROXIES = {
    *(field.column for field in CLIENT_FIELDS),
    *("dropped", "begun_at"),
}
NEW_OF_CONNECTIONS = {"virtual_service", "target", "upstream_host", "upstream_failure", "flags"}


def _older_lake(spark: SparkSession, names: TableNames) -> None:
    """The tables as they were when only proxies wrote lines."""
    spark.sql(f"CREATE SCHEMA {names.schema}")
    for table, columns in TABLES.items():
        if table == "run_stages":  # its thread is older
            continue
        known = [c for c in columns if c[0] not in NEW_SINCE_PROXIES]
        known = [c for c in known if (table, c[0]) != ("ledger", "observer")]
        if table == "connections":
            known = [c for c in known if c[0] not in NEW_OF_CONNECTIONS]
        listed = ", ".join(f"`{name}` {kind}" for name, kind in known)
        spark.sql(
            f"CREATE TABLE {names.table(table)} ({listed}) USING DELTA "
            f"LOCATION '{names.folder}/{table}' TBLPROPERTIES ('{VERSION_PROPERTY}' = '1')"
        )


@pytest.mark.spark
def test_a_lake_of_before_takes_recorded_calls(spark: SparkSession, tmp_path: Path) -> None:
    """Its calls and ledgers keep their rows, and what processes record goes beside them."""
    names = TableNames.of(tmp_path / "lake")
    _older_lake(spark, names)
    old = ("request_id STRING, sidecar_id STRING, observer STRING", ("old", "churn-1", "egress"))
    _add(spark, names.table("calls"), *old)
    _add(spark, names.table("ledger"), "sidecar_id STRING, lost BIGINT", ("churn-1", 0))
    lab = Lab(spark=spark, root=tmp_path, names=open_lake(spark, names))
    writer = lab.writer(sidecar_id="churn-2", observer="client")
    writer.call(NOON, request_id="new", resource=7, spark_stage=3, thread="worker")
    writer.sample(NOON, type_="last", requests_total=3, dropped=2)
    writer.close()
    lab.ingest()
    columns = ("request_id", "resource", "spark_stage", "thread", "observer")
    assert lab.values("calls", *columns) == [
        ("new", 7, 3, "worker", "client"),
        ("old", None, None, None, "egress"),
    ]
    assert lab.values("ledger", "sidecar_id", "dropped", "observer") == [
        ("churn-1", None, None),
        ("churn-2", 2, "client"),
    ]


@pytest.mark.spark
def test_a_lake_of_before_takes_connections_of_callers(spark: SparkSession, tmp_path: Path) -> None:
    """Its connections keep their rows, and where a caller's plain connection led is told."""
    names = TableNames.of(tmp_path / "lake")
    _older_lake(spark, names)
    _add(spark, names.table("connections"), "sidecar_id STRING, failure STRING", ("old", "TLS"))
    lab = Lab(spark=spark, root=tmp_path, names=open_lake(spark, names))
    writer = lab.writer(sidecar_id="new")
    writer.connection(NOON, virtual_service="store.ml.local", target="store", flags="UF")
    writer.close()
    lab.ingest()
    columns = ("sidecar_id", "failure", "virtual_service", "target", "upstream_host", "flags")
    assert lab.values("connections", *columns) == [
        ("new", None, "store.ml.local", "store", None, "UF"),
        ("old", "TLS", None, None, None, None),
    ]


@pytest.mark.spark
def test_a_newer_lake_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    """A lake that a later version wrote is not touched, and the message says what to do."""
    names = open_lake(spark, TableNames.of(tmp_path / "lake"))
    spark.sql(f"ALTER TABLE {names.table('calls')} SET TBLPROPERTIES ('{VERSION_PROPERTY}' = '99')")
    with pytest.raises(LakeError, match="schema version 99") as told:
        open_lake(spark, names)
    assert "upgrade" in told.value.advice


@pytest.mark.spark
def test_two_lakes_in_one_session(spark: SparkSession, tmp_path: Path) -> None:
    """Tables of two folders do not collide, and a lake that a session forgot is opened again."""
    one, two = (open_lake(spark, TableNames.of(tmp_path / name)) for name in ("one", "two"))
    _add(spark, one.table("runs"), "run_id STRING", ("r",))
    assert [spark.table(names.table("runs")).count() for names in (one, two)] == [1, 0]
    spark.sql(f"DROP SCHEMA {one.schema} CASCADE")
    assert spark.table(open_lake(spark, one).table("runs")).count() == 1


@pytest.mark.spark
def test_a_foreign_folder_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Where a table cannot be made, the error is ours and names the lake."""
    (tmp_path / "lake").write_text("a file")
    with pytest.raises(LakeError, match="cannot be opened"):
        open_lake(spark, TableNames.of(tmp_path / "lake"))


@pytest.mark.spark
def test_any_of_takes_texts_as_they_are(spark: SparkSession) -> None:
    """Quotes and backslashes in a name neither end the text nor change it."""
    names = ["plain", "it's", "back\\slash", "'", "other"]
    rows = spark.createDataFrame([(name,) for name in names], "name STRING")
    found = rows.where(any_of("name", names[:-1])).collect()
    assert [row["name"] for row in found] == names[:-1]
