"""Rows of this program as a DataFrame: the plan itself carries them.

Goes in: rows, and a schema. Comes out: a DataFrame.
"""

from collections.abc import Sequence

import pyarrow as pa  # type: ignore[import-untyped]  # ships without types
from pyspark.sql import DataFrame, SparkSession

ARROW_TYPES = {"STRING": pa.string(), "BIGINT": pa.int64(), "BOOLEAN": pa.bool_()}


def local_rows(spark: SparkSession, rows: Sequence[tuple[object, ...]], schema: str) -> DataFrame:
    """A few rows that the plan itself carries: handing them over takes no job of its own."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema.split(", "))
    named = (part.split() for part in schema.split(", "))
    arrays = {
        name: pa.array(values, ARROW_TYPES[kind])
        for (name, kind), values in zip(named, columns, strict=True)
    }
    return spark.createDataFrame(pa.table(arrays))
