"""Whether anything was lost between a proxy and its rows: one row of ``ledger`` per sidecar.

A sidecar's id is made anew each time that one starts, so a row is of one session. A process that
records itself has a row like a sidecar's. Goes in: the proxy's own counters, as its last sample has
them, the lines that its files hold, and the rows that came of them. Comes out: what the counters
have and no row tells of, and why.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.tables import TABLES, THREADS, TableNames, any_of
from meshml_dbx.traffic.access_log import CLIENT_OBSERVER, END_TYPE
from meshml_dbx.traffic.evidence import DROPPED_TEXT

BEGUN = "begun"
WHOM = ("process_id", "client", "virtual_node", "observer")
COUNTED_ROWS = ("rows", "tunnels", "unfinished", "quarantined")
TIMES = ("counted_at", "begun_at")
FOREIGN_TEXT = "lines that others wrote have no counters: see ledger_sources"

Figures = dict[str, Any]
"""What is known of one sidecar, by the names of the ledger's columns."""


def refresh_ledger(spark: SparkSession, names: TableNames, sidecars: Iterable[str]) -> None:
    """Draw up the ledger of these sidecars again."""
    wanted = sorted(set(sidecars))
    if not wanted:
        return
    (
        ledger_of_sidecars(spark, names, wanted)
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", any_of("sidecar_id", wanted))
        .saveAsTable(names.table("ledger"))
    )


def ledger_of_sidecars(spark: SparkSession, names: TableNames, sidecars: list[str]) -> DataFrame:
    """One row per sidecar: counted, logged, in rows, lost.

    The tables are summed up apart and brought together here: four small questions side by side
    take a third of the time of one that joins them all.
    """
    tables = _Tables(spark=spark, names=names, sidecars=sidecars)
    asked = (tables.files, tables.rows, tables.programs, tables.counters)
    with ThreadPoolExecutor(THREADS) as pool:
        answers = [answer.result() for answer in [pool.submit(ask) for ask in asked]]
    known: dict[str, Figures] = {sidecar_id: {} for sidecar_id in sidecars}
    for answer in answers:
        for sidecar_id, figures in answer.items():
            known[sidecar_id] |= figures
    return _frame(spark, [draw_up(sidecar_id, figures) for sidecar_id, figures in known.items()])


def draw_up(sidecar_id: str, known: Mapping[str, Any]) -> Figures:
    """The ledger's row of one sidecar; null is what nobody told.

    >>> draw_up("a", {"counted": 3, "rows": 2, "ended": True, "end_lines": 3, "quarantined": 1})[
    ...     "explained"]
    '1 lines of its log are in quarantine'
    """
    zero = ("end_lines", "read_bytes", "duplicates", *COUNTED_ROWS)
    counts = {name: known.get(name, 0) for name in zero}
    told = {name: known.get(name) for name, _ in TABLES["ledger"]} | counts
    counted = told["counted"]
    lost = None if counted is None else max(counted - counts["rows"] - counts["tunnels"], 0)
    row = {**told, "sidecar_id": sidecar_id, "lost": lost}
    if known.get("foreign"):
        return {**row, "explained": FOREIGN_TEXT}
    return {**row, "explained": _explained(row), "unexplained": _unexplained(row)}


def _unexplained(row: Mapping[str, Any]) -> int | None:
    """The lost calls of which nothing says why; None when nobody counted.

    A failed write, and a kill, may have taken any number of lines along.
    """
    if row["lost"] is None:
        return None
    if row["write_failed"] or not row["ended"]:
        return 0
    named = row["quarantined"] + row["unfinished"] + (row["dropped"] or 0)
    return max(int(row["lost"] - named), 0)


def _explained(row: Mapping[str, Any]) -> str | None:
    """What is known of the difference between the counters and the rows, null when there is none.

    A line in quarantine may be any call's; a call without an end is one whose end was not written.
    """
    is_recorder = row["observer"] == CLIENT_OBSERVER
    if row["counted"] is None:
        return f"no sample of the {'recorder' if is_recorder else 'proxy'}'s counters"
    if not row["lost"]:
        return None
    parts = [
        f"{row[name]} {text}"
        for name, text in (
            ("quarantined", "lines of its log are in quarantine"),
            ("unfinished", "calls have a start and no end"),
            ("write_failed", "writes of the proxy's log failed"),
            ("dropped", f"calls {DROPPED_TEXT}"),
        )
        if row[name]
    ]
    if not row["ended"] and row["lost"] > (row["dropped"] or 0):
        parts.append("killed or still running: its last log lines were in memory, not in a file")
    return "; ".join(parts) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    """Asks each table what it knows of the sidecars."""

    spark: SparkSession
    names: TableNames
    sidecars: list[str]

    def files(self) -> dict[str, Figures]:
        """What the files hold, as counted before any line was parsed."""
        begun = self._of("log_files").where(F.col("state") == BEGUN).groupBy("sidecar_id")
        sums = {"end_lines": "ended", "read_bytes": "bytes", "duplicates": "duplicates"}
        return _by_sidecar(
            begun.agg(
                *(F.sum(column).alias(name) for name, column in sums.items()),
                F.max(F.col("format").isNotNull()).alias("foreign"),
            )
        )

    def programs(self) -> dict[str, Figures]:
        """Whose the sidecars are."""
        programs = self._of("programs").groupBy("sidecar_id")
        begun = F.unix_micros(F.min(F.when(F.col("type") == "begin", F.col("time"))))
        return _by_sidecar(
            programs.agg(begun.alias("begun_at"), *(F.max(name).alias(name) for name in WHOM))
        )

    def counters(self) -> dict[str, Figures]:
        """The proxy's counters, as the last sample has them."""
        finished = F.col("requests_total") - F.coalesce(F.col("requests_active"), F.lit(0))
        sampled = {
            "counted": finished,
            "ended": F.col("type") == "last",
            "log_bytes": F.col("log_bytes"),
            "write_failed": F.col("write_failed"),
            "dropped": F.col("dropped"),
        }
        last = [F.max_by(value, F.col("time")).alias(name) for name, value in sampled.items()]
        samples = self._of("samples").where("requests_total IS NOT NULL").groupBy("sidecar_id")
        return _by_sidecar(samples.agg(F.unix_micros(F.max("time")).alias("counted_at"), *last))

    def rows(self) -> dict[str, Figures]:
        """How many rows came of its lines, by what they became, and who saw its calls."""
        kept = self._of("quarantine").where("replayed_at IS NULL")
        unsaid = kept.withColumn("observer", F.lit(None).cast("STRING"))
        tables = {
            "rows": self._of("calls"),
            "tunnels": self._of("tunnels").where(F.col("type") == END_TYPE),
            "unfinished": self._of("unfinished_calls"),
            "quarantined": unsaid,
        }
        columns = ("sidecar_id", "observer")
        rows = [table.select(*columns, F.lit(n).alias("n")) for n, table in tables.items()]
        each = reduce(DataFrame.unionAll, rows).groupBy("sidecar_id")
        counts = (F.count_if(F.col("n") == name).alias(name) for name in COUNTED_ROWS)
        return _by_sidecar(each.agg(F.max("observer").alias("observer"), *counts))

    def _of(self, table: str) -> DataFrame:
        return self.spark.table(self.names.table(table)).where(
            F.col("sidecar_id").isin(self.sidecars)
        )


def _by_sidecar(rows: DataFrame) -> dict[str, Figures]:
    """What is known of each sidecar; what is not known is left out."""
    figures = ({k: v for k, v in row.asDict().items() if v is not None} for row in rows.collect())
    return {str(one.pop("sidecar_id")): one for one in figures}


def _frame(spark: SparkSession, rows: list[Figures]) -> DataFrame:
    """Rows of the table ``ledger``; times come as microseconds, whatever the time zone here."""
    columns = TABLES["ledger"]
    raw = ", ".join(f"`{name}` {'BIGINT' if name in TIMES else kind}" for name, kind in columns)
    values = [tuple(row[name] for name, _ in columns) for row in rows]
    moments = {name: F.timestamp_micros(name) for name in TIMES}
    return spark.createDataFrame(values, raw).withColumns(moments)
