"""Benchmarks run as a long job does: on a session that takes its time to compile."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SparkSession]":
    """The one Spark session of a run of benchmarks."""
    from meshml_dbx.lake.spark import local_session

    session = local_session(warehouse=tmp_path_factory.mktemp("warehouse"))
    yield session
    session.stop()
