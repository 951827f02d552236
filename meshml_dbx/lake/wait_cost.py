"""Which service cost whose models how much waiting: what ``meshml cost`` shows.

Goes in: where the bill is, and a day. Comes out: for each team, model and service how long the runs
that began since waited for it, and, where there is a bill, what of their compute that cost.
"""

from dataclasses import asdict, dataclass
from datetime import date

from pyspark.sql import SparkSession

from meshml_dbx.lake.cost import Bill, refresh_cost
from meshml_dbx.lake.tables import TableNames
from meshml_dbx.lake.views import VIEWS

QUERY = """
WITH run_waits AS ({run_waits}),
bills AS (SELECT * FROM ({run_cost}) WHERE compute_cost IS NOT NULL),
spent AS (
  SELECT r.team, r.model, b.currency, sum(CAST(b.compute_cost AS DOUBLE)) AS compute_cost,
    sum((unix_micros(r.end_time) - unix_micros(r.start_time)) / 1e6D) AS ran_s
  FROM {schema}.runs r LEFT JOIN bills b ON b.run_id = r.run_id
  WHERE r.start_time >= DATE '{since}' AND r.end_time IS NOT NULL
  GROUP BY r.team, r.model, b.currency
),
waited AS (
  SELECT w.team, w.model, w.service, b.currency, count(DISTINCT w.run_id) AS runs,
    sum(w.calls) AS calls, sum(w.wait_s) AS wait_s,
    sum(CAST(b.compute_cost AS DOUBLE) * w.wait_share) AS wait_cost
  FROM run_waits w LEFT JOIN bills b ON b.run_id = w.run_id
  WHERE w.start_time >= DATE '{since}' GROUP BY w.team, w.model, w.service, b.currency
)
SELECT w.*, coalesce(w.wait_cost / nullif(s.compute_cost, 0), w.wait_s / nullif(s.ran_s, 0))
  AS share
FROM waited w LEFT JOIN spent s
  ON s.team <=> w.team AND s.model <=> w.model AND s.currency <=> w.currency
ORDER BY wait_cost DESC NULLS LAST, wait_s DESC, w.team, w.model, w.service
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitCost:
    """What a service cost the runs of one team and model; what is not known is None.

    ``share`` is of the runs' compute cost, or, without a bill, of their time.

    >>> WaitCost(service="labels", runs=1, calls=3, wait_s=2.0).currency
    """

    service: str
    runs: int
    calls: int
    wait_s: float
    team: str | None = None
    model: str | None = None
    currency: str | None = None
    wait_cost: float | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitCosts:
    """What the runs that began since a day waited for, dearest first; ``notice``: what lacks."""

    since: date
    rows: tuple[WaitCost, ...] = ()
    notice: str = ""

    def to_json(self) -> dict[str, object]:
        """All of it as one object; names are a promise."""
        rows = [asdict(row) for row in self.rows]
        return {"since": self.since.isoformat(), "notice": self.notice, "rows": rows}


def read_wait_costs(
    spark: SparkSession, names: TableNames, *, bill: Bill, since: date
) -> WaitCosts:
    """Work out the costs since a day again, where there is a bill, and read what waits cost."""
    report = refresh_cost(spark, names, bill=bill, since=since)
    views = {name: VIEWS[name][1].format(schema=names.schema) for name in ("run_waits", "run_cost")}
    query = QUERY.format(schema=names.schema, since=since.isoformat(), **views)
    rows = tuple(WaitCost(**row.asDict()) for row in spark.sql(query).collect())
    return WaitCosts(since=since, rows=rows, notice=report.notice)
