# Databricks notebook source
# MAGIC %md
# MAGIC # Logs in the lake: what did the network cost?
# MAGIC Access logs that a proxy wrote become tables, joined with MLflow's runs. This tour brings some in and
# MAGIC asks the tables: which service was slow when, what runs waited for, what is missing and why.
# MAGIC
# MAGIC **You need** Spark with Delta, and logs: a file, folder, `cloudwatch:GROUP` or `s3://BUCKET/PREFIX`.
# MAGIC The default is a small sample beside this notebook. In a workspace, name `CATALOG.SCHEMA` as the lake.

# COMMAND ----------

dbutils.widgets.text("place", "access-logs", "Logs: file, folder, cloudwatch:…, s3://…")
dbutils.widgets.text("source", "edge", "What these logs are called")
dbutils.widgets.text("client", "churn", "Whose calls they are")
dbutils.widgets.text("state", ".meshml/lake-tour", "State folder")
dbutils.widgets.text("lake", "", "CATALOG.SCHEMA (empty: a folder in the state folder)")

# COMMAND ----------

from dataclasses import asdict

import meshml_dbx
from meshml_dbx.traffic.log_source import LogSource

session = meshml_dbx.Session(
    meshml_dbx.read_settings(
        state=dbutils.widgets.get("state"), lake=dbutils.widgets.get("lake") or None
    )
)
source = LogSource(
    source_id=dbutils.widgets.get("source"),
    observer="egress",
    client=dbutils.widgets.get("client"),
)
asdict(session.collect([dbutils.widgets.get("place")], source))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Into Delta
# MAGIC The format is told from the lines. Run it again: each line arrives once, also when the same call comes
# MAGIC by another road. `quarantined` are lines that are no calls.

# COMMAND ----------

asdict(session.ingest())

# COMMAND ----------

# MAGIC %md
# MAGIC ## How services were called, minute by minute
# MAGIC Quantiles are made of buckets that add up: those of any minutes, services or runs together are right
# MAGIC to 1 %.

# COMMAND ----------

session.start_spark()
display(
    session.sql(
        "SELECT virtual_service, sum(calls) AS calls, sum(errors) AS errors, "
        "{lake}.quantile_us(collect_list(buckets), 0.99D) / 1000 AS p99_ms "
        "FROM {lake}.edge_minutes GROUP BY virtual_service ORDER BY p99_ms DESC"
    )
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Whose calls they are
# MAGIC Each call of a client is joined with an MLflow run, fits several (ambiguous), or belongs to none.

# COMMAND ----------

display(session.sql("SELECT * FROM {lake}.join_coverage"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## What runs waited for, and what that cost this week
# MAGIC Without a bill `wait_cost` is null, and the seconds speak. A run's `team` and `model` are its tags.

# COMMAND ----------

display(
    session.sql(
        "SELECT team, model, service, sum(wait_s) AS wait_s, sum(wait_cost) AS wait_cost, currency "
        "FROM {lake}.model_cost_week GROUP BY ALL ORDER BY wait_cost DESC NULLS LAST, wait_s DESC"
    )
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What is missing, and why
# MAGIC The books of each source: lines in, rows out, repeats, what could not be read.

# COMMAND ----------

display(session.sql("SELECT * FROM {lake}.ledger_sources"))

# COMMAND ----------

asdict(session.quarantine())
