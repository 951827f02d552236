"""The lake's tables: their columns, made from the words' fields, and how they come to be.

Goes in: a session and a place, a folder or ``catalog.schema``. Comes out: tables by name. Columns
are only ever added: an older table gets the missing ones, a newer one than ours is refused.
"""

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import SparkSession

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.texts import TABLE_TEXTS, column_text, text_literal
from meshml_dbx.traffic.access_log import ATTEMPT_FIELDS, CONNECTION_FIELDS, FIELDS, Field
from meshml_dbx.traffic.program_log import (
    MESH_FIELDS,
    PROGRAM_FIELDS,
    SAMPLE_FIELDS,
    STAGE_FIELDS,
)
from meshml_dbx.traffic.waits import PART_NAMES

SCHEMA_VERSION = 1
VERSION_PROPERTY = "meshml.schema_version"
SQL_TYPES = {"text": "STRING", "number": "BIGINT", "time": "TIMESTAMP"}
THREADS = 6
CATALOG_SCHEMA = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")

Columns = tuple[tuple[str, str], ...]


def _columns(fields: tuple[Field, ...], *, without: tuple[str, ...] = ()) -> Columns:
    return tuple((f.column, SQL_TYPES[f.kind]) for f in fields if f.column not in without)


def _plain(text: str) -> Columns:
    return tuple((name, kind) for name, kind in (part.split() for part in text.split(",")))


MONEY = "DECIMAL(38, 12)"
BATCH: Columns = (("batch", "BIGINT"),)
"""Which batch of ``log_files`` a row came with."""
BUCKETS: Columns = (("buckets", "MAP<INT, BIGINT>"),)
EVENT_DATE: Columns = (("event_date", "DATE"),)
FOREIGN: Columns = (("format", "STRING"), ("more", "MAP<STRING, STRING>"), ("line_key", "BIGINT"))
"""Of lines that others wrote, null in ours: the format, which tells what a null can mean, what has
no column, and a hash of the line, the same on whatever road it came."""
CALL_COLUMNS: Columns = (
    *_columns(FIELDS, without=("type",)),
    ("pattern", "STRING"),
    ("duration_us", "BIGINT"),
    *EVENT_DATE,
    *FOREIGN,
    *BATCH,
)
ATTEMPT_COLUMNS: Columns = (
    *_columns(ATTEMPT_FIELDS, without=("type",)),
    *EVENT_DATE,
    *FOREIGN,
    *BATCH,
)
CONNECTION_COLUMNS: Columns = (
    *_columns(CONNECTION_FIELDS, without=("type",)),
    *EVENT_DATE,
    *FOREIGN,
    *BATCH,
)
CALL_KEY = ("request_id", "start_time", "observer", "sidecar_id")
COUNTED = (
    "ended",
    "progress",
    "unfinished",
    "attempts",
    "connections",
    "stages",
    "samples",
    "programs",
    "meshes",
    "unknown",
)
"""What lines of a log file can be, and so the counts that ``log_files`` keeps of each file."""

TABLES: dict[str, Columns] = {
    "calls": CALL_COLUMNS,
    "unfinished_calls": CALL_COLUMNS,
    "tunnels": (("type", "STRING"), *CALL_COLUMNS),
    "attempts": ATTEMPT_COLUMNS,
    "connections": CONNECTION_COLUMNS,
    "run_stages": _columns(STAGE_FIELDS),
    "samples": _columns(SAMPLE_FIELDS),
    "programs": _columns(PROGRAM_FIELDS),
    "mesh_versions": _columns(MESH_FIELDS, without=("type",)),
    "runs": _plain(
        "run_id STRING, name STRING, experiment_id STRING, status STRING, start_time TIMESTAMP, "
        "end_time TIMESTAMP, experiment STRING, parent_run_id STRING, process_id STRING, "
        "client STRING, team STRING, model STRING, environment STRING, workspace_id STRING, "
        "job_id STRING, job_run_id STRING, cluster_id STRING, task_run_id STRING, "
        "model_version STRING, deleted BOOLEAN"
    ),
    "run_stores": _plain(
        "store STRING, read_at TIMESTAMP, whole_at TIMESTAMP, swept_to TIMESTAMP, "
        "round_at TIMESTAMP"
    ),
    "job_runs": (
        *_plain(
            "workspace_id STRING, job_id STRING, job_run_id STRING, task_run_id STRING, "
            "task_key STRING, name STRING, start_time TIMESTAMP, end_time TIMESTAMP, "
            "result_state STRING"
        ),
        ("compute_ids", "ARRAY<STRING>"),
    ),
    "calls_by_run": _plain(
        "run_id STRING, request_id STRING, start_time TIMESTAMP, observer STRING, "
        "sidecar_id STRING, join_method STRING, ambiguous BOOLEAN, stage STRING"
    ),
    "edges": _plain(
        "hour TIMESTAMP, client STRING, virtual_service STRING, route STRING, target STRING, "
        "calls BIGINT, errors BIGINT, retries BIGINT, duration_us BIGINT, p50_us BIGINT, "
        "p95_us BIGINT, bytes_in BIGINT, bytes_out BIGINT"
    ),
    "edge_minutes": (
        *_plain(
            "minute TIMESTAMP, client STRING, virtual_service STRING, route STRING, target STRING, "
            "calls BIGINT, errors BIGINT, retries BIGINT, duration_us BIGINT, bytes_in BIGINT, "
            "bytes_out BIGINT"
        ),
        *BUCKETS,
    ),
    "waits": (
        *_plain(
            "run_id STRING, event_date DATE, stage STRING, service STRING, virtual_service STRING, "
            "route STRING, target STRING, pattern STRING, calls BIGINT, unfinished BIGINT, "
            "errors BIGINT, retries BIGINT, wait_us BIGINT, duration_us BIGINT"
        ),
        *((f"{part}_us", "BIGINT") for part in PART_NAMES),
        *_plain("bytes_in BIGINT, bytes_out BIGINT"),
        *BUCKETS,
    ),
    "cost": (
        *_plain(
            "ChargePeriodStart TIMESTAMP, ChargePeriodEnd TIMESTAMP, BillingAccountId STRING, "
            "SubAccountId STRING, ServiceProviderName STRING, HostProviderName STRING, "
            "SkuId STRING, ResourceId STRING, PricingUnit STRING"
        ),
        ("PricingQuantity", MONEY),
        ("ListCost", MONEY),
        *_plain(
            "BillingCurrency STRING, ChargeCategory STRING, AllocatedMethodId STRING, "
            "AllocatedMethodDetails STRING, AllocatedResourceId STRING, "
            "AllocatedResourceName STRING, AllocatedTags STRING"
        ),
        ("wait_cost", MONEY),
        *EVENT_DATE,
    ),
    "metrics_written": _plain("run_id STRING, digest BIGINT, step BIGINT"),
    "ledger": _plain(
        "sidecar_id STRING, process_id STRING, client STRING, virtual_node STRING, "
        "counted BIGINT, counted_at TIMESTAMP, ended BOOLEAN, end_lines BIGINT, rows BIGINT, "
        "tunnels BIGINT, unfinished BIGINT, quarantined BIGINT, log_bytes BIGINT, "
        "read_bytes BIGINT, write_failed BIGINT, lost BIGINT, explained STRING, "
        "observer STRING, begun_at TIMESTAMP, dropped BIGINT, duplicates BIGINT, "
        "unexplained BIGINT"
    ),
    "quarantine": _plain(
        "batch BIGINT, file STRING, byte_offset BIGINT, bytes BIGINT, sidecar_id STRING, "
        "reason STRING, line STRING, line_key BIGINT, seen_at TIMESTAMP, replayed_batch BIGINT, "
        "replayed_as STRING, replayed_at TIMESTAMP"
    ),
    "log_files": (
        *_plain("batch BIGINT, state STRING, file STRING, sidecar_id STRING, bytes BIGINT"),
        *((name, "BIGINT") for name in COUNTED),
        ("quarantined", "BIGINT"),
        ("format", "STRING"),
        ("duplicates", "BIGINT"),
    ),
    "formats": _plain("format STRING, template STRING, columns ARRAY<STRING>"),
}
"""Every table and its columns; ``log_files`` is what ingest remembers of the files it has read."""

SKIPPING = (
    "start_time",
    "time",
    "event_date",
    "process_id",
    "sidecar_id",
    "run_id",
    "hour",
    "minute",
    "batch",
)
"""Columns that files are skipped by. Statistics of all others cost more than the write itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableNames:
    """The full names of the lake's tables; after opening, only names are used, never paths.

    >>> TableNames.of("main.mesh").table("calls")
    '`main`.`mesh`.`calls`'
    """

    schema: str
    folder: Path | None = None

    @classmethod
    def of(cls, lake: str | Path) -> "TableNames":
        """The names of the tables of a lake: ``catalog.schema``, or a folder on this machine.

        Two folders in one session get two schemas, so that their tables do not collide.
        """
        if isinstance(lake, str) and CATALOG_SCHEMA.fullmatch(lake):
            catalog, schema = lake.split(".")
            return cls(schema=f"`{catalog}`.`{schema}`")
        folder = Path(lake).absolute()
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        return cls(schema=f"`meshml_{digest}`", folder=folder)

    def table(self, name: str) -> str:
        """The full name of one table."""
        if name not in TABLES:
            raise KeyError(name)
        return f"{self.schema}.`{name}`"


def open_lake(spark: SparkSession, names: TableNames) -> TableNames:
    """The names, once every table is there with every column.

    Raises:
        LakeError: a table is newer than this version, or cannot be made.
    """
    try:
        if names.folder or not spark.catalog.databaseExists(names.schema.replace("`", "")):
            spark.sql(f"CREATE SCHEMA IF NOT EXISTS {names.schema}")
        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(_open_table, spark, names, name) for name in TABLES]:
                done.result()
    except LakeError:
        raise
    except Exception as error:
        raise LakeError(
            f"the lake {names.folder or names.schema} cannot be opened: {_first_line(error)}",
            advice="see that it is a lake of meshml and that you may write to it",
        ) from error
    return names


def _open_table(spark: SparkSession, names: TableNames, name: str) -> None:
    table = names.table(name)
    if names.folder and (names.folder / name / "_delta_log").is_dir():
        spark.sql(f"CREATE TABLE IF NOT EXISTS {table} USING DELTA {_location(names, name)}")
    elif not spark.catalog.tableExists(table):
        spark.sql(create_statement(names, name))
        return
    _bring_up(spark, table, name)


def create_statement(names: TableNames, name: str) -> str:
    """The DDL of one table."""
    columns = ", ".join(
        f"`{column}` {kind} COMMENT {text_literal(column_text(column))}"
        for column, kind in TABLES[name]
    )
    skipping = ",".join(column for column, _ in TABLES[name] if column in SKIPPING)
    properties = f"'{VERSION_PROPERTY}' = '{SCHEMA_VERSION}'"
    if skipping:
        properties += f", 'delta.dataSkippingStatsColumns' = '{skipping}'"
    return (
        f"CREATE TABLE IF NOT EXISTS {names.table(name)} ({columns}) USING DELTA "
        f"COMMENT {text_literal(TABLE_TEXTS[name])} "
        f"{_location(names, name)} TBLPROPERTIES ({properties})"
    )


def _location(names: TableNames, name: str) -> str:
    if names.folder is None:
        return ""
    path = str(names.folder / name).replace("\\", "\\\\").replace("'", "\\'")
    return f"LOCATION '{path}'"


def _bring_up(spark: SparkSession, table: str, name: str) -> None:
    """Add the columns that an older table lacks; refuse one that is newer than we are."""
    rows = spark.sql(f"SHOW TBLPROPERTIES {table}").collect()
    found = int({row[0]: row[1] for row in rows}.get(VERSION_PROPERTY, "0"))
    if found > SCHEMA_VERSION:
        raise LakeError(
            f"the table {table} has schema version {found}; this meshml knows {SCHEMA_VERSION}",
            advice="upgrade meshml_dbx here, or use another lake",
        )
    known = set(spark.table(table).columns)
    missing = [(column, kind) for column, kind in TABLES[name] if column not in known]
    if missing:
        added = ", ".join(
            f"`{column}` {kind} COMMENT {text_literal(column_text(column))}"
            for column, kind in missing
        )
        spark.sql(f"ALTER TABLE {table} ADD COLUMNS ({added})")
    if found < SCHEMA_VERSION:
        spark.sql(
            f"ALTER TABLE {table} SET TBLPROPERTIES ('{VERSION_PROPERTY}' = '{SCHEMA_VERSION}')"
        )


def any_of(column: str, values: Iterable[str]) -> str:
    """The SQL that holds for the rows with one of these texts in the column.

    >>> any_of("run_id", ["a", "b"])
    "`run_id` IN ('a', 'b')"
    """
    escaped = (value.replace("\\", "\\\\").replace("'", "\\'") for value in values)
    quoted = ", ".join(f"'{value}'" for value in escaped)
    return f"`{column}` IN ({quoted})"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
