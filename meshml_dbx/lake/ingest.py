"""Closed log files into Delta, each line once, whatever is killed in between.

Goes in: a log folder and a checkpoint. Comes out: rows, and a report. Spark's stream says which
files are new; the lake itself remembers in ``log_files`` which it has begun and which it has done.
A batch has a number of the lake's own, which is the ``txnVersion`` of all its writes: what was
begun and not done is done again under its old number, and writes that were made are skipped. So
neither a kill nor a new checkpoint over the same lake doubles or loses a line.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.utils import is_remote

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.batch import (
    Batch,
    BookState,
    Written,
    book_of,
    do_again,
    file_of,
    finish,
    read_book_state,
    take_in,
    unknown_files,
)
from meshml_dbx.lake.foreign_batch import do_foreign_again, is_foreign, take_foreign
from meshml_dbx.lake.new_files import file_news, new_files
from meshml_dbx.lake.replay import do_replay_again, is_replay
from meshml_dbx.lake.sources import ENDINGS, closed_files
from meshml_dbx.lake.tables import COUNTED, TableNames
from meshml_dbx.traffic.log_folder import CLOSED

FILES_PER_BATCH = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What one ingest took in: files, their lines by kind, and what of them could not be read.

    >>> IngestReport().lines
    0
    """

    files: int = 0
    bytes: int = 0
    ended: int = 0
    progress: int = 0
    unfinished: int = 0
    attempts: int = 0
    connections: int = 0
    stages: int = 0
    samples: int = 0
    programs: int = 0
    meshes: int = 0
    unknown: int = 0
    quarantined: int = 0
    duplicates: int = 0

    @property
    def lines(self) -> int:
        """All lines of these files, blank ones left out."""
        return sum(getattr(self, name) for name in COUNTED)


def ingest(
    spark: SparkSession,
    names: TableNames,
    *,
    logs: str,
    checkpoint: str,
    files_per_batch: int = FILES_PER_BATCH,
) -> IngestReport:
    """What of the log folder's closed files was not in the lake, and is now.

    Files that are closed meanwhile are for the next time. Running it again changes nothing.

    Raises:
        LakeError: a table cannot be written, or another ingest is at work on this lake.
    """
    root = str(Path(logs).absolute())
    book = read_book_state(spark, names)
    taken: list[dict[str, int]] = []
    try:
        taken += finish_cut_off(spark, names, root, book)
        if any(any(Path(root).glob(f"*/{CLOSED}/*{ending}")) for ending in ENDINGS):
            batches = Batches(names=names, root=root, numbers=count(book.last + 1))
            if is_remote():
                taken += _list(spark, batches, files_per_batch)
            else:
                taken += _stream(spark, batches, checkpoint, files_per_batch)
    except LakeError:
        raise
    except Exception as error:
        raise LakeError(
            f"could not ingest {logs}: {cause_of(error)}",
            advice="run it again: what is in the lake is not read twice",
        ) from error
    return _report(taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Where new batches go, and the numbers that they get; none but this ingest gives any out."""

    names: TableNames
    root: str
    numbers: Iterator[int]

    def begin(self, spark: SparkSession) -> Batch:
        """A batch with the next number."""
        number = next(self.numbers)
        return Batch(spark=spark, names=self.names, root=self.root, number=number, replayed=False)


def _stream(
    spark: SparkSession, batches: Batches, checkpoint: str, files_per_batch: int
) -> list[dict[str, int]]:
    """Let Spark find the new files: the stream is of files, whose content it does not read."""
    taken: list[dict[str, int]] = []

    def take(files: DataFrame, _number: int) -> None:
        found = [file_of(row["path"]) for row in files.collect()]
        taken.extend(_take_unknown(files.sparkSession, batches, found))

    news = file_news(batches.root, os.environ, files_per_batch)
    query = (
        new_files(spark, news, batches.root)
        .writeStream.foreachBatch(take)
        .option("checkpointLocation", f"{checkpoint}{news.checkpoint_suffix}")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    return taken


def _list(spark: SparkSession, batches: Batches, files_per_batch: int) -> list[dict[str, int]]:
    """Where Spark is a server elsewhere, its stream cannot call us here: then we look ourselves."""
    there = sorted(closed_files(batches.root))
    starts = range(0, len(there), files_per_batch)
    chunks = (there[start : start + files_per_batch] for start in starts)
    return [counts for files in chunks for counts in _take_unknown(spark, batches, files)]


def _take_unknown(spark: SparkSession, batches: Batches, found: list[str]) -> list[dict[str, int]]:
    fresh = unknown_files(spark, batches.names, found)
    written = list(take_files(spark, batches, fresh))
    finish(written)
    return [one.taken for one in written]


def take_files(spark: SparkSession, batches: Batches, files: list[str]) -> Iterator[Written]:
    """Write the rows of files that the lake's book does not have: ours, then those of others."""
    ours = [file for file in files if not is_foreign(file)]
    foreign = [file for file in files if is_foreign(file)]
    if ours:
        yield take_in(batches.begin(spark), ours)
    if foreign:
        yield take_foreign(batches.begin(spark), foreign)


def finish_cut_off(
    spark: SparkSession, names: TableNames, root: str, book: BookState
) -> list[dict[str, int]]:
    """Do again what was begun and not done, oldest first: no batch may begin before; the counts."""
    taken = []
    for number in book.cut_off:
        batch = Batch(spark=spark, names=names, root=root, number=number, replayed=True)
        if is_replay(batch):
            do_replay_again(batch)
            continue
        written = _do_again(batch)
        finish([written])
        taken.append(written.taken)
    return taken


def _do_again(batch: Batch) -> Written:
    """Write the rest of a batch; its files are all ours, or all foreign."""
    book = book_of(batch)
    if any(is_foreign(row["file"]) for row in book):
        return do_foreign_again(batch, book)
    return do_again(batch)


def _report(taken: list[dict[str, int]]) -> IngestReport:
    """The sums of the batches that were begun, and of those that were done again."""
    names = [field.name for field in fields(IngestReport)]
    return IngestReport(**{name: sum(counts.get(name, 0) for counts in taken) for name in names})


def cause_of(error: Exception) -> str:
    """The line of a Spark error that says what happened; a stream wraps it twice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "Exception" in line]
    return (told or lines or [type(error).__name__])[-1][:300]
