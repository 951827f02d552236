"""What the mesh saw, in Delta: the one room that speaks Spark.

Goes in: closed log files and MLflow runs. Comes out: tables, and ``Evidence`` of a run. The names
below load on first use, so that Java and pyspark can be checked before either is needed;
``ingest.ingest`` has its module's name and is imported from there.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshml_dbx.lake.cost import TransferPrice, refresh_cost
    from meshml_dbx.lake.evidence import has_run, read_evidence
    from meshml_dbx.lake.ingest import IngestReport
    from meshml_dbx.lake.job_runs import refresh_job_runs
    from meshml_dbx.lake.read_runs import stored_runs
    from meshml_dbx.lake.run_marks import keep_run_mark, read_run_mark, unsettled_runs
    from meshml_dbx.lake.runs import store_runs
    from meshml_dbx.lake.spark import local_session
    from meshml_dbx.lake.tables import TableNames, open_lake
    from meshml_dbx.lake.views import has_views

__all__ = [
    "IngestReport",
    "TableNames",
    "TransferPrice",
    "has_run",
    "has_views",
    "keep_run_mark",
    "local_session",
    "open_lake",
    "read_evidence",
    "read_run_mark",
    "refresh_cost",
    "refresh_job_runs",
    "store_runs",
    "stored_runs",
    "unsettled_runs",
]

_HOMES = {
    "IngestReport": "ingest",
    "TableNames": "tables",
    "TransferPrice": "cost",
    "has_run": "evidence",
    "has_views": "views",
    "keep_run_mark": "run_marks",
    "local_session": "spark",
    "open_lake": "tables",
    "read_evidence": "evidence",
    "read_run_mark": "run_marks",
    "refresh_cost": "cost",
    "refresh_job_runs": "job_runs",
    "store_runs": "runs",
    "stored_runs": "read_runs",
    "unsettled_runs": "run_marks",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
