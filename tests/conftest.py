"""What tests of several rooms share: an MLflow store, since making one takes seconds."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


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
