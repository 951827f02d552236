"""What tests of several rooms share, because making one takes seconds: MLflow store and Spark."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def empty_mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sqlite store that MLflow has made, without runs; copy it, do not write to it."""
    folder = tmp_path_factory.mktemp("mlflow")
    subprocess.run(
        [
            *(sys.executable, "-c"),
            "import mlflow; mlflow.MlflowClient('sqlite:///mlflow.db').search_experiments()",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder / "mlflow.db"


@pytest.fixture
def mlflow_store(empty_mlflow_store: Path, tmp_path: Path) -> Path:
    """A sqlite store of a test's own."""
    return Path(shutil.copy(empty_mlflow_store, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SparkSession]":
    """The one Spark session of a test run, as the product makes it."""
    from meshml_dbx.lake.spark import local_session

    session = local_session(warehouse=tmp_path_factory.mktemp("warehouse"), memory="2g", brief=True)
    yield session
    session.stop()
