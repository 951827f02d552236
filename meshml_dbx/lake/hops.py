"""Hops in SQL: ``hops(since, until)``, the rule of ``traffic.hops`` over the table ``calls``.

Goes in: two moments, and names. Comes out: one row for each call that began between them, with the
call that it was made to answer. It is a function and not a view, so that only the files of that
time are read. Each join has a key: the request id, or a sidecar with a place in time. A served call
is entered under few places, those of the first grid that is as wide as it lasted, and a call that a
service made looks there in all grids: so it meets about those that were in flight, and no more.
"""

from collections.abc import Iterable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.errors import LakeError
from meshml_dbx.lake.reader import words_of
from meshml_dbx.lake.spans import HOUR_US, Span, merge_spans
from meshml_dbx.lake.tables import TableNames
from meshml_dbx.lake.texts import text_literal
from meshml_dbx.traffic.access_log import END_TYPE, FIELDS, time_text
from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.hops import CLOCK_STEP_US, HOST_SKEW_US, MOST_OF_ONE_ID, TRACE_ID_LENGTH

HOPS = "hops"
HOPS_TEXT = (
    "Calls that began between two moments, each with the call that it was made to answer: how says "
    "by what that is known. What begins up to an hour before or after is looked at, too"
)
COLUMNS: dict[str, tuple[str, str]] = {
    "call": ("BIGINT", "The call's number: the same whenever it is asked for"),
    "parent": ("BIGINT", "The number of the call that it was made to answer; null where none is"),
    "how": (
        "STRING",
        "request: one request id; trace: one trace id, nested in time; inferred: nested in time "
        "alone; ambiguous: several fit; null: a path begins here",
    ),
    "trace_id": ("STRING", "The trace id of its traceparent header"),
    "request_id": ("STRING", "Its request id"),
    "run_id": ("STRING", "The MLflow run that its header names"),
    "observer": ("STRING", "Who saw it: the caller (egress), the called (ingress), a gateway"),
    "member": ("STRING", "The client or virtual node whose proxy saw it"),
    "service": ("STRING", "The virtual service, or the host, that was called"),
    "target": ("STRING", "The virtual node that was chosen"),
    "pattern": ("STRING", "Method and path with its changing parts left out"),
    "code": ("BIGINT", "The answer's status"),
    "start_time": ("TIMESTAMP", "When it began, in UTC"),
    "duration_us": ("BIGINT", "How long it took, in microseconds"),
    "self_us": ("BIGINT", "The part of it in which no call was in flight that it led to"),
    "sidecar_id": ("STRING", "The sidecar that saw it"),
}
MOST_CALLS = 200_000
_FINEST_US, _LEVELS = 1_000, 10
"""Grids of 1 ms, 8 ms, 64 ms and so on to 12 days."""


def _level(span: str) -> str:
    return f"CAST(least(greatest(ceil(log(8, ({span}) / {_FINEST_US})), 0), {_LEVELS}) AS INT)"


def _width(level: str) -> str:
    return f"shiftleft({_FINEST_US}L, 3 * {level})"


_MAY_CARRY = f"""
CASE WHEN child.observer = 'egress' THEN
    child.virtual_node IS NOT NULL AND parent.observer = 'ingress'
    AND parent.sidecar_id = child.sidecar_id AND parent.virtual_node <=> child.virtual_node
    AND parent.begun <= child.begun + {CLOCK_STEP_US}
    AND NOT child.target <=> parent.virtual_node
  WHEN child.observer = 'ingress' OR parent.observer <> 'gateway' THEN
    child.observer IN ('ingress', 'gateway') AND parent.observer IN ('egress', 'gateway')
    AND CASE WHEN parent.target IS NOT NULL AND child.virtual_node IS NOT NULL
          THEN parent.target = child.virtual_node
        ELSE parent.sidecar_id <> child.sidecar_id
          OR (parent.virtual_node IS NULL AND child.virtual_node IS NULL) END
  ELSE false END"""
_FIT = f"""struct(
  coalesce(parent.target = child.virtual_node, false) AS f1,
  coalesce(parent.path = child.path, false) AS f2,
  child.begun >= parent.begun AND child.ended <= parent.ended AS f3,
  parent.begun <= child.begun + {HOST_SKEW_US} AND child.ended <= parent.ended + {HOST_SKEW_US}
    AS f4,
  -abs(child.begun - parent.begun) AS f5, parent.begun AS f6, parent.sidecar_id AS f7)"""
_MAY_NEST = f"""
a.begun + if(a.exact AND s.exact, 0, {CLOCK_STEP_US}) >= s.begun
AND a.ended <= s.ended + if(a.exact AND s.exact, 0, {CLOCK_STEP_US})
AND coalesce(a.trace_id = s.trace_id, true)
AND NOT (a.request_id <=> s.request_id AND a.target <=> s.virtual_node)"""
_PARENT = "struct({0}.call AS call, {0}.begun AS begun, {0}.ended AS ended)"

HOPS_SQL = f"""
WITH c AS (
  SELECT xxhash64(coalesce(request_id, ''), unix_micros(start_time), observer, sidecar_id,
      coalesce(line_key, 0L)) AS call,
    request_id, observer, sidecar_id, client, virtual_node, virtual_service, authority, target,
    path, pattern, code, run_id, start_time, duration_us,
    CASE WHEN length(split_part(trace_parent, '-', 2)) = {TRACE_ID_LENGTH}
      THEN split_part(trace_parent, '-', 2) END AS trace_id,
    total_us IS NOT NULL AS exact, unix_micros(start_time) AS begun,
    unix_micros(start_time) + duration_us AS ended
  FROM {{calls}}
  WHERE start_time >= {{since}} - INTERVAL 1 HOUR AND start_time < {{until}} + INTERVAL 1 HOUR
),
alike AS (
  SELECT * FROM (
    SELECT call, request_id, observer, sidecar_id, virtual_node, target, path, begun, ended,
      count(*) OVER (PARTITION BY request_id) AS many
    FROM c WHERE request_id <> '')
  WHERE many BETWEEN 2 AND {MOST_OF_ONE_ID}
),
carried AS (
  SELECT child.call, child.begun, child.ended,
    max_by({_PARENT.format("parent")}, {_FIT}) AS parent
  FROM alike child JOIN alike parent
    ON child.request_id = parent.request_id AND child.call <> parent.call AND {_MAY_CARRY}
  GROUP BY child.call, child.begun, child.ended
),
served AS (
  SELECT call, sidecar_id, virtual_node, request_id, trace_id, begun, ended, exact, level,
    explode(sequence((begun - {CLOCK_STEP_US}) DIV {_width("level")},
      (ended + {CLOCK_STEP_US}) DIV {_width("level")})) AS place
  FROM (SELECT *, {_level(f"ended - begun + {2 * CLOCK_STEP_US}")} AS level FROM c
    WHERE observer = 'ingress' AND virtual_node IS NOT NULL)
),
asking AS (
  SELECT *, begun DIV {_width("level")} AS place
  FROM (SELECT call, sidecar_id, virtual_node, request_id, trace_id, target, begun, ended, exact,
      explode(sequence({_level("ended - begun")}, {_LEVELS})) AS level
    FROM c WHERE observer = 'egress' AND virtual_node IS NOT NULL)
),
nested AS (
  SELECT a.call, a.begun, a.ended, count(*) AS many, count_if(a.trace_id = s.trace_id) AS traced,
    max(CASE WHEN a.trace_id = s.trace_id THEN {_PARENT.format("s")} END) AS of_trace,
    max({_PARENT.format("s")}) AS other
  FROM asking a JOIN served s ON a.sidecar_id = s.sidecar_id AND a.virtual_node = s.virtual_node
    AND a.level = s.level AND a.place = s.place AND {_MAY_NEST}
  GROUP BY a.call, a.begun, a.ended
),
links AS (
  SELECT call, begun, ended, max_by(found, surer) AS found FROM (
    SELECT call, begun, ended, 1 AS surer, struct('request' AS how, parent) AS found FROM carried
    UNION ALL
    SELECT call, begun, ended, 0 AS surer, CASE
      WHEN traced = 1 THEN struct('trace' AS how, of_trace AS parent)
      WHEN many = 1 THEN struct('inferred' AS how, other AS parent)
      ELSE struct('ambiguous' AS how, CAST(NULL AS STRUCT<call: BIGINT, begun: BIGINT,
        ended: BIGINT>) AS parent) END AS found
    FROM nested)
  GROUP BY call, begun, ended
),
moved AS (
  SELECT parent, from_us, from_us + lasted AS to_us FROM (
    SELECT found.parent.call AS parent, lasted,
      greatest(found.parent.begun, least(begun, found.parent.ended - lasted)) AS from_us
    FROM (SELECT *, least(ended - begun, found.parent.ended - found.parent.begun) AS lasted
      FROM links WHERE found.parent IS NOT NULL))
),
covered AS (
  SELECT parent, sum(greatest(to_us - greatest(from_us, coalesce(reached, 0L)), 0L)) AS covered
  FROM (SELECT *, max(to_us) OVER (PARTITION BY parent ORDER BY from_us, to_us
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached FROM moved)
  GROUP BY parent
)
SELECT c.call, links.found.parent.call AS parent, links.found.how AS how, c.trace_id,
  c.request_id, c.run_id, c.observer, coalesce(c.client, c.virtual_node) AS member,
  coalesce(nullif(c.virtual_service, ''), c.authority) AS service, c.target, c.pattern, c.code,
  c.start_time, c.duration_us,
  greatest(c.duration_us - coalesce(covered.covered, 0L), 0L) AS self_us, c.sidecar_id
FROM c LEFT JOIN links ON links.call = c.call LEFT JOIN covered ON covered.parent = c.call
WHERE c.start_time >= {{since}} AND c.start_time < {{until}}
"""  # noqa: S608  # made of this module's own words
"""The body of ``hops``; each common table is one step of the pure rule."""


def hops_during(spark: SparkSession, names: TableNames, span: Span) -> DataFrame:
    """What ``hops`` returns for a span, without the function: one row per call."""
    moments = (f"TIMESTAMP '{time_text(moment)}'" for moment in (span.start, span.end))
    since, until = moments
    return spark.sql(HOPS_SQL.format(calls=names.table("calls"), since=since, until=until))


def create_hops(spark: SparkSession, names: TableNames) -> None:
    """Make ``hops(since, until)`` known to SQL, its text anew."""
    columns = ", ".join(
        f"`{name}` {kind} COMMENT {text_literal(text)}" for name, (kind, text) in COLUMNS.items()
    )
    body = HOPS_SQL.format(calls=names.table("calls"), since="since", until="until")
    spark.sql(
        f"CREATE OR REPLACE FUNCTION {names.schema}.`{HOPS}`(since TIMESTAMP, until TIMESTAMP) "
        f"RETURNS TABLE ({columns}) COMMENT {text_literal(HOPS_TEXT)} RETURN {body}"
    )


def calls_around(spark: SparkSession, names: TableNames, spans: Iterable[Span]) -> tuple[Call, ...]:
    """The finished calls, whoever saw them, that were in flight at some time of these spans.

    Those that began over an hour before are left out.

    Raises:
        LakeError: they are too many to be looked at one by one.
    """
    wanted = merge_spans(spans)
    if not wanted:
        return ()
    whole = Span(start=max(wanted[0].start - HOUR_US, 0), end=wanted[-1].end + HOST_SKEW_US)
    begun = F.unix_micros("start_time")
    ended = begun + F.col("duration_us")
    near = F.lit(False)  # noqa: FBT003  # a column's value
    for span in wanted:
        near |= (begun <= span.end + HOST_SKEW_US) & (ended >= span.start - HOST_SKEW_US)
    calls = spark.table(names.table("calls")).where(whole.condition("start_time")).where(near)
    typed = calls.withColumn("type", F.lit(END_TYPE)).limit(MOST_CALLS + 1)
    found = words_of(typed, FIELDS, "pattern")
    if len(found) > MOST_CALLS:
        raise LakeError(
            f"over {MOST_CALLS} calls were in flight at the time of those that are followed",
            advice=f"follow fewer (--top 1), or ask SQL: the function {names.schema}.hops",
        )
    return tuple(Call(**values) for values in found)
