"""The stages of programs, paired from the begin and end lines in ``run_stages``.

Goes in: a span of time, or processes. Comes out: ``Stage`` words.
"""

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.spans import Span
from meshml_dbx.lake.tables import TableNames
from meshml_dbx.traffic.program_log import Stage


def read_stages(
    spark: SparkSession,
    names: TableNames,
    *,
    during: Span | None = None,
    processes: Iterable[str] | None = None,
) -> tuple[Stage, ...]:
    """The stages that were on in this span, of these processes, in order of their begin."""
    lines = spark.table(names.table("run_stages"))
    if processes is not None:
        lines = lines.where(F.col("process_id").isin(sorted(processes)))
    stages = pair_stages(lines)
    if during is not None:
        ended = F.col("end_time")
        stages = stages.where(
            (F.col("start_time") < during.end) & (ended.isNull() | (ended > during.start))
        )
    found = map(_stage, stages.collect())
    return tuple(sorted(found, key=lambda stage: (stage.start_time, stage.stage_id)))


def pair_stages(lines: DataFrame) -> DataFrame:
    """One row per stage; one of which only the end is known is none."""
    begin, end = (F.col("type") == type_ for type_ in ("begin", "end"))

    def of(line: Column, column: str) -> Column:
        return F.max(F.when(line, F.col(column)))

    pairs = lines.groupBy("stage_id").agg(
        of(begin, "stage").alias("stage"),
        of(begin, "process_id").alias("process_id"),
        F.unix_micros(of(begin, "time")).alias("start_time"),
        F.unix_micros(of(end, "time")).alias("end_time"),
        of(begin, "run_id").alias("run_id"),
        of(begin, "thread").alias("thread"),
        of(end, "sent").alias("sent"),
    )
    return pairs.where(F.col("start_time").isNotNull() & F.col("process_id").isNotNull())


def _stage(row: Row) -> Stage:
    return Stage(**{**row.asDict(), "stage": str(row["stage"])})
