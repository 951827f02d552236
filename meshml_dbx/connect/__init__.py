"""Clients of the outside world, each made here and nowhere else: Spark, and MLflow's runs.

Goes in: settings, a tracking address, or none for MLflow's own choice. Comes out: a Spark session,
``Run`` values. Importing MLflow takes seconds, which an answer in two does not have; so a sqlite
store is read by the standard library, a server by its documented REST API, and everything else by
MLflow's client.
"""

from typing import TYPE_CHECKING

from meshml_dbx.connect.aws import logs_client, s3_client
from meshml_dbx.connect.run_changes import RunsRead
from meshml_dbx.connect.store import RunQuery, mask
from meshml_dbx.connect.tracking import (
    EVERY,
    RunLog,
    active_run_id,
    attach_page,
    find_run,
    read_changed_runs,
    read_runs,
    resolve_tracking_uri,
    store_name,
    tag_active_run,
)
from meshml_dbx.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame as DataFrame  # the hall names them, too
    from pyspark.sql import SparkSession as SparkSession

__all__ = [
    "EVERY",
    "RunLog",
    "RunQuery",
    "RunsRead",
    "active_run_id",
    "attach_page",
    "find_run",
    "logs_client",
    "mask",
    "read_changed_runs",
    "read_runs",
    "resolve_tracking_uri",
    "s3_client",
    "spark_session",
    "store_name",
    "tag_active_run",
]

SPARK_LOG = "spark.log"
"""In the state folder: what Java and Spark print, which is much even when all is well."""


def spark_session(settings: Settings, *, brief: bool = False) -> "SparkSession":
    """The session of this process: on Databricks the one that runs, else one of this machine's.

    ``brief`` when little data is at hand: then it starts, and does it, in less time.

    Raises:
        JavaError: there is no usable Java.
        MissingToolError: Spark or Delta is not installed, or its jar cannot be had.
        LakeError: Spark did not start, for another reason.
    """
    from meshml_dbx.lake import local_session

    state = settings.state.absolute()
    return local_session(warehouse=state / "warehouse", log=state / SPARK_LOG, brief=brief)
