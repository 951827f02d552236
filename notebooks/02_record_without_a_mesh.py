# Databricks notebook source
# MAGIC %md
# MAGIC # What does my run wait for? Three lines, no mesh
# MAGIC Run the first cell before your own code. It records what this process calls: requests, boto3,
# MAGIC MLflow, databricks-sdk, httpx, aiohttp. Hosts, paths, statuses, sizes and times are written; query
# MAGIC values, headers and bodies never are.
# MAGIC
# MAGIC Works on any compute, serverless too. On Databricks the log lies on the driver's local disk; name a
# MAGIC Unity Catalog volume below to keep it, and for executors.

# COMMAND ----------

dbutils.widgets.text("state", "", "State folder (empty: .meshml here, on Databricks the local disk)")
dbutils.widgets.text("logs", "", "Log folder, such as /Volumes/main/meshml/logs (empty: in the state folder)")
dbutils.widgets.text("run", "", "MLflow run: id or name (empty: the active or last one)")

# COMMAND ----------

import meshml_dbx

meshml_dbx.record(
    state=dbutils.widgets.get("state") or None,
    logs=dbutils.widgets.get("logs") or None,
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Your code, unchanged
# MAGIC Anything inside an MLflow run is that run's: `with mlflow.start_run(): …`. Two things are worth a
# MAGIC line each, and neither is needed:
# MAGIC - `with meshml_dbx.stage("ingestion"): …` splits the answer by stage;
# MAGIC - `spark_udf = udf(meshml_dbx.recorded(my_function))` records what executors call, for `mapInPandas`
# MAGIC   too.

# COMMAND ----------

# MAGIC %md
# MAGIC ## What it waited for
# MAGIC While the run goes on, too: a call that is stuck shows as one in flight.

# COMMAND ----------

answer = meshml_dbx.why(
    dbutils.widgets.get("run") or None,
    state=dbutils.widgets.get("state") or None,
    logs=dbutils.widgets.get("logs") or None,
    live=True,
)
answer

# COMMAND ----------

# MAGIC %md
# MAGIC ## What you can mend alone
# MAGIC Many small calls that could be one, the same thing fetched again, polling, one call after the other:
# MAGIC each with the seconds that it would save.

# COMMAND ----------

answer.to_json()["client_patterns"]

# COMMAND ----------

# MAGIC %md
# MAGIC ## The calls themselves
# MAGIC As this process saw them: the wait for the first byte is the service's and the network's together.

# COMMAND ----------

measured = ["duration_us", "connect_us", "tls_us", "first_byte_us", "receive_us"]
told = ["start_time", "stage", "virtual_service", "pattern", "code", "flags", "attempts", "details"]
display(answer.calls.sort_values("duration_us", ascending=False)[told + measured].head(50))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Enough
# MAGIC Every library is as it was before.

# COMMAND ----------

meshml_dbx.stop()
