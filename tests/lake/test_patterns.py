"""The lake's patterns of paths are those of the words, expression for expression."""

import random

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.sources import pattern_of
from meshml_dbx.traffic import pattern

pytestmark = pytest.mark.spark

PARTS = ("v1", "v2.1", "v1x", "labels", "17", "2026-11-23", "a" * 32, "b" * 33, "%C3%A9", "~x", "")
KNOWN = ("/", "", "*", "/v1/labels/2026-11-23", "/a/b/c/d/e/f/g/h/i/j", "//", "/v1", "no/slash/7")


def test_patterns_agree_with_python(spark: SparkSession) -> None:
    """On known and on random paths, Spark's expressions and Python's say the same."""
    chance = random.Random(7)
    made = ["/" + "/".join(chance.choices(PARTS, k=chance.randint(1, 12))) for _ in range(2000)]
    pairs = [("GET", path) for path in (*KNOWN, *made)] + [(None, None), ("", "")]
    frame = spark.createDataFrame(pairs, "method STRING, path STRING")
    rows = frame.select("*", pattern_of(F.col("method"), F.col("path")).alias("p")).collect()
    wrong = [tuple(row) for row in rows if row["p"] != pattern.pattern_of(row[0], row[1])]
    assert wrong == []
