"""What is in quarantine, by reason, and the journey that reads it again.

Goes in: what to look at. Comes out: a group for each reason with an example, whose text was
scrubbed before it came to the table; and what became of the lines that were read again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.batch import Batch, read_book_state
from meshml_dbx.lake.ingest import cause_of, finish_cut_off
from meshml_dbx.lake.replay import report_counts, take_replay
from meshml_dbx.lake.tables import TableNames
from meshml_dbx.traffic.access_log import time_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which lines: of a source, or whose reason begins so; None for all.

    >>> Chosen(source="edge").reason is None
    True
    """

    source: str | None = None
    reason: str | None = None

    def holds(self) -> Column:
        """Whether a row of ``quarantine`` is meant."""
        held = F.lit(True)  # noqa: FBT003
        if self.source:
            held = held & (F.col("sidecar_id") == self.source)
        if self.reason:
            held = held & F.col("reason").startswith(self.reason)
        return held


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """The lines that cannot be read for one reason; ``first_seen`` is UTC, None of old rows.

    >>> Reason(reason="not JSON", lines=1, files=1, sources=("c-1",)).first_seen is None
    True
    """

    reason: str
    lines: int
    files: int
    sources: tuple[str, ...]
    first_seen: str | None = None
    example: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """What is in quarantine now, the most frequent reasons first, and what was read after all."""

    lines: int
    replayed: int
    reasons: tuple[Reason, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay read, by kind of row, and what is left; ``gone`` are files without bytes.

    >>> Replayed(lines=2, left=1).counts
    {}
    """

    lines: int
    left: int
    counts: Mapping[str, int] = field(default_factory=dict)
    gone: Mapping[str, int] = field(default_factory=dict)


def read_quarantine(
    spark: SparkSession, names: TableNames, chosen: Chosen, *, limit: int
) -> Quarantine:
    """The lines that no table has, by reason; numbers and texts within a reason are left out of it.

    Raises:
        LakeError: the table cannot be read.
    """
    try:
        rows = spark.table(names.table("quarantine")).where(chosen.holds())
        kept = F.count_if(F.col("replayed_at").isNull())
        total = rows.agg(kept.alias("lines"), F.count("replayed_at").alias("replayed")).first()
        assert total is not None  # noqa: S101  # an aggregate without groups has one row
        found = _by_reason(rows.where("replayed_at IS NULL")).collect()
    except Exception as error:
        raise LakeError(
            f"cannot read what is in quarantine: {cause_of(error)}",
            advice="see that it is a lake of meshml and that you may read it",
        ) from error
    reasons = tuple(
        Reason(
            reason=row["why"],
            lines=row["lines"],
            files=row["files"],
            sources=tuple(sorted(row["sources"])),
            first_seen=None if row["first_us"] is None else time_text(row["first_us"]),
            example=row["example"].asDict(),
        )
        for row in found
    )
    return Quarantine(
        lines=total["lines"],
        replayed=total["replayed"],
        reasons=reasons[:limit],
        left_out=max(len(reasons) - limit, 0),
    )


def _by_reason(rows: DataFrame) -> DataFrame:
    example = F.struct("file", "byte_offset", "bytes", "reason", "line")
    place = F.struct("batch", "file", "byte_offset")
    return (
        rows.groupBy(F.substring_index("reason", ": ", 1).alias("why"))
        .agg(
            F.count("*").alias("lines"),
            F.countDistinct("file").alias("files"),
            F.collect_set("sidecar_id").alias("sources"),
            F.unix_micros(F.min("seen_at")).alias("first_us"),
            F.min_by(example, place).alias("example"),
        )
        .orderBy(F.desc("lines"), "why")
    )


def replay(spark: SparkSession, names: TableNames, *, logs: str, chosen: Chosen) -> Replayed:
    """Read lines in quarantine again; those that can be read now become rows, each once.

    Of files that are gone from the log folder, lines stay in quarantine for good.

    Raises:
        LakeError: a table cannot be written, or another ingest is at work on this lake.
    """
    root = str(Path(logs).absolute())
    try:
        book = read_book_state(spark, names)
        finish_cut_off(spark, names, root, book)
        files = _open_files(spark, names, chosen)
        gone = {file: n for file, n in files.items() if not Path(root, file).is_file()}
        there = [file for file in files if file not in gone]
        batch = Batch(spark=spark, names=names, root=root, number=book.last + 1, replayed=False)
        counts = take_replay(batch, there, chosen.holds()) if there else {}
        left = sum(_open_files(spark, names, chosen).values())
    except LakeError:
        raise
    except Exception as error:
        raise LakeError(
            f"could not read lines in quarantine again: {cause_of(error)}",
            advice="run it again: what was read is not read twice",
        ) from error
    lines = counts.pop("replayed", 0)
    return Replayed(lines=lines, left=left, counts=report_counts(counts), gone=gone)


def _open_files(spark: SparkSession, names: TableNames, chosen: Chosen) -> dict[str, int]:
    """How many lines of each file no table has."""
    kept = spark.table(names.table("quarantine")).where("replayed_at IS NULL")
    rows = kept.where(chosen.holds()).groupBy("file").count().collect()
    return {row["file"]: int(row["count"]) for row in sorted(rows)}
