"""One batch of files that others wrote: entered in the lake's book, written, struck off.

Goes in: names of closed files of foreign lines. Comes out: rows of calls, attempts and connections,
each once on whatever road it came, and of quarantine. As in ``batch``, every write carries the
batch's number, and what was cut off is done again from its start.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.batch import (
    BEGUN,
    Batch,
    Written,
    append_once,
    begin,
    columns_of,
    file_of,
    touched_hours,
    write_observed,
)
from meshml_dbx.lake.foreign import RECORD, is_read, is_unread, parse_foreign, parse_patiently
from meshml_dbx.lake.quarantine import quarantine_rows, with_places
from meshml_dbx.lake.sources import literal_path
from meshml_dbx.lake.unseen import Dates, dates_of, unseen
from meshml_dbx.traffic.access_log import BadLineError
from meshml_dbx.traffic.detect_format import detect_format
from meshml_dbx.traffic.known_formats import KNOWN
from meshml_dbx.traffic.log_format import LogFormat
from meshml_dbx.traffic.log_line import read_line
from meshml_dbx.traffic.log_source import FOREIGN_SUFFIX, SOURCE_FILE, LogSource

TABLES_OF = {"call": "calls", "attempt": "attempts", "connection": "connections"}
COUNTS_OF = {"call": "ended", "attempt": "attempts", "connection": "connections"}
SAMPLE_LINES = 25
SAMPLE_BYTES = 1 << 16
ODD_SAMPLE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files of one source that begin in one format, and the other formats that it may change to."""

    source: LogSource
    log_format: LogFormat
    others: tuple[LogFormat, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """Rows, the lines that they are made of, and what their writes are known by."""

    rows: DataFrame
    lines: DataFrame
    part: str


def is_foreign(file: str) -> bool:
    """Whether a closed file holds lines that others wrote."""
    return file.endswith(FOREIGN_SUFFIX)


def take_foreign(batch: Batch, files: list[str]) -> Written:
    """Enter files of which the lake has none in its book, and write their rows."""
    groups = _groups(batch, files)
    rows = [_book_row(batch, path, group) for group in groups for path in group.paths]
    return _write(batch, begin(batch, rows), groups)


def do_foreign_again(batch: Batch, book: list[Row]) -> Written:
    """Write the rest of the rows of a batch that was cut off."""
    there = [row["file"] for row in book if Path(f"{batch.root}/{row['file']}").exists()]
    return _write(batch, book, _groups(batch, there))


def _book_row(batch: Batch, path: str, group: Group) -> dict[str, Any]:
    return {
        "batch": batch.number,
        "state": BEGUN,
        "file": file_of(path),
        "sidecar_id": group.source.source_id,
        "bytes": Path(path).stat().st_size,
        "format": group.log_format.name,
        "quarantined": 0,
    }


def _write(batch: Batch, book: list[Row], groups: list[Group]) -> Written:
    counts: dict[str, int] = defaultdict(int)
    hours: set[int] = set()
    for group in groups:
        told = _write_group(batch, group)
        hours |= set(told.pop("hours"))
        for name, count in told.items():
            counts[name] += count
    counts["duplicates"] = _left_out(batch, counts)
    return Written(
        batch=batch,
        book=book,
        seen={"ended": {"hours": hours}},
        quarantined=counts["quarantined"],
        counts=counts,
    )


def _left_out(batch: Batch, counts: Mapping[str, int]) -> int:
    """How many of the lines became no row, since the lake had theirs."""
    told = {table: counts.get(COUNTS_OF[record], 0) for record, table in TABLES_OF.items()}
    mine = F.col("batch") == batch.number
    rows = sum(batch.table(table).where(mine).count() for table, count in told.items() if count)
    return sum(told.values()) - int(rows)


# --- which format ---------------------------------------------------------------------------------


def _groups(batch: Batch, files: Iterable[str]) -> list[Group]:
    """The files by source and format, in a fixed order: a part's number names its writes."""
    by_source: dict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        by_source[file.split("/", maxsplit=1)[0]].append(f"{batch.root}/{file}")
    found = [
        group
        for source_id, paths in sorted(by_source.items())
        for group in _groups_of(read_source(batch.root, source_id), paths)
    ]
    return sorted(found, key=lambda group: (group.source.source_id, group.log_format.name))


def read_source(root: str, source_id: str) -> LogSource:
    """What is noted of a source; of one that somebody only put there, its name.

    Raises:
        LogFormatError: the note is none that this version understands.
    """
    try:
        text = (Path(root) / source_id / SOURCE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return LogSource(source_id=source_id)
    return LogSource.from_json(text)


def _groups_of(source: LogSource, paths: list[str]) -> Iterable[Group]:
    formats = tuple(dict.fromkeys((*source.log_formats, *KNOWN)))
    by_format: dict[LogFormat, list[str]] = defaultdict(list)
    for path in paths:
        by_format[format_of(path, source, formats)].append(path)
    for log_format, ones in by_format.items():
        others = tuple(it for it in formats if it != log_format)
        yield Group(source=source, log_format=log_format, others=others, paths=tuple(ones))


def format_of(path: str, source: LogSource, formats: tuple[LogFormat, ...]) -> LogFormat:
    """The format that a file begins in: the source's own where it fits, else what fits best."""
    with Path(path).open("rb") as file:
        sample = file.read(SAMPLE_BYTES).decode(errors="replace").splitlines()
    lines = list(islice((line for line in sample if line.strip()), SAMPLE_LINES))
    usual = formats[0]
    if source.formats and lines and all(_reads(usual, line) for line in lines):
        return usual
    return detect_format(lines, formats) or usual


def _reads(log_format: LogFormat, line: str) -> bool:
    try:
        read_line(log_format, line)
    except BadLineError:
        return False
    return True


# --- rows -----------------------------------------------------------------------------------------


def _write_group(batch: Batch, group: Group) -> dict[str, Any]:
    """Write the rows of a group's lines; what was seen of them comes back."""
    lines = _lines(batch, group.paths)
    rows = parse_foreign(lines, group.log_format, group.source)
    told = _write_records(batch, Parsed(rows=rows, lines=lines, part=_part(group)))
    bad = told.pop("bad_files")
    if bad:
        paths = [f"{batch.root}/{file_of(url)}" for url in bad]
        _add(told, _write_odd(batch, group, paths))
    return told


def _part(group: Group, *more: str) -> str:
    """What the writes of a group are known by, however the batch's files are grouped next time."""
    return ".".join(("foreign", group.source.source_id, group.log_format.name, *more))


def _add(told: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Counts and hours together with those of other lines."""
    for name, seen in more.items():
        told[name] = told[name] + seen if name in told else seen


def _lines(batch: Batch, paths: Iterable[str]) -> DataFrame:
    """Every line that is not blank, without a carriage return at its end."""
    text = batch.spark.read.option("lineSep", "\n").text([literal_path(path) for path in paths])
    file = F.col("_metadata.file_path").alias("log_file")
    return text.select(_bare("value").alias("value"), file).where(~_is_blank())


def _is_blank() -> Column:
    return F.col("value").rlike(r"^\s*$")


def _bare(name: str) -> Column:
    value = F.col(name)
    shorter = F.substring(value, F.lit(1), F.length(value) - 1)
    return F.when(value.endswith("\r"), shorter).otherwise(value)


def _write_records(batch: Batch, parsed: Parsed) -> dict[str, Any]:
    """Write the good rows by what they tell of; counts, hours and the files with bad lines."""
    dates = dates_of(parsed.rows)
    seen = _write_table(batch, parsed, dates, "call")
    for record in TABLES_OF:
        if record != "call" and seen[record]:
            _write_table(batch, parsed, dates, record)
    told = {COUNTS_OF[record]: seen[record] for record in TABLES_OF}
    calls = parsed.rows.withColumn("good", is_read() & (F.col(RECORD) == "call"))
    told["hours"] = touched_hours(calls, seen["first"], seen["last"])
    return {**told, "progress": seen["progress"], "bad_files": seen["bad_files"]}


def _write_table(batch: Batch, parsed: Parsed, dates: Dates | None, record: str) -> dict[str, Any]:
    """Append the rows of one record that its table does not have; what was seen of all rows."""
    table = TABLES_OF[record]

    def good(rows: DataFrame) -> DataFrame:
        return rows.where(is_read() & (F.col(RECORD) == record))

    fresh = unseen(batch, good(parsed.rows), parsed.lines, table, dates) if dates else None

    def write(rows: DataFrame) -> None:
        new = good(rows) if fresh is None else fresh
        numbered = new.withColumn("batch", F.lit(batch.number))
        append_once(batch, columns_of(numbered, table), table, parsed.part)

    apart = batch.replayed or fresh is not None
    return write_observed(parsed.rows, _seen(), write, again=apart)


def _seen() -> dict[str, Column]:
    """What to measure of parsed lines."""
    good = is_read()
    moment = F.when(good & (F.col(RECORD) == "call"), F.unix_micros("start_time"))
    records = (*TABLES_OF, "progress")
    return {
        **{record: F.count_if(good & (F.col(RECORD) == record)) for record in records},
        "first": F.min(moment),
        "last": F.max(moment),
        "bad_files": F.collect_set(F.when(~good, F.col("log_file"))),
    }


def _write_odd(batch: Batch, group: Group, paths: list[str]) -> dict[str, Any]:
    """Lines that the quick way left: read with patience, in other formats too; the rest is kept."""
    lines = _lines(batch, paths)
    left = _unread(parse_foreign(lines, group.log_format, group.source), lines)
    formats = _formats_of(left, group)
    told: dict[str, Any] = {"hours": []}
    for log_format in formats:
        rows = parse_patiently(left, log_format, group.source)
        part = _part(group, log_format.name)
        some = _write_records(batch, Parsed(rows=rows, lines=lines, part=part))
        files = some.pop("bad_files")
        _add(told, some)
        if not files:
            return told
        left = _unread(rows, lines)
    told["quarantined"] = told["unknown"] = _quarantine(batch, group, formats, paths)
    return told


def _unread(parsed: DataFrame, lines: DataFrame) -> DataFrame:
    return parsed.where(is_unread()).select(*lines.columns)


def _formats_of(left: DataFrame, group: Group) -> tuple[LogFormat, ...]:
    """The formats that read some of these lines, told from a sample: each costs a pass over all."""
    sample = [row["value"] for row in left.select("value").limit(ODD_SAMPLE).collect()]
    every = (group.log_format, *group.others)
    found = (next((it for it in every if _reads(it, line)), None) for line in sample)
    return tuple(it for it in dict.fromkeys(found) if it is not None)


def _quarantine(batch: Batch, group: Group, formats: Iterable[LogFormat], paths: list[str]) -> int:
    """Keep what no format reads, with the reason that the file's own format gives."""
    placed = with_places(batch.spark, sorted(paths)).withColumn("value", _bare("value"))
    left = placed.where(~_is_blank())
    for log_format in formats:
        if log_format != group.log_format:
            left = _unread(parse_patiently(left, log_format, group.source), placed)
    told = parse_patiently(left, group.log_format, group.source).where(is_unread())
    append_once(batch, quarantine_rows(told, batch.number), "quarantine", _part(group))
    kept = batch.table("quarantine").where(F.col("batch") == batch.number)
    files = F.col("file").isin([file_of(path) for path in paths])
    return int(kept.where(files).count())
