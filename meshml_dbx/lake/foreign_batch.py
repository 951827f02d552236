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

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.batch import (
    BEGUN,
    Batch,
    append_once,
    book_frame,
    book_of,
    close_book,
    columns_of,
    derive,
    file_of,
    touched_hours,
)
from meshml_dbx.lake.foreign import RECORD, is_read, is_unread, parse_foreign, parse_patiently
from meshml_dbx.lake.quarantine import quarantine_rows, with_places
from meshml_dbx.lake.sources import literal_path
from meshml_dbx.lake.unseen import unseen
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


def is_foreign(file: str) -> bool:
    """Whether a closed file holds lines that others wrote."""
    return file.endswith(FOREIGN_SUFFIX)


def take_foreign(batch: Batch, files: list[str]) -> dict[str, int]:
    """Enter files of which the lake has none in its book, and take them in; their counts."""
    groups = _groups(batch, files)
    rows = [_book_row(batch, path, group) for group in groups for path in group.paths]
    append_once(batch, book_frame(batch, rows), "log_files", "begin")
    book = book_of(batch)
    if {row["file"] for row in book} != set(files):
        raise LakeError(
            "another ingest is at work on this lake",
            advice="let it end; what it takes in need not be taken in again",
        )
    return _write(batch, book, groups)


def do_foreign_again(batch: Batch, book: list[Row]) -> dict[str, int]:
    """Take in the rest of a batch that was cut off; the counts of all its files."""
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


def _write(batch: Batch, book: list[Row], groups: list[Group]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    hours: set[int] = set()
    for number, group in enumerate(groups):
        told = _write_group(batch, group, str(number))
        hours |= set(told.pop("hours"))
        for name, count in told.items():
            counts[name] += count
    derive(batch, book, {"ended": {"hours": sorted(hours)}})
    close_book(batch, counts["quarantined"], counts)
    sizes = {"files": len(book), "bytes": sum(row["bytes"] or 0 for row in book)}
    return {**sizes, **counts}


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


def _write_group(batch: Batch, group: Group, part: str) -> dict[str, Any]:
    """Write the rows of a group's lines; what was seen of them comes back."""
    lines = _lines(batch, group.paths)
    parsed = parse_foreign(lines, group.log_format, group.source)
    told = _write_records(batch, parsed, part)
    bad = told.pop("bad_files")
    if bad:
        paths = [f"{batch.root}/{file_of(url)}" for url in bad]
        _add(told, _write_odd(batch, group, paths, part))
    return told


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


def _write_records(batch: Batch, parsed: DataFrame, part: str) -> dict[str, Any]:
    """Write the good rows by what they tell of; counts, hours and the files with bad lines."""
    good = is_read()
    moment = F.when(good & (F.col(RECORD) == "call"), F.unix_micros("start_time"))
    records = (*TABLES_OF, "progress")
    metrics = {
        **{record: F.count_if(good & (F.col(RECORD) == record)) for record in records},
        "first": F.min(moment),
        "last": F.max(moment),
        "bad_files": F.collect_set(F.when(~good, F.col("log_file"))),
    }
    seen = parsed.agg(*(metric.alias(name) for name, metric in metrics.items())).first()
    assert seen is not None  # noqa: S101  # an aggregate without groups has one row
    told: dict[str, Any] = {"progress": seen["progress"], "bad_files": seen["bad_files"]}
    told["duplicates"] = 0
    for record, table in TABLES_OF.items():
        told[COUNTS_OF[record]] = seen[record]
        if seen[record]:
            rows = parsed.where(good & (F.col(RECORD) == record))
            told["duplicates"] += _write_table(batch, rows, table, part)
    calls = parsed.withColumn("good", good & (F.col(RECORD) == "call"))
    told["hours"] = touched_hours(calls, seen["first"], seen["last"])
    return told


def _write_table(batch: Batch, rows: DataFrame, table: str, part: str) -> int:
    """Append those rows that the table does not have; how many it had."""
    fresh, repeated = unseen(batch, rows, table)
    append_once(batch, columns_of(fresh, table), table, f"foreign{part}")
    return repeated


def _write_odd(batch: Batch, group: Group, paths: list[str], part: str) -> dict[str, Any]:
    """Lines that the quick way left: read with patience, in other formats too; the rest is kept."""
    lines = _lines(batch, paths)
    left = _unread(parse_foreign(lines, group.log_format, group.source), lines)
    formats = _formats_of(left, group)
    told: dict[str, Any] = {"hours": []}
    for number, log_format in enumerate(formats):
        parsed = parse_patiently(left, log_format, group.source)
        some = _write_records(batch, parsed, f"{part}.{number}")
        files = some.pop("bad_files")
        _add(told, some)
        if not files:
            return told
        left = _unread(parsed, lines)
    told["quarantined"] = told["unknown"] = _quarantine(batch, group, formats, paths, part)
    return told


def _unread(parsed: DataFrame, lines: DataFrame) -> DataFrame:
    return parsed.where(is_unread()).select(*lines.columns)


def _formats_of(left: DataFrame, group: Group) -> tuple[LogFormat, ...]:
    """The formats that read some of these lines, told from a sample: each costs a pass over all."""
    sample = [row["value"] for row in left.select("value").limit(ODD_SAMPLE).collect()]
    every = (group.log_format, *group.others)
    found = (next((it for it in every if _reads(it, line)), None) for line in sample)
    return tuple(it for it in dict.fromkeys(found) if it is not None)


def _quarantine(
    batch: Batch, group: Group, formats: Iterable[LogFormat], paths: list[str], part: str
) -> int:
    """Keep what no format reads, with the reason that the file's own format gives."""
    placed = with_places(batch.spark, sorted(paths)).withColumn("value", _bare("value"))
    left = placed.where(~_is_blank())
    for log_format in formats:
        if log_format != group.log_format:
            left = _unread(parse_patiently(left, log_format, group.source), placed)
    told = parse_patiently(left, group.log_format, group.source).where(is_unread())
    append_once(batch, quarantine_rows(told, batch.number), "quarantine", f"foreign{part}")
    kept = batch.table("quarantine").where(F.col("batch") == batch.number)
    files = F.col("file").isin([file_of(path) for path in paths])
    return int(kept.where(files).count())
