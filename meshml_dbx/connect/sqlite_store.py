"""MLflow's runs out of its sqlite file, by the standard library: importing MLflow takes seconds.

Goes in: a ``sqlite:`` address. Comes out: ``Run`` values, or None where MLflow's client must read.
"""

import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote

from meshml_dbx.connect.store import (
    FIRST_STEP,
    NEXT_STEP,
    TAGS,
    UNENDED,
    RunQuery,
    mask,
    run_in_words,
    tracking_error,
)
from meshml_dbx.errors import TrackingError
from meshml_dbx.traffic.ownership import Run

RUNS_OF_A_FILE = 10_000
"""How many of the newest runs are looked at for one that is meant by its name."""

Answer = TypeVar("Answer")

_SQLITE_FILE = re.compile(r"sqlite:///([^?]+)")

NEEDED = {
    "runs": {"run_uuid", "name", "experiment_id", "status", "start_time", "end_time"}
    | {"lifecycle_stage"},
    "experiments": {"experiment_id", "name", "lifecycle_stage"},
    "tags": {"run_uuid", "key", "value"},
}

RUN_COLUMNS = """
  r.run_uuid AS run_id, r.name AS run_name, r.experiment_id, e.name AS experiment, r.status,
  r.start_time, r.end_time
"""

_NEWEST = f"""
  SELECT {RUN_COLUMNS}, 'active' AS lifecycle_stage
  FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
  WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'
    AND r.start_time IS NOT NULL
    AND (:run_id IS NULL OR r.run_uuid = :run_id)
    AND (:until IS NULL OR r.start_time * 1000 <= :until)
    AND (:since IS NULL OR r.end_time IS NULL OR r.end_time * 1000 + 999 >= :since
      OR r.status IN {UNENDED!r})
  ORDER BY r.start_time DESC, r.run_uuid DESC LIMIT :limit
"""  # noqa: S608  # made of constants of this file

_TAGS_OF = f"""
  SELECT run_uuid, key, value FROM tags WHERE key IN {TAGS!r}
  AND run_uuid IN (SELECT run_id FROM ({_NEWEST}))
"""  # noqa: S608  # made of constants of this file


def read_sqlite(uri: str, query: RunQuery) -> list[Run] | None:
    """The runs of an MLflow sqlite file, None when its tables are not those of today's MLflow.

    Raises:
        TrackingError: the file is missing, cannot be read, or is no MLflow store.
    """
    return ask_sqlite(uri, NEEDED, lambda store: _select(store, query))


def ask_sqlite(
    uri: str, needed: Mapping[str, set[str]], ask: Callable[[sqlite3.Connection], Answer]
) -> Answer | None:
    """What is asked of an MLflow sqlite file; None when its tables lack a column that is needed.

    Raises:
        TrackingError: the file is missing, cannot be read, or is no MLflow store.
    """
    path = _sqlite_path(uri)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as store:
            columns = {table: _columns(store, table) for table in needed}
            if all(needed[table] <= columns[table] for table in needed):
                return ask(store)
            if not columns["runs"]:
                raise TrackingError(
                    f"{path} is not an MLflow store: no table runs", advice=NEXT_STEP
                )
    except sqlite3.Error as error:
        raise tracking_error(uri, error) from error
    return None


def _sqlite_path(uri: str) -> Path:
    """The file of a sqlite address. It must be there: opening it otherwise would make it."""
    found = _SQLITE_FILE.match(uri)
    if not found or found[1] == ":memory:":
        raise TrackingError(f"the tracking store {mask(uri)} is no file", advice=NEXT_STEP)
    for path in (Path(found[1]), Path(unquote(found[1]))):
        if path.is_file():
            return path.absolute()
    raise TrackingError(f"the tracking store {Path(found[1])} does not exist", advice=FIRST_STEP)


def _columns(store: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in store.execute(f"PRAGMA table_info({table})")}


def _select(store: sqlite3.Connection, query: RunQuery) -> list[Run]:
    values = {
        "run_id": query.run_id,
        "since": query.since,
        "until": query.until,
        "limit": query.limit or RUNS_OF_A_FILE,
    }
    tags: dict[str, dict[str, str]] = {}
    for run_id, key, value in store.execute(_TAGS_OF, values):
        tags.setdefault(run_id, {})[key] = value
    store.row_factory = sqlite3.Row
    rows = [dict(row) for row in store.execute(_NEWEST, values)]
    return [run_in_words(row, row["experiment"], tags.get(row["run_id"], {})) for row in rows]
