"""The demo's training program: four stages, real calls, a real model, a real MLflow run.

    meshml run --client churn-training -- python -m meshml_dbx.demo.train --rows 569

It calls services by their virtual names over plain HTTP; the proxy that ``meshml run`` puts in
front of it does the rest. It counts its calls, so that the ledger can compare. With ``--direct`` it
has no proxy: it speaks mutual TLS and tries again itself (``demo.direct``), and is to be recorded
by ``meshml record``.
"""

import argparse
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

import mlflow
import numpy as np
import requests
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import meshml_dbx
from meshml_dbx.demo.data import RECORD_COLUMNS, ROWS_A_GROUP, Shape
from meshml_dbx.demo.direct import Direct, read_direct

RECORDS = "http://records.ml.local/v1/records"
LABELS = "http://labels.ml.local/v1/labels"
FEATURES = "http://features.ml.local/v1/features"
SCORING = "http://scoring.ml.local/v1"
WORKERS = 4
TIMEOUT_S = 90

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]

_own = local()
_direct: list[Direct] = []
"""Where services are without a mesh, if the program was told."""


def http() -> requests.Session:
    """This thread's session: one keep-alive connection each."""
    if not hasattr(_own, "session"):
        _own.session = _direct[0].session() if _direct else requests.Session()
    session: requests.Session = _own.session
    return session


def fetch_records(shape: Shape) -> Matrix:
    """All rows with the first measurements, page after page."""
    rows: list[list[float]] = []
    for page in range(1, shape.pages + 1):
        answer = http().get(RECORDS, params={"page": page}, timeout=TIMEOUT_S)
        answer.raise_for_status()
        rows += answer.json()["rows"]
    return np.array(rows)


def fetch_features(group: int) -> list[list[float]]:
    """The other measurements of one group; not-a-number where the look-up refuses."""
    try:
        answer = http().get(f"{FEATURES}/{group}", timeout=TIMEOUT_S)
        answer.raise_for_status()
    except (requests.HTTPError, requests.ConnectionError):
        return [[math.nan] * 10] * ROWS_A_GROUP
    found: list[list[float]] = answer.json()["features"]
    return found


def fetch_labels(day: int) -> list[int]:
    """The labels of one day."""
    answer = http().get(f"{LABELS}/{day}", timeout=TIMEOUT_S)
    answer.raise_for_status()
    labels: list[int] = answer.json()["labels"]
    return labels


def score(row: list[float]) -> float:
    """The probability that the served model gives one row."""
    answer = http().post(f"{SCORING}/score", json={"row": row}, timeout=TIMEOUT_S)
    answer.raise_for_status()
    return float(answer.json()["probability"])


def join_features(records: Matrix, groups: list[list[list[float]]]) -> Matrix:
    """Records and looked-up features side by side; what is missing becomes the column's mean."""
    features = np.array([row for group in groups for row in group])[: len(records)]
    known = np.nan_to_num(np.nanmean(features, axis=0)) if not np.isnan(features).all() else 0.0
    return np.hstack([records[:, :RECORD_COLUMNS], np.where(np.isnan(features), known, features)])


def deploy(scaler: StandardScaler, model: LogisticRegression) -> None:
    """Hand the trained model to the scoring endpoint."""
    answer = http().put(
        f"{SCORING}/model",
        json={
            "mean": scaler.mean_.tolist(),
            "scale": scaler.scale_.tolist(),
            "coefficients": model.coef_[0].tolist(),
            "intercept": float(model.intercept_[0]),
        },
        timeout=TIMEOUT_S,
    )
    answer.raise_for_status()


def train(shape: Shape) -> None:
    """The four stages, inside one MLflow run."""
    with ThreadPoolExecutor(WORKERS) as pool:
        with meshml_dbx.stage("ingestion") as stage:
            records = fetch_records(shape)
            stage.sent = shape.pages
        with meshml_dbx.stage("processing") as stage:
            groups = list(pool.map(fetch_features, range(shape.groups)))
            data = join_features(records, groups)
            stage.sent = shape.groups
        with meshml_dbx.stage("training") as stage:
            days = list(pool.map(fetch_labels, range(shape.days)))
            labels: Vector = np.array([label for day in days for label in day])
            train_x, test_x, train_y, test_y = train_test_split(data, labels, random_state=7)
            scaler = StandardScaler().fit(train_x)
            model = LogisticRegression(max_iter=500).fit(scaler.transform(train_x), train_y)
            stage.sent = shape.days
        with meshml_dbx.stage("scoring") as stage:
            deploy(scaler, model)
            answers = list(pool.map(score, test_x.tolist()))
            stage.sent = len(answers) + 1
    right = (np.array(answers) > 0.5) == (test_y == 1)  # noqa: PLR2004  # even odds
    mlflow.log_metric("accuracy", float(right.mean()))


def main() -> None:
    """Train once, as one MLflow run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--experiment", default="churn")
    parser.add_argument("--run-name", default="churn-training")
    parser.add_argument("--direct", type=Path, help="where the services are, without a mesh")
    given = parser.parse_args()
    if given.direct:
        _direct.append(read_direct(given.direct))
    mlflow.set_experiment(given.experiment)
    with mlflow.start_run(run_name=given.run_name) as run:
        began = time.monotonic()
        train(Shape(rows=given.rows))
        mlflow.log_metric("seconds", time.monotonic() - began)
    print(run.info.run_id)


if __name__ == "__main__":
    main()
