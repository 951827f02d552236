"""Runs pay for the time that they lasted, the rest is said, and all adds up to the bill."""

import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from pyspark.sql import SparkSession

from meshml_dbx.cli import cli
from meshml_dbx.lake.cost import RUN_BYTES, RUN_TIME, Bill, TransferPrice, refresh_cost
from meshml_dbx.lake.runs import store_runs
from meshml_dbx.lake.views import create_views
from meshml_dbx.lake.wait_cost import read_wait_costs
from tests.lake.conftest import Lab
from tests.lake.test_join import a_run
from tests.lake.test_views import shown_query
from tests.lake.writing import NOON, SECOND

pytestmark = pytest.mark.spark

USAGE = """record_id STRING, account_id STRING, workspace_id STRING, sku_name STRING, cloud STRING,
  usage_start_time TIMESTAMP, usage_end_time TIMESTAMP, usage_date DATE,
  custom_tags MAP<STRING, STRING>, usage_unit STRING, usage_quantity DECIMAL(38, 18),
  usage_metadata STRUCT<cluster_id: STRING, job_id: STRING, job_run_id: STRING, job_name: STRING,
    warehouse_id: STRING, node_type: STRING, notebook_id: STRING, endpoint_name: STRING>,
  identity_metadata STRUCT<run_as: STRING, owned_by: STRING, created_by: STRING>,
  record_type STRING, ingestion_date DATE, billing_origin_product STRING,
  product_features STRUCT<jobs_tier: STRING, is_serverless: BOOLEAN, is_photon: BOOLEAN>,
  usage_type STRING"""
PRICES = """price_start_time TIMESTAMP, price_end_time TIMESTAMP, account_id STRING,
  sku_name STRING, cloud STRING, currency_code STRING, usage_unit STRING,
  pricing STRUCT<default: DECIMAL(38, 18), promotional: STRUCT<default: DECIMAL(38, 18)>,
    effective_list: STRUCT<default: DECIMAL(38, 18)>>"""
TIMELINE = """account_id STRING, workspace_id STRING, job_id STRING, run_id STRING,
  period_start_time TIMESTAMP, period_end_time TIMESTAMP, trigger_type STRING, run_type STRING,
  run_name STRING, compute_ids ARRAY<STRING>, result_state STRING, termination_code STRING,
  job_parameters MAP<STRING, STRING>"""

JOBS, ALL_PURPOSE = "JOBS_COMPUTE", "ALL_PURPOSE_COMPUTE"
USES = (
    # workspace, sku, from hour, quantity, kind, job run, cluster
    ("w1", JOBS, 12, "2.000000001", "ORIGINAL", "77", "c1"),
    ("w1", JOBS, 13, "3", "ORIGINAL", "77", "c1"),
    ("w1", JOBS, 13, "-3", "RETRACTION", "77", "c1"),
    ("w1", JOBS, 13, "2.5", "RESTATEMENT", "77", "c1"),
    ("w2", JOBS, 12, "40", "ORIGINAL", "77", "c9"),
    ("w1", ALL_PURPOSE, 12, "6", "ORIGINAL", None, "c2"),
    ("w1", JOBS, 12, "5", "ORIGINAL", "78", "c3"),
    ("w1", JOBS, 12, "-5", "RETRACTION", "78", "c3"),
    ("w1", "SQL_COMPUTE", 12, "1", "ORIGINAL", None, None),
    ("w1", "UNLISTED", 12, "9", "ORIGINAL", None, None),
)


def at(hour: int, minute: int = 0) -> datetime:
    """A time of the day, naive: the session's zone is UTC."""
    return datetime(2026, 11, 22, hour, minute)  # noqa: DTZ001


def write_system(spark: SparkSession, schema: str) -> None:
    """Databricks' tables: corrections, a price that changes, a sliced run, one id in two places."""
    spark.sql(f"CREATE SCHEMA {schema}")
    usage: list[tuple[object, ...]] = [
        (
            *(str(n), "acc", workspace, sku, "AWS", at(hour), at(hour + 1), at(hour).date(), {}),
            *("DBU", Decimal(quantity), (cluster, "5", job_run, *[None] * 5), (None,) * 3, kind),
            *(at(hour).date(), "JOBS", (None, False, False), "COMPUTE_TIME"),
        )
        for n, (workspace, sku, hour, quantity, kind, job_run, cluster) in enumerate(USES)
    ]
    spark.createDataFrame(usage, USAGE).write.saveAsTable(f"{schema}.billing_usage")
    prices = [
        (begin, end, "acc", sku, "AWS", "USD", "DBU", (Decimal(p), None, (Decimal(p),)))
        for begin, end, sku, p in (
            (at(0), at(13, 30), JOBS, "0.15"),
            (at(13, 30), None, JOBS, "0.30"),
            (at(0), None, ALL_PURPOSE, "0.55"),
            (at(0), None, "SQL_COMPUTE", "0.22"),
        )
    ]
    spark.createDataFrame(prices, PRICES).write.saveAsTable(f"{schema}.billing_list_prices")
    slices = [
        (*("acc", workspace, "5", run, begin, end), *[None] * 7)
        for workspace, run, begin, end in (
            ("w1", "77", at(12, 30), at(13)),
            ("w1", "77", at(13), at(13, 30)),
            ("w2", "77", at(12), at(13)),
        )
    ]
    timeline = spark.createDataFrame(slices, TIMELINE)
    timeline.write.saveAsTable(f"{schema}.lakeflow_job_run_timeline")


BILL = {
    JOBS: Decimal("2.000000001") * Decimal("0.15") + Decimal("2.5") * Decimal("0.30") + 6,
    ALL_PURPOSE: Decimal("3.3"),
    "SQL_COMPUTE": Decimal("0.22"),
    "UNLISTED": None,
}


def test_the_bill_is_split_by_time_and_adds_up(lab: Lab) -> None:
    """By job run where the bill has one, else by compute; the second time changes nothing."""
    system = f"{lab.names.schema.strip('`')}_system"
    write_system(lab.spark, system)
    tags = {"team": "risk", "model": "churn"}
    in_job = {"workspace_id": "w1", "job_run_id": "77", "cluster_id": "c1", **tags}
    on_compute = {"workspace_id": "w1", "cluster_id": "c2"}
    runs = [
        # From 12:45 to 13:15, of a job run from 12:30 to 13:30: half of each hour's charge.
        a_run("job", 2700, 4500, process_id="0", client="churn", **in_job),
        a_run("notebook", 0, 900, client="other", **on_compute),
        a_run("beside", 0, 900, client="third", **on_compute),
        a_run("elsewhere", 0, 900, client="fourth"),
    ]
    store_runs(lab.spark, lab.names, runs)
    writer = lab.writer(process_id="0")
    writer.call(NOON + 3000 * SECOND, total_us=180 * SECOND, bytes_in=10**9, bytes_out=10**9)
    writer.close()
    lab.ingest()
    assert_seconds_without_a_bill(lab)
    moved = TransferPrice(sku="cross-zone", per_gb=0.01)
    for _ in range(2):
        report = refresh_cost(lab.spark, lab.names, system=system, transfer_prices=[moved])
        assert report.refreshed
    rows = lab.table("cost").collect()
    billed = [row for row in rows if row["AllocatedMethodId"] == RUN_TIME]
    for sku, expected in BILL.items():
        costs = [row["ListCost"] for row in billed if row["SkuId"] == sku]
        assert (None if None in costs else sum(costs)) == expected, sku
    by_run: dict[str, Decimal] = {}
    for row in billed:
        who = row["AllocatedResourceName"]
        by_run[who] = by_run.get(who, Decimal(0)) + (row["ListCost"] or 0)
    assert by_run["job"] == pytest.approx(Decimal("0.525"), abs=Decimal("1e-8"))
    assert by_run["notebook"] == by_run["beside"] == pytest.approx(Decimal("0.825"))
    assert "elsewhere" not in by_run
    assert {row["AllocatedResourceId"] for row in billed if row["SubAccountId"] == "w2"} == {None}
    (bytes_row,) = (row for row in rows if row["AllocatedMethodId"] == RUN_BYTES)
    assert (bytes_row["ListCost"], bytes_row["PricingQuantity"]) == (Decimal("0.02"), 2)
    create_views(lab.spark, lab.names)
    (waited,) = lab.spark.sql(
        f"SELECT wait_cost FROM {lab.names.schema}.run_cost WHERE run_id = 'job'"  # noqa: S608
    ).collect()
    assert float(waited[0]) == pytest.approx(0.0525)
    (shown,) = lab.spark.sql(readme_query(lab)).collect()
    assert (shown["model"], shown["service"], shown["currency"]) == (
        "churn",
        "labels.ml.local",
        "USD",
    )
    assert (shown["wait_s"], shown["wait_cost"]) == (180.0, pytest.approx(0.0525))
    assert_read_from_copies(lab, system)


def readme_query(lab: Lab) -> str:
    """The statement that README shows, asked of this lake in the week of these runs."""
    return (
        shown_query()
        .replace("main.mesh", lab.names.schema)
        .replace("current_date()", "DATE '2026-11-22'")
    )


def assert_seconds_without_a_bill(lab: Lab) -> None:
    """The command answers in seconds, with shares of the runs' time, and says what lacks."""
    lake = ("--lake", str(lab.names.folder), "--state", str(lab.root / "state"))
    done = CliRunner().invoke(cli, ["cost", "--days", "3650", "--json", *lake])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["notice"].startswith("no costs: there is no system.billing.usage")
    (row,) = (row for row in told["rows"] if row["team"] == "risk")
    assert (row["service"], row["wait_s"], row["wait_cost"]) == ("labels.ml.local", 180.0, None)
    assert row["share"] == pytest.approx(180 / 1800)
    shown = CliRunner().invoke(cli, ["cost", "--days", "3650", "--top", "1", *lake])
    assert "180.0 s" in shown.stdout
    assert "shares are of the runs' time" in shown.stdout


def assert_read_from_copies(lab: Lab, system: str) -> None:
    """A table and a folder may stand in for the bill; shares are then of the compute cost."""
    folder = Path(lab.spark.table(f"{system}.billing_list_prices").inputFiles()[0]).parent
    prices = unquote(str(folder).removeprefix("file:"))
    bill = Bill(system=system, usage=f"{system}.billing_usage", prices=prices)
    found = read_wait_costs(lab.spark, lab.names, bill=bill, since=date(2026, 11, 20))
    (row,) = (row for row in found.rows if row.team == "risk")
    assert found.notice == ""
    assert (row.wait_s, row.currency) == (180.0, "USD")
    assert row.wait_cost == pytest.approx(0.0525)
    assert row.share == pytest.approx(0.1)
    missing = Bill(usage=f"{system}.billing_usage", prices=f"{prices}/no")
    report = refresh_cost(lab.spark, lab.names, bill=missing)
    assert report.notice == f"no costs: there is no {prices}/no that can be read here"


def test_without_a_bill_nothing_is_done(lab: Lab) -> None:
    """It says which table there is not, and touches nothing."""
    report = refresh_cost(lab.spark, lab.names, system="no_such_catalog")
    assert not report.refreshed
    assert "no_such_catalog.billing.usage" in report.notice
    assert lab.count("cost") == 0
