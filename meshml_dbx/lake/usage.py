"""How often each way was used, out of the table of calls.

Goes in: a session and the tables' names. Comes out: ``Usage`` values, and the versions of the mesh
that the lake has seen a document of.
"""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.tables import TableNames
from meshml_dbx.traffic.usage import USAGE_KEY, Usage


def read_usages(spark: SparkSession, names: TableNames, *, since: int = 0) -> tuple[Usage, ...]:
    """The ways used by calls that began at ``since`` (UTC microseconds) or later."""
    calls = spark.table(names.table("calls"))
    recent = calls.where(F.col("start_time") >= F.timestamp_micros(F.lit(since)))
    rows = usages_of(recent).orderBy(*USAGE_KEY).collect()
    return tuple(Usage(**row.asDict()) for row in rows)


def usages_of(calls: DataFrame) -> DataFrame:
    """One row per way that was used; see ``traffic.usage.usage_host`` for ``host``."""
    foreign = F.when(F.col("virtual_service").isNull(), F.lower("authority"))
    moment = F.unix_micros("start_time")
    return (
        calls.withColumn("host", foreign)
        .groupBy(*USAGE_KEY)
        .agg(F.count("*").alias("calls"), F.min(moment).alias("first"), F.max(moment).alias("last"))
    )


def known_versions(spark: SparkSession, names: TableNames) -> frozenset[str]:
    """The versions of meshes whose documents sidecars have written to their logs."""
    rows = spark.table(names.table("mesh_versions")).select("mesh_version").distinct().collect()
    return frozenset(row["mesh_version"] for row in rows)
