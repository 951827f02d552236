"""The runs of a tracking store that are new or may have changed since it was read last.

Goes in: a store, the mark of the last read, and the runs that had not ended by then, or were gone.
Comes out: runs, deleted ones too, the new mark, and what was left for later. The first read takes
all; a later one takes little, however many runs the store has: see ``traffic.run_mark``.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshml_dbx.connect.paged_store import (
    OLDEST_FIRST,
    PAGE_SIZE,
    Raw,
    Tracking,
    experiment_chunks,
    experiment_names,
    run_of,
)
from meshml_dbx.connect.sqlite_store import NEEDED, RUN_COLUMNS, ask_sqlite
from meshml_dbx.connect.store import ACTIVE, TAGS, UNENDED, run_in_words
from meshml_dbx.traffic.access_log import time_text
from meshml_dbx.traffic.ownership import Run
from meshml_dbx.traffic.run_mark import RunMark

SWEEP_OF_A_FILE = 10_000
SWEEP_OF_A_SERVER = 1_000
"""How many of the older runs are looked at again: a server hands out some 500 a second."""

_IDS_AT_ONCE = 100
_ROWS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsRead:
    """What a read found: runs, each once; the mark for the next; and what a person should know.

    >>> RunsRead(mark=RunMark(store="s", read_at=0, whole_at=0)).runs
    ()
    """

    mark: RunMark
    runs: tuple[Run, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for: all that has changed since the mark, as of now; of no mark, everything.

    ``unsettled``: the ids of runs that had no end, or were deleted, when they were read last,
    newest first and wherever they are kept.

    >>> Asked(store="s", now=7).since
    0
    """

    store: str
    now: int
    mark: RunMark | None = None
    unsettled: tuple[str, ...] = ()

    @property
    def since(self) -> int:
        """From when on what began or ended is wanted."""
        return self.mark.since if self.mark else 0

    @property
    def swept_to(self) -> int:
        """From which start on older runs are looked at again."""
        return self.mark.swept_to if self.mark else 0

    def answer(self, runs: Iterable[Run], reached: int | None) -> RunsRead:
        """The answer; ``reached`` is the start up to which older runs were seen, None for all."""
        found = {run.run_id: run for run in runs}
        before = self.mark or RunMark(store=self.store, read_at=self.now, whole_at=self.now)
        mark = before.later(read_at=self.now, swept_to=reached)
        return RunsRead(mark=mark, runs=tuple(found.values()), notices=_notices(mark, len(found)))


def _notices(mark: RunMark, looked_at: int) -> tuple[str, ...]:
    """What was left for later is told; nothing of a store that was seen as a whole."""
    if not mark.swept_to:
        return ()
    return (
        f"looked at {looked_at} runs of {mark.store}: all that began or ended lately, all that "
        f"last, and a part of the others. Renamed, tagged, deleted or restored since "
        f"{time_text(mark.whole_at)[:19]} UTC, an older run may be known as it was before: "
        f"the next ingests look at the rest, and ingest --all-runs at all",
    )


# --- a sqlite file --------------------------------------------------------------------------------

_CHANGES_NEEDED = {**NEEDED, "runs": NEEDED["runs"] | {"deleted_time"}}

_CHANGED = f"""
  SELECT {RUN_COLUMNS},
    CASE WHEN r.lifecycle_stage = '{ACTIVE}' AND e.lifecycle_stage = '{ACTIVE}' THEN '{ACTIVE}'
      ELSE 'deleted' END AS lifecycle_stage
  FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
  WHERE r.start_time IS NOT NULL AND
"""  # noqa: S608  # made of constants of this file
_LATELY = f"""
  (r.start_time >= :since OR r.end_time >= :since OR r.deleted_time >= :since
    OR r.status IN {UNENDED!r} OR r.run_uuid IN (SELECT value FROM json_each(:unsettled)))
"""  # noqa: S608  # made of constants of this file
_OLDER = "r.start_time >= :swept_to ORDER BY r.start_time, r.run_uuid"
_TAGS_OF = f"""
  SELECT run_uuid, key, value FROM tags WHERE key IN {TAGS!r}
  AND run_uuid IN (SELECT value FROM json_each(?))
"""  # noqa: S608  # made of constants of this file


def read_changes_of_sqlite(
    uri: str, asked: Asked, *, sweep: int = SWEEP_OF_A_FILE
) -> RunsRead | None:
    """What has changed in an MLflow sqlite file; None when only MLflow's client can tell.

    Raises:
        TrackingError: the file is missing, cannot be read, or is no MLflow store.
    """
    return ask_sqlite(uri, _CHANGES_NEEDED, lambda store: _changes(store, asked, sweep))


def _changes(store: sqlite3.Connection, asked: Asked, sweep: int) -> RunsRead:
    store.row_factory = sqlite3.Row
    store.execute("BEGIN")  # tags are those of the moment at which the runs were read
    values = {
        "since": asked.since // 1000,
        "swept_to": asked.swept_to // 1000,
        "unsettled": json.dumps(asked.unsettled),
    }
    if asked.mark is None:
        return asked.answer(_runs(store, store.execute(_CHANGED + _OLDER, values)), None)
    found = list(_runs(store, store.execute(_CHANGED + _LATELY, values)))
    older, reached = _until_next_start(store.execute(_CHANGED + _OLDER, values), sweep)
    return asked.answer((*found, *_runs(store, older)), reached)


def _until_next_start(rows: Iterator[Any], limit: int) -> tuple[list[Any], int | None]:
    """So many rows and all that began with the last of them; its start, None at the end.

    Runs that were made in bulk have one start: to stop among them would be to stop there for ever.
    """
    taken: list[Any] = []
    for row in rows:
        if len(taken) >= limit and row["start_time"] != taken[-1]["start_time"]:
            return taken, int(taken[-1]["start_time"]) * 1000
        taken.append(row)
    return taken, None


def _runs(store: sqlite3.Connection, rows: Iterable[Any]) -> Iterator[Run]:
    """Rows as runs, with their tags, of a few thousand at a time."""
    for some in _chunks(rows, _ROWS_AT_ONCE):
        tags: dict[str, dict[str, str]] = {}
        ids = json.dumps([row["run_id"] for row in some])
        for run_id, key, value in store.execute(_TAGS_OF, (ids,)):
            tags.setdefault(run_id, {})[key] = value
        for row in some:
            yield run_in_words(dict(row), row["experiment"], tags.get(row["run_id"], {}))


def _chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    some: list[Any] = []
    for row in rows:
        some.append(row)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


# --- a server -------------------------------------------------------------------------------------


def read_changes_of_pages(
    tracking: Tracking, asked: Asked, *, sweep: int = SWEEP_OF_A_SERVER
) -> RunsRead:
    """What has changed in a store that is read page by page.

    Its page tokens are offsets: where a run goes while pages are read, another is skipped. So each
    page is asked for by the start of the last run before it, oldest first, deleted ones included.
    """
    names = experiment_names(tracking, view="ALL")
    chunks = experiment_chunks(names)
    if asked.mark is None:
        everything = (raw for chunk in chunks for raw in _pages(tracking, chunk, "", 0))
        return asked.answer(_of_raw(everything, names), None)
    wheres = (
        f"attributes.start_time >= {asked.since // 1000}",
        f"attributes.end_time >= {asked.since // 1000}",
        *(f"attributes.status = '{status}'" for status in UNENDED),
    )
    found = {
        run.run_id: run
        for chunk in chunks
        for where in wheres
        for run in _of_raw(_pages(tracking, chunk, where, 0), names)
    }
    unseen = [run_id for run_id in asked.unsettled if run_id not in found][:sweep]
    for ids in _chunks(unseen, _IDS_AT_ONCE):
        where = f"attributes.run_id IN ({', '.join(map(repr, ids))})"
        for chunk in chunks:
            found |= {r.run_id: r for r in _of_raw(_pages(tracking, chunk, where, 0), names)}
    older, reached = _sweep(tracking, chunks, asked.swept_to, sweep)
    return asked.answer((*_of_raw(older, names), *found.values()), reached)


def _sweep(
    tracking: Tracking, chunks: Sequence[list[str]], swept_to: int, sweep: int
) -> tuple[list[Raw], int | None]:
    """Some of the older runs of all experiments, and the start up to which none was left out."""
    share = max(sweep // max(len(chunks), 1), _IDS_AT_ONCE)
    found: list[Raw] = []
    reached: list[int] = []
    for chunk in chunks:
        infos = (
            {**raw["info"], "raw": raw}
            for raw in _pages(tracking, chunk, "", swept_to // 1000, min(share + 1, PAGE_SIZE))
        )
        some, end = _until_next_start(infos, share)
        found += [info["raw"] for info in some]
        reached += [] if end is None else [end]
    return found, min(reached, default=None)


def _pages(
    tracking: Tracking, experiments: list[str], where: str, start: int, size: int = PAGE_SIZE
) -> Iterator[Raw]:
    """The runs for which this holds, oldest first; those of one start come again now and then."""
    token: str | None = None
    while True:
        both = " and ".join(filter(None, (where, f"attributes.start_time >= {start}")))
        page, token = tracking.runs(experiments, both, size, token, order=OLDEST_FIRST, view="ALL")
        yield from page
        if not token or not page:
            return
        last = int(page[-1]["info"]["start_time"])
        if last > start:
            start, token = last, None


def _of_raw(raws: Iterable[Raw], names: Mapping[str, str]) -> Iterator[Run]:
    return (run_of(raw, names) for raw in raws if raw["info"].get("start_time"))
