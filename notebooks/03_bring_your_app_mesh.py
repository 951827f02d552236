# Databricks notebook source
# MAGIC %md
# MAGIC # Bring your App Mesh definitions
# MAGIC From CloudFormation, Kubernetes, Terraform or the API's JSON to one mesh file; what is wrong with it;
# MAGIC which way a request goes; what each way out of App Mesh would keep; and files for a stock Envoy.
# MAGIC
# MAGIC **You need** the files alone: no AWS account, no cluster, no Spark. The default is the example in
# MAGIC this repository. Nothing is created anywhere but in the folder below.

# COMMAND ----------

dbutils.widgets.text("definitions", "app-mesh", "A file, a folder or a pattern")
dbutils.widgets.text("folder", "/tmp/app-mesh", "Folder for mesh.yml and what is rendered")
dbutils.widgets.text("node", "training", "Explain: the calling virtual node")
dbutils.widgets.text("url", "http://labels.churn.local/v1/labels/b/7", "Explain: the address it gets")
dbutils.widgets.text("header", "x-cohort: b", "Explain: a header that it sends")
dbutils.widgets.text("member", "labels-v2", "Render: the virtual node")

# COMMAND ----------

from pathlib import Path

import meshml_dbx
import pandas as pd

folder = Path(dbutils.widgets.get("folder"))
folder.mkdir(parents=True, exist_ok=True)
session = meshml_dbx.Session(
    meshml_dbx.read_settings(mesh=folder / "mesh.yml", state=folder / ".meshml")
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Import
# MAGIC The dialect of each file is told by its content. Every value is in the mesh, or in a finding with its
# MAGIC file, line and path: `parameters={"NAME": "VALUE"}` gives those that a template asks for.

# COMMAND ----------

imported = session.import_mesh([dbutils.widgets.get("definitions")])
display(pd.DataFrame(list(imported.findings)))
imported.summary()

# COMMAND ----------

# MAGIC %md
# MAGIC ## Check
# MAGIC What neither App Mesh's API nor its webhook said: routes that are never reached, time-outs that cut
# MAGIC retries off, callers that are refused. `session.explain_findings("MESH013")` tells what one means.

# COMMAND ----------

session.settings.mesh.write_text(imported.to_yaml(), encoding="utf-8")
display(pd.DataFrame(list(session.check())))
session.mesh_summary()

# COMMAND ----------

# MAGIC %md
# MAGIC ## Which way would this call go?
# MAGIC Every rule that is asked, in order, and why it takes the call or not; then the targets, and where each
# MAGIC time-out and retry comes from.

# COMMAND ----------

call = session.explain(
    ["GET", dbutils.widgets.get("url")],
    node=dbutils.widgets.get("node"),
    headers=[dbutils.widgets.get("header")],
)
print("\n".join(call.lines()))

# COMMAND ----------

# MAGIC %md
# MAGIC ## What would each way out keep?
# MAGIC A row for each part that some plane does not keep, with the reason and what to do instead.

# COMMAND ----------

fit = session.fit()
display(pd.DataFrame(fit.grouped_rows(), columns=fit.headings()))
fit.summary()

# COMMAND ----------

# MAGIC %md
# MAGIC ## What would VPC Lattice cost?
# MAGIC Of a month's requests and gigabytes, by list prices that nobody has verified since. The steps are
# MAGIC those that `meshml plan --plane lattice` prints; nothing is created.

# COMMAND ----------

plan = session.plan("lattice", traffic=(40_000_000, 120))
display(pd.DataFrame(plan.rows(), columns=["step", "action", "kind", "name", "after"]))
print("\n".join([plan.summary(), *plan.price_lines()]))

# COMMAND ----------

# MAGIC %md
# MAGIC ## A member for a stock Envoy
# MAGIC `envoy`, `compose`, `ecs` or `kubernetes`: the folder's README says how it is started.

# COMMAND ----------

rendered = session.render(
    dbutils.widgets.get("member"),
    kind="node",
    form="kubernetes",
    folder=folder / "rendered",
    app_port=9002,
    force=True,
)
print((rendered.folder / "README.md").read_text(encoding="utf-8"))
rendered.files
