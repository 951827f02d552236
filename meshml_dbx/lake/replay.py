"""Lines in quarantine, read again from the closed files that hold their bytes: one batch of them.

Goes in: files with such lines, which a new format, or a newer version, may read now. Comes out:
rows of those that can be read, and a mark on each in ``quarantine``.

**Once, also after a kill.** A replay is a batch in the lake's book like any other, with state
``replay``. It first claims the lines that it can read, each with what it reads it as, then writes
the rows of what it claimed, then marks them. A batch that was cut off is done again from its
claims, under its old number, so that a write which was made is skipped; foreign lines are compared
with the table besides. What was not claimed is as if the replay had not been. In the book its files
have no counts; the batch's last row has what it changes of theirs, so that sums stay true.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.batch import (
    Batch,
    append_once,
    book_frame,
    close_book,
    columns_of,
    derive,
    touched_hours,
    write_parsed,
)
from meshml_dbx.lake.foreign import RECORD, is_read, parse_patiently
from meshml_dbx.lake.foreign_batch import COUNTS_OF, TABLES_OF, is_foreign, read_source
from meshml_dbx.lake.quarantine import NO_RECORD, UNKNOWN_TYPE, file_key, with_places
from meshml_dbx.lake.sources import BLANK, KINDS, UNKNOWN, Kind, kind_of, parse_lines, parse_slowly
from meshml_dbx.lake.texts import text_literal
from meshml_dbx.lake.unseen import dates_of, unseen
from meshml_dbx.traffic.access_log import BadLineError
from meshml_dbx.traffic.known_formats import KNOWN
from meshml_dbx.traffic.log_format import LogFormat
from meshml_dbx.traffic.log_line import read_line
from meshml_dbx.traffic.log_source import LogSource

REPLAY = "replay"
SAMPLE = 1000
CLAIMS = "meshml_claims"
_PLACE = ["file", "byte_offset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Files whose quarantined lines are read again together: of one foreign source, or ours.

    >>> Work(source_id="edge", files=("edge/closed/a.log",)).is_foreign
    True
    """

    source_id: str
    files: tuple[str, ...]

    @property
    def is_foreign(self) -> bool:
        """Whether others wrote these lines."""
        return is_foreign(self.files[0])


def works_of(files: Iterable[str]) -> list[Work]:
    """The files by what reads them: each foreign source for itself, all of ours together.

    >>> [work.source_id for work in works_of(["edge/closed/a.log", "c-1/closed/b.jsonl"])]
    ['', 'edge']
    """
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        found[file.split("/", maxsplit=1)[0] if is_foreign(file) else ""].append(file)
    return [Work(source_id=name, files=tuple(ones)) for name, ones in sorted(found.items())]


def is_replay(batch: Batch) -> bool:
    """Whether a batch of the lake's book is a replay."""
    return bool(_book(batch))


def take_replay(batch: Batch, files: list[str], chosen: Column) -> dict[str, int]:
    """Read the chosen lines of these files again, which must be there; counts of what is read.

    Nothing is written, and the batch's number stays free, where none can be read.

    Raises:
        LakeError: another ingest is at work on this lake.
    """
    book: list[Row] = []
    for work in works_of(files):
        claims_of = _foreign_claims if work.is_foreign else _own_claims
        for read_as, claims in claims_of(batch, work, chosen):
            if not claims.isEmpty():
                book = book or _begin(batch, files)
                _claim(batch, claims, read_as)
    return _finish(batch, book)


def do_replay_again(batch: Batch) -> dict[str, int]:
    """Do the rest of a replay that was cut off: what it had claimed."""
    return _finish(batch, _book(batch))


# --- the lake's book ------------------------------------------------------------------------------


def _begin(batch: Batch, files: Iterable[str]) -> list[Row]:
    """The files as entered in the lake's book, under this batch's number."""
    wanted = set(files)
    rows = [
        {"batch": batch.number, "state": REPLAY, "file": file, "sidecar_id": file.split("/")[0]}
        for file in sorted(wanted)
    ]
    append_once(batch, book_frame(batch, rows), "log_files", "begin")
    book = _book(batch)
    if {row["file"] for row in book} != wanted:
        raise LakeError(
            "an ingest is at work on this lake",
            advice="let it end; what is in quarantine stays there meanwhile",
        )
    return book


def _book(batch: Batch) -> list[Row]:
    entered = (F.col("batch") == batch.number) & (F.col("state") == REPLAY)
    rows: list[Row] = batch.table("log_files").where(entered).collect()
    return rows


def _finish(batch: Batch, book: list[Row]) -> dict[str, int]:
    """Write what was claimed, mark it, and work out again what is made of it."""
    if not book:
        return {}
    counts: dict[str, int] = defaultdict(int)
    changes: dict[str, int] = defaultdict(int)
    told: dict[str, Any] = {"ended": {"hours": []}}
    there = [row["file"] for row in book if Path(f"{batch.root}/{row['file']}").exists()]
    for work in works_of(there):
        for read_as, lines, unknown in _claimed(batch, work):
            if work.is_foreign:
                more = _write_foreign(batch, work, read_as)
                _add_hours(told, more.pop("hours"))
                found = changed = more
            else:
                _tell(told, read_as, _write_own(batch, work, read_as))
                found, changed = {read_as: lines}, {read_as: unknown}
            _add(counts, {**found, "replayed": lines})
            _add(changes, {**changed, "unknown": -unknown, "quarantined": -lines})
    _mark(batch, there)
    derive(batch, book, told)
    quarantined = changes.pop("quarantined", 0)
    close_book(batch, quarantined, changes)
    return dict(counts)


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] += count


def _tell(told: dict[str, Any], kind: str, seen: Mapping[str, Any]) -> None:
    """What was seen of a kind's lines, for what is made of them."""
    if kind == "ended":
        _add_hours(told, seen.get("hours", ()))
    else:
        told[kind] = seen


def _add_hours(told: dict[str, Any], hours: Iterable[int]) -> None:
    told["ended"]["hours"] = sorted({*told["ended"]["hours"], *hours})


# --- what can be read now -------------------------------------------------------------------------


def _quarantined(batch: Batch, work: Work) -> DataFrame:
    """The rows of these files; of one source the table skips to them."""
    sidecars = sorted({file.split("/", maxsplit=1)[0] for file in work.files})
    return batch.table("quarantine").where(F.col("sidecar_id").isin(sidecars))


def _lines(batch: Batch, work: Work, rows: DataFrame) -> DataFrame:
    """The bytes of these quarantined lines, as they stand in their files, where they still do."""
    placed = with_places(batch.spark, [f"{batch.root}/{file}" for file in work.files])
    value = _bare("value") if work.is_foreign else F.col("value")
    keyed = placed.select(
        value.alias("value"), "log_file", file_key(F.col("log_file")).alias("file"), "byte_offset"
    ).withColumn("found_key", F.xxhash64("value"))
    wanted = rows.select(*_PLACE, F.col("line_key").alias("known_key")).distinct()
    same = F.col("known_key").isNull() | (F.col("known_key") == F.col("found_key"))
    return keyed.join(wanted, _PLACE).where(same).drop("known_key", "found_key")


def _open_lines(batch: Batch, work: Work, chosen: Column) -> DataFrame:
    """The lines that no replay has read and that this one has not claimed."""
    mine = F.coalesce(F.col("replayed_batch") == batch.number, F.lit(False))  # noqa: FBT003
    is_open = F.col("replayed_at").isNull() & ~mine & chosen
    return _lines(batch, work, _quarantined(batch, work).where(is_open))


def _claimed_lines(batch: Batch, work: Work, read_as: str) -> DataFrame:
    rows = _quarantined(batch, work).where(F.col("replayed_batch") == batch.number)
    return _lines(batch, work, rows.where(F.col("replayed_as") == read_as))


def _claimed(batch: Batch, work: Work) -> list[tuple[str, int, int]]:
    """What lines of these files this batch has claimed as, how many, and how many of them were
    counted as of no kind when their files came in: of ours, the reason tells."""
    rows = _quarantined(batch, work).where(F.col("replayed_batch") == batch.number)
    mine = rows.where(F.col("file").isin(list(work.files)))
    unknown = F.lit(True)  # noqa: FBT003
    if not work.is_foreign:
        unknown = F.col("reason").startswith(UNKNOWN_TYPE) | (F.col("reason") == NO_RECORD)
    counted = mine.groupBy("replayed_as").agg(
        F.count("*").alias("lines"), F.count_if(unknown).alias("unknown")
    )
    return [(row["replayed_as"], row["lines"], row["unknown"]) for row in sorted(counted.collect())]


def _foreign_claims(batch: Batch, work: Work, chosen: Column) -> Iterable[tuple[str, DataFrame]]:
    """The lines that each format reads, asked for when those before are claimed."""
    source = read_source(batch.root, work.source_id)
    sample = [row["value"] for row in _open_lines(batch, work, chosen).limit(SAMPLE).collect()]
    for log_format in formats_to_try(source, sample):
        parsed = parse_patiently(_open_lines(batch, work, chosen), log_format, source)
        yield log_format.name, parsed.where(is_read()).select(*_PLACE)


def formats_to_try(source: LogSource, sample: list[str]) -> tuple[LogFormat, ...]:
    """Those that were said of the source, and of the known ones those that read a sample's line."""
    usual = source.log_formats
    others = [it for it in KNOWN if it not in usual]
    found = (next((it for it in others if _reads(it, line)), None) for line in sample)
    return tuple(dict.fromkeys((*usual, *(it for it in found if it is not None))))


def _reads(log_format: LogFormat, line: str) -> bool:
    try:
        read_line(log_format, line)
    except BadLineError:
        return False
    return True


def _own_claims(batch: Batch, work: Work, chosen: Column) -> Iterable[tuple[str, DataFrame]]:
    """The lines of each kind that this version reads."""
    lines = _open_lines(batch, work, chosen).withColumn("kind", kind_of("value"))
    there = {row["kind"] for row in lines.select("kind").distinct().collect()}
    for kind in (kind for kind in KINDS if kind.name in there - {UNKNOWN, BLANK}):
        bad = parse_slowly(lines, kind).where(F.col("reason").isNotNull()).select(*_PLACE)
        mine = lines.where(F.col("kind") == kind.name).select(*_PLACE)
        yield kind.name, mine.join(bad, _PLACE, "left_anti")


def _claim(batch: Batch, claims: DataFrame, read_as: str) -> None:
    """Claim these lines for the batch; from here on it is done again if it is cut off."""
    view = f"{CLAIMS}_{batch.number}"
    claims.createOrReplaceTempView(view)
    try:
        batch.spark.sql(
            f"MERGE INTO {batch.names.table('quarantine')} AS q USING {view} AS c "
            "ON q.file = c.file AND q.byte_offset = c.byte_offset AND q.replayed_at IS NULL "
            f"WHEN MATCHED THEN UPDATE SET q.replayed_batch = {batch.number}, "
            f"q.replayed_as = {text_literal(read_as)}"
        ).collect()
    finally:
        batch.spark.catalog.dropTempView(view)


def _mark(batch: Batch, files: list[str]) -> None:
    """Mark what was claimed of these files as read."""
    names = ", ".join(text_literal(file) for file in files) or "''"
    batch.spark.sql(
        f"UPDATE {batch.names.table('quarantine')} SET replayed_at = current_timestamp() "  # noqa: S608
        f"WHERE replayed_batch = {batch.number} AND replayed_at IS NULL AND file IN ({names})"
    ).collect()


# --- rows -----------------------------------------------------------------------------------------


def _write_foreign(batch: Batch, work: Work, read_as: str) -> dict[str, Any]:
    """Write the rows of what is claimed as one format; counts and hours of it."""
    source = read_source(batch.root, work.source_id)
    log_format = next(it for it in (*source.log_formats, *KNOWN) if it.name == read_as)
    lines = _claimed_lines(batch, work, read_as)
    parsed = parse_patiently(lines, log_format, source)
    good = is_read()
    moment = F.when(good & (F.col(RECORD) == "call"), F.unix_micros("start_time"))
    records = (*TABLES_OF, "progress")
    metrics = {record: F.count_if(good & (F.col(RECORD) == record)) for record in records}
    ends = {"first": F.min(moment), "last": F.max(moment)}
    seen = parsed.agg(*(it.alias(name) for name, it in {**metrics, **ends}.items())).first()
    assert seen is not None  # noqa: S101  # an aggregate without groups has one row
    told: dict[str, Any] = {"progress": seen["progress"], "duplicates": 0}
    for record, table in TABLES_OF.items():
        told[COUNTS_OF[record]] = seen[record]
        if seen[record]:
            rows = parsed.where(good & (F.col(RECORD) == record))
            part = f"{REPLAY}.{work.source_id}.{read_as}"
            told["duplicates"] += seen[record] - _append_new(batch, rows, lines, table, part)
    calls = parsed.withColumn("good", good & (F.col(RECORD) == "call"))
    told["hours"] = touched_hours(calls, seen["first"], seen["last"])
    return told


def _append_new(batch: Batch, rows: DataFrame, lines: DataFrame, table: str, part: str) -> int:
    """Append those of the rows that the table does not have; how many it has of this write."""
    dates = dates_of(rows)
    fresh = unseen(batch, rows, lines, table, dates) if dates else None
    new = (rows if fresh is None else fresh).withColumn("batch", F.lit(batch.number))
    append_once(batch, columns_of(new, table), table, part)
    mine = (F.col("batch") == batch.number) & (F.col("format") == part.rsplit(".", 1)[-1])
    return int(batch.table(table).where(mine).count())


def _write_own(batch: Batch, work: Work, read_as: str) -> dict[str, Any]:
    """Write the rows of what is claimed as one kind; what was seen of them."""
    kind: Kind | None = next((it for it in KINDS if it.name == read_as), None)
    if kind is None or not kind.table:
        return {}
    lines = _claimed_lines(batch, work, read_as).withColumn("kind", F.lit(kind.name))
    usual = columns_and_good(parse_lines(lines, kind), F.col("good"))
    odd = columns_and_good(parse_slowly(lines, kind), F.col("reason").isNull())
    rows = usual.where("good").unionByName(odd.where("good"))
    return write_parsed(batch, rows, kind, f"{REPLAY}.{kind.name}")


def columns_and_good(parsed: DataFrame, good: Column) -> DataFrame:
    """Parsed lines with the one column that tells whether they could be read."""
    extra = {"value", "kind", "reason", "good", *_PLACE}
    return parsed.withColumn("is_good", good).select(
        *(name for name in parsed.columns if name not in extra), F.col("is_good").alias("good")
    )


def _bare(name: str) -> Column:
    """A foreign line without the carriage return at its end, as it was read at first."""
    value = F.col(name)
    shorter = F.substring(value, F.lit(1), F.length(value) - 1)
    return F.when(value.endswith("\r"), shorter).otherwise(value)


def report_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts that are not zero, what was read first."""
    return {name: count for name, count in sorted(counts.items()) if count}
