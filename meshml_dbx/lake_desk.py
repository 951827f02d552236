"""The lake as the journeys meet it: opened once, asked for what it has, told what was ingested.

Part of the hall, for ``Session``. Goes in: settings. Comes out: Spark with the tables' names,
evidence, usages, and whether a run was brought in, which is told without starting Spark.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from meshml_dbx import connect
from meshml_dbx.errors import LakeError
from meshml_dbx.logs.locks import locked
from meshml_dbx.settings import Settings
from meshml_dbx.traffic.evidence import Evidence
from meshml_dbx.traffic.ownership import OPEN_END, Run

if TYPE_CHECKING:
    from meshml_dbx.connect import SparkSession
    from meshml_dbx.lake import TableNames
    from meshml_dbx.traffic.call import Call
    from meshml_dbx.traffic.trail import RootCall
    from meshml_dbx.traffic.usage import Usage


LOCK_TIMEOUT_S = 2.0
LITTLE = 128 << 20
"""Bytes of logs and tables up to which a session is brief; measured: 200,000 lines, or more."""


class LakeDesk:
    """One project's lake.

    >>> from meshml_dbx.settings import read_settings
    >>> LakeDesk(read_settings({}, state="/no/such/state"), print).has_ingested(
    ...     Run(run_id="a", name="b", experiment_id="0", status="FINISHED", start_time=0)
    ... )
    False
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.say = say
        self._opened: tuple[SparkSession, TableNames] | None = None

    def usages(self, since: int, *, live: bool) -> "tuple[Sequence[Usage], frozenset[str]]":
        """How often each way was used, and the versions of the mesh that a document is known of."""
        if live:
            from meshml_dbx.recording import usage as recorded

            self.say("reading the log folder")
            return recorded.read_usages(self.settings.logs, since=since)
        spark, names = self.open()
        from meshml_dbx.lake import usage as stored

        self.say("reading the lake")
        versions = stored.known_versions(spark, names)
        return stored.read_usages(spark, names, since=since), versions

    def calls_around(self, roots: Iterable["RootCall"], *, live: bool) -> "tuple[Call, ...]":
        """The finished calls, whoever saw them, that were in flight while these were."""
        spans = [(root.start_time, root.end_time) for root in roots]
        if live:
            from meshml_dbx.recording.hops import calls_around as recorded_around

            return recorded_around(self.settings.logs, spans)
        spark, names = self.open()
        from meshml_dbx.lake.hops import calls_around as stored_around
        from meshml_dbx.lake.spans import Span

        return stored_around(spark, names, (Span(start=begin, end=end) for begin, end in spans))

    def open(self) -> "tuple[SparkSession, TableNames]":
        """Spark and the lake's tables, opened once for as long as the same Spark is up."""
        from meshml_dbx import lake

        if self._opened is None:
            self.say("starting Spark")
        little = _hold_less(LITTLE, self.settings.logs, Path(self.settings.lake))
        spark = connect.spark_session(self.settings, brief=little)
        if self._opened is None or self._opened[0] is not spark:
            names = lake.open_lake(spark, lake.TableNames.of(self.settings.lake))
            # A folder's catalog ends with the session: only who stays has a use for views there.
            if names.folder is None and not lake.has_views(spark, names):
                self._make_views(spark, names)
            self._opened = spark, names
        return self._opened

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While nobody else on this machine writes to this lake.

        Raises:
            LakeError: somebody does.
        """
        self.settings.folder.checkpoints.mkdir(parents=True, exist_ok=True)
        lock = self.settings.folder.checkpoints / "ingest.lock"
        with locked(lock, timeout_s=LOCK_TIMEOUT_S) as mine:
            if not mine:
                raise LakeError(
                    f"another meshml ingest or watch is at work on {self.settings.lake}",
                    advice="let it end: what is there now it takes in, too",
                )
            yield

    def make_views(self) -> None:
        """What people who come by SQL find: views, a function, comments."""
        self._make_views(*self.open())

    def _make_views(self, spark: "SparkSession", names: "TableNames") -> None:
        from meshml_dbx.lake.views import comment_tables, create_views

        create_views(spark, names)
        comment_tables(spark, names)

    def has_ingested(self, run: Run) -> bool:
        """Whether ``ingest`` has brought a run in since it ended, without starting Spark to ask.

        The lake itself tells of one that it does not know, such as another store's.
        """
        known = self._known().get(self.settings.lake, ())
        if isinstance(known, list):  # ids, as ingests wrote them before
            return run.run_id in known
        return isinstance(known, int) and (run.end_time or OPEN_END) < known

    def _known(self) -> dict[str, object]:
        try:
            known = json.loads(self._ingested.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # cut short by a kill: the log folder still knows
            return {}
        return dict(known) if isinstance(known, dict) else {}

    def remember_ingested(self, *, ended_before: int) -> None:
        """Note that no call of a run which ended before then is in a file that was not closed yet.

        ``ended_before``: UTC microseconds.
        """
        known = self._known()
        known[self.settings.lake] = ended_before
        self._ingested.parent.mkdir(parents=True, exist_ok=True)
        partial = self._ingested.with_suffix(".part")
        partial.write_text(json.dumps(known), encoding="utf-8")
        partial.replace(self._ingested)

    @property
    def _ingested(self) -> Path:
        return self.settings.folder.checkpoints / "ingested.json"

    def evidence(self, run: Run, baseline: str | None, read_at: int) -> Evidence | None:
        """All that the lake tells of a run; None for one that it does not know."""
        from meshml_dbx import lake

        spark, names = self.open()
        return lake.read_evidence(spark, names, run.run_id, read_at=read_at, baseline=baseline)


def _hold_less(limit: int, *folders: Path) -> bool:
    """Whether these folders' files have fewer bytes together; one that is not there has none."""
    total = 0
    for folder in folders:
        for path in folder.rglob("*") if folder.is_dir() else ():
            with suppress(FileNotFoundError):  # closed, moved or vacuumed just now
                total += path.stat().st_size if path.is_file() else 0
            if total >= limit:
                return False
    return True
