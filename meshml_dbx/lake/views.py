"""What people who come by SQL find beside the tables: one function.

Goes in: a session and the tables' names. Comes out: objects in the tables' schema, by name, so
that they work in a lake on this machine and in Unity Catalog.
"""

from pyspark.sql import SparkSession

from meshml_dbx.lake.tables import TableNames
from meshml_dbx.traffic.sketch import GAMMA, ZERO_BUCKET

QUANTILE = "quantile_us"
_ENTRIES = "array_sort(flatten(transform(parts, part -> map_entries(part))))"
_CALLS = f"aggregate({_ENTRIES}, 0L, (sum, entry) -> sum + entry.value)"
QUANTILE_SQL = f"""
aggregate(
  {_ENTRIES},
  named_struct('left', CAST(floor(q * ({_CALLS} - 1)) AS BIGINT), 'bucket', CAST(NULL AS INT)),
  (walk, entry) -> named_struct(
    'left', walk.left - entry.value,
    'bucket', CASE WHEN walk.bucket IS NOT NULL THEN walk.bucket
                   WHEN walk.left < entry.value THEN entry.key END),
  walk -> CASE WHEN walk.bucket = {ZERO_BUCKET} THEN 0D
               ELSE 2 * power({GAMMA!r}D, walk.bucket) / ({GAMMA!r}D + 1) END)
"""
"""A quantile of ``parts``, an array of buckets: those of any minutes, edges or runs together."""


def create_functions(spark: SparkSession, names: TableNames) -> None:
    """Make ``quantile_us(collect_list(buckets), 0.99)`` known to SQL: right to 1 %."""
    spark.sql(
        f"CREATE OR REPLACE FUNCTION {names.schema}.`{QUANTILE}`"
        "(parts ARRAY<MAP<INT, BIGINT>>, q DOUBLE) RETURNS DOUBLE "
        "COMMENT 'The q quantile, in us, of all calls in these buckets, right to 1 %' "
        f"RETURN {QUANTILE_SQL}"
    )
