"""One batch of log files: entered in the lake's book, written table by table, struck off.

Goes in: names of closed files. Comes out: rows in all tables that their lines belong to, and the
tables made from these worked out again for the time that was touched. Every write carries the
batch's number, so that a batch which was cut off anywhere can be done again from its start.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.edges import refresh_edge_minutes, refresh_edges
from meshml_dbx.lake.join import refresh_calls_by_run
from meshml_dbx.lake.ledger import refresh_ledger
from meshml_dbx.lake.quarantine import FILE_PARTS, bad_lines, place_lines
from meshml_dbx.lake.sources import (
    BLANK,
    KIND_NAMES,
    KINDS,
    UNKNOWN,
    Kind,
    is_tidy,
    lines_of_kind,
    parse_lines,
    parse_slowly,
    read_lines,
)
from meshml_dbx.lake.spans import HOUR_US, LAST_MOMENT, Span, merge_spans, spans_of_hours
from meshml_dbx.lake.tables import COUNTED, TABLES, THREADS, TableNames
from meshml_dbx.lake.waits import owners_of_unfinished, refresh_waits

APP_ID = "meshml.ingest"
BEGUN, DONE = "begun", "done"
ODD = "odd"
TIMED = ("ended", "unfinished")
"""Kinds of lines whose hours are noted: what is made of calls is worked out again for them."""
FEW_HOURS = 24
"""Up to so many, all between the first and the last call are taken for touched: that is quicker
than to look at each call's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Which files are taken in together; ``replayed`` when a run before this may have begun it."""

    spark: SparkSession
    names: TableNames
    root: str
    number: int
    replayed: bool

    def table(self, name: str) -> DataFrame:
        """The rows of one of the lake's tables."""
        return self.spark.table(self.names.table(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class BookState:
    """How far the lake's book goes: the batch begun last, 0 when none, and those not done."""

    last: int
    cut_off: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A batch whose rows are in their tables, and what was seen of them; not struck off yet.

    ``counts`` are those of all its files that were not known when it was entered.
    """

    batch: Batch
    book: list[Row]
    seen: Mapping[str, Mapping[str, Any]]
    quarantined: int
    counts: Mapping[str, int] | None = None

    @property
    def taken(self) -> dict[str, int]:
        """Its files, their bytes, and their lines by kind."""
        known = ("bytes",) if self.counts is not None else ("bytes", *COUNTED)
        counts = {name: sum(row[name] or 0 for row in self.book) for name in known}
        more = {"quarantined": self.quarantined, **(self.counts or {})}
        return {"files": len(self.book), **counts, **more}


def read_book_state(spark: SparkSession, names: TableNames) -> BookState:
    """Where ingest stands; a batch is cut off when something was killed before it was done."""
    by_batch = spark.table(names.table("log_files")).groupBy("batch")
    states = by_batch.agg(F.count_if(F.col("state") == DONE).alias("done"))
    last, cut_off = F.max("batch"), F.collect_list(F.when(F.col("done") == 0, F.col("batch")))
    row = states.agg(last.alias("last"), cut_off.alias("cut_off")).first()
    if row is None or row["last"] is None:
        return BookState(last=0, cut_off=())
    return BookState(last=int(row["last"]), cut_off=tuple(sorted(row["cut_off"])))


def unknown_files(spark: SparkSession, names: TableNames, files: Iterable[str]) -> list[str]:
    """Those of the files that are not in the lake's book yet."""
    wanted = sorted(set(files))
    book = spark.table(names.table("log_files"))
    known = {row["file"] for row in book.where(F.col("file").isin(wanted)).collect()}
    return [file for file in wanted if file not in known]


def take_in(batch: Batch, files: list[str]) -> Written:
    """Enter files of which the lake has none in its book, and write their rows."""
    counted = count_lines(batch.spark, [f"{batch.root}/{file}" for file in files])
    tidy = not any(counts[ODD] for counts in counted.values())
    book = begin(batch, [_book_row(batch, file, counted.get(file, {})) for file in files])
    return write_batch(batch, book, tidy=tidy)


def do_again(batch: Batch) -> Written:
    """Write the rest of the rows of a batch that was cut off."""
    return write_batch(batch, book_of(batch), tidy=False)


def write_batch(batch: Batch, book: list[Row], *, tidy: bool) -> Written:
    """Write what the batch's files hold.

    ``tidy`` when every line of a known kind begins as proxy and supervisor write it.
    """
    # Side by side: planning a write and waiting for Delta takes longer than most kinds' rows do.
    with ThreadPoolExecutor(THREADS) as pool:
        writes = {
            kind.name: pool.submit(_write_kind, batch, paths, kind, tidy=tidy)
            for kind in KINDS
            if kind.table and (paths := _paths(batch, book, kind.name))
        }
        seen = {name: write.result() for name, write in writes.items()}
    return Written(batch=batch, book=book, seen=seen, quarantined=_write_bad(batch, book, seen))


def finish(written: Sequence[Written]) -> None:
    """Work out what is made of the rows of these batches, all at once, and strike them off."""
    if not written:
        return
    book = [row for one in written for row in one.book]
    derive(written[0].batch, book, _together([one.seen for one in written]))
    for one in written:
        close_book(one.batch, one.quarantined, one.counts)


def _together(seen: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, set[Any]]]:
    """What was seen of several batches: the hours and stages of all."""
    joined: dict[str, dict[str, set[Any]]] = {}
    for kinds in seen:
        for kind, facts in kinds.items():
            for name in facts.keys() & {"hours", "begin", "end"}:
                joined.setdefault(kind, {}).setdefault(name, set()).update(facts[name])
    return joined


# --- the lake's book ------------------------------------------------------------------------------


def begin(batch: Batch, rows: list[dict[str, Any]]) -> list[Row]:
    """These rows, one a file, as entered in the lake's book; from here on they are this batch's.

    Raises:
        LakeError: another ingest took the number first.
    """
    append_once(batch, book_frame(batch, rows), "log_files", "begin")
    book = book_of(batch)
    if {row["file"] for row in book} != {row["file"] for row in rows}:
        raise LakeError(
            "another ingest is at work on this lake",
            advice="let it end; what it takes in need not be taken in again",
        )
    return book


def count_lines(spark: SparkSession, paths: list[str]) -> dict[str, dict[str, int]]:
    """How many lines of each kind each file has, without parsing: what the ledger goes by.

    ``odd`` counts the lines of known kinds that do not begin as such lines do.
    """
    kinds = [F.count_if(F.col("kind") == name).alias(name) for name in (*KIND_NAMES, UNKNOWN)]
    size = F.coalesce(F.sum(F.octet_length("value") + 1), F.lit(0)).alias("bytes")
    odd = F.count_if(~is_tidy("value") & ~F.col("kind").isin(UNKNOWN, BLANK)).alias(ODD)
    rows = read_lines(spark, paths).groupBy("log_file").agg(size, odd, *kinds).collect()
    return {file_of(row["log_file"]): row.asDict() for row in rows}


def file_of(url: str) -> str:
    """What the lake knows a file by: its sidecar's folder, ``closed``, its name."""
    return "/".join(url.split("/")[-FILE_PARTS:])


def _book_row(batch: Batch, file: str, counted: Mapping[str, int]) -> dict[str, Any]:
    return {
        "batch": batch.number,
        "state": BEGUN,
        "file": file,
        "sidecar_id": file.split("/", maxsplit=1)[0],
        **{name: counted.get(name, 0) for name in ("bytes", *COUNTED)},
        "quarantined": 0,
    }


def book_frame(batch: Batch, rows: list[dict[str, Any]]) -> DataFrame:
    schema = ", ".join(f"`{name}` {kind}" for name, kind in TABLES["log_files"])
    return batch.spark.createDataFrame(
        [tuple(row.get(name) for name, _ in TABLES["log_files"]) for row in rows], schema
    )


def book_of(batch: Batch) -> list[Row]:
    entered = F.col("batch") == batch.number
    rows: list[Row] = batch.table("log_files").where(entered & (F.col("state") == BEGUN)).collect()
    return rows


def _paths(batch: Batch, book: list[Row], kind: str) -> list[str]:
    """Where the files with such lines are; one removed since the batch was begun is gone."""
    paths = (f"{batch.root}/{row['file']}" for row in book if row[kind])
    return [path for path in paths if not batch.replayed or Path(path).exists()]


def close_book(batch: Batch, quarantined: int, counts: Mapping[str, int] | None = None) -> None:
    """Strike the batch off; ``counts`` are those that were not known when it was entered."""
    row = {"batch": batch.number, "state": DONE, **(counts or {}), "quarantined": quarantined}
    append_once(batch, book_frame(batch, [row]), "log_files", "done")


def append_once(batch: Batch, rows: DataFrame, table: str, part: str = "") -> None:
    """Append once: a write of this batch to this table that was made before is not made again."""
    app = f"{APP_ID}.{part}" if part else APP_ID
    (
        rows.write.format("delta")
        .mode("append")
        .option("txnAppId", app)
        .option("txnVersion", str(batch.number))
        .saveAsTable(batch.names.table(table))
    )


# --- rows of one kind of line ---------------------------------------------------------------------


def _write_kind(batch: Batch, paths: list[str], kind: Kind, *, tidy: bool) -> dict[str, Any]:
    """Write the lines of one kind; what was seen of them comes back."""
    lines = lines_of_kind(read_lines(batch.spark, paths), kind, tidy=tidy)
    parsed = parse_lines(lines, kind)
    seen = {**_seen(kind), "bad_paths": F.collect_set(F.when(~F.col("good"), F.col("log_file")))}
    told = _write_seen(batch, parsed, kind, seen)
    if told["bad_paths"]:
        slow = parse_slowly(read_lines(batch.spark, _local(batch, told["bad_paths"])), kind)
        retried = slow.withColumn("good", F.col("reason").isNull())
        again = _write_seen(batch, retried, kind, _seen(kind), part="retried")
        told = {**told, **_both(told, again)}
    return told


def _both(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """What was seen in two passes over different lines."""
    joined: dict[str, Any] = {}
    for name, value in second.items():
        if isinstance(value, int):
            joined[name] = first[name] + value
        else:
            joined[name] = sorted({*(first[name] or ()), *(value or ())})
    return joined


def _write_seen(
    batch: Batch, parsed: DataFrame, kind: Kind, seen: Mapping[str, Column], part: str = ""
) -> dict[str, Any]:
    """Write the good rows; what was seen of all while they passed."""

    def write(rows: DataFrame) -> None:
        _write_rows(batch, rows, kind, part)

    told = write_observed(parsed, seen, write, again=batch.replayed)
    if told.get("tunnels"):
        tunnels = parsed.where(F.col("good") & (F.col("method") == "CONNECT"))
        tunnels = tunnels.withColumn("batch", F.lit(batch.number))
        append_once(batch, columns_of(tunnels, "tunnels"), "tunnels", f"{kind.name}{part}")
    if "first" in told:
        told["hours"] = touched_hours(parsed, told.pop("first"), told.pop("last"))
    return told


def write_observed(
    rows: DataFrame,
    metrics: Mapping[str, Column],
    write: Callable[[DataFrame], None],
    *,
    again: bool,
) -> dict[str, Any]:
    """Write rows, and measure while they pass, without reading them twice.

    ``again``: the write may be skipped, because it was made before, or read them more than once;
    then they are measured apart.
    """
    named = [column.alias(name) for name, column in metrics.items()]
    if again or not named:
        write(rows)
        row = rows.agg(*named).first() if named else None
        return row.asDict() if row else {}
    observation = Observation()
    write(rows.observe(observation, *named))
    return dict(observation.get)


def write_parsed(batch: Batch, parsed: DataFrame, kind: Kind, part: str) -> dict[str, Any]:
    """Write the ``good`` rows of parsed lines of one kind; what was seen of them comes back."""
    return _write_seen(batch, parsed, kind, _seen(kind), part)


def touched_hours(parsed: DataFrame, first: int | None, last: int | None) -> list[int]:
    """The hours, since 1970, that the good rows touch; more than these where they lie close."""
    if first is None or last is None:
        return []
    if last - first <= FEW_HOURS * HOUR_US:
        return list(range(first // HOUR_US, last // HOUR_US + 1))
    hour = F.expr(f"unix_micros(start_time) div {HOUR_US}").alias("hour")
    return [row["hour"] for row in parsed.where("good").select(hour).distinct().collect()]


def _write_rows(batch: Batch, parsed: DataFrame, kind: Kind, part: str) -> None:
    good = parsed.where("good").withColumn("batch", F.lit(batch.number))
    if kind.record == "call":
        good = good.where(~F.col("method").eqNullSafe("CONNECT"))
    if kind.name == "meshes":
        known = batch.table("mesh_versions").select("mesh", "mesh_version")
        good = good.dropDuplicates(["mesh", "mesh_version"])
        good = good.join(F.broadcast(known), ["mesh", "mesh_version"], "left_anti")
    table = str(kind.table)
    append_once(batch, columns_of(good, table), table, part)


def columns_of(rows: DataFrame, table: str) -> DataFrame:
    """The columns of a table; what these rows cannot have is null."""
    there = set(rows.columns)
    return rows.select(
        *(
            name if name in there else F.lit(None).cast(kind).alias(name)
            for name, kind in TABLES[table]
        )
    )


def _seen(kind: Kind) -> dict[str, Column]:
    """What to measure of a kind's good rows: the time that they touch, and tunnels among them."""
    good = F.col("good")
    if kind.record == "call":
        tunnels = {"tunnels": F.count_if(good & (F.col("method") == "CONNECT"))}
        moment = F.when(good, F.unix_micros("start_time"))
        ends = {"first": F.min(moment), "last": F.max(moment)}
        return {**tunnels, **(ends if kind.name in TIMED else {})}
    if kind.name == "stages":
        stage_id = F.col("stage_id")
        return {
            name: F.collect_set(F.when(good & (F.col("type") == name), stage_id))
            for name in ("begin", "end")
        }
    return {}


def _local(batch: Batch, urls: Iterable[str]) -> list[str]:
    return [f"{batch.root}/{file_of(url)}" for url in sorted(urls)]


# --- what cannot be read, and what is made of what can --------------------------------------------


def _write_bad(batch: Batch, book: list[Row], told: Mapping[str, Mapping[str, Any]]) -> int:
    """Quarantine what no table takes; only files that have such lines are read for it."""
    bad = {name: seen["bad_paths"] for name, seen in told.items() if seen["bad_paths"]}
    paths = {url for urls in bad.values() for url in _local(batch, urls)}
    paths |= set(_paths(batch, book, UNKNOWN))
    if not paths:
        return 0
    placed = place_lines(batch.spark, sorted(paths))
    append_once(batch, bad_lines(placed, bad, batch.number), "quarantine")
    return int(batch.table("quarantine").where(F.col("batch") == batch.number).count())


def derive(batch: Batch, book: list[Row], told: Mapping[str, Mapping[str, Any]]) -> None:
    """Work out again what is made from the rows of the time and the sidecars that were touched."""
    hours = spans_of_hours(told.get("ended", {}).get("hours", ()))
    sidecars = sorted({row["sidecar_id"] for row in book})
    with ThreadPoolExecutor(THREADS) as pool:
        work = [
            pool.submit(_join_again, batch, hours, told),
            pool.submit(refresh_edges, batch.spark, batch.names, hours),
            pool.submit(refresh_edge_minutes, batch.spark, batch.names, hours),
            pool.submit(refresh_ledger, batch.spark, batch.names, sidecars),
        ]
        for done in work:
            done.result()


def _join_again(
    batch: Batch, hours: tuple[Span, ...], told: Mapping[str, Mapping[str, Any]]
) -> None:
    spans = merge_spans((*hours, *_stage_spans(batch, told.get("stages", {}))))
    joined = refresh_calls_by_run(batch.spark, batch.names, spans)
    open_hours = spans_of_hours(told.get("unfinished", {}).get("hours", ()))
    cut_off = owners_of_unfinished(batch.spark, batch.names, open_hours)
    refresh_waits(batch.spark, batch.names, (*joined, *cut_off))


def _stage_spans(batch: Batch, seen: Mapping[str, Any]) -> tuple[Span, ...]:
    """The time in which calls may be in another stage than was known before.

    A stage of which only one line is new was, or is, taken to last: all that follows may change.
    """
    begun, ended = set(seen.get("begin", ())), set(seen.get("end", ()))
    if not begun | ended:
        return ()
    stages = batch.table("run_stages").where(F.col("stage_id").isin(sorted(begun | ended)))
    times = stages.groupBy("stage_id").agg(
        F.unix_micros(F.min("time")).alias("start"), F.unix_micros(F.max("time")).alias("end")
    )
    return tuple(
        Span(
            start=row["start"],
            end=row["end"] if row["stage_id"] in begun & ended else LAST_MOMENT,
        )
        for row in times.collect()
    )
