"""Databricks' system tables, and what stands in for them elsewhere.

Goes in: a catalog, or a schema of stand-ins. Comes out: the name of a table that is there.
"""

from pyspark.sql import SparkSession


def find_system_table(spark: SparkSession, system: str, schema: str, table: str) -> str | None:
    """The name of a system table; a stand-in has one level less."""
    return find_table(spark, f"{system}.{schema}.{table}", f"{system}.{schema}_{table}")


def find_table(spark: SparkSession, *names: str) -> str | None:
    """The first of these names that is a table's; None where none is, or can be looked for."""
    for name in names:
        try:
            if spark.catalog.tableExists(name):
                return name
        except Exception:  # noqa: S112  # no such catalog: each kind says it otherwise
            continue
    return None
