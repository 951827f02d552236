"""What each run waited for: ``waits``, the numbers of the diagnosis for all runs, by Spark alone.

Goes in: runs whose calls changed. Comes out: their rows, worked out anew. A call is owned by the
rule that makes ``calls_by_run``, asked again and not joined: segments are broadcast, so the calls
are not shuffled for it. The wait is a sweep over begins and ends in order, and grows with them, no
faster; how a call's time is split follows ``diagnosis.breakdown``, line for line.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.join import (
    clients_of,
    own_calls,
    owners_during,
    runs_during,
    with_stage,
)
from meshml_dbx.lake.local_rows import local_rows
from meshml_dbx.lake.process_jobs import jobs_of_runs
from meshml_dbx.lake.spans import LAST_MOMENT, Span
from meshml_dbx.lake.tables import TABLES, TableNames, any_of
from meshml_dbx.traffic.access_log import CLIENT_OBSERVER, WAITING_OBSERVERS
from meshml_dbx.traffic.ownership import ProcessJob, Run, end_of
from meshml_dbx.traffic.sketch import BUCKET_SQL
from meshml_dbx.traffic.waits import PART_NAMES

RUNS_AT_ONCE = 2000
"""Runs that one write replaces: their ids stand in its condition."""

FEW_TRIES = 200_000
"""Up to so many attempts are handed to every task, which spares a shuffle of all calls."""

KEY = ("run_id", "stage", "service", "virtual_service", "route", "target", "pattern")
TEXTS = ("stage", "virtual_service", "route", "target", "pattern")
COUNTS = ("open", "failed")
FIGURES = (
    *COUNTS,
    "retries",
    "duration_us",
    *(f"{part}_us" for part in PART_NAMES),
    "bytes_in",
    "bytes_out",
)
"""What is summed up, or counted, of the calls of a place."""

_POOL_TICK_US = 1000  # Envoy counts the pool's time in whole milliseconds, rounded down


def refresh_waits(spark: SparkSession, names: TableNames, runs: Iterable[Run]) -> None:
    """Work out the waits of these runs again; they are as given, not as they are stored."""
    ordered = sorted({run.run_id: run for run in runs}.values(), key=lambda run: run.start_time)
    for begin in range(0, len(ordered), RUNS_AT_ONCE):
        chunk = ordered[begin : begin + RUNS_AT_ONCE]
        with ThreadPoolExecutor(1) as pool:
            tries = pool.submit(_tries, spark, names, _around(chunk))
            owned = _owned(spark, names, chunk)
        (
            waits_of(owned, tries.result())
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", any_of("run_id", (run.run_id for run in chunk)))
            .saveAsTable(names.table("waits"))
        )


def owners_of_unfinished(
    spark: SparkSession, names: TableNames, spans: Iterable[Span]
) -> tuple[Run, ...]:
    """The runs that own calls without an end which began in these spans."""
    found: dict[str, Run] = {}
    for span in spans:
        calls = _waiting(spark, names, "unfinished_calls", span)
        runs = {run.run_id: run for run in runs_during(spark, names, span)}
        jobs = jobs_of_runs(spark, names, runs.values())
        owners = owners_during(span, runs.values(), clients_of(calls, runs.values()), jobs)
        owned = own_calls(calls, owners).select("owner").distinct().collect()
        found |= {row["owner"]: runs[row["owner"]] for row in owned}
    return tuple(found.values())


# --- whose calls ----------------------------------------------------------------------------------


def _around(runs: Sequence[Run]) -> Span:
    end = max(end_of(run) for run in runs)
    return Span(start=min(run.start_time for run in runs), end=min(end, LAST_MOMENT))


def _waiting(spark: SparkSession, names: TableNames, table: str, span: Span) -> DataFrame:
    rows = spark.table(names.table(table)).where(span.condition("start_time"))
    return rows.where(F.col("observer").isin(*WAITING_OBSERVERS))


def _owned(spark: SparkSession, names: TableNames, runs: Sequence[Run]) -> DataFrame:
    """The calls of these runs, those without an end too, with owner, stage and the run's time."""
    span = _around(runs)
    ended, cut_off = (
        _waiting(spark, names, table, span).withColumn("open", F.lit(table != "calls"))
        for table in ("calls", "unfinished_calls")
    )
    others = {run.run_id: run for run in runs_during(spark, names, span)}
    known = others | {run.run_id: run for run in runs}
    jobs = jobs_of_runs(spark, names, known.values())
    calls = ended.unionByName(cut_off).where(_near(runs, jobs))
    owners = owners_during(span, known.values(), clients_of(calls, known.values()), jobs)
    rows = [(r.run_id, r.start_time, _until(r)) for r in runs]
    times = local_rows(spark, rows, "owner STRING, begun BIGINT, until BIGINT")
    owned = own_calls(calls, owners).join(F.broadcast(times), "owner")
    return with_stage(spark, names, owned, span).withColumn(
        "stage", F.coalesce(F.expr("nullif(stage, '')"), "s_value")
    )


def _until(run: Run) -> int:
    """A run without an end lasts: none of its calls goes further than what was logged of it."""
    return LAST_MOMENT if run.end_time is None else max(run.end_time, run.start_time)


def _near(runs: Sequence[Run], jobs: Iterable[ProcessJob]) -> str:
    """The SQL that holds for all calls of these runs, and for few others."""
    clients = {run.client for run in runs}
    if None in clients:
        return "true"
    ids = any_of("run_id", (run.run_id for run in runs))
    mine = {name for run in runs for name in (run.job_run_id, run.task_run_id) if name}
    found = {job.process_id for job in jobs if mine & {job.job_run_id, job.task_run_id}}
    found |= {run.process_id for run in runs if run.process_id}
    processes = any_of("process_id", sorted(found | {""}))
    return f"{any_of('client', sorted(c for c in clients if c))} OR {processes} OR {ids}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """The later attempts of calls, and whether they are few."""

    rows: DataFrame
    few: bool


def _tries(spark: SparkSession, names: TableNames, span: Span) -> Tries | None:
    """The later attempts that began in a span; None when there is none, as is usual."""
    later = F.col("attempt") > 1
    told = F.col("request_id") != ""
    rows = _waiting(spark, names, "attempts", span).where(later & told)
    count = rows.count()
    if not count:
        return None
    tried = rows.select(
        F.col("sidecar_id").alias("a_sidecar"),
        F.col("request_id").alias("a_request"),
        F.col("connection_id").alias("a_connection"),
        F.col("attempt").alias("a_number"),
        F.unix_micros("start_time").alias("a_start"),
    )
    return Tries(rows=tried, few=count <= FEW_TRIES)


# --- from calls to waits --------------------------------------------------------------------------


def waits_of(owned: DataFrame, tries: Tries | None = None) -> DataFrame:
    """The rows of ``waits`` of calls that have an owner, a stage, and the owner's time.

    All of a run's calls come together once, and every step after that goes run by run.
    """
    together = _with_earlier(_facts(owned), tries).repartition("run_id")
    rows = _whole(_summed(_on_the_clock(_parts(together))))
    return rows.select(*(name for name, _ in TABLES["waits"]))


def _flagged(*flags: str) -> str:
    return f"coalesce(flags RLIKE '(^|,)[ ]*({'|'.join(flags)})[ ]*(,|$)', false)"


def _known(column: str) -> str:
    return f"greatest(coalesce({column}, 0), 0)"


_FAILED = (
    "NOT open AND coalesce(coalesce(code, -1) >= 500"
    f" OR (coalesce(code, -1) <= 0 AND NOT {_flagged('DC', 'DR')})"
    f" OR {_flagged('NR')}"
    " OR (details <=> 'direct_response' AND NOT code <=> 407)"
    " OR (by_client AND flags <> '-' AND size(array_except("
    "transform(split(flags, ','), f -> trim(f)), array('', 'DC', 'DR'))) > 0), false)"
)
_SENT = (
    "coalesce(to_upstream_us, -1) >= 0 OR (open AND coalesce(upstream_host, '') <> '')"
    " OR (by_client AND NOT open AND coalesce(code, -1) <= 0"
    f" AND NOT {_flagged('UF', 'DF', 'UO')})"
)
_RETRIES = (
    "CASE WHEN attempts > 1 THEN attempts - 1 WHEN by_client AND attempt > 1 THEN 1L ELSE 0L END"
)
_ANSWER = f"{_known('send_us')} + {_known('first_byte_us')} + {_known('receive_us')}"
_EARLIER = (
    "if(attempts > 1, greatest(if(coalesce(to_upstream_us, -1) >= 0, to_upstream_us,"
    f" duration - ({_ANSWER})) - {_known('pool_ready_ms')} * 1000, 0), 0)"
)
_CUT = "coalesce(first_byte_us, -1) >= 0 AND coalesce(receive_us, -1) < 0 AND by_client"
_FRESH = (
    "by_client OR (upstream_connection_id > 0 AND nth = 1 AND (coalesce(pool_ready_ms, -1) < 0"
    f" OR {_known('connect_us')} + {_known('tls_us')} <= pool_ready_ms * 1000 + {_POOL_TICK_US}))"
)


def _facts(owned: DataFrame) -> DataFrame:
    """Each call with its place, its time within the run, and what its codes and flags say."""
    texts = {name: F.expr(f"nullif({name}, '')") for name in TEXTS if name != "stage"}
    host = F.expr("coalesce(nullif(virtual_service, ''), nullif(authority, ''), 'unknown')")
    begun = F.unix_micros("start_time")
    lasted = F.expr(_known("duration_us"))

    def clipped(moment: Column) -> Column:
        return F.least(F.greatest(moment, F.col("begun")), F.col("until"))

    seen = owned.withColumn("by_client", F.col("observer") == CLIENT_OBSERVER)
    timed = seen.withColumns(
        {
            "run_id": F.col("owner"),
            "service": host,
            **texts,
            "started": begun,
            "duration": lasted,
            "duration_us": lasted,
            "retries": F.expr(_RETRIES),
            "flew_from": clipped(begun),
            "flew_to": clipped(begun + lasted),
        }
    )
    judged = timed.withColumns({"failed": F.expr(_FAILED), "sent": F.expr(_SENT)})
    starved = f"NOT sent AND by_client AND {_flagged('UO')}"
    return judged.withColumn("starved", F.expr(starved)).withColumn(
        "unsent", F.expr(f"NOT sent AND NOT starved AND {_flagged('UF', 'DF')}")
    )


def _with_earlier(calls: DataFrame, tries: Tries | None) -> DataFrame:
    """The calls with the time before their last attempt began."""
    guessed = calls.withColumn("earlier", F.expr(_EARLIER))
    if tries is None:
        return guessed
    call = ("run_id", "sidecar_id", "request_id", "started")
    retried = calls.where("attempts > 1").select(
        *call,
        "connection_id",
        "attempts",
        "open",
        (F.col("started") + F.col("duration")).alias("e"),
    )
    attempts = F.broadcast(tries.rows) if tries.few else tries.rows
    same = "a_sidecar = sidecar_id AND a_request = request_id"
    lasting = "a_start >= started AND (open OR a_start <= e)"
    pairs = retried.join(attempts, F.expr(f"{same} AND {lasting}"))
    # An attempt is of one connection's call; a request id alone may be used again by others.
    own = F.max(F.col("connection_id").eqNullSafe(F.col("a_connection")))
    each = ("run_id", "a_sidecar", "a_request", "a_connection", "a_number", "a_start")
    kept = pairs.withColumn("own", own.over(Window.partitionBy(*each)))
    last = (
        kept.where("own AND a_number = attempts AND a_start <= e")
        .groupBy(*call)
        .agg(F.max("a_start").alias("last"))
        .toDF(*(f"k_{name}" for name in call), "last")
    )
    found = F.broadcast(last) if tries.few else last
    match = [F.col(name) == F.col(f"k_{name}") for name in call]
    earlier = F.coalesce(F.col("last") - F.col("started"), F.col("earlier"))
    return guessed.join(found, match, "left").withColumn("earlier", earlier)


def _parts(calls: DataFrame) -> DataFrame:
    """The calls with the parts of their time; what connects counts on a connection's first call."""
    first = Window.partitionBy("run_id", "sidecar_id", "upstream_connection_id").orderBy(
        "started", "open", F.expr("coalesce(request_id, '')")
    )
    fresh = calls.withColumn("nth", F.row_number().over(first)).withColumn("fresh", F.expr(_FRESH))
    opened = fresh.withColumns(
        {
            "cx": F.expr(f"if(fresh, {_known('connect_us')}, 0)"),
            "hs": F.expr(f"if(fresh, {_known('tls_us')}, 0)"),
        }
    ).withColumn("shaken", F.expr("unsent AND by_client AND cx > 0"))
    claims = {
        "earlier_attempts": "earlier",
        "connect": "if(unsent AND NOT shaken, duration, cx)",
        "tls": "if(shaken, duration, hs)",
        "pool_wait": "if(starved, duration,"
        f" greatest({_known('pool_ready_ms')} * 1000 - cx - hs, 0))",
        "send": _known("send_us"),
        "first_byte": "if(sent AND coalesce(first_byte_us, -1) < 0,"
        f" greatest(duration - {_known('to_upstream_us')}, 0), {_known('first_byte_us')})",
        "transfer": f"if({_CUT} AND (failed OR open), duration, {_known('receive_us')})",
    }
    return _claimed(opened, claims)


def _claimed(calls: DataFrame, claims: Mapping[str, str]) -> DataFrame:
    """Each part takes what it claims of what those before it left; ``other`` has the rest."""
    reached = "0L"
    taken = {}
    for name in PART_NAMES:
        until = f"least({reached} + ({claims[name]}), duration)" if name in claims else "duration"
        calls = calls.withColumn(f"until_{name}", F.expr(until))
        taken[f"{name}_us"] = F.expr(f"until_{name} - {reached}")
        reached = f"until_{name}"
    return calls.withColumns(taken)


def _on_the_clock(parts: DataFrame) -> DataFrame:
    """Each call's begin and its end, with what the run's clock showed at each.

    The clock goes slower the more calls are in flight: a call's share of the wait is what it shows
    at the end, less what it showed at the begin. What else is known of a call stands at its begin.
    """
    figures = F.struct(*FIGURES, F.expr(BUCKET_SQL.format("duration_us")).alias("bucket"))
    ends = F.array(
        F.struct(F.col("flew_from").alias("at"), F.lit(1).alias("step"), "figures"),
        F.struct(
            F.col("flew_to").alias("at"), F.lit(-1).alias("step"), F.lit(None).alias("figures")
        ),
    )
    timed = parts.withColumn("figures", figures).select(*KEY, "begun", F.explode(ends).alias("end"))
    events = timed.select(*KEY, "begun", "end.*")
    in_order = Window.partitionBy("run_id").orderBy("at", "step")
    before = in_order.rowsBetween(Window.unboundedPreceding, -1)
    flying = events.withColumns(
        {
            "flying": F.sum("step").over(in_order.rowsBetween(Window.unboundedPreceding, 0)),
            "lasts": F.coalesce(F.lead("at").over(in_order) - F.col("at"), F.lit(0)),
        }
    )
    tick = F.expr("if(flying > 0, lasts / CAST(flying AS DOUBLE), 0D)")
    ticking = flying.withColumns({"tick": tick, "busy": F.expr("if(flying > 0, lasts, 0L)")})
    return ticking.withColumn("clock", F.coalesce(F.sum("tick").over(before), F.lit(0.0)))


def _summed(events: DataFrame) -> DataFrame:
    """Counts, sums and share of each place, and how long its calls took as buckets."""
    sums = [name for name in FIGURES if name not in COUNTS]
    flat = events.select(*KEY, "begun", "clock", "busy", "step", "figures.*")
    by_bucket = flat.groupBy(*KEY, "bucket").agg(
        F.first("begun").alias("begun"),
        F.count_if(F.col("step") == 1).alias("calls"),
        F.count_if("open").alias("unfinished"),
        F.count_if("failed").alias("errors"),
        *(F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in sums),
        F.sum(F.expr("-step * clock")).alias("share"),
        F.sum("busy").alias("busy"),
    )
    entry = F.when(F.col("calls") > 0, F.struct("bucket", "calls"))
    counts = ("calls", "unfinished", "errors")
    return by_bucket.groupBy(*KEY).agg(
        F.to_date(F.timestamp_micros(F.first("begun"))).alias("event_date"),
        *(F.sum(name).alias(name) for name in (*counts, *sums, "share", "busy")),
        F.map_from_entries(F.collect_list(entry)).alias("buckets"),
    )


def _whole(shares: DataFrame) -> DataFrame:
    """Shares in whole microseconds: each running sum is rounded, so no error adds up."""
    run = Window.partitionBy("run_id")
    in_order = run.orderBy(*(F.col(name).asc_nulls_first() for name in KEY[1:]))
    so_far = in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    placed = shares.withColumns(
        {
            "total": F.sum("busy").over(run),
            "all": F.sum("share").over(run),
            "reached": F.sum("share").over(so_far),
        }
    )
    reached = F.expr("if(all > 0, CAST(round(reached / all * total) AS BIGINT), 0L)")
    wait = F.col("reached") - F.coalesce(F.lag("reached").over(in_order), F.lit(0))
    return placed.withColumn("reached", reached).withColumn("wait_us", wait)
