"""A program with a Spark Connect server of its own that reads a log group as batch and stream.

cloudwatch_child.py URL START FOLDER
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from pyspark.sql import SparkSession

from meshml_dbx.lake.cloudwatch_source import SCHEMA, SOURCE, cloudwatch_source
from tests.lake.aws_lab import REGION, maker


def main(url: str, start: str, folder: Path) -> None:
    """How many rows each has."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_TESTING"] = "1"  # the server takes a free port
    spark = SparkSession.builder.remote("local[2]").getOrCreate()
    spark.dataSource.register(cloudwatch_source(maker()))
    given = {
        "log_group": "/connect",
        "region": REGION,
        "endpoint_url": url,
        "start": start,
        "lag_s": "1",
    }
    rows = spark.read.format(SOURCE).schema(SCHEMA).options(**given).load()
    batch = rows.select("event_id").distinct().count()
    stream = spark.readStream.format(SOURCE).schema(SCHEMA).options(**given).load()
    query = (
        stream.writeStream.format("parquet")
        .option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True)
        .start(str(folder / "events"))
    )
    query.awaitTermination(200)
    streamed = spark.read.parquet(str(folder / "events")).select("event_id").distinct().count()
    print(batch, streamed)  # noqa: T201  # the test reads it
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
