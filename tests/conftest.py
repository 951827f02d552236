"""What tests of several rooms share, because making one takes seconds: MLflow store and Spark."""

import os
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
    """The run's one session, as the product makes it; by MESHML_SPARK=connect a remote."""
    from meshml_dbx.lake.spark import local_session

    if os.environ.get("MESHML_SPARK") == "connect":
        yield from connect_session(tmp_path_factory.mktemp("warehouse"))
        return
    session = local_session(warehouse=tmp_path_factory.mktemp("warehouse"), memory="2g", brief=True)
    yield session
    session.stop()


def connect_session(warehouse: Path) -> "Iterator[SparkSession]":
    """A session by Spark Connect, as serverless and standard compute have; its server is our own.

    What a builder says of memory and folders is ignored there: submit arguments have it.
    """
    from pyspark.sql import SparkSession

    from meshml_dbx.lake.spark import BRIEF_JAVA, SETTINGS, installed_jar

    given = {**SETTINGS, "spark.sql.warehouse.dir": str(warehouse)}
    given["spark.driver.extraJavaOptions"] += f" {BRIEF_JAVA}"
    options = " ".join(f"--conf '{name}={value}'" for name, value in given.items())
    packages = f"--packages {installed_jar().coordinate} --driver-memory 2g"
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"{packages} {options} pyspark-shell"
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_TESTING"] = "1"  # the server takes a free port
    session = SparkSession.builder.remote("local[2]").getOrCreate()
    yield session
    session.stop()
