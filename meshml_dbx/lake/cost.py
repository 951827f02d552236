"""What runs cost by the bill, and how much of that was waiting: the table ``cost``.

Goes in: Databricks' system tables, by the names that they are given, and what moving bytes costs.
Comes out: one row for each charge and MLflow run, and one for the rest of each charge, so that the
rows of a charge add up to it. A charge is what is left of all records of one use: a bill is set
right by further records, so they are summed and none is picked out. Its price is the list's at the
use's end. It falls to the runs of its job run, else of its compute, by the time that they lasted in
it, of the time that the job ran in it; runs that overlap share. Column names are FOCUS 1.3's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.local_rows import local_rows
from meshml_dbx.lake.system_tables import find_system_table, find_table
from meshml_dbx.lake.tables import TABLES, TableNames

RUN_TIME = "meshml-run-time"
RUN_BYTES = "meshml-run-bytes"
UNATTRIBUTED = "unattributed"
BEGINNING = date(1970, 1, 1)
GB = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPrice:
    """What moving bytes costs, as its caller states it: for a service, or for all.

    >>> TransferPrice(sku="cross-zone", per_gb=0.01).service
    """

    sku: str
    per_gb: float
    currency: str = "USD"
    service: str | None = None
    provider: str = "AWS"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Whether costs were worked out, and if not, why: a workspace may have no system tables.

    >>> CostReport(notice="there is no bill").refreshed
    False
    """

    refreshed: bool = False
    notice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Where the bill is: a catalog with Databricks' system tables, or tables or folders of copies.

    ``system`` is the catalog of ``billing.usage`` and the others; for a stand-in, a schema with
    tables ``billing_usage`` and so on. ``usage`` and ``prices`` are names of tables, or folders of
    Delta or Parquet files, that stand in for two of them.

    >>> Bill().system
    'system'
    """

    system: str = "system"
    usage: str | None = None
    prices: str | None = None

    def find_usage(self, spark: SparkSession) -> DataFrame | None:
        """The records of what was used; None where there are none that can be read."""
        return _find(spark, self.usage, self.system, "billing", "usage")

    def find_prices(self, spark: SparkSession) -> DataFrame | None:
        """The list prices; None where there are none that can be read."""
        return _find(spark, self.prices, self.system, "billing", "list_prices")

    def find_timeline(self, spark: SparkSession) -> DataFrame | None:
        """When job runs ran; None where nothing tells: then they ran the whole charge."""
        return _find(spark, None, self.system, "lakeflow", "job_run_timeline")


def refresh_cost(
    spark: SparkSession,
    names: TableNames,
    *,
    system: str = "system",
    bill: Bill | None = None,
    since: date = BEGINNING,
    transfer_prices: Iterable[TransferPrice] = (),
) -> CostReport:
    """Work out the costs of what was used from a day on again.

    ``bill`` says where the bill is; without it, in the catalog ``system``.
    """
    bill = bill or Bill(system=system)
    usage, prices = bill.find_usage(spark), bill.find_prices(spark)
    if usage is None or prices is None:
        name, told = ("usage", bill.usage) if usage is None else ("list_prices", bill.prices)
        lacking = told or f"{bill.system}.billing.{name}"
        return CostReport(notice=f"no costs: there is no {lacking} that can be read here")
    charges = charges_of(usage, prices, since)
    slices = bill.find_timeline(spark)
    runs = _runs(spark, names)
    rows = allocated(charges, runs, slices).unionByName(
        _moved(spark, names, runs, tuple(transfer_prices), since)
    )
    (
        rows.select(*(F.col(name).cast(kind).alias(name) for name, kind in TABLES["cost"]))
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", f"event_date >= DATE '{since.isoformat()}'")
        .saveAsTable(names.table("cost"))
    )
    return CostReport(refreshed=True)


def _find(
    spark: SparkSession, given: str | None, system: str, schema: str, table: str
) -> DataFrame | None:
    """A table of the bill: the one that was given, else the system's; a copy has a level less."""
    if given and "/" in given:
        return _read_folder(spark, given)
    found = find_table(spark, given) if given else find_system_table(spark, system, schema, table)
    return spark.table(found) if found else None


def _read_folder(spark: SparkSession, folder: str) -> DataFrame | None:
    """A copy in a folder of files, whichever of the two formats it is in."""
    for kind in ("delta", "parquet"):
        try:
            return spark.read.format(kind).load(folder)
        except Exception:  # noqa: S112  # not there, or not of this kind: each kind says it otherwise
            continue
    return None


CHARGE = (
    *("account_id", "workspace_id", "cloud", "sku_name", "usage_unit"),
    *("usage_start_time", "usage_end_time", "job_run_id", "cluster_id"),
)


def charges_of(usage: DataFrame, prices: DataFrame, since: date) -> DataFrame:
    """The bill: each use once, with its price; ``cost`` is null where the list has no price."""
    used = usage.where(F.col("usage_date") >= F.lit(since)).withColumns(
        {name: F.col(f"usage_metadata.{name}") for name in ("job_run_id", "cluster_id")}
    )
    net = (
        used.groupBy(*CHARGE).agg(F.sum("usage_quantity").alias("quantity")).where("quantity <> 0")
    )
    listed = F.expr("coalesce(pricing.effective_list.default, pricing.default)")
    price = prices.select(
        *(F.col(n).alias(f"p_{n}") for n in ("account_id", "cloud", "sku_name", "usage_unit")),
        "price_start_time",
        "price_end_time",
        "currency_code",
        listed.cast("DECIMAL(14, 8)").alias("unit_price"),
    )
    valid = F.expr(
        "p_account_id <=> account_id AND p_cloud = cloud AND p_sku_name = sku_name"
        " AND p_usage_unit = usage_unit AND usage_end_time >= price_start_time"
        " AND (price_end_time IS NULL OR usage_end_time < price_end_time)"
    )
    cost = F.col("quantity").cast("DECIMAL(24, 12)") * F.col("unit_price")
    priced = net.join(price, valid, "left").withColumn("cost", cost.cast("DECIMAL(30, 12)"))
    return priced.withColumn("charge", F.xxhash64(*CHARGE)).drop("p_account_id", "p_cloud")


def allocated(charges: DataFrame, runs: DataFrame, slices: DataFrame | None) -> DataFrame:
    """Each charge as parts: of every run that it falls to, and of none."""
    claims = _claims(charges, runs)
    shared = charges.join(_busy(charges, slices), "charge", "left").join(
        claims.groupBy("charge").agg(F.sum("overlap").alias("claimed")), "charge", "left"
    )
    length = F.expr("unix_micros(usage_end_time) - unix_micros(usage_start_time)")
    whole = F.greatest(F.coalesce("busy", length), F.coalesce("claimed", F.lit(0)), F.lit(1))
    divided = shared.withColumn("whole", whole)
    rest = divided.select(
        *charges.columns,
        "whole",
        F.coalesce("claimed", F.lit(0)).alias("from"),
        F.col("whole").alias("to"),
        *(F.lit(None).cast("STRING").alias(n) for n in ("run_id", "name", "tags")),
        F.lit(None).cast("DOUBLE").alias("wait_share"),
    ).where(F.col("from") < F.col("to"))
    parts = divided.join(claims, "charge").select(
        *charges.columns,
        "whole",
        (F.col("reached") - F.col("overlap")).alias("from"),
        F.col("reached").alias("to"),
        *("run_id", "name", "tags", "wait_share"),
    )
    return _in_focus(parts.unionByName(rest))


def _claims(charges: DataFrame, runs: DataFrame) -> DataFrame:
    """The runs of each charge, and how long each lasted in it, one after the other."""
    uses = charges.select(
        "charge", "workspace_id", "job_run_id", "cluster_id", "usage_start_time", "usage_end_time"
    )
    latest = F.col("usage_end_time")
    mine = runs.toDF(*(f"r_{name}" for name in runs.columns))
    same_place = F.col("r_workspace_id") == F.col("workspace_id")
    by_job = uses.join(mine, same_place & (F.col("r_job_run_id") == F.col("job_run_id")))
    # Uses are billed by the hour: the hour is a key of the join, or each would meet every run.
    hours = F.sequence(
        F.date_trunc("hour", "r_start_time"),
        F.coalesce("r_end_time", F.greatest(F.current_timestamp(), "r_start_time")),
        F.expr("INTERVAL 1 HOUR"),
    )
    hourly = mine.where("r_cluster_id IS NOT NULL").withColumn("hour", F.explode(hours))
    by_cluster = uses.join(
        hourly,
        same_place
        & (F.col("r_cluster_id") == F.col("cluster_id"))
        & (F.col("hour") == F.date_trunc("hour", "usage_start_time"))
        & (F.col("job_run_id").isNull() | F.col("r_job_run_id").isNull()),
    ).drop("hour")
    overlap = F.unix_micros(F.least(F.coalesce("r_end_time", latest), latest)) - F.unix_micros(
        F.greatest("r_start_time", "usage_start_time")
    )
    found = by_job.unionByName(by_cluster).withColumn("overlap", overlap).where("overlap > 0")
    reached = F.expr("sum(overlap) OVER (PARTITION BY charge ORDER BY r_run_id)")
    return found.withColumn("reached", reached).select(
        "charge",
        "overlap",
        "reached",
        *(F.col(f"r_{name}").alias(name) for name in ("run_id", "name", "tags", "wait_share")),
    )


def _busy(charges: DataFrame, slices: DataFrame | None) -> DataFrame:
    """How long the job run ran in the time of each charge; a long run has several slices."""
    if slices is None:
        return charges.select("charge", F.lit(None).cast("BIGINT").alias("busy")).where("false")
    ran = slices.select(
        F.col("workspace_id").alias("s_workspace"),
        F.col("run_id").alias("s_run"),
        "period_start_time",
        "period_end_time",
    )
    inside = F.unix_micros(F.least("period_end_time", "usage_end_time")) - F.unix_micros(
        F.greatest("period_start_time", "usage_start_time")
    )
    same = (F.col("s_workspace") == F.col("workspace_id")) & (F.col("s_run") == F.col("job_run_id"))
    met = charges.join(ran, same).withColumn("inside", inside).where("inside > 0")
    return met.groupBy("charge").agg(F.sum("inside").alias("busy"))


def _part(column: str) -> str:
    """From ``from`` to ``to`` of a whole: differences of rounded sums, which add up to it."""

    def upto(edge: str) -> str:
        return (
            f"CASE WHEN `{edge}` = whole THEN CAST({column} AS DECIMAL(30, 12)) ELSE"
            f" CAST(CAST({column} AS DOUBLE) * (`{edge}` / whole) AS DECIMAL(30, 12)) END"
        )

    return f"CAST({upto('to')} - {upto('from')} AS DECIMAL(30, 12))"


def _in_focus(parts: DataFrame) -> DataFrame:
    """Parts of charges under FOCUS' names."""
    details = (
        "to_json(named_struct('Elements', array(named_struct("
        "'AllocatedRatio', (`to` - `from`) / whole, 'UsageUnit', 'Seconds',"
        " 'UsageQuantity', (`to` - `from`) / 1e6D))))"
    )
    return parts.select(
        F.col("usage_start_time").alias("ChargePeriodStart"),
        F.col("usage_end_time").alias("ChargePeriodEnd"),
        F.col("account_id").alias("BillingAccountId"),
        F.col("workspace_id").alias("SubAccountId"),
        F.lit("Databricks").alias("ServiceProviderName"),
        F.col("cloud").alias("HostProviderName"),
        F.col("sku_name").alias("SkuId"),
        F.coalesce("job_run_id", "cluster_id").alias("ResourceId"),
        F.col("usage_unit").alias("PricingUnit"),
        F.expr(_part("quantity")).alias("PricingQuantity"),
        F.expr(_part("cost")).alias("ListCost"),
        F.col("currency_code").alias("BillingCurrency"),
        F.lit("Usage").alias("ChargeCategory"),
        F.lit(RUN_TIME).alias("AllocatedMethodId"),
        F.expr(details).alias("AllocatedMethodDetails"),
        F.col("run_id").alias("AllocatedResourceId"),
        F.coalesce("name", F.lit(UNATTRIBUTED)).alias("AllocatedResourceName"),
        F.col("tags").alias("AllocatedTags"),
        (F.expr(_part("cost")).cast("DOUBLE") * F.col("wait_share")).alias("wait_cost"),
        F.to_date("usage_start_time").alias("event_date"),
    )


def _runs(spark: SparkSession, names: TableNames) -> DataFrame:
    """The runs with the share of their time that they waited, and their tags as JSON."""
    waits = spark.table(names.table("waits")).groupBy("run_id")
    waited = waits.agg(F.sum("wait_us").alias("wait_us"))
    lasted = F.unix_micros("end_time") - F.unix_micros("start_time")
    share = F.least(F.col("wait_us") / F.greatest(lasted, F.lit(1)), F.lit(1.0))
    known = F.col("end_time").isNotNull()
    return (
        spark.table(names.table("runs"))
        .join(waited, "run_id", "left")
        .withColumns(
            {
                "wait_share": F.when(known, F.coalesce(share, F.lit(0.0))),
                "tags": F.to_json(F.struct("team", "model", "environment")),
            }
        )
        .select(
            *("run_id", "name", "tags", "wait_share", "start_time", "end_time"),
            *("workspace_id", "job_run_id", "cluster_id"),
        )
    )


def _moved(
    spark: SparkSession,
    names: TableNames,
    runs: DataFrame,
    prices: tuple[TransferPrice, ...],
    since: date,
) -> DataFrame:
    """What the bytes of each run cost, by the prices that were stated."""
    stated = local_rows(
        spark,
        [(p.sku, str(p.per_gb), p.currency, p.service, p.provider) for p in prices],
        "sku STRING, per_gb STRING, currency STRING, of STRING, provider STRING",
    )
    waits = spark.table(names.table("waits")).where(F.col("event_date") >= F.lit(since))
    priced = waits.crossJoin(F.broadcast(stated)).where("of IS NULL OR of = service")
    gb = (F.sum(F.col("bytes_in") + F.col("bytes_out")) / GB).cast("DECIMAL(24, 12)")
    sums = priced.groupBy("run_id", "event_date", "sku", "per_gb", "currency", "provider")
    cost = F.col("gb") * F.col("per_gb").cast("DECIMAL(14, 8)")
    moved = sums.agg(gb.alias("gb")).join(runs, "run_id").withColumn("cost", cost)
    nothing = F.lit(None).cast("STRING")
    return moved.select(
        F.col("start_time").alias("ChargePeriodStart"),
        F.col("end_time").alias("ChargePeriodEnd"),
        nothing.alias("BillingAccountId"),
        F.col("workspace_id").alias("SubAccountId"),
        F.col("provider").alias("ServiceProviderName"),
        F.col("provider").alias("HostProviderName"),
        F.col("sku").alias("SkuId"),
        nothing.alias("ResourceId"),
        F.lit("GB").alias("PricingUnit"),
        F.col("gb").alias("PricingQuantity"),
        F.col("cost").alias("ListCost"),
        F.col("currency").alias("BillingCurrency"),
        F.lit("Usage").alias("ChargeCategory"),
        F.lit(RUN_BYTES).alias("AllocatedMethodId"),
        nothing.alias("AllocatedMethodDetails"),
        F.col("run_id").alias("AllocatedResourceId"),
        F.col("name").alias("AllocatedResourceName"),
        F.col("tags").alias("AllocatedTags"),
        F.lit(None).cast("DOUBLE").alias("wait_cost"),
        "event_date",
    )
