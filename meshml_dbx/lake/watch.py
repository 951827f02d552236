"""Continuous ingest: rows first, within seconds; what is made of them a little later, together.

Goes in: a log folder that is written to. Comes out: rows, file after file. A batch whose rows are
written is struck off only when what is made of them is worked out, too: one that a kill leaves
between is done again by the next ingest, under its number, which doubles nothing.
"""

import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812  # Spark's own name for it

from meshml_dbx.lake.batch import Written, finish, read_book_state, unknown_files
from meshml_dbx.lake.ingest import Batches, take_files
from meshml_dbx.lake.sources import closed_files
from meshml_dbx.lake.tables import TableNames


@dataclass(slots=True, kw_only=True)
class Watcher:
    """Takes in what was closed since it looked last; it alone may write to the lake meanwhile.

    ``logs`` is the log folder. What was cut off before is for ``ingest`` to do, first.
    """

    spark: SparkSession
    names: TableNames
    logs: Path
    _batches: Batches = field(init=False)
    _known: set[str] = field(default_factory=set)
    _waiting: list[Written] = field(default_factory=list)
    _visible_at: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        last = read_book_state(self.spark, self.names).last
        root = str(self.logs.absolute())
        self._batches = Batches(names=self.names, root=root, numbers=count(last + 1))

    @property
    def is_settled(self) -> bool:
        """Whether all that is made of the rows is up to date."""
        return not self._waiting

    def take(self) -> dict[str, int]:
        """Write the rows of all files that are new; their counts, empty when there is none."""
        seen = set(closed_files(self._batches.root)) - self._known
        fresh = unknown_files(self.spark, self.names, seen) if seen else []
        counts: dict[str, int] = {}
        for written in take_files(self.spark, self._batches, fresh):
            self._waiting.append(written)
            self._visible_at[written.batch.number] = time.time_ns() // 1000
            for name, number in written.taken.items():
                counts[name] = counts.get(name, 0) + number
        self._known |= seen
        return counts

    def settle(self) -> float | None:
        """Work out joins, edges, waits and ledgers of all rows that were written since the last.

        Within how many seconds after their end 95 % of their calls were rows; None without calls.
        """
        if not self._waiting:
            return None
        finish(self._waiting)
        lag_s = self._lag_s()
        self._waiting.clear()
        self._visible_at.clear()
        return lag_s

    def _lag_s(self) -> float | None:
        calls = self.spark.table(self.names.table("calls"))
        seen_at = F.create_map(*(F.lit(it) for pair in self._visible_at.items() for it in pair))
        lag = F.try_element_at(seen_at, "batch") - F.expr("unix_micros(start_time) + duration_us")
        mine = calls.where(F.col("batch").isin(list(self._visible_at)))
        row = mine.agg(F.percentile(lag, 0.95).alias("lag")).first()
        return None if row is None or row["lag"] is None else float(row["lag"]) / 1e6
