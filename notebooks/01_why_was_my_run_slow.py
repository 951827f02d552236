# Databricks notebook source
# MAGIC %md
# MAGIC # Why was my run slow?
# MAGIC One training run waited on a service. This tour finds out which, from the records of its calls.
# MAGIC
# MAGIC **You need** a log folder that `meshml run` wrote, and the MLflow store of the run. To make both
# MAGIC on this machine, run `meshml demo` first; its folder is the default below.

# COMMAND ----------

dbutils.widgets.text("run", "last", "MLflow run: id, name or last")
dbutils.widgets.text("state", ".meshml/demo", "State folder")
dbutils.widgets.text("baseline", "", "Compare with (empty: recent runs)")

# COMMAND ----------

import meshml_dbx

answer = meshml_dbx.why(
    dbutils.widgets.get("run"),
    state=dbutils.widgets.get("state"),
    baseline=dbutils.widgets.get("baseline") or None,
)
answer

# COMMAND ----------

# MAGIC %md
# MAGIC ## Where the time went
# MAGIC `waits` has one row for each service, route, target and endpoint: the seconds in which the run
# MAGIC waited for it. The rows add up to the run's whole wait.

# COMMAND ----------

display(answer.waits)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The calls that prove it
# MAGIC `calls` has every call of the run, with its parts: pool wait, connect, TLS, first byte, transfer,
# MAGIC earlier attempts.

# COMMAND ----------

display(answer.calls.sort_values("duration_ms", ascending=False).head(50))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Was anything lost on the way?
# MAGIC `sent` is what the program counted, `proxied` what its proxy counted, `rows` what is recorded.
# MAGIC `lost` is 0, or `explained` says why.

# COMMAND ----------

answer.to_json()["ledger"]
