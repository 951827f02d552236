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
# MAGIC `waits` has one row for each service, route, target, endpoint and stage: the seconds in which the
# MAGIC run waited for it (`wait_s`), and the cause. The rows add up to the run's whole wait.

# COMMAND ----------

display(answer.waits)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What the calls spent it on
# MAGIC The seconds of each target's calls, split into earlier attempts, connect, TLS handshake, wait for
# MAGIC a connection of the pool, sending, time to first byte, and transfer.

# COMMAND ----------

{culprit.target: culprit.breakdown for culprit in answer.culprits}

# COMMAND ----------

# MAGIC %md
# MAGIC ## The calls that prove it
# MAGIC `calls` has every finished call of the run, as the proxy measured it. Times of connect and TLS are
# MAGIC the connection's: the proxy repeats them on each call that uses it again.

# COMMAND ----------

measured = ["duration_us", "pool_ready_ms", "connect_us", "tls_us", "first_byte_us", "receive_us"]
told = ["start_time", "stage", "target", "pattern", "code", "flags", "attempts", "request_id"]
display(answer.calls.sort_values("duration_us", ascending=False)[told + measured].head(50))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Was anything lost on the way?
# MAGIC `sent` is what the program counted, `proxied` what its proxy counted, `rows` what is recorded.
# MAGIC `lost` is 0, or `explained` says why.

# COMMAND ----------

answer.to_json()["ledger"]
