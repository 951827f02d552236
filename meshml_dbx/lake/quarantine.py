"""Lines that cannot be read, kept with what is wrong, their file and their byte offset in it.

Goes in: the lines of those files only that have any, read a second time. Comes out: rows of
``quarantine``, whose text is bounded and printable, whatever the bytes were. The bytes themselves
stay where they are, in the log folder's closed files; ``line_key`` tells whether they are the same.
"""

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.foreign_readers import scrubbed
from meshml_dbx.lake.sources import UNKNOWN, find_kind, kind_of, literal_path, parse_slowly
from meshml_dbx.traffic.access_log import RECORD_KEY, TYPE_KEY

SHOWN_BYTES = 200
FILE_PARTS = 3
"""A file is known by its sidecar's folder, ``closed`` and its name: the root may be moved."""

UNKNOWN_TYPE, NO_RECORD = "unknown type of call line: ", "no record of ours"
"""Reasons of lines of ours that are of no known kind; a newer version may know it."""

PLACE = ("value", "log_file", "kind", "byte_offset", "bytes")


def place_lines(spark: SparkSession, paths: Iterable[str]) -> DataFrame:
    """Every line of these files with its kind, byte offset and length."""
    return with_places(spark, paths).withColumn("kind", kind_of("value")).select(*PLACE)


def with_places(spark: SparkSession, paths: Iterable[str]) -> DataFrame:
    """Every line of these files with its byte offset and length; slower than ``read_lines``.

    Spark may cut a file into blocks that are read apart; a block's start and the order of lines in
    it give the order in the file, and the lengths of all lines before give the offset.
    """
    text = spark.read.option("lineSep", "\n").text([literal_path(path) for path in paths])
    lines = text.select(
        "value",
        F.col("_metadata.file_path").alias("log_file"),
        F.col("_metadata.file_block_start").alias("block"),
        F.monotonically_increasing_id().alias("line"),
        F.octet_length("value").cast("BIGINT").alias("bytes"),
    )
    before = (
        Window.partitionBy("log_file")
        .orderBy("block", "line")
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    offset = F.coalesce(F.sum(F.col("bytes") + 1).over(before), F.lit(0))
    return lines.select("value", "log_file", offset.alias("byte_offset"), "bytes")


def bad_lines(placed: DataFrame, kinds: Iterable[str], batch: int) -> DataFrame:
    """The rows of ``quarantine`` that these lines give: unknown ones, bad ones of these kinds."""
    unknown = placed.where(F.col("kind") == UNKNOWN).withColumn("reason", _unknown_reason())
    found = unknown.select(*PLACE, "reason")
    for name in kinds:
        bad = parse_slowly(placed, find_kind(name)).where(F.col("reason").isNotNull())
        found = found.unionByName(bad.select(*PLACE, "reason"))
    return quarantine_rows(found, batch)


def quarantine_rows(found: DataFrame, batch: int) -> DataFrame:
    """The rows of ``quarantine`` for lines with their places and reasons, without secrets."""
    file = file_key(F.col("log_file"))
    clean = found.withColumn("line_key", F.xxhash64("value")).withColumn(
        "value", scrubbed(F.col("value"))
    )
    return clean.select(
        F.lit(batch).cast("BIGINT").alias("batch"),
        file.alias("file"),
        "byte_offset",
        "bytes",
        F.split_part(file, F.lit("/"), F.lit(1)).alias("sidecar_id"),
        scrubbed(F.col("reason")).alias("reason"),
        _printable("value").alias("line"),
        "line_key",
        F.current_timestamp().alias("seen_at"),
    )


def file_key(path: Column) -> Column:
    """The last three parts of a path: sidecar, closed, name."""
    return F.substring_index(path, "/", -FILE_PARTS)


def _unknown_reason() -> Column:
    value = F.col("value")
    record, type_ = (F.get_json_object(value, f"$.{key}") for key in (RECORD_KEY, TYPE_KEY))
    unknown_call = F.concat(F.lit(UNKNOWN_TYPE), F.coalesce(type_, F.lit("none")))
    return (
        F.when(F.try_parse_json(value).isNull(), F.lit("not JSON"))
        .when(record == "call", F.substring(unknown_call, 1, 80))
        .otherwise(F.lit(NO_RECORD))
    )


def _printable(name: str) -> Column:
    """The first bytes of a line, with a dot for each that is no printable ASCII."""
    first = F.substring(F.col(name).cast("BINARY"), 1, SHOWN_BYTES)
    return F.regexp_replace(F.decode(first, "ISO-8859-1"), "[^ -~]", ".")
