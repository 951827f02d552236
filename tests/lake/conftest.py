"""A lake and a log folder for each test; the session is shared, the tables are not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.utils import is_remote

from meshml_dbx.lake.ingest import IngestReport, ingest
from meshml_dbx.lake.tables import TableNames, open_lake
from tests.lake.writing import LogWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One lake, the log folder that fills it, and the session to ask it with."""

    spark: SparkSession
    root: Path
    names: TableNames

    @property
    def logs(self) -> Path:
        """Where the writers write."""
        return self.root / "logs"

    def writer(self, **values: str | None) -> LogWriter:
        """A sidecar that writes to the log folder."""
        return LogWriter(logs=self.logs, **values)  # type: ignore[arg-type]  # its own fields

    def ingest(
        self, *, checkpoint: str = "checkpoint", files_per_batch: int = 1000
    ) -> IngestReport:
        """Take in what is closed."""
        return ingest(
            self.spark,
            self.names,
            logs=str(self.logs),
            checkpoint=str(self.root / checkpoint),
            files_per_batch=files_per_batch,
        )

    def table(self, name: str) -> DataFrame:
        """The rows of a table."""
        return self.spark.table(self.names.table(name))

    def count(self, name: str) -> int:
        """How many rows a table has."""
        return int(self.table(name).count())

    def values(self, name: str, *columns: str) -> list[tuple[object, ...]]:
        """The rows of these columns, in order."""
        rows = self.table(name).select(*columns).collect()
        return sorted((tuple(row) for row in rows), key=repr)


@pytest.fixture
def lab(spark: SparkSession, tmp_path: Path) -> Iterator[Lab]:
    """An empty lake beside an empty log folder."""
    names = open_lake(spark, TableNames.of(tmp_path / "lake"))
    yield Lab(spark=spark, root=tmp_path, names=names)
    if not is_remote():  # else Delta keeps an hour's lakes in memory, with the plans that made them
        spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
